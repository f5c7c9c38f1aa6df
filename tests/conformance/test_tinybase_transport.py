"""Channels, fragments, paths, large stores and many clients, with stock TinyBase at the other end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mergesync import MergeableStore, NotSupportedError, WsClient, WsServer, create_ws_synchronizer
from mergesync.sync.messages import MessageType

from .nodepeer import NodePeer
from .support import (
    HOST,
    MIXED_ON_NODE,
    MIXED_ON_OURS,
    MIXED_ON_RELAY,
    NODE_ON_OURS,
    NODE_ON_RELAY,
    PYTHON_ON_NODE,
    PYTHON_ON_NODE_STORE,
    PYTHON_ON_SIMPLE,
    UNANSWERED_SECONDS,
    WAIT_SECONDS,
    AnyStore,
    Setup,
    World,
    settle,
    until,
)

every_server = pytest.mark.parametrize(
    "setup",
    [NODE_ON_OURS, NODE_ON_RELAY, MIXED_ON_RELAY, PYTHON_ON_NODE_STORE, PYTHON_ON_SIMPLE],
    ids=lambda s: s.server,
)


# --- channels


@every_server
async def test_channels(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Two channels of one socket are two paths, shared with plain clients and other sockets; one can be left."""
    async with World.open(setup, node, tmp_path) as world:
        sockets: dict[str, Any] = {
            "node": await node.socket("socket", world.url),
            "python": WsClient(world.url, multiplexed=True, timeout_seconds=5),
        }

        async def join(name: str, make: str, channel: str, *, plain: bool = False) -> None:
            store = await world.store(name, make)
            where = {"url": f"{world.url}/{channel}"} if plain else {"socket": sockets[make], "channel": channel}
            await world.connect(store, **where)

        await asyncio.gather(
            join("node one", "node", "one"),
            join("python one", "python", "one"),
            join("node plain one", "node", "one", plain=True),
            join("node two", "node", "two"),
            join("python two", "python", "two"),
            join("python plain two", "python", "two", plain=True),
        )
        ones, twos = ("node one", "python one", "node plain one"), ("node two", "python two", "python plain two")
        for name, store in list(world.stores.items()):
            await store.ops(["setValue", name, [name, "😀"]], ["setCell", "t", "r", "c", name], ["delValue", "none"])
        [tables, values] = await world.settle_of(*ones, path="shop/one")
        assert (tables["t"]["r"]["c"] in ones, set(values)) == (True, set(ones))
        [tables, values] = await world.settle_of(*twos, path="shop/two")
        assert (tables["t"]["r"]["c"] in twos, set(values)) == (True, set(twos))

        await world.leave("python two")
        await world.leave("node two")
        await world.stores["python plain two"].ops(["setValue", "two", 2])
        await world.stores["node one"].ops(["setValue", "one", 1])
        await world.stores["python one"].ops(["delRow", "t", "r"])
        try:
            await world.settle_of(*ones, path="shop/one", timeout=3.0)
        except AssertionError:
            # A TinyBase client closes its socket with 1007 if a frame for a channel that it has left was under way.
            assert (await sockets["node"].stats())["closes"] == [[1007, "tinybase:14"]]
            # Our server reports that.
            world.errors[:] = [error for error in world.errors if "closed with 1007 tinybase:14" not in str(error)]
            await world.leave("node one")
            sockets["node"] = await node.socket("another", world.url)
            await world.connect(world.stores["node one"], socket=sockets["node"], channel="one")
            await world.settle_of(*ones, path="shop/one")
        await join("node two again", "node", "two")
        await join("python two again", "python", "two")
        twos = ("node two again", "python two again", "python plain two")
        await world.stores["node two again"].ops(["setValue", "again", True])
        [_, values] = await world.settle_of(*twos, path="shop/two")
        assert (values["two"], values["again"]) == (2, True)


ODD_CHANNELS = [" ", "a b", "%2F", "...", "a/b/c", "é😀", "S", "x" * 1024, '"', "__proto__"]


@pytest.mark.parametrize("setup", [NODE_ON_OURS, PYTHON_ON_NODE_STORE], ids=str)
@pytest.mark.parametrize("base", ["base", "", "base/"])
async def test_odd_channel_ids(setup: Setup, node: NodePeer, tmp_path: Path, base: str) -> None:
    """Channel ids are taken literally, on any base; both makes mean the same path by them."""
    async with World.open(setup, node, tmp_path) as world:
        url = f"ws://{HOST}:{world.port}/{base}"
        sockets: dict[str, Any] = {
            "node": await node.socket("socket", url),
            "python": WsClient(url, multiplexed=True, timeout_seconds=5),
        }

        async def meet(channel: str) -> None:
            stores = [await world.store(f"{make} {channel}", make) for make in ("node", "python")]
            for store, make in zip(stores, sockets, strict=True):
                await store.ops(["setValue", make, channel])
            await asyncio.gather(
                *(
                    world.connect(store, socket=sockets[make], channel=channel)
                    for store, make in zip(stores, sockets, strict=True)
                )
            )
            await settle(stores, [{}, {"node": channel, "python": channel}])

        await asyncio.gather(*map(meet, ODD_CHANNELS))
        path = f"{base}/{ODD_CHANNELS[4]}" if base else ODD_CHANNELS[4]
        of_server = world.server_store(path)
        assert of_server is not None
        assert (await of_server.content())[1] == {"node": "a/b/c", "python": "a/b/c"}


# --- paths


@every_server
async def test_paths(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Both makes mean the same path by a URL: percent-encoding and slashes count, a query does not."""
    async with World.open(setup, node, tmp_path) as world:
        paths = ["", "/", "a", "a/", "a//b", "a%20b", "a%2520b", "%2F", "team/a", "team-a", "%C3%A9", "A"]

        async def meet(number: int, path: str) -> None:
            stores = [await world.store(f"{make} {number}", make) for make in ("node", "python")]
            await stores[0].ops(["setValue", "path", path])
            await asyncio.gather(
                world.connect(stores[0], url=f"ws://{HOST}:{world.port}/{path}"),
                world.connect(stores[1], url=f"ws://{HOST}:{world.port}/{path}?query={number}"),
            )
            await settle(stores, [{}, {"path": path}])

        await asyncio.gather(*(meet(number, path) for number, path in enumerate(paths)))
        if isinstance(world.server, WsServer):
            assert sorted(world.server.get_path_ids()) == sorted(paths)


# --- fragments


@pytest.mark.parametrize("size", [1, 53, 60, 61, 1000])
@pytest.mark.parametrize(
    "setup", [NODE_ON_OURS, MIXED_ON_RELAY, PYTHON_ON_NODE, PYTHON_ON_SIMPLE, MIXED_ON_NODE], ids=str
)
async def test_fragments(setup: Setup, node: NodePeer, tmp_path: Path, size: int) -> None:
    """Messages in pieces of any size arrive whole, both ways, with characters of one to four bytes in them."""
    text = "😀é漢x" * 60
    async with World.open(setup, node, tmp_path, fragment_size=size) as world:
        a, b = await world.two()
        await a.ops(["setCell", "t", "😀", "é", text], ["setValue", "a", {"漢": [text]}])
        await b.ops(["setValue", "b", "x" * 3000], ["setCell", "t", "r", "c", "short"])
        content = [{"t": {"😀": {"é": text}, "r": {"c": "short"}}}, {"a": {"漢": [text]}, "b": "x" * 3000}]
        await world.settle(content)
        await world.third()
        await world.settle(content)
        if isinstance(world.server, WsServer):
            # For a message of 3,050 bytes the least size is ceil(3.05) + 3.
            assert world.server.get_stats().receives > 3000 // max(size, 7)


@pytest.mark.parametrize("setup", [MIXED_ON_OURS, MIXED_ON_NODE], ids=str)
async def test_fragments_of_one_side(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A client that sends pieces and one that does not understand one another, on channels, too."""
    async with World.open(setup, node, tmp_path) as world:
        socket = await node.socket("socket", world.url.removesuffix("/shop"))
        a, b, c = await world.store("a", "python"), await world.store("b", "node"), await world.store("c", "node")
        await asyncio.gather(
            world.connect(a, fragment_size=11),
            world.connect(b),
            world.connect(c, socket=socket, channel="shop", fragment_size=13),
        )
        for store in (a, b, c):
            await store.ops(["setValue", store.name, "😀" * 500], ["setCell", "t", store.name, "c", {"x": "é" * 99}])
        await world.settle_merged()


# --- much


@pytest.mark.parametrize("setup", [NODE_ON_OURS, MIXED_ON_RELAY, MIXED_ON_NODE, PYTHON_ON_SIMPLE], ids=str)
async def test_large_store(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A store of 5,000 rows reaches a joiner, and then a single cell edited apart does, both ways."""
    tables = {"t": {f"row{n}": {"name": f"name {n}", "n": n} for n in range(5000)}}
    options: dict[str, Any] = {} if setup.is_ours or setup.server == "simple" else {"timeout": 2.0}
    async with World.open(setup, node, tmp_path, **options) as world:
        a = await world.store("a", setup.clients[0])
        b = await world.store("b", setup.clients[1])
        await a.ops(["setTables", tables])
        await world.connect(a)
        await world.connect(b, timeout=10)
        await world.settle([tables, {}])
        for away, here in ((b, a), (a, b)):
            await world.leave(away.name)
            await away.ops(["setCell", "t", "row17", "away", away.name], ["delRow", "t", f"row of {here.name}"])
            await here.ops(
                ["setCell", "t", "row18", "here", here.name], ["setRow", "t", f"row of {here.name}", {"x": 1}]
            )
            await world.rejoin(away.name, timeout=10)
            await world.settle_merged()


@every_server
async def test_long_strings(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Cells of megabytes pass, both ways: what one frame may hold, one frame holds."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two(timeout=5.0 if setup.answers else 2.0)
        await a.ops(["setValue", "a", "é" * 1_000_000])
        await b.ops(["setCell", "t", "r", "c", ["😀" * 500_000]])
        await world.settle([{"t": {"r": {"c": ["😀" * 500_000]}}}, {"a": "é" * 1_000_000}])


@pytest.mark.parametrize("setup", [PYTHON_ON_NODE_STORE, PYTHON_ON_SIMPLE], ids=str)
async def test_operations_are_not_for_tinybase(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A TinyBase server is sent no operation; what was sent to it is not pending, and nobody waits for its disk."""
    async with World.open(setup, node, tmp_path) as world:
        for channel in (None, "channel"):
            store = MergeableStore().set_value("v", 1)
            url = world.url if channel is None else f"ws://{HOST}:{world.port}/base"
            async with create_ws_synchronizer(
                store, url, channel, request_timeout_seconds=0.2, on_ignored_error=world.errors.append
            ) as synchronizer:
                assert (synchronizer.pending, synchronizer.server_id) == ([], None)
                with pytest.raises(NotSupportedError):
                    await synchronizer.durable()
                assert synchronizer.status == "live"


@pytest.mark.parametrize("setup", [MIXED_ON_OURS, MIXED_ON_NODE], ids=str)
async def test_many_clients(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Twenty clients of both makes that join at once, each with something of its own, all end with everything."""
    async with World.open(setup, node, tmp_path) as world:
        stores = [await world.store(f"client{n}", "node" if n % 2 else "python") for n in range(20)]
        for store in stores:
            await store.ops(["setRow", "t", store.name, {"name": store.name}], ["setValue", "last", store.name])
        await asyncio.gather(*(world.connect(store, timeout=5.0) for store in stores))
        await world.settle_merged()
        await asyncio.gather(*(store.ops(["setCell", "t", "all", "last", store.name]) for store in stores))
        await world.settle_merged()


async def test_a_server_that_gave_up(node: NodePeer, tmp_path: Path) -> None:
    """A TinyBase server that had no answer in time never asks again; a client of ours sees that and tells it."""
    store = MergeableStore().set_cell("t", "r", "c", 1)

    announced: list[str] = []

    def stand_still(address: str, _request_id: str | None, kind: int, _body: object) -> None:
        if kind == MessageType.CONTENT_HASHES:
            announced.append(address)
            if len(announced) == 1:
                store.start_transaction()  # while it is open, no questions are answered

    async with (
        World.open(PYTHON_ON_NODE_STORE, node, tmp_path) as world,
        create_ws_synchronizer(store, world.url, on_send=stand_still) as synchronizer,
    ):
        assert store.is_in_transaction()
        await asyncio.sleep(10 * UNANSWERED_SECONDS)  # it asks, and gives up, also where machines are slow
        store.finish_transaction()
        of_server = world.server_store()
        assert of_server is not None
        assert await of_server.content() == [{}, {}]
        await settle([of_server], [{"t": {"r": {"c": 1}}}, {}])
        assert (announced, synchronizer.status) == (["", "S"], "live")


# --- the cost of a join

CLIENTS_ON_PATH = 100
MAX_FRAMES_OF_A_JOIN = 8


async def frames_of_join(world: World, store: AnyStore, content: list[Any] | None = None) -> int:
    """How many frames our server sends from the moment a client connects until it has everything."""
    assert isinstance(world.server, WsServer)
    stats = world.server.get_stats
    before = stats().sends
    await world.connect(store)
    of_server = world.server_store()
    assert of_server is not None
    await settle([store, of_server], content)
    # The client announces its hashes when it has pulled; the server has answered that once it has received it.
    quiet = stats()
    await until(lambda: is_quiet(world, quiet.receives), stats, 1.0)
    return stats().sends - before


def is_quiet(world: World, receives: int) -> bool:
    """Whether nothing more has come in; told after a turn of the loop in which it could have."""
    assert isinstance(world.server, WsServer)
    return world.server.get_stats().receives == receives


@pytest.mark.parametrize("make", ["node", "python"])
async def test_join_cost(node: NodePeer, tmp_path: Path, make: str) -> None:
    """With 100 clients on a path, one more join sends at most 8 frames, whether it has nothing, all, or old things."""
    rows = {str(n): {"a": n, "b": f"name {n}"} for n in range(200)}
    async with World.open(NODE_ON_OURS, node, tmp_path) as world:
        clients = [await node.store(f"client{n}") for n in range(CLIENTS_ON_PATH)]
        await asyncio.gather(*(client.connect(world.url, timeout=WAIT_SECONDS) for client in clients))
        await clients[0].ops(["setTables", {"t": rows, "u": rows}], ["setValues", {"x": 1, "y": 2}])
        await node.wait_same(*clients, timeout=WAIT_SECONDS)

        joiner = await world.store("joiner", make)
        assert await frames_of_join(world, joiner) <= MAX_FRAMES_OF_A_JOIN, "it had nothing"
        await world.leave("joiner")
        assert await frames_of_join(world, joiner) <= MAX_FRAMES_OF_A_JOIN, "it had everything"
        await world.leave("joiner")
        await clients[1].ops(["setCell", "t", "3", "a", -1], ["setValue", "x", 3], ["delRow", "u", "4"])
        await node.wait_same(*clients, timeout=WAIT_SECONDS)
        assert await frames_of_join(world, joiner) <= MAX_FRAMES_OF_A_JOIN, "it had old things"
        await world.leave("joiner")
        await joiner.ops(["setCell", "t", "5", "a", -2], ["setValue", "y", 4])
        # What it brings goes to each of the others, once.
        assert await frames_of_join(world, joiner) <= MAX_FRAMES_OF_A_JOIN + CLIENTS_ON_PATH, "it had something new"
        of_server = world.server_store()
        assert of_server is not None
        content = await settle([joiner, clients[0], of_server])
        assert content[0]["t"]["5"]["a"] == -2
        await node.wait_same(*clients, timeout=WAIT_SECONDS)
