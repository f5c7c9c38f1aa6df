"""Telling the listeners what a transaction amounts to, in the peer's order: ids first, then cells up to tables.

Only what somebody listens to is worked out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mergesync.types import MISSING

if TYPE_CHECKING:
    from mergesync.store.core import StoreCore
    from mergesync.store.transaction import Change, NetChanges

__all__ = [
    "cell_change", "changed_cell_ids", "changed_row_ids", "changed_table_ids", "guarded", "id_changes", "notify",
    "table_cell_ids", "value_change",
]  # fmt: skip

_ID_KINDS = frozenset(
    (
        "has_tables", "table_ids", "has_table", "table_cell_ids", "has_table_cell", "row_count", "row_ids",
        "sorted_row_ids", "has_row", "cell_ids", "has_cell",
    )
)  # fmt: skip
_CELL_KINDS = frozenset(("cell", "row", "table", "tables"))
_VALUE_KINDS = frozenset(("has_values", "value_ids", "has_value", "value", "values"))
_INVALID_KINDS = frozenset(("invalid_cell", "invalid_value"))

_IdChanges = dict[str, int]


def guarded(errors: list[Exception] | None, call: Callable[..., None], *arguments: Any) -> None:
    """Call a listener; where errors are collected, one that fails does not keep the others from being called."""
    if errors is None:
        call(*arguments)
        return
    try:
        call(*arguments)
    except Exception as error:
        errors.append(error)


def notify(store: StoreCore, *, mutator: bool, errors: list[Exception] | None) -> None:
    """Call all listeners, other than those of transactions, that may or may not write.

    Args:
        store: in its outermost transaction.
        mutator: whether to call those that may write.
        errors: where to put what listeners raise; None to let the first one through.
    """
    listeners = store._listeners
    if listeners.any(mutator, _INVALID_KINDS):
        _Round(store, mutator, errors).tell_invalid()
    if listeners.any(mutator, _ID_KINDS | _CELL_KINDS):
        _Round(store, mutator, errors).tell_tables(store._changes_so_far())
    if listeners.any(mutator, _VALUE_KINDS):  # mutators of values hear what those of cells wrote
        _Round(store, mutator, errors).tell_values(store._changes_so_far())


def cell_change(store: StoreCore, changes: NetChanges) -> Callable[[str, str, str], tuple[bool, Any, Any]]:
    """`get_cell_change(table_id, row_id, cell_id) -> (changed, old, new)`; old and new are alike if not changed."""

    def get_cell_change(table_id: str, row_id: str, cell_id: str) -> tuple[bool, Any, Any]:
        change = changes.rows.get(table_id, {}).get(row_id, {}).get(cell_id)
        if change is not None:
            return True, *change
        table = store._tree.tables.children.get(table_id)
        row = None if table is None else table.children.get(row_id)
        cell = MISSING if row is None else store._show(table_id, cell_id, row.stamps.get(cell_id))
        return False, cell, cell

    return get_cell_change


def value_change(store: StoreCore, changes: NetChanges) -> Callable[[str], tuple[bool, Any, Any]]:
    """`get_value_change(value_id) -> (changed, old, new)`; old and new are alike if not changed."""

    def get_value_change(value_id: str) -> tuple[bool, Any, Any]:
        change = changes.values.get(value_id)
        if change is not None:
            return True, *change
        value = store._show(None, value_id, store._tree.values.stamps.get(value_id))
        return False, value, value

    return get_value_change


def _id_change(change: Change) -> int:
    """1 if a leaf came, -1 if it went, 0 if it is there before and after."""
    old, new = change
    return (old is MISSING) - (new is MISSING)


def id_changes(changes: dict[str, Change]) -> _IdChanges:
    """The leaves that came (1) or went (-1)."""
    return {leaf_id: came for leaf_id, change in changes.items() if (came := _id_change(change))}


def changed_cell_ids(changes: NetChanges) -> dict[str, dict[str, _IdChanges]]:
    """By table and row, the cells that came or went."""
    return {t: {r: id_changes(cells) for r, cells in rows.items()} for t, rows in changes.rows.items()}


def changed_row_ids(store: StoreCore, table_id: str, rows: dict[str, _IdChanges]) -> _IdChanges:
    """The rows of a table that came or went, told by the cells that did."""
    table = store._tree.tables.children[table_id]
    changed: _IdChanges = {}
    for row_id, cells in rows.items():
        live = table.children[row_id].live
        if came := bool(live) - bool(live - sum(cells.values())):
            changed[row_id] = came
    return changed


def changed_table_ids(store: StoreCore, rows: dict[str, _IdChanges]) -> _IdChanges:
    """The tables that came or went, told by the rows that did."""
    changed: _IdChanges = {}
    for table_id, row_changes in rows.items():
        live = store._tree.tables.children[table_id].live
        if came := bool(live) - bool(live - sum(row_changes.values())):
            changed[table_id] = came
    return changed


def table_cell_ids(store: StoreCore, table_id: str) -> dict[str, int]:
    """In how many rows of a table each cell id shows, in the order of the rows."""
    counts: dict[str, int] = {}
    table = store._tree.tables.children.get(table_id)
    for row in table.children.values() if table else ():
        for cell_id, stamp in row.stamps.items():
            if store._shows(table_id, cell_id, stamp):
                counts[cell_id] = counts.get(cell_id, 0) + 1
    return counts


class _Round:
    """One pass over the listeners that may, or may not, write."""

    def __init__(self, store: StoreCore, mutator: bool, errors: list[Exception] | None) -> None:
        self.store = store
        self.mutator = mutator
        self.errors = errors

    def call(self, kind: str, ids: tuple[str, ...], *arguments: Any) -> None:
        for listener, _ in self.store._listeners.matching(kind, self.mutator, ids):
            guarded(self.errors, listener, self.store, *ids, *arguments)

    # --- what was refused

    def tell_invalid(self) -> None:
        transaction = self.store._transaction
        for ids, cells in list(transaction.invalid_cells.items()):
            self.call("invalid_cell", ids, list(cells))  # type: ignore[arg-type]
        for value_id, values in list(transaction.invalid_values.items()):
            self.call("invalid_value", (value_id,), list(values))  # type: ignore[arg-type]

    # --- what changed

    def tell_tables(self, changes: NetChanges) -> None:
        listeners = self.store._listeners
        if changes.rows and listeners.any(self.mutator, _ID_KINDS):
            self.tell_ids(changes)
        if changes.rows and listeners.any(self.mutator, _CELL_KINDS):
            self.tell_cells(changes)

    def tell_ids(self, changes: NetChanges) -> None:
        cells = changed_cell_ids(changes)
        rows = {table_id: changed_row_ids(self.store, table_id, changed) for table_id, changed in cells.items()}
        tables = changed_table_ids(self.store, rows)
        live = self.store._tree.tables.live
        lived = live - sum(tables.values())
        if bool(live) is not bool(lived):
            self.call("has_tables", (), bool(live))
        self.tell_id_changes("table_ids", "has_table", (), tables)
        for table_id in changes.rows:
            self.tell_table_cell_ids(table_id, cells[table_id])
        for table_id, changed in rows.items():
            if sum(changed.values()):
                self.call("row_count", (table_id,), self.store._tree.tables.children[table_id].live)
        for table_id, changed in rows.items():
            self.tell_id_changes("row_ids", "has_row", (table_id,), changed)
            self.tell_sorted_row_ids(table_id, None if changed else changes.rows[table_id])
        for table_id, changed_rows in cells.items():
            for row_id, changed in changed_rows.items():
                self.tell_id_changes("cell_ids", "has_cell", (table_id, row_id), changed)

    def tell_id_changes(self, ids_kind: str, has_kind: str, ids: tuple[str, ...], changed: _IdChanges) -> None:
        if changed:
            self.call(ids_kind, ids, lambda: dict(changed))
        for id_, came in changed.items():
            self.call(has_kind, (*ids, id_), came > 0)

    def tell_table_cell_ids(self, table_id: str, rows: dict[str, _IdChanges]) -> None:
        listeners = self.store._listeners
        if not listeners.any(self.mutator, frozenset(("table_cell_ids", "has_table_cell"))):
            return
        came: _IdChanges = {}
        for cells in rows.values():
            for cell_id, change in cells.items():
                came[cell_id] = came.get(cell_id, 0) + change
        counts = table_cell_ids(self.store, table_id) if came else {}
        changed = {
            cell_id: difference
            for cell_id, change in came.items()
            if (difference := bool(counts.get(cell_id, 0)) - bool(counts.get(cell_id, 0) - change))
        }
        self.tell_id_changes("table_cell_ids", "has_table_cell", (table_id,), changed)

    def tell_sorted_row_ids(self, table_id: str, rows: dict[str, dict[str, Change]] | None) -> None:
        """Rows came or went (None), or these cells changed; tell those whose slice may be another one now."""
        touched = None if rows is None else {cell_id for cells in rows.values() for cell_id in cells}
        for listener, order in self.store._listeners.matching("sorted_row_ids", self.mutator, (table_id,)):
            if touched is None or order.cell_id in touched:
                ids = order.sort(self.store, table_id)
                if ids != order.last_told:
                    order.last_told = ids
                    guarded(self.errors, listener, self.store, table_id, *order.arguments, list(ids))

    def tell_cells(self, changes: NetChanges) -> None:
        get_cell_change = cell_change(self.store, changes)
        for table_id, rows in changes.rows.items():
            for row_id, cells in rows.items():
                for cell_id, (old, new) in cells.items():
                    self.call("cell", (table_id, row_id, cell_id), new, old, get_cell_change)
                self.call("row", (table_id, row_id), get_cell_change)
            self.call("table", (table_id,), get_cell_change)
        self.call("tables", (), get_cell_change)

    def tell_values(self, changes: NetChanges) -> None:
        if not changes.values:
            return
        changed = id_changes(changes.values)
        live = self.store._tree.values.live
        if bool(live) is not bool(live - sum(changed.values())):
            self.call("has_values", (), bool(live))
        self.tell_id_changes("value_ids", "has_value", (), changed)
        get_value_change = value_change(self.store, changes)
        for value_id, (old, new) in changes.values.items():
            self.call("value", (value_id,), new, old, get_value_change)
        self.call("values", (), get_value_change)
