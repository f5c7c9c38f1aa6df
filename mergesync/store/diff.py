"""What a peer lacks, told by its hashes (protocol section 8), and content as persisters keep it.

The asker sends hashes; the answerer returns stamps, without hashes, that the asker lacks or has otherwise. Nothing
tells the answerer what it lacks itself. Ids that the answerer does not know are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from mergesync.store.stamps import Stamp, unpack, unpacked
from mergesync.store.tree import Leaves, Table, Tables, Tree

__all__ = [
    "Hashes",
    "cell_diff",
    "cell_hashes",
    "hashed_leaves",
    "row_diff",
    "row_hashes",
    "stamped",
    "table_diff",
    "tree_changes",
    "tree_content",
    "value_diff",
]

Hashes: TypeAlias = Mapping[str, Any]


def stamped(thing: Any, hlc: str) -> list[Any]:
    """A stamp without a hash; an empty HLC is left out."""
    return [thing, hlc] if hlc else [thing]


def _row_stamp(row: Leaves) -> list[Any]:
    return stamped(unpacked(row.stamps), row.hlc)


def _table_stamp(table: Table) -> list[Any]:
    return stamped({row_id: _row_stamp(row) for row_id, row in table.children.items()}, table.hlc)


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


def row_diff(tables: Tables, theirs: Hashes) -> list[Any]:
    """Whole rows the asker lacks in the tables it names, and our hashes of the rows that differ."""
    lacking: dict[str, Any] = {}
    differing: dict[str, dict[str, int]] = {}
    for table_id, row_hashes_ in theirs.items():
        table = tables.children.get(table_id)
        if table is None:
            continue
        rows: dict[str, Any] = {}
        for row_id, row in table.children.items():
            if row_id not in row_hashes_:
                rows[row_id] = _row_stamp(row)
            elif (hash_ := row.hash() or 0) != row_hashes_[row_id]:
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


def cell_diff(tables: Tables, theirs: Hashes) -> list[Any]:
    """The cells that the asker lacks or has otherwise, in the rows it names."""
    found: dict[str, Any] = {}
    for table_id, rows in theirs.items():
        table = tables.children.get(table_id)
        if table is None:
            continue
        row_stamps = {}
        for row_id, hashes in rows.items():
            row = table.children.get(row_id)
            cells = {} if row is None else _leaves_otherwise(row, hashes)
            if row is not None and cells:
                row_stamps[row_id] = stamped({cell_id: list(unpack(cells[cell_id])) for cell_id in cells}, row.hlc)
        if row_stamps:
            found[table_id] = stamped(row_stamps, table.hlc)
    return stamped(found, tables.hlc)


def value_diff(values: Leaves, theirs: Hashes) -> list[Any]:
    """The values that the asker lacks or has otherwise."""
    return stamped(unpacked(_leaves_otherwise(values, theirs)), values.hlc)


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
