"""What all sides work on: a table of rows of five cells, strings of twelve characters."""

from __future__ import annotations

import json
from typing import Any, Final

from mergesync.store.hlc import encode_hlc

__all__ = ["CELLS_IN_ROW", "TABLE", "cells_of", "changes_text", "rows_of"]

TABLE: Final = "table"
CELLS_IN_ROW: Final = 5
_T0: Final = 1704067200000


def cells_of(rows: int, cells: int = CELLS_IN_ROW) -> list[tuple[str, str, str]]:
    """Row id, cell id and value of every cell."""
    return [
        (f"row{row}", f"cell{cell}", f"value{row * cells + cell:07d}") for row in range(rows) for cell in range(cells)
    ]


def rows_of(rows: int, cells: int = CELLS_IN_ROW) -> dict[str, dict[str, str]]:
    """The same as rows by id."""
    table: dict[str, dict[str, str]] = {}
    for row_id, cell_id, value in cells_of(rows, cells):
        table.setdefault(row_id, {})[cell_id] = value
    return table


def changes_text(rows: int, *, conflicting: bool = False) -> str:
    """What a peer of TinyBase's protocol sends of these cells.

    Args:
        rows: how many.
        conflicting: other values, every other one of them with a newer stamp.
    """
    table: dict[str, Any] = {}
    for number, (row_id, cell_id, value) in enumerate(cells_of(rows)):
        hlc = encode_hlc(_T0 + 1000, number, "peer1")
        if conflicting:
            value = value.upper()
            hlc = encode_hlc(_T0 + (2000 if number % 2 else 0), number, "peer2")
        table.setdefault(row_id, [{}])[0][cell_id] = [value, hlc]
    return json.dumps([[{TABLE: [table]}], [{}], 1], separators=(",", ":"))
