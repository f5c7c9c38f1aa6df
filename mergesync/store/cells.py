"""What a cell or value may be, and how it is written in a stamp (protocol section 2).

In a stamp, a deleted cell is the string U+FFFC, and an object or array is U+FFFD followed by its JSON text. That wire
form is what the tree holds, what hashes are made of, and what travels; it is decoded when somebody reads it.
"""

from __future__ import annotations

import math
from typing import Any

from mergesync.exceptions import InvalidCellError, InvalidIdError
from mergesync.limits import MAX_INTEGER
from mergesync.store.jsjson import canonical_number, dumps, loads
from mergesync.types import MISSING, Cell, CellOrMissing

__all__ = ["ENCODED", "TOMBSTONE", "check_id", "decode_cell", "encode_cell", "is_live", "same_wire"]

TOMBSTONE = "\ufffc"
"""Stands for undefined: this cell was deleted."""

ENCODED = "\ufffd"
"""Begins the wire form of an object or array."""


def check_id(id_: object) -> str:
    """An id as it is, if it is one.

    Raises:
        InvalidIdError: it is not a string.
    """
    if not isinstance(id_, str):
        raise InvalidIdError(f"an id must be a string, not {type(id_).__name__}: {id_!r:.80}")
    return _joined(id_)


def _joined(text: str) -> str:
    """Two surrogates side by side are one character in JavaScript; make them one here, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def encode_cell(cell: Cell) -> Any:
    """The wire form of a cell or value that an application writes.

    Raises:
        InvalidCellError: not JSON, NaN or infinite, an integer beyond 2**53, or a string reserved by the wire.

    Example:
        >>> encode_cell({"a": 1}), encode_cell(2.0), encode_cell("dog")
        ('\ufffd{"a":1}', 2, 'dog')
    """
    kind = type(cell)
    if kind is str:
        if cell >= TOMBSTONE and (cell == TOMBSTONE or cell[0] == ENCODED):  # type: ignore[operator,index]
            raise InvalidCellError(f"the string {cell!r:.40} is reserved by the wire format")
        return cell if cell.isascii() else _joined(cell)  # type: ignore[union-attr,arg-type]
    if cell is None or kind is bool:
        return cell
    if kind is int or kind is float:
        return _encode_number(cell)  # type: ignore[arg-type]
    return _encode_other(cell)


def _encode_number(number: int | float) -> int | float:
    if isinstance(number, int):
        if not -MAX_INTEGER <= number <= MAX_INTEGER:
            raise InvalidCellError("an integer beyond 2**53 is not exact in JavaScript")
    elif not math.isfinite(number):
        raise InvalidCellError(f"{number} is not JSON")
    return canonical_number(number)


def _encode_other(cell: Any) -> Any:
    if isinstance(cell, dict | list | tuple):
        try:
            return ENCODED + dumps(cell)
        except (TypeError, ValueError) as error:
            raise InvalidCellError(f"the object or array is not JSON: {error}") from error
        except RecursionError:
            raise InvalidCellError("the object or array is nested too deeply, or contains itself") from None
    if isinstance(cell, str):
        return encode_cell(str(cell))
    if isinstance(cell, int):
        return _encode_number(int(cell))
    if isinstance(cell, float):
        return _encode_number(float(cell))
    raise InvalidCellError(f"a cell must be JSON, not {type(cell).__name__}: {cell!r:.80}")


def decode_cell(wire: Any) -> CellOrMissing:
    """What an application sees of a wire form; `MISSING` if it is a tombstone, or nonsense from a peer.

    Example:
        >>> decode_cell("\ufffd[1,2]"), decode_cell("\ufffc"), decode_cell("dog")
        ([1, 2], MISSING, 'dog')
    """
    kind = type(wire)
    if kind is str:
        if wire < TOMBSTONE:
            return wire  # type: ignore[no-any-return]
        if wire == TOMBSTONE:
            return MISSING
        return _decode_object(wire[1:]) if wire[0] == ENCODED else wire
    if kind is dict or kind is list:
        return _decode_object(dumps(wire))  # raw from a peer; a copy, so that the reader cannot change the stamp
    return wire  # type: ignore[no-any-return]


def _decode_object(text: str) -> CellOrMissing:
    try:
        value = loads(text)
    except ValueError:
        return MISSING
    return value if isinstance(value, dict | list) else MISSING


def is_live(wire: Any) -> bool:
    """Whether a wire form shows as a cell: neither a tombstone nor nonsense from a peer (surprise 6)."""
    if type(wire) is str and wire >= TOMBSTONE:
        return wire != TOMBSTONE and (wire[0] != ENCODED or _decode_object(wire[1:]) is not MISSING)
    return True


def same_wire(one: Any, other: Any) -> bool:
    """Whether two wire forms show as the same cell: 1 is not True, and a raw object equals its encoded text."""
    if type(one) is type(other) and not isinstance(one, dict | list):
        return bool(one == other)
    if isinstance(one, dict | list) or isinstance(other, dict | list):
        return bool(_encoded(one) == _encoded(other))
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    return isinstance(one, int | float) and isinstance(other, int | float) and one == other


def _encoded(wire: Any) -> Any:
    return ENCODED + dumps(wire) if isinstance(wire, dict | list) else wire
