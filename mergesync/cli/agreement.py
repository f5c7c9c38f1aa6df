"""`mergesync verify --server`: whether a client of a running server gets what is stored, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from mergesync.cli.checking import Checked, check_tree
from mergesync.cli.common import shown_id
from mergesync.cli.remote import synced
from mergesync.cli.storage import Persisters, Storage, opened, required
from mergesync.exceptions import PersisterError
from mergesync.limits import VERIFY_GRACE_SECONDS
from mergesync.store import MergeableStore
from mergesync.store.hlc import latest_allowed
from mergesync.sync.server_connection import path_of
from mergesync.system import get_now

__all__ = ["check_agreement", "path_of_url"]

_AGAIN_SECONDS: Final = 0.1

_Leaves: TypeAlias = Mapping[tuple[str, ...], tuple[Any, str]]
"""The wire form and stamp of each cell and value, by where it is."""


def path_of_url(url: str) -> str:
    """The path id that a URL stands for."""
    _, slash, target = url.partition("://")[2].partition("/")
    return path_of(slash + target)


async def check_agreement(storage: Storage, arguments: argparse.Namespace) -> Checked:
    """Compare a path of a running server with what is stored for it, while others may go on writing.

    All that the server gives at first must come to be stored, and all that is stored at first must come from the
    server; a newer stamp than expected is as good.

    Args:
        storage: what the server ought to keep its data in; nothing is written.
        arguments: with the URL and the time limit.
    """
    path_id = path_of_url(arguments.url)
    persisters = required(storage.persisters(lock=False))
    async with opened(persisters), synced(arguments) as synchronizer:
        content = synchronizer.store.get_mergeable_content()
        found = check_tree(content, latest_allowed(get_now()), with_hashes=True)
        try:
            found.problems += await _differences(persisters, path_id, synchronizer.store)
        except PersisterError as error:
            found.problems.append(f"cannot be read: {error}")
    return found


async def _differences(persisters: Persisters, path_id: str, store: MergeableStore) -> list[str]:
    """What either side lacks of what the other had at first, and still lacks when its time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + VERIFY_GRACE_SECONDS
    served = served_first = _leaves_of(store)
    stored = stored_first = await _stored(persisters, path_id)
    while True:
        differences = [
            *_lacks(stored, served_first, "is served and not stored"),
            *_lacks(served, stored_first, "is stored and not served"),
        ]
        if not differences or loop.time() > deadline:
            return differences
        await asyncio.sleep(_AGAIN_SECONDS)
        served, stored = _leaves_of(store), await _stored(persisters, path_id)


async def _stored(persisters: Persisters, path_id: str) -> _Leaves:
    persister = persisters(path_id)
    try:
        await persister.load()
        return _leaves_of(persister.store)
    finally:
        await persister.destroy()


def _lacks(leaves: _Leaves, wanted: _Leaves, what: str) -> Iterator[str]:
    for where, (wire, hlc) in wanted.items():
        has_wire, has_hlc = leaves.get(where, (None, None))
        if has_hlc is None or has_hlc < hlc:
            yield f"{' '.join(map(shown_id, where))} {what}"
        elif has_hlc == hlc and has_wire != wire:
            yield f"{' '.join(map(shown_id, where))} is stored and served with different values under one stamp"


def _leaves_of(store: MergeableStore) -> _Leaves:
    tables, values = store.get_mergeable_content()
    leaves: dict[tuple[str, ...], tuple[Any, str]]
    leaves = {("values", value_id): (wire, hlc) for value_id, (wire, hlc, _) in values[0].items()}
    for table_id, table in tables[0].items():
        for row_id, row in table[0].items():
            for cell_id, (wire, hlc, _) in row[0].items():
                leaves["tables", table_id, row_id, cell_id] = (wire, hlc)
    return leaves
