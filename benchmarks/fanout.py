"""W5: one writer and many readers on a path: how many updates a server delivers, and how soon.

Deliveries are updates times readers. The bare server only passes bytes on, joined turn by turn: what it delivers is the
ceiling of the load generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Line, Target, times
from benchmarks.load_generator import Load, MergedFrames, count_of_update, frame_of, updates
from benchmarks.peers import SERVERS
from benchmarks.processes import SERVER_CORE, PeerError, Worker
from benchmarks.yjs_frames import YjsUpdates, hocuspocus_prefix, hocuspocus_token

__all__ = ["measure"]

_IN_FLIGHT: Final = 64
_ROUNDS: Final = 3
_PACE: Final = 50_000.0
_PREPARED: Final = 30_000
_CEILING: Final = "limit (bare server)"

_SIDES: Final[Mapping[str, tuple[str, str]]] = {
    OURS: (OURS, "memory"),
    "tinybase": ("tinybase", "none"),
    "y-websocket": ("y-websocket", "memory"),
    "hocuspocus": ("hocuspocus", "memory"),
    "pycrdt-websocket": ("pycrdt-websocket", "memory"),
    _CEILING: (_CEILING, ""),
}
_STORING_SIDES: Final[Mapping[str, tuple[str, str]]] = {
    OURS: (OURS, "sqlite"),
    "tinybase (sqlite)": ("tinybase", "sqlite"),
    "tinybase (file)": ("tinybase", "file"),
}


def measure(bench: Bench) -> None:
    """Everything of W5."""
    for readers in bench.pick([10, 100, 500], [10, 100], [5]):
        _measure(bench, readers, "", _SIDES)
    _measure(bench, bench.pick(100, 50, 5), ", saving", _STORING_SIDES)


def _measure(bench: Bench, readers: int, how: str, sides: Mapping[str, tuple[str, str]]) -> None:
    seconds, rate = bench.pick((1.0, _PACE), (0.5, _PACE), (0.1, 500.0))
    pace = rate if readers == bench.pick(100, 100, 5) else None

    def line(name: str, unit: str, *targets: Target, more: bool = False) -> Line:
        return Line(name + how, unit, targets, f"{readers} readers", readers, more)

    peer = "tinybase (sqlite)" if how else "tinybase"
    lines = {
        "singly": line("updates, one at a time", "deliveries/s", times(1, peer), more=True),
        "saturated": line(
            f"updates, {_IN_FLIGHT} in flight", "deliveries/s", times(1, peer if how else "hocuspocus"), more=True
        ),
    }
    if pace is not None:
        at = f"latency at {pace:,.0f} deliveries/s"
        lines["p50"] = line(f"{at}, median", "ms", times(1, peer))
        lines["p99"] = line(f"{at}, 99 of 100", "ms", times(1, peer))
    with ExitStack() as stack:
        starts = {
            side: partial(_start, stack.enter_context(bench.folder()), make, storage)
            for side, (make, storage) in sides.items()
            if bench.wants(make)
        }
        servers = stack.enter_context(bench.opened(starts))
        runs = {
            side: partial(_run, server, sides[side], map("run{:03d}".format, count()), readers, seconds, pace)
            for side, server in servers.items()
        }
        bench.take(lines, runs, warm=False, runs=min(bench.runs, _ROUNDS))


def _start(folder: Path, make: str, storage: str) -> Worker:
    if make == _CEILING:
        return Worker.python("bare_server", core=SERVER_CORE)
    return SERVERS[make](storage, folder)


def _run(
    server: Worker, of: tuple[str, str], path_ids: Iterator[str], readers: int, seconds: float, pace: float | None
) -> dict[str, float]:
    """All kinds of load on a path of their own, one after the other."""
    try:
        with closing(_load(server.ready["port"], next(path_ids), readers, *of)) as load:
            measured = {"singly": load.saturated(seconds, 1), "saturated": load.saturated(seconds, _IN_FLIGHT)}
            if pace is not None:
                latencies = load.paced(seconds, pace)
                measured["p50"] = latencies[len(latencies) // 2] * 1e3
                measured["p99"] = latencies[len(latencies) * 99 // 100] * 1e3
    except (TimeoutError, AssertionError, ConnectionError) as error:
        raise PeerError(str(error)) from error
    return measured


def _load(port: int, path_id: str, readers: int, make: str, storage: str) -> Load:
    if make == "tinybase" and storage != "none":
        # Its server store speaks up among the updates, and waits a second for answers, which raw sockets do not give.
        return Load(port, path_id, readers, updates(), meter=MergedFrames(count_of_update), settling_seconds=1.5)
    if make in (OURS, "tinybase", _CEILING):
        return Load(port, path_id, readers, updates())
    prefix, hello = b"", b""
    if make == "hocuspocus":
        prefix, hello = hocuspocus_prefix(path_id), frame_of(hocuspocus_token(path_id))
    update = YjsUpdates(frame_of, prefix)
    update.prepare(_PREPARED)
    return Load(port, path_id, readers, update, hello=hello, first=update.first, meter=MergedFrames(update.count))
