"""What a peer lacks, told by its hashes (protocol section 8), and content as persisters keep it.

The asker sends hashes; the answerer returns stamps, without hashes, that the asker lacks or has otherwise. Nothing
tells the answerer what it lacks itself. Ids that the answerer does not know are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from mergesync.store.stamps import Stamp, unpack, unpacked
from mergesync.store.tree import Leaves, Table, Tables, Tree

__all__ = [
    "Hashes",
    "Room",
    "cell_diff",
    "cell_hashes",
    "hashed_leaves",
    "row_diff",
    "row_hashes",
    "row_size",
    "row_stamp",
    "stamped",
    "table_diff",
    "table_size",
    "tree_changes",
    "tree_content",
    "value_diff",
]

Hashes: TypeAlias = Mapping[str, Any]


class Room:
    """How much more an answer may hold, in bytes of JSON.

    The first thing always has room, so that something is answered whatever it takes.

    Args:
        size_bytes: how much there is; None for no bound.

    Attributes:
        is_full: whether something had no room; then nothing else has, however small.
    """

    __slots__ = ("_left", "_used", "is_full")

    def __init__(self, size_bytes: int | None = None) -> None:
        self.is_full: bool = False
        self._left: float = math.inf if size_bytes is None else size_bytes
        self._used = False

    def take(self, size_bytes: int) -> bool:
        """Take room, if there is enough of it."""
        if self.is_full or (self._used and size_bytes > self._left):
            self.is_full = True
            return False
        self._left -= size_bytes
        self._used = True
        return True


_PUNCTUATION = 14  # bytes of JSON beyond the id and the stamp of a leaf, at most
_HASH = 14  # bytes of JSON of a hash and what belongs to it, beyond its id


def _id_size(id_: str) -> int:
    return len(id_) if id_.isascii() and id_.isprintable() else 6 * len(id_)


def _leaf_size(leaf_id: str, stamp: Stamp) -> int:
    return _id_size(leaf_id) + len(stamp) + _PUNCTUATION


def row_size(row_id: str, row: Leaves) -> int:
    """About how many bytes of JSON the stamp of a row takes, from the sizes of what is in it."""
    return _id_size(row_id) + _PUNCTUATION + sum(map(_leaf_size, row.stamps, row.stamps.values()))


def table_size(table: Table, enough: int) -> int:
    """About how many bytes of JSON the stamp of a table takes; it is not counted on when it is enough."""
    size = 0
    for row_id, row in table.children.items():
        size += row_size(row_id, row)
        if size > enough:
            break
    return size


def stamped(thing: Any, hlc: str) -> list[Any]:
    """A stamp without a hash; an empty HLC is left out."""
    return [thing, hlc] if hlc else [thing]


def row_stamp(row: Leaves) -> list[Any]:
    """The stamp of a row."""
    return stamped(unpacked(row.stamps), row.hlc)


def _table_stamp(table: Table) -> list[Any]:
    return stamped({row_id: row_stamp(row) for row_id, row in table.children.items()}, table.hlc)


def table_diff(tables: Tables, theirs: Hashes) -> list[Any]:
    """Whole tables the asker lacks, and our hashes of the tables that differ."""
    ours = tables.child_hashes()
    lacking = {table_id: _table_stamp(tables.children[table_id]) for table_id in ours if table_id not in theirs}
    differing = {table_id: hash_ for table_id, hash_ in ours.items() if theirs.get(table_id, hash_) != hash_}
    return [stamped(lacking, tables.hlc), differing]


def row_hashes(tables: Tables, theirs: Hashes) -> dict[str, dict[str, int]]:
    """Our row hashes for the tables that we know and of which the other's hash differs from ours."""
    found = {}
    for table_id, hash_ in theirs.items():
        table = tables.children.get(table_id)
        if table is not None and table.children and (table.hash() or 0) != hash_:
            found[table_id] = table.child_hashes()
    return found


def row_diff(tables: Tables, theirs: Hashes, room: Room | None = None, room_for_asker: Room | None = None) -> list[Any]:
    """Whole rows the asker lacks in the tables it names, and our hashes of the rows that differ.

    Args:
        tables: ours.
        theirs: the asker's row hashes.
        room: for the rows it lacks.
        room_for_asker: for the hashes of the cells of rows that differ, with which it asks next.
    """
    room, room_for_asker = room or Room(), room_for_asker or Room()
    lacking: dict[str, Any] = {}
    differing: dict[str, dict[str, int]] = {}
    for table_id, row_hashes_ in theirs.items():
        table = tables.children.get(table_id)
        if table is None:
            continue
        rows: dict[str, Any] = {}
        for row_id, row in table.children.items():
            if row_id not in row_hashes_:
                if room.take(row_size(row_id, row)):
                    rows[row_id] = row_stamp(row)
            elif (hash_ := row.hash() or 0) != row_hashes_[row_id]:
                hashes_size = sum(_id_size(cell_id) + _HASH for cell_id in row.stamps)
                if room_for_asker.take(_id_size(row_id) + _HASH + hashes_size):
                    differing.setdefault(table_id, {})[row_id] = hash_
        if rows:
            lacking[table_id] = [rows]
    return [stamped(lacking, tables.hlc), differing]


def cell_hashes(tables: Tables, theirs: Hashes) -> dict[str, dict[str, dict[str, int]]]:
    """Our cell hashes for the rows that we know and of which the other's hash differs from ours."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for table_id, rows in theirs.items():
        table = tables.children.get(table_id)
        for row_id, hash_ in rows.items():
            row = None if table is None else table.children.get(row_id)
            if row is not None and row.stamps and (row.hash() or 0) != hash_:
                found.setdefault(table_id, {})[row_id] = row.leaf_hashes()
    return found


def cell_diff(tables: Tables, theirs: Hashes, room: Room | None = None) -> list[Any]:
    """The cells that the asker lacks or has otherwise, in the rows it names, as far as there is room."""
    room = room or Room()
    found: dict[str, Any] = {}
    for table_id, rows in theirs.items():
        table = tables.children.get(table_id)
        if table is None:
            continue
        row_stamps = {}
        for row_id, hashes in rows.items():
            row = table.children.get(row_id)
            cells = {} if row is None else _leaves_otherwise(row, hashes)
            if row is not None and cells and room.take(row_size(row_id, row)):
                row_stamps[row_id] = stamped({cell_id: list(unpack(cells[cell_id])) for cell_id in cells}, row.hlc)
        if row_stamps:
            found[table_id] = stamped(row_stamps, table.hlc)
    return stamped(found, tables.hlc)


def value_diff(values: Leaves, theirs: Hashes, room: Room | None = None) -> list[Any]:
    """The values that the asker lacks or has otherwise, as far as there is room."""
    room = room or Room()
    otherwise = _leaves_otherwise(values, theirs)
    found = {value_id: stamp for value_id, stamp in otherwise.items() if room.take(_leaf_size(value_id, stamp))}
    return stamped(unpacked(found), values.hlc)


def _leaves_otherwise(leaves: Leaves, theirs: Hashes) -> dict[str, Stamp]:
    hashes = leaves.leaf_hashes()
    return {leaf_id: stamp for leaf_id, stamp in leaves.stamps.items() if theirs.get(leaf_id) != hashes[leaf_id]}


def tree_changes(tree: Tree) -> list[Any]:
    """Everything without hashes: what a peer would send that has it all."""
    tables = {table_id: _table_stamp(table) for table_id, table in tree.tables.children.items()}
    values = tree.values
    return [stamped(tables, tree.tables.hlc), stamped(unpacked(values.stamps), values.hlc), 1]


def tree_content(tree: Tree) -> list[Any]:
    """Everything with hashes: what persisters store."""
    hash_ = tree.tables.hash() or 0  # brings all hashes below it up to date in one go
    tables = {
        table_id: [
            {
                row_id: [hashed_leaves(row, row.stamps), row.hlc, row.hash() or 0]
                for row_id, row in table.children.items()
            },
            table.hlc,
            table.hash() or 0,
        ]
        for table_id, table in tree.tables.children.items()
    }
    values = tree.values
    return [[tables, tree.tables.hlc, hash_], [hashed_leaves(values, values.stamps), values.hlc, values.hash() or 0]]


def hashed_leaves(leaves: Leaves, stamps: Mapping[str, Stamp]) -> dict[str, list[Any]]:
    """Some of the stamps of a container, each with its hash."""
    if leaves.has_given_hashes:
        return {leaf_id: [*unpack(stamp), leaves.hash_leaf(leaf_id)] for leaf_id, stamp in stamps.items()}
    return unpacked(stamps, with_hash=True)
