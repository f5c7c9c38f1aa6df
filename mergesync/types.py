"""The words every storey shares: ids, cells, content, and what absence is.

Nothing here has behaviour. JSON null is `None` and a legal cell; absence is `MISSING`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "MISSING",
    "Cell",
    "CellOrMissing",
    "Content",
    "GetNow",
    "Json",
    "MergeableChanges",
    "MergeableContent",
    "Missing",
    "NewId",
    "Row",
    "Table",
    "Tables",
    "Values",
]


class Missing(enum.Enum):
    """The type of `MISSING`; an enum, so that type checkers narrow `is MISSING`."""

    MISSING = enum.auto()

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""There is no such cell or value. Falsy, and never a legal cell itself."""

Json: TypeAlias = Any
"""Anything JSON can say. Any, because a recursive alias makes every use site cast."""

Cell: TypeAlias = str | int | float | bool | dict[str, Any] | list[Any] | None
"""A cell or a value: a string, finite number, boolean, None, JSON object or JSON array."""

CellOrMissing: TypeAlias = Missing | Cell

Row: TypeAlias = dict[str, Cell]
Table: TypeAlias = dict[str, Row]
Tables: TypeAlias = dict[str, Table]
Values: TypeAlias = dict[str, Cell]
Content: TypeAlias = tuple[Tables, Values]
"""`(tables, values)`: what an application sees of a store."""

MergeableContent: TypeAlias = list[Any]
"""`[tables, values]` stamped, with hashes: what persisters store (protocol section 5)."""

MergeableChanges: TypeAlias = list[Any]
"""`[tables, values, 1]` stamped: what peers send (protocol section 5)."""

GetNow: TypeAlias = Callable[[], int]
"""The wall clock, in milliseconds since 1970."""

NewId: TypeAlias = Callable[[int], str]
"""Makes an id of so many random characters of the HLC alphabet."""
