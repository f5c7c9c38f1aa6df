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

    def goes_on(self) -> bool:
        """Whether there is time for another frame, as this round has not taken too long yet."""
        loop = asyncio.get_running_loop()
        if self._began_at is None:
            self._began_at = loop.time()
            loop.call_soon(self._end)
            return True
        return loop.time() - self._began_at <= MAX_ROUND_SECONDS

    async def wait(self) -> None:
        """Return when there is time for another frame, perhaps at once."""
        while not self.goes_on():  # noqa: ASYNC110 - a round
            await asyncio.sleep(0)

    def _end(self) -> None:
        self._began_at = None
