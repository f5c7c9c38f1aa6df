"""When a client asks again for a channel that a server has refused it: no sooner than it would open a socket again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mergesync.limits import (
    PUT_OUT_RETRY_SECONDS,
    RECONNECT_CAP_SECONDS,
    RECONNECT_FIRST_SECONDS,
    RECONNECT_STABLE_SECONDS,
)
from mergesync.net.backoff import full_jitter, retry_after_seconds

__all__ = ["Comeback"]


class Comeback:
    """The next attempt to come onto the path of a channel.

    Args:
        ask: asks for the channel; may be called in vain.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
        self._opened_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def opened(self) -> None:
        """The channel can be used."""
        self.cancel()
        self._opened_at = asyncio.get_running_loop().time()

    def refused(self, text: str) -> None:
        """The channel was refused, or is no longer let onto its path; the text may say for how long."""
        self.cancel()
        loop = asyncio.get_running_loop()
        if self._opened_at is not None and loop.time() - self._opened_at > RECONNECT_STABLE_SECONDS:
            self._waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
        self._opened_at = None
        wait_seconds = max(retry_after_seconds(text), PUT_OUT_RETRY_SECONDS) + next(self._waits)
        self._timer = loop.call_later(wait_seconds, self._ask)

    def cancel(self) -> None:
        """Do not ask: the next connection does, or nobody wants the channel any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
