"""What is stored is removed, with all that is kept beside it, and nothing else is touched."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from mergesync.exceptions import SaveError
from mergesync.persist import JsonFilePersister, SqlitePersister, json_file_persisters, sqlite_persisters
from mergesync.persist.files import FileSystem
from mergesync.store import MergeableStore

PATH_IDS = ["petShop", "petshop.json", "pet", "", "é" * 400, "\ud800", "a.json.unsaved"]


@pytest.fixture(params=["json", "sqlite"])
def persisters(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Both kinds."""
    return json_file_persisters(tmp_path / "data") if request.param == "json" else sqlite_persisters(tmp_path / "x.db")


async def fill(persisters: Any, path_id: str) -> Any:
    """A persister that has saved something of each sort."""
    persister = persisters(path_id)
    await persister.start_auto_persisting()
    persister.store.set_cell("pets", "fido", "species", path_id.replace("\ud800", "?"))
    persister.store.set_cell("pets", "felix", "species", "cat").del_row("pets", "felix")
    persister.store.set_value("open", True)
    await persister.flush()
    return persister


@pytest.mark.parametrize("loaded", [True, False])
async def test_remove(persisters: Any, loaded: bool) -> None:
    """In use or not, and unsaved changes go too; it can be stored anew after that."""
    async with persisters:
        for path_id in PATH_IDS:
            await (await fill(persisters, path_id)).destroy()
        for path_id in PATH_IDS[:4]:
            persister = persisters(path_id)
            if loaded:
                await persister.start_auto_persisting()
                persister.store.set_value("unsaved", 1)
            await asyncio.gather(persister.remove(), persister.remove())
            await persister.destroy()
            persister.store.set_value("late", 1)
            await asyncio.sleep(0)
        assert await persisters.get_path_ids() == sorted(PATH_IDS[4:])
        for path_id in PATH_IDS[:4]:
            persister = persisters(path_id)
            await persister.load()
            assert persister.store.get_content() == ({}, {})
            await persister.destroy()
        await (await fill(persisters, "petShop")).destroy()
        for path_id in PATH_IDS:
            await persisters(path_id).remove()
        assert await persisters.get_path_ids() == []


async def test_what_is_not_there(persisters: Any) -> None:
    """Is removed as well."""
    await persisters("nobody").remove()
    assert await persisters.get_path_ids() == []


async def test_json_files_beside(tmp_path: Path) -> None:
    """What could not be read or saved, and the note of a long path id, go with the file; those of others stay."""
    long = "é" * 400
    async with json_file_persisters(tmp_path) as persisters:
        await (await fill(persisters, long)).destroy()
        await (await fill(persisters, "b")).destroy()
        (cut,) = [name for name in os.listdir(tmp_path) if name.endswith(".path-id")]
        cut = cut.removesuffix(".path-id")
        beside = [".unsaved", ".unreadable-0123456789ab", ".0123456789abcdef.mergesync-tmp"]
        for suffix in [*beside, ".unsaved.0123456789abcdef.mergesync-tmp", ".backup"]:
            (tmp_path / (cut + suffix)).write_text("x")
        persister = persisters(long)
        await persister.remove()
        left = set(os.listdir(tmp_path)) - {".mergesync.lock"}
        assert left == {"b.json", cut + ".backup"}


async def test_a_file_without_a_folder(tmp_path: Path) -> None:
    """There is nothing to remove."""
    await JsonFilePersister(MergeableStore(), tmp_path / "nowhere" / "s.json").remove()
    assert os.listdir(tmp_path) == []


async def test_what_cannot_be_removed(tmp_path: Path) -> None:
    """Is told, and all is let go of nevertheless."""

    class Stuck(FileSystem):
        def remove(self, path: str) -> None:
            raise PermissionError("no")

    persister = JsonFilePersister(MergeableStore(), tmp_path / "s.json", files=Stuck())
    await persister.start_auto_persisting()
    persister.store.set_value("v", 1)
    await persister.flush()
    for _ in range(2):
        with pytest.raises(SaveError, match="could not be removed"):
            await persister.remove()


async def test_sqlite_leaves_no_row(tmp_path: Path) -> None:
    """Nothing of the path is in any table, marks of plain SQL included; the rows of others are as they were."""
    async with sqlite_persisters(tmp_path / "x.db") as persisters:
        await (await fill(persisters, "a")).destroy()
        kept = await fill(persisters, "b")

        async def rows(path: str) -> list[int]:
            async with persisters._reading() as connection:
                tables = ("paths", "cells", "values", "containers")
                sql = "SELECT count(*) FROM mergesync_{} WHERE path = ?"
                found = [await connection.execute_fetchall(sql.format(table), (path,)) for table in tables]
            return [int(next(iter(each))[0]) for each in found]

        before = await rows("b")
        assert sum(await rows("a")) > 3
        await persisters("a").remove()
        assert await rows("a") == [0, 0, 0, 0]
        assert await rows("b") == before
        await kept.destroy()


async def test_another_process_that_uses_the_path(tmp_path: Path) -> None:
    """Keeps what it has in its store, and goes on saving changes of it."""
    one, other = [SqlitePersister(MergeableStore(), tmp_path / "x.db", "p") for _ in range(2)]
    await one.start_auto_persisting()
    one.store.set_value("v", 1)
    await one.flush()
    await other.start_auto_persisting()
    await other.remove()
    one.store.set_value("w", 2)
    await one.destroy()
    third = SqlitePersister(MergeableStore(), tmp_path / "x.db", "p")
    await third.load()
    assert third.store.get_values() == {"w": 2}
    await third.destroy()
