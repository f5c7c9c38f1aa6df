"""Opening a path: what SQLite packs is what Python would, and what it cannot pack is read by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mergesync.exceptions import LoadError
from mergesync.persist import SqlitePersister, sqlite_statements
from mergesync.persist.sqlite_opening import BEYOND, FIRST, OPEN
from mergesync.store import MergeableStore
from mergesync.store.cells import ENCODED, TOMBSTONE

from .kit import new_store

HLC = "Nn1JUF----07JQY8"

LEAVES: dict[str, Any] = {
    "text": "dog",
    "empty text": "",
    "quotes": '"\\\b\f\n\r\t\x00\x1f\x7f/\u2028',
    "like a tombstone": '["",":',
    "like null": "[null,null",
    "reserved": TOMBSTONE + "x",
    "encoded prefix": ENCODED,
    "above": "\U0001f600",
    "surrogate": "\ud800",
    "long": "\x01" * 3000,
    "whole": 7,
    "minus": -7,
    "largest": 2**53,
    "smallest": -(2**53),
    "huge": 2.0**53 + 2,
    "enormous": 1e21,
    "fraction": 0.1,
    "tiny": 5e-324,
    "true": True,
    "false": False,
    "null": None,
    "gone": TOMBSTONE,
    "object": ENCODED + '{"a":1}',
    "array": ENCODED + "[1]",
    "raw": [1, {"b": None}],
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where the database is, or will be."""
    return str(tmp_path / "s.db")


async def keep(file: str, body: Any) -> MergeableStore:
    """Store a body; what it comes to."""
    persister = SqlitePersister(new_store(), file, "p")
    await persister.start_auto_persisting()
    persister.store.apply_mergeable_changes(body)
    await persister.destroy()
    return persister.store


async def opened(file: str, store: MergeableStore | None = None) -> MergeableStore:
    """What is loaded into a store, by default a blank one."""
    persister = SqlitePersister(store or new_store("s2"), file, "p")
    await persister.load()
    assert persister.status.value == "idle"
    await persister.destroy()
    return persister.store


def sql(file: str, statement: str, *parameters: Any) -> list[Any]:
    """What another program does to the database."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


def rows_of(*rows: dict[str, Any]) -> list[Any]:
    """A body with a table of rows of wire forms."""
    said = {f"r{n}": [{cell_id: [wire, HLC] for cell_id, wire in row.items()}] for n, row in enumerate(rows)}
    return [[{"t": [said]}], [{}], 1]


def all_of(store: MergeableStore) -> Any:
    """Content, and the order of all ids."""
    ids = {row_id: store.get_cell_ids("t", row_id) for row_id in store.get_row_ids("t")}
    return store.get_mergeable_content(), store.get_tables(), ids, store.get_table_cell_ids("t")


@pytest.mark.parametrize("at_a_time", [1, 2, 1000])
async def test_every_kind_of_leaf(file: str, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    """Alone, together, and among plain ones; also with few cells at a time, so that rows come in parts."""
    monkeypatch.setattr(sqlite_statements, "CELLS_AT_A_TIME", at_a_time)
    rows = [LEAVES, *({leaf_id: wire} for leaf_id, wire in LEAVES.items())]
    rows += [{"a": "plain", leaf_id: wire, "z": 1} for leaf_id, wire in LEAVES.items()]
    store = await keep(file, rows_of(*rows))
    loaded = await opened(file)
    assert loaded.get_mergeable_content() == store.get_mergeable_content()
    assert loaded.get_tables() == store.get_tables()
    assert loaded.get_cell_ids("t", "r0") == sorted(store.get_cell_ids("t", "r0"))
    loaded._check()


async def test_the_same_as_by_merging(file: str) -> None:
    """A store with a listener merges what is stored leaf by leaf; that comes to the same, to the order of ids."""
    await keep(file, rows_of(LEAVES, {"a": 1}, {"gone": TOMBSTONE}, {"text": "cat", "gone": TOMBSTONE}))
    listening = new_store("s2")
    told: list[Any] = []
    listening.add_tables_listener(lambda store: told.append(store.get_tables()))
    assert all_of(await opened(file)) == all_of(await opened(file, listening))
    assert told == [listening.get_tables()]


async def test_every_character_is_quoted_as_in_javascript(file: str) -> None:
    """SQLite's JSON text of a string is JSON.stringify's."""
    characters = [chr(code) for code in range(sys.maxunicode) if not 0xD800 <= code < 0xE000]
    strings = ["".join(characters[start : start + 64]) for start in range(0, len(characters), 64)]
    store = await keep(file, [[{}], [{}], 1])
    store = await keep(file, rows_of(*({"text": text} for text in (*characters[:128], *strings))))
    assert (await opened(file)).get_mergeable_content() == store.get_mergeable_content()


async def test_odd_ids(file: str) -> None:
    """Ids with quotes, nulls, lone surrogates, and none at all; the same id as a text and as a blob is one row."""
    ids = ["", "a\x00b", "a\x00c", '","', "\ud800", "é", "1", "null", "\x1e"]
    said = {id_: [{id_: ["x", HLC], "plain": [1, HLC]}] for id_ in ids}
    store = await keep(file, [[{id_: [said] for id_ in ids}], [{}], 1])
    sql(file, "UPDATE mergesync_cells SET row_id = CAST(row_id AS BLOB), changed = -changed WHERE row_id = 'é' "
              "AND cell_id = 'plain'")  # fmt: skip
    sql(file, "UPDATE mergesync_cells SET changed = -changed WHERE changed < 0")
    loaded = await opened(file)
    assert loaded.get_mergeable_content_hashes() == store.get_mergeable_content_hashes()
    assert loaded.get_tables() == store.get_tables()


@pytest.mark.parametrize("at_a_time", [1, 2, 7, 1000])
async def test_odd_ids_in_parts(file: str, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    """Portions may begin and end at any key, of a blob, too."""
    monkeypatch.setattr(sqlite_statements, "CELLS_AT_A_TIME", at_a_time)
    ids = ["", "a", "\ud800", "\udfff"]
    said = {id_: [{id_: ["x", HLC] for id_ in ids}] for id_ in ids}
    store = await keep(file, [[{id_: [said] for id_ in ids}], [{}], 1])
    loaded = await opened(file)
    assert loaded.get_mergeable_content() == store.get_mergeable_content()
    loaded._check()


async def test_a_table_whose_id_is_a_blob(file: str) -> None:
    """It is found though there is nothing else."""
    store = await keep(file, [[{"\ud800": [{"r": [{"a": [1, HLC]}]}]}], [{}], 1])
    assert (await opened(file)).get_mergeable_content() == store.get_mergeable_content()


async def test_a_row_that_is_all_read_by_itself(file: str) -> None:
    """Also where it is all there is."""
    store = await keep(file, rows_of({"a": 0.5}))
    assert (await opened(file)).get_mergeable_content() == store.get_mergeable_content()


async def test_nothing_but_edits(file: str) -> None:
    """There are cells, but none of them was written by mergesync."""
    await keep(file, [[{}], [{}], 1])
    sql(file, "INSERT INTO mergesync_cells(path, table_id, row_id, cell_id, value) VALUES('p', 't', 'r', 'a', 5)")
    persister = SqlitePersister(new_store("s2"), file, "p")
    await persister.load()
    assert persister.store.get_tables() == {"t": {"r": {"a": 5}}}
    await persister.destroy()


@pytest.mark.parametrize(
    "damage",
    [
        "hlc = 'bad'",
        "hlc = hlc || 'x'",
        "hlc = '\"' || hlc",
        "hlc = hlc || char(10) || '1:' || hlc",
        "value = CAST(x'ff' AS TEXT)",
        "type = 'unknown'",
        "type = 'number', value = 9e999",
        "type = 'raw', value = '{'",
    ],
)
async def test_damage(file: str, damage: str) -> None:
    """A row that mergesync did not write so is refused, and left as it is."""
    await keep(file, rows_of({"a": "b", "c": 1}, {"a": "c"}))
    sql(file, "DROP TRIGGER mergesync_cells_update")
    sql(file, f"UPDATE mergesync_cells SET {damage} WHERE row_id = 'r0' AND cell_id = 'a'")
    with pytest.raises(LoadError):
        await opened(file)


async def test_edited_while_nobody_looked(file: str) -> None:
    """What was written with plain SQL is a local write with a fresh stamp, in a tree that is taken as it is, too."""
    await keep(file, rows_of({"a": "b", "c": 1}, {"a": "c"}))
    sql(file, "UPDATE mergesync_cells SET value = 'edited' WHERE row_id = 'r0' AND cell_id = 'a'")
    sql(file, "INSERT INTO mergesync_cells(path, table_id, row_id, cell_id, value) VALUES('p', 't', 'r2', 'a', 5)")
    sql(file, "DELETE FROM mergesync_cells WHERE row_id = 'r1'")
    persister = SqlitePersister(new_store("s2"), file, "p")
    await persister.start_auto_persisting()
    assert persister.store.get_tables() == {"t": {"r0": {"a": "edited", "c": 1}, "r2": {"a": 5}}}
    persister.store._check()
    content = persister.store.get_mergeable_content()
    await persister.destroy()
    assert sql(file, "SELECT count(*) FROM mergesync_cells WHERE changed = 0") == [(0,)]
    assert (await opened(file)).get_mergeable_content() == content


async def test_written_while_it_is_read(file: str) -> None:
    """What is written to the store meanwhile stays, beside what is read."""
    await keep(file, rows_of({"a": "b"}))
    persister = SqlitePersister(new_store("s2"), file, "p")
    loading = asyncio.create_task(persister.load())
    await asyncio.sleep(0)
    persister.store.set_cell("t", "mine", "a", 1)
    await loading
    assert persister.store.get_tables() == {"t": {"r0": {"a": "b"}, "mine": {"a": 1}}}
    assert persister.status.value == "unsaved"
    await persister.destroy()


async def test_reading_needs_no_sorting(file: str) -> None:
    """The rows come in the order of the key, and no others are looked at than those of the portion."""
    await keep(file, rows_of({"a": "b"}))
    plan = sql(file, f"EXPLAIN QUERY PLAN {OPEN}", "p", *FIRST, *BEYOND)
    key = "(table_id,row_id,cell_id)"
    search = f"SEARCH mergesync_cells USING PRIMARY KEY (path=? AND {key}>(?,?,?) AND {key}<(?,?,?))"
    assert [step for *_, step in plan if "mergesync" in step] == [search]
    assert not any("TEMP B-TREE" in step for *_, step in plan)
