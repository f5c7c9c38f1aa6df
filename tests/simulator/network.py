"""Links in memory between clients and servers, with everything that can happen to a link."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Protocol

from mergesync.net.channel import ChannelClosed

__all__ = ["Accept", "Link", "Network", "SimulatedChannel"]

_DEAD_AFTER_SECONDS = 40.0
"""When the pings of both ends find out that nobody is there (the `websockets` library: 20 s and 20 s)."""


class Accept(Protocol):
    """A server that listens."""

    def __call__(
        self, channel: SimulatedChannel, target: str, key: str, subprotocol: str | None
    ) -> Awaitable[None]: ...


class SimulatedChannel:
    """One end of a link; a `TextChannel`."""

    def __init__(self, link: Link, name: str, subprotocol: str | None) -> None:
        self.subprotocol = subprotocol
        self.remote_address: Any = (name, 0)
        self.headers: Mapping[str, str] = {}
        self.other: SimulatedChannel
        self._link = link
        self._inbox: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._closed: ChannelClosed | None = None
        self._next_arrival = 0.0
        self._queued_bytes = 0

    async def receive(self) -> str:
        """The next text; raises ChannelClosed."""
        while not self._inbox:
            if self._closed is not None:
                raise self._closed
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def post(self, text: str) -> None:
        """Send a text."""
        if self._closed is None:
            self._queued_bytes += len(text)
            self._link.send(self.other, lambda: self._deliver(text))

    def _deliver(self, text: str) -> None:
        self._queued_bytes -= len(text)
        if self.other._closed is None:
            self._link.network.on_frame(self._link, self, text)
            self.other._inbox.append(text)
            self.other._arrived.set()

    @property
    def queued_bytes(self) -> int:
        """What is under way."""
        return self._queued_bytes

    async def close(self, code: int, reason: str) -> None:
        """Close in order: what was posted arrives first."""
        if self._closed is None:
            self._closed = ChannelClosed(code, reason)
            self._arrived.set()
            self._link.send(self.other, lambda: self.other.closed(code, reason))

    def closed(self, code: int, reason: str) -> None:
        """The other side, or fate, has closed the link."""
        if self._closed is None:
            self._closed = ChannelClosed(code, reason)
            self._arrived.set()
            if code == 1006:
                self._inbox.clear()


class Link:
    """A connection between a client and a server."""

    def __init__(self, network: Network, client_name: str, subprotocol: str | None) -> None:
        self.network = network
        self.client_name = client_name
        self.client = SimulatedChannel(self, "server", subprotocol)
        self.server = SimulatedChannel(self, client_name, subprotocol)
        self.client.other, self.server.other = self.server, self.client
        self.latency_seconds = network.random.choice((0.0005, 0.002, 0.01, 0.05))
        self._stalled_until = 0.0
        self._deaf = False

    @property
    def open(self) -> bool:
        """Whether neither end is closed."""
        return self.client._closed is None and self.server._closed is None

    def send(self, target: SimulatedChannel, arrive: Callable[[], None]) -> None:
        """Let something arrive at an end, after everything sent there before."""
        loop = asyncio.get_running_loop()
        jitter = self.network.random.random() * self.latency_seconds
        when = max(loop.time() + self.latency_seconds + jitter, self._stalled_until, target._next_arrival)
        target._next_arrival = when

        def arrive_unless_deaf() -> None:
            if not self._deaf:
                arrive()

        loop.call_at(when, arrive_unless_deaf)

    def cut(self) -> None:
        """The link breaks; what is under way is lost."""
        self._deaf = True
        self.client.closed(1006, "")
        self.server.closed(1006, "")

    def go_deaf(self) -> None:
        """Nothing arrives any more, and nobody is told until the pings find out."""
        if not self._deaf:
            self._deaf = True
            asyncio.get_running_loop().call_later(_DEAD_AFTER_SECONDS, self.cut)

    def stall(self, seconds: float) -> None:
        """What is sent from now on arrives only after this."""
        self._stalled_until = asyncio.get_running_loop().time() + seconds


class Network:
    """All links, and who can be reached.

    Args:
        random: draws latencies.
        on_frame: told of every frame that arrives: `(link, sending end, text)`.
    """

    def __init__(self, random: Random, on_frame: Callable[[Link, SimulatedChannel, str], None]) -> None:
        self.random = random
        self.on_frame = on_frame
        self.listening: Accept | None = None
        self.unreachable: set[str] = set()
        self.links: list[Link] = []
        self._keys = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, client_name: str, target: str, subprotocol: str | None) -> SimulatedChannel:
        """Connect a client; raises OSError where no server can be reached."""
        await asyncio.sleep(0.001 + self.random.random() * 0.01)
        if self.listening is None or client_name in self.unreachable:
            raise ConnectionRefusedError("simulated")
        link = Link(self, client_name, subprotocol)
        self.links = [other for other in self.links if other.open]
        self.links.append(link)
        self._keys += 1
        key = f"{self._keys:021d}A=="
        task = asyncio.ensure_future(self.listening(link.server, target, key, subprotocol))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return link.client
