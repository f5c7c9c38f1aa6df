"""A relay between clients and a server that counts what passes: bytes of WebSocket frames, and messages.

    python -m benchmarks.proxy PORT

Heads of frames count, the HTTP before them and pings do not. It can cut its links, and say when the last one was made.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.worker import serve_tasks

__all__ = ["FrameCounter"]

_CONTROL: Final = 0x08
_CLOSE: Final = 0x08
_KIND: Final = 0x0F
_FINAL: Final = 0x80
_MASKED: Final = 0x80


class FrameCounter:
    """Counts the frames in one direction of a connection.

    Args:
        in_http: whether an HTTP message comes first.

    Attributes:
        frame_bytes: of whole frames, without controls.
        messages: that ended.
        closed: whether one of the frames closes the connection.
        in_http: whether the HTTP message is not over yet.
    """

    def __init__(self, *, in_http: bool = True) -> None:
        self.frame_bytes = 0
        self.messages = 0
        self.closed = False
        self._head = bytearray()
        self.in_http = in_http
        self._left = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take what passes."""
        view = memoryview(data)
        while view:
            if self._left:
                skipped = min(self._left, len(view))
                self._left -= skipped
            else:
                skipped = self._feed_head(view)
            view = view[skipped:]

    def _feed_head(self, view: memoryview) -> int:
        self._head += view[:1]
        if self.in_http:
            if self._head.endswith(b"\r\n\r\n"):
                self.in_http = False
                self._head.clear()
        elif (size := _frame_size(self._head)) is not None:
            head_size, body_size = size
            if not self._head[0] & _CONTROL:
                self.frame_bytes += head_size + body_size
                self.messages += bool(self._head[0] & _FINAL)
            self.closed |= self._head[0] & _KIND == _CLOSE
            self._left = body_size
            self._head.clear()
        return 1


def _frame_size(head: bytearray) -> tuple[int, int] | None:
    """Bytes of the head and of the rest of a frame, once the head is there."""
    if len(head) < 2:
        return None
    length = head[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    head_size = 2 + extended + (4 if head[1] & _MASKED else 0)
    if len(head) < head_size:
        return None
    return head_size, int.from_bytes(head[2 : 2 + extended]) if extended else length


class _Proxy:
    def __init__(self, port: int) -> None:
        self._port = port
        self._links: set[asyncio.StreamWriter] = set()
        self._up: list[FrameCounter] = []
        self._down: list[FrameCounter] = []
        self._accepted_at = 0.0
        self._script: list[tuple[int, bytes]] = []
        self._server: asyncio.Server | None = None
        self._listens_at = 0

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected."""
        self._accepted_at = time.monotonic()
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        up, down = FrameCounter(), FrameCounter()
        self._script = []
        self._up.append(up)
        self._down.append(down)
        pair = {writer, server_writer}
        self._links |= pair
        await asyncio.gather(
            self._pump(reader, server_writer, up, lambda data: self._script.append((down.messages, data))),
            self._pump(server_reader, writer, down, lambda _: None),
            return_exceptions=True,
        )
        self._links -= pair

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        counter: FrameCounter,
        note: Callable[[bytes], None],
    ) -> None:
        try:
            while data := await reader.read(1 << 18):
                note(data)
                writer.write(data)
                counter.feed(data)
                await writer.drain()
        finally:
            writer.close()

    def cut(self) -> None:
        """Drop all connections, accept no others, and forget what was counted."""
        assert self._server is not None
        self._server.close()
        for writer in self._links:
            writer.transport.abort()
        self._up, self._down = [], []

    def counts(self) -> dict[str, Any]:
        """What has passed since the last cut, and when the last client came."""
        return {
            "up_bytes": sum(each.frame_bytes for each in self._up),
            "down_bytes": sum(each.frame_bytes for each in self._down),
            "up_messages": sum(each.messages for each in self._up),
            "down_messages": sum(each.messages for each in self._down),
            "accepted_at": self._accepted_at,
        }

    def script(self) -> dict[str, Any]:
        """What the last client has said, HTTP first: how many messages it had got before, and the bytes in base64."""
        return {"script": [(after, base64.b64encode(data).decode()) for after, data in self._script]}

    async def start(self) -> dict[str, Any]:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self.link, "127.0.0.1", self._listens_at)
        self._listens_at = self._server.sockets[0].getsockname()[1]
        return {"port": self._listens_at}


def main() -> None:
    """Relay until nobody asks any more."""
    proxy = _Proxy(int(sys.argv[1]))
    serve_tasks({}, {"start": proxy.start, "cut": proxy.cut, "counts": proxy.counts, "script": proxy.script})


if __name__ == "__main__":
    main()
