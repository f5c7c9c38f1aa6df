"""The WebSocket layer of a server, frame by frame, in the groups of the Autobahn test suite.

A case sends raw bytes after the handshake. The connection either goes on, which a question and its answer show, or is
closed with a code of RFC 6455. Messages of any length are questions with spaces at their end, which JSON allows.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest

from mergesync import create_ws_server
from mergesync.net.listening import ListeningWsServer
from tests.support import within

pytestmark = pytest.mark.usefixtures("leftovers")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK: Final = b"\x01\x80\xff\x5a"
QUESTION: Final = b'S\n["r",1,""]'
HANDSHAKE: Final = (
    b"GET /p HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, mask: bytes | None = MASK
) -> bytes:
    """The bytes of a frame, as a client sends it, well-formed or not."""
    head = bytes([fin << 7 | reserved << 4 | opcode])
    length, masked = len(payload), (mask is not None) << 7
    if length < 126:
        head += bytes([masked | length])
    elif length < 65536:
        head += bytes([masked | 126]) + struct.pack("!H", length)
    else:
        head += bytes([masked | 127]) + struct.pack("!Q", length)
    if mask is None:
        return head + payload
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


def question(length: int = len(QUESTION), key: str = "r") -> bytes:
    """A question of so many bytes."""
    return QUESTION.replace(b"r", key.encode()).ljust(length)


def fragments(opcode: int, *parts: bytes) -> list[bytes]:
    """The frames of a message in parts."""
    last = len(parts) - 1
    return [frame(opcode if n == 0 else CONTINUATION, part, fin=n == last) for n, part in enumerate(parts)]


def pieces(data: bytes, size: int) -> list[bytes]:
    """Bytes, cut."""
    return [data[at : at + size] for at in range(0, len(data), size)]


class Raw:
    """A socket after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, chunks: Iterable[bytes], *, apart: bool = False) -> None:
        """Send bytes, each chunk in a segment of its own if `apart`."""
        try:
            for chunk in chunks:
                self._writer.write(chunk)
                if apart:
                    await self._writer.drain()
                    await asyncio.sleep(0)
            await self._writer.drain()
        except ConnectionError:  # it has been closed, and what it was told says why
            pass

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        first, second = await self._reader.readexactly(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
        assert (first & 0x70, second & 128) == (0, 0), "a reserved bit, or a mask of the server"
        return first & 15, await self._reader.readexactly(length)

    async def code(self) -> int | None:
        """With what code the server closes, letting go of the socket then; what comes before is passed over."""
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                await self.send([frame(CLOSE, payload)])
                assert await self._reader.read() == b""
                return struct.unpack("!H", payload[:2])[0] if payload else None

    async def answers(self, *keys: str) -> None:
        """The next frames are the answers to these questions, with no frames between them."""
        for key in keys:
            opcode, payload = await self.receive()
            while opcode == TEXT and b',1,""]' in payload:  # the server's own question
                opcode, payload = await self.receive()
            assert opcode == TEXT
            assert payload.startswith(f'S\n["{key}",0,'.encode())

    async def pong(self, payload: bytes) -> None:
        """The next frame is this pong."""
        assert await self.receive() == (PONG, payload)


@asynccontextmanager
async def connected(server: ListeningWsServer) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(HANDSHAKE)
    head = await within(reader.readuntil(b"\r\n\r\n"))
    assert head.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in head.lower(), "compression is off by default"
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def errors() -> list[Exception]:
    return []


@pytest.fixture
async def socket(errors: list[Exception]) -> AsyncIterator[Raw]:
    """Of a server; afterwards the server still serves others."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        async with connected(server) as socket:
            yield socket
        async with connected(server) as other:
            await other.send([frame(TEXT, question())])
            await within(other.answers("r"))


# --- 1, 9: lengths

LENGTHS: Final = [12, 125, 126, 127, 128, 65535, 65536, 4 * 2**20]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", LENGTHS)
async def test_lengths(length: int, opcode: int, socket: Raw) -> None:
    """Messages of all forms of length are read; binary ones as UTF-8, as the peer does."""
    await socket.send([frame(opcode, question(length))])
    await within(socket.answers("r"))


@pytest.mark.parametrize("size", [1, 997])
async def test_in_small_segments(size: int, socket: Raw) -> None:
    """However the bytes arrive."""
    await socket.send(pieces(frame(TEXT, question(900 * size)), size), apart=True)
    await within(socket.answers("r"))


@pytest.mark.parametrize("size", [64, 4096, 2**18])
async def test_large_messages_in_fragments(size: int, socket: Raw) -> None:
    """A long message in frames of any length."""
    await socket.send(fragments(TEXT, *pieces(question(size * 256 if size < 4096 else 4 * 2**20), size)))
    await within(socket.answers("r"))


# --- 2: pings and pongs


@pytest.mark.parametrize("payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
async def test_pings(payload: bytes, socket: Raw) -> None:
    """Each gets its pong, before what follows is answered, also if it arrives byte by byte."""
    await socket.send([frame(PING, payload), frame(TEXT, question())])
    await within(socket.pong(payload))
    await within(socket.answers("r"))
    await socket.send(pieces(frame(PING, payload), 1), apart=True)
    await within(socket.pong(payload))


async def test_many_pings(socket: Raw) -> None:
    """Their pongs come in order."""
    await socket.send(frame(PING, b"payload-%d" % number) for number in range(10))
    for number in range(10):
        await within(socket.pong(b"payload-%d" % number))


async def test_pongs_nobody_asked_for(socket: Raw) -> None:
    """Are passed over."""
    await socket.send([frame(PONG), frame(PONG, b"unasked"), frame(PING, b"p"), frame(PONG), frame(TEXT, question())])
    await within(socket.pong(b"p"))
    await within(socket.answers("r"))


# --- 3, 4, 10: what no frame may be

FAULTY: Final[dict[str, Sequence[bytes]]] = {
    **{
        f"reserved bits {bits} of {opcode}": [frame(opcode, reserved=bits)]
        for bits in range(1, 8)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    },
    **{f"opcode {opcode}": [frame(opcode, b"x")] for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"opcode {opcode} in fragments": fragments(opcode, b"x", b"y") for opcode in (3, 7, 11, 15)},
    **{f"fragmented {opcode}": fragments(opcode, b"x", b"y") for opcode in (CLOSE, PING, PONG)},
    **{f"126 bytes in {opcode}": [frame(opcode, b"\x03\xe8" + b"x" * 124)] for opcode in (CLOSE, PING, PONG)},
    **{f"{opcode} without a mask": [frame(opcode, QUESTION, mask=None)] for opcode in (TEXT, BINARY, PING)},
    "continuation of nothing": [frame(CONTINUATION, b"x")],
    "unfinished continuation of nothing": [frame(CONTINUATION, b"x", fin=False)],
    "continuation after the last": [*fragments(TEXT, QUESTION[:4], QUESTION[4:]), frame(CONTINUATION, b"x")],
    "text inside a text": [frame(TEXT, QUESTION[:4], fin=False), frame(TEXT, QUESTION)],
    "binary inside a text": [frame(TEXT, QUESTION[:4], fin=False), frame(BINARY, QUESTION)],
    "unfinished text inside a text": [frame(TEXT, QUESTION[:4], fin=False)] * 2,
}


@pytest.mark.parametrize("chunks", FAULTY.values(), ids=FAULTY)
async def test_faulty_frames(chunks: Sequence[bytes], socket: Raw, errors: list[Exception]) -> None:
    """Close with 1002; nothing that comes after is acted on."""
    await socket.send([*chunks, frame(TEXT, question(key="after"))])
    assert await within(socket.code()) == 1002
    assert not errors


# --- 5: fragments


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_fragments(opcode: int, socket: Raw) -> None:
    """A message in parts is one message, also with empty parts and with pings between them."""
    await socket.send(fragments(opcode, b"", QUESTION[:4], b"", QUESTION[4:], b""))
    await within(socket.answers("r"))
    first, second, third = fragments(opcode, QUESTION[:4], QUESTION[4:8], QUESTION[8:])
    await socket.send([first, frame(PING, b"1"), second, frame(PONG), frame(PING, b"2"), third], apart=True)
    await within(socket.pong(b"1"))
    await within(socket.pong(b"2"))
    await within(socket.answers("r"))


# --- 6: UTF-8

SOUND: Final = ["κόσμε", "\0\x7f", "\x80\u07ff", "\u0800\uffff", "\ud7ff\ue000\ufffd", "\U00010000\U0010ffff", "\ufffe"]
UNSOUND: Final = [
    *(b"\x80", b"\xbf\xbf", b"\xc0", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x80\x80\xaf"),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"),
    *(b"\xfe", b"\xff", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", b"\xce", b"\xf0\x9f\x98"),
]


@pytest.mark.parametrize("text", SOUND, ids=ascii)
async def test_sound_text(text: str, socket: Raw) -> None:
    """Is read whole, byte by byte in fragments, and byte by byte in segments."""
    key = text.replace("\0", r"\u0000")
    data = question(key=key)
    shown = key if "\0" in text else text
    await socket.send([frame(TEXT, data), *fragments(TEXT, *pieces(data, 1))])
    await within(socket.answers(shown, shown))
    await socket.send(pieces(frame(TEXT, data), 1), apart=True)
    await within(socket.answers(shown))


@pytest.mark.parametrize("parts", [None, 1, 3])
@pytest.mark.parametrize("data", UNSOUND, ids=bytes.hex)
async def test_unsound_text(data: bytes, parts: int | None, socket: Raw) -> None:
    """Closes with 1007."""
    whole = QUESTION.replace(b"r", b"r" + data)
    await socket.send([frame(TEXT, whole)] if parts is None else fragments(TEXT, *pieces(whole, parts)))
    assert await within(socket.code()) == 1007


# --- 7: closing


def closing(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_closing(code: int, socket: Raw) -> None:
    """A code is given back; what comes after it is passed over."""
    await socket.send([closing(code, "ü".encode()), closing(1001), frame(PING), frame(TEXT, question())])
    assert await within(socket.code()) == code


async def test_closing_without_a_code(socket: Raw) -> None:
    """Is answered likewise."""
    await socket.send([frame(CLOSE)])
    assert await within(socket.code()) in (None, 1000)


async def test_closing_with_a_long_reason(socket: Raw) -> None:
    """What just fits is taken."""
    await socket.send([closing(1000, b"x" * 123)])
    assert await within(socket.code()) == 1000


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535])
async def test_closing_with_a_code_that_is_none(code: int, socket: Raw) -> None:
    """Closes with 1002."""
    await socket.send([closing(code)])
    assert await within(socket.code()) == 1002


async def test_closing_with_half_a_code(socket: Raw) -> None:
    """Closes with 1002."""
    await socket.send([frame(CLOSE, b"\x03")])
    assert await within(socket.code()) == 1002


async def test_closing_with_an_unsound_reason(socket: Raw) -> None:
    """Closes with 1007."""
    await socket.send([closing(1000, b"\xce\xba\xed\xa0\x80")])
    assert await within(socket.code()) == 1007


async def test_closing_in_the_middle_of_a_message(socket: Raw) -> None:
    """The message is dropped; the library takes that for an error, which RFC 6455 leaves open."""
    await socket.send([frame(TEXT, QUESTION[:4], fin=False), closing(1000), frame(CONTINUATION, QUESTION[4:])])
    assert await within(socket.code()) == 1002
