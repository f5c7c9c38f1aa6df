"""Rows in order: by a cell or by their ids, and a page of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, TypeAlias

from mergesync.types import MISSING

if TYPE_CHECKING:
    from mergesync.store.core import StoreCore

__all__ = ["RowOrder", "Sorter"]

Sorter: TypeAlias = Callable[[Any, Any], float]
"""Compares two cells, or two row ids: negative, zero or positive; `MISSING` for a cell that is not there."""


class RowOrder:
    """How rows are sorted, and which page of them is wanted.

    Attributes:
        arguments: cell id, descending, offset and limit.
        last_told: the page that a listener was told last.
    """

    def __init__(
        self, cell_id: str | None, descending: bool, offset: int, limit: int | None, sorter: Sorter | None = None
    ) -> None:
        self.cell_id = cell_id
        self.arguments = (cell_id, descending, offset, limit)
        self.last_told: list[str] = []
        self._key = _sort_key if sorter is None else cmp_to_key(lambda one, other: _sign(sorter(one, other)))
        self._descending = bool(descending)
        self._page = slice(offset, None if limit is None else offset + limit)

    def sort(self, store: StoreCore, table_id: str) -> list[str]:
        """The ids of the page. Equal rows keep the order of the store."""
        table = store._tree.tables.children.get(table_id)
        keyed: list[tuple[Any, str]] = []
        for row_id, row in table.children.items() if table else ():
            if row.live:
                by = (
                    row_id
                    if self.cell_id is None
                    else store._show(table_id, self.cell_id, row.stamps.get(self.cell_id))
                )
                keyed.append((self._key(by), row_id))
        keyed.sort(key=lambda pair: pair[0], reverse=self._descending)
        return [row_id for _, row_id in keyed][self._page]


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _sort_key(cell: Any) -> tuple[int, Any]:
    """Numbers and booleans before text before the rest, and what is missing last: a total order over any cells."""
    if isinstance(cell, bool | int | float):
        return 0, cell
    if isinstance(cell, str):
        return 1, cell.encode("utf-16-be", "surrogatepass")  # as JavaScript compares texts
    if cell is MISSING:
        return 4, 0
    return (3, 0) if cell is None else (2, 0)
