"""Clients of the servers for Yjs, with pycrdt behind them: `y-websocket`, or `hocuspocus` with its frames."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from pycrdt import Doc, Map, create_sync_message, create_update_message, handle_sync_message
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.data import CELLS_IN_ROW, rows_of
from benchmarks.peers.clients import Clients, changed_rows, there, updates
from benchmarks.yjs_frames import hocuspocus_prefix, hocuspocus_token

_SYNC: Final = 0
_SYNC_STEP_2: Final = 1
_AUTHENTICATED: Final = 2


class Peer:
    """A document and its connection."""

    def __init__(self) -> None:
        self.doc = Doc()
        self.table = self.doc.get("table", type=Map)
        self.connection: ClientConnection | None = None
        self.prefix = b""
        self.receiving: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()
        self.waiting: list[tuple[dict[str, Any], asyncio.Future[float]]] = []

    def look(self) -> None:
        """Tell those who wait whether it is there."""
        for until, arrived in list(self.waiting):
            row = self.table.get(until["row"]) if "row" in until else None
            if there(until, len(self.table), None if row is None else row["cell0"]):
                arrived.set_result(time.monotonic())
                self.waiting.remove((until, arrived))

    async def receive(self) -> None:
        """Take messages until the connection ends."""
        assert self.connection is not None
        with suppress(ConnectionClosed):
            async for message in self.connection:
                assert isinstance(message, bytes)
                await self._take(message.removeprefix(self.prefix))

    async def _take(self, message: bytes) -> None:
        assert self.connection is not None
        if self.prefix and message[0] == _AUTHENTICATED:
            await self.connection.send(self.prefix + create_sync_message(self.doc))
        elif message[0] == _SYNC:
            if (reply := handle_sync_message(message[1:], self.doc)) is not None:
                await self.connection.send(self.prefix + reply)
            self.look()
            if message[1] == _SYNC_STEP_2:
                self.synced.set()


class YjsClients(Clients):
    """Documents by name.

    Args:
        hocuspocus: whether messages begin with the name of the document, and a token comes first.
    """

    def __init__(self, *, hocuspocus: bool) -> None:
        self._hocuspocus = hocuspocus
        self._peers: dict[str, Peer] = {}

    def new(self, store: str) -> None:
        """Make an empty document."""
        self._peers[store] = Peer()

    def fill(self, store: str, rows: int, cells: int = CELLS_IN_ROW) -> None:
        """Write the data."""
        peer = self._peers[store]
        with peer.doc.transaction():
            for row_id, row in rows_of(rows, cells).items():
                peer.table[row_id] = Map(row)

    def copy(self, store: str, to: str) -> None:
        """A copy of the state."""
        self.new(to)
        self._peers[to].doc.apply_update(self._peers[store].doc.get_update())

    async def connect(self, store: str, url: str) -> None:
        """Connect, and exchange what each side lacks."""
        peer, path_id = self._peers[store], urlsplit(url).path.lstrip("/")
        if self._hocuspocus:
            peer.prefix = hocuspocus_prefix(path_id)
        peer.synced = asyncio.Event()
        peer.connection = await connect(url, compression=None, max_size=None)
        first = hocuspocus_token(path_id) if self._hocuspocus else create_sync_message(peer.doc)
        await peer.connection.send(first)
        peer.receiving = asyncio.create_task(peer.receive())
        await peer.synced.wait()

    def arrival(self, store: str, until: dict[str, Any]) -> asyncio.Future[float]:
        """When it is there."""
        arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._peers[store].waiting.append((until, arrived))
        self._peers[store].look()
        return arrived

    async def change(self, store: str, rows: int, count: int, value: str) -> None:
        """Change cells in one transaction, and send them if there is a connection."""
        await self._write(self._peers[store], [(row_id, value) for row_id in changed_rows(rows, count)])

    async def write_each(self, store: str, rows: int, first: int, count: int) -> None:
        """Write updates, and send each."""
        for update in updates(rows, first, count):
            await self._write(self._peers[store], [update])

    async def _write(self, peer: Peer, cells: list[tuple[str, str]]) -> None:
        before = peer.doc.get_state()
        with peer.doc.transaction():
            for row_id, value in cells:
                peer.table[row_id]["cell0"] = value
        if peer.connection is not None:
            await peer.connection.send(peer.prefix + create_update_message(peer.doc.get_update(before)))

    async def disconnect(self, store: str) -> None:
        """Close."""
        peer = self._peers[store]
        if peer.connection is not None:
            await peer.connection.close()
            assert peer.receiving is not None
            await peer.receiving
            peer.connection = peer.receiving = None

    def forget(self, store: str) -> None:
        """Drop it."""
        del self._peers[store]

    def digest(self, store: str) -> str:
        """A hash of all cells."""
        table = self._peers[store].table.to_py()
        return hashlib.sha256(
            repr(sorted((row_id, sorted(row.items())) for row_id, row in table.items())).encode()
        ).hexdigest()


if __name__ == "__main__":
    YjsClients(hocuspocus=sys.argv[1] == "hocuspocus").serve({"pycrdt": version("pycrdt")})
