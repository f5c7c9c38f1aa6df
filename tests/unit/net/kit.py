"""What the tests of the shells share: raw peers, frames, persisters that fail when told to, a link that breaks."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mergesync import MergeableStore, WsServer, WsSynchronizer
from mergesync.net.client import WsClient, create_ws_synchronizer
from mergesync.net.listening import ListeningWsServer
from mergesync.sync.subprotocols import CHANNELS
from tests.support import eventually, within

__all__ = [
    "Backend",
    "Persister",
    "Proxy",
    "asgi_app",
    "away",
    "closed_with",
    "diff_frame",
    "mux",
    "pet",
    "raw",
    "subscribed",
    "synced",
    "url_of",
    "uvicorn_port",
]

HLC = "Nn1JUF-----7JQY8"


def url_of(server: ListeningWsServer, path: str = "p") -> str:
    """Where a path of a server is."""
    return f"ws://127.0.0.1:{server.port}/{path}"


def pet(name: str) -> MergeableStore:
    """A store with one pet."""
    return MergeableStore().set_cell("pets", name, "species", "dog")


@asynccontextmanager
async def synced(store: MergeableStore, url: str | WsClient, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
    """A synchronizer; leaving must not take long."""
    synchronizer = await within(create_ws_synchronizer(store, url, *arguments, **options).__aenter__())
    try:
        yield synchronizer
    finally:
        await within(synchronizer.destroy())


# --- raw peers


@asynccontextmanager
async def raw(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket without a synchronizer."""
    async with connect(url, **{"max_size": None, "compression": None, **options}) as connection:
        yield connection


def diff_frame(value: Any = 1, value_id: str = "v", address: str = "", hlc: str = HLC) -> str:
    """A frame that sets a value."""
    return f"{address}\n" + json.dumps(["t", 3, [[{}], [{value_id: [value, hlc]}], 1]])


async def closed_with(connection: ClientConnection) -> tuple[int, str]:
    """Read until the other side closes: its code and reason."""
    with suppress(ConnectionClosed):
        while True:
            await within(connection.recv())
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


@asynccontextmanager
async def mux(url: str, subprotocol: str = CHANNELS) -> AsyncIterator[ClientConnection]:
    """A raw peer that has said hello on a socket with channels."""
    async with raw(url, subprotocols=[subprotocol]) as connection:
        await connection.send('S\n["hello",-1,[0,1]]')
        assert await within(connection.recv()) == 'S\n["hello",-1,[0,1]]'
        yield connection


async def subscribed(connection: ClientConnection, channel: str) -> None:
    """Subscribe a channel."""
    control = "S\n" + json.dumps(["sub", -1, [1, channel]], separators=(",", ":"))
    await connection.send(control)
    assert await within(connection.recv()) == control


# --- ASGI


class _Uvicorn(uvicorn.Server):
    def capture_signals(self) -> Any:
        """Leave signals to the test runner."""
        return nullcontext()


@asynccontextmanager
async def uvicorn_port(app: Any, ws: str = "websockets-sansio", **options: Any) -> AsyncIterator[int]:
    """Uvicorn with an app, on a free port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    chosen: Any = ws
    config = uvicorn.Config(app, ws=chosen, lifespan="on", log_level="error", timeout_graceful_shutdown=5, **options)
    server = _Uvicorn(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await within(serving)
        listening.close()


def asgi_app(ws_server: WsServer, *mounts: str, nested: str | None = None) -> Any:
    """Starlette with a server mounted, which is destroyed in the end."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with ws_server:
            yield

    routes = [Mount(mount, app=ws_server.asgi) for mount in mounts]
    if nested is not None:
        routes = [Mount(nested, routes=routes)]
    return Starlette(routes=routes, lifespan=lifespan)


# --- persisters


class Backend:
    """Storage for all paths of a server, with switches for whatever may go wrong.

    Attributes:
        stored: mergeable content by path, as of the last save.
        events: what happened, in order.
        load_trouble, flush_trouble, destroy_trouble: raised while set.
        load_gate, flush_gate, destroy_gate: closed, they hold things up.
        open: how many persisters are there by path; never more than one.
    """

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.events: list[str] = []
        self.persisters: list[Persister] = []
        self.open: dict[str, int] = {}
        self.load_trouble: Exception | None = None
        self.flush_trouble: Exception | None = None
        self.destroy_trouble: Exception | None = None
        self.load_gate, self.flush_gate, self.destroy_gate = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.load_gate, self.flush_gate, self.destroy_gate):
            gate.set()

    def __call__(self, path_id: str) -> Persister:
        """A persister, as `create_persister_for_path` has it."""
        self.events.append(f"make {path_id}")
        return Persister(self, path_id)

    def values(self, path_id: str) -> dict[str, Any]:
        """The values that are stored for a path."""
        if path_id not in self.stored:
            return {}
        return dict(MergeableStore().set_mergeable_content(json.loads(self.stored[path_id])).get_values())


class Persister:
    """Keeps a store in a `Backend`."""

    def __init__(self, backend: Backend, path_id: str) -> None:
        self.store = MergeableStore()
        self.backend = backend
        self.path_id = path_id
        self.saving = False
        self.destroyed = False
        backend.persisters.append(self)
        backend.open[path_id] = backend.open.get(path_id, 0) + 1
        assert backend.open[path_id] == 1, "two persisters on the same storage"

    async def start_auto_load(self) -> None:
        """Load once."""
        await self.backend.load_gate.wait()
        if self.backend.load_trouble is not None:
            raise self.backend.load_trouble
        if self.path_id in self.backend.stored:
            self.store.set_mergeable_content(json.loads(self.backend.stored[self.path_id]))
        self.backend.events.append(f"load {self.path_id}")

    async def start_auto_save(self) -> None:
        """From now on there is something to flush."""
        self.saving = True

    async def flush(self) -> None:
        """Save."""
        await self.backend.flush_gate.wait()
        if self.backend.flush_trouble is not None:
            raise self.backend.flush_trouble
        self._save()

    async def wait_saved(self) -> None:
        """It saves only when it is flushed."""
        await asyncio.Event().wait()

    def _save(self) -> None:
        text = json.dumps(self.store.get_mergeable_content())
        if self.backend.stored.get(self.path_id) != text:
            self.backend.stored[self.path_id] = text
            self.backend.events.append(f"save {self.path_id}")

    async def destroy(self) -> None:
        """Save what is unsaved, and let go."""
        await self.backend.destroy_gate.wait()
        assert not self.destroyed
        self.destroyed = True
        self.backend.open[self.path_id] -= 1
        if self.backend.destroy_trouble is not None:
            raise self.backend.destroy_trouble
        if self.saving and self.backend.flush_trouble is None:
            self._save()
        self.backend.events.append(f"let go {self.path_id}")


# --- a link that breaks


class Proxy:
    """Passes TCP on to a port, until told to stall or to cut.

    Attributes:
        stalled: bytes are neither read nor passed on, and connections are accepted but not made.
        refusing: connections are cut as soon as they come.
        accepted: how many connections came.
        heard: what came back, of each connection.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self.heard: list[bytearray] = []
        self.refusing = False
        self.accepted = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def stalled(self) -> bool:
        """Whether nothing moves."""
        return not self._flowing.is_set()

    @stalled.setter
    def stalled(self, stalled: bool) -> None:
        if stalled:
            self._flowing.clear()
        else:
            self._flowing.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """A path behind it."""
        return f"ws://127.0.0.1:{self.port}/p"

    def cut(self) -> None:
        """Cut all connections without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self._writers.add(writer)
        try:
            if self.refusing:
                return
            await self._flowing.wait()
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target())
            self._writers.add(there_writer)
            self.heard.append(bytearray())
            ways = ((reader, there_writer, bytearray()), (there_reader, writer, self.heard[-1]))
            pumps = [asyncio.ensure_future(self._pump(*way)) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.wait(pumps)
                there_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        with suppress(OSError):
            while True:
                await self._flowing.wait()
                if not (data := await reader.read(65536)):
                    return
                await self._flowing.wait()
                heard += data
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def away(proxy: Proxy, synchronizer: WsSynchronizer) -> AsyncIterator[None]:
    """There is no connection through a proxy meanwhile; afterwards the synchronizer comes back by itself."""
    proxy.refusing = True
    proxy.cut()
    await eventually(lambda: synchronizer.status != "live")
    yield
    proxy.refusing = False
