"""How long what clients say keeps the event loop, before it looks for what else has come and whose time is over."""

from __future__ import annotations

import asyncio

from mergesync.limits import MAX_ROUND_SECONDS

__all__ = ["Rounds"]


class Rounds:
    """Rounds of the event loop, each of which acts on frames for a while; the others wait for the next, in order.

    Without it, a thousand clients that join at once are all answered before a timer rings or a ping is answered.
    """

    def __init__(self) -> None:
        self._began_at: float | None = None

    async def wait(self) -> None:
        """Return when there is time for another frame: at once, if this round has not taken too long yet."""
        loop = asyncio.get_running_loop()
        while self._began_at is not None and loop.time() - self._began_at > MAX_ROUND_SECONDS:  # noqa: ASYNC110 - a round
            await asyncio.sleep(0)
        if self._began_at is None:
            self._began_at = loop.time()
            loop.call_soon(self._end)

    def _end(self) -> None:
        self._began_at = None
