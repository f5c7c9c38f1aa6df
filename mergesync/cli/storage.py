"""`sqlite:FILE`, `json:DIR` or `none`: where data is, as the command line says it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from mergesync.cli.common import USAGE, CliError, printable
from mergesync.exceptions import PersisterError
from mergesync.persist import JsonFilePersisters, SqlitePersisters, json_file_persisters, sqlite_persisters

__all__ = ["Persisters", "Storage", "opened", "required"]

Persisters: TypeAlias = JsonFilePersisters | SqlitePersisters


@dataclass(frozen=True, slots=True)
class Storage:
    """Where data is.

    Attributes:
        kind: sqlite, json or none.
        place: the file or folder.
    """

    kind: str
    place: str

    @classmethod
    def parse(cls, text: str) -> Storage:
        """What `--persist` and the storage arguments say; raises ValueError."""
        kind, colon, place = text.partition(":")
        if kind == "none" and not colon:
            return cls("none", "")
        if kind not in ("sqlite", "json") or not place:
            raise ValueError(f"{text!r} is not sqlite:FILE, json:DIR or none")
        return cls(kind, place)

    def __str__(self) -> str:
        if self.kind == "none":
            return "in memory only: a path is forgotten when its last client leaves"
        place = printable(os.path.abspath(self.place))
        return f"{place} (SQLite)" if self.kind == "sqlite" else f"{place}{os.sep} (a JSON file for each path)"

    def check_exists(self) -> None:
        """Raise CliError if nothing is there: reading must not create it."""
        there = os.path.isfile(self.place) if self.kind == "sqlite" else os.path.isdir(self.place)
        if not there:
            raise CliError(f"there is no {'database' if self.kind == 'sqlite' else 'folder'} {printable(self.place)}")

    def persisters(
        self, *, lock: bool = True, on_ignored_error: Callable[[Exception], None] | None = None
    ) -> Persisters | None:
        """The factory of persisters; None for no storage."""
        if self.kind == "none":
            return None
        make = sqlite_persisters if self.kind == "sqlite" else json_file_persisters
        return make(self.place, lock=lock, on_ignored_error=on_ignored_error)


def required(persisters: Persisters | None) -> Persisters:
    """A factory of persisters, where there must be storage."""
    if persisters is None:
        raise CliError("nothing is stored in none; give sqlite:FILE or json:DIR", USAGE)
    return persisters


@asynccontextmanager
async def opened(persisters: Persisters) -> AsyncIterator[Persisters]:
    """Hold storage open; what cannot be opened, or is in use by another server, is a CliError."""
    try:
        await persisters.hold()
    except (PersisterError, OSError, ValueError, sqlite3.Error) as error:
        raise CliError(f"cannot open the storage: {printable(str(error))}") from error
    try:
        yield persisters
    finally:
        await persisters.let_go()
