"""One duplex text channel, whatever carries it: `websockets`, or an ASGI server such as uvicorn."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.connection import Connection, broadcast
from websockets.exceptions import ConnectionClosed, ProtocolError
from websockets.frames import Close
from websockets.protocol import Side, State

from mergesync.limits import CLOSE_TIMEOUT_SECONDS
from mergesync.net.whole_frames import text_frame
from mergesync.store.jsjson import utf8

__all__ = [
    "AsgiChannel",
    "AsgiReceive",
    "AsgiScope",
    "AsgiSend",
    "ChannelClosed",
    "TextChannel",
    "WebsocketsChannel",
    "asgi_headers",
    "check_close",
    "close_reason",
    "headers_of",
    "post_to_all",
    "wait_while_open",
]

AsgiScope: TypeAlias = MutableMapping[str, Any]
AsgiReceive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiSend: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_NO_CLOSE_FRAME = 1006
_MAX_CLOSE_REASON_BYTES = 123


class ChannelClosed(Exception):  # noqa: N818 - an event rather than an error
    """The channel is closed.

    Attributes:
        code: the code of the first close frame, from whichever side; 1006 if there was none.
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
    """Of the HTTP request, by lower-case name."""

    async def receive(self) -> str:
        """The next text; raises ChannelClosed."""

    def post(self, text: str) -> None:
        """Send a text after those posted before; never waits. Lost if the channel is closed."""

    async def wait_closed(self) -> None:
        """Return when it is known to be closed, though nobody receives; that may never be known."""

    @property
    def queued_bytes(self) -> int:
        """What was posted and has not left yet."""

    async def close(self, code: int, reason: str) -> None:
        """Send what was posted, and close; returns when it is closed, within `CLOSE_TIMEOUT_SECONDS`.

        Somebody must go on receiving meanwhile, or what still comes keeps the other side's close frame back.
        """


def headers_of(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name; of a name that comes more than once, all values with commas between them."""
    headers: dict[str, str] = {}
    for name, value in items:
        name = sys.intern(name.lower())  # the same ones come with every socket
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def check_close(code: int, reason: str) -> None:
    """See to it that a close frame can carry a code and a reason.

    Raises:
        ValueError: it cannot.
    """
    try:
        Close(code, reason).check()
    except ProtocolError as error:
        raise ValueError(f"not a close code for an application: {code}") from error
    if len(utf8(reason)) > _MAX_CLOSE_REASON_BYTES:
        raise ValueError(f"a close reason of more than {_MAX_CLOSE_REASON_BYTES} bytes")


def close_reason(text: str) -> str:
    """A text, cut so that a close frame can carry it."""
    return utf8(text)[:_MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


def post_to_all(channels: Iterable[TextChannel], texts: Sequence[str]) -> None:
    """Post texts to several channels: for all `websockets` connections they are encoded once, and written at once.

    A system call for each of them is what bounds how many are delivered.
    """
    encoded: bytes | None = None
    for channel in channels:
        if isinstance(channel, WebsocketsChannel) and channel.takes_frames:
            if encoded is None:
                encoded = b"".join([text_frame(utf8(text)) for text in texts])
            channel.write(encoded)
        else:
            for text in texts:
                channel.post(text)


def asgi_headers(scope: AsgiScope) -> dict[str, str]:
    """The headers of an ASGI request."""
    return headers_of((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope.get("headers", ()))


class WebsocketsChannel:
    """A channel over a connection of the `websockets` library.

    What is posted goes to the transport at once, so the transport's buffer is the only queue.

    Attributes:
        takes_frames: whether a frame is the same bytes for any such channel, as it is neither masked nor compressed.
    """

    __slots__ = ("_protocol", "_transport", "connection", "headers", "remote_address", "takes_frames")

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self.remote_address: Any = connection.remote_address
        request = connection.request
        self.headers: Mapping[str, str] = headers_of(() if request is None else request.headers.raw_items())
        self._protocol = connection.protocol
        self._transport = connection.transport
        self.takes_frames: bool = connection.protocol.side is Side.SERVER and not connection.protocol.extensions

    async def receive(self) -> str:
        """The next text; a binary frame is read as UTF-8, as the peer does."""
        try:
            data = await self.connection.recv()
        except ConnectionClosed as closed:
            first = closed.rcvd if closed.sent is None or closed.rcvd_then_sent else closed.sent
            if first is None:
                raise ChannelClosed(_NO_CLOSE_FRAME, "") from None
            raise ChannelClosed(first.code, first.reason) from None
        return data if isinstance(data, str) else data.decode("utf-8", "replace")

    def post(self, text: str) -> None:
        """Write to the transport."""
        try:
            broadcast((self.connection,), text)
        except UnicodeEncodeError:  # a lone surrogate, noticed before anything was sent
            broadcast((self.connection,), utf8(text).decode())

    def write(self, frames: bytes) -> None:
        """Write frames to the transport as they are."""
        if self._protocol.state is State.OPEN and not self._transport.is_closing():
            self._transport.write(frames)

    async def wait_closed(self) -> None:
        """Return when the connection is closed."""
        await self.connection.wait_closed()

    @property
    def queued_bytes(self) -> int:
        """The transport's buffer."""
        return self._transport.get_write_buffer_size()

    async def close(self, code: int, reason: str) -> None:
        """Close with a code; a peer that does not take part is cut off."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self.connection.close(code, reason)
        except TimeoutError:  # the library's own time-out does not run while its buffer is full
            pass
        finally:
            if self.connection.state is not State.CLOSED:
                self.connection.transport.abort()
        await self.connection.wait_closed()


class AsgiChannel:
    """A channel over an accepted ASGI WebSocket. ASGI can only be awaited, so a task sends what was posted."""

    def __init__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        self.remote_address: Any = scope.get("client")
        self.headers: Mapping[str, str] = asgi_headers(scope)
        self._receive = receive
        self._send = send
        self._queue: deque[tuple[str, int]] = deque()
        self._queued_bytes = 0
        self._posted = asyncio.Event()
        self._closing = False
        self._gone = False
        self._sender = asyncio.create_task(self._send_posted())

    async def receive(self) -> str:
        """The next text; bytes are read as UTF-8."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._lose()
                raise ChannelClosed(message.get("code") or _NO_CLOSE_FRAME, message.get("reason") or "")
            if message["type"] == "websocket.receive":
                text = message.get("text")
                return text if isinstance(text, str) else bytes(message.get("bytes") or b"").decode("utf-8", "replace")

    def post(self, text: str) -> None:
        """Queue for the sending task."""
        if not self._closing and not self._gone:
            encoded = utf8(text)
            if len(encoded) != len(text):
                text = encoded.decode()  # without lone surrogates, which no server can send
            self._queue.append((text, len(encoded)))
            self._queued_bytes += len(encoded)
            self._posted.set()

    async def wait_closed(self) -> None:
        """Return when it is closed by us; ASGI tells only who receives."""
        await asyncio.wait([self._sender])

    @property
    def queued_bytes(self) -> int:
        """The queue of the sending task."""
        return self._queued_bytes

    async def close(self, code: int, reason: str) -> None:
        """Send what is queued, then close with a code; what cannot be sent in time is dropped."""
        self._closing = True
        self._posted.set()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await asyncio.wait([self._sender])
                if not self._gone:
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception:  # the other side does not read, or went first: the server does the rest when we return
            pass
        finally:
            self._lose()
        await asyncio.wait([self._sender])

    def _lose(self) -> None:
        """Nothing more can be sent."""
        self._gone = True
        self._sender.cancel()
        self._queue.clear()
        self._queued_bytes = 0

    async def _send_posted(self) -> None:
        while True:
            while self._queue:
                text, size = self._queue.popleft()
                try:
                    await self._send({"type": "websocket.send", "text": text})
                except Exception:  # the other side is gone; `receive` tells
                    self._gone = True
                    self._queue.clear()
                    self._queued_bytes = 0
                    return
                self._queued_bytes -= size
            if self._closing:
                return
            self._posted.clear()
            await self._posted.wait()


async def wait_while_open(channel: TextChannel, awaited: asyncio.Future[Any]) -> bool:
    """Wait for something, but not longer than until a channel is closed; whether it is done."""
    closed = asyncio.create_task(channel.wait_closed())
    try:
        await asyncio.wait([awaited, closed], return_when=asyncio.FIRST_COMPLETED)
    finally:
        closed.cancel()
    return awaited.done()
