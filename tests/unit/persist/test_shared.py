"""What several persisters hold together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mergesync.exceptions import LoadError
from mergesync.persist.shared import FileLock, Shared


class Counted(Shared):
    """Counts; `trouble` makes opening fail."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.shut = 0
        self.trouble: list[Exception] = []

    async def _open(self) -> None:
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble.pop()
        self.opened += 1

    async def _shut(self) -> None:
        self.shut += 1


async def test_first_opens_last_closes() -> None:
    """However many hold it at once."""
    shared = Counted()
    await asyncio.gather(*(shared.hold() for _ in range(5)))
    async with shared:
        pass
    assert (shared.opened, shared.shut) == (1, 0)
    await asyncio.gather(*(shared.let_go() for _ in range(5)))
    assert (shared.opened, shared.shut) == (1, 1)
    async with shared:
        assert shared.opened == 2


async def test_a_cancelled_holder_lets_go(tmp_path: Path) -> None:
    """Whoever is cancelled while it opens leaves nothing open, and no lock taken."""

    class Locked(Shared):
        lock = FileLock(str(tmp_path / "lock"), "it")

        async def _open(self) -> None:
            await asyncio.to_thread(self.lock.acquire)

        async def _shut(self) -> None:
            self.lock.release()

    shared = Locked()
    for delay in range(5):
        holder = asyncio.create_task(shared.hold())
        for _ in range(delay):
            await asyncio.sleep(0)
        holder.cancel()
        with suppress(asyncio.CancelledError):
            await holder
            await shared.let_go()
        async with shared:
            pass


async def test_a_cancelled_holder_of_what_fails() -> None:
    """It is cancelled, and nothing is open."""
    shared = Counted()
    shared.trouble.append(OSError("no"))
    holder = asyncio.create_task(shared.hold())
    await asyncio.sleep(0)
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert (shared.opened, shared.shut) == (0, 0)


async def test_opening_fails() -> None:
    """Then nobody holds it, and the next one tries again."""
    shared = Counted()
    shared.trouble.append(OSError("no"))
    with pytest.raises(OSError, match="no"):
        await shared.hold()
    async with shared:
        assert shared.opened == 1
    assert shared.shut == 1


def test_the_lock_keeps_a_second_out(tmp_path: Path) -> None:
    """In the same process and in another; the error names the process."""
    path = str(tmp_path / "lock")
    first, second = FileLock(path, "the folder"), FileLock(path, "the folder")
    first.acquire()
    with pytest.raises(LoadError, match=r"the folder is in use by another server \(process \d+\)"):
        second.acquire()
    script = f"from mergesync.persist.shared import FileLock; FileLock({path!r}, 'it').acquire()"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "in use by another server" in other.stderr
    first.release()
    first.release()
    second.acquire()
    second.release()
