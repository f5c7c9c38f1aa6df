"""The few methods of aiosqlite that persisters use, over real SQLite, in virtual time, for processes that may die."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .disk import FULL, Disk

__all__ = ["Databases"]

_FAILING = ("BEGIN", "BEGIN IMMEDIATE", "COMMIT")
"""Statements that may fail, as inserting rows may."""


class Databases:
    """Opens the databases of one process after another.

    Args:
        folder: where the files are; a process that dies leaves them to the next one as they are.
        disk: says when something fails.
    """

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._generation = 0
        self._open: list[_Connection] = []
        self._file("data.db").parent.mkdir(parents=True)

    @property
    def file(self) -> Path:
        """The database file of the living process."""
        return self._file("data.db")

    def _file(self, name: str) -> Path:
        return self._folder / str(self._generation) / name

    def connect(self, file: str, **options: Any) -> _Connecting:
        """What `aiosqlite.connect` is."""
        return _Connecting(self, file, options)

    def opened(self, connection: _Connection) -> None:
        """Remember a connection of the living process."""
        self._open.append(connection)

    def may_fail(self) -> None:
        """Fail if it is time to."""
        if self._disk.fails_now():
            raise sqlite3.OperationalError(FULL)

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """A copy of the database file as a process that comes later would find it: nobody has locked it."""
        copy = self._folder / "copy"
        _copy(self.file.parent, copy)
        try:
            yield copy / self.file.name
        finally:
            shutil.rmtree(copy)

    def kill(self) -> None:
        """The process dies in the middle of whatever it does; its files stay as they are."""
        old = self._file("data.db").parent
        self._generation += 1
        new = self._file("data.db").parent
        _copy(old, new)
        for connection in self._open:
            connection.die()
        self._open.clear()


def _copy(old: Path, new: Path) -> None:
    new.mkdir()
    for file in sorted(old.iterdir()):
        if not file.name.endswith("-shm"):  # shared memory does not outlive a process
            shutil.copy(file, new / file.name)


class _Connecting:
    def __init__(self, databases: Databases, file: str, options: dict[str, Any]) -> None:
        self._databases = databases
        self._file = file
        self._options = options

    def __await__(self) -> Generator[Any, None, _Connection]:
        return self._open().__await__()

    async def _open(self) -> _Connection:
        connection = _Connection(self._databases)
        self._databases.opened(connection)
        await connection.run(lambda: connection.open(self._file, self._options))
        return connection


class _Connection:
    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._sqlite: sqlite3.Connection | None = None
        self._dead = False

    def open(self, file: str, options: dict[str, Any]) -> None:
        self._sqlite = sqlite3.connect(file, check_same_thread=False, **{**options, "timeout": 0})

    def die(self) -> None:
        self._dead = True
        if self._sqlite is not None:
            self._sqlite.close()

    async def run(self, work: Callable[[], Any], *, may_fail: bool = False) -> Any:
        if self._dead:
            raise sqlite3.OperationalError("the process is dead")
        if may_fail:
            self._databases.may_fail()
        return await asyncio.get_running_loop().run_in_executor(None, work)

    @property
    def sqlite(self) -> sqlite3.Connection:
        assert self._sqlite is not None
        return self._sqlite

    @property
    def in_transaction(self) -> bool:
        return not self._dead and self.sqlite.in_transaction

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> _Execution:
        return _Execution(self, sql, parameters)

    async def execute_fetchall(self, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        return await self.run(lambda: self.sqlite.execute(sql, parameters).fetchall())

    async def executemany(self, sql: str, rows: Any) -> None:
        await self.run(lambda: self.sqlite.executemany(sql, rows), may_fail=True)

    async def executescript(self, sql: str) -> None:
        await self.run(lambda: self.sqlite.executescript(sql))

    async def close(self) -> None:
        if not self._dead:
            await self.run(self.sqlite.close)


class _Execution:
    """Awaited, or entered."""

    def __init__(self, connection: _Connection, sql: str, parameters: tuple[Any, ...]) -> None:
        self._connection = connection
        self._sql = sql
        self._parameters = parameters

    async def _execute(self) -> _Cursor:
        execute = self._connection.sqlite.execute

        def work() -> sqlite3.Cursor:
            return execute(self._sql, self._parameters)

        return _Cursor(self._connection, await self._connection.run(work, may_fail=self._sql in _FAILING))

    def __await__(self) -> Generator[Any, None, _Cursor]:
        return self._execute().__await__()

    async def __aenter__(self) -> _Cursor:
        return await self._execute()

    async def __aexit__(self, *_: object) -> None:
        pass


class _Cursor:
    def __init__(self, connection: _Connection, cursor: sqlite3.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor

    async def fetchmany(self, count: int) -> Any:
        return await self._connection.run(lambda: self._cursor.fetchmany(count))
