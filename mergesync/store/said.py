"""What the caller of a setter gives, checked as a whole and turned into JSON texts before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mergesync.exceptions import ContentError, InvalidCellError
from mergesync.store.cells import TOMBSTONE, check_id, decode_cell, encode_cell
from mergesync.store.jsjson import js_ordered, loads, quoted, string_text
from mergesync.store.stamps import wire_text
from mergesync.types import MISSING

__all__ = [
    "TableTexts",
    "Texts",
    "called",
    "cell_text",
    "decoded",
    "leaf_texts",
    "parsed",
    "table_texts",
    "tables_texts",
]

Texts: TypeAlias = dict[str, bytes]
"""The texts of a row or of the values, by id, in JavaScript's key order."""

TableTexts: TypeAlias = dict[str, Texts]


def called(said: Any) -> Any:
    """What was given as such, or by a callable."""
    return said() if callable(said) else said


def cell_text(cell: Any) -> bytes:
    """The text of a cell that an application writes.

    Raises:
        InvalidCellError: it is not JSON, or a string reserved by the wire format.
    """
    if cell.__class__ is str and cell < TOMBSTONE:
        try:
            return quoted(cell).encode()
        except UnicodeEncodeError:
            return string_text(cell)
    return wire_text(encode_cell(cell, finite=True))


def tables_texts(tables: Any) -> dict[str, TableTexts]:
    """The texts of tables, given as `{table_id: {row_id: {cell_id: cell}}}`."""
    return {table_id: table_texts(table) for table_id, table in _items(tables, "tables")}


def table_texts(table: Any) -> TableTexts:
    """The texts of a table, given as `{row_id: {cell_id: cell}}`."""
    return {row_id: leaf_texts(row) for row_id, row in _items(table, "a table")}


def leaf_texts(leaves: Any) -> Texts:
    """The texts of a row or of the values, given as `{id: cell}`."""
    return {leaf_id: cell_text(cell) for leaf_id, cell in _items(leaves, "a row or the values")}


def _items(mapping: Any, what: str) -> list[tuple[str, Any]]:
    """What is in a mapping that the caller gave, with ids checked, in JavaScript's order."""
    if not isinstance(mapping, Mapping):
        raise InvalidCellError(f"{what} must be given as a dict, not {type(mapping).__name__}")
    checked = {check_id(id_): thing for id_, thing in mapping.items()}
    return [(id_, checked[id_]) for id_ in js_ordered(checked)]


def parsed(text: str) -> Any:
    """What a JSON text says, with cells in wire form.

    Raises:
        ContentError: it is not JSON.
    """
    try:
        return loads(text)
    except ValueError as error:
        raise ContentError(f"not JSON: {error}") from error


def decoded(said: Any, depth: int) -> Any:
    """Parsed JSON with the cells, so many levels down, as an application gives them.

    TinyBase gives and takes objects and arrays in wire form there. What does not decode is for the setter to refuse.
    """
    if depth == 0:
        cell = decode_cell(said)
        return said if cell is MISSING else cell
    if not isinstance(said, dict):
        raise ContentError(f"not an object of tables, rows, cells or values, but {said!r:.40}")
    return {id_: decoded(child, depth - 1) for id_, child in said.items()}
