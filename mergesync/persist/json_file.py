"""A store in a JSON file: the very file that TinyBase's file persister reads and writes for a MergeableStore.

What happens to a file that somebody else changes while it is in use:

* It is merged, when auto-load notices it, and in any case before the next save. Nothing missing in it is deleted.
* If it cannot be read as content, it is reported, copied to `<file>.unreadable-<hash>`, and not replaced until it can
  be read again or is gone. Until then saves go to `<file>.unsaved`, which is merged and removed after that, by a later
  load, too: neither the edit nor what the store holds is lost.
* If it is removed, it is written again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from mergesync.exceptions import ContentError
from mergesync.persist.base import Persister, Stored
from mergesync.persist.files import (
    FILES,
    FileSystem,
    Signature,
    keep_aside,
    remove_file,
    remove_stale_temporaries,
    replace_file,
)
from mergesync.persist.poller import FilePoller
from mergesync.persist.status import OnIgnoredError
from mergesync.persist.taking import is_mergeable_content
from mergesync.store import MergeableStore
from mergesync.store.building import Built, build_content
from mergesync.store.bulk import collector_paused
from mergesync.store.jsjson import canonical, dumps, parse, utf8

__all__ = ["JsonFilePersister"]


def _text(content: Any) -> bytes:
    with collector_paused():
        return utf8(dumps(content))


_AT_ONCE_BYTES: Final = 1_000_000
"""How much JSON is read by one call, which keeps all other threads waiting."""


def _parse(data: bytes) -> Stored:
    with collector_paused():
        stored = _parse_in_turns(data.decode()) if len(data) > _AT_ONCE_BYTES else parse(data.decode())
        if not isinstance(stored, list):
            raise ContentError("not an array")
        return stored if is_mergeable_content(stored) else canonical(stored)


def _parse_and_build(data: bytes) -> Stored:
    """What is to be compared or written as it is stays so; of content a tree is made, in the same pause."""
    with collector_paused():
        stored = _parse(data)
        return _build(stored) if is_mergeable_content(stored) else stored


def _build(content: Any) -> Built:
    try:
        built = build_content(content)
    except ContentError:  # in arrays that a peer sent as such, there may be numbers that JavaScript rounds
        built = build_content(canonical(content))
    for table in content[0][0].values():
        while table[0]:  # to free all rows at once keeps all other threads waiting
            table[0].popitem()
    return built


def _parse_in_turns(text: str) -> Any:
    """The same as `parse`, and half as fast; but it lets other threads run whenever it has read an object."""
    try:
        return json.loads(text, object_hook=_pause)
    except ValueError:
        return parse(text)


def _pause(read: Any) -> Any:
    return read


class JsonFilePersister(Persister):
    """Keeps a store in a JSON file.

    Args:
        store: the store to keep.
        path: the file. Its folder must exist; the file need not.
        path_id: the path the store belongs to, if any; for error messages.
        on_ignored_error: hears of failures that nobody waits for. None: they go to the logger `mergesync`.
        files: the operations on files; for tests.
        poller: looks at files for several persisters at once.

    Example:
        persister = JsonFilePersister(store, "pets.json")
        await persister.start_auto_persisting()
    """

    def __init__(
        self,
        store: MergeableStore,
        path: str | os.PathLike[str],
        *,
        path_id: str | None = None,
        on_ignored_error: OnIgnoredError | None = None,
        files: FileSystem = FILES,
        poller: FilePoller | None = None,
    ) -> None:
        super().__init__(store, path_id=path_id, on_ignored_error=on_ignored_error)
        self.path: str = os.fspath(path)
        self._files = files
        self._poller = poller or FilePoller(files)
        self._known: Signature | None = None  # the state of the file that was read or written last
        self._is_unreadable = False
        self._last_read = self.path
        self._look_for_side_file = True
        self._has_side_file = False

    @property
    def _side_path(self) -> str:
        return self.path + ".unsaved"

    async def _load(self) -> Stored | None:
        self._look_for_side_file = True
        await asyncio.to_thread(self._remove_stale_temporaries)
        return await self._read_file(_parse if self._loaded else _parse_and_build)

    async def _load_edit(self) -> Stored | None:
        if self._look_for_side_file:
            stored = await self._read_side_file()
            self._look_for_side_file = False
            if stored is not None:
                return stored
        signature = await asyncio.to_thread(self._files.signature, self.path)
        if signature == self._known:
            return None
        stored = await self._read_file()
        if stored is None or self._has_side_file:
            self._unsaved.add_everything()
        return stored

    async def _wait_for_edit(self) -> None:
        await self._poller.wait_for_change(self.path, lambda: self._known)

    async def _read_file(self, parsed: Callable[[bytes], Stored] = _parse) -> Stored | None:
        self._last_read = self.path
        self._is_unreadable = False
        try:
            data, self._known = await asyncio.to_thread(self._files.read, self.path)
        except FileNotFoundError:
            self._known = None
            return None
        return await asyncio.to_thread(parsed, data)

    async def _read_side_file(self) -> Stored | None:
        self._last_read = self._side_path
        try:
            data, _ = await asyncio.to_thread(self._files.read, self._side_path)
        except FileNotFoundError:
            return None
        stored = await asyncio.to_thread(_parse, data)
        self._has_side_file = True
        self._unsaved.add_everything()
        return stored

    async def _keep_aside(self) -> None:
        self._is_unreadable = True
        await asyncio.to_thread(keep_aside, self._files, self._last_read)

    async def _save(self, body: Any) -> None:
        data = await asyncio.to_thread(_text, body)
        if self._is_unreadable:
            await asyncio.to_thread(self._write_side_file, data)
            self._has_side_file = True
            return
        self._known = await asyncio.to_thread(replace_file, self._files, self.path, data, self._known)
        if self._has_side_file:
            await asyncio.to_thread(self._files.remove, self._side_path)
            self._has_side_file = False

    async def remove(self) -> None:
        """Remove the file, and what is kept beside it, and let go of everything, in place of `destroy`.

        Raises:
            SaveError: it could not be removed. All else was let go of.
        """
        await self._end_by_removing(self._remove)

    async def _remove(self) -> None:
        await asyncio.to_thread(remove_file, self._files, self.path)

    def _write_side_file(self, data: bytes) -> None:
        replace_file(self._files, self._side_path, data, self._files.signature(self._side_path))

    def _remove_stale_temporaries(self) -> None:
        folder, name = os.path.split(os.path.realpath(self.path))
        with suppress(OSError):  # the folder may be missing or closed to us: reading the file will tell
            remove_stale_temporaries(self._files, folder, name)
