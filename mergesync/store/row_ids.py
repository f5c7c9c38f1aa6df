"""Ids for rows that are added without one, as the peer gives them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["RowIds"]

_MAX_FREE: Final = 1000
"""Ids of deleted rows that are remembered (the peer's bound)."""


class RowIds:
    """The ids of one table: those of deleted rows first, in the order of deletion, then the next number.

    Only ids that were deleted here count, and only those of digits. Two stores that add rows apart give out the same
    ids, and their rows are merged into one; programs that do so make ids of their own.
    """

    def __init__(self) -> None:
        self._free: list[str] = []
        self._next = 0

    def take(self, is_used: Callable[[str], bool], reuse: bool) -> str:
        """An id that is not in use."""
        while reuse and self._free:
            row_id = self._free.pop(0)
            if not is_used(row_id):
                return row_id
        while is_used(str(self._next)):
            self._next += 1
        self._next += 1
        return str(self._next - 1)

    def give_back(self, row_id: str) -> None:
        """A row was deleted."""
        if row_id.isascii() and row_id.isdecimal() and len(self._free) < _MAX_FREE:
            self._free.append(row_id)
