"""A timer for things that say themselves when they want to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Calls `wake(now)` when `deadline()` is due; to be set again whenever the deadline may have changed.

    Args:
        deadline: says when, in seconds of the loop's clock, or None.
        wake: called then, with the loop's time.
    """

    def __init__(self, deadline: Callable[[], float | None], wake: Callable[[float], None]) -> None:
        self._deadline = deadline
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None

    def set(self) -> None:
        """Look at the deadline again."""
        due = self._deadline()
        if self._handle is not None:
            if due is not None and self._handle.when() == due:
                return
            self._handle.cancel()
            self._handle = None
        if due is not None:
            self._handle = asyncio.get_running_loop().call_at(due, self._ring)

    def cancel(self) -> None:
        """Never ring again, unless set anew."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        self._wake(asyncio.get_running_loop().time())
        self.set()
