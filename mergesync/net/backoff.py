"""How long to wait before the next attempt: exponential, with full jitter, for ever."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from mergesync.limits import MAX_RETRY_AFTER_SECONDS

__all__ = ["full_jitter", "retry_after_seconds"]

_RETRY_AFTER = re.compile(r"retry-after=([0-9]{1,6}(?:\.[0-9]{1,6})?)", re.ASCII)


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


def retry_after_seconds(close_reason: str) -> float:
    """How long a server asks to be left alone in the reason of its close frame; 0 if it does not.

    Example:
        >>> retry_after_seconds("mergesync:load retry-after=0.500")
        0.5
    """
    found = _RETRY_AFTER.search(close_reason)
    return min(float(found[1]), MAX_RETRY_AFTER_SECONDS) if found else 0.0
