"""Frames that carry a whole text, read and written in a few steps where that is all that there is to it.

Those of clients that came whole, with a short text, are told from all others. The parser of the `websockets` library,
made for everything that a frame may be, takes as long for such a frame as a store takes to merge a cell. It gets
whatever else comes, and all that comes wherever it may have something half done.
"""

from __future__ import annotations

from types import GeneratorType
from typing import Any, Final

from websockets.protocol import Protocol, Side, State
from websockets.streams import StreamReader

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library was installed without a compiler
    from websockets.utils import apply_mask

__all__ = ["text_frame", "whole_texts"]

_WHOLE_TEXT: Final = 0x81
"""The first byte of a frame that is all of a text, and not compressed."""

_MASKED: Final = 0x80
_TWO_BYTES: Final = 126
_EIGHT_BYTES: Final = 127
"""Lengths that say that the real one follows in so many bytes; any less is the real one."""

_MAX_BYTES: Final = 2**16 - 1

_IS_KNOWN: Final = {"current_size", "extensions", "max_fragment_size", "max_message_size", "parser"}.issubset(
    vars(Protocol(Side.SERVER))
)
"""Whether the library is as we know it; else it reads everything itself."""


def whole_texts(protocol: Protocol, data: bytes) -> tuple[list[bytes], bytes]:
    r"""What has come to the server's side of a connection: whole texts, and the rest, which is the library's.

    Args:
        protocol: of the connection; only looked at. It must be given the rest.
        data: what has come.

    Example:
        >>> from websockets.protocol import Side
        >>> whole_texts(Protocol(Side.SERVER), b"\x81\x82\0\0\0\0hi" + b"\x89\x80\0\0\0\0")
        ([b'hi'], b'\x89\x80\x00\x00\x00\x00')
    """
    texts: list[bytes] = []
    if not _expects_any_frame(protocol):
        return texts, data
    done, length = 0, len(data)
    while done + 6 <= length and data[done] == _WHOLE_TEXT:
        size, mask_at = data[done + 1] - _MASKED, done + 2
        if size == _TWO_BYTES:
            size = int.from_bytes(data[mask_at : mask_at + 2])
            mask_at += 2
        elif not 0 <= size < _TWO_BYTES:
            break
        text_at = mask_at + 4
        end = text_at + size
        if end > length:
            break
        texts.append(apply_mask(data[text_at:end], data[mask_at:text_at]))
        done = end
    return texts, data[done:]


def text_frame(text: bytes) -> bytes:
    r"""The frame in which a server sends a text, neither masked nor compressed.

    Example:
        >>> text_frame(b"hi")
        b'\x81\x02hi'
    """
    size = len(text)
    if size < _TWO_BYTES:
        return b"%c%c%b" % (_WHOLE_TEXT, size, text)
    if size <= _MAX_BYTES:
        return b"%c%c%b%b" % (_WHOLE_TEXT, _TWO_BYTES, size.to_bytes(2), text)
    return b"%c%c%b%b" % (_WHOLE_TEXT, _EIGHT_BYTES, size.to_bytes(8), text)


def _expects_any_frame(protocol: Protocol) -> bool:
    """Whether the next may be any frame of which the text is not long: the last one was read to its end."""
    if not _IS_KNOWN or protocol.state is not State.OPEN or protocol.extensions or protocol.current_size is not None:
        return False
    bounds = (protocol.max_message_size, protocol.max_fragment_size)
    if any(bound is not None and bound < _MAX_BYTES for bound in bounds):
        return False
    parser: Any = protocol.parser
    while isinstance(parser, GeneratorType) and parser.gi_yieldfrom is not None:
        parser = parser.gi_yieldfrom
    # Where it looks whether anything follows, and only there, it has nothing half done.
    return isinstance(parser, GeneratorType) and parser.gi_code is StreamReader.at_eof.__code__
