# ruff: noqa: ASYNC240 - the tests touch files as others would, at once
"""The JSON file: the peer's own file, and what happens when others touch it."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from mergesync.exceptions import LoadError
from mergesync.persist import JsonFilePersister, PersisterStatus, core, json_file, poller
from mergesync.persist.files import FILES, FileSystem, Signature
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps

from .kit import new_store, pet_store, until

EMPTY = '[[{},"",0],[{},"",0]]'
CONTENT = (
    '[[{"t":[{"r":[{"c":["x","Nn1JUF----1AAAAA",11]},"",12]},"",13]},"",14],[{"v":[1,"Nn1JUF----2AAAAA",15]},"",16]]'
)
PLAIN_SAVED = (
    '[[{"t":[{"r":[{"c":[1,"Nn1JUF-----Y21TO",2315330740]},"",2630068630]},"",1753052257]},"",2279235184],'
    '[{"v":[2,"Nn1JUF----0Y21TO",2311354894]},"",3608280034]]'
)
MERGED_SAVED = (
    '[[{},"",0],[{"old":[1,"Nn1JUF-----Y21TO",2315330740],"v":[1,"Nn1JUF----2AAAAA",2059014323]},"",569938233]]'
)
REFUSED = None

# (text of the file, values in the store before, text that TinyBase saves after loading it): `fileLoads` of the vectors.
# Where TinyBase ignores a bad file and overwrites it, we refuse it: departures from surprises 3 and 12.
LOADS: dict[str, tuple[str | None, dict[str, Any], str | None]] = {
    "no file": (None, {}, EMPTY),
    "empty file": ("", {}, REFUSED),
    "empty file with content in memory": ("", {"v": 1}, REFUSED),
    "broken JSON": ("[[{", {}, REFUSED),
    "null": ("null", {}, REFUSED),
    "object": ("{}", {}, REFUSED),
    "mergeable content": (CONTENT, {}, CONTENT),
    "mergeable content replaces what is in memory": (
        '[[{},"",0],[{"v":[1,"Nn1JUF----2AAAAA",15]},"",16]]',
        {"old": 1},
        '[[{},"",0],[{"v":[1,"Nn1JUF----2AAAAA",15]},"",16]]',
    ),
    "tombstone": (
        '[[{},"",0],[{"v":["\ufffc","Nn1JUF----2AAAAA",15]},"",16]]',
        {},
        '[[{},"",0],[{"v":["\ufffc","Nn1JUF----2AAAAA",15]},"",16]]',
    ),
    "object cell": (
        '[[{},"",0],[{"v":["\ufffd{\\"a\\":1}","Nn1JUF----2AAAAA",15]},"",16]]',
        {},
        '[[{},"",0],[{"v":["\ufffd{\\"a\\":1}","Nn1JUF----2AAAAA",15]},"",16]]',
    ),
    "a plain Store file: loaded as local writes": ('[{"t":{"r":{"c":1}}},{"v":2}]', {}, PLAIN_SAVED),
    "no hashes": ('[[{}],[{"v":[1,"Nn1JUF----2AAAAA"]}]]', {}, REFUSED),
    "changes: merged": ('[[{}],[{"v":[1,"Nn1JUF----2AAAAA"]}],1]', {"old": 1}, MERGED_SAVED),
    "future HLC": ('[[{},"",0],[{"v":[1,"zzzzzzzzzzzzzzzz",15]},"",16]]', {}, REFUSED),
    "byte order mark": ("\ufeff" + EMPTY, {}, REFUSED),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SAVE_RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(poller, "FILE_POLL_SECONDS", 0.01)
    monkeypatch.setattr(JsonFilePersister, "debounce_seconds", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is, or will be."""
    return tmp_path / "s.json"


class Errors(list[Exception]):
    """What was reported."""


def persister_on(path: Path, store: MergeableStore | None = None, files: FileSystem = FILES) -> JsonFilePersister:
    """A persister whose errors are kept; see `errors_of`."""
    return JsonFilePersister(store or new_store(), path, on_ignored_error=Errors().append, files=files)


def errors_of(persister: JsonFilePersister) -> Errors:
    """What a persister reported."""
    return persister.on_ignored_error.__self__  # type: ignore[attr-defined,no-any-return]


def stored(path: Path) -> Any:
    """What the file says."""
    return json.loads(path.read_bytes())


@pytest.mark.parametrize("about", LOADS)
async def test_loads_as_the_peer_does(about: str, path: Path) -> None:
    """All recorded loads; what the peer would overwrite is refused, and the file stays byte for byte."""
    text, start, saved = LOADS[about]
    if text is not None:
        path.write_text(text, encoding="utf-8")
    persister = persister_on(path, new_store("f").set_values(start) if start else new_store("f"))
    if saved is REFUSED:
        with pytest.raises(LoadError):
            await persister.start_auto_persisting()
        await persister.destroy()
        assert path.read_text(encoding="utf-8") == text
        [copy] = path.parent.glob("s.json.unreadable-*")
        assert copy.read_text(encoding="utf-8") == text
    else:
        await persister.start_auto_persisting()
        await persister.save()
        await persister.destroy()
        assert path.read_text(encoding="utf-8") == saved


async def test_an_empty_store_makes_no_file(path: Path) -> None:
    """Strangers who only look leave nothing on the disk (pains M13)."""
    persister = persister_on(path)
    await persister.start_auto_persisting()
    await persister.destroy()
    assert not path.exists()


async def test_round_trip(path: Path) -> None:
    """What is saved is loaded, stamps and hashes included."""
    writer = persister_on(path, pet_store())
    await writer.start_auto_persisting()
    writer.store.set_value("odd \ud800", "\ud800")
    await writer.destroy()
    reader = persister_on(path, new_store("s2"))
    await reader.load()
    assert reader.store.get_mergeable_content() == writer.store.get_mergeable_content()
    assert path.read_bytes() == dumps(writer.store.get_mergeable_content()).encode()


@pytest.mark.parametrize("at_once", [0, 10**6])
async def test_numbers_in_raw_arrays(path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer sent as an array, with any numbers in it, is stored so that it can be read; found by Hypothesis."""
    monkeypatch.setattr(json_file, "_AT_ONCE_BYTES", at_once)
    persister = JsonFilePersister(new_store(), path)
    await persister.start_auto_persisting()
    numbers = [2.0**53 + 2, 1e21, 0.5]
    persister.store.apply_mergeable_changes([[{}], [{"v": [numbers, "Nn1JUF----2AAAAA"]}], 1])
    await persister.destroy()
    reader = JsonFilePersister(new_store(), path)
    await reader.load()
    assert reader.store.get_mergeable_content() == persister.store.get_mergeable_content()
    await reader.destroy()


@pytest.mark.parametrize("about", LOADS)
async def test_a_large_file_is_read_in_turns(about: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to the same as what is read by one call."""
    monkeypatch.setattr(json_file, "_AT_ONCE_BYTES", 0)
    await test_loads_as_the_peer_does(about, path)


async def test_own_writes_are_recognised(path: Path) -> None:
    """Auto-load does not read what this persister wrote."""
    persister = persister_on(path)
    await persister.start_auto_persisting()
    persister.store.set_value("v", 1)
    await persister.flush()
    reads = 0
    real = persister._files

    class Watched(FileSystem):
        def read(self, path: str) -> tuple[bytes, Signature]:
            nonlocal reads
            reads += 1
            return real.read(path)

    persister._files = Watched()
    await asyncio.sleep(0.1)
    assert reads == 0
    await persister.destroy()


async def test_an_edit_by_another_replica_is_merged(path: Path) -> None:
    """Nothing that is missing in the file is deleted (departure from surprise 13)."""
    persister = persister_on(path)
    await persister.start_auto_persisting()
    persister.store.set_value("mine", 1)
    await persister.flush()
    path.write_text(dumps(new_store("s2").set_value("theirs", 2).get_mergeable_content()))
    await until(lambda: persister.store.has_value("theirs"))
    await persister.flush()
    assert persister.store.get_values() == {"mine": 1, "theirs": 2}
    assert set(stored(path)[1][0]) == {"mine", "theirs"}
    await persister.destroy()


async def test_a_value_edited_by_hand_is_a_local_write(path: Path) -> None:
    """A leaf that differs under the same stamp, be it a cell or a value, set or deleted, gets a fresh stamp."""
    persister = persister_on(path, pet_store())
    await persister.start_auto_persisting()
    before = stored(path)
    text = path.read_text(encoding="utf-8")
    for old, new in (
        ('"dog"', '"wolf"'),
        ("[true,", '["\ufffc",'),
        ("shöp", "shop"),
        ('"\ufffd{\\"a\\":1}"', '"\ufffc"'),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    await until(lambda: persister.store.get_cell("pets", "fido", "species") == "wolf")
    assert persister.store.get_value("name") == "shop😀"
    assert not persister.store.has_cell("pets", "fido", "good")
    assert not persister.store.has_value("open")
    assert not persister.store.has_value("o")
    await persister.flush()
    after = stored(path)
    assert after[0][0]["pets"][0]["fido"][0]["species"][1] > before[0][0]["pets"][0]["fido"][0]["species"][1]
    assert after[0][0]["pets"][0]["fido"][0]["age"] == before[0][0]["pets"][0]["fido"][0]["age"]
    await persister.destroy()


async def test_a_row_removed_by_hand_is_written_again(path: Path) -> None:
    """Missing is not deleted; and the file holds again all that the store holds."""
    persister = persister_on(path, pet_store())
    await persister.start_auto_persisting()
    content = stored(path)
    del content[0][0]["pets"][0]["fido"]
    path.write_text(json.dumps(content))
    await until(lambda: "fido" in stored(path)[0][0]["pets"][0])
    assert persister.store.has_row("pets", "fido")
    await persister.destroy()


async def test_plain_content_written_by_hand(path: Path) -> None:
    """Tables and values without stamps become local writes, and what they lack is deleted, as in TinyBase."""
    persister = persister_on(path, new_store().set_values({"a": 1, "b": 2}))
    await persister.start_auto_persisting()
    path.write_text('[{"t":{"r":{"c":1}}},{"a":3}]')
    await until(lambda: persister.store.get_content() == ({"t": {"r": {"c": 1}}}, {"a": 3}))
    await persister.flush()
    assert stored(path)[1][0]["b"][0] == "\ufffc"
    await persister.destroy()


async def test_an_edit_just_before_a_save_is_merged(path: Path) -> None:
    """Even if auto-load did not have the time to see it, or is off."""
    persister = persister_on(path)
    await persister.load()
    path.write_text(dumps(new_store("s2").set_value("theirs", 2).get_mergeable_content()))
    persister.store.set_value("mine", 1)
    await persister.flush()
    assert set(stored(path)[1][0]) == {"mine", "theirs"}


async def test_an_edit_at_the_last_moment_is_merged(path: Path) -> None:
    """A file that changes while its replacement is written is not replaced; the next attempt merges it."""

    class Racing(FileSystem):
        raced = False

        def sync(self, descriptor: int) -> Signature:
            if not self.raced:
                self.raced = True
                path.write_text(dumps(new_store("s2").set_value("theirs", 2).get_mergeable_content()))
            return super().sync(descriptor)

    persister = persister_on(path, files=Racing())
    await persister.load()
    persister.store.set_value("mine", 1)
    await persister.flush()
    assert set(stored(path)[1][0]) == {"mine", "theirs"}
    assert ["somebody else has changed" in str(error) for error in errors_of(persister)] == [True]


async def test_two_persisters_on_one_file(path: Path) -> None:
    """Both end with what either wrote, and then the file is left in peace."""
    one, two = persister_on(path, new_store("s1")), persister_on(path, new_store("s2"))
    await one.start_auto_persisting()
    await two.start_auto_persisting()
    for number in range(20):
        one.store.set_value(f"one{number}", number)
        two.store.set_value(f"two{number}", number)
        await asyncio.sleep(0.003)
    await until(lambda: one.store.get_mergeable_content() == two.store.get_mergeable_content())
    await until(lambda: stored(path) == one.store.get_mergeable_content())
    saves = one.stats.saves + two.stats.saves
    await asyncio.sleep(0.1)
    assert one.stats.saves + two.stats.saves == saves
    assert len(one.store.get_values()) == 40
    await asyncio.gather(one.destroy(), two.destroy())


async def test_a_removed_file_is_written_again(path: Path) -> None:
    """What the store holds stays durable."""
    persister = persister_on(path, pet_store())
    await persister.start_auto_persisting()
    path.unlink()
    await until(path.exists)
    assert stored(path) == persister.store.get_mergeable_content()
    await persister.destroy()


class TestUnreadableEdit:
    async def test_neither_side_is_lost(self, path: Path) -> None:
        """The edit stays in its place and has a copy; what the store holds goes to the side file until all is well."""
        persister = persister_on(path, new_store().set_value("a", 1))
        await persister.start_auto_persisting()
        path.write_text("[[{")
        await until(lambda: errors_of(persister))
        assert "not content" in str(errors_of(persister)[0])
        persister.store.set_value("b", 2)
        await persister.flush()
        side = path.with_name("s.json.unsaved")
        assert path.read_text() == "[[{"
        assert set(stored(side)[1][0]) == {"a", "b"}
        assert [copy.read_text() for copy in path.parent.glob("*.unreadable-*")] == ["[[{"]
        await asyncio.sleep(0.05)
        assert len(errors_of(persister)) == 1

        path.write_text(dumps(new_store("s2").set_value("theirs", 3).get_mergeable_content()))
        await until(lambda: persister.store.has_value("theirs"))
        await until(lambda: not side.exists())
        assert set(stored(path)[1][0]) == {"a", "b", "theirs"}
        await persister.destroy()

    async def test_a_restart_merges_the_side_file(self, path: Path) -> None:
        """After the file was repaired, or removed, nothing that was ever saved is missing."""
        for repair in (lambda: path.write_text(EMPTY), path.unlink):
            persister = persister_on(path, new_store().set_value("a", 1))
            await persister.start_auto_persisting()
            path.write_text("")
            persister.store.set_value("b", 2)
            await persister.destroy()
            again = persister_on(path, new_store("s2"))
            with pytest.raises(LoadError):
                await again.load()
            repair()
            await again.start_auto_persisting()
            assert again.store.get_values() == {"a": 1, "b": 2}
            await again.destroy()
            assert set(stored(path)[1][0]) == {"a", "b"}
            assert not path.with_name("s.json.unsaved").exists()
            path.unlink()

    async def test_an_unreadable_side_file(self, path: Path) -> None:
        """It fails the load, too: what it holds may be nowhere else."""
        path.with_name("s.json.unsaved").write_text("[")
        persister = persister_on(path)
        with pytest.raises(LoadError, match="not content"):
            await persister.load()
        path.with_name("s.json.unsaved").unlink()
        await persister.load()
        assert persister.status.value == PersisterStatus.IDLE

    async def test_half_a_file_is_not_yet_an_edit(self, path: Path) -> None:
        """A file that is still being written is looked at when it is quiet."""
        persister = persister_on(path)
        await persister.start_auto_persisting()
        text = dumps(pet_store("s2").get_mergeable_content())
        with path.open("w", encoding="utf-8") as file:
            for character in text[:200]:
                file.write(character)
                file.flush()
                await asyncio.sleep(0.0002)
            file.write(text[200:])
        await until(lambda: persister.store.has_row("pets", "fido"))
        await persister.destroy()


async def test_stale_temporaries_are_removed(path: Path) -> None:
    """What a crash in the middle of a save left goes at the next load."""
    path.with_name("s.json.0123456789abcdef.mergesync-tmp").write_text("[[{")
    await persister_on(path).load()
    assert os.listdir(path.parent) == []


async def test_a_file_that_cannot_be_read_now(path: Path) -> None:
    """Passing trouble makes no copy and no save; the next load works."""
    path.write_text(CONTENT)

    class Troubled(FileSystem):
        troubles = 1

        def read(self, path: str) -> tuple[bytes, Signature]:
            if self.troubles and not path.endswith(".unsaved"):
                self.troubles -= 1
                raise PermissionError("not now")
            return super().read(path)

    persister = persister_on(path, files=Troubled())
    with pytest.raises(LoadError, match="not now"):
        await persister.load()
    await persister.load()
    assert persister.store.get_value("v") == 1
    assert os.listdir(path.parent) == ["s.json"]


async def test_looking_fails(path: Path) -> None:
    """Auto-load reports it, waits, and goes on."""

    class Troubled(FileSystem):
        troubled = False

        def signature(self, path: str) -> Signature | None:
            if self.troubled:
                self.troubled = False
                raise PermissionError("not now")
            return super().signature(path)

    files = Troubled()
    persister = persister_on(path, files=files)
    await persister.start_auto_persisting()
    files.troubled = True
    await until(lambda: errors_of(persister))
    path.write_text(CONTENT)
    await until(lambda: persister.store.has_value("v"))
    await persister.destroy()


async def test_nothing_is_left_behind(path: Path) -> None:
    """No task and no open file after a hundred lives."""
    before = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
    source = random.Random(1)
    for _ in range(100):
        persister = persister_on(path)
        await persister.start_auto_persisting()
        if source.random() < 0.3:
            persister.store.set_value("v", source.random())
        await persister.destroy()
    assert (len(os.listdir("/proc/self/fd")), asyncio.all_tasks()) == before
