"""Rows in order of a cell or of their ids, and the pages of them that listeners follow.

The order is JavaScript's `<`, as in the peer: what is missing or null counts as 0, booleans as numbers, arrays as their
items joined by commas, all objects as one text; strings compare by UTF-16 units with each other, and as numbers with
numbers. Rows that are equal keep the order of the store, and are turned round where it is descending.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, TypeAlias

from mergesync.store.jsjson import dumps
from mergesync.types import MISSING

if TYPE_CHECKING:
    from mergesync.store.core import StoreCore

__all__ = ["Page", "Sorter"]

Sorter: TypeAlias = Callable[[Any, Any], float]
"""Compares two cells (`MISSING` where there is none), or two row ids: negative if the first one comes first."""


class Page:
    """A slice of the rows of a table in some order; for a listener, also what was in it when it was last told.

    Attributes:
        cell_id: the cell to sort by, None for the row id.
        arguments: table id, cell id, descending, offset and limit.
        row_ids: what the slice held when it was last looked at.
    """

    def __init__(
        self,
        store: StoreCore,
        table_id: str,
        cell_id: str | None,
        descending: bool,
        offset: int,
        limit: int | None,
        sorter: Sorter | None,
    ) -> None:
        self.cell_id = cell_id
        self.arguments: tuple[str, str | None, bool, int, int | None] = (table_id, cell_id, descending, offset, limit)
        self._slice = slice(offset, None if limit is None else offset + limit)
        self._sorter = sorter
        self.row_ids: list[str] = []
        self.turn(store)

    def turn(self, store: StoreCore) -> bool:
        """Look again; whether the page is another one now."""
        table_id, cell_id, descending, _, _ = self.arguments
        rows = store._live_rows(store._find_table(table_id))
        cells: list[Any] = [row_id for row_id, _ in rows]
        if cell_id is not None:
            cells = [store._show(table_id, cell_id, row.stamps.get(cell_id)) for _, row in rows]
        before = self.row_ids
        self.row_ids = [rows[index][0] for index in _order(cells, bool(descending), self._sorter)[self._slice]]
        return self.row_ids != before


def _order(cells: list[Any], descending: bool, sorter: Sorter | None) -> list[int]:
    """The indices of cells, or of row ids, in order."""
    if sorter is not None:
        return _compared(cells, descending, sorter)
    keys = [_key(cell) for cell in cells]
    kinds = {type(key) for key in keys}
    if kinds <= {str}:
        units = [str(key).encode("utf-16-be", "surrogatepass") for key in keys]
        indices = sorted(range(len(keys)), key=units.__getitem__)
    elif str not in kinds:
        indices = sorted(range(len(keys)), key=keys.__getitem__)  # no strings, so all compare
    else:
        # Not an order where digits, other text and numbers are mixed; what comes out is what this sort makes of it.
        return _compared(keys, descending, lambda one, other: -1 if _is_less(one, other) else 1)
    return indices[::-1] if descending else indices


def _compared(things: list[Any], descending: bool, sorter: Sorter) -> list[int]:
    sign = -1 if descending else 1

    def compare(one: int, other: int) -> int:
        difference = sign * sorter(things[one], things[other])
        return (difference > 0) - (difference < 0)

    return sorted(range(len(things)), key=cmp_to_key(compare))


def _key(cell: Any) -> str | float:
    """A cell as `<` takes it: text or number."""
    if isinstance(cell, dict | list):
        return _as_text(cell)
    if cell is MISSING or cell is None:
        return 0
    return cell  # type: ignore[no-any-return]


def _as_text(thing: Any) -> str:
    """JavaScript's String(thing) for arrays, for objects and for what is in arrays."""
    if isinstance(thing, list):
        return ",".join(map(_as_text, thing))
    if isinstance(thing, dict):
        return "[object Object]"
    if thing is None:
        return ""
    return thing if isinstance(thing, str) else dumps(thing)


def _is_less(one: str | float, other: str | float) -> bool:
    """JavaScript's `one < other`."""
    if isinstance(one, str) and isinstance(other, str):
        return one.encode("utf-16-be", "surrogatepass") < other.encode("utf-16-be", "surrogatepass")
    return _as_number(one) < _as_number(other)


def _as_number(key: str | float) -> float:
    if not isinstance(key, str):
        return key
    try:
        return float(key.strip() or 0)
    except ValueError:
        return math.nan
