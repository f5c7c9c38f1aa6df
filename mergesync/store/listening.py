"""Adding listeners: at every level, with None as a wildcard for any id.

A listener is called with the store, the ids, and what is named below; it may declare fewer arguments. Listeners added
with `mutator=True` are called first and may write; all others may only look. None may be a coroutine function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from mergesync.store.cells import check_id
from mergesync.store.listeners import Listener, Pattern
from mergesync.store.schemas import Schemas
from mergesync.store.sorting import Page, Sorter

__all__ = ["Listening"]


class Listening(Schemas):
    """The methods of a store that add, call and remove listeners. Each adder returns the listener's id."""

    # --- tables

    def add_has_tables_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to tables being there or not: `listener(store, has_tables)`."""
        return self._listeners.add("has_tables", (), listener, mutator)

    def add_tables_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to any change of any cell: `listener(store, get_cell_change)`.

        `get_cell_change(table_id, row_id, cell_id)` gives `(changed, old, new)`.
        """
        return self._listeners.add("tables", (), listener, mutator)

    def add_table_ids_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to tables coming and going: `listener(store, get_id_changes)`; that gives `{id: 1 or -1}`."""
        return self._listeners.add("table_ids", (), listener, mutator)

    def add_has_table_listener(self, table_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to a table being there or not: `listener(store, table_id, has_table)`."""
        return self._listeners.add("has_table", (table_id,), listener, mutator)

    def add_table_listener(self, table_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to changes of a table: `listener(store, table_id, get_cell_change)`."""
        return self._listeners.add("table", (table_id,), listener, mutator)

    def add_table_cell_ids_listener(self, table_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to cell ids coming into use in a table: `listener(store, table_id, get_id_changes)`."""
        return self._listeners.add("table_cell_ids", (table_id,), listener, mutator)

    def add_has_table_cell_listener(
        self, table_id: str | None, cell_id: str | None, listener: Listener, mutator: bool = False
    ) -> str:
        """Listen to a cell id being in use in a table: `listener(store, table_id, cell_id, has_table_cell)`."""
        return self._listeners.add("has_table_cell", (table_id, cell_id), listener, mutator)

    # --- rows

    def add_row_count_listener(self, table_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to the number of rows: `listener(store, table_id, count)`."""
        return self._listeners.add("row_count", (table_id,), listener, mutator)

    def add_row_ids_listener(self, table_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to rows coming and going: `listener(store, table_id, get_id_changes)`."""
        return self._listeners.add("row_ids", (table_id,), listener, mutator)

    def add_sorted_row_ids_listener(
        self,
        table_id: str,
        cell_id: str | None,
        descending: bool,
        offset: int,
        limit: int | None,
        listener: Listener,
        mutator: bool = False,
        sorter: Sorter | None = None,
    ) -> str:
        """Listen to a page of sorted row ids, see `get_sorted_row_ids`; called when it is another one.

        The listener gets `(store, table_id, cell_id, descending, offset, limit, sorted_row_ids)`.
        """
        page = Page(self, check_id(table_id), cell_id, descending, offset, limit, sorter)
        return self._listeners.add("sorted_row_ids", (table_id,), listener, mutator, page)

    def add_has_row_listener(
        self, table_id: str | None, row_id: str | None, listener: Listener, mutator: bool = False
    ) -> str:
        """Listen to a row being there or not: `listener(store, table_id, row_id, has_row)`."""
        return self._listeners.add("has_row", (table_id, row_id), listener, mutator)

    def add_row_listener(
        self, table_id: str | None, row_id: str | None, listener: Listener, mutator: bool = False
    ) -> str:
        """Listen to changes of a row: `listener(store, table_id, row_id, get_cell_change)`.

        Example:
            >>> store = MergeableStore()
            >>> _ = store.add_row_listener("pets", None, lambda store, table_id, row_id: print(row_id, "changed"))
            >>> _ = store.set_cell("pets", "fido", "age", 3)
            fido changed
        """
        return self._listeners.add("row", (table_id, row_id), listener, mutator)

    # --- cells

    def add_cell_ids_listener(
        self, table_id: str | None, row_id: str | None, listener: Listener, mutator: bool = False
    ) -> str:
        """Listen to cells coming and going: `listener(store, table_id, row_id, get_id_changes)`."""
        return self._listeners.add("cell_ids", (table_id, row_id), listener, mutator)

    def add_has_cell_listener(
        self,
        table_id: str | None,
        row_id: str | None,
        cell_id: str | None,
        listener: Listener,
        mutator: bool = False,
    ) -> str:
        """Listen to a cell being there or not: `listener(store, table_id, row_id, cell_id, has_cell)`."""
        return self._listeners.add("has_cell", (table_id, row_id, cell_id), listener, mutator)

    def add_cell_listener(
        self,
        table_id: str | None,
        row_id: str | None,
        cell_id: str | None,
        listener: Listener,
        mutator: bool = False,
    ) -> str:
        """Listen to changes of a cell: `listener(store, table_id, row_id, cell_id, new, old, get_cell_change)`.

        `new` and `old` are `MISSING` where there is no cell.

        Example:
            >>> store = MergeableStore()
            >>> listener_id = store.add_cell_listener(None, None, "age", lambda s, t, r, c, new, old: print([old, new]))
            >>> _ = store.set_cell("pets", "fido", "age", 3)
            [MISSING, 3]
        """
        return self._listeners.add("cell", (table_id, row_id, cell_id), listener, mutator)

    def add_invalid_cell_listener(
        self,
        table_id: str | None,
        row_id: str | None,
        cell_id: str | None,
        listener: Listener,
        mutator: bool = False,
    ) -> str:
        """Listen to cells that the schema refused: `listener(store, table_id, row_id, cell_id, invalid_cells)`."""
        return self._listeners.add("invalid_cell", (table_id, row_id, cell_id), listener, mutator)

    # --- values

    def add_has_values_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to values being there or not: `listener(store, has_values)`."""
        return self._listeners.add("has_values", (), listener, mutator)

    def add_values_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to changes of any value: `listener(store, get_value_change)`; that gives `(changed, old, new)`."""
        return self._listeners.add("values", (), listener, mutator)

    def add_value_ids_listener(self, listener: Listener, mutator: bool = False) -> str:
        """Listen to values coming and going: `listener(store, get_id_changes)`."""
        return self._listeners.add("value_ids", (), listener, mutator)

    def add_has_value_listener(self, value_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to a value being there or not: `listener(store, value_id, has_value)`."""
        return self._listeners.add("has_value", (value_id,), listener, mutator)

    def add_value_listener(self, value_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to changes of a value: `listener(store, value_id, new, old, get_value_change)`."""
        return self._listeners.add("value", (value_id,), listener, mutator)

    def add_invalid_value_listener(self, value_id: str | None, listener: Listener, mutator: bool = False) -> str:
        """Listen to values that the schema refused: `listener(store, value_id, invalid_values)`."""
        return self._listeners.add("invalid_value", (value_id,), listener, mutator)

    # --- transactions

    def add_start_transaction_listener(self, listener: Listener) -> str:
        """Be called when a transaction begins: `listener(store)`."""
        return self._listeners.add("start_transaction", (), listener)

    def add_will_finish_transaction_listener(self, listener: Listener) -> str:
        """Be called before the other listeners hear of a transaction; may still write: `listener(store)`."""
        return self._listeners.add("will_finish_transaction", (), listener)

    def add_did_finish_transaction_listener(self, listener: Listener) -> str:
        """Be called when a transaction is over and cannot be taken back: `listener(store)`.

        `get_transaction_changes`, `get_transaction_log` and `get_transaction_mergeable_changes` tell what it was.
        """
        return self._listeners.add("did_finish_transaction", (), listener)

    # --- all of them

    def del_listener(self, listener_id: str) -> Self:
        """Remove a listener; an unknown id does nothing."""
        self._listeners.remove(listener_id)
        return self

    def call_listener(self, listener_id: str) -> Self:
        """Call a listener for everything it listens to that is there now, as if that had just been looked at.

        Listeners to transactions are called once, those to what a schema refuses not at all.
        """
        found = self._listeners.get(listener_id)
        if found is not None:
            kind, pattern, call, page = found
            if kind == "sorted_row_ids":
                page.turn(self)
                call(self, *page.arguments, list(page.row_ids))
            elif not kind.startswith("invalid_"):
                for ids in self._present_ids(kind, pattern):
                    call(self, *ids, *self._present_arguments(kind, ids))
        return self

    def get_listener_stats(self) -> dict[str, int]:
        """How many listeners there are, by kind."""
        return self._listeners.counts()

    def _present_ids(self, kind: str, pattern: Pattern) -> list[tuple[str, ...]]:
        """The concrete ids that a pattern with wildcards stands for."""
        if kind in ("value", "has_value"):
            return [(value_id,) for value_id in _those(pattern[0], self.get_value_ids)]
        getters: tuple[Callable[..., list[str]], ...] = (self.get_table_ids, self.get_row_ids, self.get_cell_ids)
        if kind == "has_table_cell":
            getters = (self.get_table_ids, self.get_table_cell_ids)
        found: list[tuple[str, ...]] = [()]
        for id_, getter in zip(pattern, getters, strict=False):
            found = [(*ids, each) for ids in found for each in _those(id_, getter, *ids)]
        return found

    def _present_arguments(self, kind: str, ids: tuple[str, ...]) -> tuple[Any, ...]:
        if kind.startswith("has_"):
            return (getattr(self, kind)(*ids),)
        if kind == "row_count":
            return (self.get_row_count(*ids),)
        if kind == "cell":
            cell = self.get_cell(*ids)
            return cell, cell, self._cell_change
        if kind == "value":
            value = self.get_value(*ids)
            return value, value, self._value_change
        if kind in ("tables", "table", "row"):
            return (self._cell_change,)
        if kind == "values":
            return (self._value_change,)
        if kind.endswith("_ids"):
            return (dict,)  # get_id_changes, of which there are none
        return ()


def _those(id_: str | None, getter: Callable[..., list[str]], *ids: str) -> list[str]:
    return getter(*ids) if id_ is None else [id_]
