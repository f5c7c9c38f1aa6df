"""The fuzzer as a test, over frames in memory and over bytes on real sockets; a failure says its seed."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from random import Random
from typing import Final

import pytest

from mergesync import MergeableStore, MergesyncError, create_ws_server
from tests.support import eventually, within
from tests.unit.net.kit import raw, url_of

from .frames import Frames
from .world import FRAMES_PER_RUN, run

FRAMES: Final = int(os.environ.get("MERGESYNC_FUZZ_FRAMES", "50000"))
_BATCHES: Final = 10
_SOCKETS: Final = 300
_REQUEST: Final = (
    b"GET /p HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(_BATCHES))
def test_frames(batch: int) -> None:
    """Nothing escapes, the honest stay and end equal, and nothing is kept of who is gone."""
    runs = FRAMES // FRAMES_PER_RUN // _BATCHES
    for seed in range(batch * runs, (batch + 1) * runs):
        try:
            run(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def test_what_the_fuzzer_sends() -> None:
    """It is not all refused at once, and not all harmless."""
    seen: Counter[str] = Counter()
    for seed in range(20):
        seen.update(run(seed))
    assert seen["closed 1007"] < 0.5 * seen["frames"]
    for name in ("closed 1007", "closed 1013", "RefusedChangesError", "merged"):
        assert seen[name], name


def _masked(random: Random, payload: bytes) -> bytes:
    """A WebSocket frame of a client, mostly whole."""
    first = random.choice(
        [0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xC1, 0x83, random.randrange(256)]
    )
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + (size & 0xFFFF).to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize("seed", range(3))
async def test_bytes(seed: int, errors: list[Exception]) -> None:
    """Bytes that are no handshakes, no frames or no text: whoever sends them is cut off, others are served."""
    random = Random(seed)
    frames = Frames(random, MergeableStore())
    async with (
        create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as honest,
    ):
        for _ in range(_SOCKETS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
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
        await eventually(lambda: server.get_stats().connections == 1)
        await honest.send('S\n["r",7,{}]')
        while not str(await within(honest.recv())).startswith('S\n["r",0,'):
            pass
    assert all(isinstance(error, MergesyncError) for error in errors), errors
