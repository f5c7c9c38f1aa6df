"""Stores too large for one frame, with TinyBase's own client: it gets them from our server, and ours gets its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mergesync import MergeableStore, create_ws_server
from mergesync.net.listening import ListeningWsServer
from mergesync.persist.base import Persister
from mergesync.sync import answering, exchange
from tests.unit.net.kit import url_of

from .nodepeer import NodePeer, NodeStore

TEXT = "x" * 1000
LARGE = 17_000
"""Rows of more than a kilobyte: more than a frame holds."""
SECONDS = 60.0


class Nowhere(Persister):
    """Gives a path a store that is there already."""

    async def _load(self) -> Any:
        return None

    async def _save(self, body: Any) -> None:
        pass


def fill(store: MergeableStore, table_id: str, count: int) -> None:
    """Rows of a kilobyte."""
    with store.transaction():
        for number in range(count):
            store.set_row(table_id, f"r{number}", {"c": number, "text": TEXT})


async def fill_node(store: NodeStore, table_id: str, count: int) -> None:
    """The same in TinyBase."""
    for first in range(0, count, 1000):
        numbers = range(first, min(first + 1000, count))
        await store.ops(
            ["transaction", [["setRow", table_id, f"own{number}", {"c": number, "text": TEXT}] for number in numbers]]
        )


@asynccontextmanager
async def serve(store: MergeableStore, errors: list[Exception]) -> AsyncIterator[ListeningWsServer]:
    """A server of which every path has this store."""
    server = create_ws_server("127.0.0.1", 0, lambda _: Nowhere(store), on_ignored_error=errors.append)
    async with server as serving:
        yield serving


async def join(server: ListeningWsServer, theirs: NodeStore, ours: MergeableStore) -> None:
    """A client of TinyBase connects, and both end equal on that one socket."""
    client = await theirs.connect(url_of(server))
    deadline = asyncio.get_running_loop().time() + SECONDS
    while await theirs.hashes() != ours.get_mergeable_content_hashes():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    stats = await client.stats()
    assert (stats["connects"], stats["closes"]) == (1, [])
    await client.destroy()


async def test_the_server_holds_more_than_16_mib(node: NodePeer, errors: list[Exception]) -> None:
    """The client gets it part by part. From TinyBase's own server it gets nothing."""
    store, theirs = MergeableStore(), await node.store("theirs")
    fill(store, "t", LARGE)
    async with serve(store, errors) as server:
        await join(server, theirs, store)
    assert len(await theirs.call("getRowIds", "t")) == LARGE


async def test_the_client_holds_more_than_16_mib(node: NodePeer, errors: list[Exception]) -> None:
    """A table that the client alone has is asked for part by part. Its own server would have it closed with 1013."""
    store, theirs = MergeableStore().set_value("v", 1), await node.store("theirs")
    await fill_node(theirs, "own", LARGE)
    async with serve(store, errors) as server:
        await join(server, theirs, store)
    assert len(store.get_row_ids("own")) == LARGE


@pytest.mark.parametrize("mine", [[], ["t"], ["own"], ["own", "t"]])
async def test_parts(node: NodePeer, errors: list[Exception], monkeypatch: pytest.MonkeyPatch, mine: list[str]) -> None:
    """Whatever tables the client has itself: all of the server's, and all of its own, in many small parts."""
    for module, name, size_bytes in (
        (answering, "MAX_ANSWER_BYTES", 100_000),
        (answering, "MAX_PAGE_BYTES", 50_000),
        (answering, "MIN_ANSWER_BYTES", 20_000),
        (exchange, "MAX_ANSWER_BYTES", 100_000),
        (exchange, "PULLED_ROWS", 10),
    ):
        monkeypatch.setattr(module, name, size_bytes)
    store, theirs = MergeableStore(), await node.store("theirs")
    fill(store, "t", 300)
    fill(store, "other", 10)
    store.set_values({f"v{number}": TEXT for number in range(300)})
    for table_id in mine:
        await fill_node(theirs, table_id, 300)
    async with serve(store, errors) as server:
        await join(server, theirs, store)
    rows = {table_id: len(store.get_row_ids(table_id)) for table_id in sorted(store.get_table_ids())}
    own = {"own": 300} if "own" in mine else {}
    assert rows == {"other": 10, **own, "t": 600 if "t" in mine else 300}
    assert (await theirs.content())[0].keys() == store.get_tables().keys()
    assert errors == []
