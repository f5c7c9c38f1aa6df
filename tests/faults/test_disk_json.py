"""JSON files and bad disks: nothing that was stored is written over, nothing that was flushed is lost."""
# ruff: noqa: ASYNC220, ASYNC240 - the tests do to files what the world does, at once

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergesync.exceptions import LoadError, SaveError
from mergesync.persist import JsonFilePersister, core, json_file_persisters
from mergesync.persist.files import FILES, FileSystem, Signature
from mergesync.store import MergeableStore

from .disks import ROOT, SmallDisk, killed_child, small_store

FLIPS = int(os.environ.get("MERGESYNC_FLIPS", "1000"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SAVE_RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(core, "SAVE_RETRY_CAP_SECONDS", 0.01)
    monkeypatch.setattr(JsonFilePersister, "debounce_seconds", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a small store in it."""
    found = tmp_path / "s.json"
    found.write_text(json.dumps(small_store().get_mergeable_content(), ensure_ascii=False), encoding="utf-8")
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 300 kB."""
    disk = SmallDisk(tmp_path)
    yield disk
    disk.unmount()


async def visit(path: Path, files: FileSystem = FILES) -> bool:
    """A server opens the path, a client writes, the last client leaves; whether it could be opened."""
    persister = JsonFilePersister(MergeableStore(), path, on_ignored_error=lambda _: None, files=files)
    try:
        await persister.start_auto_persisting()
    except LoadError:
        persister.store.set_value("written", 1)
        await persister.destroy()
        return False
    await persister.destroy()
    return True


async def test_truncated_at_every_byte(path: Path) -> None:
    """A torn file is refused, stays as it is, and has a copy (pains M3)."""
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert not await visit(path), size
        assert path.read_bytes() == whole[:size]
    print(f"{len(whole)} cuts: all refused")
    copies = [copy.read_bytes() for copy in path.parent.glob("s.json.unreadable-*")]
    assert copies
    assert all(whole.startswith(copy) for copy in copies)


async def test_flipped_bits(path: Path) -> None:
    """A flipped bit never leads to a crash, and never to a write.

    A flip that leaves valid content - another letter in a string, another digit in a hash - cannot be told from an
    edit, and is loaded; the others are refused. Both are counted.
    """
    whole = path.read_bytes()
    source = random.Random(7)
    outcomes = {True: 0, False: 0}
    for _ in range(FLIPS):
        bit = source.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        opened = await visit(path)
        outcomes[opened] += 1
        assert opened or path.read_bytes() == flipped
    assert sum(outcomes.values()) == FLIPS
    assert outcomes[False] > FLIPS // 4
    print(f"{FLIPS} flips: {outcomes[False]} refused, {outcomes[True]} still valid content")


class Failing(FileSystem):
    """The n-th operation fails, once or from then on."""

    def __init__(self, fails_at: int, for_ever: bool) -> None:
        self.count = 0
        self._fails_at = fails_at
        self._for_ever = for_ever

    def _step(self) -> None:
        self.count += 1
        if self.count == self._fails_at or (self._for_ever and self.count > self._fails_at):
            raise OSError(5, f"operation {self.count} failed")

    def read(self, path: str) -> tuple[bytes, Signature]:
        self._step()
        return super().read(path)

    def signature(self, path: str) -> Signature | None:
        self._step()
        return super().signature(path)

    def mode(self, path: str) -> int | None:
        self._step()
        return super().mode(path)

    def create(self, path: str, mode: int | None) -> int:
        self._step()
        return super().create(path, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._step()
        return super().write(descriptor, data[: len(data) // 2 + 1])

    def sync(self, descriptor: int) -> Signature:
        self._step()
        return super().sync(descriptor)

    def rename(self, path: str, target: str) -> None:
        self._step()
        super().rename(path, target)

    def remove(self, path: str) -> None:
        self._step()
        super().remove(path)

    def names(self, folder: str) -> list[str]:
        self._step()
        return super().names(folder)

    def sync_folder(self, folder: str) -> None:
        self._step()
        super().sync_folder(folder)


async def use(path: Path, files: FileSystem) -> str:
    """Load, write, flush, write, destroy; how far it came."""
    persister = JsonFilePersister(MergeableStore(), path, on_ignored_error=lambda _: None, files=files)
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
        await persister.destroy() if reached != "flushed" else None
    return reached


def written(path: Path) -> int:
    """What the file says of the value that `use` writes; the rest must be there."""
    tables, values = json.loads(path.read_bytes())
    assert set(tables[0]["pets"][0]) == {"fido", "felix"}
    return int(values[0]["written"][0]) if "written" in values[0] else 0


AT_LEAST = {"nothing": 0, "loaded": 0, "flushed": 1, "destroyed": 2}


@pytest.mark.parametrize("for_ever", [False, True])
async def test_every_operation_fails(path: Path, for_ever: bool) -> None:
    """The n-th operation, for each n, alone or with all that follow: nothing flushed is missing, nothing is torn."""
    whole = path.read_bytes()
    reached, n = "", 0
    while True:
        n += 1
        path.write_bytes(whole)
        files = Failing(n, for_ever)
        reached = await use(path, files)
        assert AT_LEAST[reached] <= written(path), (n, reached)
        if not for_ever:
            assert reached in ("nothing", "destroyed"), f"operation {n}: a save that failed once was not tried again"
        assert await use(path, FILES) == "destroyed"
        assert written(path) == 2
        if files.count < n:
            break
    assert n > 20
    print(f"{n} failing operations: nothing flushed is missing")
    assert sorted(os.listdir(path.parent)) == ["s.json"]


@pytest.mark.parametrize("seed", range(4))
def test_kill_9(tmp_path: Path, seed: int) -> None:
    """What was flushed before the process was killed is in the file, and the file is whole."""
    killed_child("json", tmp_path, seed, _acknowledged_is_stored)


def _acknowledged_is_stored(folder: Path, acknowledged: int) -> None:
    file = folder / "p.json"
    stored = json.loads(file.read_bytes())[1][0]["number"][0] if file.exists() else 0
    assert stored >= acknowledged


class TestFullDisk:
    async def test_nothing_is_lost(self, small_disk: SmallDisk) -> None:
        """Saving fails and says so, the file stays whole, and all is stored once there is room again."""
        path = small_disk.folder / "s.json"
        persister = JsonFilePersister(small_store(), path, on_ignored_error=lambda _: None)
        await persister.start_auto_persisting()
        before = path.read_bytes()
        small_disk.fill()
        persister.store.set_value("large", "x" * 100_000)
        with pytest.raises(SaveError, match="No space left"):
            await persister.flush()
        assert path.read_bytes() == before
        assert sorted(os.listdir(small_disk.folder)) == ["filling", "s.json"]
        small_disk.free()
        await persister.flush()
        assert json.loads(path.read_bytes()) == persister.store.get_mergeable_content()
        await persister.destroy()

    async def test_an_unreadable_file_that_cannot_be_copied(self, small_disk: SmallDisk) -> None:
        """It is refused all the same, and left as it is."""
        path = small_disk.folder / "s.json"
        path.write_text("[" * 50_000)
        small_disk.fill()
        with pytest.raises(LoadError, match="no copy of it could be made"):
            await JsonFilePersister(MergeableStore(), path).load()
        assert path.stat().st_size == 50_000


async def test_read_only_folder(small_disk: SmallDisk) -> None:
    """It can be read; what is written stays in memory until it can be stored."""
    path = small_disk.folder / "s.json"
    path.write_text(json.dumps(small_store().get_mergeable_content()))
    small_disk.make_read_only(True)
    persister = JsonFilePersister(MergeableStore(), path, on_ignored_error=lambda _: None)
    await persister.start_auto_persisting()
    persister.store.set_value("v", 1)
    with pytest.raises(SaveError, match="Read-only"):
        await persister.flush()
    with pytest.raises(LoadError, match="Read-only"):
        await json_file_persisters(small_disk.folder)("s").load()
    reading = json_file_persisters(small_disk.folder, lock=False)("s")
    await reading.load()
    assert reading.store.has_table("pets")
    await reading.destroy()
    small_disk.make_read_only(False)
    await persister.destroy()
    assert json.loads(path.read_bytes())[1][0]["v"][0] == 1


OTHER_PROCESS = """
import asyncio, sys
from mergesync.persist import JsonFilePersister
from mergesync.store import MergeableStore

async def main():
    persister = JsonFilePersister(MergeableStore("other"), sys.argv[1], on_ignored_error=lambda _: None)
    await persister.start_auto_persisting()
    for number in range(20):
        persister.store.set_value(f"other{number}", number)
        await asyncio.sleep(0.01)
    while len(persister.store.get_values()) < 40:
        await asyncio.sleep(0.01)
    await persister.destroy()

asyncio.run(main())
"""


async def test_two_processes_on_one_file(tmp_path: Path) -> None:
    """Without a lock, each ends with what either wrote, and so does the file."""
    path = tmp_path / "s.json"
    other = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, str(path)], cwd=ROOT)
    persister = JsonFilePersister(MergeableStore("this"), path, on_ignored_error=lambda _: None)
    await persister.start_auto_persisting()
    for number in range(20):
        persister.store.set_value(f"this{number}", number)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while len(persister.store.get_values()) < 40 or other.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await persister.destroy()
    assert other.returncode == 0
    assert len(json.loads(path.read_bytes())[1][0]) == 40
