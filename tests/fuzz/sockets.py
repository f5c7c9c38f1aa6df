"""Bytes that are no handshakes, no frames or no text, on real sockets of a real server."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from mergesync import MergeableStore, MergesyncError, create_ws_server
from tests.support import eventually, within
from tests.unit.net.kit import raw, url_of

from .frames import Frames

__all__ = ["run_sockets"]

_REQUEST: Final = (
    b"GET /p HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def run_sockets(seed: int, count: int) -> None:
    """Open sockets one after another, each with bytes of its own; an honest client is served in the end."""
    random, errors = Random(seed), list[Exception]()
    frames = Frames(random, MergeableStore())
    async with (
        create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as honest,
    ):
        for _ in range(count):
            await _attack(server.port, random, frames)
        await eventually(lambda: server.get_stats().connections == 1)
        await honest.send('S\n["r",7,{}]')
        while not str(await within(honest.recv())).startswith('S\n["r",0,'):
            pass
    assert all(isinstance(error, MergesyncError) for error in errors), errors


async def _attack(port: int, random: Random, frames: Frames) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = bytearray(_REQUEST)
    if random.random() < 0.4:
        for _ in range(random.randrange(1, 4)):
            request[random.randrange(len(request))] = random.randrange(256)
    writer.write(request[: random.choice([len(request), random.randrange(len(request))])])
    for _ in range(random.randrange(10)):
        text = frames.frame([], ["x"], multiplexed=False).encode("utf-8", "surrogatepass")
        writer.write(_masked(random, text[: random.choice([125, 1000])]))
    if random.random() < 0.5:
        writer.write(random.randbytes(random.randrange(100)))
    if random.random() < 0.5:
        writer.transport.abort()
    else:
        writer.write_eof()
        await within(reader.read())
        writer.close()


def _masked(random: Random, payload: bytes) -> bytes:
    """A WebSocket frame of a client, mostly whole."""
    first = random.choice(
        [0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xC1, 0x83, random.randrange(256)]
    )
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + (size & 0xFFFF).to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload
