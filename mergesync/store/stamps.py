"""Stamps: a cell or value with the HLC of its last write, packed into the very bytes that are hashed.

A stamp is JSON text, a colon and an HLC, as in `"dog":Nn1JUF-----7JQY8`; the HLC may be empty. A deleted cell is a
stamp with nothing before the colon. An object or array is the JSON of its wire form, a string (protocol section 2).

So a stamp is one small immutable object that the garbage collector need not look at, equal stamps are equal bytes, and
the hash of a leaf (protocol section 4) is that of its stamp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
from fnv_hash_fast import fnv1a_32

from mergesync.exceptions import ContentError
from mergesync.limits import MAX_INTEGER
from mergesync.store.cells import ENCODED, TOMBSTONE, decode_object
from mergesync.store.hlc import ALPHABET, is_hlc
from mergesync.store.jsjson import canonical, dumps, loads, number_text, string_text
from mergesync.types import MISSING, CellOrMissing

__all__ = [
    "COLON",
    "NO_HLC",
    "PLAIN",
    "Stamp",
    "cell_of",
    "hlc_in",
    "is_live",
    "newest_hlc",
    "says",
    "shown_text",
    "stamp_hash",
    "text_in",
    "unpack",
    "unpacked",
    "wire_in_text",
    "wire_text",
]

Stamp: TypeAlias = bytes
"""`json text + b":" + hlc`."""

COLON: Final = ord(":")
"""The last byte of a stamp without an HLC, and the first of a tombstone: no HLC has one, and no JSON text begins so."""

NO_HLC: Final = b":"
"""What follows the text in a stamp with the empty HLC."""

_END: Final = 17  # bytes at the end of a stamp with an HLC: a colon and that
_HLC_BYTES: Final = ALPHABET.encode()
PLAIN: Final = f'"{ENCODED}'.encode()
"""How the text of an object or array begins. Every stamp less than that shows: it is of a string, if not of all."""

_RAW: Final = (b"{", b"[")  # how it begins if a peer sent it as such (surprise 7)


def wire_text(wire: Any) -> bytes:
    """The JSON text of a checked wire form; empty for a tombstone.

    Example:
        >>> wire_text("dog"), wire_text(1.0), wire_text(TOMBSTONE)
        (b'"dog"', b'1', b'')
    """
    kind = wire.__class__
    if kind is str:
        return string_text(wire) if wire != TOMBSTONE else b""
    if kind is int:
        return b"%d" % wire if -MAX_INTEGER <= wire <= MAX_INTEGER else number_text(float(wire)).encode()
    return dumps(wire).encode()


def text_in(stamp: Stamp) -> bytes:
    """The JSON text in a stamp; empty for a tombstone."""
    return stamp.rpartition(NO_HLC)[0]


def hlc_in(stamp: Stamp) -> str:
    """The HLC in a stamp, which may be empty."""
    return "" if stamp[-1] == COLON else stamp[1 - _END :].decode()


def newest_hlc(stamps: Sequence[Stamp]) -> str:
    """The greatest HLC in stamps that something else has packed; for many, much faster than one by one.

    Raises:
        ContentError: what is in one of them is no HLC.

    Example:
        >>> newest_hlc([b'"dog":Nn1JUF-----7JQY8', b"null:"])
        'Nn1JUF-----7JQY8'
    """
    ends = [stamp[-_END:] for stamp in stamps]
    together, colons = b"".join(ends), NO_HLC * len(ends)
    # The common case: each ends with a colon and 16 characters of the alphabet, which has no colon.
    if len(together) == _END * len(ends) and together[::_END] == together.translate(None, _HLC_BYTES) == colons:
        return max(ends, default=NO_HLC)[1:].decode()
    newest = ""
    for stamp in stamps:
        hlc = stamp.rpartition(NO_HLC)[2].decode("utf-8", "replace")
        if not is_hlc(hlc):
            raise ContentError(f"not a stamp of the clock: {hlc!r:.40}")
        newest = max(newest, hlc)
    return newest


def unpack(stamp: Stamp) -> tuple[Any, str]:
    """The wire form and the HLC.

    Example:
        >>> unpack(b'"dog":Nn1JUF-----7JQY8'), unpack(b"null:")
        (('dog', 'Nn1JUF-----7JQY8'), (None, ''))
    """
    text, _, hlc = stamp.rpartition(NO_HLC)
    return wire_in_text(text), hlc.decode()


def wire_in_text(text: bytes) -> Any:
    """The wire form that a text stands for."""
    if not text:
        return TOMBSTONE
    try:
        wire = orjson.loads(text)
    except ValueError:  # a lone surrogate, or nested more deeply than orjson goes
        return loads(text.decode())
    return wire if wire.__class__ is str else canonical(wire)


def cell_of(text: bytes) -> CellOrMissing:
    """What an application sees of a text without a schema; `MISSING` if it is a tombstone, or nonsense from a peer."""
    if not text:
        return MISSING
    wire = wire_in_text(text)
    if wire.__class__ is str and wire[:1] == ENCODED:
        return decode_object(wire[1:])
    return wire  # type: ignore[no-any-return]


def unpacked(stamps: Mapping[str, Stamp], *, with_hash: bool = False) -> dict[str, list[Any]]:
    """By id, `[wire form]` or `[wire form, HLC]`, or always `[wire form, HLC, hash]`.

    For many stamps much faster than one by one: what `unpack` does is written out.
    """
    found = {}
    for leaf_id, stamp in stamps.items():
        text, _, hlc = stamp.rpartition(NO_HLC)
        try:
            wire = orjson.loads(text)
        except ValueError:
            wire = wire_in_text(text)
        kind = wire.__class__
        if kind is not str and not (kind is int and -MAX_INTEGER <= wire <= MAX_INTEGER):
            wire = canonical(wire)
        if with_hash:
            found[leaf_id] = [wire, hlc.decode(), fnv1a_32(stamp) if text else stamp_hash(stamp)]
        else:
            found[leaf_id] = [wire, hlc.decode()] if hlc else [wire]
    return found


def shown_text(stamp: Stamp | None) -> bytes:
    """The text of what an application sees of a stamp without a schema; empty if it sees nothing.

    A raw object is given in encoded form, so that texts can be compared.
    """
    if stamp is None:
        return b""
    text = text_in(stamp)
    if text[:1] in _RAW:
        return wire_text(ENCODED + text.decode())
    return text if not text.startswith(PLAIN) or cell_of(text) is not MISSING else b""


def is_live(stamp: Stamp) -> bool:
    """Whether a stamp shows as a cell: it is neither a tombstone nor nonsense from a peer (surprise 6)."""
    if stamp < PLAIN:  # most strings
        return True
    return stamp[0] != COLON and (not stamp.startswith(PLAIN) or cell_of(text_in(stamp)) is not MISSING)


def says(stamp: Stamp, text: bytes) -> bool:
    """Whether what a stamp shows is this text of an application; a raw object is its encoded text (surprise 7)."""
    # No JSON text followed by a colon begins another one, so that this is a comparison without a copy.
    if stamp.startswith(text) and stamp[len(text)] == COLON:
        return True
    return stamp[:1] in _RAW and wire_text(ENCODED + text_in(stamp).decode()) == text


def stamp_hash(stamp: Stamp) -> int:
    """The hash of a cell or value: of its JSON, a colon and its HLC; a tombstone counts as null."""
    return fnv1a_32(stamp) if stamp[0] != COLON else fnv1a_32(b"null" + stamp)
