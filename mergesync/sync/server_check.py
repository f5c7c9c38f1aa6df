"""When to ask a server whether it has got what it was told.

The store of a TinyBase server asks a client that announces hashes for what it lacks, gives up after its own request
time-out of a second, and never asks again. Nothing tells anybody, so a client of ours has a look, a few times, until it
has seen both equal: from then on the server gets each change as it is made, until somebody else announces hashes.
"""

from __future__ import annotations

from mergesync.limits import SERVER_CHECK_FIRST_SECONDS, SERVER_CHECKS

__all__ = ["ServerCheck"]


class ServerCheck:
    """A few checks, further and further apart.

    Args:
        now: when the exchange begins, in seconds.

    Attributes:
        deadline: when the next check is due; None if there is no more.
    """

    def __init__(self, now: float) -> None:
        self.deadline: float | None = now + SERVER_CHECK_FIRST_SECONDS
        self._done = 0

    def is_due(self, now: float) -> bool:
        """Whether to check now; if so, the next check is set."""
        if self.deadline is None or now < self.deadline:
            return False
        self._done += 1
        self.deadline = None if self._done == SERVER_CHECKS else now + SERVER_CHECK_FIRST_SECONDS * 2**self._done
        return True

    def begin_again(self, now: float) -> None:
        """Somebody has announced something; the server may give up on that, too."""
        first = now + SERVER_CHECK_FIRST_SECONDS
        self.deadline = first if self.deadline is None else min(self.deadline, first)
        self._done = 0

    def succeeded(self) -> None:
        """Both were equal: no more checks."""
        self.deadline = None
