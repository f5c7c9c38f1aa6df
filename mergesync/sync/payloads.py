"""The text of frames: addresses, fragments, and channels inside one socket (protocol sections 10 and 13)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import (
    MAX_CHANNEL_ID_BYTES,
    MAX_FRAGMENTS,
    MAX_FRAME_BYTES,
    MAX_INCOMPLETE_MESSAGES,
    MAX_MESSAGE_BYTES,
)
from mergesync.store.jsjson import dumps, parse, utf8
from mergesync.sync.messages import Message, decode_message, encode_message
from mergesync.types import NewId

__all__ = [
    "EVERYONE",
    "HELLO",
    "SERVER",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "Control",
    "FragmentCollector",
    "Payload",
    "channel_frame",
    "check_frame_size",
    "control_frame",
    "decode_control",
    "fits_frame",
    "fits_message",
    "fragments_of",
    "is_channel_id",
    "remainders_of",
    "split_channel_frame",
    "split_frame",
]

EVERYONE = ""
"""The address of all others on a path."""

SERVER = "S"
"""The address of the server's own store."""

_FRAGMENT = re.compile(r"([-0-9A-Z_a-z]{16})\n([0-9]+)\n([0-9]+)\n(.*)", re.ASCII | re.DOTALL)
_MESSAGE_ID_LENGTH = 16


@dataclass(slots=True)  # as a message, of which each has one
class Payload:
    """A whole message with the texts it came in, so that it can be passed on untouched.

    Attributes:
        message: what it says.
        remainders: the message, or its fragments in order, without address.
    """

    message: Message
    remainders: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """How long the texts are in all, in UTF-8."""
        return sum(len(utf8(remainder)) for remainder in self.remainders)


# --- frames -----------------------------------------------------------------------------------------------


def fits_frame(text: str) -> bool:
    """Whether a frame has at most 16 MiB of UTF-8."""
    return _takes_at_most(text, MAX_FRAME_BYTES)


def fits_message(text: str) -> bool:
    """Whether a message or operation fits a frame, with any address and channel."""
    return _takes_at_most(text, MAX_MESSAGE_BYTES)


def _takes_at_most(text: str, most_bytes: int) -> bool:
    """Whether a text has no more bytes of UTF-8; it is encoded to see that only where that is not clear."""
    return len(text) * 3 <= most_bytes or (len(text) if text.isascii() else len(utf8(text))) <= most_bytes


def check_frame_size(text: str) -> None:
    """Refuse a received frame that is too large.

    Raises:
        LimitExceededError: of the socket, or of fragments if it looks like one.
    """
    if not fits_frame(text):
        head = text.partition("\n")[2][:80]
        limit = "fragments" if _FRAGMENT.match(head) else "socket"
        raise LimitExceededError(f"a frame of more than {MAX_FRAME_BYTES} bytes", limit=limit)


def split_frame(frame: str) -> tuple[str, str]:
    r"""The address (or sender) and the remainder of a frame.

    Raises:
        RemoteProtocolError: there is no newline.

    Example:
        >>> split_frame('S\n["r",1,""]')
        ('S', '["r",1,""]')
    """
    address, newline, remainder = frame.partition("\n")
    if not newline:
        raise RemoteProtocolError("a frame without an address", excerpt=frame)
    return address, remainder


# --- fragments --------------------------------------------------------------------------------------------


def fragments_of(text: str, fragment_size: float | None, new_id: NewId) -> list[str]:
    """A message as the remainders to send: itself, or fragments of at most about so many bytes.

    Args:
        text: the message.
        fragment_size: bytes of message text per fragment; None or less than 1 for no fragments. It is raised where a
            message would otherwise have more than a thousand.
        new_id: makes the id that the fragments share.
    """
    if fragment_size is None or not fragment_size >= 1:
        return [text]
    encoded = utf8(text)
    limit = max(math.floor(min(fragment_size, MAX_FRAME_BYTES)), math.ceil(len(encoded) / MAX_FRAGMENTS) + 3)
    if len(encoded) <= limit:
        return [text]
    pieces = list(_pieces(encoded, limit))
    message_id = new_id(_MESSAGE_ID_LENGTH)
    return [f"{message_id}\n{index}\n{len(pieces)}\n{piece}" for index, piece in enumerate(pieces)]


def remainders_of(message: Message, fragment_size: float | None, new_id: NewId) -> list[str]:
    """A message as the remainders to send (see `fragments_of`).

    Raises:
        LimitExceededError: it is too large for a frame, with any address and channel.
    """
    text = encode_message(message)
    if not fits_message(text):
        kind = message.type.name.lower()
        raise LimitExceededError(f"{kind} of more than {MAX_MESSAGE_BYTES} bytes cannot be sent", limit="socket")
    return fragments_of(text, fragment_size, new_id)


def _decimal(digits: str) -> int:
    """The number that digits say; above the bound, any number above the bound will do."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= len(str(MAX_FRAGMENTS)) else MAX_FRAGMENTS + 1


def _pieces(encoded: bytes, limit: int) -> Iterator[str]:
    """Cut at the limit, or up to three bytes before it, where a character begins."""
    start = 0
    while start < len(encoded):
        end = min(start + limit, len(encoded))
        while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
            end -= 1
        yield encoded[start:end].decode()
        start = end


@dataclass(slots=True)
class _Incomplete:
    total: int
    deadline: float
    size_bytes: int = 0
    pieces: dict[int, tuple[str, str]] = field(default_factory=dict)  # index: (piece, remainder)


class FragmentCollector:
    """Joins the fragments that come on one connection, all its channels together.

    Args:
        timeout_seconds: a message of which pieces are missing is dropped when none has come for so long. (The peer
            counts from the first piece, and so never gets a large message over a slow link.)
    """

    __slots__ = ("_held_bytes", "_incomplete", "_timeout_seconds")

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._incomplete: dict[tuple[str, str, str], _Incomplete] = {}
        self._held_bytes = 0

    def receive(self, channel: str, address: str, remainder: str, now: float) -> Payload | None:
        """Take the remainder of a frame.

        Args:
            channel: where it came, so that channels are not mixed up.
            address: to or from whom.
            remainder: a message or a fragment.
            now: seconds on any steady clock.

        Returns:
            A whole message, or None if pieces are missing.

        Raises:
            RemoteProtocolError: it is neither, or its fragments do not fit together.
            LimitExceededError: too many fragments, messages or bytes.
        """
        match = _FRAGMENT.fullmatch(remainder)
        if match is None:
            return Payload(decode_message(remainder), (remainder,))
        self.expire(now)
        message_id, index, total = match[1], _decimal(match[2]), _decimal(match[3])
        if total > MAX_FRAGMENTS:
            raise LimitExceededError(f"a message of more than {MAX_FRAGMENTS} fragments", limit="fragments")
        if index >= total:
            raise RemoteProtocolError("the index of a fragment is not below their number", excerpt=remainder)
        key = (channel, address, message_id)
        whole = self._add(key, index, total, match[4], remainder, now)
        if whole is None:
            return None
        pieces = [whole.pieces[at] for at in range(total)]
        return Payload(decode_message("".join(piece for piece, _ in pieces)), tuple(raw for _, raw in pieces))

    def _add(
        self, key: tuple[str, str, str], index: int, total: int, piece: str, remainder: str, now: float
    ) -> _Incomplete | None:
        found = self._incomplete.get(key)
        if found is None:
            if total > 1 and len(self._incomplete) >= MAX_INCOMPLETE_MESSAGES:
                raise LimitExceededError(f"more than {MAX_INCOMPLETE_MESSAGES} incomplete messages", limit="fragments")
            found = self._incomplete[key] = _Incomplete(total, now)
        found.deadline = now + self._timeout_seconds
        if found.total != total or index in found.pieces:
            raise RemoteProtocolError("fragments that do not fit together", excerpt=remainder)
        size_bytes = len(utf8(piece))
        self._held_bytes += size_bytes
        found.size_bytes += size_bytes
        found.pieces[index] = (piece, remainder)
        if self._held_bytes > MAX_FRAME_BYTES:
            raise LimitExceededError(f"more than {MAX_FRAME_BYTES} bytes of fragments", limit="fragments")
        if len(found.pieces) < total:
            return None
        self._drop(key)
        return found

    def _drop(self, key: tuple[str, str, str]) -> None:
        self._held_bytes -= self._incomplete.pop(key).size_bytes

    def expire(self, now: float) -> None:
        """Drop what has been incomplete for too long."""
        for key in [key for key, found in self._incomplete.items() if found.deadline <= now]:
            self._drop(key)

    def forget_channel(self, channel: str) -> None:
        """Drop what was incomplete on a channel."""
        for key in [key for key in self._incomplete if key[0] == channel]:
            self._drop(key)


# --- channels ---------------------------------------------------------------------------------------------

HELLO, SUBSCRIBE, UNSUBSCRIBE = 0, 1, 2
_CONTROL_TYPE = -1
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Control:
    """A control of a socket with channels.

    Attributes:
        request_id: what the answer carries; None for unsubscribe.
        kind: hello, subscribe or unsubscribe.
        channel_id: the channel; empty for hello.
        body: as it came, so that it can be echoed.
    """

    request_id: str | None
    kind: int
    channel_id: str
    body: list[Any]


def is_channel_id(channel_id: object) -> bool:
    """Whether this may be a channel id, its length aside.

    Example:
        >>> is_channel_id("team/a"), is_channel_id("../a"), is_channel_id("a?b")
        (True, False, False)
    """
    if not isinstance(channel_id, str) or any(character in channel_id for character in "\n\r?#"):
        return False
    return all(part not in ("", ".", "..") for part in channel_id.split("/"))


def control_frame(request_id: str | None, body: list[Any]) -> str:
    """The frame of a control, or of the answer to one."""
    return f"{SERVER}\n{dumps([request_id, _CONTROL_TYPE, body])}"


def channel_frame(channel_id: str, frame: str) -> str:
    """A frame as it travels in a channel."""
    return f"M\n{channel_id}\n{frame}"


def split_channel_frame(frame: str) -> tuple[str, str]:
    """The channel id and the inner frame; raises RemoteProtocolError."""
    channel_id, newline, inner = frame[2:].partition("\n")
    if not newline:
        raise RemoteProtocolError("a channel frame without a channel", excerpt=frame)
    return channel_id, inner


def decode_control(remainder: str) -> Control:
    """Read and check a control.

    Raises:
        RemoteProtocolError: it is not one.
        LimitExceededError: its channel id is too long.
    """
    try:
        array = parse(remainder)
    except ValueError as error:
        raise RemoteProtocolError("not JSON", excerpt=remainder) from error
    if not isinstance(array, list) or len(array) != 3 or not _loosely(array[1], _CONTROL_TYPE):
        raise RemoteProtocolError("not a control", excerpt=remainder)
    request_id, _, body = array
    if not isinstance(body, list) or len(body) != 2:
        raise RemoteProtocolError("not a control", excerpt=remainder)
    kind = next((kind for kind in (HELLO, SUBSCRIBE, UNSUBSCRIBE) if _loosely(body[0], kind)), None)
    valid_id = request_id is None if kind == UNSUBSCRIBE else isinstance(request_id, str) and request_id != "\ufffc"
    if kind is None or not valid_id or (kind == HELLO and not _loosely(body[1], _VERSION)):
        raise RemoteProtocolError("not a control", excerpt=remainder)
    if kind == HELLO:
        return Control(request_id, kind, "", body)
    channel_id = body[1]
    if not is_channel_id(channel_id):
        raise RemoteProtocolError("not a channel id", excerpt=remainder)
    if len(utf8(channel_id)) > MAX_CHANNEL_ID_BYTES:
        raise LimitExceededError(f"a channel id of more than {MAX_CHANNEL_ID_BYTES} bytes", limit="channels")
    return Control(request_id, kind, channel_id, body)


def _loosely(said: Any, number: int) -> bool:
    """Equal as JavaScript's == has it for what JSON can say of a number (surprise 22)."""
    if isinstance(said, str):
        try:
            return float(said or 0) == number
        except ValueError:
            return False
    return isinstance(said, bool | int | float) and said == number
