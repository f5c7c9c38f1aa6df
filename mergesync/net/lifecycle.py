"""How paths begin and end: made by the application or whoever comes, removed when it says so or time is over."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol, TypeAlias

from mergesync.exceptions import (
    LoadError,
    MergesyncError,
    NotSupportedError,
    PathClosedError,
    PathExistsError,
    RefusedConnectionError,
    SaveError,
)
from mergesync.limits import (
    DESTROY_TIMEOUT_SECONDS,
    MAX_TIMER_SECONDS,
    REMOVALS_AT_ONCE,
    RETRY_LOAD_CAP_SECONDS,
    RETRY_LOAD_FIRST_SECONDS,
)
from mergesync.net.alarm import Alarm
from mergesync.net.backoff import full_jitter
from mergesync.net.bans import Bans
from mergesync.net.lives import LIVES, Life, Lives
from mergesync.net.path import Path
from mergesync.net.path_persister import CreatePersisterForPath, PathPersister, made_persister
from mergesync.net.reporting import note_place
from mergesync.net.turns import Turns
from mergesync.persist.loading import NoContentError
from mergesync.system import new_id
from mergesync.types import Content, GetNow

__all__ = ["Create", "LifeCycle", "Paths"]

Create: TypeAlias = Literal["any", "server"]
"""Who makes paths: whoever comes, or only the application."""

_ID_LENGTH = 16
_NOT_FOUND, _GONE, _UNAVAILABLE = 404, 410, 503


class Paths(Protocol):
    """The paths that there are now."""

    def path(self, path_id: str) -> Path | None:
        """A path that is there."""

    def open(self, path_id: str) -> Path:
        """A path, whether it is there or not."""

    def loaded_path_ids(self) -> list[str]:
        """The paths that are there, companions and the like not counted."""

    async def end(self, path_id: str, text: str) -> None:
        """Put all clients out of a path and its companion, as it is removed, and let go of it."""


class LifeCycle:
    """Makes and removes the paths of one server.

    Args:
        create: who makes paths.
        create_persister_for_path: the server's.
        bans: are kept where the lives of paths are.
        keeps: whether what is known of paths is kept in the storage, and so survives a restart.
        get_now: the wall clock, in milliseconds.
        report: hears of what goes wrong while nobody waits.
    """

    def __init__(
        self,
        create: Create,
        create_persister_for_path: CreatePersisterForPath | None,
        bans: Bans,
        *,
        keeps: bool,
        get_now: GetNow,
        report: Callable[[Exception], None],
    ) -> None:
        self._create = create
        self._create_persister_for_path = create_persister_for_path
        self._keeps = keeps and create_persister_for_path is not None
        self._report = report
        self._paths: Paths
        self._lives = Lives(get_now)
        self._bans = bans
        self._kept: dict[str, Path] = {}  # paths that stay loaded, and the one of the lives
        self._removals: dict[str, asyncio.Task[None]] = {}  # of what is not gone yet
        self._ending: set[asyncio.Task[None]] = set()  # those, and those that have yet to store that it is
        self._awaited: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()  # those whose callers hear of failures
        self._turn = asyncio.Lock()
        self._ready = self._destroyed = False
        self._starting: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._alarm = Alarm(self._deadline, self._wake)

    def rule(self, paths: Paths) -> None:
        """Tell it of the paths; once, before anything else."""
        self._paths = paths

    async def ready(self) -> None:
        """Return when it is known what was in former times.

        Raises:
            LoadError: that cannot be read for now.
            PathClosedError: the server is destroyed.
        """
        async with self._turn:
            if self._ready:
                return
            if self._keeps:
                await self._keep(LIVES)
                self._lives.use(self._kept[LIVES].handle.store)
                self._bans.use(self._kept[LIVES].handle.store)
                self._loading = asyncio.create_task(self._keep_all(), name="mergesync lives")
            self._ready = True
            self._alarm.set()

    async def _begin(self) -> None:
        """The application wants something to be made or removed."""
        if self._destroyed:
            raise PathClosedError("the server is destroyed")
        await self.ready()

    def start(self) -> None:
        """Look after deadlines from now on, though nobody may come."""
        if self._keeps and self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="mergesync lives")

    async def _start(self) -> None:
        waits = full_jitter(RETRY_LOAD_FIRST_SECONDS, RETRY_LOAD_CAP_SECONDS)
        while True:
            try:
                await self.ready()
            except (LoadError, PathClosedError):  # was reported; or who makes its persister was cancelled
                await asyncio.sleep(next(waits))
            else:
                return

    async def _keep(self, path_id: str) -> None:
        """Load a path, and let it stay loaded."""
        path = self._paths.open(path_id)
        try:
            await path.open()
        except BaseException:
            path.release()
            raise
        self._kept[path_id] = path

    async def _keep_all(self) -> None:
        """Load what is to stay loaded."""
        for path_id in self._lives.path_ids():
            life = self._lives.get(path_id)
            if life is not None and life.keep:
                try:
                    await self._keep(path_id)
                except MergesyncError as error:  # it is loaded when somebody comes
                    self._report(error)

    async def destroy(self) -> None:
        """Make and remove nothing any more."""
        self._destroyed = True
        self._alarm.cancel()
        for task in (self._starting, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._ending:
            _, hanging = await asyncio.wait(self._ending, timeout=DESTROY_TIMEOUT_SECONDS)
            for task in hanging:  # with lives that are kept, the next server tries again
                task.cancel()

    def _set_alarm(self) -> None:
        if self._ready and not self._destroyed:
            self._alarm.set()

    # --- who may come

    async def not_ready(self) -> RefusedConnectionError | None:
        """Why nobody may come onto any path now; None when it is known what was in former times."""
        try:
            await self.ready()
        except LoadError:  # was reported
            message = "the server does not know yet which paths there are"
            return RefusedConnectionError(message, status=_UNAVAILABLE, retry_after_seconds=RETRY_LOAD_FIRST_SECONDS)
        except PathClosedError as error:
            return RefusedConnectionError(error.args[0], status=_UNAVAILABLE)
        return None

    def refusal(self, path_id: str) -> RefusedConnectionError | None:
        """Why nobody may come onto a path, or None."""
        life = self._lives.get(path_id)
        if life is not None and life.pending:
            return RefusedConnectionError("the path is being removed", status=_GONE, retry_after_seconds=1.0)
        if path_id == LIVES and self._keeps:
            return RefusedConnectionError("there is no such path", status=_NOT_FOUND)
        if self._create == "server" and not self._lives.is_alive(path_id):
            gone = life is not None and life.removed
            message = "the path was removed" if gone else "there is no such path"
            return RefusedConnectionError(message, status=_GONE if gone else _NOT_FOUND)
        return None

    # --- what paths ask

    def is_made(self, path_id: str) -> bool:
        """Whether the application has made a path, and it is not removed."""
        return self._lives.is_alive(path_id)

    def created_at(self, path_id: str) -> float:
        """When a path was made; now, if nobody has."""
        life = self._lives.get(path_id)
        return self._lives.now if life is None or life.removed else life.created

    def past(self, path_id: str) -> Life | None:
        """What says which stamps are of before a path was removed; None if it never was."""
        life = self._lives.get(path_id)
        return life if life is not None and life.born_after else None

    def occupied(self, path_id: str, occupied: bool) -> None:
        """A path has its first client, or none any more."""
        self._lives.occupied(path_id, occupied)
        self._set_alarm()

    # --- making

    async def make(
        self,
        path_id: str | None,
        content: Content | None,
        *,
        ttl_seconds: float | None,
        idle_ttl_seconds: float | None,
        keep_loaded: bool,
    ) -> str:
        """Make a path; see `WsServer.create_path`."""
        for seconds in (ttl_seconds, idle_ttl_seconds):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"a time to live is above 0, not {seconds!r}")
        if not self._keeps and self._create_persister_for_path is not None and (ttl_seconds or idle_ttl_seconds):
            raise ValueError("with storage, a time to live needs lives=True, so that it survives a restart")
        await self._begin()
        path_id = new_id(_ID_LENGTH) if path_id is None else path_id
        before = self._check_free(path_id)
        self._lives.make(path_id, ttl_seconds=ttl_seconds, idle_ttl_seconds=idle_ttl_seconds, keep=keep_loaded)
        try:
            await self._fill(path_id, content, keep_loaded=keep_loaded)
        except BaseException:
            if self._lives.is_alive(path_id):  # else it is being removed, or was
                self._lives.unmake(path_id, before)
            raise
        await self._lives_stored()
        self._set_alarm()
        return path_id

    def _check_free(self, path_id: str) -> Life | None:
        before = self._lives.get(path_id)
        path = self._paths.path(path_id)
        if path_id == LIVES or self._lives.is_alive(path_id) or (path is not None and path.is_used):
            raise PathExistsError(f"there is a path {path_id!r:.80} already", path_id=path_id)
        if before is not None and before.pending:
            raise PathClosedError("the path is being removed", path_id=path_id)
        return before

    async def _fill(self, path_id: str, content: Content | None, *, keep_loaded: bool) -> None:
        path = self._paths.open(path_id)
        try:
            await path.open()
            store = path.handle.store
            if any(store.get_content()):
                raise PathExistsError(f"something is stored for the path {path_id!r:.80} already", path_id=path_id)
            if content is not None:
                with store.transaction():
                    store.set_default_content(content)
                if path.has_storage:
                    await path.durable()
        except BaseException:
            path.release()
            raise
        if keep_loaded or not path.has_storage:  # else it would be gone with the last who uses it
            self._kept[path_id] = path
        else:
            path.release()

    def adopt(self, path_id: str) -> None:
        """The application opens a path: where it makes them, that makes it one."""
        if self._create == "server" and path_id != LIVES and not self._lives.is_alive(path_id):
            self._lives.make(path_id)

    async def _lives_stored(self) -> None:
        if self._keeps:
            await self._kept[LIVES].durable()

    # --- removing

    async def remove(self, path_id: str, text: str) -> bool:
        """Remove a path; see `WsServer.remove_path`."""
        await self._begin()
        if path_id == LIVES:
            raise ValueError("the server needs this path itself")
        was_there = path_id in self._removals or await self._is_there(path_id)
        life = self._lives.get(path_id)
        if was_there or life is None or not life.removed:  # if it was not there, clients may still have what it was
            await self._removed(path_id, text)
        return was_there

    async def remove_all(self, text: str) -> int:
        """Remove all paths; see `WsServer.remove_all_paths`."""
        await self._begin()
        path_ids = {*self._lives.path_ids(), *self._paths.loaded_path_ids(), *await self._stored_path_ids()} - {LIVES}
        places = asyncio.Semaphore(REMOVALS_AT_ONCE)

        async def remove(path_id: str) -> None:
            async with places:
                await self._removed(path_id, text)

        await asyncio.gather(*map(remove, sorted(path_ids)))
        return len(path_ids)

    async def _removed(self, path_id: str, text: str) -> None:
        removal = self._removals.get(path_id)
        if removal is None:
            removal = self.begin_removal(path_id, text)
        else:  # what clients have written since it began is of before, too
            self._lives.remove(path_id)
        path = self._paths.path(path_id)
        if path is None or not path.turns.is_caller:  # a hook of the path would wait for itself
            self._awaited.add(removal)
            await asyncio.wait([removal])
            if removal.cancelled():
                raise PathClosedError("the server was destroyed before the path was removed", path_id=path_id)
            removal.result()

    async def _is_there(self, path_id: str) -> bool:
        if self._lives.is_alive(path_id) or self._paths.path(path_id) is not None:
            return True
        return path_id in await self._stored_path_ids()

    async def _stored_path_ids(self) -> list[str]:
        """The paths for which something is stored, as far as the storage can tell."""
        get_path_ids = getattr(self._create_persister_for_path, "get_path_ids", None)
        return [] if get_path_ids is None else await get_path_ids()

    def begin_removal(self, path_id: str, text: str) -> asyncio.Task[None]:
        """Remove a path; what goes wrong is reported if nobody waits for it.

        Raises:
            NotSupportedError: its persister cannot remove what it stores.
        """
        path = self._paths.path(path_id)
        if path is not None and not path.is_removable:
            raise _cannot_remove(path_id)
        removal = self._removals.get(path_id)
        if removal is None:
            store = None if path is None else path.store
            before = self._lives.get(path_id)
            self._lives.remove(path_id, store)
            caller = path.turns if path is not None and path.turns.is_caller else None
            work = self._remove(path_id, text, before, caller, is_loaded=store is not None)
            removal = asyncio.create_task(work, name=f"mergesync removal {path_id!r:.80}")
            self._removals[path_id] = removal
            self._ending.add(removal)
            removal.add_done_callback(lambda task: self._removal_ended(path_id, task))
        return removal

    async def _remove(
        self, path_id: str, text: str, before: Life | None, caller: Turns | None, *, is_loaded: bool
    ) -> None:
        try:
            if caller is not None:  # a hook of the path, which may have to answer a client yet
                await caller.settled()
            self._kept.pop(path_id, None)
            await self._paths.end(path_id, text)
            await self._remove_stored(path_id, is_dated=is_loaded)
        except NotSupportedError:  # nobody was there, or that would have been known before
            self._lives.unmake(path_id, before and replace(before, ends=None, idle_ttl=None, pending=False))
            raise
        except BaseException:
            self._lives.removal_failed(path_id)
            raise
        self._lives.removal_done(path_id)
        del self._removals[path_id]  # from now on somebody may make it anew, and that may have to go, too
        await self._lives_stored()

    async def _remove_stored(self, path_id: str, *, is_dated: bool) -> None:
        """Remove what is stored, once it is stored as well what is too old from now on.

        Args:
            path_id: the path.
            is_dated: whether that is known: clients may have stamped what is stored with clocks that are fast.
        """
        create = self._create_persister_for_path
        persister = None if create is None else (await made_persister(create, path_id))[0]
        if persister is None:
            await self._lives_stored()
            return
        try:
            remove = getattr(persister, "remove", None)
            if remove is None:
                raise _cannot_remove(path_id)
            if not is_dated:
                await self._date(path_id, persister)
            await self._lives_stored()
        except BaseException:
            await persister.destroy()
            raise
        await remove()

    async def _date(self, path_id: str, persister: PathPersister) -> None:
        """Too old from now on is what is no newer than what is stored."""
        try:
            await persister.start_auto_load()
        except NoContentError as error:  # it is removed as well
            self._report(error)
        except Exception as error:
            text = f"what is to be removed cannot be read, and so not be dated: {error}"
            raise SaveError(text, path_id=path_id) from error
        self._lives.remove(path_id, persister.store)

    def _removal_ended(self, path_id: str, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if self._removals.get(path_id) is task:
            del self._removals[path_id]
        self._set_alarm()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and task not in self._awaited:
            note_place(error, path_id)
            self._report(error)

    # --- time

    def _deadline(self) -> float | None:
        """The next deadline by the loop's clock; the wall clock may be set meanwhile, so none is far away."""
        deadline = self._lives.next_deadline
        if deadline is None:
            return None
        return asyncio.get_running_loop().time() + min(deadline - self._lives.now, MAX_TIMER_SECONDS)

    def _wake(self, _: float) -> None:
        for path_id in self._lives.take_due():
            try:
                self.begin_removal(path_id, "its time is over")
            except NotSupportedError as error:
                self._report(error)


def _cannot_remove(path_id: str) -> NotSupportedError:
    return NotSupportedError(
        "the persister of the path has no `remove`: it cannot remove what it stores", path_id=path_id
    )
