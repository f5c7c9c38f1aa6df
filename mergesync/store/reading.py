"""Looking at a store: getters, `has_*`, ids in order, iteration, JSON.

Every getter returns a copy; changing it does not change the store.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mergesync.store.cells import check_id
from mergesync.store.core import StoreCore
from mergesync.store.jsjson import dumps
from mergesync.store.sorting import Page, Sorter
from mergesync.store.stamps import wire_in_text
from mergesync.store.tree import Leaves
from mergesync.types import MISSING, CellOrMissing, Content, Row, Table, Tables, Values

__all__ = ["Reading"]


class Reading(StoreCore):
    """The methods of a store that change nothing."""

    # --- content

    def get_content(self) -> Content:
        """All that shows: `(tables, values)`.

        Example:
            >>> MergeableStore().set_value("open", True).get_content()
            ({}, {'open': True})
        """
        return self.get_tables(), self.get_values()

    def get_tables(self) -> Tables:
        """All tables, by table, row and cell id.

        Example:
            >>> MergeableStore().set_cell("pets", "fido", "species", "dog").get_tables()
            {'pets': {'fido': {'species': 'dog'}}}
        """
        return {table_id: self.get_table(table_id) for table_id in self.get_table_ids()}

    def get_table_ids(self) -> list[str]:
        """The ids of the tables that have rows."""
        tables = self._tree.tables.children
        return [table_id for table_id in self._tree.order.ids(tables) if tables[table_id].live]

    def get_table(self, table_id: str) -> Table:
        """A table's rows; empty if there is no such table."""
        table = self._find_table(table_id)
        return {row_id: self._shown(table_id, row) for row_id, row in self._live_rows(table)}

    def get_row_ids(self, table_id: str) -> list[str]:
        """The ids of a table's rows, in the order in which they came."""
        table = self._find_table(table_id)
        return [row_id for row_id, _ in self._live_rows(table)]

    def get_sorted_row_ids(
        self,
        table_id: str,
        cell_id: str | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int | None = None,
        sorter: Sorter | None = None,
    ) -> list[str]:
        """The ids of a table's rows by a cell, or by the id itself.

        Args:
            table_id: the table.
            cell_id: sort by this cell, as JavaScript compares; a missing one counts as 0. None sorts by row id.
            descending: the other way round.
            offset: leave out so many at the beginning.
            limit: return so many at most; None for all.
            sorter: compares two cells (`MISSING` where there is none), or two row ids: negative if the first one
                comes first, positive if the other one does.

        Example:
            >>> store = MergeableStore().set_table("pets", {"a": {"age": 3}, "b": {"age": 1}})
            >>> store.get_sorted_row_ids("pets", "age")
            ['b', 'a']
        """
        return Page(self, table_id, cell_id, descending, offset, limit, sorter).row_ids

    def get_row_count(self, table_id: str) -> int:
        """How many rows a table has."""
        table = self._find_table(table_id)
        return table.live if table else 0

    def get_table_cell_ids(self, table_id: str) -> list[str]:
        """The ids of all cells that any row of a table has, in the order in which they came to the table."""
        table = self._find_table(table_id)
        return [cell_id for cell_id in self._tree.order.ids(table.cells) if table.cells[cell_id]] if table else []

    def get_row(self, table_id: str, row_id: str) -> Row:
        """A row's cells; empty if there is no such row."""
        row = self._find_row(table_id, row_id)
        return {} if row is None else self._shown(table_id, row)

    def get_cell_ids(self, table_id: str, row_id: str) -> list[str]:
        """The ids of a row's cells, in the order in which they came."""
        row = self._find_row(table_id, row_id)
        return [] if row is None else self._shown_ids(table_id, row)

    def get_cell(self, table_id: str, row_id: str, cell_id: str, default: Any = MISSING) -> CellOrMissing:
        """A cell, or the default (`MISSING`, which is falsy) if there is none; None is a cell like any other.

        Example:
            >>> store = MergeableStore().set_cell("pets", "fido", "owner", None)
            >>> store.get_cell("pets", "fido", "owner"), store.get_cell("pets", "fido", "age")
            (None, MISSING)
        """
        row = self._find_row(table_id, row_id)
        cell = self._show(table_id, cell_id, self._find_stamp(row, cell_id))
        return default if cell is MISSING else cell

    def get_values(self) -> Values:
        """All values by id."""
        return self._shown(None, self._tree.values)

    def get_value_ids(self) -> list[str]:
        """The ids of all values, in the order in which they came."""
        return self._shown_ids(None, self._tree.values)

    def get_value(self, value_id: str, default: Any = MISSING) -> CellOrMissing:
        """A value, or the default (`MISSING`) if there is none."""
        value = self._show(None, value_id, self._find_stamp(self._tree.values, value_id))
        return default if value is MISSING else value

    # --- existence

    def has_tables(self) -> bool:
        """Whether there is any table."""
        return self._tree.tables.live > 0

    def has_table(self, table_id: str) -> bool:
        """Whether a table has rows."""
        return self.get_row_count(table_id) > 0

    def has_table_cell(self, table_id: str, cell_id: str) -> bool:
        """Whether any row of a table has such a cell."""
        table = self._find_table(table_id)
        return table.cells.get(check_id(cell_id), 0) > 0 if table else False

    def has_row(self, table_id: str, row_id: str) -> bool:
        """Whether a row has cells."""
        row = self._find_row(table_id, row_id)
        return row is not None and row.live > 0

    def has_cell(self, table_id: str, row_id: str, cell_id: str) -> bool:
        """Whether there is such a cell; also when it is None."""
        row = self._find_row(table_id, row_id)
        return self._shows(table_id, cell_id, self._find_stamp(row, cell_id))

    def has_values(self) -> bool:
        """Whether there is any value."""
        return self._tree.values.live > 0

    def has_value(self, value_id: str) -> bool:
        """Whether there is such a value; also when it is None."""
        return self._shows(None, value_id, self._find_stamp(self._tree.values, value_id))

    # --- iteration

    def for_each_table(self, callback: Callable[..., object]) -> None:
        """Call `callback(table_id, for_each_row)` for every table."""
        for table_id in self.get_table_ids():
            callback(table_id, partial(self.for_each_row, table_id))

    def for_each_row(self, table_id: str, callback: Callable[..., object]) -> None:
        """Call `callback(row_id, for_each_cell)` for every row of a table."""
        for row_id in self.get_row_ids(table_id):
            callback(
                row_id,
                lambda cell_callback, row_id=row_id: self.for_each_cell(table_id, row_id, cell_callback),
            )

    def for_each_cell(self, table_id: str, row_id: str, callback: Callable[[str, Any], object]) -> None:
        """Call `callback(cell_id, cell)` for every cell of a row."""
        for cell_id, cell in self.get_row(table_id, row_id).items():
            callback(cell_id, cell)

    def for_each_table_cell(self, table_id: str, callback: Callable[[str, int], object]) -> None:
        """Call `callback(cell_id, count)` for every cell id of a table, with the number of rows that have it."""
        table = self._find_table(table_id)
        for cell_id in self.get_table_cell_ids(table_id):
            callback(cell_id, table.cells[cell_id] if table else 0)

    def for_each_value(self, callback: Callable[[str, Any], object]) -> None:
        """Call `callback(value_id, value)` for every value."""
        for value_id, value in self.get_values().items():
            callback(value_id, value)

    # --- JSON

    def get_json(self) -> str:
        """The content as JSON text, `[tables, values]`; objects and arrays in wire form, as TinyBase gives them.

        Example:
            >>> MergeableStore().set_value("open", True).get_json()
            '[{},{"open":true}]'
        """
        return f"[{self.get_tables_json()},{self.get_values_json()}]"

    def get_tables_json(self) -> str:
        """The tables as JSON text."""
        return dumps(
            {
                table_id: {
                    row_id: self._shown_wires(table_id, row)
                    for row_id, row in self._live_rows(self._find_table(table_id))
                }
                for table_id in self.get_table_ids()
            }
        )

    def get_values_json(self) -> str:
        """The values as JSON text."""
        return dumps(self._shown_wires(None, self._tree.values))

    # --- helpers

    def _shown(self, table_id: str | None, leaves: Leaves) -> dict[str, Any]:
        show, stamps = self._show, leaves.stamps
        return {
            leaf_id: cell
            for leaf_id in self._tree.order.ids(stamps)
            if (cell := show(table_id, leaf_id, stamps[leaf_id])) is not MISSING
        }

    def _shown_ids(self, table_id: str | None, leaves: Leaves) -> list[str]:
        stamps = leaves.stamps
        return [leaf_id for leaf_id in self._tree.order.ids(stamps) if self._shows(table_id, leaf_id, stamps[leaf_id])]

    def _shown_texts(self, table_id: str | None, leaves: Leaves) -> dict[str, bytes]:
        stamps = leaves.stamps
        return {
            leaf_id: text
            for leaf_id in self._tree.order.ids(stamps)
            if (text := self._text(table_id, leaf_id, stamps[leaf_id]))
        }

    def _shown_wires(self, table_id: str | None, leaves: Leaves) -> dict[str, Any]:
        return {leaf_id: wire_in_text(text) for leaf_id, text in self._shown_texts(table_id, leaves).items()}
