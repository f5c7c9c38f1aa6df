"""How fast a client may send: who is faster is read more slowly, and not closed."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """A bucket of tokens that fills evenly. Taking more than there is makes a debt, to be waited for.

    Args:
        per_second: how many come; None for as many as wanted.
        burst_seconds: for how long they gather while none is taken.
        now: seconds.

    Example:
        >>> pace = Pace(10.0, 2.0, now=0.0)
        >>> pace.wait_seconds(20, now=0.0), pace.wait_seconds(5, now=0.0), pace.wait_seconds(0, now=1.0)
        (0.0, 0.5, 0.0)
    """

    __slots__ = ("_at", "_most", "_per_second", "_tokens")

    def __init__(self, per_second: float | None, burst_seconds: float, now: float) -> None:
        self._per_second = per_second
        self._most = 0.0 if per_second is None else per_second * burst_seconds
        self._tokens = self._most
        self._at = now

    def wait_seconds(self, amount: float, now: float) -> float:
        """Take some; how long to wait before taking more."""
        if self._per_second is None:
            return 0.0
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second) - amount
        self._at = now
        return max(0.0, -self._tokens / self._per_second)
