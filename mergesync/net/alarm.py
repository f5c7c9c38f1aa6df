"""A timer for things that say themselves when they want to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Alarm"]

_REST_SECONDS = 0.01


class Alarm:
    """Calls `wake(now)` when `deadline()` is due; to be set again whenever the deadline may have changed.

    A deadline that is still due after waking, because what it waits for is not there yet, rings again after a rest.

    Args:
        deadline: says when, in seconds of the loop's clock, or None.
        wake: called then, with the loop's time.
    """

    def __init__(self, deadline: Callable[[], float | None], wake: Callable[[float], None]) -> None:
        self._deadline = deadline
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None
        self._rest_until = 0.0

    def set(self) -> None:
        """Look at the deadline again."""
        due = self._deadline()
        if due is None:
            self.cancel()
            return
        due = max(due, self._rest_until)
        if self._handle is not None:
            if self._handle.when() == due:
                return
            self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_at(due, self._ring)

    def cancel(self) -> None:
        """Never ring again, unless set anew."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        self._handle = None
        now = asyncio.get_running_loop().time()
        self._rest_until = now + _REST_SECONDS
        try:
            self._wake(now)
        finally:
            self.set()
