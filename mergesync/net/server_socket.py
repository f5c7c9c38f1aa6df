"""A socket of a client at the server, its protocol state, what waits for it, and its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple, TypeAlias

from mergesync.net.channel import TextChannel, wait_while_open
from mergesync.net.gateway import GatewayConnection
from mergesync.net.hooks import LeaveReason
from mergesync.net.reception import Visitor
from mergesync.net.service import Answer
from mergesync.net.turns import Turns
from mergesync.rooms.access import Client, ClientInfo
from mergesync.sync.server_connection import ServerConnection

__all__ = ["Connection", "Question", "ServerSocket"]

Connection: TypeAlias = ServerConnection | GatewayConnection
"""What is said on a socket."""


class Question(NamedTuple):
    """What a client has asked: on which path, and in how many characters."""

    path_id: str
    size: int


class ServerSocket:
    """A socket, its protocol state, and its end.

    Args:
        channel: the socket.
        connection: what is said on it.
        visitor: whose it is.

    Attributes:
        channel, connection, visitor: see above.
        clients: the client on each path that it is let onto.
        why: it is no longer on its paths.
        turns: callbacks of the application to wait for before more is read.
        expiry: rings when the identity expires.
        silence: rings when the client may have said nothing for too long.
        heard_at: when it has said something, in seconds of the loop.
        renewal: of the identity, to wait for likewise.
        serving: entered while the socket is served, so that closing ends that.
        condemned: whether it is about to be closed for a fault.
        unanswered: what it has asked, by how it will be answered.
    """

    __slots__ = (
        "_closing", "channel", "clients", "condemned", "connection", "expiry", "heard_at", "renewal", "serving",
        "silence", "turns", "unanswered", "visitor", "why",
    )  # fmt: skip

    def __init__(self, channel: TextChannel, connection: Connection, visitor: Visitor) -> None:
        self.channel: TextChannel = channel
        self.connection: Connection = connection
        self.visitor: Visitor = visitor
        self.clients: dict[str, Client] = {}
        self.why: LeaveReason = "left"
        self.turns: Turns | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.silence: asyncio.TimerHandle | None = None
        self.heard_at: float = asyncio.get_running_loop().time()
        self.renewal: asyncio.Task[None] | None = None
        self.serving: asyncio.Timeout = asyncio.timeout(None)
        self.condemned: bool = False
        self.unanswered: dict[Answer, Question] = {}
        self._closing: asyncio.Task[None] | None = None

    @property
    def info(self) -> ClientInfo:
        """What is known of the client."""
        return self.visitor.info

    @property
    def unanswered_size(self) -> int:
        """Characters of what it has asked and is not answered yet."""
        return sum(question.size for question in self.unanswered.values())

    @property
    def closing(self) -> bool:
        """Whether it is being closed; nothing more is read of it or sent to it."""
        return self._closing is not None

    def close(self, code: int, reason: str, why: LeaveReason) -> None:
        """Leave all paths, and begin to close; the first code given counts."""
        if self._closing is None:
            self.why = why
            self._closing = asyncio.create_task(self._close(code, reason))
            self.connection.close()

    async def _close(self, code: int, reason: str) -> None:
        await self.channel.close(code, reason)
        # The callback of the application may hang, and not every ASGI server tells when a socket is closed by us.
        with contextlib.suppress(RuntimeError):  # it is served no more
            self.serving.reschedule(asyncio.get_running_loop().time())

    async def caught_up(self) -> None:
        """Return when the application has decided of what the client has said, or the socket is closed."""
        if self.turns is not None:
            settled, self.turns = asyncio.ensure_future(self.turns.settled()), None
            try:
                await wait_while_open(self.channel, settled)
            finally:
                settled.cancel()
        if self.renewal is not None and not self.renewal.done():
            await wait_while_open(self.channel, self.renewal)

    def let_go(self) -> None:
        """It is closed."""
        for timer in (self.expiry, self.silence):
            if timer is not None:
                timer.cancel()
        if self.renewal is not None:
            self.renewal.cancel()

    async def wait_closed(self) -> None:
        """Return when it is closed; if that is cancelled, it is cut off."""
        if self._closing is not None:
            try:
                await asyncio.wait([self._closing])
            finally:
                self._closing.cancel()
