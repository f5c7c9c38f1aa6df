"""W6: what idle connections, idle paths and stored cells take of memory."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench, Side
from benchmarks.data import CELLS_IN_ROW, changes_text
from benchmarks.figures import OURS, Line, within
from benchmarks.load_generator import frame_of, open_socket
from benchmarks.peers import SERVERS, STORES
from benchmarks.processes import PeerError, Worker
from benchmarks.yjs_frames import hocuspocus_token

__all__ = ["measure"]

_AT_ONCE: Final = 50
_PATIENCE_SECONDS: Final = 120.0

_HASHES_PLEASE: Final = frame_of('S\n["q",1,""]')

_HELLOS: Final[Mapping[str, Callable[[str], bytes]]] = {
    OURS: lambda _: _HASHES_PLEASE,
    "tinybase": lambda _: _HASHES_PLEASE,
    "hocuspocus": lambda path: frame_of(hocuspocus_token(path)),
}
"""What a client says so that the server has it on the path; those for Yjs speak first."""

_SIDES: Final[Mapping[str, tuple[str, str]]] = {
    OURS: (OURS, "sqlite"),
    "tinybase (memory)": ("tinybase", "memory"),
    "tinybase (file)": ("tinybase", "file"),
    "tinybase (sqlite)": ("tinybase", "sqlite"),
    "y-websocket": ("y-websocket", "memory"),
    "hocuspocus": ("hocuspocus", "memory"),
    "pycrdt-websocket": ("pycrdt-websocket", "memory"),
}


def measure(bench: Bench) -> None:
    """Everything of W6."""
    _measure_cells(bench)
    count = bench.pick(5_000, 1_000, 20)
    sides = {side: of for side, of in _SIDES.items() if bench.wants(of[0])}
    bench.take(
        {"bytes": Line("idle connection, all on one path", "bytes", (within(17_000),), f"{count:,} connections")},
        {side: partial(_weigh, bench, *of, count, one_path=True) for side, of in sides.items()},
        warm=False,
        runs=1,
    )
    at = f"{count:,} paths"
    bench.take(
        {
            "bytes": Line("idle path with its client", "bytes", (within(25_000),), at),
            "seconds": Line("opening them all", "seconds", (within(count / 1000),), at),
        },
        {side: partial(_weigh, bench, *of, count, one_path=False) for side, of in sides.items()},
        warm=False,
        runs=1,
    )


def _weigh(bench: Bench, make: str, storage: str, count: int, *, one_path: bool) -> dict[str, float]:
    """What each of so many idle connections costs a fresh server, and how long all of them take to be there."""
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[make](storage, stack.enter_context(bench.folder())))
        bench.versions.update(server.ready["versions"])
        port = server.ready["port"]
        sockets = Sockets(stack, port, _HELLOS.get(make))
        sockets.open(["warm"] * 10)  # what the first ones cost is not what each one costs
        before = server.memory_bytes()
        began = time.perf_counter()
        sockets.open(["warm" if one_path else f"path{number}" for number in range(count)])
        seconds = time.perf_counter() - began
        measured = {"bytes": (server.memory_bytes() - before) / count}
        return measured if one_path else {**measured, "seconds": seconds}


class Sockets:
    """Sockets that are opened, heard once, and then idle."""

    def __init__(self, stack: ExitStack, port: int, hello: Callable[[str], bytes] | None) -> None:
        self._stack, self._port, self._hello = stack, port, hello

    def open(self, path_ids: list[str]) -> None:
        """Open one on each path, some at once, and wait until the server has said something to each."""
        for at in range(0, len(path_ids), _AT_ONCE):
            silent = set()
            for path_id in path_ids[at : at + _AT_ONCE]:
                opened, came = open_socket(self._port, path_id)
                self._stack.enter_context(opened)
                if self._hello is not None:
                    opened.sendall(self._hello(path_id))
                if not came:
                    silent.add(opened)
            self._hear(silent)

    @staticmethod
    def _hear(silent: set[socket.socket]) -> None:
        while silent:
            poll = select.poll()
            by_number = {each.fileno(): each for each in silent}
            for number in by_number:
                poll.register(number, select.POLLIN)
            if not (ready := poll.poll(_PATIENCE_SECONDS * 1000)):
                raise PeerError(f"{len(silent)} clients are not answered")
            for number, _ in ready:
                if not by_number[number].recv(65536):
                    raise PeerError("the server has closed a socket")
                silent.discard(by_number[number])


def _measure_cells(bench: Bench) -> None:
    rows = bench.pick(20_000, 4_000, 40)
    cells = rows * CELLS_IN_ROW
    with bench.folder() as folder:
        text = folder / "cells.json"
        text.write_text(changes_text(rows))
        bench.take(
            {"bytes": Line("a stored cell of the test data", "bytes", (within(250),), f"{cells:,} cells")},
            {side: _cell_side(start, side, text, rows) for side, start in STORES.items()},
            warm=False,
            runs=1,
        )


def _cell_side(start: Callable[[], Worker], side: str, text: Path, rows: int) -> Side:
    arguments = {"text": str(text)} if side in (OURS, "tinybase") else {"rows": rows}

    def run() -> dict[str, float]:
        with start() as store:
            return {"bytes": store.ask("memory", **arguments)["bytes"] / (rows * CELLS_IN_ROW)}

    return run
