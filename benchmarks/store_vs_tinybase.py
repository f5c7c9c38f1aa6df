"""The work of a store: mergesync beside TinyBase 10.0.1 on Node, in one run.

    python -m benchmarks.store_vs_tinybase

Both sides keep 20,000 rows of 5 cells with strings of 12 characters. Whatever is timed ends with the content hashes
known, on both sides: TinyBase computes them as it goes, mergesync when they are asked for. The sides take turns, run
by run, in one warm process each, after a first run that does not count and a garbage collection before each; garbage
is collected within runs as either language does it by default. Every result is compared between the sides where it can
be equal, and a difference ends the run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mergesync import MergeableStore
from mergesync.store import jsjson
from mergesync.store.hlc import encode_hlc
from mergesync.sync.client_connection import ClientConnection
from mergesync.sync.messages import Message
from mergesync.sync.operations import Operation
from mergesync.sync.synchronizer import Origin, Synchronizer
from mergesync.types import MergeableChanges
from tests.conformance.nodepeer import ensure_node

CELLS_IN_ROW: Final = 5
ROWS: Final = 20_000
RUNS: Final = 5
SMOKE_ROWS: Final = 40
T0: Final = 1704067200000
NODE_SIDE: Final = Path(__file__).parent / "node" / "store.mjs"


# --- what both sides work on


def cells_of(rows: int) -> list[tuple[str, str, str]]:
    """Row id, cell id and value of every cell."""
    return [
        (f"row{row}", f"cell{cell}", f"value{row * CELLS_IN_ROW + cell:07d}")
        for row in range(rows)
        for cell in range(CELLS_IN_ROW)
    ]


def changes_text(cells: list[tuple[str, str, str]], *, conflicting: bool) -> str:
    """What a peer sends of these cells; `conflicting`: other values, every other one with a newer stamp."""
    table: dict[str, Any] = {}
    for number, (row_id, cell_id, value) in enumerate(cells):
        hlc = encode_hlc(T0 + 1000, number, "peer1")
        if conflicting:
            value = value.upper()
            hlc = encode_hlc(T0 + (2000 if number % 2 else 0), number, "peer2")
        table.setdefault(row_id, [{}])[0][cell_id] = [value, hlc]
    return json.dumps([[{"table": [table]}], [{}], 1], separators=(",", ":"))


@dataclass(frozen=True)
class Data:
    """Everything that is ready before a clock starts."""

    cells: list[tuple[str, str, str]]
    rows: list[tuple[str, dict[str, str]]]
    singles: list[tuple[str, str, str]]
    all: str
    conflicting: str
    frame: str

    @classmethod
    def of(cls, row_count: int) -> Data:
        """Make it."""
        cells = cells_of(row_count)
        rows: dict[str, dict[str, str]] = {}
        for row_id, cell_id, value in cells:
            rows.setdefault(row_id, {})[cell_id] = value
        all_ = changes_text(cells, conflicting=False)
        return cls(
            cells,
            list(rows.items()),
            cells[::CELLS_IN_ROW],
            all_,
            changes_text(cells, conflicting=True),
            f'S\n["request1234",3,{all_}]',
        )


# --- our side: each work gives the store as set up, and what is timed


Timed = Callable[[MergeableStore], object]
Work = Callable[[Data], tuple[MergeableStore, Timed]]


def _merge(store: MergeableStore, text: str) -> None:
    store.apply_mergeable_changes(jsjson.parse(text))


def _full(data: Data) -> MergeableStore:
    store = MergeableStore("benchmark")
    _merge(store, data.all)
    store.get_mergeable_content_hashes()
    return store


def set_cells(data: Data) -> tuple[MergeableStore, Timed]:
    def timed(store: MergeableStore) -> None:
        with store.transaction():
            for row_id, cell_id, value in data.cells:
                store.set_cell("table", row_id, cell_id, value)

    return MergeableStore("benchmark"), timed


def set_rows(data: Data) -> tuple[MergeableStore, Timed]:
    def timed(store: MergeableStore) -> None:
        with store.transaction():
            for row_id, row in data.rows:
                store.set_row("table", row_id, row)

    return MergeableStore("benchmark"), timed


def set_singly(data: Data) -> tuple[MergeableStore, Timed]:
    def timed(store: MergeableStore) -> None:
        for row_id, cell_id, value in data.singles:
            store.set_cell("table", row_id, cell_id, value)

    return MergeableStore("benchmark"), timed


def set_singly_in_full(data: Data) -> tuple[MergeableStore, Timed]:
    def timed(store: MergeableStore) -> None:
        for row_id, cell_id, _ in data.singles:
            store.set_cell("table", row_id, cell_id, "changed")

    return _full(data), timed


def set_singly_with_hashes(data: Data) -> tuple[MergeableStore, Timed]:
    def timed(store: MergeableStore) -> None:
        for row_id, cell_id, value in data.singles:
            store.set_cell("table", row_id, cell_id, value)
            store.get_mergeable_content_hashes()

    return MergeableStore("benchmark"), timed


def merge_into_empty(data: Data) -> tuple[MergeableStore, Timed]:
    return MergeableStore("benchmark"), lambda store: _merge(store, data.all)


def merge_again(data: Data) -> tuple[MergeableStore, Timed]:
    return _full(data), lambda store: _merge(store, data.all)


def merge_conflicting(data: Data) -> tuple[MergeableStore, Timed]:
    return _full(data), lambda store: _merge(store, data.conflicting)


class _Client:
    """What a connection and a synchronizer need around them; nothing is sent anywhere."""

    def __init__(self, store: MergeableStore) -> None:
        new_id = "x".__mul__
        self.synchronizer = Synchronizer(store, self, request_timeout_seconds=1.0, new_id=new_id)
        self.connection = ClientConnection(None, self, timeout_seconds=1.0, new_id=new_id)
        self.synchronizer.start_live()

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        self.synchronizer.receive(sender, message, 0.0)

    def send(self, *_: object) -> None: ...
    def opened(self, channel_id: str | None) -> None: ...
    def operate(self, channel_id: str | None, operation: Operation) -> None: ...
    def pulled(self) -> None: ...
    def refused(self, sender: str, changes: MergeableChanges) -> None: ...
    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None: ...

    def report(self, error: Exception) -> None:
        raise error


def receive_frame(data: Data) -> tuple[MergeableStore, Timed]:
    store = MergeableStore("benchmark")
    client = _Client(store)
    return store, lambda _: client.connection.receive(data.frame, 0.0)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: of the work, on both sides.
        work: our side of it.
        share: what part of all cells it touches.
        target: how many times TinyBase's speed is expected, if anything.
        comparable: whether both sides must end with the same hashes: where the stamps are not made locally.
    """

    name: str
    work: Work
    share: float = 1.0
    target: float | None = None
    comparable: bool = True


TABLE: Final = [
    Row("set cells in one transaction", set_cells, target=3.0, comparable=False),
    Row("set rows in one transaction", set_rows, comparable=False),
    Row("single-cell transactions", set_singly, 1 / CELLS_IN_ROW, 3.0, comparable=False),
    Row("single-cell transactions in a full store", set_singly_in_full, 1 / CELLS_IN_ROW, comparable=False),
    Row("single-cell transactions, hashes after each", set_singly_with_hashes, 1 / CELLS_IN_ROW, comparable=False),
    Row("decode + merge into an empty store", merge_into_empty, target=3.0),
    Row("decode + merge the same again", merge_again),
    Row("decode + merge, half of it newer", merge_conflicting),
    Row("frame through the synchronizer into an empty store", receive_frame),
]


def time_ours(work: Work, data: Data) -> tuple[float, list[int]]:
    """Microseconds, and the hashes at the end."""
    store, timed = work(data)
    gc.collect()
    start = time.perf_counter()
    timed(store)
    hashes = store.get_mergeable_content_hashes()
    return (time.perf_counter() - start) * 1e6, hashes


def memory_of_ours(data: Data) -> int:
    """Bytes that a full store with its hashes takes."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    store = _full(data)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del store
    return after - before


# --- the other side


class NodeSide(AbstractContextManager["NodeSide"]):
    """`node/store.mjs`, asked for one run at a time."""

    def __init__(self, data: Data) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mergesync-benchmark-")
        for name, text in (("all", data.all), ("conflicting", data.conflicting), ("frame", data.frame)):
            (Path(self._folder.name) / f"{name}.json").write_text(text, encoding="utf-8")
        arguments = [ensure_node(), "--expose-gc", str(NODE_SIDE), self._folder.name, str(len(data.rows))]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{NODE_SIDE.name} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, work: str) -> dict[str, Any]:
        """One run; how long it took, or memory, and the hashes at the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"work": work}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


# --- the run


@dataclass
class Result:
    """Microseconds per cell, run by run."""

    name: str
    cells: int
    target: float | None
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as fast as TinyBase, of the medians."""
        return statistics.median(self.theirs) / statistics.median(self.ours)


@dataclass
class Report:
    """A whole run."""

    machine: dict[str, str]
    results: list[Result]
    memory: tuple[float, float]
    """Bytes per cell of a full store with its hashes: ours, theirs."""

    def text(self) -> str:
        """The table."""
        lines = [f"{name}: {said}" for name, said in self.machine.items()]
        head = ("work", "cells", "mergesync us/cell", "tinybase us/cell", "ratio", "target")
        body = [
            (
                result.name,
                f"{result.cells:,}",
                _spread(result.ours),
                _spread(result.theirs),
                f"{result.ratio:.1f}x",
                "" if result.target is None else f"{result.target:.0f}x",
            )
            for result in self.results
        ]
        ours, theirs = self.memory
        body.append(("memory, bytes per cell", "", f"{ours:.0f}", f"{theirs:.0f}", f"{theirs / ours:.1f}x", ""))
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines.append("")
        for row in (head, tuple("-" * width for width in widths), *body):
            padded = [said.ljust(width) for said, width in zip(row[:1], widths[:1], strict=True)]
            padded += [said.rjust(width) for said, width in zip(row[1:], widths[1:], strict=True)]
            lines.append(f"| {' | '.join(padded)} |")
        return "\n".join(lines)


def _spread(times: Sequence[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f}-{max(times):.2f})"


def run(row_count: int = ROWS, runs: int = RUNS) -> Report:
    """Run everything.

    Raises:
        RuntimeError: the sides came to different results.
    """
    data = Data.of(row_count)
    results = []
    with NodeSide(data) as node:
        machine = _machine(node.versions)
        memory = (memory_of_ours(data) / len(data.cells), node.ask("memory")["bytes"] / len(data.cells))
        for row in TABLE:
            cells = round(len(data.cells) * row.share)
            result = Result(row.name, cells, row.target)
            for number in range(runs + 1):
                ours_us, our_hashes = time_ours(row.work, data)
                answer = node.ask(row.name)
                if row.comparable and our_hashes != answer["hashes"]:
                    raise RuntimeError(f"{row.name}: hashes differ, {our_hashes} and {answer['hashes']}")
                if number:  # the first one warms up
                    result.ours.append(ours_us / cells)
                    result.theirs.append(answer["us"] / cells)
            results.append(result)
    return Report(machine, results, memory)


def _machine(versions: dict[str, str]) -> dict[str, str]:
    return {
        "machine": f"{_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        "mergesync": f"{_commit()} on Python {platform.python_version()}, orjson {version('orjson')}, "
        f"fnv-hash-fast {version('fnv-hash-fast')}",
        "tinybase": f"{versions['tinybase']} on Node {versions['node']}",
        "figures": "microseconds per cell, median (least-most) of the runs; the hashes are computed in every one",
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "of unknown commit"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store_vs_tinybase", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of {CELLS_IN_ROW} cells (default {ROWS:,})")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs that count (default {RUNS})")
    parser.add_argument("--smoke", action="store_true", help="small and once, to see that it works")
    given = parser.parse_args(arguments)
    report = run(SMOKE_ROWS, 1) if given.smoke else run(given.rows, given.runs)
    print(report.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
