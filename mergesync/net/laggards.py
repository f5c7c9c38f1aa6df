"""Clients that read more slowly than their paths change: they miss some, and later compare hashes.

So who does not read costs a bounded outbox rather than all that the others write, and is not closed for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mergesync.limits import CATCH_UP_POLL_SECONDS
from mergesync.net.channel import TextChannel

__all__ = ["Laggards"]


class Laggards:
    """Who lags behind on which paths.

    Args:
        max_outbox_bytes: what may wait for a client before it misses changes. One message may be larger.
        catch_up: called with `path_id, client_id` for each path on which a client has missed changes, once it has read
            all that waited for it.
    """

    def __init__(self, max_outbox_bytes: int, catch_up: Callable[[str, str], None]) -> None:
        self._max_outbox_bytes = max_outbox_bytes
        self._catch_up = catch_up
        self._missed: dict[TextChannel, dict[tuple[str, str], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def misses(self, channel: TextChannel, path_id: str, client_id: str, size_bytes: int) -> bool:
        """Whether a client is to miss a change, now and until it has caught up."""
        missed = self._missed.get(channel)
        if missed is None:
            queued_bytes = channel.queued_bytes
            if not queued_bytes or queued_bytes + size_bytes <= self._max_outbox_bytes:
                return False
            missed = self._missed[channel] = {}
            self._set_timer()
        missed[path_id, client_id] = None
        return True

    def forget(self, channel: TextChannel) -> None:
        """A socket is closed."""
        if self._missed.pop(channel, None) is not None and not self._missed and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_POLL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        for channel in [channel for channel in self._missed if not channel.queued_bytes]:
            for path_id, client_id in self._missed.pop(channel):
                self._catch_up(path_id, client_id)
        if self._missed:
            self._set_timer()
