"""One path of a server while it has clients: its hub, its persister, and what happens when either fails."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias, cast

from mergesync.exceptions import LoadError, SyncError
from mergesync.limits import RETRY_LOAD_CAP_SECONDS, RETRY_LOAD_FIRST_SECONDS
from mergesync.net.alarm import Alarm
from mergesync.store import MergeableStore
from mergesync.sync.hub import Hub
from mergesync.sync.payloads import Payload
from mergesync.types import NewId

__all__ = ["CreatePersisterForPath", "Path", "PathExit", "PathOptions", "PathPersister", "Then"]


class PathPersister(Protocol):
    """What the server needs of a persister; `mergesync.persist.Persister` has it all."""

    store: MergeableStore

    async def start_auto_load(self) -> object:
        """Read what is stored, and from now on what others store; raises LoadError."""

    async def start_auto_save(self) -> object:
        """Store what changes from now on."""

    async def flush(self) -> None:
        """Return when all that was written is stored; raises SaveError."""

    async def destroy(self) -> None:
        """Store what is unsaved and let go of everything."""


Then: TypeAlias = Callable[[MergeableStore], object]
"""Called with the store once it is loaded, before any client sees it; may be async."""

CreatePersisterForPath: TypeAlias = Callable[[str], Any]
"""`(path_id) -> persister, (persister, then), None, or an awaitable of any of these`."""


class PathOptions(Protocol):
    """What a path takes from its server."""

    create_persister_for_path: CreatePersisterForPath | None
    relay: bool
    request_timeout_seconds: float
    fragment_size: float | None
    new_id: NewId


class PathExit(Protocol):
    """Where a path's texts, closings and complaints go."""

    def send(self, path_id: str, client_ids: Iterable[str], frame: str) -> None:
        """Send a frame to clients of the path."""

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
        self._ended = asyncio.Event()
        self.hub = Hub(
            path_id,
            self,
            relay=options.relay,
            request_timeout_seconds=options.request_timeout_seconds,
            fragment_size=options.fragment_size,
            new_id=options.new_id,
        )
        self._alarm = Alarm(lambda: self.hub.deadline, self.hub.wake)
        self._life = asyncio.create_task(self._live(predecessor), name=f"mergesync path {path_id!r:.80}")

    # --- clients

    def join(self, client_id: str) -> None:
        """A client comes; while the path cannot be loaded, it is refused at once."""
        self._empty.clear()
        self.hub.join(client_id)
        if self._retry_at is not None:
            wait_seconds = max(0.0, self._retry_at - asyncio.get_running_loop().time())
            self._exit.refuse(self.path_id, [client_id], wait_seconds)

    def leave(self, client_id: str) -> None:
        """A client goes."""
        self.hub.leave(client_id)
        self._alarm.set()
        if not self.hub.clients:
            self._empty.set()

    def receive(self, client_id: str, address: str, payload: Payload) -> None:
        """A client says something."""
        self.hub.receive(client_id, address, payload, asyncio.get_running_loop().time())
        self._alarm.set()

    async def destroy(self) -> None:
        """Store what is unsaved and let go of everything, clients or not."""
        self._life.cancel()
        await self._ended.wait()

    # --- life

    async def _live(self, predecessor: Path | None) -> None:
        try:
            if predecessor is not None:
                await predecessor._ended.wait()
            if await self._start():
                await self._serve()
            self._exit.path_done(self)
        finally:
            self._alarm.cancel()
            self.hub.destroy()
            await self._let_go()
            self._ended.set()
            self._exit.path_ended(self)

    async def _start(self) -> bool:
        """Load until it succeeds; False if nobody waits for that any more."""
        wait_seconds = RETRY_LOAD_FIRST_SECONDS
        refused: list[str] = []
        while not await self._load(wait_seconds):
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, RETRY_LOAD_CAP_SECONDS)
            self._retry_at = None
            if not self.hub.clients:
                return False
            refused = list(self.hub.clients)
            self.hub.starting()
        now = asyncio.get_running_loop().time()
        self.hub.ready(self._store(), now)
        for client_id in refused:  # those that could not be closed alone, being channels of a socket
            self.hub.resync(client_id, now)
        self._alarm.set()
        return True

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
            await self._let_go()
            self._exit.report(error if isinstance(error, LoadError) else _as_load_error(error, self.path_id))
            self._retry_at = asyncio.get_running_loop().time() + retry_after_seconds
            self.hub.fail()
            self._alarm.set()
            self._exit.refuse(self.path_id, list(self.hub.clients), retry_after_seconds)
            return False
        return True

    async def _make_persister(self) -> Then | None:
        create = self._options.create_persister_for_path
        made = None if create is None else await _awaited(create(self.path_id))
        if isinstance(made, tuple | list):
            self._persister, then = made
            return cast(Then, then)
        self._persister = made
        return None

    def _store(self) -> MergeableStore | None:
        if self._persister is not None:
            return self._persister.store
        return None if self._options.relay else MergeableStore()

    async def _serve(self) -> None:
        """Return when nobody is there and everything is stored; what cannot be stored keeps the path alive."""
        wait_seconds = RETRY_LOAD_FIRST_SECONDS
        while True:
            await self._empty.wait()
            try:
                if self._persister is not None:
                    await self._persister.flush()
            except Exception as error:
                self._exit.report(error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, RETRY_LOAD_CAP_SECONDS)
                continue
            wait_seconds = RETRY_LOAD_FIRST_SECONDS
            if self._empty.is_set():
                return

    async def _let_go(self) -> None:
        persister, self._persister = self._persister, None
        if persister is not None:
            try:
                await persister.destroy()
            except Exception as error:
                self._exit.report(error)

    # --- what the hub says (Exit)

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients."""
        self._exit.send(self.path_id, client_ids, frame)

    def close(self, client_id: str, error: SyncError) -> None:
        """A client has to go."""
        self._exit.close(self.path_id, client_id, error)

    def report(self, error: Exception) -> None:
        """An error."""
        self._exit.report(error)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _as_load_error(error: Exception, path_id: str) -> LoadError:
    load_error = LoadError(f"the path could not be started: {error}", path_id=path_id)
    load_error.__cause__ = error
    return load_error
