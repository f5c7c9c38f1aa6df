"""Files in memory with a memory of their own: what was synced survives a crash; what was not may, or may not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from random import Random
from typing import Any

from mergesync.persist.files import FileSystem, Signature

__all__ = ["FULL", "CrashedError", "Disk", "DiskView"]

FULL = "simulated: no space left"


class CrashedError(OSError):
    """The process that asks is dead."""


@dataclass
class _File:
    """A file: what programs see, and what a loss of power would leave."""

    inode: int
    data: bytes = b""
    synced: bytes | None = None
    modified_ns: int = 0

    def signature(self) -> Signature:
        return Signature(self.modified_ns, len(self.data), self.inode)


class Disk:
    """A disk with folders of files.

    Args:
        random: draws what is left of data that was not synced.

    Attributes:
        view: the disk as the living process sees it.
        fail_after: how many more operations succeed before one fails; None for all.
        broken: whether all fail.
        failures: how many were made to fail, those aside that only clean up.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.files: dict[str, _File] = {}
        self.synced_names: dict[str, _File] = {}
        self.view = DiskView(self)
        self.fail_after: int | None = None
        self.broken = False
        self.failures = 0
        self._inodes = 0
        self._changes = 0

    def new_file(self) -> _File:
        self._inodes += 1
        return _File(self._inodes)

    def stamp(self, file: _File) -> None:
        """A file was changed."""
        self._changes += 1
        file.modified_ns = self._changes

    def fails_now(self, *, matters: bool = True) -> bool:
        """Whether the next operation fails, which counts as one."""
        if self.fail_after is not None:
            self.fail_after -= 1
        if not self.broken and (self.fail_after is None or self.fail_after >= 0):
            return False
        self.fail_after = None
        self.failures += matters
        return True

    def lose_power(self) -> None:
        """The process dies with the machine: unsynced names and bytes are kept, lost or scrambled."""
        self.view.dead = True
        survivors: dict[str, _File] = {}
        for name in sorted({*self.files, *self.synced_names}):
            names = self.files if self.random.random() < 0.5 else self.synced_names
            if name in names:
                survivors[name] = names[name]
        for file in survivors.values():
            if file.synced != file.data:
                file.data = self._left_of(file)
            file.synced = file.data
        self.files = survivors
        self.synced_names = dict(survivors)
        self.view = DiskView(self)

    def kill(self) -> None:
        """The process dies; what it has written stays."""
        self.view.dead = True
        self.view = DiskView(self)

    def _left_of(self, file: _File) -> bytes:
        fate = self.random.randrange(4)
        if fate == 0:
            return file.data
        if fate == 1:
            return file.synced or b""
        if fate == 2:
            return file.data[: self.random.randrange(len(file.data) + 1)]
        return bytes(self.random.randrange(256) for _ in file.data)


class DiskView(FileSystem):
    """The disk as one process sees it; after its death every operation fails."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.dead = False
        self._open: dict[int, tuple[str, _File]] = {}
        self._descriptors = 0

    def _check(self, *, matters: bool = True) -> None:
        if self.dead:
            raise CrashedError("the process is dead")
        if self._disk.fails_now(matters=matters):
            raise OSError(28, FULL)

    def read(self, path: str) -> tuple[bytes, Signature]:
        self._check()
        file = self._disk.files.get(path)
        if file is None:
            raise FileNotFoundError(path)
        return file.data, file.signature()

    def signature(self, path: str) -> Signature | None:
        self._check()
        file = self._disk.files.get(path)
        if file is None and any(os.path.dirname(name) == path for name in self._disk.files):
            return Signature(0, 0, 0)  # a folder
        return None if file is None else file.signature()

    def mode(self, path: str) -> int | None:
        self._check()
        return 0o644 if path in self._disk.files else None

    def create(self, path: str, mode: int | None) -> int:
        self._check()
        if path in self._disk.files:
            raise FileExistsError(path)
        file = self._disk.files[path] = self._disk.new_file()
        self._descriptors += 1
        self._open[self._descriptors] = (path, file)
        return self._descriptors

    def write(self, descriptor: int, data: memoryview) -> int:
        self._check()
        _, file = self._open[descriptor]
        count = self._disk.random.randrange(1, len(data) + 1)
        file.data += bytes(data[:count])
        self._disk.stamp(file)
        return count

    def sync(self, descriptor: int) -> Signature:
        self._check()
        _, file = self._open[descriptor]
        file.synced = file.data
        return file.signature()

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def rename(self, path: str, target: str) -> None:
        self._check()
        if path not in self._disk.files:
            raise FileNotFoundError(path)
        self._disk.files[target] = self._disk.files.pop(path)

    def remove(self, path: str) -> None:
        self._check(matters=False)
        if self._disk.files.pop(path, None) is None:
            raise FileNotFoundError(path)

    def names(self, folder: str) -> list[str]:
        self._check(matters=False)
        return [os.path.basename(path) for path in self._disk.files if os.path.dirname(path) == folder]

    def make_folder(self, folder: str) -> None:
        self._check()

    def sync_folder(self, folder: str) -> None:
        self._check()
        for path in {*self._disk.files, *self._disk.synced_names}:
            if os.path.dirname(path) == folder:
                self._sync_name(path)

    def _sync_name(self, path: str) -> None:
        file: Any = self._disk.files.get(path)
        if file is None:
            self._disk.synced_names.pop(path, None)
        else:
            self._disk.synced_names[path] = file
