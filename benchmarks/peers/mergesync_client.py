"""mergesync's clients."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from benchmarks.data import CELLS_IN_ROW, TABLE, rows_of
from benchmarks.peers.clients import FILLED_ROWS, Clients, changed_rows, there, updates
from mergesync import ConnectionLostError, MergeableStore, WsSynchronizer, create_ws_synchronizer
from mergesync.version import VERSION


def _say_unless_lost(error: Exception) -> None:
    """Links that are cut are part of what is measured."""
    if not isinstance(error, ConnectionLostError):
        print(repr(error), file=sys.stderr)


class MergesyncClients(Clients):
    """Stores and their synchronizers by name."""

    def __init__(self) -> None:
        self._stores: dict[str, MergeableStore] = {}
        self._synchronizers: dict[str, WsSynchronizer] = {}

    def new(self, store: str) -> None:
        """Make an empty store."""
        self._stores[store] = MergeableStore()

    def fill(self, store: str, rows: int, cells: int = CELLS_IN_ROW) -> None:
        """Write the data."""
        content, filled = list(rows_of(rows, cells).items()), self._stores[store]
        for at in range(0, rows, FILLED_ROWS):
            with filled.transaction():
                for row_id, row in content[at : at + FILLED_ROWS]:
                    filled.set_row(TABLE, row_id, row)

    def copy(self, store: str, to: str) -> None:
        """A copy with the same stamps."""
        self._stores[to] = MergeableStore().set_mergeable_content(self._stores[store].get_mergeable_content())

    async def connect(self, store: str, url: str) -> None:
        """Connect a store, and sync once."""
        synchronizer = await create_ws_synchronizer(self._stores[store], url, on_ignored_error=_say_unless_lost)
        self._synchronizers[store] = synchronizer
        await synchronizer.start_sync()

    def arrival(self, store: str, until: dict[str, Any]) -> asyncio.Future[float]:
        """When it is there."""
        watched = self._stores[store]
        arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def look(*_: object) -> None:
            row = until.get("row")
            if not arrived.done() and there(
                until, watched.get_row_count(TABLE), None if row is None else watched.get_cell(TABLE, row, "cell0")
            ):
                arrived.set_result(time.monotonic())

        listener = watched.add_did_finish_transaction_listener(look)
        arrived.add_done_callback(lambda _: watched.del_listener(listener))
        look()
        return arrived

    async def change(self, store: str, rows: int, count: int, value: str) -> None:
        """Change cells in one transaction."""
        with self._stores[store].transaction():
            for row_id in changed_rows(rows, count):
                self._stores[store].set_cell(TABLE, row_id, "cell0", value)

    async def write_each(self, store: str, rows: int, first: int, count: int) -> None:
        """Write updates."""
        for row_id, value in updates(rows, first, count):
            self._stores[store].set_cell(TABLE, row_id, "cell0", value)

    async def durable(self, store: str) -> None:
        """Wait until the server has it on disk."""
        await self._synchronizers[store].durable()

    async def disconnect(self, store: str) -> None:
        """End its synchronizer."""
        if (synchronizer := self._synchronizers.pop(store, None)) is not None:
            await synchronizer.destroy()

    def forget(self, store: str) -> None:
        """Drop a store."""
        self._stores.pop(store, None)

    def digest(self, store: str) -> str:
        """The same for what is equal."""
        return json.dumps(self._stores[store].get_mergeable_content_hashes())


if __name__ == "__main__":
    clients = MergesyncClients()
    clients.serve({"mergesync": VERSION}, durable=clients.durable)
