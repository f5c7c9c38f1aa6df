"""A task that waits until something is so, and looks again whenever the bell rings.

An `asyncio.Event` for each thing that may be so would have a queue of waiters each, which is 800 bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Bell"]


class Bell:
    """Rung whenever something has changed; one task at a time may wait.

    Example:
        await bell.until(lambda: not clients)
    """

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Let who waits look again."""
        if self._rung is not None and not self._rung.done():
            self._rung.set_result(None)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return when it is so; it still is when this returns."""
        while not is_so():
            self._rung = asyncio.get_running_loop().create_future()
            await self._rung
