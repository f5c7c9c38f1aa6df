"""Whatever a store holds, it comes back from either storage, however it was saved: at once or change by change."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergesync.persist import JsonFilePersister, Persister, SqlitePersister
from mergesync.store import MergeableStore
from tests.properties.strategies import bodies, names_empties, operations
from tests.properties.support import apply, new_store


def change(store: MergeableStore, step: Any) -> None:
    """Merge a body, or run an operation."""
    if isinstance(step, list):
        store.apply_mergeable_changes(step)
    else:
        apply(store, step)


def leaves_only(body: list[Any]) -> list[Any]:
    """A body without the stamps of containers, and without containers that have no leaves."""
    tables: dict[str, Any] = {}
    for table_id, table in body[0][0].items():
        for row_id, row in table[0].items():
            if row[0]:
                tables.setdefault(table_id, [{}])[0][row_id] = [row[0]]
    return [[tables], [body[1][0]], 1]


MakePersister: TypeAlias = Callable[[MergeableStore], Persister]


async def loaded(make_persister: MakePersister) -> Any:
    """What is loaded into an empty store."""
    reader = make_persister(new_store("reader"))
    await reader.load()
    assert reader.status.value == "idle", "loading alone leaves nothing to save"
    await reader.destroy()
    return reader.store.get_mergeable_content()


def in_both_storages(check: Callable[[MakePersister], Coroutine[Any, Any, Any]]) -> tuple[Any, Any]:
    """What a check gives for JSON and for SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        json_file, database = Path(folder, "s.json"), Path(folder, "s.db")
        return (
            asyncio.run(check(lambda store: JsonFilePersister(store, json_file))),
            asyncio.run(check(lambda store: SqlitePersister(store, database, "p"))),
        )


def untraced(content: Any, steps: list[Any]) -> Any:
    """Content with the hashes that it has by itself, where bodies left traces in them, which SQLite does not keep."""
    if not any(isinstance(step, list) and names_empties(step) for step in steps):
        return content
    return new_store("other").apply_mergeable_changes([*content, 1]).get_mergeable_content()


@settings(max_examples=25, deadline=None)
@given(st.lists(bodies() | operations(), min_size=1, max_size=5))
@example([[[{"c": [{}, ""]}, "----------------"], [{}], 1], ("set_cell", "c", "a", "a", None)])
def test_a_whole_store_comes_back(steps: list[Any]) -> None:
    """Stamps, hashes, container stamps, odd ids and odd cells, from JSON and from SQLite; and they agree."""

    async def check(make_persister: MakePersister) -> Any:
        writer = make_persister(new_store("writer"))
        for step in steps:
            change(writer.store, step)
        await writer.start_auto_persisting()
        await writer.destroy()
        content = await loaded(make_persister)
        assert untraced(content, steps) == untraced(writer.store.get_mergeable_content(), steps)
        assert isinstance(writer, SqlitePersister) or content == writer.store.get_mergeable_content()
        return untraced(content, steps)

    json_content, sqlite_content = in_both_storages(check)
    assert json_content == sqlite_content


@settings(max_examples=25, deadline=None)
@given(st.lists(bodies().map(leaves_only) | operations(), min_size=1, max_size=5), st.booleans())
def test_change_by_change(steps: list[Any], flush_each: bool) -> None:
    """Saving only what changed adds up to the whole store; no listener hears of stamps of containers alone."""

    async def check(make_persister: MakePersister) -> Any:
        writer = make_persister(new_store("writer"))
        await writer.load()
        for step in steps:
            change(writer.store, step)
            if flush_each:
                await writer.flush()
        await writer.flush()
        await writer.destroy()
        content = await loaded(make_persister)
        assert content == writer.store.get_mergeable_content()
        return content

    json_content, sqlite_content = in_both_storages(check)
    assert json_content == sqlite_content
