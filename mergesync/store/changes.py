"""What a transaction amounts to for an application: what shows now against what showed when it began."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from mergesync.store.jsjson import dumps
from mergesync.store.stamps import Stamp, cell_of
from mergesync.store.transaction import NEW, Transaction
from mergesync.store.tree import Leaves
from mergesync.types import CellOrMissing

__all__ = ["Change", "NetChanges", "ShownText", "net_changes"]

Change: TypeAlias = tuple[CellOrMissing, CellOrMissing]
"""`(old, new)` as an application sees them."""

ShownText: TypeAlias = Callable[[str | None, str, Stamp | None], bytes]
"""The JSON text that shows of a stamp, empty if nothing does: `text(table id or None for values, leaf id, stamp)`."""


class NetChanges:
    """What an application sees changed, in the order in which tables, rows and cells were first touched.

    Attributes:
        rows: by table, row and cell id, the `(old, new)` of each cell that differs.
        values: by value id, the same.
    """

    __slots__ = ("rows", "values")

    def __init__(self, rows: dict[str, dict[str, dict[str, Change]]], values: dict[str, Change]) -> None:
        self.rows: dict[str, dict[str, dict[str, Change]]] = rows
        self.values: dict[str, Change] = values


def net_changes(transaction: Transaction, old_text: ShownText, new_text: ShownText) -> NetChanges:
    """What shows now of what was touched, where it is not what showed before."""
    rows: dict[str, dict[str, dict[str, Change]]] = {}
    for table_id, row_id, row in transaction.rows:
        # A table has its place from when it was first touched, even if that comes to nothing.
        table = rows.setdefault(table_id, {})
        cells = _net(table_id, row, old_text, new_text)
        if cells:
            table[row_id] = cells
    values = _net(None, transaction.tree.values, old_text, new_text)
    return NetChanges({table_id: table for table_id, table in rows.items() if table}, values)


def _net(table_id: str | None, leaves: Leaves, old_text: ShownText, new_text: ShownText) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    stamps = leaves.stamps
    for leaf_id, old_stamp in _before(leaves):
        old = old_text(table_id, leaf_id, old_stamp)
        new = new_text(table_id, leaf_id, stamps.get(leaf_id))
        if old != new:
            change = cell_of(old), cell_of(new)
            # Texts of peers may be spaced otherwise and still be the same object.
            if not (_is_container(change[0]) and _is_container(change[1]) and dumps(change[0]) == dumps(change[1])):
                changes[leaf_id] = change
    return changes


def _is_container(cell: CellOrMissing) -> bool:
    return isinstance(cell, dict | list)


def _before(leaves: Leaves) -> Iterator[tuple[str, Stamp | None]]:
    if leaves.before is NEW:
        return ((leaf_id, None) for leaf_id in leaves.stamps)
    return iter((leaves.before or {}).items())
