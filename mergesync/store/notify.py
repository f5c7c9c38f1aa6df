"""Telling the listeners what a transaction amounts to, in the peer's order: ids first, then cells up to tables.

Each round sees the changes as they were when it began: a mutator is not called for what an earlier one wrote, but finds
it in the store. Only what somebody listens to is worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mergesync.types import MISSING

if TYPE_CHECKING:
    from mergesync.store.changes import Change, NetChanges
    from mergesync.store.core import StoreCore

__all__ = ["Round", "call_all", "changed_cell_ids", "changed_row_ids", "changed_table_ids", "guarded", "id_changes"]

_ID_KINDS = (
    "has_tables", "table_ids", "has_table", "table_cell_ids", "has_table_cell", "row_count", "row_ids",
    "sorted_row_ids", "has_row", "cell_ids", "has_cell",
)  # fmt: skip
_CELL_KINDS = ("cell", "row", "table", "tables")
_VALUE_KINDS = ("has_values", "value_ids", "has_value", "value", "values")

IdChanges = dict[str, int]
"""1 for an id that came, -1 for one that went."""


def call_all(store: StoreCore, kind: str, errors: list[Exception] | None = None) -> None:
    """Call the listeners of transactions; where errors are collected, one that fails keeps nothing from the others."""
    for call, _ in store._listeners.matching(kind, False, ()):
        guarded(errors, call, store)


def guarded(errors: list[Exception] | None, call: Callable[..., None], *arguments: Any) -> None:
    """Call a listener; what it raises is collected, or goes through if there is nowhere to put it."""
    if errors is None:
        call(*arguments)
        return
    try:
        call(*arguments)
    except Exception as error:
        errors.append(error)


# --- which ids came and went


def id_changes(changes: dict[str, Change]) -> IdChanges:
    """The leaves that came or went."""
    return {
        leaf_id: (old is MISSING) - (new is MISSING)
        for leaf_id, (old, new) in changes.items()
        if (old is MISSING) is not (new is MISSING)
    }


def changed_cell_ids(changes: NetChanges) -> dict[str, dict[str, IdChanges]]:
    """By table and row, the cells that came or went."""
    return {t: {r: id_changes(cells) for r, cells in rows.items()} for t, rows in changes.rows.items()}


def _came(live: int, change: int) -> int:
    """1 if something of which so much is live came to life by this change, -1 if it ceased, else 0."""
    return (live > 0) - (live - change > 0)


def changed_row_ids(store: StoreCore, table_id: str, rows: dict[str, IdChanges]) -> IdChanges:
    """The rows of a table that came or went, told by the cells that did."""
    changed: IdChanges = {}
    for row_id, cells in rows.items():
        row = store._find_row(table_id, row_id)
        if came := _came(row.live if row else 0, sum(cells.values())):
            changed[row_id] = came
    return changed


def changed_table_ids(store: StoreCore, rows: dict[str, IdChanges]) -> IdChanges:
    """The tables that came or went, told by the rows that did."""
    changed: IdChanges = {}
    for table_id, row_changes in rows.items():
        table = store._find_table(table_id)
        if came := _came(table.live if table else 0, sum(row_changes.values())):
            changed[table_id] = came
    return changed


def _changed_table_cell_ids(store: StoreCore, table_id: str, rows: Iterable[IdChanges]) -> IdChanges:
    """The cell ids that came into use in a table or went out of it, told by the cells that did."""
    table = store._find_table(table_id)
    counts = table.cells if table else {}
    totals: IdChanges = {}
    for cells in rows:
        for cell_id, change in cells.items():
            totals[cell_id] = totals.get(cell_id, 0) + change
    return {cell_id: came for cell_id, change in totals.items() if (came := _came(counts.get(cell_id, 0), change))}


class Round:
    """One pass over the listeners that may write, or over those that may only look.

    Args:
        store: in its outermost transaction.
        errors: where to put what listeners raise, for those that may only look: one that fails keeps nothing from the
            others. None for those that may write; the first one that raises ends the round.
    """

    def __init__(self, store: StoreCore, errors: list[Exception] | None) -> None:
        self.store = store
        self.errors = errors
        self.mutator: bool = errors is None

    def tell(self) -> None:
        """Call all listeners, other than those of transactions."""
        transaction = self.store._transaction
        for (table_id, row_id, cell_id), cells in list(transaction.invalid_cells.items()):
            self._call("invalid_cell", (table_id, row_id, cell_id), list(cells))
        if self._heard(*_ID_KINDS, *_CELL_KINDS):
            self._tell_tables(self.store._net_changes())
        for value_id, values in list(transaction.invalid_values.items()):
            self._call("invalid_value", (value_id,), list(values))
        if self._heard(*_VALUE_KINDS):
            self._tell_values(self.store._net_changes())

    def _heard(self, *kinds: str) -> bool:
        return any(self.store._listeners.has(kind, self.mutator) for kind in kinds)

    def _call(self, kind: str, ids: tuple[str | None, ...], *arguments: Any) -> None:
        if not self.store._listeners.has(kind, self.mutator):
            return
        shown = tuple(MISSING if id_ is None else id_ for id_ in ids)
        for call, _ in self.store._listeners.matching(kind, self.mutator, ids):
            guarded(self.errors, call, self.store, *shown, *arguments)

    # --- tables

    def _tell_tables(self, changes: NetChanges) -> None:
        if changes.rows:
            if self._heard(*_ID_KINDS):
                self._tell_ids(changes)
            if self._heard(*_CELL_KINDS):
                self._tell_cells(changes)

    def _tell_ids(self, changes: NetChanges) -> None:
        store = self.store
        cells = changed_cell_ids(changes)
        rows = {table_id: changed_row_ids(store, table_id, changed) for table_id, changed in cells.items()}
        tables = changed_table_ids(store, rows)
        table_cells = {
            table_id: _changed_table_cell_ids(store, table_id, changed.values()) for table_id, changed in cells.items()
        }
        counts = {table_id: sum(changed.values()) for table_id, changed in rows.items()}
        if came := _came(store._tree.tables.live, sum(tables.values())):
            self._call("has_tables", (), came > 0)
        self._tell_id_changes("table_ids", (), tables)
        self._tell_has("has_table", (), tables)
        for table_id, changed in table_cells.items():
            self._tell_id_changes("table_cell_ids", (table_id,), changed)
            self._tell_has("has_table_cell", (table_id,), changed)
        for table_id, change in counts.items():
            if change:
                table = store._find_table(table_id)
                self._call("row_count", (table_id,), table.live if table else 0)
        for table_id, changed in rows.items():
            self._tell_id_changes("row_ids", (table_id,), changed)
            self._tell_has("has_row", (table_id,), changed)
            if changed:
                self._tell_sorted(table_id, None)
        for table_id, changed in rows.items():
            if not changed:
                self._tell_sorted(table_id, {cell_id for row in changes.rows[table_id].values() for cell_id in row})
        for table_id, changed_rows in cells.items():
            for row_id, changed in changed_rows.items():
                self._tell_id_changes("cell_ids", (table_id, row_id), changed)
                self._tell_has("has_cell", (table_id, row_id), changed)

    def _tell_id_changes(self, kind: str, ids: tuple[str, ...], changed: IdChanges) -> None:
        if changed:
            self._call(kind, ids, lambda: dict(changed))

    def _tell_has(self, kind: str, ids: tuple[str, ...], changed: IdChanges) -> None:
        for id_, came in changed.items():
            self._call(kind, (*ids, id_), came > 0)

    def _tell_sorted(self, table_id: str, touched: set[str] | None) -> None:
        """Rows came or went (None), or these cells changed; tell those whose page is another one now."""
        for call, page in self.store._listeners.matching("sorted_row_ids", self.mutator, (table_id,)):
            if (touched is None or page.cell_id in touched) and page.turn(self.store):
                guarded(self.errors, call, self.store, *page.arguments, list(page.row_ids))

    def _tell_cells(self, changes: NetChanges) -> None:
        get_cell_change = self.store._cell_change
        for table_id, rows in changes.rows.items():
            for row_id, cells in rows.items():
                for cell_id, (old, new) in cells.items():
                    self._call("cell", (table_id, row_id, cell_id), new, old, get_cell_change)
                self._call("row", (table_id, row_id), get_cell_change)
            self._call("table", (table_id,), get_cell_change)
        self._call("tables", (), get_cell_change)

    # --- values

    def _tell_values(self, changes: NetChanges) -> None:
        if not changes.values:
            return
        changed = id_changes(changes.values)
        if came := _came(self.store._tree.values.live, sum(changed.values())):
            self._call("has_values", (), came > 0)
        self._tell_id_changes("value_ids", (), changed)
        self._tell_has("has_value", (), changed)
        get_value_change: Callable[..., Any] = self.store._value_change
        for value_id, (old, new) in changes.values.items():
            self._call("value", (value_id,), new, old, get_value_change)
        self._call("values", (), get_value_change)
