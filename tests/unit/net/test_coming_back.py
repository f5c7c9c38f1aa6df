"""Clients that were away and have written meanwhile: what they bring with their first words, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync import Access, MergeableStore, create_ws_server
from mergesync.exceptions import RefusedChangesError, RefusedError
from tests.support import eventually

from .kit import Proxy, away, synced

MINUTES = 60_000


@pytest.mark.parametrize("ahead_minutes", [0, 4, 6, 600])
async def test_a_clock_that_was_put_forward_meanwhile(ahead_minutes: int) -> None:
    """Nothing that was written is lost: what the server would refuse is stamped anew, in the server's time."""
    ignored: list[Exception] = []
    other = MergeableStore()
    ahead_milliseconds = 0
    store = MergeableStore(get_now=lambda: int(other._clock.now()) + ahead_milliseconds)
    async with (
        create_ws_server("127.0.0.1", 0, on_ignored_error=ignored.append) as server,
        Proxy(lambda: server.port) as proxy,
        synced(other, f"ws://127.0.0.1:{server.port}/p", on_ignored_error=ignored.append),
        synced(store, f"ws://127.0.0.1:{proxy.port}/p", on_ignored_error=ignored.append) as synchronizer,
    ):
        store.set_value("v", "before")
        await eventually(lambda: other.get_value("v") == "before" and not synchronizer.pending)
        async with away(proxy, synchronizer):
            ahead_milliseconds = ahead_minutes * MINUTES
            store.set_value("v", "while away")
        await eventually(lambda: other.get_value("v") == "while away")
        await eventually(lambda: synchronizer.status == "live" and not synchronizer.pending)
        assert store.get_value("v") == "while away"
    assert [error for error in ignored if isinstance(error, RefusedChangesError)] == []


async def test_what_a_hook_refuses() -> None:
    """It is asked once, and the writer hears what to keep."""
    seen: list[Any] = []

    def on_changes(path: Any, client: Any, changes: Any) -> None:
        seen.append((dict(changes.values), changes.pulled))
        if changes.values.get("v") == "bad":
            raise RefusedError("no")

    ignored: list[Exception] = []
    store = MergeableStore()
    async with (
        create_ws_server("127.0.0.1", 0, on_changes=on_changes) as server,
        server.open_path("p"),
        Proxy(lambda: server.port) as proxy,
        synced(store, f"ws://127.0.0.1:{proxy.port}/p", on_ignored_error=ignored.append) as synchronizer,
    ):
        store.set_value("v", "good")
        await eventually(lambda: not synchronizer.pending)
        async with away(proxy, synchronizer):
            store.set_value("v", "bad")
        await eventually(lambda: synchronizer.status == "live" and not synchronizer.pending)
        assert store.get_value("v") == "good"
        assert seen == [({"v": "good"}, False), ({"v": "bad"}, True)]


async def test_a_client_that_may_only_read() -> None:
    """What it wrote comes back as it was."""
    ignored: list[Exception] = []
    other, store = MergeableStore(), MergeableStore()
    async with (
        create_ws_server(
            "127.0.0.1", 0, admit=lambda _, client: Access(write=client.info.query.get("who") != "reader")
        ) as server,
        Proxy(lambda: server.port) as proxy,
        synced(other, f"ws://127.0.0.1:{server.port}/p"),
        synced(store, f"ws://127.0.0.1:{proxy.port}/p?who=reader", on_ignored_error=ignored.append) as synchronizer,
    ):
        other.set_value("v", "good")
        await eventually(lambda: store.get_value("v") == "good" and not synchronizer.pending)
        async with away(proxy, synchronizer):
            store.set_value("v", "bad")
        await eventually(lambda: store.get_mergeable_content() == other.get_mergeable_content())
        assert store.get_value("v") == "good"
