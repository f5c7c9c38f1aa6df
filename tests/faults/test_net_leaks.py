"""Nothing grows: tasks, file descriptors, objects, through many connections good and bad."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mergesync import MergeableStore, WsClient, create_ws_server, create_ws_synchronizer
from tests.support import Leftovers, eventually
from tests.unit.net.kit import Backend, diff_frame, raw, url_of

CYCLES = 1000
WARM_UP = 100
OBJECTS_PER_CYCLE = 0.5
BYTES_PER_CYCLE = 5_000

Cycle = Callable[[int], Coroutine[Any, Any, None]]


async def _repeat(cycle: Cycle, cycles: int, quiet: Callable[[], bool]) -> None:
    """Repeat something; afterwards nothing is there that was not there after the first few times."""
    for number in range(WARM_UP):
        await cycle(number)
    await eventually(quiet)
    left = Leftovers()
    before = _weigh()
    for number in range(WARM_UP, cycles):
        await cycle(number)
    await eventually(quiet)
    await left.none()
    objects, size_bytes = (after - earlier for after, earlier in zip(_weigh(), before, strict=True))
    assert objects < OBJECTS_PER_CYCLE * cycles
    assert size_bytes < BYTES_PER_CYCLE * cycles


def _weigh() -> tuple[int, int]:
    gc.collect()
    return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.timeout(300)
async def test_a_thousand_visits(caplog: pytest.LogCaptureFixture) -> None:
    """Connect, sync, write, close; one in ten is cut, sends nonsense, is cancelled, or finds its path failing."""
    caplog.set_level(logging.CRITICAL)
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
            await (bad if number % 10 == 9 else good)(number)

        def quiet() -> bool:
            backend.events.clear()
            backend.persisters.clear()
            return server.get_stats().connections == 0 and not any(backend.open.values())

        await _repeat(cycle, CYCLES, quiet)


@pytest.mark.timeout(300)
async def test_servers_come_and_go() -> None:
    """So do whole servers with a client each."""

    async def cycle(number: int) -> None:
        async with (
            create_ws_server("127.0.0.1", 0) as server,
            create_ws_synchronizer(MergeableStore(), url_of(server), on_ignored_error=lambda _: None),
        ):
            if number % 2:
                await server.destroy()

    await _repeat(cycle, WARM_UP + 100, lambda: True)
