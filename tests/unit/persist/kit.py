"""A persister in memory that fails when told to, and what else the tests of this storey share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mergesync.persist import Persister
from mergesync.store import MergeableStore
from tests.support import TIMEOUT_SECONDS

NOW = 1704067200000


class MemoryPersister(Persister):
    """Keeps what it is given; `trouble` raises in `_load` and `_save`, `gate` holds them up."""

    debounce_seconds = 0.0

    def __init__(self, store: MergeableStore, stored: Any = None) -> None:
        self.errors: list[Exception] = []
        super().__init__(store, path_id="p", on_ignored_error=self.errors.append)
        self.stored = stored
        self.edits: list[Any] = []
        self.edited = asyncio.Event()
        self.saved: list[Any] = []
        self.load_trouble: list[Exception] = []
        self.save_trouble: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.kept_aside = 0
        self.closed = 0
        self.running = 0

    async def _load(self) -> Any:
        await self._pass_gate()
        if self.load_trouble:
            raise self.load_trouble.pop(0)
        return self.stored

    async def _save(self, body: Any) -> None:
        await self._pass_gate()
        if self.save_trouble:
            raise self.save_trouble.pop(0)
        self.saved.append(body)
        self.stored = body

    async def _pass_gate(self) -> None:
        self.running += 1
        assert self.running == 1, "two at a time"
        await self.gate.wait()
        await asyncio.sleep(0)
        self.running -= 1

    async def _wait_for_edit(self) -> None:
        await self.edited.wait()
        self.edited.clear()

    async def _load_edit(self) -> Any:
        edit = self.edits.pop(0) if self.edits else None
        if isinstance(edit, Exception):
            raise edit
        return edit

    async def _keep_aside(self) -> None:
        self.kept_aside += 1

    async def _close(self) -> None:
        self.closed += 1


class IncrementalPersister(MemoryPersister):
    """The same, wanting changes."""

    incremental = True


def new_store(name: str = "s1", now: int = NOW) -> MergeableStore:
    """A store with a clock that stands."""
    return MergeableStore(name, get_now=lambda: now)


def pet_store(name: str = "s1") -> MergeableStore:
    """A store with a few things of each kind in it."""
    store = new_store(name)
    store.set_row("pets", "fido", {"species": "dog", "age": 3, "good": True, "tags": ["a", {"b": None}]})
    store.set_cell("pets", "felix", "species", "cat").del_cell("pets", "felix", "species")
    return store.set_values({"open": True, "name": "shöp😀", "price": 1.5, "nothing": None, "o": {"a": 1}})


async def settle(seconds: float = 0.0) -> None:
    """Let what is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(seconds)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
