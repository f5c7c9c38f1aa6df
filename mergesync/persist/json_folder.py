"""A folder of JSON files, one for each path."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from mergesync.exceptions import LoadError
from mergesync.persist.base import Stored
from mergesync.persist.files import FILES, FileSystem, make_folders, remove_stale_temporaries, replace_file
from mergesync.persist.json_file import JsonFilePersister
from mergesync.persist.names import PATH_ID_SUFFIX, file_name, is_cut, path_id_of
from mergesync.persist.poller import FilePoller
from mergesync.persist.shared import FileLock, Shared
from mergesync.persist.status import OnIgnoredError
from mergesync.store import MergeableStore

__all__ = ["JsonFilePersisters", "json_file_persisters"]

_LOCK_NAME = ".mergesync.lock"


class JsonFilePersisters(Shared):
    """Makes a persister for each path, in its own file of one folder; see `json_file_persisters`.

    Attributes:
        folder: the folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        create_store: Callable[[], MergeableStore] = MergeableStore,
        on_ignored_error: OnIgnoredError | None = None,
        lock: bool = True,
        files: FileSystem = FILES,
    ) -> None:
        super().__init__()
        self.folder: str = os.fspath(folder)
        self._create_store = create_store
        self._on_ignored_error = on_ignored_error
        self._lock = FileLock(os.path.join(self.folder, _LOCK_NAME), f"the folder {self.folder!r}") if lock else None
        self._files = files
        self._poller = FilePoller(files)
        self._fold_case = False  # until the folder is open

    def __call__(self, path_id: str) -> JsonFilePersister:
        """A persister for a path, with a store of its own; nothing is read or made yet."""
        return _FolderFilePersister(self, path_id)

    async def get_path_ids(self) -> list[str]:
        """The paths that have a file in the folder, sorted."""
        async with self:
            return await asyncio.to_thread(self._list)

    async def _open(self) -> None:
        await asyncio.to_thread(self._open_folder)

    def _open_folder(self) -> None:
        if self._lock is None:
            self._fold_case = self._is_case_folded()
            return
        make_folders(self._files, self.folder)
        self._lock.acquire()
        try:
            self._fold_case = self._is_case_folded()
            self._check_names()
            remove_stale_temporaries(self._files, self.folder)
        except BaseException:
            self._lock.release()
            raise

    async def _shut(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _is_case_folded(self) -> bool:
        """Whether the folder takes capitals and small letters for the same; without a lock file it has no files yet."""
        names = [_LOCK_NAME, _LOCK_NAME.upper()]
        small, capital = (self._files.signature(os.path.join(self.folder, name)) for name in names)
        return small is not None and small == capital

    def _check_names(self) -> None:
        """Refuse a folder that was copied from a system with another view of capitals: files would be overlooked."""
        for name in self._files.names(self.folder):
            path_id = self._path_id_of(name)
            if path_id is not None and self._file_name(path_id) != name:
                raise LoadError(
                    f"in {self.folder!r}, rename {name!r} to {self._file_name(path_id)!r}, as is usual here"
                )

    def _list(self) -> list[str]:
        path_ids = [self._path_id_of(name) for name in self._files.names(self.folder)]
        return sorted(path_id for path_id in path_ids if path_id is not None)

    def _path_id_of(self, name: str) -> str | None:
        if not is_cut(name):
            path_id = path_id_of(name)
            return path_id if path_id is not None else path_id_of(name, fold_case=True)
        try:
            utf8, _ = self._files.read(os.path.join(self.folder, name + PATH_ID_SUFFIX))
        except FileNotFoundError:
            return None
        return utf8.decode("utf-8", "surrogatepass")

    def _file_name(self, path_id: str) -> str:
        return file_name(path_id, fold_case=self._fold_case)

    def _path(self, path_id: str) -> str:
        return os.path.join(self.folder, self._file_name(path_id))


class _FolderFilePersister(JsonFilePersister):
    """A file of a folder: holds the folder from its first load on, and writes down an id that the file name cuts."""

    def __init__(self, folder: JsonFilePersisters, path_id: str) -> None:
        super().__init__(
            folder._create_store(),
            folder._path(path_id),
            path_id=path_id,
            on_ignored_error=folder._on_ignored_error,
            files=folder._files,
            poller=folder._poller,
        )
        self._folder = folder
        self._utf8_id = path_id.encode("utf-8", "surrogatepass")
        self._holds = False

    async def _load(self) -> Stored | None:
        await self._hold()
        return await super()._load()

    async def _hold(self) -> None:
        if not self._holds:
            await self._folder.hold()
            self._holds = True
            self.path = self._folder._path(self._utf8_id.decode("utf-8", "surrogatepass"))

    async def _remove(self) -> None:
        await self._hold()
        await super()._remove()

    async def _save(self, body: Any) -> None:
        if is_cut(os.path.basename(self.path)):
            await asyncio.to_thread(self._write_path_id)
        await super()._save(body)

    def _write_path_id(self) -> None:
        path = self.path + PATH_ID_SUFFIX
        if self._files.signature(path) is None:
            replace_file(self._files, path, self._utf8_id, None)

    async def _close(self) -> None:
        if self._holds:
            await self._folder.let_go()

    def _remove_stale_temporaries(self) -> None:
        """The folder has done it for all files."""


def json_file_persisters(
    folder: str | os.PathLike[str],
    *,
    create_store: Callable[[], MergeableStore] = MergeableStore,
    on_ignored_error: OnIgnoredError | None = None,
    lock: bool = True,
    files: FileSystem = FILES,
) -> JsonFilePersisters:
    """Keep each path in a JSON file of a folder, the very file that TinyBase would read and write.

    The folder is made if it is missing, and held while any of its persisters lives: a second process that wants it is
    refused. Enter what is returned (`async with`) to hold it longer.

    Args:
        folder: where the files are; `names` says how they are called.
        create_store: makes the store of a path.
        on_ignored_error: hears of failures that nobody waits for. None: they go to the logger `mergesync`.
        lock: False to read beside a server that is running; nothing must then be saved.
        files: the operations on files; for tests.

    Returns:
        A callable that makes a persister for a path id: what `create_ws_server` takes.

    Example:
        server = await create_ws_server("localhost", 8047, create_persister_for_path=json_file_persisters("data"))
    """
    return JsonFilePersisters(
        folder, create_store=create_store, on_ignored_error=on_ignored_error, lock=lock, files=files
    )
