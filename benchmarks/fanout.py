"""One writer and many readers on a path: how many updates a server delivers, and how soon.

    python -m benchmarks.fanout --readers 100

It prints JSON: `mergesync` beside `ceiling`, which is the same load on a bare server that only passes bytes on.
Deliveries are updates times readers. The server has the first processor, the load generator the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import bare_server
from benchmarks.load_generator import Load, updates
from mergesync import Limits, create_ws_server
from mergesync.persist import sqlite_persisters
from tests.served import busy_seconds

_IN_FLIGHT: Final = 64
_READ_AGAIN: Final = 50


async def _serve(database: str | None) -> None:
    """A server of which only the limits differ from the defaults, as one client sends what many would."""
    limits = Limits(
        messages_per_second=None, bytes_per_second=None, connections_per_address=None, heartbeat_seconds=None
    )
    persisters = None if database is None else sqlite_persisters(database)
    async with create_ws_server("127.0.0.1", 0, limits=limits, create_persister_for_path=persisters) as server:
        print(server.port, flush=True)
        await server.serve_forever()


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[int, int]]:
    """A server in a process of its own, on the first processor; its port and its process id."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.fanout", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        os.sched_setaffinity(server.pid, {min(os.sched_getaffinity(0))})
        assert server.stdout is not None
        yield int(server.stdout.readline()), server.pid
    finally:
        server.terminate()
        server.wait()


def measured(port: int, pid: int, readers: int, seconds: float, pace: float) -> dict[str, Any]:
    """What a server does of each kind of load."""
    load = Load(port, "bench", readers, updates())
    try:
        found: dict[str, Any] = {"readers": readers, "frame_bytes": load.frame_bytes}
        for name, in_flight in (("one_at_a_time", 1), ("saturated", _IN_FLIGHT)):
            busy = busy_seconds(pid)
            found[f"{name}_per_second"] = rate = round(load.saturated(seconds, in_flight))
            spent = busy_seconds(pid) - busy
            found[f"{name}_server_us"] = round(spent / (rate * seconds) * 1e6, 3)
        latencies = load.paced(seconds, pace)
    finally:
        load.close()
    for percent in (50, 99):
        found[f"paced_p{percent}_ms"] = round(latencies[len(latencies) * percent // 100] * 1e3, 3)
    return found


def stalled(port: int, readers: int, stalled_readers: int, seconds: float, pace: float) -> dict[str, Any]:
    """Latencies of live readers alone, and beside others that do not read; in turns, as a machine has its moods."""
    load, lonely = Load(port, "bench", readers, updates()), Load(port, "lonely", readers, updates())
    try:
        load.stall(stalled_readers, megabytes=3)
        latencies: dict[Load, list[float]] = {load: [], lonely: []}
        for _ in range(5):
            for each in (lonely, load):
                latencies[each] += each.paced(seconds / 5, pace)
        found: dict[str, Any] = {"readers": readers, "stalled": stalled_readers}
        for each, name in ((lonely, "alone"), (load, "beside_stalled")):
            each_sorted = sorted(latencies[each])
            for percent in (50, 99):
                found[f"{name}_p{percent}_ms"] = round(each_sorted[len(each_sorted) * percent // 100] * 1e3, 3)
        waits = load.read_again(_READ_AGAIN)
        found["read_again_until_told_hashes_seconds"] = {"median": waits[len(waits) // 2], "most": waits[-1]}
    finally:
        load.close()
        lonely.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of load")
    parser.add_argument("--pace", type=float, default=50_000.0, help="deliveries per second where latency is measured")
    parser.add_argument("--sqlite", action="store_true", help="the server stores what it gets")
    parser.add_argument("--uvloop", action="store_true", help="the server has that event loop, as `mergesync serve`")
    parser.add_argument("--no-ceiling", action="store_true")
    parser.add_argument("--stalled", type=int, default=0, help="measure only latency, with so many that do not read")
    parser.add_argument("--serve", choices=("mergesync", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--database", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        factory = __import__("uvloop").new_event_loop if options.uvloop else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(options.database) if options.serve == "mergesync" else bare_server.serve())
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        more = ["--uvloop"] if options.uvloop else []
        if options.sqlite:
            more.append(f"--database={Path(folder) / 'bench.db'}")
        sides = {"mergesync": ["--serve=mergesync", *more]}
        if not (options.no_ceiling or options.stalled):
            sides["ceiling"] = ["--serve=bare"]
        for side, arguments in sides.items():
            with serving(*arguments) as (port, pid):
                if options.stalled:
                    results[side] = stalled(port, options.readers, options.stalled, options.seconds, options.pace)
                else:
                    results[side] = measured(port, pid, options.readers, options.seconds, options.pace)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
