"""Errors that nobody called for, and the callbacks of applications."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from mergesync.exceptions import MergesyncError, PersisterError, SyncError

__all__ = ["OnIgnoredError", "Reporter", "note_place", "plain_callback"]

OnIgnoredError: TypeAlias = Callable[[Exception], object]
"""Called with every error that nobody called for."""

_Callback = TypeVar("_Callback", bound="Callable[..., Any] | None")
_logger = logging.getLogger("mergesync")


def plain_callback(callback: _Callback, name: str) -> _Callback:
    """A callback as it is.

    Raises:
        TypeError: it is a coroutine function, and what it returns would be awaited by nobody.
    """
    if inspect.iscoroutinefunction(callback):
        raise TypeError(f"{name} must be a plain function, not a coroutine function")
    return callback


def note_place(error: Exception, path_id: str, client_id: str | None = None) -> None:
    """Say where it happened: where the error has a place for that and does not say so yet, or in a note."""
    if isinstance(error, SyncError | PersisterError):
        error.path_id = path_id if error.path_id is None else error.path_id
        if isinstance(error, SyncError) and error.client_id is None:
            error.client_id = client_id
    else:
        client = "" if client_id is None else f", client {client_id!r}"
        error.add_note(f"path {path_id!r}{client}")


class Reporter:
    """Tells the application of errors that nobody called for, or else the logger `mergesync`; never raises.

    Args:
        on_ignored_error: the application's callback, if it has one.
    """

    def __init__(self, on_ignored_error: OnIgnoredError | None) -> None:
        self._on_ignored_error = plain_callback(on_ignored_error, "on_ignored_error")

    def __call__(self, error: Exception) -> None:
        """Report an error."""
        if self._on_ignored_error is None:
            # What is not an error of ours is unexpected, and needs its traceback.
            traceback = None if isinstance(error, MergesyncError) else error
            _logger.warning("%s: %s", type(error).__name__, error, exc_info=traceback)
            return
        try:
            self._on_ignored_error(error)
        except Exception:
            _logger.exception("on_ignored_error failed")

    def guard(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call the application; what it raises is reported, and stops nothing."""
        try:
            callback(*arguments)
        except Exception as error:
            self(error)
