"""The least that a Python server can do: pass on what a client says to all others, joined turn by turn.

It parses only the heads of frames, and expects masks of zeros. What it delivers is the ceiling of the load generator.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import AsyncExitStack
from typing import ClassVar, cast

from benchmarks.worker import serve_tasks

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Client(asyncio.Protocol):
    everybody: ClassVar[dict[_Client, None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not of this class
        self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.everybody.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self in self.everybody:
            self._pass_on()
        elif b"\r\n\r\n" in self._buffer:
            key = self._buffer.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self._buffer = b""
            self.everybody[self] = None

    def _pass_on(self) -> None:
        at, frames, buffer = 0, [], self._buffer
        while len(buffer) >= at + 8:
            size, head = buffer[at + 1] & 127, 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4]), 4
            begin, end = at + head + 4, at + head + 4 + size
            if len(buffer) < end:
                break
            frames.append(buffer[at : at + 1] + bytes([buffer[at + 1] & 127]) + buffer[at + 2 : at + head])
            frames.append(buffer[begin:end])
            at = end
        self._buffer = buffer[at:]
        joined = b"".join(frames)
        for client in self.everybody:
            if client is not self:
                client._transport.write(joined)


async def _start(_: AsyncExitStack) -> dict[str, int]:
    server = await asyncio.get_running_loop().create_server(_Client, "127.0.0.1", 0, backlog=2048)
    return {"port": server.sockets[0].getsockname()[1]}


if __name__ == "__main__":
    serve_tasks({}, {}, _start)
