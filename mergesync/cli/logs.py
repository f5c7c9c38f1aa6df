r"""The log of a server: one line for each event, on stderr.

    2026-01-31T12:00:00.000Z info client.joined path=petShop client="4Ynw=="

Values that are not plain words are JSON strings in ASCII, so that no id can forge a line or steer a terminal. What is
in cells is never logged; of errors that are not mergesync's own, only the type and the place are.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from typing import Any, Final

from mergesync.exceptions import MergesyncError

__all__ = ["LineFormatter", "log", "log_error", "start_logging"]

_PLAIN = re.compile(r"[0-9A-Za-z_./:@%+-]+")
_MAX_VALUE: Final = 500
_logger = logging.getLogger("mergesync.serve")


def start_logging() -> None:
    """Write whatever is logged, by libraries, too, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for chatty in ("websockets", "asyncio", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def log(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event; fields that are None are left out."""
    _logger.log(level, event, extra={"fields": fields})


def log_error(error: Exception) -> None:
    """Log an error that nobody called for; what is `on_ignored_error` of a server."""
    if not isinstance(error, MergesyncError | OSError):
        log("internal-error", level=logging.ERROR, error=type(error).__name__, at=_place(error))
        return
    message = error.args[0] if isinstance(error, MergesyncError) and error.args else str(error)
    log(
        "problem",
        level=logging.WARNING,
        code=getattr(error, "code", type(error).__name__),
        path=getattr(error, "path_id", None),
        client=getattr(error, "client_id", None),
        message=message,
    )


class LineFormatter(logging.Formatter):
    """Formats a record as `time level event key=value ...`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03}Z"
        fields = getattr(record, "fields", None)
        event = record.getMessage()
        if fields is None:
            event, fields = "log", {"logger": record.name, "message": event}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields = {**fields, "error": type(error).__name__, "at": _place(error)}
        pairs = (f" {key}={_shown(value)}" for key, value in fields.items() if value is not None)
        return f"{moment} {record.levelname.lower()} {event}{''.join(pairs)}"


def _shown(value: Any) -> str:
    text = str(value)
    if len(text) > _MAX_VALUE:
        text = text[:_MAX_VALUE] + "..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _place(error: BaseException) -> str | None:
    """Where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
