"""What a persister tells about itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["OnIgnoredError", "PersisterStats", "PersisterStatus", "log_error"]

OnIgnoredError: TypeAlias = Callable[[Exception], None]
"""Hears of failures that nobody waits for."""

_logger = logging.getLogger("mergesync")


def log_error(error: Exception) -> None:
    """Tell the logger `mergesync`."""
    _logger.error("%s", error, exc_info=error)


class PersisterStatus(StrEnum):
    """What a persister is doing."""

    NEW = "new"
    LOADING = "loading"
    LOAD_FAILED = "load-failed"
    """Nothing is saved until a load succeeds."""
    IDLE = "idle"
    """All that the store holds is stored."""
    UNSAVED = "unsaved"
    """The store holds what storage lacks; if auto-save is on, it will be saved in a moment."""
    SAVING = "saving"
    SAVE_FAILED = "save-failed"
    """The last save failed. The data is kept in memory; if auto-save is on, saving is tried again."""
    DESTROYED = "destroyed"


@dataclass(slots=True)
class PersisterStats:
    """How often a persister did what.

    Attributes:
        loads: loads that succeeded; merging what others stored is not counted.
        saves: saves that succeeded.
        failed_loads: loads that failed, of what others stored, too.
        failed_saves: saves that failed.
    """

    loads: int = 0
    saves: int = 0
    failed_loads: int = 0
    failed_saves: int = 0
