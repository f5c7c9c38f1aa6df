"""A wall clock that need not be right: it may be off, drift, jump, go back and stand still."""

from __future__ import annotations

from random import Random

__all__ = ["TAME_MILLISECONDS", "Clock"]

EPOCH_MILLISECONDS = 1_704_067_200_000

TAME_MILLISECONDS = 140_000
"""Two clocks that are off by no more never refuse each other's stamps: that begins at five minutes."""

_FAR_MILLISECONDS = 3_600_000


class Clock:
    """The clock of one program.

    Args:
        offset_milliseconds: how far it is ahead at the start.

    Attributes:
        far: whether it is so far ahead that others refuse its stamps.
    """

    def __init__(self, offset_milliseconds: int = 0) -> None:
        self.far = False
        self._offset = float(offset_milliseconds)
        self._rate = 1.0
        self._since = 0.0

    def read(self, seconds: float) -> int:
        """Milliseconds since 1970 after so many true seconds."""
        return EPOCH_MILLISECONDS + int(seconds * 1000 + self._offset_at(seconds)) + self.far * _FAR_MILLISECONDS

    def _offset_at(self, seconds: float) -> float:
        offset = self._offset + (self._rate - 1) * (seconds - self._since) * 1000
        return max(-TAME_MILLISECONDS, min(TAME_MILLISECONDS, offset))

    def upset(self, random: Random, seconds: float) -> None:
        """Let something happen to it: a jump in either direction, another speed, or none at all."""
        self._offset = self._offset_at(seconds) + random.choice((0, 0, -60_000, -1000, 1000, 60_000))
        self._rate = random.choice((1.0, 1.0, 0.0, 0.5, 1.5))
        self._since = seconds
