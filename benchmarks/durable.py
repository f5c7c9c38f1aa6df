"""W7: updates of one cell each that are on disk before the next come, into stores of all sizes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench, Side
from benchmarks.data import CELLS_IN_ROW
from benchmarks.figures import OURS, Line, Target, within
from benchmarks.peers import CLIENTS, SERVERS, ServerStart, Start
from benchmarks.processes import PeerError

__all__ = ["measure"]

_TOGETHER: Final = 64
_PATIENCE_SECONDS: Final = 60.0
_LARGEST_OF_PEERS: Final = 100_000

_SIDES: Final[Mapping[str, tuple[str, str]]] = {
    OURS: (OURS, "sqlite"),
    "tinybase (sqlite)": ("tinybase", "sqlite"),
    "tinybase (file)": ("tinybase", "file"),
    "hocuspocus": ("hocuspocus", "sqlite"),
    "pycrdt-websocket": ("pycrdt-websocket", "sqlite"),
}
"""Which server, on which storage."""


def measure(bench: Bench) -> None:
    """Everything of W7."""
    for cells in bench.pick([1_000, 10_000, 100_000, 1_000_000], [1_000, 10_000], [100]):
        _measure_at(bench, cells)


def _measure_at(bench: Bench, cells: int) -> None:
    seconds = bench.pick(2.0, 1.0, 0.1)

    def line(name: str, unit: str, *targets: Target, more: bool = True) -> dict[str, Line]:
        return {"it": Line(name, unit, targets, f"{cells:,} cells", cells, more)}

    with ExitStack() as stack:
        sides = {}
        for side, (make, storage) in _SIDES.items():
            if bench.wants(make) and (side == OURS or cells <= _LARGEST_OF_PEERS):
                try:
                    sides[side] = Durable(bench, stack, make, storage, cells // CELLS_IN_ROW)
                except PeerError as error:
                    bench.skip(side, error)
        one = {side: partial(durable.rate, seconds, 1) for side, durable in sides.items()}
        many = {side: partial(durable.rate, seconds, _TOGETHER) for side, durable in sides.items()}
        written: dict[str, Side] = {side: partial(durable.written, seconds) for side, durable in sides.items()}
        bench.take(line("durable updates, one at a time", "per second"), one)
        bench.take(line(f"durable updates, {_TOGETHER} at a time", "per second", within(3_000)), many)
        bench.take(line("written for an update, one at a time", "bytes", within(4096), more=False), written, runs=1)


class Durable:
    """A server on a disk, and a client that writes.

    Raises:
        PeerError: it is not installed.
    """

    def __init__(self, bench: Bench, stack: ExitStack, make: str, storage: str, rows: int) -> None:
        folder = stack.enter_context(bench.folder())
        start: ServerStart = SERVERS[make]
        client_start: Start = CLIENTS[make]
        self._server = stack.enter_context(start(storage, folder))
        self._client = stack.enter_context(client_start())
        bench.versions.update(self._server.ready["versions"])
        self._rows, self._next = rows, 0
        self._client.ask("new", store="writer")
        self._client.ask("fill", store="writer", rows=rows)
        self._client.ask("connect", store="writer", url=f"ws://127.0.0.1:{self._server.ready['port']}/path")
        self._wait = self._acknowledged if make == OURS else _looking(make, storage, folder, stack)
        self._write(1)

    def _acknowledged(self, _: str) -> None:
        self._client.ask("durable", store="writer")

    def _write(self, count: int) -> None:
        """Write so many updates, and wait until the last is on disk."""
        self._client.ask("write_each", store="writer", rows=self._rows, first=self._next, count=count)
        self._next += count
        self._wait(f"changed{self._next - 1:08d}")

    def rate(self, seconds: float, together: int) -> dict[str, float]:
        """Updates per second."""
        began, first = time.perf_counter(), self._next
        while time.perf_counter() - began < seconds:
            self._write(together)
        return {"it": (self._next - first) / (time.perf_counter() - began)}

    def written(self, seconds: float) -> dict[str, float]:
        """Bytes that an update writes."""
        before, first = self._server.written_bytes(), self._next
        self.rate(seconds, 1)
        return {"it": (self._server.written_bytes() - before) / (self._next - first)}


_QUERIES: Final = {
    "tinybase": ("path.db", "SELECT instr(store, :value) FROM mergesync"),
    "hocuspocus": ("hocuspocus.db", "SELECT instr(data, CAST(:value AS BLOB)) FROM documents"),
    "pycrdt-websocket": (
        "pycrdt.db",
        "SELECT instr(yupdate, CAST(:value AS BLOB)) FROM yupdates ORDER BY rowid DESC LIMIT 1",
    ),
}
"""Where servers that acknowledge nothing put an update, and how to see that."""


def _looking(make: str, storage: str, folder: Path, stack: ExitStack) -> Callable[[str], None]:
    """What waits until a value is on the disk of another make."""
    if storage == "file":
        return partial(_until, lambda value: value in (folder / "path.json").read_text())
    name, query = _QUERIES[make]
    _until(lambda _: (folder / name).exists(), "")
    database = stack.enter_context(closing(sqlite3.connect(folder / name, isolation_level=None)))
    return partial(_until, _Database(database, query))


class _Database:
    def __init__(self, database: sqlite3.Connection, query: str) -> None:
        self._database, self._query = database, query
        self._version = -1

    def __call__(self, value: str) -> bool:
        """Whether a value is there; only looked up if somebody has committed."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._version = version
        row = self._database.execute(self._query, {"value": value}).fetchone()
        return row is not None and bool(row[0])


def _until(there: Callable[[str], bool], value: str) -> None:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while not there(value):
        if time.monotonic() > give_up:
            raise PeerError(f"{value} is not on disk after {_PATIENCE_SECONDS:.0f} s")
        time.sleep(0.0001)
