"""Who misses changes: each client has a bound, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mergesync.net import laggards as laggards_module
from mergesync.net.laggards import Laggards
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("leftovers")


class Channel:
    """A channel of which this test says how much waits in it."""

    remote_address: Any = None
    headers: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.queued_bytes = 0

    async def receive(self) -> str:
        raise NotImplementedError

    def post(self, text: str) -> None:
        raise NotImplementedError

    async def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    async def wait_closed(self) -> None:
        raise NotImplementedError


def written(laggards: Laggards, channels: list[Channel], size: int, path_id: str = "p") -> list[Channel]:
    """Send a change to who does not miss it; nobody reads. Returns who misses it."""
    missing = [
        channel for number, channel in enumerate(channels) if laggards.misses(channel, path_id, f"c{number}", size)
    ]
    for channel in channels:
        if channel not in missing:
            channel.queued_bytes += size
    return missing


async def test_each_by_itself() -> None:
    """At its bound a client misses nothing, one byte more and it misses all until it has read everything."""
    caught_up: list[tuple[str, str]] = []
    laggards = Laggards(100, 1000, lambda *client: caught_up.append(client))
    channel = Channel()
    assert written(laggards, [channel], 500) == []  # one message may be larger
    channel.queued_bytes = 50
    assert written(laggards, [channel], 50) == []
    assert written(laggards, [channel], 1) == [channel]
    channel.queued_bytes = 1
    for path_id in "pqp":
        assert written(laggards, [channel], 1, path_id) == [channel]
    channel.queued_bytes = 0
    await eventually(lambda: caught_up == [("p", "c0"), ("q", "c0")])
    assert (laggards.waiting_bytes, laggards._timer) == (0, None)
    assert written(laggards, [channel], 1) == []


async def test_all_together() -> None:
    """What waits for all is bounded; those with the most miss changes first, and others still get theirs."""
    laggards = Laggards(100, 1000, lambda *_: None)
    many = [Channel() for _ in range(30)]
    for _ in range(50):
        written(laggards, many, 2)
    waiting = sum(channel.queued_bytes for channel in many)
    assert laggards.waiting_bytes == waiting <= 1000 - 30, "a share each, and one is left"
    assert {channel.queued_bytes for channel in many} <= {30, 32, 34}
    assert written(laggards, many, 2) == many
    newcomer = Channel()
    for _ in range(4):
        assert written(laggards, [newcomer], 2) == []
    newcomer.queued_bytes = 20
    assert written(laggards, [newcomer], 2) == [newcomer]
    for channel in many[:20]:
        laggards.forget(channel)
    assert laggards.waiting_bytes == sum(channel.queued_bytes for channel in many[20:]) + 20
    assert written(laggards, [Channel()], 2) == []
    for channel in [*many[20:], newcomer]:
        laggards.forget(channel)
    assert (laggards.waiting_bytes, laggards._timer) == (0, None)


def with_something_waiting() -> tuple[Laggards, Channel]:
    """What looks after a channel for which something waits."""
    laggards, channel = Laggards(100, 1000, lambda *_: None), Channel()
    channel.queued_bytes = 60
    assert written(laggards, [channel], 1) == []
    assert laggards.waiting_bytes == 61
    return laggards, channel


async def test_what_was_read_does_not_wait() -> None:
    """It is looked after from time to time, as clients that read say nothing."""
    laggards, channel = with_something_waiting()
    channel.queued_bytes = 7
    await eventually(lambda: laggards.waiting_bytes == 7)
    channel.queued_bytes = 0
    await eventually(lambda: laggards.waiting_bytes == 0)
    assert laggards._timer is None


async def test_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are looked at each time, and all of them soon, whoever else reads on or does not."""
    monkeypatch.setattr(laggards_module, "LAGGARDS_LOOKED_AT", 1)
    caught_up: list[str] = []
    laggards = Laggards(100, 10_000, lambda _, client_id: caught_up.append(client_id))
    many = [Channel() for _ in range(45)]
    for channel in many:
        channel.queued_bytes = 101
    assert written(laggards, many, 1) == many
    for channel in many[::3]:
        channel.queued_bytes = 0
    await eventually(lambda: len(caught_up) == 15)
    assert caught_up == [f"c{number}" for number in range(0, 45, 3)]
    assert laggards.waiting_bytes == 30 * 101
    for channel in many:
        laggards.forget(channel)


async def test_who_reads_everything_is_not_counted_on() -> None:
    """Also where nobody has looked meanwhile."""
    laggards, channel = with_something_waiting()
    channel.queued_bytes = 0
    assert written(laggards, [channel], 0) == []
    assert (laggards.waiting_bytes, laggards._timer) == (0, None)
