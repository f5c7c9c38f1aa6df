"""Things that several persisters hold together: a folder, a database, and the lock that keeps other processes out."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from mergesync.exceptions import LoadError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FileLock", "Shared"]


class Shared(ABC):
    """Opened by the first who holds it, and closed when the last lets go."""

    def __init__(self) -> None:
        self._holders = 0
        self._turn = asyncio.Lock()

    @abstractmethod
    async def _open(self) -> None:
        """Called for the first holder; if it raises, nothing is open."""

    @abstractmethod
    async def _shut(self) -> None:
        """Called when the last holder has let go."""

    async def hold(self) -> None:
        """Open it, unless somebody holds it already; `let_go` must follow."""
        opening = asyncio.create_task(self._hold())
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # A thread that takes the lock cannot be stopped: see it through, or nobody would ever let go of it.
            await asyncio.wait([opening])
            if opening.exception() is None:
                await self.let_go()
            raise

    async def _hold(self) -> None:
        async with self._turn:
            if self._holders == 0:
                await self._open()
            self._holders += 1

    async def let_go(self) -> None:
        """Close it, unless somebody else holds it still."""
        async with self._turn:
            self._holders -= 1
            if self._holders == 0:
                await self._shut()

    async def __aenter__(self) -> Self:
        await self.hold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.let_go()


class FileLock:
    """Keeps a second process, or a second server in this one, from using the same files.

    The operating system lets go of it when the process ends, however it ends; the lock file stays.

    Args:
        path: the lock file.
        what: what it protects, for the error message.
    """

    def __init__(self, path: str, what: str) -> None:
        self._path = path
        self._what = what
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LoadError: somebody else has it.
            OSError: the lock file cannot be made.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise LoadError(f"{self._what} is in use by another server (process {owner or 'unknown'})") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, 1000, os.SEEK_SET)  # what is locked cannot be read, and the process number is to be
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
