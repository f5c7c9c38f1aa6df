"""The ids that `add_row` gives: those of deleted rows first, then the next number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["RowIds"]

_MOST_RELEASED: Final = 1000
"""How many ids of deleted rows are kept at most (the peer's bound)."""


class RowIds:
    """The ids of one table that are free again, and how far the numbers have been given out."""

    __slots__ = ("_next", "_released")

    def __init__(self) -> None:
        self._released: deque[str] = deque()
        self._next = 0

    def release(self, row_id: str) -> None:
        """The row is gone; its id may come again if it is made of decimal digits."""
        if len(self._released) < _MOST_RELEASED and row_id.isascii() and row_id.isdigit():
            self._released.append(row_id)

    def take(self, is_taken: Callable[[str], bool], reuse: bool) -> str:
        """An id that no row has."""
        while True:
            if reuse and self._released:
                row_id = self._released.popleft()
            else:
                row_id = str(self._next)
                self._next += 1
            if not is_taken(row_id):
                return row_id
