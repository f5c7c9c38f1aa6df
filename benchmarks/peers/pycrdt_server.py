"""pycrdt-websocket on a free port, with `websockets` below it: `memory` or `sqlite`, and a folder."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from importlib.metadata import version
from logging import Logger
from pathlib import Path
from typing import Any

from pycrdt import Channel
from pycrdt.store import SQLiteYStore
from pycrdt.websocket import WebsocketServer, YRoom
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.worker import serve_tasks


def _goes_on(error: Exception, log: Logger) -> bool:
    """Without this, a client that is cut off ends its room, and the server."""
    return True


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
            self.rooms[name] = YRoom(ystore=self.store(name), exception_handler=_goes_on)
        room = self.rooms[name]
        await self.start_room(room)
        return room


async def start(stack: AsyncExitStack) -> dict[str, Any]:
    """Begin to serve."""
    storage, folder = sys.argv[1], Path(sys.argv[2])
    if storage == "sqlite":
        StoringServer.store = type("Store", (SQLiteYStore,), {"db_path": str(folder / "pycrdt.db")})
    make = StoringServer if storage == "sqlite" else WebsocketServer
    server = make(auto_clean_rooms=False, exception_handler=_goes_on)

    async def handle(connection: ServerConnection) -> None:
        await server.serve(Socket(connection))

    await stack.enter_async_context(server)
    listening = serve(handle, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None, backlog=4096)
    listener = await stack.enter_async_context(listening)
    return {"port": next(iter(listener.sockets)).getsockname()[1]}


if __name__ == "__main__":
    serve_tasks({"pycrdt-websocket": version("pycrdt-websocket")}, {}, start)
