"""The same again and again: servers that start and stop, clients that come and go, good and bad. Nothing must grow.

python -m tests.faults.churn --cycles 100000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression
from typing import Any, Final

from mergesync import MergeableStore, WsClient, create_ws_server, create_ws_synchronizer
from mergesync.cli.storage import Storage
from tests.support import Leftovers, eventually
from tests.unit.net.kit import Backend, diff_frame, raw, url_of

__all__ = ["KINDS", "Growth", "churn"]

WARM_UP: Final = 100
SAMPLES: Final = 20

Cycle = Callable[[int], Coroutine[Any, Any, None]]
Quiet = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Growth:
    """What was there after many cycles and not after the first few; no task, descriptor or timer was.

    Attributes:
        cycles: how many.
        seconds: how long they took.
        objects_per_cycle: of Python, that the garbage collector knows.
        bytes_per_cycle: the slope of the memory of the process.
    """

    cycles: int
    seconds: float
    objects_per_cycle: float
    bytes_per_cycle: float

    def __str__(self) -> str:
        return (
            f"{self.cycles} cycles in {self.seconds:.0f} s: no task, descriptor or timer more, "
            f"{self.objects_per_cycle:.3f} objects and {self.bytes_per_cycle:.0f} bytes per cycle"
        )


async def churn(kind: str, cycles: int) -> Growth:
    """Repeat a cycle; AssertionError if a task, a descriptor or a timer is left behind."""
    async with KINDS[kind]() as (cycle, quiet):
        for number in range(WARM_UP):
            await cycle(number)
        await eventually(quiet)
        left = Leftovers()
        objects = _objects()
        sizes = [(0, _memory_bytes())]
        began = time.monotonic()
        for number in range(1, cycles + 1):
            await cycle(number)
            if number % max(1, cycles // SAMPLES) == 0:
                sizes.append((number, _memory_bytes()))
        seconds = time.monotonic() - began
        await eventually(quiet)
        await left.none()
        slope = linear_regression([number for number, _ in sizes], [size for _, size in sizes]).slope
        return Growth(cycles, seconds, (_objects() - objects) / cycles, slope)


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _memory_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def _visits() -> AsyncIterator[tuple[Cycle, Quiet]]:
    """Connect, sync, write, close; one in ten is cut, sends nonsense, is cancelled, or has a channel."""
    backend = Backend()
    store = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, backend, on_ignored_error=lambda _: None) as server:

        async def good(number: int) -> None:
            async with create_ws_synchronizer(store, url_of(server)):
                store.set_value("v", number)

        async def bad(number: int) -> None:
            match number // 10 % 4:
                case 0:
                    async with raw(url_of(server)) as socket:
                        await socket.send(diff_frame())
                        socket.transport.abort()
                case 1:
                    async with raw(url_of(server)) as socket:
                        await socket.send("nonsense")
                        await socket.wait_closed()
                case 2:
                    task = asyncio.create_task(good(number))
                    await asyncio.sleep(0.002)
                    task.cancel()
                    await asyncio.wait([task])
                case _:
                    client = WsClient(url_of(server, ""), multiplexed=True)
                    async with create_ws_synchronizer(MergeableStore(), client, f"c{number % 7}"):
                        pass

        async def cycle(number: int) -> None:
            backend.events.clear()
            backend.persisters.clear()
            await (bad if number % 10 == 9 else good)(number)

        yield cycle, lambda: server.get_stats().connections == 0 and not any(backend.open.values())


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[Cycle, Quiet]]:
    """A server starts, a client joins and leaves, or is left, and the server stops; with storage and without."""
    with tempfile.TemporaryDirectory() as folder:

        async def cycle(number: int) -> None:
            storage = Storage(("none", "sqlite", "json")[number % 3], f"{folder}/{number % 3}")
            async with (
                create_ws_server("127.0.0.1", 0, storage.persisters()) as server,
                create_ws_synchronizer(MergeableStore(), url_of(server), on_ignored_error=lambda _: None) as client,
            ):
                client.store.set_value("v", number)
                if number % 2:
                    await server.destroy()

        yield cycle, lambda: True


OBJECTS_PER_CYCLE: Final = 0.5
BYTES_PER_CYCLE: Final = 5_000

KINDS: Final[dict[str, Callable[[], AbstractAsyncContextManager[tuple[Cycle, Quiet]]]]] = {
    "visits": _visits,
    "servers": _servers,
}


def main() -> int:
    """Print what grew; 1 if it is more than chance."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.churn")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--kind", choices=KINDS, action="append", help="both by default")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    grew = False
    for kind in options.kind or KINDS:
        growth = asyncio.run(churn(kind, options.cycles))
        print(f"{kind}: {growth}", flush=True)
        grew |= growth.objects_per_cycle >= OBJECTS_PER_CYCLE or growth.bytes_per_cycle >= BYTES_PER_CYCLE
    return int(grew)


if __name__ == "__main__":
    sys.exit(main())
