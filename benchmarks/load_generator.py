"""Many WebSocket clients in one process that does little more than count bytes, so that it is not the bottleneck.

The sockets are raw and watched with epoll. How many updates came is told by how many bytes came: all are equally long.
Of a server that merges updates the messages to one reader are parsed, as all readers get the same.
"""

from __future__ import annotations

import base64
import math
import os
import re
import select
import socket
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

from benchmarks.proxy import FrameCounter

__all__ = [
    "EqualFrames",
    "Load",
    "MergedFrames",
    "begin_to_open",
    "count_of_update",
    "frame_of",
    "handshake",
    "open_socket",
    "updates",
]

_ALPHABET: Final = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_BUFFER_BYTES: Final = 1024 * 1024
_PATIENCE_SECONDS: Final = 30.0
_UPDATE_ID: Final = re.compile(rb'\n\["(\d{16})",3,')
_SETTLING_SECONDS: Final = 0.3

_MASKED: Final = 0x80
_TEXT: Final = 0x81
_BINARY: Final = 0x82


def frame_of(message: str | bytes) -> bytes:
    """A message as the frame of a client; masked with zeros, which is masking, and costs nothing."""
    kind, data = (_TEXT, message.encode()) if isinstance(message, str) else (_BINARY, message)
    if len(data) < 126:
        head = struct.pack("!BB", kind, _MASKED | len(data))
    elif len(data) < 65536:
        head = struct.pack("!BBH", kind, _MASKED | 126, len(data))
    else:
        head = struct.pack("!BBQ", kind, _MASKED | 127, len(data))
    return head + b"\0\0\0\0" + data


def handshake(port: int, path_id: str, subprotocol: str | None = None) -> bytes:
    """The request of a client for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    offer = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    return (
        f"GET /{path_id} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n".encode()
    )


def begin_to_open(port: int, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A socket that does not block, about to be connected; when that is done, epoll says that it can be written."""
    plain = socket.socket()
    if receive_buffer_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    plain.connect_ex(("127.0.0.1", port))
    return plain


def _wait_until_writable(plain: socket.socket) -> None:
    poll = select.poll()  # select() knows only low file descriptors
    poll.register(plain, select.POLLOUT)
    poll.poll(_PATIENCE_SECONDS * 1000)


def open_socket(
    port: int, path_id: str, subprotocol: str | None = None, receive_buffer_bytes: int | None = None
) -> tuple[socket.socket, bytes]:
    """A WebSocket client, not blocking any more, with what came behind the handshake."""
    plain = begin_to_open(port, receive_buffer_bytes)
    plain.settimeout(_PATIENCE_SECONDS)
    _wait_until_writable(plain)
    plain.sendall(handshake(port, path_id, subprotocol))
    answer = b""
    while b"\r\n\r\n" not in answer:
        if not (more := plain.recv(4096)):
            break
        answer += more
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise ConnectionError(f"no WebSocket: {head[:200]!r}")
    plain.setblocking(False)
    return plain, rest


def updates(rows: int = 1000) -> Callable[[int], bytes]:
    """Makes TinyBase's frames for changes of one cell, all of one length, each newer than the one before.

    Args:
        rows: between which the changes go round.
    """
    now_milliseconds = int(time.time() * 1000)
    moment = "".join(_ALPHABET[now_milliseconds >> shift & 63] for shift in range(36, -6, -6))

    def update(index: int) -> bytes:
        counter = "".join(_ALPHABET[index >> shift & 63] for shift in (18, 12, 6, 0))
        cell = f'[{{"count":[{10_000_000 + index},"{moment}{counter}bench"]}}]'
        return frame_of(f'\n["{index:016d}",3,[[{{"rows":[{{"r{index % rows:06d}":{cell}}}]}}],[{{}}],1]]')

    return update


def count_of_update(message: bytes) -> int | None:
    """How many of these `updates` there were with this one; None if it is none."""
    found = _UPDATE_ID.search(message)
    return None if found is None else int(found[1]) + 1


class EqualFrames:
    """Updates that all come in frames of one length."""

    def __init__(self) -> None:
        self._frame_bytes = 0

    def begin(self, came: int, updates: int) -> int:
        """So many bytes came for so many updates, and with them it begins; returns the bytes to begin with."""
        self._frame_bytes, rest = divmod(came, updates)
        assert self._frame_bytes, "nothing came"
        assert not rest, "updates of different lengths"
        return came

    def sample(self, data: memoryview) -> None:
        """What came to the first reader: nothing new."""

    def needed(self, updates: int) -> float:
        """Bytes after which a reader has so many updates."""
        return updates * self._frame_bytes

    def has(self, came: int) -> int:
        """Updates that a reader has after so many bytes."""
        return came // self._frame_bytes


class MergedFrames:
    """Updates of which a server puts several into one message.

    Args:
        count: how many updates a reader has after a message, counted from the first that was ever sent; None if there
            is none in it.
    """

    def __init__(self, count: Callable[[bytes], int | None]) -> None:
        self._count = count
        self._parser = FrameCounter(in_http=False, take=self._take)
        self._bytes: list[int] = []
        self._updates: list[int] = []

    def begin(self, came: int, updates: int) -> int:
        """So many updates are there."""
        assert self._updates, "nothing came"
        assert self._updates[-1] == updates, "not all that was sent came"
        return self._bytes[-1]

    def sample(self, data: memoryview) -> None:
        """What came to the first reader."""
        self._parser.feed(data)

    def _take(self, message: bytes) -> None:
        if (updates := self._count(message)) is not None:
            self._bytes.append(self._parser.frame_bytes)
            self._updates.append(updates)

    def needed(self, updates: int) -> float:
        """Bytes after which a reader has so many updates; infinite while the first reader has not got them."""
        at = bisect_left(self._updates, updates)
        return self._bytes[at] if at < len(self._bytes) else math.inf

    def has(self, came: int) -> int:
        """Updates that a reader has after so many bytes."""
        at = bisect_right(self._bytes, came)
        return self._updates[at - 1] if at else 0


class Load:
    """One writer and many readers on a path.

    Args:
        port: of the server.
        path_id: the path.
        readers: how many.
        update: makes the frame of each update.
        hello: what each client says first.
        first: what the writer says before the updates, for instance what they change.
        meter: how updates are counted that come to a reader.
        settling_seconds: for how long there must be nothing to read before the updates begin.
    """

    def __init__(
        self,
        port: int,
        path_id: str,
        readers: int,
        update: Callable[[int], bytes],
        *,
        hello: bytes = b"",
        first: bytes = b"",
        meter: EqualFrames | MergedFrames | None = None,
        settling_seconds: float = _SETTLING_SECONDS,
    ) -> None:
        self._update = update
        self._sent = 0
        self._meter = meter or EqualFrames()
        self._came: dict[int, int] = {}
        self._epoll = select.epoll()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._sockets = {}
        for _ in range(readers):
            reader, rest = open_socket(port, path_id)
            reader.sendall(hello)
            number = reader.fileno()
            self._sockets[number] = reader
            self._came[number] = len(rest)
            if len(self._came) == 1:
                self._sampled = number
                self._meter.sample(memoryview(rest))
            self._epoll.register(reader, select.EPOLLIN)
        self._writer, _ = open_socket(port, path_id)
        self._write(hello + first)
        self._drain(settling_seconds)
        self._begin()

    def _begin(self) -> None:
        """Send a few updates, which also warms the server up, and count from there."""
        before = dict(self._came)
        self._send(10)
        self._drain(0.5)
        lengths = {came - before[reader] for reader, came in self._came.items()}
        assert len(lengths) == 1, f"readers got different lengths: {lengths}"
        self._came = dict.fromkeys(self._came, self._meter.begin(lengths.pop(), self._sent))

    def close(self) -> None:
        """Close all sockets."""
        for each in (*self._sockets.values(), self._writer):
            each.close()
        self._epoll.close()

    def _send(self, count: int) -> None:
        self._write(b"".join(self._update(index) for index in range(self._sent, self._sent + count)))
        self._sent += count

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._writer.send(data) :]
            except BlockingIOError:
                _wait_until_writable(self._writer)

    def _receive(self, timeout_seconds: float) -> list[int]:
        """Take what came; the readers to which something came."""
        ready = [reader for reader, _ in self._epoll.poll(timeout_seconds)]
        for reader in ready:
            size = self._sockets[reader].recv_into(self._buffer)
            if not size:
                raise ConnectionError("the server has closed a reader")
            self._came[reader] += size
            if reader == self._sampled:
                self._meter.sample(memoryview(self._buffer)[:size])
        return ready

    def _drain(self, quiet_seconds: float) -> None:
        while self._receive(quiet_seconds):
            pass

    def saturated(self, seconds: float, in_flight: int) -> float:
        """Updates delivered per second where so many are on their way to some reader; one means one at a time."""
        step = max(1, in_flight // 2)
        began = time.perf_counter()
        first = self._sent
        for _ in range(in_flight // step):
            self._send(step)
        mark = first + step
        behind = set(self._came)
        while True:
            ready = self._receive(_PATIENCE_SECONDS)
            assert ready, f"{len(behind)} readers did not get all"
            target = self._meter.needed(mark)
            behind.difference_update([reader for reader in ready if self._came[reader] >= target])
            while not behind:
                if time.perf_counter() - began >= seconds:
                    elapsed = time.perf_counter() - began
                    self._drain(0.2)
                    return (mark - first) * len(self._came) / elapsed
                self._send(step)
                mark += step
                target = self._meter.needed(mark)
                behind = {reader for reader, came in self._came.items() if came < target}

    def paced(self, seconds: float, deliveries_per_second: float) -> list[float]:
        """How long each update took to each reader, in seconds, where they are sent at an even pace; sorted."""
        interval = len(self._came) / deliveries_per_second
        count = int(seconds / interval)
        first, seen = self._sent, dict.fromkeys(self._came, 0)
        sent_at: list[float] = []
        latencies: list[float] = []
        began = time.perf_counter()
        while len(latencies) < count * len(self._came):
            now = time.perf_counter()
            if len(sent_at) < count and began + len(sent_at) * interval <= now:
                sent_at.append(now)
                self._send(1)
            for reader in self._receive(0):
                came_at = time.perf_counter()
                has = self._meter.has(self._came[reader]) - first
                latencies += [came_at - at for at in sent_at[seen[reader] : has]]
                seen[reader] = has
            if now - began > seconds + _PATIENCE_SECONDS:
                raise TimeoutError(f"only {len(latencies)} of {count * len(self._came)} came")
        return sorted(latencies)
