"""Reports of who was refused a socket or a path: of a flood the first ones, and then how many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from mergesync.exceptions import RefusedConnectionError
from mergesync.limits import REFUSALS_REPORTED, REFUSALS_SECONDS

__all__ = ["Refusals"]


class Refusals:
    """Who was refused a moment ago, by status.

    Args:
        report: hears of them.
    """

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report
        self._counts: Counter[int] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._destroyed = False

    def report(self, refusal: RefusedConnectionError) -> None:
        """Somebody was refused."""
        if self._timer is None and not self._destroyed:
            self._timer = asyncio.get_running_loop().call_later(REFUSALS_SECONDS, self._sum_up)
        self._counts[refusal.status] += 1
        if self._counts[refusal.status] <= REFUSALS_REPORTED:
            self._report(refusal)

    def destroy(self) -> None:
        """Report what is not yet, and leave no timer."""
        self._destroyed = True
        if self._timer is not None:
            self._timer.cancel()
        self._sum_up()

    def _sum_up(self) -> None:
        """Report how many more there were, and begin anew."""
        self._timer = None
        counts, self._counts = self._counts, Counter()
        for status, count in counts.items():
            if count > REFUSALS_REPORTED:
                more = f"{count - REFUSALS_REPORTED} more were refused in {REFUSALS_SECONDS:.0f} s"
                self._report(RefusedConnectionError(more, status=status))
