"""Files, replaced whole and durably, or not at all.

Every operation on a file goes through `FileSystem`, so that a test can make the n-th one fail.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from typing import Final, NamedTuple

from mergesync.limits import MAX_UNREADABLE_COPIES
from mergesync.persist.names import PATH_ID_SUFFIX

__all__ = [
    "FILES",
    "FileChangedError",
    "FileSystem",
    "Signature",
    "keep_aside",
    "make_folders",
    "remove_file",
    "remove_stale_temporaries",
    "replace_file",
]

_TEMPORARY: Final = ".mergesync-tmp"
_UNREADABLE: Final = ".unreadable-"
_STALE = re.compile(
    r"(?P<file>.*?)(\.unsaved|\.path-id|\.unreadable-[0-9a-f]{12})?\.[0-9a-f]{16}\.mergesync-tmp", re.DOTALL
)


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it."""

    modified_ns: int
    size: int
    inode: int


class FileChangedError(OSError):
    """Somebody else has changed a file that was about to be replaced."""


class FileSystem:
    """The operations on files that persisters use."""

    def read(self, path: str) -> tuple[bytes, Signature]:
        """The bytes of a file, and which state of it they are."""
        with open(path, "rb") as file:
            signature = _signature(os.fstat(file.fileno()))
            return file.read(), signature

    def signature(self, path: str) -> Signature | None:
        """The state of a file, or None if there is none."""
        try:
            return _signature(os.stat(path))
        except FileNotFoundError:
            return None

    def mode(self, path: str) -> int | None:
        """The permissions of a file, or None if there is none."""
        try:
            return stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            return None

    def create(self, path: str, mode: int | None) -> int:
        """Create a file that must not exist, with these permissions or the usual ones; returns its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if mode is not None and sys.platform != "win32":
            os.fchmod(descriptor, mode)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of the data; returns how many bytes were written."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> Signature:
        """Make what was written durable; returns the state of the file."""
        os.fsync(descriptor)
        return _signature(os.fstat(descriptor))

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def rename(self, path: str, target: str) -> None:
        """Put a file in the place of another, at once."""
        os.replace(path, target)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def names(self, folder: str) -> list[str]:
        """The names in a folder."""
        return os.listdir(folder)

    def make_folder(self, folder: str) -> None:
        """Make a folder unless it is there; the one above it must be."""
        with suppress(FileExistsError):
            os.mkdir(folder)

    def sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable."""
        if sys.platform == "win32":
            return  # it cannot open folders, and needs no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


FILES: Final = FileSystem()
"""The real ones."""


def _signature(found: os.stat_result) -> Signature:
    return Signature(found.st_mtime_ns, found.st_size, found.st_ino)


def make_folders(files: FileSystem, folder: str) -> None:
    """Make a folder, and those above it, durably; what is there stays."""
    missing = []
    path = os.path.abspath(folder)
    while files.signature(path) is None:
        missing.append(path)
        path = os.path.dirname(path)
    for path in reversed(missing):
        files.make_folder(path)
        files.sync_folder(os.path.dirname(path))


def replace_file(files: FileSystem, path: str, data: bytes, expected: Signature | None) -> Signature:
    """Replace a file durably: temporary file beside it, fsync, rename, fsync of the folder.

    Permissions are kept and symbolic links followed.

    Args:
        files: the operations.
        path: the file.
        data: what it is to hold.
        expected: the state it must be in until the last moment; None if it must not exist.

    Returns:
        The new state of the file.

    Raises:
        FileChangedError: it was in another state, and was left as it is.
    """
    target = os.path.realpath(path)
    temporary = f"{target}.{secrets.token_hex(8)}{_TEMPORARY}"
    try:
        signature = _write_new(files, temporary, data, files.mode(target))
        if files.signature(target) != expected:
            raise FileChangedError(f"somebody else has changed {path!r}; its content is merged first")
        files.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            files.remove(temporary)
        raise
    files.sync_folder(os.path.dirname(target))
    return signature


def _write_new(files: FileSystem, path: str, data: bytes, mode: int | None) -> Signature:
    descriptor = files.create(path, mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[files.write(descriptor, rest) :]
        return files.sync(descriptor)
    finally:
        files.close(descriptor)


def keep_aside(files: FileSystem, path: str) -> None:
    """Copy a file beside itself, once for each state of it; the file itself is not touched."""
    data, _ = files.read(path)
    prefix = os.path.realpath(path) + _UNREADABLE
    folder, name_prefix = os.path.split(prefix)
    copies = [name for name in files.names(folder) if name.startswith(name_prefix) and not name.endswith(_TEMPORARY)]
    copy = prefix + hashlib.sha256(data).hexdigest()[:12]
    if os.path.basename(copy) not in copies and len(copies) < MAX_UNREADABLE_COPIES:
        replace_file(files, copy, data, None)


def remove_file(files: FileSystem, path: str) -> None:
    """Remove a file durably, after all that is kept beside it: other states of it, and last the note of its path id.

    Args:
        files: the operations.
        path: the file; it need not exist.
    """
    folder, name = os.path.split(os.path.realpath(path))
    if files.signature(folder) is None:
        return
    beside = [found for found in files.names(folder) if found.startswith(f"{name}.") and _is_kept_beside(found, name)]
    for found in [*sorted(beside, reverse=True), name, name + PATH_ID_SUFFIX]:
        with suppress(FileNotFoundError):
            files.remove(os.path.join(folder, found))
    files.sync_folder(folder)


def _is_kept_beside(found: str, name: str) -> bool:
    stale = _STALE.fullmatch(found)
    if stale is not None:
        return stale["file"] == name
    return found == f"{name}.unsaved" or found.startswith(name + _UNREADABLE)


def remove_stale_temporaries(files: FileSystem, folder: str, name: str | None = None) -> None:
    """Remove what a crash in the middle of a save has left: it never was the only copy of anything durable.

    Should it be of another process that is saving right now, that save fails and is tried again.

    Args:
        files: the operations.
        folder: where to look.
        name: the file whose temporaries these are; None for all.
    """
    for found in files.names(folder):
        match = _STALE.fullmatch(found)
        if match and (name is None or match["file"] == name):
            with suppress(OSError):
                files.remove(os.path.join(folder, found))
