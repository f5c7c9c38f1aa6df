"""`mergesync dump | load`: stored data as files that TinyBase reads, and back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from mergesync.cli.common import OK, USAGE, CliError, printable, shown_id
from mergesync.cli.storage import Persisters, Storage, opened, required
from mergesync.exceptions import MergesyncError, PersisterError
from mergesync.persist.files import FILES, replace_file
from mergesync.persist.taking import is_mergeable_content
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps, loads, utf8

__all__ = ["dump", "load"]


# --- dump


async def dump(arguments: argparse.Namespace) -> int:
    """Write a stored path as the file TinyBase would keep, or all paths as one object of such files by path."""
    storage: Storage = arguments.storage
    storage.check_exists()
    persisters = required(storage.persisters(lock=False))
    async with opened(persisters):
        path_ids = await persisters.get_path_ids()
        if arguments.path is None:
            body: Any = {path_id: await _content(persisters, path_id, arguments.plain) for path_id in path_ids}
        elif arguments.path in path_ids:
            body = await _content(persisters, arguments.path, arguments.plain)
        else:
            known = ", ".join(map(shown_id, path_ids)) or "none"
            raise CliError(f"no path {shown_id(arguments.path)} is stored here; stored: {known}")
    _write(utf8(dumps(body)), arguments.output)
    return OK


async def _content(persisters: Persisters, path_id: str, plain: bool) -> Any:
    persister = persisters(path_id)
    try:
        await persister.load()
    except PersisterError as error:
        raise CliError(printable(str(error))) from error
    finally:
        await persister.destroy()
    return list(persister.store.get_content()) if plain else persister.store.get_mergeable_content()


def _write(data: bytes, output: str | None) -> None:
    if output is None:
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()
        return
    try:
        replace_file(FILES, output, data, FILES.signature(output))
    except OSError as error:
        raise CliError(f"cannot write {printable(output)}: {printable(error.strerror or str(error))}") from error


# --- load


async def load(arguments: argparse.Namespace) -> int:
    """Merge what `dump` wrote, or a file of TinyBase, into stored paths; nothing missing in it is deleted."""
    body = _read(arguments.input)
    by_path = _by_path(body, arguments.path)
    for path_id, content in by_path.items():
        _check(path_id, content)
    persisters = required(arguments.storage.persisters())
    async with opened(persisters):
        for path_id, content in by_path.items():
            await _merge(persisters, path_id, content)
            print(f"{shown_id(path_id)}: merged")
    return OK


def _read(name: str | None) -> Any:
    try:
        data = sys.stdin.buffer.read() if name is None else FILES.read(name)[0]
    except OSError as error:
        raise CliError(f"cannot read {printable(str(name))}: {printable(error.strerror or str(error))}") from error
    try:
        return loads(data.decode())
    except ValueError as error:
        raise CliError(f"the input is not JSON: {printable(str(error))}") from error


def _by_path(body: Any, path_id: str | None) -> dict[str, Any]:
    if isinstance(body, list):
        if path_id is None:
            raise CliError("the input is the content of one path: say into which PATH", USAGE)
        return {path_id: body}
    if not isinstance(body, dict):
        raise CliError("the input is neither content nor an object of contents by path")
    if path_id is None:
        return body
    if path_id not in body:
        raise CliError(f"the input has no path {shown_id(path_id)}")
    return {path_id: body[path_id]}


def _check(path_id: str, content: Any) -> None:
    """Try it on an empty store, so that either all paths are merged or none."""
    try:
        _take(MergeableStore(), content)
    except (MergesyncError, TypeError, ValueError, AttributeError) as error:
        raise CliError(f"{shown_id(path_id)}: not content: {printable(str(error))}") from error


async def _merge(persisters: Persisters, path_id: str, content: Any) -> None:
    persister = persisters(path_id)
    try:
        await persister.load()
        _take(persister.store, content)
        await persister.flush()
    except MergesyncError as error:
        raise CliError(f"{shown_id(path_id)}: {printable(str(error))}") from error
    finally:
        await persister.destroy()


def _take(store: MergeableStore, content: Any) -> None:
    if is_mergeable_content(content):
        store.apply_mergeable_changes([*content, 1])
    elif isinstance(content, list) and len(content) == 3:
        store.apply_mergeable_changes(content)
    elif isinstance(content, list) and [type(part) for part in content] == [dict, dict]:
        with store.transaction():
            for table_id, row_id, row in _rows(content[0]):
                store.set_partial_row(table_id, row_id, row)
            store.set_partial_values(content[1])
    else:
        raise CliError("neither mergeable content, nor changes, nor [tables, values]")


def _rows(tables: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for table_id, table in tables.items():
        for row_id, row in table.items():
            yield table_id, row_id, row
