"""A store in a SQLite database that it shares with others: only the stamps that changed are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from mergesync.exceptions import ContentError, LoadError
from mergesync.persist.base import Persister, Stored
from mergesync.persist.sqlite import SqliteDatabase
from mergesync.persist.sqlite_rows import Snapshot
from mergesync.persist.status import OnIgnoredError
from mergesync.persist.taking import write_edits
from mergesync.store import MergeableStore
from mergesync.store.building import Built
from mergesync.store.unsaved import no_changes
from mergesync.types import MergeableChanges

__all__ = ["SqlitePersister", "SqlitePersisters", "sqlite_persisters"]


class SqlitePersister(Persister):
    """Keeps a store in a SQLite database, one row for each stamp; `sqlite_rows` says what the rows are.

    What other processes commit is merged while auto-load is on, and before each save. A row that was written with plain
    SQL becomes a local write with a fresh stamp. A row that is removed is not deleted from a store that has it.

    Args:
        store: the store to keep.
        database: the database; persisters that are given the same one share its connection and its commits.
        path_id: the path under which the store is kept.
        on_ignored_error: hears of failures that nobody waits for. None: they go to the logger `mergesync`.

    Example:
        persister = SqlitePersister(store, "pets.db")
        await persister.start_auto_persisting()
    """

    incremental: ClassVar[bool] = True
    is_told_of_edits: ClassVar[bool] = True
    debounce_seconds: ClassVar[float] = 0.0
    debounce_max_seconds: ClassVar[float] = 0.0

    def __init__(
        self,
        store: MergeableStore,
        database: SqliteDatabase | str | os.PathLike[str],
        path_id: str = "",
        *,
        on_ignored_error: OnIgnoredError | None = None,
    ) -> None:
        super().__init__(store, path_id=path_id, on_ignored_error=on_ignored_error)
        self.database: SqliteDatabase = database if isinstance(database, SqliteDatabase) else SqliteDatabase(database)
        self._member = _Member(self, path_id)
        self._has_joined = False
        self._snapshot: Snapshot | None = None  # what is being put into the store

    async def remove(self) -> None:
        """Remove all rows of the path, and let go of everything, in place of `destroy`.

        Raises:
            SaveError: they could not be removed. All else was let go of.
        """
        await self._end_by_removing(self._remove)

    async def _remove(self) -> None:
        await self._join()
        await self.database.remove(self._member)

    async def _join(self) -> None:
        if not self._has_joined:
            await self.database.join(self._member)
            self._has_joined = True

    async def _load(self) -> Stored | None:
        await self._join()
        snapshot, built = await self.database.read(self._member)
        if built is None:
            self._member.seen = snapshot.commit
            return None
        self._opened(snapshot)
        return built

    async def _save(self, body: MergeableChanges) -> None:
        await self.database.write(self._member, body)

    async def _close(self) -> None:
        if self._has_joined:
            await self.database.leave(self._member)

    async def _take_edits(self, snapshot: Snapshot) -> MergeableChanges:
        """Merge what others committed. Comes from the database, in the middle of a commit."""
        beyond = await self._take(self._opened(snapshot), replace=False)
        self._wake()
        return beyond

    def _opened(self, snapshot: Snapshot) -> MergeableChanges:
        for complaint in snapshot.complaints:
            self._report(ContentError(complaint))
        self._snapshot = snapshot
        return snapshot.changes

    def _adopt(self, built: Built) -> bool:
        if not super()._adopt(built):
            return False
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None
        self._member.seen = snapshot.commit
        if snapshot.edits:
            with self.store.transaction():
                write_edits(self.store, snapshot.edits)
        return True

    def _put(self, stored: Any, replace: bool) -> None:
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None
        if snapshot.edits:
            with self.store.transaction():
                super()._put(stored, replace)
                write_edits(self.store, snapshot.edits)
        else:  # by itself, it is quicker if the store is empty
            super()._put(stored, replace)
        self._member.seen = snapshot.commit


class _Member:
    """How the database sees a persister."""

    def __init__(self, persister: SqlitePersister, path_id: str) -> None:
        self.path_id = path_id
        self.seen = 0
        self.is_behind = False
        self._persister = persister
        self._has_refused = False

    def wants_edits(self) -> bool:
        return self._persister.is_auto_loading

    async def take_edits(self, snapshot: Snapshot) -> MergeableChanges:
        self._has_refused = False
        if not snapshot:
            self.seen = snapshot.commit
            return no_changes()
        try:
            beyond = await self._persister._take_edits(snapshot)
        except LoadError as error:
            self._has_refused = True  # to be read again when others commit the next time
            self.report(error)
            return no_changes()
        return deepcopy(beyond)  # the persister goes on adding to it what changes meanwhile

    def note_commit(self, commit: int) -> None:
        if not self.is_behind and not self._has_refused:
            self.seen = commit

    def start_anew(self) -> None:
        self.seen = 0
        self.is_behind = True
        self._persister._unsaved.add_everything()
        self._persister._wake()

    def report(self, error: Exception) -> None:
        self._persister._report(error)


class SqlitePersisters(SqliteDatabase):
    """Makes a persister for each path, all in one database; see `sqlite_persisters`."""

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        create_store: Callable[[], MergeableStore] = MergeableStore,
        on_ignored_error: OnIgnoredError | None = None,
        lock: bool = True,
    ) -> None:
        super().__init__(file, lock=lock)
        self._create_store = create_store
        self._on_ignored_error = on_ignored_error

    def __call__(self, path_id: str) -> SqlitePersister:
        """A persister for a path, with a store of its own; nothing is read or made yet."""
        return SqlitePersister(self._create_store(), self, path_id, on_ignored_error=self._on_ignored_error)


def sqlite_persisters(
    file: str | os.PathLike[str],
    *,
    create_store: Callable[[], MergeableStore] = MergeableStore,
    on_ignored_error: OnIgnoredError | None = None,
    lock: bool = True,
) -> SqlitePersisters:
    """Keep all paths in one SQLite database.

    The database is made if it is missing, and held while any of its persisters lives: a second server that wants it is
    refused, while other programs may read and edit it with plain SQL. Enter what is returned (`async with`) to hold it
    longer.

    Args:
        file: the database.
        create_store: makes the store of a path.
        on_ignored_error: hears of failures that nobody waits for. None: they go to the logger `mergesync`.
        lock: False to use the database beside a server that is running.

    Returns:
        A callable that makes a persister for a path id: what `create_ws_server` takes.

    Example:
        server = await create_ws_server("localhost", 8047, create_persister_for_path=sqlite_persisters("data.db"))
    """
    return SqlitePersisters(file, create_store=create_store, on_ignored_error=on_ignored_error, lock=lock)
