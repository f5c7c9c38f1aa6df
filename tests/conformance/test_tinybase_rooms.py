"""Hooks of a server and clients that are stock TinyBase: who is refused, what they end with, what others see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mergesync import (
    Access,
    Changes,
    Client,
    ClientInfo,
    Identity,
    MergeableStore,
    RefusedChangesError,
    RefusedError,
    ServerPath,
    allow_write,
    create_ws_server,
)
from mergesync.net.listening import ListeningWsServer
from tests.support import eventually

from .nodepeer import NodeError, NodePeer, NodeStore
from .support import WAIT_SECONDS, canonical, until


class Shop:
    """A server, and what was reported."""

    def __init__(self, server: ListeningWsServer, errors: list[Exception]) -> None:
        self.server = server
        self.errors = errors

    def url(self, path: str = "shop", token: str = "") -> str:
        """Where a path is."""
        return f"ws://127.0.0.1:{self.server.port}/{path}" + (f"?token={token}" if token else "")

    def store(self, path_id: str = "shop") -> MergeableStore:
        """What the server has of a path."""
        path = self.server.path(path_id)
        assert path is not None
        return path.store

    async def settle(self, *stores: NodeStore, path_id: str = "shop") -> None:
        """All of them hold what the server holds, stamps and hashes included."""

        async def same() -> bool:
            ours = canonical(self.store(path_id).get_mergeable_content())
            return all([canonical(await store.mergeable()) == ours for store in stores])

        await until(same, lambda: f"not equal: {self.store(path_id).get_mergeable_content()}", WAIT_SECONDS)


@asynccontextmanager
async def shop(**hooks: Any) -> AsyncIterator[Shop]:
    """A server with hooks."""
    errors: list[Exception] = []
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append, **hooks) as server:
        yield Shop(server, errors)


def named(info: ClientInfo) -> Identity:
    """Everybody is who they say."""
    if info.token is None:
        raise RefusedError("who are you?")
    return Identity(info.token)


PRICES = ["setRow", "pets", "fido", {"name": "Fido", "price": 5}]


def check_price(path: ServerPath, client: Client, changes: Changes) -> None:
    """Prices are above zero, and below a hundred."""
    for row in changes.tables.get("pets", {}).values():
        price = row.get("price")
        if isinstance(price, int) and price < 0:
            raise RefusedError("a price below zero")
        if isinstance(price, int) and price > 99:
            row["price"] = 99


async def check_price_later(path: ServerPath, client: Client, changes: Changes) -> None:
    """The same, async."""
    check_price(path, client, changes)


@pytest.mark.parametrize("on_changes", [check_price, check_price_later], ids=["plain", "async"])
async def test_refused_changes(node: NodePeer, on_changes: Any) -> None:
    """The others never see the refused value; all end equal, the one who wrote it as well; edits likewise."""
    async with shop(on_changes=on_changes) as s:
        writer, other = await node.store("writer"), await node.store("other")
        await writer.connect(s.url())
        watching = await other.connect(s.url(), record=True)
        await writer.ops(PRICES)
        await s.settle(writer, other)
        await writer.ops(["setRow", "pets", "fido", {"name": "Refused", "price": -76543210}])
        await eventually(lambda: s.errors)
        await s.settle(writer, other)
        assert await writer.content() == [{"pets": {"fido": {"name": "Fido", "price": 5}}}, {}]
        await writer.ops(["setCell", "pets", "fido", "price", 98765432101])
        await s.settle(writer, other)
        assert await writer.content() == [{"pets": {"fido": {"name": "Fido", "price": 99}}}, {}]
        (error,) = s.errors
        assert isinstance(error, RefusedChangesError)
        assert (error.count, error.reasons) == (2, ("a price below zero",))
        heard = str(await watching.stats())
        assert "Fido" in heard
        assert not [word for word in ("Refused", "-76543210", "98765432101") if word in heard]


async def test_refused_changes_of_a_client_that_was_away(node: NodePeer) -> None:
    """What it did meanwhile is pulled: each row stands or falls by the rules, and it ends equal."""
    rules = [allow_write("messages", owner="author"), allow_write("pets", cell_id="price")]
    async with shop(authorize=named, rules=rules) as s, s.server.open_path("shop") as path:
        path.store.set_row("messages", "1", {"author": "bob", "text": "hi"})
        store, other = await node.store("store"), await node.store("other")
        await store.ops(
            ["setRow", "messages", "1", {"author": "ann", "text": "taken over"}],
            ["setRow", "messages", "2", {"author": "ann", "text": "mine"}],
            ["setRow", "pets", "fido", {"price": 5}],
            ["setRow", "pets", "felix", {"price": 5, "name": "Felix"}],
        )
        await other.connect(s.url(token="bob"))
        await store.connect(s.url(token="ann"))
        await s.settle(store, other)
        assert await other.content() == [
            {
                "messages": {"1": {"author": "bob", "text": "hi"}, "2": {"author": "ann", "text": "mine"}},
                "pets": {"fido": {"price": 5}},
            },
            {},
        ]
        path.store._check()


@pytest.mark.parametrize("overwrite", [True, False])
async def test_who_may_only_read(node: NodePeer, overwrite: bool) -> None:
    """Its edits reach nobody; it ends with the server's values, or keeps its own until somebody writes anew."""

    def admit(path_id: str, client: Client) -> Access:
        return Access(write=client.identity == Identity("ann"), overwrite=overwrite)

    async with shop(authorize=named, admit=admit) as s:
        writer, reader = await node.store("writer"), await node.store("reader")
        await reader.ops(["setValue", "offline", 1])
        await writer.connect(s.url(token="ann"))
        await reader.connect(s.url(token="bob"))
        await writer.ops(PRICES)
        await reader.wait(tables={"pets": {"fido": {"name": "Fido", "price": 5}}})
        await reader.ops(["setCell", "pets", "fido", "price", 6])
        await eventually(lambda: len(s.errors) >= 2)
        if overwrite:
            await s.settle(writer, reader)
            assert await reader.content() == [{"pets": {"fido": {"name": "Fido", "price": 5}}}, {}]
        else:
            assert await reader.content() == [{"pets": {"fido": {"name": "Fido", "price": 6}}}, {"offline": 1}]
            await asyncio.sleep(0.01)  # in one millisecond the ids of clients decide which write is newer
            await writer.ops(["setCell", "pets", "fido", "price", 7])
            await reader.wait(tables={"pets": {"fido": {"name": "Fido", "price": 7}}})
        assert s.store().get_values().get("offline") is None
        assert {type(error) for error in s.errors} == {RefusedChangesError}


async def test_who_may_only_write(node: NodePeer) -> None:
    """It starts as on an empty path, and what it writes is merged."""

    def admit(path_id: str, client: Client) -> Access:
        return Access(read=False)

    async with shop(admit=admit) as s, s.server.open_path("shop") as path:
        path.store.set_value("secret", 1)
        store = await node.store("store")
        await store.ops(["setValue", "letter", 1])
        client = await store.connect(s.url(), record=True)
        await store.ops(["setValue", "another", 2])
        await eventually(lambda: path.store.get_values() == {"secret": 1, "letter": 1, "another": 2})
        assert await store.content() == [{}, {"letter": 1, "another": 2}]
        assert "secret" not in str(await client.stats())


async def test_refused_at_the_door(node: NodePeer) -> None:
    """Creating a synchronizer fails, and the next one with a token does not."""
    async with shop(authorize=named) as s:
        store = await node.store("store")
        with pytest.raises(NodeError):
            await store.connect(s.url())
        node.take_unhandled()
        await store.connect(s.url(token="ann"), name="second")
        await store.ops(PRICES)
        await s.settle(store)


async def test_a_refused_channel(node: NodePeer) -> None:
    """Creating its synchronizer fails; the other channel of the socket goes on."""

    def admit(path_id: str, client: Client) -> Access:
        if path_id.endswith("bad"):
            raise RefusedError("bad")
        return Access()

    async with shop(admit=admit) as s:
        socket = await node.socket("socket", s.url("base"))
        good, bad = await node.store("good"), await node.store("bad")
        await good.connect(socket=socket, channel="good")
        with pytest.raises(NodeError):
            await bad.connect(socket=socket, channel="bad", timeout=0.3)
        node.take_unhandled()
        await good.ops(PRICES)
        await s.settle(good, path_id="base/good")
        assert s.server.get_path_ids() == ["base/good"]
        assert s.server.get_stats().connections == 1


async def test_what_hooks_and_the_server_write(node: NodePeer) -> None:
    """A client gets it like anything else, and the server has what the client writes."""

    async def on_join(path: ServerPath, client: Client) -> None:
        path.store.set_value("clients", len(path.clients))

    async with shop(on_join=on_join) as s, s.server.open_path("shop") as path:
        one, other = await node.store("one"), await node.store("other")
        await one.connect(s.url())
        await one.wait(values={"clients": 1})
        await other.connect(s.url())
        await one.wait(values={"clients": 2})
        with path.transaction():
            path.store.set_row("pets", "fido", {"name": "Fido"}).del_value("clients")
        await other.wait(content=[{"pets": {"fido": {"name": "Fido"}}}, {}])
        await s.settle(one, other)
        version = path.version
        await one.ops(["setCell", "pets", "fido", "name", "Rex"])
        await eventually(lambda: path.store.get_cell("pets", "fido", "name") == "Rex")
        assert path.version != version
