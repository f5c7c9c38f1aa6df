"""Stored data that is damaged, under a running server: refused, left as it is, and served again once it is repaired."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mergesync import LoadError, MergeableStore, create_ws_server
from mergesync.cli.storage import Storage
from mergesync.persist import json_file_persisters
from tests.support import eventually
from tests.unit.net.kit import closed_with, diff_frame, raw, synced, url_of

from .disks import small_store

pytestmark = pytest.mark.usefixtures("leftovers")

Damage = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergesync.net.path.RETRY_LOAD_FIRST_SECONDS", 0.05)


def _foreign_database(_: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE bookmarks (url)")
        database.commit()
        return database.serialize()


def _newer_database(whole: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(whole[:18] + b"\1\1" + whole[20:])  # in memory there is no write-ahead log
        database.execute("UPDATE mergesync_meta SET value = value + 1 WHERE key = 'format'")
        database.commit()
        return database.serialize()


def _flipped(at: int) -> Damage:
    return lambda whole: whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


DAMAGES: dict[tuple[str, str], Damage] = {
    ("json", "cut in half"): lambda whole: whole[: len(whole) // 2],
    ("json", "without its last byte"): lambda whole: whole[:-1],
    ("json", "empty"): lambda _: b"",
    ("json", "a flipped bit"): _flipped(0),
    ("json", "other JSON"): lambda _: b'{"name": "mergesync"}',
    ("json", "no JSON"): lambda _: b"\x89PNG\r\n\x1a\n\x00",
    ("json", "content of a later format"): lambda _: b'[[{},"",0,0],[{},"",0,0]]',
    ("sqlite", "cut in half"): lambda whole: whole[: len(whole) // 2],
    ("sqlite", "without its last byte"): lambda whole: whole[:-1],
    ("sqlite", "a flipped bit"): _flipped(0),
    ("sqlite", "a page of zeros"): lambda whole: whole[:4096] + bytes(4096) + whole[8192:],
    ("sqlite", "the database of another program"): _foreign_database,
    ("sqlite", "a newer format"): _newer_database,
    ("sqlite", "no database"): lambda _: b"[[{},{}],[{},{}]]" * 100,
}


def _storage(folder: Path, kind: str) -> Storage:
    return Storage(kind, str(folder / ("data.db" if kind == "sqlite" else "data")))


def _file(folder: Path, kind: str) -> Path:
    return folder / "data.db" if kind == "sqlite" else folder / "data" / "p.json"


@pytest.mark.parametrize(("kind", "damage"), DAMAGES, ids=lambda word: word.replace(" ", "-"))
async def test_damaged_under_a_server(kind: str, damage: str, tmp_path: Path, errors: list[Exception]) -> None:
    """Clients are told to come again, and get everything as soon as the file is good again, without a restart."""
    persisters: Any = _storage(tmp_path, kind).persisters(on_ignored_error=errors.append)
    persister = persisters("p")
    await persister.start_auto_persisting()
    persister.store.set_mergeable_content(small_store().get_mergeable_content())
    await persister.destroy()
    file = _file(tmp_path, kind)
    whole = file.read_bytes()
    damaged = DAMAGES[kind, damage](whole)
    file.write_bytes(damaged)
    async with create_ws_server("127.0.0.1", 0, persisters, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as socket:
            await socket.send(diff_frame("written to what is refused"))
            assert await closed_with(socket) == (1013, "mergesync:load retry-after=0.050")
        store = MergeableStore().set_value("mine", 1)
        options: Any = {"wait": False, "on_ignored_error": lambda _: None}
        async with synced(store, url_of(server), **options) as synchronizer:
            await eventually(lambda: len(errors) >= 3)
            assert file.read_bytes() == damaged
            if kind == "json":
                copies = [copy.read_bytes() for copy in file.parent.glob("p.json.unreadable-*")]
                assert copies == [damaged]
            file.write_bytes(whole)
            await eventually(lambda: synchronizer.status == "live" and store.has_table("pets"))
    assert all(isinstance(error, LoadError) and error.path_id == "p" for error in errors)
    late = persisters("p")
    await late.load()
    assert late.store.get_tables() == small_store().get_tables()
    assert late.store.get_values() == {**small_store().get_values(), "mine": 1}
    await late.destroy()


async def test_a_damaged_file_is_nobody_else_s(tmp_path: Path, errors: list[Exception]) -> None:
    """In a folder of JSON files, the other paths are served as if nothing were wrong."""
    (tmp_path / "bad.json").write_text("[")
    persisters = json_file_persisters(tmp_path)
    async with create_ws_server("127.0.0.1", 0, persisters, on_ignored_error=errors.append) as server:
        async with (
            raw(url_of(server, "bad")) as bad,
            synced(MergeableStore().set_value("v", 1), url_of(server, "good")),
        ):
            assert (await closed_with(bad))[0] == 1013
        await eventually(lambda: not server.get_stats().connections)
    assert [error.path_id for error in errors if isinstance(error, LoadError)] == ["bad"] * len(errors)
    reading = json_file_persisters(tmp_path, lock=False)("good")
    await reading.load()
    assert reading.store.get_values() == {"v": 1}
    await reading.destroy()
