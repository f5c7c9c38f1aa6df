"""A server whose disk is full: clients go on syncing, it is said, and all is stored once there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mergesync import MergeableStore, SaveError, create_ws_server
from mergesync.cli.storage import Storage
from tests.support import eventually, same_content
from tests.unit.net.kit import synced, url_of

from .disks import SmallDisk

pytestmark = pytest.mark.usefixtures("leftovers")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 300 kB."""
    disk = SmallDisk(tmp_path)
    yield disk
    disk.unmount()


@pytest.mark.parametrize("kind", ["json", "sqlite"])
async def test_full_disk_under_a_server(
    kind: str, small_disk: SmallDisk, errors: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody loses anything, and who comes when it is over finds everything."""
    monkeypatch.setattr("mergesync.persist.core.SAVE_RETRY_CAP_SECONDS", 0.2)
    persisters: Any = Storage(kind, str(small_disk.folder / "data")).persisters(on_ignored_error=errors.append)
    one, two, late = MergeableStore(), MergeableStore(), MergeableStore()
    async with create_ws_server("127.0.0.1", 0, persisters, on_ignored_error=errors.append) as server:
        async with synced(one, url_of(server)), synced(two, url_of(server)):
            one.set_value("before", 1)
            await eventually(lambda: same_content(one, two))
            small_disk.fill()
            one.set_value("large", "x" * 50_000)
            await eventually(lambda: errors)
            two.set_cell("t", "r", "c", "still synced")
            await eventually(lambda: same_content(one, two))
            small_disk.free()
        await eventually(lambda: not server.get_stats().connections)
    assert all(isinstance(error, SaveError) and error.path_id == "p" for error in errors)
    assert "No space left" in str(errors[0]) or "full" in str(errors[0])
    persister = persisters("p")
    await persister.load()
    late.set_mergeable_content(persister.store.get_mergeable_content())
    await persister.destroy()
    assert same_content(one, two, late)
