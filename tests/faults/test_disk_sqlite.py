"""SQLite and bad disks: nothing that was stored is written over, nothing that was flushed is lost."""
# ruff: noqa: ASYNC220, ASYNC240 - the tests do to files what the world does, at once

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from mergesync.exceptions import LoadError, SaveError
from mergesync.persist import SqliteDatabase, SqlitePersister, core, sqlite, sqlite_persisters
from mergesync.store import MergeableStore

from .disks import ROOT, SmallDisk, killed_child, small_store

FLIPS = int(os.environ.get("MERGESYNC_FLIPS", "1000"))
CUTS = int(os.environ.get("MERGESYNC_CUTS", "200"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SAVE_RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(core, "SAVE_RETRY_CAP_SECONDS", 0.01)
    monkeypatch.setattr(sqlite, "SQLITE_COMMIT_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 300 kB."""
    disk = SmallDisk(tmp_path)
    yield disk
    disk.unmount()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with a small store in it."""
    found = tmp_path / "s.db"
    persister = SqlitePersister(small_store(), found)
    await persister.start_auto_persisting()
    await persister.destroy()
    return found


async def visit(path: Path) -> str:
    """A server opens the path, a client writes, the last client leaves; what came of it."""
    before = path.read_bytes()
    persister = SqlitePersister(MergeableStore(), path, on_ignored_error=lambda _: None)
    try:
        await persister.start_auto_persisting()
    except LoadError:
        persister.store.set_value("written", 1)
        await persister.destroy()
        assert path.read_bytes() == before
        return "refused"
    content = persister.store.get_content()
    await persister.destroy()
    return "same" if content == small_store().get_content() else "other"


async def test_truncated(path: Path) -> None:
    """A torn database is refused and stays as it is, wherever it is torn; one of no bytes at all counts as new."""
    whole = path.read_bytes()
    sizes = {
        1,
        99,
        100,
        511,
        512,
        4095,
        4096,
        4097,
        len(whole) - 1,
        *(random.Random(3).sample(range(1, len(whole)), min(CUTS, len(whole) - 1))),
    }
    for size in sorted(sizes):
        path.write_bytes(whole[:size])
        assert await visit(path) == "refused", size
    print(f"{len(sizes)} cuts: all refused")
    path.write_bytes(b"")
    assert await visit(path) == "other"


async def test_flipped_bits(path: Path) -> None:
    """A flipped bit never leads to a crash, and a database that is refused is not written to.

    SQLite keeps no checksums: a flip in free space shows nothing, and one inside a value is another value. All three
    outcomes are counted.
    """
    whole = path.read_bytes()
    source = random.Random(7)
    outcomes = {"refused": 0, "same": 0, "other": 0}
    for _ in range(FLIPS):
        # Most of a small database is free space; half of the flips go where the data is.
        byte = source.choice([byte for byte in (source.randrange(len(whole)) for _ in range(50)) if whole[byte]] or [0])
        flipped = bytearray(whole)
        flipped[byte] ^= 1 << source.randrange(8)
        path.write_bytes(flipped)
        outcomes[await visit(path)] += 1
    assert sum(outcomes.values()) == FLIPS
    assert outcomes["refused"] > 0
    print(f"{FLIPS} flips: {outcomes}")


class Failing:
    """Opens connections of which the n-th operation fails: before it is done, or after, or it and all that follow."""

    def __init__(self, fails_at: int, how: str) -> None:
        self.count = 0
        self._fails_at = fails_at
        self._how = how

    def __call__(self, file: str, **options: Any) -> aiosqlite.Connection:
        connection: Any = aiosqlite.connect(file, **options)
        really_execute = connection._execute

        async def execute(function: Any, *arguments: Any, **keywords: Any) -> Any:
            if function == connection._conn.close:
                return await really_execute(function, *arguments, **keywords)
            self.count += 1
            fails = self.count == self._fails_at or (self._how == "for ever" and self.count > self._fails_at)
            if fails and self._how != "after":
                raise sqlite3.OperationalError(f"disk I/O error (operation {self.count})")
            result = await really_execute(function, *arguments, **keywords)
            if fails:
                raise sqlite3.OperationalError(f"disk I/O error (after operation {self.count})")
            return result

        connection._execute = execute
        opened: aiosqlite.Connection = connection
        return opened


async def use(path: Path, connect: Any) -> str:
    """Load, write, flush, write, destroy; how far it came."""
    database = SqliteDatabase(path, connect=connect)
    persister = SqlitePersister(MergeableStore(), database, on_ignored_error=lambda _: None)
    reached = "nothing"
    try:
        await persister.start_auto_persisting()
        reached = "loaded"
        persister.store.set_value("written", 1)
        await persister.flush()
        reached = "flushed"
        persister.store.set_value("written", 2)
        await persister.destroy()
        reached = "destroyed"
    except (LoadError, SaveError):
        persister.stop_auto_save()
        if reached != "flushed":
            await persister.destroy()
    return reached


async def written(path: Path) -> int:
    """What the database says of the value that `use` writes; the rest must be there."""
    persister = SqlitePersister(MergeableStore(), path)
    await persister.load()
    await persister.destroy()
    assert persister.store.get_tables() == small_store().get_tables()
    return int(persister.store.get_value("written", 0))  # type: ignore[arg-type]


AT_LEAST = {"nothing": 0, "loaded": 0, "flushed": 1, "destroyed": 2}


@pytest.mark.parametrize("how", ["before", "after", "for ever"])
async def test_every_operation_fails(path: Path, how: str) -> None:
    """The n-th operation, for each n: nothing flushed is missing, and a save that failed once is tried again."""
    whole = path.read_bytes()
    n = 0
    while True:
        n += 1
        path.write_bytes(whole)
        connect = Failing(n, how)
        reached = await use(path, connect)
        assert AT_LEAST[reached] <= await written(path), (n, reached)
        if how != "for ever":
            assert reached in ("nothing", "destroyed"), (n, reached)
        assert await use(path, aiosqlite.connect) == "destroyed"
        assert await written(path) == 2
        if connect.count < n:
            break
    assert n > 20
    print(f"{n} failing operations: nothing flushed is missing")


@pytest.mark.parametrize("seed", range(4))
def test_kill_9(tmp_path: Path, seed: int) -> None:
    """What was flushed before the process was killed is in the database, and the database is whole."""
    killed_child("sqlite", tmp_path, seed, _acknowledged_is_stored)


def _acknowledged_is_stored(folder: Path, acknowledged: int) -> None:
    with closing(sqlite3.connect(folder / "p.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [(stored,)] = connection.execute("SELECT value FROM mergesync_values WHERE value_id = 'number'")
    assert stored >= acknowledged


async def test_full_disk(small_disk: SmallDisk) -> None:
    """Saving fails and says so, what is stored stays, and all is stored once there is room again."""
    path = small_disk.folder / "s.db"
    persister = SqlitePersister(small_store(), path, on_ignored_error=lambda _: None)
    await persister.start_auto_persisting()
    small_disk.fill()
    persister.store.set_value("large", "x" * 100_000)
    with pytest.raises(SaveError, match="full"):
        await persister.flush()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM mergesync_cells").fetchall() == [(4,)]
    small_disk.free()
    await persister.flush()
    await persister.destroy()
    reader = SqlitePersister(MergeableStore(), path)
    await reader.load()
    assert reader.store.get_mergeable_content() == persister.store.get_mergeable_content()
    await reader.destroy()


async def test_read_only_folder(small_disk: SmallDisk) -> None:
    """It is refused with a clear error, and opens once it can be written."""
    path = small_disk.folder / "s.db"
    writer = SqlitePersister(small_store(), path)
    await writer.start_auto_persisting()
    await writer.destroy()
    small_disk.make_read_only(True)
    persister = SqlitePersister(MergeableStore(), path)
    with pytest.raises(LoadError, match=r"unable to open|readonly"):
        await persister.load()
    with pytest.raises(LoadError, match="Read-only"):
        await sqlite_persisters(path)("p").load()
    small_disk.make_read_only(False)
    await persister.load()
    assert persister.store.has_table("pets")
    await persister.destroy()


HOLDER = """
import asyncio, sys
from mergesync.persist import sqlite_persisters

async def main():
    async with sqlite_persisters(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """As long as the first process lives, and at once when it has died."""
    file = tmp_path / "s.db"
    command = [sys.executable, "-c", HOLDER, str(file)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    persister = sqlite_persisters(file)("p")
    with pytest.raises(LoadError, match=f"in use by another server .process {first.pid}."):
        await persister.load()
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    await persister.load()
    await persister.destroy()
