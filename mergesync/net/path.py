"""One path of a server while it has clients: its hub, its persister, and what happens when either fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from mergesync.exceptions import LoadError, PersisterError, RemoteProtocolError, SaveError, SyncError
from mergesync.limits import (
    DESTROY_TIMEOUT_SECONDS,
    RETRY_LOAD_CAP_SECONDS,
    RETRY_LOAD_FIRST_SECONDS,
    SAVE_RETRY_CAP_SECONDS,
    SAVE_RETRY_FIRST_SECONDS,
)
from mergesync.net.alarm import Alarm
from mergesync.net.reporting import note_place
from mergesync.store import MergeableStore
from mergesync.sync.hub import Hub
from mergesync.sync.operations import ERROR, OK
from mergesync.sync.payloads import Payload
from mergesync.types import GetNow, NewId

__all__ = ["CreatePersisterForPath", "Path", "PathExit", "PathOptions", "PathPersister", "Then"]

_THINGS_THAT_MAY_HANG = 3
"""A flush, then letting go, then what both do when they are cancelled."""


class PathPersister(Protocol):
    """What the server needs of a persister; `mergesync.persist.Persister` has it all."""

    store: MergeableStore

    async def start_auto_load(self) -> object:
        """Read what is stored, and from now on what others store; raises LoadError."""

    async def start_auto_save(self) -> object:
        """Store what changes from now on."""

    async def flush(self) -> None:
        """Return when all that was written is stored; raises SaveError."""

    async def wait_saved(self) -> None:
        """The same without hurrying: wait until the auto-save has done it."""

    async def destroy(self) -> None:
        """Store what is unsaved, if auto-save was started, and let go of everything."""


Then: TypeAlias = Callable[[MergeableStore], object]
"""Called with the store once it is loaded, before any client sees it; may be async."""

CreatePersisterForPath: TypeAlias = Callable[[str], Any]
"""`(path_id) -> persister, (persister, then), None, or an awaitable of any of these`."""


Answer: TypeAlias = Callable[[str, Any], None]
"""`(name, body)` of the operation that answers a request."""


@dataclass(frozen=True, slots=True)
class PathOptions:
    """What all paths of a server have in common."""

    create_persister_for_path: CreatePersisterForPath | None
    relay: bool
    request_timeout_seconds: float
    fragment_size: float | None
    new_id: NewId
    get_now: GetNow


class PathExit(Protocol):
    """Where a path's texts, closings and complaints go."""

    def send(self, path_id: str, client_ids: Iterable[str], frame: str) -> None:
        """Send a frame to clients of the path."""

    def send_changes(self, path_id: str, client_ids: Iterable[str], frames: Sequence[str]) -> None:
        """Send a message to clients of the path; `catch_up` is called for those that miss it."""

    def close(self, path_id: str, client_id: str, error: SyncError) -> None:
        """Close the socket of a client."""

    def refuse(self, path_id: str, client_ids: Iterable[str], retry_after_seconds: float) -> None:
        """The path cannot be served for now: tell its clients."""

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""

    def path_done(self, path: Path) -> None:
        """The path has no clients and everything is stored: who comes next starts a new one."""

    def path_ended(self, path: Path) -> None:
        """The path has let go of its storage."""


class Path:
    """One path, from its first client to the moment when all is stored after its last.

    A single task takes it through its life: wait for the predecessor, load (again and again if that fails), serve until
    nobody is there and everything is stored, let go. A client that comes while the last changes are being stored finds
    the path as it is.

    Args:
        path_id: the path.
        options: of the server.
        exit: where everything goes.
        predecessor: the path of the same id that is still letting go of its storage.
    """

    def __init__(self, path_id: str, options: PathOptions, exit: PathExit, predecessor: Path | None) -> None:
        self.path_id = path_id
        self._options = options
        self._exit = exit
        self._persister: PathPersister | None = None
        self._retry_at: float | None = None  # while the path is refused: when it is tried again, by the loop's clock
        self._empty = asyncio.Event()
        self._occupied = asyncio.Event()
        self._joins = 0
        self._storing = False  # saving is under way, and must not be interrupted
        self._destroyed = False
        self._confirming: set[asyncio.Task[None]] = set()
        self._hub = Hub(
            path_id,
            self,
            relay=options.relay,
            request_timeout_seconds=options.request_timeout_seconds,
            fragment_size=options.fragment_size,
            new_id=options.new_id,
        )
        self._alarm = Alarm(lambda: self._hub.deadline, self._hub.wake)
        self._life = asyncio.create_task(self._live(predecessor), name=f"mergesync path {path_id!r:.80}")
        self._life.add_done_callback(self._has_ended)

    # --- clients

    def join(self, client_id: str) -> None:
        """A client comes; while the path cannot be loaded, it is refused at once."""
        self._joins += 1
        self._empty.clear()
        self._occupied.set()
        self._hub.join(client_id)
        if self._retry_at is not None:
            wait_seconds = max(0.0, self._retry_at - asyncio.get_running_loop().time())
            self._exit.refuse(self.path_id, [client_id], wait_seconds)

    def leave(self, client_id: str) -> None:
        """A client goes."""
        self._hub.leave(client_id)
        self._alarm.set()
        if not self._hub.clients:
            self._occupied.clear()
            self._empty.set()

    def receive(self, client_id: str, address: str, payload: Payload) -> None:
        """A client says something."""
        self._hub.receive(client_id, address, payload, asyncio.get_running_loop().time())
        self._alarm.set()

    def confirm(self, client_id: str, *, hurry: bool, answer: Answer) -> None:
        """Answer a client when all that it has said so far is stored, or cannot be.

        Args:
            client_id: the client; if it goes, nobody is answered.
            hurry: whether to store it now, and not with the next save that comes by itself.
            answer: `answer(name, body)` of an operation.
        """

        def merged(is_complete: bool) -> None:
            if not is_complete:
                answer(ERROR, ["incomplete", "the server could not get all that the client has"])
            elif self._persister is None:
                answer(OK, {"stored": False})
            else:
                task = asyncio.create_task(self._confirm(self._persister, hurry, answer))
                self._confirming.add(task)
                task.add_done_callback(self._confirming.discard)

        self._hub.when_merged(client_id, merged)

    def compare(self, client_id: str, body: Any, answer: Answer) -> None:
        """Answer a client that compares ranges of rows, once the path is ready; if it goes, nobody is answered."""

        def ready() -> None:
            try:
                result = self._hub.compare(body)
            except RemoteProtocolError as error:
                answer(ERROR, ["invalid", str(error)])
                error.path_id, error.client_id = self.path_id, client_id
                self._exit.report(error)
            else:
                answer(*((ERROR, ["unknown", "nobody here has all of the path"]) if result is None else (OK, result)))

        self._hub.when_ready(client_id, ready)

    async def _confirm(self, persister: PathPersister, hurry: bool, answer: Answer) -> None:
        try:
            await (persister.flush() if hurry else persister.wait_saved())
        except Exception as error:  # the persister reports what it cannot save
            answer(ERROR, ["save", f"{type(error).__name__}: {error}"[:300]])
        else:
            answer(OK, {"stored": True})

    def catch_up(self, client_id: str) -> None:
        """A client that missed changes reads again."""
        self._hub.remind(client_id)

    async def destroy(self) -> None:
        """Store what is unsaved and let go of everything, clients or not; storage that hangs is given up in the end."""
        self._destroyed = True
        if not self._storing:
            self._life.cancel()
        for _ in range(_THINGS_THAT_MAY_HANG):
            _, hanging = await asyncio.wait([self._life], timeout=DESTROY_TIMEOUT_SECONDS)
            if not hanging:
                break
            message = f"the storage did not finish in {DESTROY_TIMEOUT_SECONDS} s; what was last written may be lost"
            self._exit.report(SaveError(message, path_id=self.path_id))
            self._life.cancel()

    # --- life

    async def _live(self, predecessor: Path | None) -> None:
        try:
            if predecessor is not None:
                await asyncio.wait([predecessor._life])
            if await self._start():
                await self._serve()
            self._exit.path_done(self)
        finally:
            self._hub.destroy()
            for task in self._confirming:
                task.cancel()
            await self._let_go()

    def _has_ended(self, life: asyncio.Task[None]) -> None:
        self._alarm.cancel()
        error = None if life.cancelled() else life.exception()
        if isinstance(error, Exception):
            self.report(error)
        self._exit.path_ended(self)

    async def _start(self) -> bool:
        """Load until it succeeds; False if nobody waits for that any more."""
        loop = asyncio.get_running_loop()
        began, wait_seconds, refused = loop.time(), RETRY_LOAD_FIRST_SECONDS, False
        while not await self._load(wait_seconds):
            if self._destroyed:
                return False
            refused = True
            await asyncio.sleep(wait_seconds)
            self._retry_at = None
            self._hub.starting()
            wait_seconds = min(wait_seconds * 2, RETRY_LOAD_CAP_SECONDS)
            if not await self._somebody_comes():
                return False
        now = loop.time()
        waiting = list(self._hub.clients)
        self._hub.ready(self._store(), now)
        if not self._options.relay and (refused or now - began > self._options.request_timeout_seconds / 2):
            # What they said was dropped, or they may have given up waiting for an answer: let them compare.
            for client_id in waiting:
                self._hub.resync(client_id, now)
        self._alarm.set()
        return True

    async def _somebody_comes(self) -> bool:
        """Wait for a client, for some time: refused clients come back, and the waits go on growing until it loads."""
        try:
            async with asyncio.timeout(RETRY_LOAD_CAP_SECONDS):
                await self._occupied.wait()
        except TimeoutError:
            pass
        return bool(self._hub.clients)

    async def _load(self, retry_after_seconds: float) -> bool:
        """Make the persister and load; on any failure let go of it, report, and refuse the clients."""
        try:
            then = await self._make_persister()
            if self._persister is not None:
                await self._persister.start_auto_load()
                if then is not None:
                    await _awaited(then(self._persister.store))
                await self._persister.start_auto_save()
        except Exception as error:
            self._retry_at = asyncio.get_running_loop().time() + retry_after_seconds
            self._hub.fail()
            self._alarm.set()
            self._report(error, LoadError, "the path could not be started")
            self._exit.refuse(self.path_id, list(self._hub.clients), retry_after_seconds)
            await self._let_go()
            return False
        return True

    async def _make_persister(self) -> Then | None:
        create = self._options.create_persister_for_path
        made = None if create is None else await _awaited(create(self.path_id))
        if isinstance(made, tuple | list):
            self._persister, then = made
            return cast(Then | None, then)
        self._persister = made
        return None

    def _store(self) -> MergeableStore | None:
        if self._persister is not None:
            return self._persister.store
        return None if self._options.relay else MergeableStore()

    async def _serve(self) -> None:
        """Return when nobody is there and everything is stored; what cannot be stored keeps the path alive."""
        wait_seconds = SAVE_RETRY_FIRST_SECONDS
        while True:
            await self._empty.wait()
            joins = self._joins
            flushed = await self._flush()
            if self._destroyed:
                return
            if flushed:
                wait_seconds = SAVE_RETRY_FIRST_SECONDS
                if self._joins == joins:  # nobody came, and so nothing was written, since the flush began
                    return
            else:
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, SAVE_RETRY_CAP_SECONDS)

    async def _flush(self) -> bool:
        if self._persister is None:
            return True
        self._storing = True
        try:
            await self._persister.flush()
        except Exception as error:
            self._report(error, SaveError, "the path could not be stored")
            return False
        finally:
            self._storing = False
        return True

    async def _let_go(self) -> None:
        """Let go of the persister, which stores what is unsaved."""
        persister, self._persister = self._persister, None
        if persister is None:
            return
        self._storing = True
        try:
            await persister.destroy()
        except Exception as error:
            self._report(error, SaveError, "the storage could not be closed")
        finally:
            self._storing = False

    def _report(self, error: Exception, kind: type[PersisterError], what: str) -> None:
        """Report a failure of the persister once, as the persister's own error or as one that names the path."""
        if not isinstance(error, kind):
            cause, error = error, kind(f"{what}: {type(error).__name__}: {error}", path_id=self.path_id)
            error.__cause__ = cause
        elif error.path_id is None:
            error.path_id = self.path_id
        self._exit.report(error)

    # --- what the hub says (Exit)

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients."""
        self._exit.send(self.path_id, client_ids, frame)

    def send_changes(self, client_ids: Iterable[str], frames: Sequence[str]) -> None:
        """A message that clients may miss."""
        self._exit.send_changes(self.path_id, client_ids, frames)

    def close(self, client_id: str, error: SyncError) -> None:
        """A client has to go."""
        self._exit.close(self.path_id, client_id, error)

    def report(self, error: Exception) -> None:
        """An error."""
        note_place(error, self.path_id)
        self._exit.report(error)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
