"""A store as nested mappings: `store.tables["pets"]["fido"]["species"] = "dog"`.

Views hold no data; they only call the store's methods, so that every write is a transaction like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from mergesync.types import MISSING, Cell

if TYPE_CHECKING:
    from mergesync.store.mergeable import MergeableStore

__all__ = ["RowView", "TableView", "TablesView", "ValuesView"]


class TablesView(MutableMapping[str, "TableView"]):
    """All tables. Getting an unknown table raises KeyError; assigning a dict of rows replaces a table."""

    def __init__(self, store: MergeableStore) -> None:
        self._store = store

    def __getitem__(self, table_id: str) -> TableView:
        if not self._store.has_table(table_id):
            raise KeyError(table_id)
        return TableView(self._store, table_id)

    def __setitem__(self, table_id: str, table: Mapping[str, Mapping[str, Cell]]) -> None:
        self._store.set_table(table_id, {row_id: dict(row) for row_id, row in table.items()})

    def __delitem__(self, table_id: str) -> None:
        self[table_id]
        self._store.del_table(table_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.get_table_ids())

    def __len__(self) -> int:
        return len(self._store.get_table_ids())

    def __repr__(self) -> str:
        return f"TablesView({self._store.get_tables()!r})"


class TableView(MutableMapping[str, "RowView"]):
    """The rows of one table."""

    def __init__(self, store: MergeableStore, table_id: str) -> None:
        self._store = store
        self._table_id = table_id

    def __getitem__(self, row_id: str) -> RowView:
        if not self._store.has_row(self._table_id, row_id):
            raise KeyError(row_id)
        return RowView(self._store, self._table_id, row_id)

    def __setitem__(self, row_id: str, row: Mapping[str, Cell]) -> None:
        self._store.set_row(self._table_id, row_id, dict(row))

    def __delitem__(self, row_id: str) -> None:
        self[row_id]
        self._store.del_row(self._table_id, row_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.get_row_ids(self._table_id))

    def __len__(self) -> int:
        return self._store.get_row_count(self._table_id)

    def __repr__(self) -> str:
        return f"TableView({self._store.get_table(self._table_id)!r})"


class RowView(MutableMapping[str, Any]):
    """The cells of one row."""

    def __init__(self, store: MergeableStore, table_id: str, row_id: str) -> None:
        self._store = store
        self._table_id = table_id
        self._row_id = row_id

    def __getitem__(self, cell_id: str) -> Any:
        cell = self._store.get_cell(self._table_id, self._row_id, cell_id)
        if cell is MISSING:
            raise KeyError(cell_id)
        return cell

    def __setitem__(self, cell_id: str, cell: Cell) -> None:
        self._store.set_cell(self._table_id, self._row_id, cell_id, cell)

    def __delitem__(self, cell_id: str) -> None:
        self[cell_id]
        self._store.del_cell(self._table_id, self._row_id, cell_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.get_cell_ids(self._table_id, self._row_id))

    def __len__(self) -> int:
        return len(self._store.get_cell_ids(self._table_id, self._row_id))

    def __repr__(self) -> str:
        return f"RowView({self._store.get_row(self._table_id, self._row_id)!r})"


class ValuesView(MutableMapping[str, Any]):
    """All values."""

    def __init__(self, store: MergeableStore) -> None:
        self._store = store

    def __getitem__(self, value_id: str) -> Any:
        value = self._store.get_value(value_id)
        if value is MISSING:
            raise KeyError(value_id)
        return value

    def __setitem__(self, value_id: str, value: Cell) -> None:
        self._store.set_value(value_id, value)

    def __delitem__(self, value_id: str) -> None:
        self[value_id]
        self._store.del_value(value_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.get_value_ids())

    def __len__(self) -> int:
        return len(self._store.get_value_ids())

    def __repr__(self) -> str:
        return f"ValuesView({self._store.get_values()!r})"
