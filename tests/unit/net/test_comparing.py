"""Comparing ranges of rows over real sockets: joins in pages, lost links, large transactions, servers that cannot."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from mergesync import MergeableStore, create_ws_server
from mergesync.net import durability
from mergesync.sync import comparison, packing, payloads, window
from mergesync.sync.messages import MessageType
from mergesync.sync.packing import unpacked_json
from mergesync.sync.subprotocols import EXTENDED
from tests.support import eventually, within

from .kit import Backend, Proxy, raw, synced, url_of

# ruff: noqa: SIM117 - what is inside the server stands inside it

ROWS = 2_000
PAGE_BYTES = 20_000


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (comparison, window, durability):
        monkeypatch.setattr(module, "MAX_PAGE_BYTES", PAGE_BYTES)


def fill(store: MergeableStore, count: int = ROWS) -> MergeableStore:
    """Rows of some hundred bytes."""
    with store.transaction():
        for number in range(count):
            store.set_row("t", f"r{number}", {"c": number, "text": "x" * 40})
    return store


class Talk:
    """What a client says in TinyBase's messages."""

    def __init__(self) -> None:
        self.kinds: list[int] = []

    def __call__(self, address: str, request_id: str | None, kind: int, body: Any) -> None:
        self.kinds.append(kind)


async def test_both_ways_in_pages(errors: list[Exception]) -> None:
    """Two clients that have had nothing of each other; no diff of TinyBase's is asked for."""
    talk = Talk()
    one, two = fill(MergeableStore()), MergeableStore()
    pages = 0

    def count(_: MergeableStore) -> None:
        nonlocal pages
        pages += 1

    two.add_did_finish_transaction_listener(count)
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        options: Any = {"on_ignored_error": errors.append, "on_send": talk}
        async with synced(one, url_of(server), **options), synced(two, url_of(server), **options) as late:
            assert two.get_mergeable_content_hashes() == one.get_mergeable_content_hashes()
            assert len(two.get_row_ids("t")) == ROWS
            assert pages > ROWS * 100 // PAGE_BYTES
            assert late.status == "live"
    asked = {MessageType.GET_TABLE_DIFF, MessageType.GET_ROW_DIFF, MessageType.GET_CELL_DIFF}
    assert not asked & set(talk.kinds)
    assert errors == []


async def test_a_link_that_is_lost_near_the_end(errors: list[Exception]) -> None:
    """What came before it was lost is not sent again."""
    store = MergeableStore()
    async with create_ws_server("127.0.0.1", 0) as server, synced(fill(MergeableStore()), url_of(server)):
        async with Proxy(lambda: server.port) as proxy:
            came = []

            def note(_: MergeableStore) -> None:
                came.append(len(store.get_row_ids("t")))
                if len(came) > 1 and came[-2] < 0.9 * ROWS <= came[-1]:
                    proxy.cut()

            store.add_did_finish_transaction_listener(note)
            again = 0

            def rows(_: MergeableStore, table_id: str, row_id: str) -> None:
                nonlocal again
                again += len(came) > 0 and came[-1] >= 0.9 * ROWS

            store.add_row_listener("t", None, rows)
            async with synced(store, proxy.url, on_ignored_error=errors.append) as synchronizer:
                await eventually(lambda: synchronizer.client.connections == 2 and synchronizer.status == "live")
            assert len(store.get_row_ids("t")) == ROWS
            assert again <= 0.15 * ROWS


async def test_a_large_transaction(errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit a message is given in pages, and is durable only when all of it is."""
    monkeypatch.setattr(payloads, "MAX_MESSAGE_BYTES", 2 * PAGE_BYTES)
    backend = Backend()
    one, two = MergeableStore(), MergeableStore()
    async with create_ws_server("127.0.0.1", 0, backend, on_ignored_error=errors.append) as server:
        async with synced(one, url_of(server)) as writer, synced(two, url_of(server)):
            fill(one)
            await within(writer.durable())
            stored = json.loads(backend.stored["p"])
            assert len(stored[0][0]["t"][0]) == ROWS
            await eventually(lambda: two.get_mergeable_content_hashes() == one.get_mergeable_content_hashes())
    assert errors == []


async def test_a_relay(errors: list[Exception]) -> None:
    """It has nobody who can compare; TinyBase's way is gone."""
    talk = Talk()
    async with create_ws_server("127.0.0.1", 0, relay=True, on_ignored_error=errors.append) as server:
        one, two = fill(MergeableStore(), 10), MergeableStore()
        options: Any = {"on_ignored_error": errors.append, "request_timeout_seconds": 0.2}
        async with synced(one, url_of(server), **options), synced(two, url_of(server), on_send=talk, **options):
            await eventually(lambda: len(two.get_row_ids("t")) == 10)
    assert MessageType.GET_TABLE_DIFF in talk.kinds


async def test_what_is_no_comparison(errors: list[Exception]) -> None:
    """It is answered with an error, and reported once with path and client; the socket stays."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        async with raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            await socket.send('X\n["1","compare",[]]')
            assert await within(socket.recv()) == 'X\n["1","error",["invalid","not a comparison of ranges"]]'
            await socket.send('X\n["2","compare",[[],null,[]]]')
            answer = json.loads(str(await within(socket.recv())).partition("\n")[2])
            assert answer[:2] == ["2", "ok"]
            assert answer[2][:-1] == [[{}], {}, [], None, [], [0, 0]]
        (error,) = errors
        assert error.path_id == "p"  # type: ignore[attr-defined]
        assert error.client_id is not None  # type: ignore[attr-defined]


async def test_a_row_that_does_not_fit(errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of its own, and the socket stays."""
    store = MergeableStore().set_row(
        "t", "r", {"many": "x" * 1500, "random": "".join(map(str, random.sample(range(10**6), 100)))}
    )
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        async with synced(store, url_of(server)), raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            for module in (payloads, packing):  # what does not fit when it is compressed, and what does not before
                with monkeypatch.context() as patch:
                    patch.setattr(module, "MAX_MESSAGE_BYTES", 500)
                    await socket.send('X\n["1","compare",[[],null,[]]]')
                    assert await within(socket.recv()) == 'X\n["1","error",["limit","a row is too large to be sent"]]'
            assert len(errors) == 2


async def test_while_a_path_is_loaded(errors: list[Exception]) -> None:
    """A comparison waits until it is."""
    backend = Backend()
    backend.stored["p"] = json.dumps(fill(MergeableStore(), 10).get_mergeable_content())
    backend.load_gate.clear()
    async with create_ws_server("127.0.0.1", 0, backend, on_ignored_error=errors.append) as server:
        async with raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            await socket.send('X\n["1","compare",[[],null,[]]]')
            await socket.send('X\n["2","hello",null]')
            assert str(await within(socket.recv())).startswith('X\n["2","ok"')
            backend.load_gate.set()
            answer = json.loads(str(await within(socket.recv())).partition("\n")[2])
            assert len(unpacked_json(answer[2][0])[0]["t"][0]) == 10
            await asyncio.sleep(0)
    assert errors == []
