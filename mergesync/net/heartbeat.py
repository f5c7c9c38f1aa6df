"""Sockets of which it is found out in time that nobody is there any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode

from mergesync.net.whole_frames import whole_texts

__all__ = ["HeartbeatConnection"]


class HeartbeatConnection(ServerConnection):
    """A connection that is cut off as soon as a ping is not answered.

    The library begins a closing handshake then, and waits some seconds more for who is dead.
    """

    async def keepalive(self) -> None:
        """Ping for ever; the library cancels this when the connection is lost."""
        assert self.ping_interval is not None
        latency = 0.0
        with suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(self.ping_interval - latency)
                pong = await self.ping()
                try:
                    async with asyncio.timeout(self.ping_timeout):
                        latency = await pong
                except TimeoutError:
                    self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                    self.send_data()  # if it only is slow, it hears why
                    self.transport.abort()
                    return

    def data_received(self, data: bytes) -> None:
        """Take what has come: what nearly all of it is, short texts that came whole, without the library's parser."""
        texts, rest = whole_texts(self.protocol, data)
        for text in texts:
            self.recv_messages.put(Frame(Opcode.TEXT, text))
        if rest:
            super().data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end, and leave no cycles behind: a connection that is over is freed at once.

        Its garbage would make the collector, which nothing can interrupt, come sooner and take longer. The library's
        parser keeps the error that ended it, and so its own frames; what chooses a subprotocol keeps the connection.
        """
        super().connection_lost(exc)
        if self.protocol.parser_exc is not None:
            self.protocol.parser_exc.__traceback__ = None
        vars(self.protocol).pop("select_subprotocol", None)
