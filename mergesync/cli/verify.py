"""`mergesync verify`: check everything stored, and change nothing."""

from __future__ import annotations

import argparse
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

from mergesync.cli.agreement import check_agreement, path_of_url
from mergesync.cli.checking import Checked, check_plain, check_tree
from mergesync.cli.common import FAILED, OK, printable, shown_id
from mergesync.cli.storage import Storage, opened
from mergesync.exceptions import MergesyncError
from mergesync.persist import json_file_persisters
from mergesync.persist.sqlite_rows import FORMAT, READ, READ_EDITS, Snapshot, from_sql_text
from mergesync.persist.taking import is_mergeable_content
from mergesync.store.hlc import latest_allowed
from mergesync.store.jsjson import loads
from mergesync.system import get_now

__all__ = ["verify"]

_MAX_SHOWN: Final = 20
_PATHS = (
    "SELECT path FROM mergesync_paths UNION SELECT path FROM mergesync_cells UNION SELECT path FROM mergesync_values "
    "UNION SELECT path FROM mergesync_containers ORDER BY path"
)


async def verify(arguments: argparse.Namespace) -> int:
    """Check every stamp of every stored path, recompute every hash, and print what was found.

    Returns:
        0, or 1 if anything is wrong.
    """
    storage: Storage = arguments.storage
    storage.check_exists()
    if storage.kind == "sqlite":
        results = list(_check_database(storage.place))
    else:
        results = await _check_folder(storage.place)
    if arguments.url is not None:
        results.append((f"{shown_id(path_of_url(arguments.url))} (served)", await check_agreement(storage, arguments)))
    for name, found in results:
        _print(name, found)
    wrong = sum(1 for _, found in results if found.problems)
    print(f"{len(results)} checked, {wrong} wrong")
    return FAILED if wrong else OK


def _print(name: str, found: Checked) -> None:
    verdict = "WRONG" if found.problems else "ok"
    size = f"  {found.stamps} stamps, hashes {found.hashes[0]} {found.hashes[1]}" if found.stamps else ""
    print(f"{verdict}  {name}{size}")
    for problem in found.problems[:_MAX_SHOWN]:
        print(f"    {printable(problem)}")
    if len(found.problems) > _MAX_SHOWN:
        print(f"    and {len(found.problems) - _MAX_SHOWN} more")
    for note in found.notes:
        print(f"    note: {printable(note)}")


# --- JSON


async def _check_folder(folder: str) -> list[tuple[str, Checked]]:
    persisters = json_file_persisters(folder, lock=False)
    results: list[tuple[str, Checked]] = []
    async with opened(persisters):
        for path_id in await persisters.get_path_ids():
            file = persisters(path_id).path
            results += _check_file_and_sides(shown_id(path_id), file)
    return results


def _check_file_and_sides(name: str, file: str) -> Iterator[tuple[str, Checked]]:
    found = _check_file(file)
    found.notes += [f"there is {side_file}" for side_file in _side_files(file)]
    yield name, found
    if os.path.exists(file + ".unsaved"):
        yield f"{name} (unsaved)", _check_file(file + ".unsaved")


def _side_files(file: str) -> list[str]:
    folder, name = os.path.split(file)
    return sorted(other for other in os.listdir(folder) if other.startswith(name + ".") and ".path-id" not in other)


def _check_file(file: str) -> Checked:
    try:
        with open(file, "rb") as opened_file:
            content = loads(opened_file.read().decode())
    except (OSError, ValueError) as error:
        return Checked(problems=[f"cannot be read: {error}"])
    latest = latest_allowed(get_now())
    if is_mergeable_content(content):
        return check_tree(content, latest, with_hashes=True)
    if isinstance(content, list) and len(content) == 3:
        found = check_tree(content, latest, with_hashes=False)
        found.notes.append("changes, rather than content; they are merged when they are loaded")
        return found
    if isinstance(content, list) and [type(part) for part in content] == [dict, dict]:
        return check_plain(content)
    return Checked(problems=["is neither mergeable content, nor changes, nor the content of a plain store"])


# --- SQLite


def _check_database(file: str) -> Iterator[tuple[str, Checked]]:
    try:
        with closing(sqlite3.connect(f"file:{quote(os.path.abspath(file))}?mode=ro", uri=True)) as database:
            database.execute("BEGIN")  # one state of the database, whoever writes meanwhile
            whole = Checked(problems=[row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"])
            whole.problems += _check_format(database)
            if whole.problems:
                yield "(database)", whole
                return
            for (path,) in database.execute(_PATHS).fetchall():
                yield shown_id(from_sql_text(path)), _check_path(database, path)
    except sqlite3.Error as error:
        yield "(database)", Checked(problems=[f"cannot be read: {error}"])


def _check_format(database: sqlite3.Connection) -> list[str]:
    try:
        found = database.execute("SELECT value FROM mergesync_meta WHERE key = 'format'").fetchone()
    except sqlite3.OperationalError:
        return ["is not a database of mergesync"]
    return [] if found == (FORMAT,) else [f"has the format {found and found[0]!r}, and only {FORMAT} is known"]


def _check_path(database: sqlite3.Connection, path: Any) -> Checked:
    snapshot = Snapshot(0, known=True)
    problems = []
    for name, query in READ.items():
        for row in database.execute(query, (path, 0)):
            try:
                snapshot.add(name, [row])
            except (ValueError, TypeError, AttributeError, MergesyncError) as error:
                place = " ".join(shown_id(from_sql_text(id_)) for id_ in row[:-3])
                problems.append(f"{name} {place} cannot be read: {error}")
    edits = database.execute(READ_EDITS, (path,)).fetchall()
    found = check_tree(snapshot.changes, latest_allowed(get_now()), with_hashes=False)
    found.problems[:0] = problems
    if edits:
        found.notes.append(f"{len(edits)} leaves were edited with SQL; they get their stamps when they are served next")
    return found
