"""A relay between clients and a server that counts what passes: bytes of WebSocket frames, and messages.

    python -m benchmarks.proxy PORT

Heads of frames count, the HTTP before them and pings do not. It can cut its links, and say when the last one was made.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

from benchmarks.worker import serve_tasks

__all__ = ["FrameCounter"]

_CONTROL: Final = 0x08
_FINAL: Final = 0x80
_MASKED: Final = 0x80


class FrameCounter:
    """Counts the frames in one direction of a connection.

    Attributes:
        frame_bytes: of whole frames, without controls.
        messages: that ended.
    """

    def __init__(self) -> None:
        self.frame_bytes = 0
        self.messages = 0
        self._head = bytearray()
        self._in_http = True
        self._left = 0

    def feed(self, data: bytes) -> None:
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
        if self._in_http:
            if self._head.endswith(b"\r\n\r\n"):
                self._in_http = False
                self._head.clear()
        elif (size := _frame_size(self._head)) is not None:
            head_size, body_size = size
            if not self._head[0] & _CONTROL:
                self.frame_bytes += head_size + body_size
                self.messages += bool(self._head[0] & _FINAL)
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

    async def link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A client has connected."""
        self._accepted_at = time.monotonic()
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port)
        up, down = FrameCounter(), FrameCounter()
        self._up.append(up)
        self._down.append(down)
        pair = {writer, server_writer}
        self._links |= pair
        await asyncio.gather(
            self._pump(reader, server_writer, up), self._pump(server_reader, writer, down), return_exceptions=True
        )
        self._links -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: FrameCounter) -> None:
        try:
            while data := await reader.read(1 << 18):
                writer.write(data)
                counter.feed(data)
                await writer.drain()
        finally:
            writer.close()

    def cut(self) -> None:
        """Drop all connections, and forget what was counted."""
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

    async def start(self) -> dict[str, Any]:
        """Listen on any port."""
        self._server = await asyncio.start_server(self.link, "127.0.0.1", 0)
        return {"port": self._server.sockets[0].getsockname()[1]}


def main() -> None:
    """Relay until nobody asks any more."""
    proxy = _Proxy(int(sys.argv[1]))
    serve_tasks({}, {"start": proxy.start, "cut": proxy.cut, "counts": proxy.counts})


if __name__ == "__main__":
    main()
