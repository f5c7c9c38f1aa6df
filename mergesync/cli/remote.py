"""`mergesync watch | get | set | delete`: a client of a running server, for a quick look or edit."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from mergesync.cli.common import FAILED, OK, USAGE, CliError, printable, shown_cell, shown_id
from mergesync.exceptions import ConnectionLostError, MergesyncError
from mergesync.net.client import SyncStatus, WsSynchronizer, create_ws_synchronizer
from mergesync.store import MergeableStore
from mergesync.store.jsjson import loads
from mergesync.types import MISSING

__all__ = ["delete", "get", "set_", "synced", "watch"]


# --- watch


async def watch(arguments: argparse.Namespace) -> int:
    """Print each change of a path until interrupted."""
    store = MergeableStore()
    printer, status = _Printer(), _Status(arguments.url)
    synchronizer = await create_ws_synchronizer(store, arguments.url, wait=False, on_ignored_error=status.complain)
    synchronizer.add_status_listener(status.changed)
    ended = asyncio.ensure_future(printer.ended.wait())
    started = asyncio.ensure_future(_watch(store, synchronizer, printer, show_all=arguments.all))
    try:
        await asyncio.wait([ended, started], return_when=asyncio.FIRST_COMPLETED)
        await ended
    finally:
        for task in (ended, started):
            task.cancel()
        await synchronizer.destroy()
    return OK


async def _watch(store: MergeableStore, synchronizer: WsSynchronizer, printer: _Printer, *, show_all: bool) -> None:
    await synchronizer.start_sync()
    store.add_cell_listener(None, None, None, printer.cell_changed)
    store.add_value_listener(None, printer.value_changed)
    if show_all:
        printer.show_present(store)


class _Printer:
    """Prints changes; ends when nobody reads them any more."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def cell_changed(self, _: object, table_id: str, row_id: str, cell_id: str, new: Any, old: Any) -> None:
        """A cell changed."""
        self._print((table_id, row_id, cell_id), new, old)

    def value_changed(self, _: object, value_id: str, new: Any, old: Any) -> None:
        """A value changed."""
        self._print((value_id,), new, old)

    def show_present(self, store: MergeableStore) -> None:
        """All that is there now, as if it had just come."""
        for table_id, rows in store.get_tables().items():
            for row_id, cells in rows.items():
                for cell_id, cell in cells.items():
                    self.cell_changed(store, table_id, row_id, cell_id, cell, MISSING)
        for value_id, value in store.get_values().items():
            self.value_changed(store, value_id, value, MISSING)

    def _print(self, ids: tuple[str, ...], new: Any, old: Any) -> None:
        try:
            print(f"{' '.join(map(shown_id, ids))}: {shown_cell(old)} -> {shown_cell(new)}", flush=True)
        except OSError:
            self.ended.set()


class _Status:
    """Says on stderr when the path is live, and why it no longer is: once for each loss, however often it is tried."""

    def __init__(self, url: str) -> None:
        self._url = printable(url)
        self._has_complained = False

    def changed(self, _: object, status: SyncStatus) -> None:
        """Be told of a status."""
        if status is SyncStatus.LIVE:
            self._has_complained = False
            self._say(f"live on {self._url}")

    def complain(self, error: Exception) -> None:
        """Be told of an error."""
        is_loss = isinstance(error, ConnectionLostError)
        if not (is_loss and self._has_complained):
            self._say(printable(str(error)) + ("; trying again" if is_loss else ""))
        self._has_complained = self._has_complained or is_loss

    def _say(self, what: str) -> None:
        with suppress(OSError):
            print(f"mergesync watch: {what}", file=sys.stderr, flush=True)


# --- get, set, delete


async def get(arguments: argparse.Namespace) -> int:
    """Print a path's content, or a part of it, as JSON; 1 if there is no such part."""
    async with synced(arguments) as synchronizer:
        found = _find(synchronizer.store, _ids(arguments), arguments.value)
    if found is MISSING:
        raise CliError("there is no such thing on this path")
    print(_printable_json(found))
    return OK


def _find(store: MergeableStore, ids: list[str], value_id: str | None) -> Any:
    if value_id is not None:
        return store.get_value(value_id)
    if len(ids) == 3:
        return store.get_cell(*ids)
    if len(ids) == 2:
        return store.get_row(*ids) or MISSING
    if len(ids) == 1:
        return store.get_table(*ids) or MISSING
    return list(store.get_content())


def _printable_json(thing: Any) -> str:
    """JSON for people and programs: indented, and nothing in it steers a terminal."""
    return "\n".join(map(printable, json.dumps(thing, ensure_ascii=False, indent=2).split("\n")))


async def set_(arguments: argparse.Namespace) -> int:
    """Set a cell or a value, and make sure that the server has it."""
    ids, value_id, text = _ids(arguments), None, arguments.json
    if arguments.value is not None:
        value_id, value_text = arguments.value
        text = value_text if text is None else None
    if text is None or len(ids) != (0 if value_id is not None else 3):
        raise CliError("give TABLE ROW CELL JSON, or --value ID JSON", USAGE)
    try:
        cell = loads(text)
    except ValueError:
        raise CliError(f"{printable(text)} is not JSON; a string needs its quotes: '\"dog\"'", USAGE) from None

    def change(store: MergeableStore) -> None:
        if value_id is not None:
            store.set_value(value_id, cell)
        else:
            table_id, row_id, cell_id = ids
            store.set_cell(table_id, row_id, cell_id, cell)

    return await _edit(arguments, change, lambda store: shown_cell(_find(store, ids, value_id)) == shown_cell(cell))


async def delete(arguments: argparse.Namespace) -> int:
    """Delete a table, a row, a cell or a value; 1 if there is none."""
    ids = _ids(arguments)
    if (arguments.value is None) is (not ids):
        raise CliError("give TABLE [ROW [CELL]], or --value ID", USAGE)

    def change(store: MergeableStore) -> None:
        if _find(store, ids, arguments.value) is MISSING:
            raise CliError("there is no such thing on this path")
        if arguments.value is not None:
            store.del_value(arguments.value)
        elif len(ids) == 3:
            store.del_cell(ids[0], ids[1], ids[2], True)
        elif len(ids) == 2:
            store.del_row(*ids)
        else:
            store.del_table(*ids)

    return await _edit(arguments, change, lambda store: _find(store, ids, arguments.value) is MISSING)


async def _edit(
    arguments: argparse.Namespace,
    change: Callable[[MergeableStore], None],
    holds: Callable[[MergeableStore], bool],
) -> int:
    async with synced(arguments) as synchronizer:
        try:
            change(synchronizer.store)
        except MergesyncError as error:
            raise CliError(printable(str(error)), USAGE) from error
        # The server answers in order: once it has compared hashes again, it has the change, or has put it right.
        synchronizer.stop_sync()
        await synchronizer.start_sync()
        if not holds(synchronizer.store):
            print("mergesync: the server did not take it, or somebody changed it right after", file=sys.stderr)
            return FAILED
    return OK


def _ids(arguments: argparse.Namespace) -> list[str]:
    given = (arguments.table, arguments.row, arguments.cell)
    return [id_ for id_ in given if id_ is not None]


@asynccontextmanager
async def synced(arguments: argparse.Namespace) -> AsyncIterator[WsSynchronizer]:
    """A synchronizer that holds what the server holds; the whole visit must be over within the time limit."""
    problems: list[Exception] = []
    seconds: float = arguments.timeout
    synchronizer: WsSynchronizer | None = None
    try:
        async with asyncio.timeout(seconds):
            synchronizer = await create_ws_synchronizer(
                MergeableStore(), arguments.url, on_ignored_error=problems.append
            )
            await synchronizer.start_sync()
            yield synchronizer
            await synchronizer.destroy()
    except ConnectionLostError as error:
        raise CliError(printable(str(error))) from error
    except TimeoutError:
        last = f"; {printable(str(problems[-1]))}" if problems else ""
        raise CliError(f"no answer from {printable(arguments.url)} within {seconds:g} s{last}") from None
    finally:
        if synchronizer is not None:
            with suppress(MergesyncError):
                await synchronizer.destroy()
