"""One duplex text channel, whatever carries it: `websockets`, or an ASGI server such as uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.connection import Connection, broadcast
from websockets.exceptions import ConnectionClosed

from mergesync.store.jsjson import utf8

__all__ = [
    "AsgiChannel",
    "AsgiReceive",
    "AsgiScope",
    "AsgiSend",
    "ChannelClosed",
    "TextChannel",
    "WebsocketsChannel",
    "post_to_all",
]

AsgiScope: TypeAlias = MutableMapping[str, Any]
AsgiReceive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiSend: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ChannelClosed(Exception):  # noqa: N818 - an event rather than an error
    """The other side is gone.

    Attributes:
        code: the close code, 1006 if there was none.
        reason: the close reason.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class TextChannel(Protocol):
    """What the shells need of a socket."""

    remote_address: Any
    headers: Mapping[str, str]

    async def receive(self) -> str:
        """The next text; raises ChannelClosed."""

    def post(self, text: str) -> None:
        """Send a text after those posted before; never waits. Lost if the channel is closed."""

    @property
    def queued_bytes(self) -> int:
        """What was posted and has not left yet."""

    async def close(self, code: int, reason: str) -> None:
        """Send what was posted, and close; returns when it is closed."""


def post_to_all(channels: Iterable[TextChannel], text: str) -> None:
    """Post one text to several channels; it is encoded once for all `websockets` connections."""
    connections = []
    for channel in channels:
        if isinstance(channel, WebsocketsChannel):
            connections.append(channel.connection)
        else:
            channel.post(text)
    broadcast(connections, utf8(text), text=True)


class WebsocketsChannel:
    """A channel over a connection of the `websockets` library.

    What is posted goes to the transport at once, so the transport's buffer is the only queue.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.remote_address: Any = connection.remote_address
        request = connection.request
        self.headers: Mapping[str, str] = {} if request is None else dict(request.headers.raw_items())

    async def receive(self) -> str:
        """The next text; a binary frame is read as UTF-8, as the peer does."""
        try:
            data = await self.connection.recv()
        except ConnectionClosed:
            raise ChannelClosed(self.connection.close_code or 1006, self.connection.close_reason or "") from None
        return data if isinstance(data, str) else data.decode("utf-8", "replace")

    def post(self, text: str) -> None:
        """Write to the transport."""
        broadcast((self.connection,), utf8(text), text=True)

    @property
    def queued_bytes(self) -> int:
        """The transport's buffer."""
        return self.connection.transport.get_write_buffer_size()

    async def close(self, code: int, reason: str) -> None:
        """Close with a code."""
        await self.connection.close(code, reason)


class AsgiChannel:
    """A channel over an accepted ASGI WebSocket. ASGI can only be awaited, so a task sends what was posted."""

    def __init__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        self.remote_address: Any = scope.get("client")
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())
        }
        self._receive = receive
        self._send = send
        self._queue: deque[tuple[str, int]] = deque()
        self._queued_bytes = 0
        self._posted = asyncio.Event()
        self._closed = asyncio.Event()
        self._sender = asyncio.create_task(self._send_posted())

    async def receive(self) -> str:
        """The next text; bytes are read as UTF-8."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._closed.set()
                self._sender.cancel()
                raise ChannelClosed(message.get("code") or 1006, message.get("reason") or "")
            if message["type"] == "websocket.receive":
                text = message.get("text")
                return text if isinstance(text, str) else bytes(message.get("bytes") or b"").decode("utf-8", "replace")

    def post(self, text: str) -> None:
        """Queue for the sending task."""
        if not self._closed.is_set():
            size = len(utf8(text))
            self._queue.append((text, size))
            self._queued_bytes += size
            self._posted.set()

    @property
    def queued_bytes(self) -> int:
        """The queue of the sending task."""
        return self._queued_bytes

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued, then close with a code."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._posted.set()
        await asyncio.gather(self._sender, return_exceptions=True)
        with contextlib.suppress(Exception):  # the other side may have gone first; then there is nothing to close
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send_posted(self) -> None:
        while True:
            while self._queue:
                text, size = self._queue[0]
                try:
                    await self._send({"type": "websocket.send", "text": text})
                except Exception:  # the other side is gone; `receive` tells
                    self._closed.set()
                    return
                self._queue.popleft()
                self._queued_bytes -= size
            if self._closed.is_set():
                return
            self._posted.clear()
            await self._posted.wait()
