"""What a cell or value may be, and its wire form (protocol section 2).

On the wire a deleted cell is the string U+FFFC, and an object or array is U+FFFD followed by its JSON text.
"""

from __future__ import annotations

import math
from typing import Any

from mergesync.exceptions import InvalidCellError, InvalidIdError
from mergesync.limits import MAX_INTEGER
from mergesync.store.jsjson import canonical_number, dumps, joined, loads, without_subclass
from mergesync.types import MISSING, Cell, CellOrMissing

__all__ = ["ENCODED", "TOMBSTONE", "check_id", "decode_cell", "decode_object", "encode_cell", "same_wire"]

TOMBSTONE = "\ufffc"
"""Stands for undefined: this cell was deleted."""

ENCODED = "\ufffd"
"""Begins the wire form of an object or array."""


_PLAIN = frozenset((str, int, float, type(None)))


def check_id(id_: Any) -> str:
    """An id as the store keeps it, if it is one.

    Raises:
        InvalidIdError: it is not a string.
    """
    if id_.__class__ is str and id_.isascii():
        return id_
    if not isinstance(id_, str):
        raise InvalidIdError(f"an id must be a string, not {type(id_).__name__}: {id_!r:.80}")
    return joined(without_subclass(id_))


def encode_cell(cell: Cell, *, finite: bool = False) -> Any:
    """The wire form of a cell or value that an application writes.

    Args:
        cell: any JSON.
        finite: refuse infinite numbers inside objects and arrays. Else they become null, as by JSON.stringify: so
            `1e400` in a text goes through.

    Raises:
        InvalidCellError: not JSON, NaN or infinite, an integer beyond 2**53, or a string reserved by the wire.

    Example:
        >>> encode_cell({"a": 1}), encode_cell(2.0), encode_cell("dog")
        ('\ufffd{"a":1}', 2, 'dog')
    """
    kind = cell.__class__
    if kind is str:
        if cell >= TOMBSTONE and (cell == TOMBSTONE or cell[0] == ENCODED):  # type: ignore[operator,index]
            raise InvalidCellError(f"the string {cell!r:.40} is reserved by the wire format")
        return cell if cell.isascii() else joined(cell)  # type: ignore[union-attr,arg-type]
    if cell is None or kind is bool or (kind is int and -MAX_INTEGER <= cell <= MAX_INTEGER):  # type: ignore[operator]
        return cell
    if kind is int or kind is float:
        return _encode_number(cell)  # type: ignore[arg-type]
    return _encode_other(cell, finite)


def _encode_number(number: int | float) -> int | float:
    if isinstance(number, int):
        raise InvalidCellError("an integer beyond 2**53 is not exact in JavaScript")
    if not math.isfinite(number):
        raise InvalidCellError(f"{number} is not JSON")
    return canonical_number(number)


def _encode_other(cell: Any, finite: bool) -> Any:
    try:
        if isinstance(cell, dict | list | tuple):
            return ENCODED + dumps(cell, finite=finite)
        return encode_cell(without_subclass(cell))
    except InvalidCellError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidCellError(f"a cell must be JSON: {error}") from error
    except RecursionError:
        raise InvalidCellError("the object or array is nested too deeply, or contains itself") from None


def decode_cell(wire: Any) -> CellOrMissing:
    """What an application sees of a wire form; `MISSING` if it is a tombstone, or nonsense from a peer.

    Example:
        >>> decode_cell("\ufffd[1,2]"), decode_cell("\ufffc"), decode_cell("dog")
        ([1, 2], MISSING, 'dog')
    """
    kind = wire.__class__
    if kind is str:
        if wire < TOMBSTONE:
            return wire  # type: ignore[no-any-return]
        if wire == TOMBSTONE:
            return MISSING
        return decode_object(wire[1:]) if wire[0] == ENCODED else wire
    if kind is dict or kind is list:
        return decode_object(dumps(wire))  # raw from a peer; a copy, so that the reader cannot change the original
    return wire  # type: ignore[no-any-return]


def decode_object(text: str) -> CellOrMissing:
    """The object or array of a JSON text, or `MISSING` if it is neither."""
    try:
        value = loads(text)
    except ValueError:
        return MISSING
    return value if isinstance(value, dict | list) else MISSING


def same_wire(one: Any, other: Any) -> bool:
    """Whether two wire forms show as the same cell: 1 is not True, and a raw object equals its encoded text."""
    if one.__class__ in _PLAIN and other.__class__ in _PLAIN:
        return bool(one == other)
    if isinstance(one, dict | list) or isinstance(other, dict | list):
        return bool(_encoded(one) == _encoded(other))
    return one is other  # a bool is only itself


def _encoded(wire: Any) -> Any:
    return ENCODED + dumps(wire) if isinstance(wire, dict | list) else wire
