"""Frames of the protocols for Yjs, for clients in raw sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["YjsUpdates", "hocuspocus_prefix", "hocuspocus_token"]

_TOKEN: Final = b"\x02\x00\x00"
"""A message of the kind 2, a token (0) that is empty."""

_UPDATE: Final = b"\x00\x02"
"""A message of synchronization (0), and in it an update (2)."""

_FIRST_CLOCK: Final = 1 << 14
"""From here to 1 << 21 a clock takes three bytes."""

_ROWS: Final = 1000


def hocuspocus_prefix(path_id: str) -> bytes:
    """With the name of the document begins each message."""
    return bytes([len(path_id)]) + path_id.encode()


def hocuspocus_token(path_id: str) -> bytes:
    """What comes first."""
    return hocuspocus_prefix(path_id) + _TOKEN


class YjsUpdates:
    """Updates of one cell each, all of one length.

    Args:
        frame_of: makes a frame of a message.
        prefix: of each message.

    Attributes:
        first: the frame with what the updates change.
    """

    def __init__(self, frame_of: Callable[[bytes], bytes], prefix: bytes = b"") -> None:
        from pycrdt import Doc, Map, create_update_message

        self._message: Callable[[bytes], bytes] = create_update_message
        self._frame_of, self._prefix = frame_of, prefix
        self._doc: Any = Doc(client_id=1 << 28)
        self._table = self._doc.get("table", type=Map)
        with self._doc.transaction():
            for number in range(_FIRST_CLOCK):
                self._table["clock"] = number
            for row in range(_ROWS):
                self._table[f"r{row:06d}"] = 0
        self.first = self._frame(self._doc.get_update())
        self._frames: list[bytes] = []
        self._doc.observe(lambda event: self._frames.append(self._frame(event.update)))

    def _frame(self, update: bytes) -> bytes:
        return self._frame_of(self._prefix + self._message(update))

    def prepare(self, count: int) -> None:
        """Make so many ahead."""
        while len(self._frames) < count:
            number = len(self._frames)
            self._table[f"r{number % _ROWS:06d}"] = 10_000_000 + number

    def __call__(self, index: int) -> bytes:
        """The frame of an update."""
        if index >= len(self._frames):
            self.prepare(index + 1000)
        return self._frames[index]

    def count(self, message: bytes) -> int | None:
        """How many updates a reader has after a message with one or several merged: their clocks go on one by one."""
        at = len(self._prefix)
        if message[at : at + 2] != _UPDATE:
            return None
        _, at = _number(message, at + 2)  # length
        clients, at = _number(message, at)
        structs, at = _number(message, at)
        _, at = _number(message, at)  # client
        clock, at = _number(message, at)
        assert clients == 1, message
        return clock + structs - _FIRST_CLOCK - _ROWS


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number in bytes of seven bits, and where it ends."""
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at
