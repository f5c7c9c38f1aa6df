# ruff: noqa: ASYNC230, ASYNC240 - the tests touch files as others would, at once
"""The SQLite database: readable rows, one commit for all paths, and others who write to it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mergesync.exceptions import LoadError, SaveError
from mergesync.persist import SqliteDatabase, SqlitePersister, core, sqlite, sqlite_persisters, sqlite_statements
from mergesync.store import MergeableStore

from .kit import NOW, new_store, pet_store, until


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SAVE_RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(sqlite, "SQLITE_POLL_SECONDS", 0.01)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where the database is, or will be."""
    return str(tmp_path / "s.db")


def sql(file: str, statement: str, *parameters: Any) -> list[Any]:
    """What another program does to the database."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()


class Errors(list[Exception]):
    """What was reported."""


def persister_on(
    file: str | SqliteDatabase, store: MergeableStore | None = None, path_id: str = "p"
) -> SqlitePersister:
    """A persister whose errors are kept; see `errors_of`."""
    return SqlitePersister(store or new_store(), file, path_id, on_ignored_error=Errors().append)


def errors_of(persister: SqlitePersister) -> Errors:
    """What a persister reported."""
    return persister.on_ignored_error.__self__  # type: ignore[attr-defined,no-any-return]


async def keep(file: str, store: MergeableStore, path_id: str = "p") -> None:
    """Save a store and let go of it."""
    persister = persister_on(file, store, path_id)
    await persister.start_auto_persisting()
    await persister.destroy()


async def kept(file: str, path_id: str = "p") -> MergeableStore:
    """What is stored."""
    persister = persister_on(file, new_store("reader"), path_id)
    await persister.load()
    await persister.destroy()
    return persister.store


class TestRows:
    async def test_one_row_for_each_stamp(self, file: str) -> None:
        """Types, values and tombstones, plain to read."""
        store = pet_store()
        await keep(file, store, "petShop")
        cells = sql(file, "SELECT path, table_id, row_id, cell_id, type, value FROM mergesync_cells")
        assert cells == [
            ("petShop", "pets", "felix", "species", "deleted", None),
            ("petShop", "pets", "fido", "age", "number", 3),
            ("petShop", "pets", "fido", "good", "boolean", 1),
            ("petShop", "pets", "fido", "species", "string", "dog"),
            ("petShop", "pets", "fido", "tags", "array", '["a",{"b":null}]'),
        ]
        values = sql(file, "SELECT value_id, type, value FROM mergesync_values")
        assert values == [
            ("name", "string", "shöp😀"),
            ("nothing", "null", None),
            ("o", "object", '{"a":1}'),
            ("open", "boolean", 1),
            ("price", "number", 1.5),
        ]
        [(hlc,)] = sql(file, "SELECT hlc FROM mergesync_values WHERE value_id = 'open'")
        assert hlc == store.get_mergeable_content()[1][0]["open"][1]

    async def test_everything_comes_back(self, file: str) -> None:
        """Whatever strange stamps and ids there are."""
        store = pet_store()
        for odd in ("", "\0", "__proto__", "\ud800", "é\udfff", "\n", "'\";--", "\ufffc", "\ufffd["):
            store.set_cell(odd, odd, odd, 1)
            store.set_value("text " + odd, "a" + odd)
        for number in (0, -1, 2**53, -(2**53), 1e20, 1e21, 2.0**63, 2.0**64, 1e308, 5e-324, 0.1, -0.0):
            store.set_value(f"number {number!r}", number)
        changes = [[{"t": [{"r": [{"c": ["\ufffdbroken", "Nn1JUF-----zzzzz"], "raw": [{"a": [1]}]}]}]}], [{}], 1]
        store.apply_mergeable_changes(changes)
        store.set_default_content(({}, {"default": 1}))
        await keep(file, store)
        assert (await kept(file)).get_mergeable_content() == store.get_mergeable_content()

    async def test_container_stamps_come_back(self, file: str) -> None:
        """Stamps of tables and rows themselves, and containers without leaves."""
        store = new_store()
        hlc = "Nn1JUF-----zzzz"
        cells = {"c": [1, hlc + "5"]}
        tables = {"t": [{"r": [cells, hlc + "1"], "s": [{}, hlc + "6"]}, hlc + "2"], "u": [{}]}
        store.apply_mergeable_changes([[tables, hlc + "3"], [{"v": [1, hlc + "6"]}, hlc + "4"], 1])
        await keep(file, store)
        again = await kept(file)
        assert again.get_mergeable_content() == store.get_mergeable_content()

    async def test_paths_are_apart(self, file: str) -> None:
        """Whatever their ids."""
        path_ids = ["", "a", "A", "team/a", "team-a", "\0", "\ud800", "é" * 2000]
        for number, path_id in enumerate(path_ids):
            await keep(file, new_store().set_value("number", number), path_id)
        for number, path_id in enumerate(path_ids):
            assert (await kept(file, path_id)).get_values() == {"number": number}
        assert await SqliteDatabase(file).get_path_ids() == sorted(path_ids)

    async def test_only_what_changed_is_written(self, file: str) -> None:
        """A changed cell is one row; the others keep the number of their commit."""
        store = pet_store()
        persister = persister_on(file, store)
        await persister.start_auto_persisting()
        store.set_cell("pets", "fido", "age", 4)
        await persister.flush()
        assert sql(file, "SELECT cell_id, changed FROM mergesync_cells WHERE changed > 1") == [("age", 2)]
        await persister.destroy()

    @pytest.mark.parametrize(("page_bytes", "most"), [(1024, 2 * 1048), (4096, 2 * 4120)])
    async def test_a_change_writes_two_pages(self, file: str, page_bytes: int, most: int) -> None:
        """The row and the number of the commit, however large the store is; databases with larger pages stay so."""
        store = new_store()
        store.set_table("t", {f"r{number}": {"a": f"value {number}", "b": number} for number in range(2000)})
        await keep(file, store)
        sql(file, "PRAGMA journal_mode = DELETE")
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {page_bytes}")
            connection.execute("VACUUM")
        persister = persister_on(file, store)
        await persister.start_auto_persisting()
        store.set_cell("t", "r0", "b", -1)
        await persister.flush()
        before = os.path.getsize(file + "-wal")
        for number in range(10):
            store.set_cell("t", f"r{7 * number + 1}", "b", -1)
            await persister.flush()
        written = os.path.getsize(file + "-wal") - before
        assert sql(file, "PRAGMA page_size") == [(page_bytes,)]
        await persister.destroy()
        assert 0 < written <= 10 * most

    async def test_a_new_database_has_small_pages(self, file: str) -> None:
        """A change then writes little."""
        await keep(file, new_store().set_value("v", 1))
        assert sql(file, "PRAGMA page_size") == [(1024,)]

    async def test_what_was_loaded_is_not_written_again(self, file: str) -> None:
        """A visit without a change is no commit."""
        await keep(file, pet_store())
        persister = persister_on(file, new_store("s2"))
        await persister.start_auto_persisting()
        assert persister.status.value == "idle"
        await persister.destroy()
        assert sql(file, "SELECT value FROM mergesync_meta WHERE key = 'commits'") == [(1,)]

    async def test_a_newer_row_stays(self, file: str) -> None:
        """A stamp in the database is never replaced by an older one."""
        store = new_store().set_value("v", 1)
        old = store.get_mergeable_content()
        store.set_value("v", 2)
        persister = persister_on(file, store)
        await persister.start_auto_persisting()
        store.set_mergeable_content(old)
        await persister.destroy()
        assert (await kept(file)).get_value("v") == 2

    async def test_initial_content(self, file: str) -> None:
        """It is for a path of which nothing is stored."""
        for number in (1, 2):
            persister = persister_on(file)
            await persister.start_auto_persisting(({}, {"v": number}))
            await persister.destroy()
        assert (await kept(file)).get_values() == {"v": 1}


class TestCommits:
    async def test_paths_share_commits(self, file: str) -> None:
        """A hundred paths that change together are one commit, or two."""
        statements: list[str] = []

        class Watched(SqliteDatabase):
            async def _open_writer(self) -> None:
                await super()._open_writer()
                assert self._writer is not None
                await self._writer.set_trace_callback(statements.append)

        database = Watched(file)
        persisters = [persister_on(database, path_id=str(number)) for number in range(100)]
        await asyncio.gather(*(persister.start_auto_persisting() for persister in persisters))
        for persister in persisters:
            persister.store.set_value("v", 1)
        await asyncio.gather(*(persister.flush() for persister in persisters))
        assert 1 <= statements.count("COMMIT") <= 2
        await asyncio.gather(*(persister.destroy() for persister in persisters))
        assert len(await database.get_path_ids()) == 100

    async def test_flush_means_committed(self, file: str) -> None:
        """When it returns, others can read the row."""
        persister = persister_on(file)
        await persister.start_auto_persisting()
        for number in range(20):
            persister.store.set_value("v", number)
            await persister.flush()
            assert sql(file, "SELECT value FROM mergesync_values") == [(number,)]
        await persister.destroy()

    async def test_the_database_is_durable(self, file: str) -> None:
        """WAL, and an fsync for each commit."""
        database = SqliteDatabase(file)
        async with database:
            assert database._writer is not None
            assert list(await database._writer.execute_fetchall("PRAGMA journal_mode")) == [("wal",)]
            assert list(await database._writer.execute_fetchall("PRAGMA synchronous")) == [(2,)]

    async def test_a_locked_database(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """While another program holds the lock, saves fail and are tried again."""
        monkeypatch.setattr(sqlite, "SQLITE_BUSY_TIMEOUT_SECONDS", 0.01)
        persister = persister_on(file)
        await persister.start_auto_persisting()
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            persister.store.set_value("v", 1)
            with pytest.raises(SaveError, match="database is locked"):
                await persister.flush()
            other.execute("COMMIT")
        await persister.flush()
        assert (await kept(file)).get_value("v") == 1
        await persister.destroy()

    async def test_loads_do_not_wait_for_commits(self, file: str) -> None:
        """A reader sees what is committed, whatever the writer is doing."""
        await keep(file, pet_store())
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            database = SqliteDatabase(file)
            async with database:
                other.execute("BEGIN IMMEDIATE")
                persister = persister_on(database)
                await persister.load()
                assert persister.store.has_table("pets")
                other.execute("COMMIT")
                await persister.destroy()

    async def test_a_large_store(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Rows come in several portions, a store row may span two."""
        monkeypatch.setattr(sqlite_statements, "ROWS_AT_A_TIME", 7)
        store = new_store()
        for number in range(20):
            store.set_row("t", str(number), {"a": 1, "b": 2, "c": 3})
        await keep(file, store)
        assert (await kept(file)).get_mergeable_content() == store.get_mergeable_content()


class TestOthersWrite:
    async def test_another_process(self, file: str) -> None:
        """What another mergesync commits to the path is merged, and not written again."""
        one, two = persister_on(file, new_store("s1")), persister_on(file, new_store("s2"))
        await one.start_auto_persisting()
        await two.start_auto_persisting()
        for number in range(10):
            one.store.set_value(f"one{number}", number)
            two.store.set_value(f"two{number}", number)
            await asyncio.sleep(0.003)
        await until(lambda: len(one.store.get_values()) == len(two.store.get_values()) == 20)
        commits = sql(file, "SELECT value FROM mergesync_meta WHERE key = 'commits'")
        await asyncio.sleep(0.1)
        assert sql(file, "SELECT value FROM mergesync_meta WHERE key = 'commits'") == commits
        assert one.store.get_mergeable_content() == two.store.get_mergeable_content()
        await asyncio.gather(one.destroy(), two.destroy())
        assert (await kept(file)).get_mergeable_content() == one.store.get_mergeable_content()

    async def test_two_persisters_of_a_path_in_one_process(self, file: str) -> None:
        """They share the connection, and hear of one another all the same."""
        database = SqliteDatabase(file)
        one, two = persister_on(database, new_store("s1")), persister_on(database, new_store("s2"))
        await one.start_auto_persisting()
        await two.start_auto_persisting()
        one.store.set_value("one", 1)
        two.store.set_value("two", 2)
        await until(lambda: len(one.store.get_values()) == len(two.store.get_values()) == 2)
        await asyncio.gather(one.destroy(), two.destroy())

    @pytest.mark.parametrize(
        ("statement", "expected"),
        [
            ("UPDATE mergesync_cells SET value = 'wolf' WHERE cell_id = 'species' AND row_id = 'fido'", "wolf"),
            ("UPDATE mergesync_cells SET value = 5 WHERE cell_id = 'species' AND row_id = 'fido'", 5),
            ("UPDATE mergesync_cells SET value = NULL WHERE cell_id = 'species' AND row_id = 'fido'", None),
            (
                "UPDATE mergesync_cells SET type = 'object', value = '{\"a\":[1]}' "
                "WHERE cell_id = 'species' AND row_id = 'fido'",
                {"a": [1]},
            ),
            (
                "UPDATE mergesync_cells SET type = 'boolean', value = 0 WHERE cell_id = 'species' AND row_id = 'fido'",
                False,
            ),
            ("DELETE FROM mergesync_cells WHERE cell_id = 'species' AND row_id = 'fido'", "gone"),
            (
                "UPDATE mergesync_cells SET type = 'deleted', value = NULL "
                "WHERE cell_id = 'species' AND row_id = 'fido'",
                "gone",
            ),
        ],
    )
    @pytest.mark.parametrize("while_running", [True, False])
    async def test_plain_sql(self, file: str, statement: str, expected: Any, while_running: bool) -> None:
        """An edit with plain SQL is a local write with a fresh stamp: at once, or at the next load."""
        before = pet_store().get_mergeable_content()[0][0]["pets"][0]["fido"][0]["species"][1]
        await keep(file, pet_store())
        persister = persister_on(file, new_store("s2"))
        if while_running:
            await persister.start_auto_persisting()
        sql(file, statement)
        if not while_running:
            await persister.start_auto_persisting()
        await until(
            lambda: (
                persister.store.get_cell(
                    "pets",
                    "fido",
                    "species",
                )
                != "dog"
            )
        )
        await persister.flush()
        if expected == "gone":
            assert not persister.store.has_cell("pets", "fido", "species")
        else:
            assert persister.store.get_cell("pets", "fido", "species") == expected
        stamp = persister.store.get_mergeable_content()[0][0]["pets"][0]["fido"][0]["species"]
        assert stamp[1] > before
        await until(lambda: not sql(file, "SELECT 1 FROM mergesync_cells WHERE changed = 0"))
        await persister.destroy()
        assert (await kept(file)).get_mergeable_content() == persister.store.get_mergeable_content()

    async def test_plain_inserts(self, file: str) -> None:
        """Only ids and a value are needed; also for a path that nobody has opened yet."""
        persister = persister_on(file)
        await persister.start_auto_persisting()
        for path_id in ("p", "new"):
            sql(
                file,
                "INSERT INTO mergesync_cells(path, table_id, row_id, cell_id, value) VALUES(?, 't', 'r', 'c', 'x')",
                path_id,
            )
            sql(file, "INSERT INTO mergesync_values(path, value_id, value) VALUES(?, 'v', 1.5)", path_id)
        await until(lambda: persister.store.has_value("v"))
        await persister.destroy()
        assert await SqliteDatabase(file).get_path_ids() == ["new", "p"]
        for path_id in ("p", "new"):
            store = await kept(file, path_id)
            assert store.get_content() == ({"t": {"r": {"c": "x"}}}, {"v": 1.5})

    async def test_an_edit_between_two_saves_is_not_written_over(self, file: str) -> None:
        """A commit first takes in what others have committed, even if auto-load is off."""
        persister = persister_on(file, new_store().set_value("v", 1))
        await persister.start_auto_persisting()
        persister.stop_auto_load()
        sql(file, "UPDATE mergesync_values SET value = 2")
        persister.store.set_value("w", 1)
        await persister.flush()
        assert persister.store.get_value("v") == 2
        await persister.destroy()
        assert (await kept(file)).get_values() == {"v": 2, "w": 1}

    async def test_an_edit_that_is_no_cell(self, file: str) -> None:
        """It is reported and left alone; the path and the other cells are not disturbed."""
        await keep(file, pet_store())
        sql(file, "UPDATE mergesync_values SET value = '{broken' WHERE value_id = 'o'")
        sql(file, "UPDATE mergesync_values SET value = 9e999 WHERE value_id = 'price'")
        sql(file, "UPDATE mergesync_values SET value = x'ff' WHERE value_id = 'name'")
        sql(file, "INSERT INTO mergesync_values(path, value_id, value, hlc) VALUES('p', 'mine', 1, 'today')")
        persister = persister_on(file, new_store("s2"))
        await persister.start_auto_persisting()
        assert len(errors_of(persister)) == 4
        assert all("is no cell" in str(error) for error in errors_of(persister))
        assert persister.store.get_values() == {"open": True, "nothing": None}
        await persister.destroy()
        assert sql(file, "SELECT value FROM mergesync_values WHERE value_id = 'o'") == [("{broken",)]

    async def test_purging(self, file: str) -> None:
        """The second DELETE removes the tombstone, too; a store that has the cell keeps it."""
        await keep(file, pet_store())
        for _ in range(2):
            sql(file, "DELETE FROM mergesync_cells WHERE row_id = 'fido'")
        assert sql(file, "SELECT 1 FROM mergesync_cells WHERE row_id = 'fido'") == []
        assert not (await kept(file)).has_row("pets", "fido")

    async def test_stamps_too_far_ahead(self, file: str) -> None:
        """What another process with a fast clock commits is refused and reported, and taken once time has come."""
        now = [NOW]
        store = MergeableStore("s1", get_now=lambda: now[0])
        persister = persister_on(file, store)
        await persister.start_auto_persisting()
        await keep(file, new_store("s2", NOW + 400_000).set_value("ahead", 1))
        await until(lambda: errors_of(persister))
        store.set_value("mine", 1)
        await persister.flush()
        assert not store.has_value("ahead")
        now[0] = NOW + 200_000
        await keep(file, new_store("s3").set_value("third", 1), "other")
        await until(lambda: store.has_value("ahead"))
        await persister.destroy()

    async def test_looking_fails(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is reported to those who want to know, and tried again."""
        persister = persister_on(file)
        await persister.start_auto_persisting()
        with monkeypatch.context() as patch:
            patch.setattr("mergesync.persist.sqlite.number", lambda *_: exec_failing())
            await until(lambda: errors_of(persister))
        sql(file, "INSERT INTO mergesync_values(path, value_id, value) VALUES('p', 'v', 1)")
        await until(lambda: persister.store.has_value("v"))
        await persister.destroy()

    async def test_edits_while_the_database_is_locked(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are reported as not merged, and merged as soon as they can be."""
        monkeypatch.setattr(sqlite, "SQLITE_BUSY_TIMEOUT_SECONDS", 0.01)
        persister = persister_on(file)
        await persister.start_auto_persisting()
        sql(file, "INSERT INTO mergesync_values(path, value_id, value) VALUES('p', 'v', 1)")
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await until(lambda: errors_of(persister))
            other.execute("COMMIT")
        await until(lambda: persister.store.has_value("v"))
        await persister.destroy()


class TestRefusal:
    async def test_a_foreign_database(self, file: str) -> None:
        """It is not touched."""
        sql(file, "CREATE TABLE tinybase(_id PRIMARY KEY, store)")
        await self._assert_refused(file, "database of something else")

    async def test_a_newer_format(self, file: str) -> None:
        """It is not touched."""
        await keep(file, pet_store())
        sql(file, "UPDATE mergesync_meta SET value = 2 WHERE key = 'format'")
        await self._assert_refused(file, "newer mergesync")

    async def test_no_database(self, file: str) -> None:
        """It is not touched."""
        Path(file).write_text('[[{},"",0],[{},"",0]]' * 1000)
        await self._assert_refused(file, "not a database")

    async def test_a_damaged_database(self, file: str) -> None:
        """A page of zeros is found before anything is written."""
        store = new_store()
        for number in range(2000):
            store.set_row("t", str(number), {"a": "x" * 20})
        await keep(file, store)
        with open(file, "r+b") as opened:
            opened.seek(4096 * 12)
            opened.write(bytes(4096))
        await self._assert_refused(file, "damaged|malformed")

    async def test_a_damaged_row(self, file: str) -> None:
        """A row that mergesync cannot have written fails the load of its path, and of no other."""
        await keep(file, pet_store(), "p")
        await keep(file, pet_store(), "q")
        sql(file, "UPDATE mergesync_values SET type = 'nonsense', changed = 99 WHERE path = 'p' AND value_id = 'o'")
        with pytest.raises(LoadError, match="unknown type"):
            await kept(file, "p")
        assert (await kept(file, "q")).has_value("o")

    async def _assert_refused(self, file: str, why: str) -> None:
        before = Path(file).read_bytes()
        persister = persister_on(file)
        for _ in range(2):
            with pytest.raises(LoadError, match=why):
                await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        await persister.destroy()
        assert Path(file).read_bytes() == before


class TestOpening:
    async def test_a_second_server_is_refused(self, file: str) -> None:
        """Other programs and unlocked persisters are not."""
        first, second = sqlite_persisters(file), sqlite_persisters(file)
        persister = first("p")
        await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        await persister.flush()
        refused = second("p")
        with pytest.raises(LoadError, match="in use by another server"):
            await refused.load()
        assert await sqlite_persisters(file, lock=False).get_path_ids() == ["p"]
        await persister.destroy()
        await refused.load()
        assert refused.store.get_value("v") == 1
        await refused.destroy()

    async def test_two_processes_make_the_database_at_once(self, file: str) -> None:
        """One is faster, the other takes what it finds."""
        databases = [SqliteDatabase(file) for _ in range(5)]
        await asyncio.gather(*(database.hold() for database in databases))
        await asyncio.gather(*(database.let_go() for database in databases))
        assert sql(file, "SELECT value FROM mergesync_meta WHERE key = 'format'") == [(1,)]

    async def test_nothing_is_left_behind(self, file: str) -> None:
        """No task, no thread, no open file, no journal; also after failures."""
        before = asyncio.all_tasks(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        for number in range(20):
            await keep(file, new_store(str(number)).set_value("v", number))
        Path(file).write_text("no database" * 100)
        for _ in range(5):
            with pytest.raises(LoadError):
                await kept_or_destroyed(file)
        assert os.listdir(os.path.dirname(file)) == ["s.db"]
        await asyncio.sleep(0.02)  # threads of connections end a moment after the connection
        after = asyncio.all_tasks(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        assert (after[0], after[1]) == before[:2]
        assert after[2] <= before[2] + 6  # the pool of asyncio.to_thread stays

    async def test_a_removed_database_is_written_again(self, file: str) -> None:
        """What the stores hold stays durable, of paths that do not change, too."""
        database = SqliteDatabase(file)
        one, two = persister_on(database, pet_store(), "one"), persister_on(database, pet_store(), "two")
        await one.start_auto_persisting()
        await two.start_auto_persisting()
        for suffix in ("", "-wal", "-shm"):
            os.unlink(file + suffix)
        one.store.set_value("v", 1)
        await until(lambda: one.status.value == two.status.value == "idle" and os.path.exists(file))
        await one.flush()
        await asyncio.gather(one.destroy(), two.destroy())
        assert (await kept(file, "one")).get_mergeable_content() == one.store.get_mergeable_content()
        assert (await kept(file, "two")).get_mergeable_content() == two.store.get_mergeable_content()

    async def test_a_replaced_database_is_merged(self, file: str, tmp_path: Path) -> None:
        """An older backup put in its place loses nothing: the newest stamp wins, on disk, too."""
        await keep(file, new_store("s2").set_value("backup", 1).set_value("v", 1))
        backup = Path(file).read_bytes()
        persister = persister_on(file, new_store("s1", NOW + 1000))
        await persister.start_auto_persisting()
        persister.store.set_value("v", 2).del_value("backup")
        await persister.flush()
        (tmp_path / "backup").write_bytes(backup)
        os.replace(tmp_path / "backup", file)
        await until(lambda: sql_or_none(file, "SELECT value FROM mergesync_values WHERE value_id = 'v'") == [(2,)])
        await persister.destroy()
        assert (await kept(file)).get_values() == {"v": 2}

    async def test_replaced_by_something_else(self, file: str) -> None:
        """It is left alone; saving fails until it is gone."""
        persister = persister_on(file, pet_store())
        await persister.start_auto_persisting()
        os.unlink(file)
        Path(file).write_text("no database" * 100)
        persister.store.set_value("v", 1)
        with pytest.raises(SaveError, match="not a database"):
            await persister.flush()
        assert Path(file).read_text() == "no database" * 100
        os.unlink(file)
        await persister.flush()
        await persister.destroy()
        assert (await kept(file)).get_mergeable_content() == persister.store.get_mergeable_content()


async def exec_failing() -> int:
    """A statement that fails."""
    raise sqlite3.OperationalError("disk I/O error")


async def kept_or_destroyed(file: str) -> None:
    """Load, and let go whatever happens."""
    persister = persister_on(file)
    try:
        await persister.load()
    finally:
        await persister.destroy()


def sql_or_none(file: str, statement: str) -> list[Any] | None:
    """What another program reads, if it can just now."""
    try:
        return sql(file, statement)
    except sqlite3.Error:
        return None
