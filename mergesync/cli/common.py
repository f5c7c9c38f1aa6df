"""What the commands share: failing with one line, running on the fastest loop there is, showing text safely."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from mergesync.store.jsjson import dumps
from mergesync.types import MISSING, CellOrMissing

__all__ = ["FAILED", "OK", "USAGE", "CliError", "printable", "run", "shown_cell", "shown_id"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2

_PLAIN_ID = re.compile(r"[\w.@+-]+")


class CliError(Exception):
    """Ends a command with one line and an exit code.

    Attributes:
        exit_code: 1 for what went wrong, 2 for what cannot be asked for.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command to its end, on uvloop where it is installed."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        loop_factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(work)


def printable(text: str) -> str:
    """Text on one line that cannot steer a terminal: whatever is not printable is escaped as in JSON."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def shown_cell(cell: CellOrMissing) -> str:
    """A cell as JSON on one line; absence in parentheses, so that it is never taken for a string."""
    return "(none)" if cell is MISSING else printable(dumps(cell))


def shown_id(id_: str) -> str:
    """An id as it is if it is a plain word, and otherwise as JSON."""
    return id_ if _PLAIN_ID.fullmatch(id_) else printable(dumps(id_))
