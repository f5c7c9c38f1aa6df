"""Links in memory between clients and servers, with everything that can happen to a link."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

from mergesync.net.channel import ChannelClosed

__all__ = ["Link", "Listening", "Network", "SimulatedChannel"]

_DEAD_AFTER_SECONDS = 40.0
"""When the pings of both ends find out that nobody is there (the `websockets` library: 20 s and 20 s)."""


class Listening(Protocol):
    """A server that listens."""

    async def receive(self, name: str, target: str, headers: Mapping[str, str], subprotocol: str | None) -> Any:
        """Let somebody in who asks for a socket; raises what a client then hears."""

    async def serve(self, channel: SimulatedChannel, visitor: Any) -> None:
        """Serve the socket of one that was let in."""


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
            self._link.network.on_post(self._link, self, text)
            self._queued_bytes += len(text)
            self._link.send(self.other, lambda: self._deliver(text))

    def _deliver(self, text: str) -> None:
        self._queued_bytes -= len(text)
        if self.other._closed is None:
            self._link.network.frames += 1
            self._link.network.on_frame(self._link, self, text)
            self.other._inbox.append(text)
            self.other._arrived.set()

    @property
    def is_open(self) -> bool:
        """Whether this end is not closed."""
        return self._closed is None

    @property
    def close_code(self) -> int | None:
        """What this end was closed with; None while it is open."""
        return None if self._closed is None else self._closed.code

    @property
    def close_reason(self) -> str | None:
        """Likewise, why."""
        return None if self._closed is None else self._closed.reason

    @property
    def is_delayed(self) -> bool:
        """Whether what was sent by this end may not have arrived yet."""
        return self._queued_bytes > 0 or bool(self._link.deaf_ends)

    @property
    def queued_bytes(self) -> int:
        """What is under way."""
        return self._queued_bytes

    async def wait_closed(self) -> None:
        """Nobody here takes a time to decide."""
        await asyncio.Event().wait()

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

    def __init__(self, network: Network, client_name: str, key: str, subprotocol: str | None) -> None:
        self.network = network
        self.key = key
        self.client_name = client_name
        self.client = SimulatedChannel(self, "server", subprotocol)
        self.server = SimulatedChannel(self, client_name, subprotocol)
        self.client.other, self.server.other = self.server, self.client
        self.latency_seconds = network.random.choice(
            (0.0005, 0.002) if network.is_calm else (0.0005, 0.002, 0.01, 0.05)
        )
        self._stalled_until = 0.0
        self.deaf_ends: set[SimulatedChannel] = set()

    @property
    def open(self) -> bool:
        """Whether neither end is closed."""
        return self.client._closed is None and self.server._closed is None

    @property
    def is_troubled(self) -> bool:
        """Whether something is wrong with it: it is deaf, stalled, or was cut."""
        return bool(self.deaf_ends) or self._stalled_until > asyncio.get_running_loop().time()

    def send(self, target: SimulatedChannel, arrive: Callable[[], None]) -> None:
        """Let something arrive at an end, after everything sent there before."""
        loop = asyncio.get_running_loop()
        jitter = self.network.random.random() * self.latency_seconds
        after_the_last = math.nextafter(target._next_arrival, math.inf)  # the loop keeps no order among equal times
        when = max(loop.time() + self.latency_seconds + jitter, self._stalled_until, after_the_last)
        target._next_arrival = when

        def arrive_unless_deaf() -> None:
            if target not in self.deaf_ends:
                arrive()

        loop.call_at(when, arrive_unless_deaf)

    def cut(self) -> None:
        """The link breaks; what is under way is lost."""
        self.deaf_ends = {self.client, self.server}
        self.client.closed(1006, "")
        self.server.closed(1006, "")

    def go_deaf(self, ends: set[SimulatedChannel]) -> None:
        """Nothing arrives any more at one end or both, and nobody is told until the pings find out."""
        if not self.deaf_ends:
            asyncio.get_running_loop().call_later(_DEAD_AFTER_SECONDS, self.cut)
        self.deaf_ends |= ends

    def stall(self, seconds: float) -> None:
        """What is sent from now on arrives only after this."""
        self._stalled_until = max(self._stalled_until, asyncio.get_running_loop().time() + seconds)


class Network:
    """All links, and who can be reached.

    Args:
        random: draws latencies.
        on_frame: told of every frame that arrives: `(link, sending end, text)`.
        on_post: told of every frame that is sent, likewise.

    Attributes:
        listening: the server that can be reached; None for none.
        unreachable: clients that reach nobody.
        links: those that are open, and some that were.
        connecting: clients that are about to connect.
        is_calm: whether links that are made now are quick.
        frames: how many have arrived.
    """

    def __init__(
        self,
        random: Random,
        on_frame: Callable[[Link, SimulatedChannel, str], None],
        on_post: Callable[[Link, SimulatedChannel, str], None],
    ) -> None:
        self.random = random
        self.on_frame = on_frame
        self.on_post = on_post
        self.listening: Listening | None = None
        self.unreachable: set[str] = set()
        self.links: list[Link] = []
        self.connecting: set[str] = set()
        self.is_calm = False
        self.frames = 0
        self._keys = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(
        self, client_name: str, target: str, subprotocol: str | None, headers: Mapping[str, str] | None = None
    ) -> SimulatedChannel:
        """Connect a client; raises OSError where no server can be reached, or what the server refuses it with."""
        self.connecting.add(client_name)
        try:
            await asyncio.sleep(0.001 + self.random.random() * 0.01)
            listening = self._reached_by(client_name)
            self._keys += 1
            key = f"{self._keys:021d}A=="
            visitor = await listening.receive(
                client_name, target, {"sec-websocket-key": key, **(headers or {})}, subprotocol
            )
            if self._reached_by(client_name) is not listening:
                raise ConnectionResetError("simulated")
        finally:
            self.connecting.discard(client_name)
        link = Link(self, client_name, key, subprotocol)
        self.links = [other for other in self.links if other.client.is_open or other.server.is_open]
        self.links.append(link)
        task = asyncio.ensure_future(listening.serve(link.server, visitor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return link.client

    def _reached_by(self, client_name: str) -> Listening:
        if self.listening is None or client_name.partition(".")[0] in self.unreachable:
            raise ConnectionRefusedError("simulated")
        return self.listening
