"""W7: updates of one cell each that are on disk before the next come, into stores of all sizes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.data import CELLS_IN_ROW
from benchmarks.figures import OURS, Line, Target, within
from benchmarks.peers import CLIENTS, SERVERS, ServerStart, Start
from benchmarks.processes import PeerError

__all__ = ["measure"]

_TOGETHER: Final = 64
_NUDGES: Final = 10
_NUDGE_SECONDS: Final = 10.0
"""Longer than any of them takes to save 64 updates one by one."""

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
    seconds, together = bench.pick((0.7, _TOGETHER), (0.7, _TOGETHER), (0.1, 2))

    def line(name: str, unit: str, *targets: Target, more: bool = False) -> Line:
        return Line(name, unit, targets, f"{cells:,} cells", cells, more)

    with ExitStack() as stack:
        sides = {}
        for side, (make, storage) in _SIDES.items():
            if bench.wants(make) and (side == OURS or cells <= _LARGEST_OF_PEERS):
                try:
                    sides[side] = Durable(bench, stack, make, storage, cells // CELLS_IN_ROW)
                except PeerError as error:
                    bench.skip(side, error)
        for count in (1, together):
            how = "one at a time" if count == 1 else f"{count} at a time"
            targets = (within(3_000),) if count > 1 else ()
            bench.take(
                {
                    "rate": line(f"durable updates, {how}", "per second", *targets, more=True),
                    "written": line(f"written for an update, {how}", "bytes", within(4096)),
                },
                {side: partial(durable.run, seconds, count) for side, durable in sides.items()},
            )


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

    def _acknowledged(self, _: str) -> bool:
        self._client.ask("durable", store="writer")
        return True

    def _write(self, count: int) -> None:
        """Write so many updates, and wait until the last is on disk.

        TinyBase's file persister at times does not save the last change, and saves it with the next: that is given.
        """
        for _ in range(_NUDGES):
            self._client.ask("write_each", store="writer", rows=self._rows, first=self._next, count=count)
            self._next += count
            if self._wait(f"changed{self._next - 1:08d}"):
                return
            count = 1
        raise PeerError(f"nothing is on disk after {_NUDGES * _NUDGE_SECONDS:.0f} s")

    def run(self, seconds: float, together: int) -> dict[str, float]:
        """Updates per second, and bytes that each of them writes."""
        began, first, written = time.perf_counter(), self._next, self._server.written_bytes()
        while time.perf_counter() - began < seconds:
            self._write(together)
        updates = self._next - first
        return {
            "rate": updates / (time.perf_counter() - began),
            "written": (self._server.written_bytes() - written) / updates,
        }


_QUERIES: Final = {
    "tinybase": ("path.db", "SELECT instr(store, :value) FROM mergesync"),
    "hocuspocus": ("hocuspocus.db", "SELECT instr(data, CAST(:value AS BLOB)) FROM documents"),
    "pycrdt-websocket": (
        "pycrdt.db",
        "SELECT instr(yupdate, CAST(:value AS BLOB)) FROM yupdates ORDER BY rowid DESC LIMIT 1",
    ),
}
"""Where servers that acknowledge nothing put an update, and how to see that."""


def _looking(make: str, storage: str, folder: Path, stack: ExitStack) -> Callable[[str], bool]:
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


def _until(there: Callable[[str], bool], value: str) -> bool:
    """Wait until a value is there; whether it came in time."""
    give_up = time.monotonic() + _NUDGE_SECONDS
    while not there(value):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.0001)
    return True
