"""A SQLite database with the stores of many paths: one connection that writes, one commit for all of them.

Each commit first takes in what others have committed since the last, while it holds the write lock, and then writes
what waits, so that nothing is written over an edit that nobody has seen. All paths whose changes come within a few
milliseconds share a commit, and so an fsync. Loads use connections of their own, which never wait for a commit.

This is the only module that knows aiosqlite.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import aiosqlite

from mergesync.exceptions import LoadError
from mergesync.limits import (
    SQLITE_BUSY_TIMEOUT_SECONDS,
    SQLITE_COMMIT_INTERVAL_SECONDS,
    SQLITE_POLL_SECONDS,
)
from mergesync.persist.shared import FileLock, Shared
from mergesync.persist.sqlite_rows import Snapshot
from mergesync.persist.sqlite_statements import (
    check,
    number,
    open_path,
    path_ids,
    prepare,
    read_rows,
    remove_rows,
    write_rows,
)
from mergesync.store.building import Built
from mergesync.store.unsaved import has_stamps
from mergesync.types import MergeableChanges

__all__ = ["Member", "SqliteDatabase"]

_SMALLEST_DATABASE: Final = 512

_SUFFIXES: Final = ("", "-wal", "-shm")


class Member(Protocol):
    """Somebody who keeps a path in the database, and is told of what others commit to it.

    Attributes:
        path_id: the path.
        seen: the last commit of which everything is in the store.
        is_behind: whether others may have committed since.
    """

    path_id: str
    seen: int
    is_behind: bool

    def wants_edits(self) -> bool:
        """Whether it wants to hear of what others commit as it comes."""

    async def take_edits(self, snapshot: Snapshot) -> MergeableChanges:
        """Merge what others committed; returns what that changed anew, to be written in the same commit."""

    def note_commit(self, commit: int) -> None:
        """Its changes were written in a commit."""

    def start_anew(self) -> None:
        """The database was removed or replaced: nothing that is there is known, and all is to be written again."""

    def report(self, error: Exception) -> None:
        """Something went wrong while nobody was waiting."""


class _Write(NamedTuple):
    member: Member
    changes: MergeableChanges | None  # None: all rows are to be removed
    done: asyncio.Future[None]


class SqliteDatabase(Shared):
    """A database file, open while somebody holds it.

    Args:
        file: the file; it is made if it is missing. A file that is no database of ours, or of a newer format, or
            damaged, is refused and only ever opened for reading.
        lock: whether to keep other servers out. Without, several processes may share the database.
        connect: opens a connection; for tests.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        lock: bool = False,
        connect: Callable[..., aiosqlite.Connection] = aiosqlite.connect,
    ) -> None:
        super().__init__()
        self.file: str = os.path.abspath(file)
        self._lock = FileLock(self.file + ".lock", f"the database {self.file!r}") if lock else None
        self._connect = connect
        self._writer: aiosqlite.Connection | None = None
        self._file_ids: list[tuple[int, int] | None] = [None] * len(_SUFFIXES)
        self._data_version = 0
        self._members: dict[str, list[Member]] = {}
        self._batch: list[_Write] = []
        self._poller: asyncio.Task[None] | None = None
        self._committer: asyncio.Task[None] | None = None

    async def get_path_ids(self) -> list[str]:
        """The paths for which something is stored, sorted."""
        async with self, self._reading() as connection:
            return await path_ids(connection)

    # --- for members

    async def join(self, member: Member) -> None:
        """Hold the database, and be told from now on what others commit."""
        await self.hold()
        self._members.setdefault(member.path_id, []).append(member)

    async def leave(self, member: Member) -> None:
        """Let go of the database."""
        members = self._members[member.path_id]
        members.remove(member)
        if not members:
            del self._members[member.path_id]
        await self.let_go()

    async def read(self, member: Member) -> tuple[Snapshot, Built | None]:
        """All that is stored for a path, as `open_path` has it."""
        async with self._reading() as connection:
            await connection.execute("BEGIN")
            return await open_path(connection, member.path_id)

    async def write(self, member: Member, changes: MergeableChanges) -> None:
        """Write changes of a path; return when they are durable."""
        await self._written(member, changes)

    async def remove(self, member: Member) -> None:
        """Remove all rows of a path; return when that is durable."""
        await self._written(member, None)

    async def _written(self, member: Member, changes: MergeableChanges | None) -> None:
        done = asyncio.get_running_loop().create_future()
        self._batch.append(_Write(member, changes, done))
        self._wake()
        await done

    # --- connections

    async def _open(self) -> None:
        if self._lock is not None:
            await asyncio.to_thread(self._lock.acquire)
        try:
            await self._open_writer()
        except BaseException:
            self._unlock()
            raise
        self._poller = asyncio.create_task(self._poll())

    async def _shut(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        if self._committer is not None:
            await self._committer
        await self._close_writer()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    async def _open_writer(self) -> None:
        size = await asyncio.to_thread(_size, self.file)
        if 0 < size < _SMALLEST_DATABASE:  # SQLite would take it for a new one, and write over it
            raise LoadError(f"{self.file!r} is damaged: it is too short")
        if size:
            async with self._reading() as connection:
                await check(connection, self.file, size)
        writer = await self._connected(self.file)
        try:
            await prepare(writer)
            self._data_version = await number(writer, "PRAGMA data_version")
            self._file_ids = await asyncio.to_thread(_file_ids, self.file)
        except BaseException:
            await writer.close()
            raise
        self._writer = writer

    async def _close_writer(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[aiosqlite.Connection]:
        connection = await self._connected(f"file:{quote(self.file)}?mode=ro", uri=True)
        try:
            yield connection
        finally:
            await connection.close()

    def _connected(self, file: str, uri: bool = False) -> aiosqlite.Connection:
        connection = self._connect(file, uri=uri, isolation_level=None, timeout=SQLITE_BUSY_TIMEOUT_SECONDS)
        # A program that fails without a word to us must be able to end: aiosqlite's threads would keep it for ever.
        thread: Any = getattr(connection, "_thread", connection)
        thread.daemon = True
        return connection

    async def _ready_writer(self) -> aiosqlite.Connection:
        """The connection that writes; a new one if the file was removed or replaced."""
        ids = await asyncio.to_thread(_file_ids, self.file)
        if self._writer is None or ids[0] != self._file_ids[0]:
            await self._close_writer()
            await asyncio.to_thread(_remove_journals, self.file, self._file_ids)
            await self._open_writer()
            for member in self._all_members():
                member.start_anew()
        else:
            self._file_ids = ids
        assert self._writer is not None
        if self._writer.in_transaction:
            await self._writer.execute("ROLLBACK")
        return self._writer

    # --- committing

    def _wake(self) -> None:
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_all())

    async def _commit_all(self) -> None:
        while True:
            await asyncio.sleep(SQLITE_COMMIT_INTERVAL_SECONDS)
            batch, self._batch = self._batch, []
            try:
                await self._commit(batch)
            except Exception as error:
                self._fail(batch, error)
                if not self._batch:
                    return  # for edits, the poller tries again
            else:
                for write in batch:
                    if not write.done.done():
                        write.done.set_result(None)
                if not self._batch and not self._has_wanted_edits():
                    return

    async def _commit(self, batch: list[_Write]) -> None:
        writer = await self._ready_writer()
        await writer.execute("BEGIN IMMEDIATE")
        try:
            await self._look_for_commits(writer)
            work = await self._take_edits(writer, [write.member for write in batch if write.changes is not None])
            work += [(write.member, write.changes) for write in batch if write.changes is not None]
            commit = await write_rows(writer, [(member.path_id, changes) for member, changes in work]) if work else 0
            for write in batch:
                if write.changes is None:
                    await remove_rows(writer, write.member.path_id)
            await writer.execute("COMMIT")
        except BaseException:
            with suppress(Exception):
                await writer.execute("ROLLBACK")
            raise
        self._note_commit(commit, [member for member, _ in work])

    async def _look_for_commits(self, writer: aiosqlite.Connection) -> None:
        version = await number(writer, "PRAGMA data_version")
        if version != self._data_version:
            self._data_version = version
            for member in self._all_members():
                member.is_behind = True

    async def _take_edits(
        self, writer: aiosqlite.Connection, writing: list[Member]
    ) -> list[tuple[Member, MergeableChanges]]:
        """Let those who want it, or are about to write, merge what others have committed; what that changes anew."""
        work = []
        for member in self._all_members():
            if member.is_behind and (member.wants_edits() or member in writing):
                snapshot = await read_rows(writer, member.path_id, member.seen)
                member.is_behind = False
                changes = await member.take_edits(snapshot)
                if has_stamps(changes):  # an idle commit would make the other processes look, and commit, for ever
                    work.append((member, changes))
        return work

    def _note_commit(self, commit: int, wrote: list[Member]) -> None:
        for writer in wrote:
            for member in self._members.get(writer.path_id, ()):
                member.is_behind = member.is_behind or member is not writer
        for writer in wrote:
            writer.note_commit(commit)

    def _fail(self, batch: list[_Write], error: Exception) -> None:
        for write in batch:
            if not write.done.done():
                write.done.set_exception(error)
        if not batch:
            self._report(error)

    # --- what others do

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(SQLITE_POLL_SECONDS)
            try:
                if self._writer is not None:
                    await self._look_for_commits(self._writer)
                ids = await asyncio.to_thread(_file_ids, self.file)
                if self._has_wanted_edits() or ids[0] != self._file_ids[0]:
                    self._wake()
            except Exception as error:
                self._report(error)

    def _has_wanted_edits(self) -> bool:
        return any(member.is_behind and member.wants_edits() for member in self._all_members())

    def _all_members(self) -> list[Member]:
        return [member for members in self._members.values() for member in members]

    def _report(self, error: Exception) -> None:
        for member in self._all_members():
            if member.wants_edits():
                member.report(error)


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def _file_ids(file: str) -> list[tuple[int, int] | None]:
    """Which files the database and its journals are."""
    ids: list[tuple[int, int] | None] = []
    for suffix in _SUFFIXES:
        try:
            found = os.stat(file + suffix)
            ids.append((found.st_dev, found.st_ino))
        except FileNotFoundError:
            ids.append(None)
    return ids


def _remove_journals(file: str, ids: list[tuple[int, int] | None]) -> None:
    """Remove what the journals of a database that is gone have left: SQLite would replay them on its heir."""
    for suffix, known, found in zip(_SUFFIXES, ids, _file_ids(file), strict=True):
        if suffix and found is not None and found == known:
            os.unlink(file + suffix)
