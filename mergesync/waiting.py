"""Letting those go on who wait for something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

__all__ = ["settle"]


def settle(waiters: Iterable[asyncio.Future[None]], error: Exception | None = None) -> bool:
    """Let all who still wait go on.

    Args:
        waiters: futures; those that are done, as whoever waited was cancelled, are left alone.
        error: what to raise where they wait.

    Returns:
        Whether anybody waited.
    """
    waiting = [waiter for waiter in waiters if not waiter.done()]
    for waiter in waiting:
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
    return bool(waiting)
