"""Clients that read more slowly than their paths change: they miss some, and later compare hashes.

So who does not read costs a bounded outbox rather than all that the others write, and is not closed for it.

All outboxes together are bounded as well: none may have more than what is left, as in the dynamic thresholds of network
switches (Choudhury and Hahne, 1998). So those for whom most waits are the first to miss changes, and something is
always left for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from mergesync.limits import CATCH_UP_POLL_SECONDS, LAGGARDS_LOOKED_AT, LOOKS_AT_ALL_LAGGARDS
from mergesync.net.channel import TextChannel

__all__ = ["Laggards"]


class Laggards:
    """Who lags behind on which paths.

    Args:
        max_outbox_bytes: what may wait for a client before it misses changes. One message may be larger.
        max_total_bytes: what may wait for all of them.
        catch_up: called with `path_id, client_id` for each path on which a client has missed changes, once it has read
            all that waited for it.

    Attributes:
        waiting_bytes: what waits for all clients, as far as was looked since.
    """

    def __init__(self, max_outbox_bytes: int, max_total_bytes: int, catch_up: Callable[[str, str], None]) -> None:
        self.waiting_bytes: int = 0
        self._max_outbox_bytes = max_outbox_bytes
        self._max_total_bytes = max_total_bytes
        self._catch_up = catch_up
        self._waiting: dict[TextChannel, int] = {}  # for whom something waits, and how much
        self._missed: dict[TextChannel, dict[str, str]] = {}  # client ids by path id
        self._timer: asyncio.TimerHandle | None = None

    def misses(self, channel: TextChannel, path_id: str, client_id: str, size_bytes: int) -> bool:
        """Whether a client is to miss a change, now and until it has caught up."""
        missed = self._missed.get(channel)
        if missed is None:
            if not channel.queued_bytes and channel not in self._waiting:  # the common case
                return False
            if self.may_wait(channel, size_bytes, self._max_outbox_bytes):
                return False
            missed = self._missed[channel] = {}
        missed[path_id] = client_id
        return True

    def may_wait(self, channel: TextChannel, size_bytes: int, most_bytes: int) -> bool:
        """Whether so much more may wait for a client, of which by itself no more than a bound may; then it counts."""
        queued_bytes = channel.queued_bytes
        if not queued_bytes:
            if channel in self._waiting:
                self._note(channel, 0)
            return True
        self._note(channel, queued_bytes)
        fits = queued_bytes + size_bytes <= min(most_bytes, self._max_total_bytes - self.waiting_bytes)
        if fits:
            self._note(channel, queued_bytes + size_bytes)
        return fits

    def forget(self, channel: TextChannel) -> None:
        """A socket is closed."""
        self._missed.pop(channel, None)
        self._note(channel, 0)

    def _note(self, channel: TextChannel, queued_bytes: int) -> None:
        """So much waits for a client; look again as long as something waits for anybody."""
        self.waiting_bytes += queued_bytes - self._waiting.get(channel, 0)
        if queued_bytes:
            self._waiting[channel] = queued_bytes
            self._look_again()
        elif self._waiting.pop(channel, None) and not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Look at some of those for whom something waits, for the longest first; soon it is the others' turn."""
        self._timer = None
        count = max(LAGGARDS_LOOKED_AT, len(self._waiting) // LOOKS_AT_ALL_LAGGARDS)
        for channel in list(islice(self._waiting, count)):
            self.waiting_bytes -= self._waiting.pop(channel)
            self._note(channel, channel.queued_bytes)
        self._look_again()
        for channel in [channel for channel in self._missed if channel not in self._waiting]:
            for path_id, client_id in self._missed.pop(channel).items():
                self._catch_up(path_id, client_id)

    def _look_again(self) -> None:
        if self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_POLL_SECONDS, self._look)
