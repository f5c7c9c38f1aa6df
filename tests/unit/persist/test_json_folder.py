"""A folder of JSON files, one for each path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mergesync.exceptions import LoadError
from mergesync.persist import json_file_persisters
from mergesync.persist.files import FileSystem, Signature
from mergesync.persist.names import file_name

PATH_IDS = ["petShop", "petshop", "team/a", "team-a", "", "..", "../../up", "con", "\0", "é" * 400, "\ud800", "a.json"]


async def test_each_path_has_its_file(tmp_path: Path) -> None:
    """Whatever the id: its own file, in the folder, and what was saved comes back (pains M12)."""
    folder = tmp_path / "deep" / "data"
    persisters = json_file_persisters(folder)
    for number, path_id in enumerate(PATH_IDS):
        persister = persisters(path_id)
        await persister.start_auto_persisting()
        persister.store.set_value("number", number)
        await persister.destroy()
    assert len([name for name in os.listdir(folder) if name.endswith(".json")]) == len(PATH_IDS)
    assert os.listdir(tmp_path) == ["deep"]
    assert os.listdir(tmp_path / "deep") == ["data"]
    assert (folder / "petShop.json").exists()
    for number, path_id in enumerate(PATH_IDS):
        persister = persisters(path_id)
        await persister.load()
        assert persister.store.get_value("number") == number
        assert persister.path_id == path_id
        await persister.destroy()
    assert await persisters.get_path_ids() == sorted(PATH_IDS)


async def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    """A persister that is only made leaves no trace; one that is only loaded leaves no file of its own."""
    persisters = json_file_persisters(tmp_path / "data")
    persisters("p")
    assert not (tmp_path / "data").exists()
    persister = persisters("é" * 400)
    await persister.start_auto_persisting()
    await persister.destroy()
    assert os.listdir(tmp_path / "data") == [".mergesync.lock"]


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """As long as a path is open, or the folder is held; reading beside it is possible."""
    first, second = json_file_persisters(tmp_path), json_file_persisters(tmp_path)
    persister = first("p")
    await persister.start_auto_persisting()
    persister.store.set_value("v", 1)
    await persister.flush()
    refused = second("q")
    with pytest.raises(LoadError, match="in use by another server") as caught:
        await refused.load()
    assert caught.value.path_id == "q"
    with pytest.raises(LoadError, match="in use by another server"):
        await second.hold()
    reading = json_file_persisters(tmp_path, lock=False)
    assert await reading.get_path_ids() == ["p"]
    reader = reading("p")
    await reader.load()
    assert reader.store.get_value("v") == 1
    await reader.destroy()
    await persister.destroy()
    await refused.load()
    await refused.destroy()
    async with second:
        with pytest.raises(LoadError):
            await first.hold()


async def test_stale_temporaries_are_removed(tmp_path: Path) -> None:
    """When the folder is opened, of all files."""
    (tmp_path / "p.json.0123456789abcdef.mergesync-tmp").touch()
    async with json_file_persisters(tmp_path):
        assert os.listdir(tmp_path) == [".mergesync.lock"]


async def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """They are no paths."""
    names = ["notes.txt", "a b.json", "x%~y.json", "x%~y.json.path-id"]
    for name in names[:3]:
        (tmp_path / name).write_text("mine")
    async with json_file_persisters(tmp_path) as persisters:
        assert await persisters.get_path_ids() == []
    assert sorted(os.listdir(tmp_path)) == sorted([".mergesync.lock", *names[:3]])


class CaseFolding(FileSystem):
    """A file system that takes capitals for small letters, as far as the tests go."""

    def signature(self, path: str) -> Signature | None:
        folder, name = os.path.split(path)
        for found in os.listdir(folder):
            if found.lower() == name.lower():
                return super().signature(os.path.join(folder, found))
        return None


async def test_where_capitals_do_not_count(tmp_path: Path) -> None:
    """Ids that differ in capitals only have different files there, too."""
    persisters = json_file_persisters(tmp_path, files=CaseFolding())
    for number, path_id in enumerate(("petShop", "petshop")):
        persister = persisters(path_id)
        await persister.start_auto_persisting()
        persister.store.set_value("number", number)
        await persister.destroy()
    assert json.loads((tmp_path / "pet%53hop.json").read_text())[1][0]["number"][0] == 0
    assert json.loads((tmp_path / "petshop.json").read_text())[1][0]["number"][0] == 1
    assert await persisters.get_path_ids() == ["petShop", "petshop"]


@pytest.mark.parametrize("path_id", ["petShop", "A" * 400])
@pytest.mark.parametrize("folds", [True, False])
async def test_a_folder_from_another_system_is_refused(tmp_path: Path, path_id: str, folds: bool) -> None:
    """Where names would be overlooked because capitals are written otherwise, the right name is told."""
    systems = [CaseFolding(), FileSystem()] if folds else [FileSystem(), CaseFolding()]
    persister = json_file_persisters(tmp_path, files=systems[0])(path_id)
    await persister.start_auto_persisting()
    persister.store.set_value("v", 1)
    await persister.destroy()
    wrong, right = file_name(path_id, fold_case=folds), file_name(path_id, fold_case=not folds)
    with pytest.raises(LoadError) as caught:
        await json_file_persisters(tmp_path, files=systems[1]).hold()
    assert f"rename {wrong!r} to {right!r}" in str(caught.value)
    async with json_file_persisters(tmp_path, files=systems[0]):
        pass
