"""Persisters that are watched: what they say is stored must be there, whatever happens afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from mergesync import MergeableStore, WsServer
from mergesync.exceptions import SaveError
from mergesync.persist import JsonFilePersister, SqlitePersister
from mergesync.persist.base import Persister
from mergesync.store.bodies import hlc_of
from mergesync.store.jsjson import parse
from mergesync.sync.admission import Leaf, leaves_of

if TYPE_CHECKING:
    from .world import World

__all__ = ["Durable", "WatchedJsonPersister", "WatchedSqlitePersister", "json_file", "stored_stamps"]

Durable: TypeAlias = dict[Leaf, str]
"""The greatest stamp of each leaf of a path that was said to be stored."""


def stamps_in(body: Any) -> Durable:
    """The stamp of each leaf of a body."""
    return {leaf: hlc_of(stamp) for leaf, stamp in leaves_of(body)}


def stored_stamps(world: World, path_id: str) -> Durable:
    """What would be there if the power was lost now."""
    if world.options.storage == "json":
        file = world.disk.synced_names.get(json_file(path_id))
        return {} if file is None or file.synced is None else stamps_in(parse(file.synced.decode()))
    with closing(sqlite3.connect(world.databases.file)) as database:
        cells = database.execute(
            "SELECT table_id, row_id, cell_id, hlc FROM mergesync_cells WHERE path = ?1 "
            "UNION ALL SELECT NULL, '', value_id, hlc FROM mergesync_values WHERE path = ?1",
            (path_id,),
        )
        return {(table_id, row_id, leaf_id): hlc for table_id, row_id, leaf_id, hlc in cells}


def json_file(path_id: str) -> str:
    """Where a path is on the disk."""
    return f"/data/{path_id}.json"


class _Watched(Persister):
    """Remembers what was said to be stored, and looks for it whenever something is loaded."""

    world: World
    server: WsServer | None  # whose it is; None for one that only looks

    async def load(self, initial_content: Any = None) -> None:
        if self.server is not None:
            holder = self.world.holders.setdefault((self.server, self.path_id or ""), self)
            if holder is not self:
                self.world.fail("double", f"{self.path_id}: loaded while another persister has it")
        durable = dict(self.world.durable.get(self.path_id or "", {}))
        failures = self.world.disk.failures
        try:
            await super().load(initial_content)
        except asyncio.CancelledError:  # nobody wants to know any more what there is
            self.world.unheard_failures += self.world.disk.failures - failures
            raise
        loaded = stamps_in(self.store.get_mergeable_content())
        for leaf, hlc in durable.items():
            if loaded.get(leaf, "") < hlc:
                self.world.fail("durable", f"{self.path_id}: {leaf} {hlc} was stored; {loaded.get(leaf)} is loaded")

    async def flush(self) -> None:
        before, durable = stamps_in(self.store.get_mergeable_content()), self._durable()
        await super().flush()
        _note(durable, before)

    async def destroy(self) -> None:
        was_saving = self.is_auto_saving
        try:
            await super().destroy()
        except SaveError:
            server = self.world.server
            # What is being removed need not be stored before.
            if server is not None and self.server is server and self.path_id not in server._life._removals:
                self.world.fail("unsaved", f"{self.path_id}: let go of what could not be stored")
            raise
        finally:
            self._let_go()
        if was_saving and self._unsaved:
            self.world.fail("unsaved", f"{self.path_id}: let go of what was not stored")

    def _let_go(self) -> None:
        if self.server is not None and self.world.holders.get((self.server, self.path_id or "")) is self:
            del self.world.holders[self.server, self.path_id or ""]

    async def remove(self) -> None:
        """What is stored goes, and with it all that was promised, even if part of it cannot be removed at once."""
        if self.server is not None and self.world.holders.get((self.server, self.path_id or ""), self) is not self:
            self.world.fail("double", f"{self.path_id}: removed while another persister has it")
        try:
            await super().remove()  # type: ignore[misc]
        finally:
            self._let_go()
            self.world.durable.pop(self.path_id or "", None)

    async def _save(self, body: Any) -> None:
        if self.world.application is not None:
            self.world.application.stored(self.path_id or "", body)
        await super()._save(body)  # type: ignore[safe-super]
        _note(self._durable(), stamps_in(body))

    def _durable(self) -> Durable:
        """What is stored, until it is removed."""
        return self.world.durable.setdefault(self.path_id or "", {})


def _note(durable: Durable, stored: Durable) -> None:
    for leaf, hlc in stored.items():
        durable[leaf] = max(hlc, durable.get(leaf, ""))


class WatchedJsonPersister(_Watched, JsonFilePersister):
    """A watched JSON file."""

    def __init__(
        self, world: World, server: WsServer | None, store: MergeableStore, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(store, *arguments, on_ignored_error=world.report, **options)
        self.world, self.server = world, server


class WatchedSqlitePersister(_Watched, SqlitePersister):
    """A watched path in a database."""

    def __init__(
        self, world: World, server: WsServer | None, store: MergeableStore, *arguments: Any, **options: Any
    ) -> None:
        super().__init__(store, *arguments, on_ignored_error=world.report, **options)
        self.world, self.server = world, server
