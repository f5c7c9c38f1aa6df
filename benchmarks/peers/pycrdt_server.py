"""pycrdt-websocket on a free port, with `websockets` below it: `memory` or `sqlite`, and a folder."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

from pycrdt import Channel
from pycrdt.store import SQLiteYStore
from pycrdt.websocket import WebsocketServer, YRoom
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.worker import collect_on_signal, loop_factory, say


class Socket(Channel):
    """A connection, as the server wants it."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        assert connection.request is not None
        self._path = connection.request.path

    @property
    def path(self) -> str:
        """The room."""
        return self._path

    async def send(self, message: bytes) -> None:
        """Send a frame."""
        await self._connection.send(message)

    async def recv(self) -> bytes:
        """Receive a frame."""
        message = await self._connection.recv()
        assert isinstance(message, bytes)
        return message

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except ConnectionClosed:
            raise StopAsyncIteration from None


class StoringServer(WebsocketServer):
    """Rooms with a store in one database."""

    store: type[SQLiteYStore]

    async def get_room(self, name: str) -> YRoom:
        """A room, made with a store."""
        if name not in self.rooms:
            self.rooms[name] = YRoom(ready=self.rooms_ready, ystore=self.store(name))
        room = self.rooms[name]
        await self.start_room(room)
        return room


async def run(storage: str, folder: Path) -> None:
    """Serve until the process is ended."""
    server: WebsocketServer
    if storage == "sqlite":
        server = StoringServer(auto_clean_rooms=False)
        server.store = type("Store", (SQLiteYStore,), {"db_path": str(folder / "pycrdt.db")})
    else:
        server = WebsocketServer(auto_clean_rooms=False)
    collect_on_signal()

    async def handle(connection: ServerConnection) -> None:
        await server.serve(Socket(connection))

    listening = serve(handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None, backlog=4096)
    async with server, listening as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        say({"port": port, "versions": {"pycrdt-websocket": version("pycrdt-websocket")}})
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(sys.argv[1], Path(sys.argv[2])))
