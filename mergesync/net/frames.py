"""What comes on a socket, at the pace that it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mergesync.limits import Limits
from mergesync.net.channel import ChannelClosed
from mergesync.net.pace import Pace
from mergesync.net.rounds import Rounds
from mergesync.net.server_socket import ServerSocket

__all__ = ["Frames"]


class Frames:
    """What a socket says; what it sends faster than it may stays in its own memory meanwhile.

    Once it is closing, what comes is of no use, but must be got past.

    Args:
        socket: the socket.
        limits: of the server.
        rounds: of the event loop.
        received: called for each frame.
    """

    __slots__ = ("_bytes", "_closed", "_messages", "_received", "_rounds", "_socket", "_wait_seconds")

    def __init__(self, socket: ServerSocket, limits: Limits, rounds: Rounds, received: Callable[[], None]) -> None:
        now = asyncio.get_running_loop().time()
        self._socket = socket
        self._received = received
        self._rounds = rounds
        self._messages = Pace(limits.messages_per_second, limits.burst_seconds, now)
        self._bytes = Pace(limits.bytes_per_second, limits.burst_seconds, now)
        self._wait_seconds = 0.0
        self._closed: tuple[int, str] | None = None  # not the error, which would keep all that has seen it

    def check_open(self) -> None:
        """Nothing, as long as nobody has found it closed; raises ChannelClosed."""
        if self._closed is not None:
            raise ChannelClosed(*self._closed)

    async def next(self) -> str:
        """The next frame; raises ChannelClosed."""
        self.check_open()
        if self._wait_seconds:
            await asyncio.sleep(self._wait_seconds)
        socket = self._socket
        try:
            while True:
                frame = await socket.channel.receive()
                if not self._rounds.goes_on():
                    await self._rounds.wait()
                if not (socket.closing or socket.condemned):
                    break
        except ChannelClosed as closed:
            self._closed = closed.code, closed.reason
            raise
        self._received()
        now = socket.heard_at = asyncio.get_running_loop().time()
        self._wait_seconds = max(self._messages.wait_seconds(1, now), self._bytes.wait_seconds(len(frame), now))
        return frame
