"""Versions of parts of a store, and changes that are made only where a version is still the present one.

A version is made of what peers hold in common: the HLC of a cell or value, the hashes of a row, a table or everything.
So a replica that is equal to the server's tells the same version without asking, and setting an old value again makes a
new one. Applications see them as texts without a meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, TypeAlias

from mergesync.exceptions import ContentError, StaleVersionError
from mergesync.store import MergeableStore
from mergesync.store.cells import TOMBSTONE, check_id, decode_cell, encode_cell
from mergesync.store.jsjson import dumps, parse
from mergesync.types import MISSING

__all__ = ["Edits", "compare_and_set", "content_of", "decode_edits", "encode_edits", "version_of"]

Edits: TypeAlias = Any
"""`(tables, values)`: the cells and values to set, with `MISSING` for a table, row, cell or value that is to go."""

_UNLIKE_ANY = -1


def version_of(
    store: MergeableStore,
    table_id: str | None = None,
    row_id: str | None = None,
    cell_id: str | None = None,
    *,
    value_id: str | None = None,
) -> str:
    """The version of everything, of a table, a row, a cell or a value.

    Example:
        >>> store = MergeableStore("s1", get_now=lambda: 1704067200000).set_value("open", True)
        >>> version_of(store, value_id="open")
        '[[null,"open"],"Nn1JUF-----7JQY8"]'
    """
    if value_id is not None:
        if table_id is not None:
            raise TypeError("a version is that of a value or of something in a table, not of both")
        return dumps([[None, check_id(value_id)], _mark(store, [None, value_id])])
    ids = [check_id(each) for each in (table_id, row_id, cell_id) if each is not None]
    if [table_id, row_id, cell_id][: len(ids)] != ids:
        raise TypeError("a row needs its table, and a cell its row")
    return dumps([ids, _mark(store, ids)])


def _mark(store: MergeableStore, ids: list[Any]) -> Any:
    """What changes with each change of a part."""
    match ids:
        case []:
            return store.get_mergeable_content_hashes()
        case [None, value_id]:
            return (store.get_stamp(None, "", value_id) or ("", ""))[1]
        case [table_id]:
            return store.get_mergeable_table_hashes().get(table_id, 0)
        case [table_id, row_id]:
            hashes = store.get_mergeable_cell_hashes({table_id: {row_id: _UNLIKE_ANY}})
            cells = dumps(sorted(hashes.get(table_id, {}).get(row_id, {}).items()))
            return blake2b(cells.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        case _:
            return (store.get_stamp(*ids) or ("", ""))[1]


def _ids_in(version: Any) -> list[Any]:
    """Which part a version is of.

    Raises:
        ContentError: it is none.
    """
    try:
        scope = parse(version) if isinstance(version, str) else None
    except ValueError:
        scope = None
    match scope:
        case [list(ids), _] if len(ids) <= 3 and all(isinstance(each, str) for each in ids):
            return ids
        case [[None, str(value_id)], _]:
            return [None, value_id]
        case _:
            raise ContentError("not a version")


def content_of(store: MergeableStore, version: str) -> Any:
    """What is there now of the part that a version is of: `(tables, values)`, a table, a row, a cell or a value.

    Raises:
        ContentError: it is no version.
    """
    match _ids_in(version):
        case []:
            return store.get_content()
        case [None, value_id]:
            return store.get_value(value_id)
        case [table_id]:
            return store.get_table(table_id)
        case [table_id, row_id]:
            return store.get_row(table_id, row_id)
        case ids:
            return store.get_cell(*ids)


def compare_and_set(store: MergeableStore, version: str, edits: Edits) -> str:
    """Make changes, if a version is still the present one, in one step.

    Args:
        store: the store.
        version: of any part of it.
        edits: anywhere in it.

    Returns:
        The version of that part afterwards.

    Raises:
        StaleVersionError: it is not; nothing changed.
        ContentError: it is no version, or the changes are none; nothing changed.
        InvalidIdError: an id is no string; nothing changed.
        InvalidCellError: a cell is no JSON; nothing changed.
    """
    ids = _ids_in(version)
    tables, values = decode_edits(encode_edits(edits))
    present = dumps([ids, _mark(store, ids)])
    if present != version:
        raise StaleVersionError("it has changed since", version=present, content=content_of(store, version))
    with store.transaction():
        _forget_what_is_set_again(store, tables, values)
        store.apply_changes([tables, values, 1])
    return dumps([ids, _mark(store, ids)])


def _forget_what_is_set_again(store: MergeableStore, tables: Any, values: Any) -> None:
    """See to it that also setting what is there already makes a new stamp, and so a new version: one writer wins."""
    cells = [
        (table_id, row_id, cell_id)
        for table_id, table in _not_missing(tables)
        for row_id, row in _not_missing(table)
        for cell_id, cell in _not_missing(row)
        if store.get_cell(table_id, row_id, cell_id) == cell
    ]
    for cell in cells:
        store.del_cell(*cell, force_del=True)
    for value_id, value in _not_missing(values):
        if store.get_value(value_id) == value:
            store.del_value(value_id)


def _not_missing(children: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((id_, child) for id_, child in children.items() if child is not MISSING)


def encode_edits(edits: Edits) -> Any:
    """Changes as JSON: cells in wire form, and a tombstone for what is to go.

    Raises:
        ContentError: they are malformed.
        InvalidIdError: an id is no string.
        InvalidCellError: a cell is no JSON.
    """
    match edits:
        case [dict(tables), dict(values)]:
            return [_coded(tables, 3, _encode), _coded(values, 1, _encode)]
        case _:
            raise ContentError("changes must be (tables, values), which are dicts")


def decode_edits(body: Any) -> Edits:
    """Changes as they were.

    Raises:
        ContentError: they are malformed.
    """
    match body:
        case [dict(tables), dict(values)]:
            return [_coded(tables, 3, _decode), _coded(values, 1, _decode)]
        case _:
            raise ContentError("changes must be [tables, values], which are objects")


def _coded(part: Any, depth: int, code: Any) -> Any:
    """A part of changes with all its cells coded; tables are three levels deep, values one."""
    if depth == 0 or part is MISSING or part == TOMBSTONE:
        return code(part)
    if not isinstance(part, dict):
        raise ContentError("tables, rows and values to be set must be dicts")
    return {check_id(id_): _coded(child, depth - 1, code) for id_, child in part.items()}


def _encode(cell: Any) -> Any:
    return TOMBSTONE if cell is MISSING else encode_cell(cell)


def _decode(wire: Any) -> Any:
    cell = decode_cell(wire)
    if cell is MISSING and wire != TOMBSTONE:
        raise ContentError(f"not a cell: {wire!r:.40}")
    return cell
