"""How long to wait before the next attempt: exponential, with full jitter, for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["full_jitter"]


def full_jitter(first_seconds: float, cap_seconds: float) -> Iterator[float]:
    """Waits in seconds, each drawn evenly below a bound that doubles up to the cap and then stays.

    Example:
        >>> waits = full_jitter(0.1, 30)
        >>> next(waits) < 0.1, next(waits) < 0.2
        (True, True)
    """
    bound = first_seconds
    while True:
        yield random.uniform(0, bound)
        bound = min(bound * 2, cap_seconds)
