"""The statements that persisters run on a SQLite database, and what they check before the first."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from mergesync.exceptions import LoadError
from mergesync.limits import SQLITE_PAGE_BYTES, SQLITE_WAL_BYTES
from mergesync.persist.sqlite_opening import BEHIND, BEYOND, FIRST, OPEN, READ_THE_REST, Key, Opening, Portion
from mergesync.persist.sqlite_rows import (
    FORMAT,
    LOOK,
    READ,
    READ_EDITS,
    SCHEMA,
    WRITE,
    Row,
    Snapshot,
    from_sql_text,
    rows_of,
    sql_text,
    without_surrogates,
)
from mergesync.store.building import Built, TreeBuilder
from mergesync.store.bulk import collector_paused
from mergesync.types import MergeableChanges

if TYPE_CHECKING:
    from aiosqlite import Connection

__all__ = ["check", "number", "open_path", "path_ids", "prepare", "read_rows", "remove_rows", "write_rows"]

ROWS_AT_A_TIME: Final = 50_000
"""Enough that the hops between threads cost nothing, and little to hold."""

CELLS_AT_A_TIME: Final = 30_000
"""The same where SQLite packs them while Python works; no call for so many keeps Python's lock for long."""

_WAL_ATTEMPTS: Final = 50
_WAL_WAIT_SECONDS: Final = 0.02


async def number(connection: Connection, sql: str) -> int:
    """The one number that a statement gives."""
    [(found,)] = await connection.execute_fetchall(sql)
    return int(found)


async def path_ids(connection: Connection) -> list[str]:
    """The paths for which something is stored, sorted."""
    rows = await connection.execute_fetchall(
        "SELECT path FROM mergesync_paths UNION SELECT path FROM mergesync_cells WHERE changed = 0 "
        "UNION SELECT path FROM mergesync_values WHERE changed = 0"
    )
    return sorted(from_sql_text(path) for (path,) in rows)


async def _tables(connection: Connection) -> set[str]:
    rows = await connection.execute_fetchall("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return {str(name) for (name,) in rows}


async def check(connection: Connection, file: str, size: int) -> None:
    """Refuse what is not ours, is newer than we know, or is damaged."""
    tables = await _tables(connection)
    if tables and "mergesync_meta" not in tables:
        raise LoadError(f"{file!r} is the database of something else")
    if tables:
        version = await number(connection, "SELECT value FROM mergesync_meta WHERE key = 'format'")
        if version > FORMAT:
            raise LoadError(f"{file!r} was written by a newer mergesync (format {version}, this one knows {FORMAT})")
    if size % await number(connection, "PRAGMA page_size"):
        raise LoadError(f"{file!r} is damaged: its last page is torn")
    [(verdict,)] = list(await connection.execute_fetchall("PRAGMA quick_check(1)"))
    if verdict != "ok":
        raise LoadError(f"{file!r} is damaged: {verdict}")


async def prepare(writer: Connection) -> None:
    """Make every commit durable, and the tables if there are none."""
    await writer.execute(f"PRAGMA page_size = {SQLITE_PAGE_BYTES}")  # of a new database
    await _use_wal(writer)
    await writer.execute("PRAGMA synchronous = FULL")
    page_bytes = await number(writer, "PRAGMA page_size")
    await writer.execute(f"PRAGMA wal_autocheckpoint = {SQLITE_WAL_BYTES // page_bytes}")
    if await _tables(writer):
        return
    try:
        await writer.executescript(f"BEGIN IMMEDIATE;{SCHEMA}COMMIT;")
    except sqlite3.OperationalError:
        await writer.execute("ROLLBACK")
        if not await _tables(writer):  # unless another process was faster
            raise


async def _use_wal(writer: Connection) -> None:
    """SQLite does not wait when two processes change the mode of a new database at once, so wait here."""
    for _ in range(_WAL_ATTEMPTS):
        try:
            await writer.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            await asyncio.sleep(_WAL_WAIT_SECONDS)
        else:
            return
    await writer.execute("PRAGMA journal_mode = WAL")


async def open_path(connection: Connection, path_id: str) -> tuple[Snapshot, Built | None]:
    """All that is stored for a path: a tree if there is anything, and with it what was edited with plain SQL."""
    path = sql_text(path_id)
    [(commit, known, *found)] = await connection.execute_fetchall(LOOK, (path,))
    snapshot = Snapshot(commit, bool(known))
    if not any(found):
        return snapshot, TreeBuilder().finish() if known else None
    opening = Opening()
    rest = {name: sql for (name, sql), is_there in zip(READ.items(), found, strict=True) if is_there}
    if "cells" in rest:
        await _read_cells(connection, path, opening)
        if opening.is_complete:
            del rest["cells"]
        else:
            rest["cells"] = READ_THE_REST
    await _add_rows(connection, snapshot, rest, (path, 0))
    return snapshot, await asyncio.to_thread(opening.finish, snapshot)


async def _read_cells(connection: Connection, path: str | bytes, opening: Opening) -> None:
    """Add all cells to a tree: SQLite packs a portion while Python adds the one before."""
    portion = Portion("[]", "[]", None, None)
    key, following = FIRST, await _behind(connection, path, FIRST)
    while key != BEYOND:
        packing = _packed(connection, path, key, following)
        key = following
        (portion, following), _ = await asyncio.gather(packing, asyncio.to_thread(opening.add, portion))
    await asyncio.to_thread(opening.add, portion)


async def _packed(connection: Connection, path: str | bytes, key: Key, up_to: Key) -> tuple[Portion, Key]:
    """A portion, and the key up to which the next one goes."""
    [packed] = await connection.execute_fetchall(OPEN, (path, *key, *up_to))
    return Portion(*packed), await _behind(connection, path, up_to)


async def _behind(connection: Connection, path: str | bytes, key: Key) -> Key:
    """The key that is a portion behind another."""
    found = list(await connection.execute_fetchall(BEHIND, (path, *key, CELLS_AT_A_TIME)))
    return cast("Key", found[0]) if found else BEYOND


async def read_rows(connection: Connection, path_id: str, since: int) -> Snapshot:
    """What was written for a path after a commit; what was edited with plain SQL, whenever."""
    path = sql_text(path_id)
    [(commit, known, *_)] = await connection.execute_fetchall(LOOK, (path,))
    snapshot = Snapshot(commit, bool(known))
    await _add_rows(connection, snapshot, READ, (path, since))
    return snapshot


async def _add_rows(
    connection: Connection, snapshot: Snapshot, queries: Mapping[str, str], parameters: tuple[Any, ...]
) -> None:
    for name, sql in queries.items():
        await _read(connection, sql, parameters, partial(snapshot.add, name), ROWS_AT_A_TIME)
    edits = await connection.execute_fetchall(READ_EDITS, parameters[:1])
    snapshot.add_edits(cast("list[Row]", edits))


async def _read(
    connection: Connection, sql: str, parameters: tuple[Any, ...], take: Callable[[list[Row]], None], size: int
) -> None:
    """Take what a query gives, in portions."""
    async with connection.execute(sql, parameters) as cursor:
        full = True
        while full:
            with collector_paused():
                rows = cast("list[Row]", await cursor.fetchmany(size))
            full = len(rows) == size
            await asyncio.to_thread(take, rows)


async def write_rows(writer: Connection, work: list[tuple[str, MergeableChanges]]) -> int:
    """Write the changes of some paths, each under a number of its own; returns the last."""
    sql = f"UPDATE mergesync_meta SET value = value + {len(work)} WHERE key = 'commits' RETURNING value"
    last = await number(writer, sql)
    for name, rows in (await asyncio.to_thread(_all_rows, work, last - len(work) + 1)).items():
        await _write_rows(writer, WRITE[name], rows)
    return last


async def remove_rows(writer: Connection, path_id: str) -> None:
    """Remove all that is stored for a path."""
    path = (sql_text(path_id),)
    for name in ("cells", "values"):  # what is marked as deleted goes without leaving a mark
        await writer.execute(f"UPDATE mergesync_{name} SET type = 'deleted', changed = 0 WHERE path = ?", path)
    for name in ("cells", "values", "containers", "paths"):
        await writer.execute(f"DELETE FROM mergesync_{name} WHERE path = ?", path)


def _all_rows(work: list[tuple[str, MergeableChanges]], first: int) -> dict[str, list[Row]]:
    all_rows: dict[str, list[Row]] = {name: [] for name in WRITE}
    with collector_paused():
        for commit, (path_id, changes) in enumerate(work, first):
            for name, rows in rows_of(path_id, changes, commit).items():
                all_rows[name].extend(rows)
    return all_rows


async def _write_rows(writer: Connection, sql: str, rows: list[Row]) -> None:
    if not rows:
        return
    try:
        await writer.executemany(sql, rows)
    except UnicodeEncodeError:  # what was written of them by then is written once more, in the same transaction
        await writer.executemany(sql, without_surrogates(rows))
