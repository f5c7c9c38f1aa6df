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
from mergesync.sync.admission import Leaf, body_of
from mergesync.types import MISSING, MergeableChanges

__all__ = [
    "Edits", "changes_of", "check_version", "compare_and_set", "content_of", "decode_edits", "encode_edits",
    "stamped_now", "version_now", "version_of",
]  # fmt: skip

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


def check_version(store: MergeableStore, version: str) -> None:
    """Nothing, if a version is the present one.

    Raises:
        StaleVersionError: it is not.
        ContentError: it is no version.
    """
    present = version_now(store, version)
    if present != version:
        raise StaleVersionError("it has changed since", version=present, content=content_of(store, version))


def version_now(store: MergeableStore, version: str) -> str:
    """The present version of the part that a version is of.

    Raises:
        ContentError: it is no version.
    """
    ids = _ids_in(version)
    return dumps([ids, _mark(store, ids)])


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
    edits = decode_edits(encode_edits(edits))
    check_version(store, version)
    store.merge_checked(changes_of(store, edits))
    return version_now(store, version)


def changes_of(store: MergeableStore, edits: Edits) -> MergeableChanges:
    """Changes with stamps that make edits: each leaf gets a new one, also where it stays what it is.

    So of two writers that want the same, one makes a new version, and the other hears that.

    Args:
        store: its clock stamps, and what is in it says what there is to be deleted.
        edits: checked.
    """
    tables, values = edits
    leaves: dict[Leaf, Any] = {}
    for table_id, table in tables.items():
        for row_id, row in _there(table, store.get_row_ids(table_id)):
            for cell_id, cell in _there(row, store.get_cell_ids(table_id, row_id)):
                leaves[table_id, row_id, cell_id] = cell
    for value_id, value in values.items():
        leaves[None, "", value_id] = value
    return stamped_now(store, {leaf: _encode(cell) for leaf, cell in leaves.items()})


def stamped_now(store: MergeableStore, wires: dict[Leaf, Any]) -> MergeableChanges:
    """Changes that put these wire forms in place of whatever is there.

    Args:
        store: its clock stamps.
        wires: by leaf.
    """
    return body_of({leaf: [wire, store.get_next_hlc()] for leaf, wire in wires.items()})


def _there(children: Any, ids: list[str]) -> Iterator[tuple[str, Any]]:
    """What is to become of children; if their container is to go, all that are there go."""
    return iter([(id_, MISSING) for id_ in ids] if children is MISSING else children.items())


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
