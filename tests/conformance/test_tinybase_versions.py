"""Every older TinyBase that synchronizes with 10.0.1: its clients on our server, our clients on its server.

What a version cannot do (`compat.md`) is left out or expected: null before 7.0 and
objects before 8.0 are not shown as such, but stamped, hashed and passed on; no server store in 5.0, no fragments before
9.4, no channels before 9.4, no default content to 5.x.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mergesync import ConnectionLostError, WsClient
from mergesync.persist import json_file_persisters, sqlite_persisters

from .conftest import NodeVersion
from .nodepeer import OLDER_VERSIONS, NodePeer
from .support import (
    JSON_PREFIX,
    WAIT_SECONDS,
    AnyStore,
    Setup,
    World,
    canonical,
    connects,
    next_millisecond,
    settle,
    until,
    until_back,
    until_down,
    until_live,
)

OLD_ON_OURS = Setup("ours", ("python", "node"))
RECONNECT_SECONDS = 0.05


def at_least(version: str, other: str) -> bool:
    """Whether a version is not older than another."""
    return [int(part) for part in version.split(".")] >= [int(part) for part in other.split(".")]


def pairs(**kinds: str) -> list[Any]:
    """Each version with each kind that it has: `kind="5.1.0"` is one that came with 5.1.0."""
    return [
        pytest.param(version, kind, id=f"{version}-{kind}")
        for version in OLDER_VERSIONS
        for kind, since in kinds.items()
        if at_least(version, since)
    ]


@pytest.fixture
async def old(request: pytest.FixtureRequest, node_version: NodeVersion) -> NodePeer:
    """A Node process with an older version."""
    return await node_version(request.param)


def scenario_of(version: str) -> list[Any]:
    """Cells of all kinds that a version knows."""
    row = {"text": "Ünïcödé 😀", "float": 0.1, "1e21": 1e21, "1e-7": 1e-7, "zero": 0, "yes": True, "no": False, "": ""}
    if at_least(version, "7.0.0"):
        row["null"] = None
    if at_least(version, "8.0.1"):
        row.update({"object": {"b": 1, "a": [None]}, "array": [1.5, "😀"]})
    return [{"t": {"r1": row, "r2": row, "r3": row}, "u": {"r": {"c": 1}}, "v": {"r": {"c": 2}}}, {**row, "more": 1}]


async def go_through(world: World, a: AnyStore, b: AnyStore, *, one_by_one: bool = False) -> None:
    """Live changes and deletes both ways, conflicts after edits apart, and a server that goes and comes back.

    Args:
        world: where.
        a: one store, connected.
        b: another, connected.
        one_by_one: clients come onto the path one after the other, see `ONE_BY_ONE`.
    """
    [tables, values] = scenario_of(world.node.version)
    await a.ops(["setTables", tables])
    await b.ops(["setValues", values])
    await world.settle([tables, values])

    await b.ops(["delCell", "t", "r1", "text"], ["delRow", "t", "r2"], ["setCell", "t", "r4", "new", "by b"])
    await a.ops(["delTable", "u"], ["delValue", "float"], ["setValue", "new", "by a"])
    await world.settle_merged()
    await a.ops(["delCell", "t", "r1", "zero"], ["delRow", "t", "r4"])
    await b.ops(["delTable", "v"], ["delValue", "more"], ["setCell", "u", "r", "c", "again"])
    await world.settle_merged()

    await world.leave(a.name, b.name)
    await a.ops(["setCell", "t", "r1", "text", "a, first"], ["delRow", "t", "r3"], ["setValue", "text", "a, first"])
    await next_millisecond(a, b)
    await b.ops(["setCell", "t", "r1", "text", "b, then"], ["setCell", "t", "r3", "yes", "kept"], ["delValue", "text"])
    await b.ops(["setRow", "only b", "r", {"c": 1}], ["setValue", "1e21", 1e20])
    await next_millisecond(a, b)
    await a.ops(["setValue", "1e21", -1], ["setCell", "only a", "r", "c", 1])
    await join_again(world, a, b, one_by_one=one_by_one)
    [tables, values] = await world.settle_merged()
    assert tables["t"]["r1"]["text"] == "b, then"
    assert tables["t"]["r3"] == {"yes": "kept"}
    assert values["1e21"] == -1

    if one_by_one:
        await world.leave(b.name)
    staying = [client for name, client in world.clients.items() if name in (a.name, b.name)]
    await world.stop_server(kill=True)
    await asyncio.gather(*map(until_down, staying))
    await a.ops(["setCell", "t", "r1", "text", "a, while away"], ["setValue", "away", "a"])
    await b.ops(["setCell", "t", "r1", "text", "b, while away"], ["delCell", "only a", "r", "c"])
    await world.start_again()
    await asyncio.gather(*map(until_live, staying))
    if one_by_one:
        await world.settle()
        await world.rejoin(b.name)
    await world.settle_merged()
    await asyncio.gather(a.ops(["setValue", "both", "a"]), b.ops(["setValue", "both", "b"]))
    await world.settle_merged()


async def join_again(world: World, *stores: AnyStore, one_by_one: bool) -> None:
    """Connects stores that had left, or were never there."""
    if not one_by_one:
        await asyncio.gather(*(world.connect(store, reconnect=RECONNECT_SECONDS) for store in stores))
        return
    for store in stores:
        await world.connect(store, reconnect=RECONNECT_SECONDS)
        await store.ops(["setValue", "here", store.name])  # the server has it only once the path has started
        await world.settle()


ONE_BY_ONE = "9.4.0"
"""Before this, clients that come at once can miss one another's changes, for two reasons of their own.

A client that is starting forgets what it gets meanwhile by somebody else's announcement; so, on a relay, two that start
at once may not meet. And a server with a store takes what was said while a path starts for said by the first client.
"""


# --- its clients on our server

PERSISTERS: dict[str, Any] = {
    "memory": lambda folder: None,
    "json": lambda folder: json_file_persisters(folder / "json"),
    "sqlite": lambda folder: sqlite_persisters(folder / "data.db"),
}


@pytest.mark.parametrize(("old", "kind"), pairs(memory="5.0.0", json="5.0.0", sqlite="5.0.0"), indirect=["old"])
async def test_old_clients_on_our_server(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Clients of an older version and ours keep the same on our server, whatever it stores in, through restarts."""
    async with World.open(OLD_ON_OURS, old, tmp_path, persisters=PERSISTERS[kind](tmp_path)) as world:
        world.expect(ConnectionLostError)
        a, b = await world.two(reconnect=RECONNECT_SECONDS)
        c = await world.store("c", "node")
        await world.connect(c, reconnect=RECONNECT_SECONDS)
        await go_through(world, a, b)
        before = await connects(world.clients["c"])
        await world.clients["c"].terminate()
        await c.ops(["setValue", "c", "around a cut"])
        await until_back(world.clients["c"], before)
        content = await world.settle_merged()
        await world.leave("a", "b", "c")
        late = await world.store("late", "node")
        if kind != "memory":
            await world.connect(late)
            await world.settle(content)


@pytest.mark.parametrize(("old", "kind"), pairs(relay="5.0.0"), indirect=["old"])
async def test_old_clients_on_our_relay(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Clients of an older version and of ours understand one another when our server only passes on."""
    async with World.open(Setup(kind, ("python", "node")), old, tmp_path) as world:
        world.expect(ConnectionLostError)
        a, b = await world.store("a", "python"), await world.store("b", "node")
        one_by_one = not at_least(old.version, ONE_BY_ONE)
        await join_again(world, a, b, one_by_one=one_by_one)
        await go_through(world, a, b, one_by_one=one_by_one)


@pytest.mark.parametrize(("old", "kind"), pairs(memory="5.0.0"), indirect=["old"])
async def test_old_client_joins_while_others_write(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """An older client that joins while another writes without a pause misses nothing, again and again."""
    async with World.open(OLD_ON_OURS, old, tmp_path) as world:
        a = await world.store("a", "python")
        await world.connect(a)
        await a.ops(["setTable", "t", {f"r{n}": {"c": n} for n in range(300)}])
        for round_ in range(4):
            joiner = await world.store(f"joiner {round_}", "node")
            await joiner.ops(["setCell", "t", "r0", "by", joiner.name])
            joining = asyncio.create_task(world.connect(joiner))
            number = 0
            while not joining.done():
                number += 1
                await a.ops(["setCell", "t", f"r{number % 300}", "c", f"{round_} {number}"], ["setValue", "n", number])
                await asyncio.sleep(0)
            await joining
            await world.settle_merged()


@pytest.mark.parametrize(("old", "kind"), pairs(newer="5.0.0"), indirect=["old"])
async def test_newer_cells_for_old_clients(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Null and objects from here are stamped and hashed by versions that do not know them, and pass through them."""
    cells = {"null": None, "object": {"b": 1, "a": [None]}, "array": [1.5], "text": "x"}
    async with World.open(OLD_ON_OURS, old, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setRow", "t", "r", cells], ["setValues", cells])
        shown: dict[str, Any] = dict(cells)
        if not old.features["nulls"]:
            del shown["null"]
        if not old.features["objects"]:
            shown.update(object=f'{JSON_PREFIX}{{"b":1,"a":[null]}}', array=f"{JSON_PREFIX}[1.5]")
        await world.wait_same_stamps()
        assert canonical(await b.content()) == canonical([{"t": {"r": shown}}, shown])
        assert canonical(await a.content()) == canonical([{"t": {"r": cells}}, cells])
        # Who was away gets them from the server just so, and what is written over them is everybody's.
        await world.leave("b")
        await a.ops(["setCell", "t", "r", "object", None], ["setValue", "array", {"x": []}])
        await world.rejoin("b")
        await world.wait_same_stamps()
        await b.ops(["setCell", "t", "r", "object", "text"], ["setCell", "t", "r", "null", 1], ["delValue", "array"])
        await world.wait_same_stamps()
        assert canonical((await a.content())[0]) == canonical({"t": {"r": {**cells, "object": "text", "null": 1}}})


@pytest.mark.parametrize(("old", "kind"), pairs(initial="6.0.0"), indirect=["old"])
async def test_initial_content_of_old_clients(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Initial content of an older version is ours, too, and ours is its."""
    async with World.open(OLD_ON_OURS, old, tmp_path) as world:
        for number, (first, second) in enumerate([("node", "python"), ("python", "node")]):
            url = f"{world.url}/{number}"
            initial = [{"t": {"r": {"c": "initial"}}}, {"v": number}]
            stores = [await world.store(f"first {number}", first), await world.store(f"second {number}", second)]
            await world.connect(stores[0], url=url, initial=initial)
            await world.settle_of(stores[0].name, path=f"shop/{number}", content=initial)
            await world.connect(stores[1], url=url, initial=[{}, {"other": 1}])
            await settle(stores, initial)
            await stores[1].ops(["setCell", "t", "r", "c", "written"])
            await settle(stores, [{"t": {"r": {"c": "written"}}}, {"v": number}])


@pytest.mark.parametrize(("old", "kind"), pairs(fragments="9.4.0"), indirect=["old"])
async def test_fragments_of_old_clients(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Messages in pieces pass both ways between an older version and us, emoji in them."""
    async with World.open(OLD_ON_OURS, old, tmp_path, fragment_size=59) as world:
        a, b = await world.two()
        await a.ops(["setCell", "t", "r", "a", "😀é漢x" * 60])
        await b.ops(["setCell", "t", "r", "b", "x😀é漢" * 60])
        await world.settle([{"t": {"r": {"a": "😀é漢x" * 60, "b": "x😀é漢" * 60}}}, {}])


@pytest.mark.parametrize(("old", "kind"), pairs(channels="9.4.0"), indirect=["old"])
async def test_channels_of_old_clients(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Two channels on a socket of an older version are paths of our server, shared with plain clients."""
    async with World.open(OLD_ON_OURS, old, tmp_path) as world:
        socket = await old.socket(f"socket {tmp_path}", world.url)
        for channel in ("one", "two"):
            await world.connect(await world.store(channel, "node"), socket=socket, channel=channel)
            await world.connect(await world.store(f"plain {channel}", "python"), url=f"{world.url}/{channel}")
            await world.stores[channel].ops(["setValue", channel, 1])
            await world.stores[f"plain {channel}"].ops(["setCell", "t", "r", channel, {"x": 1}])
        for channel in ("one", "two"):
            await world.settle_merged_of(channel, f"plain {channel}", path=f"shop/{channel}")


# --- our clients on its server


@pytest.mark.parametrize(
    ("old", "kind"), pairs(node="5.0.0", **{"node-store": "5.1.0"}, simple="5.4.9"), indirect=["old"]
)
async def test_our_clients_on_an_old_server(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Two of our clients keep the same on a server of an older version, with and without a store, through restarts."""
    async with World.open(Setup(kind, ("python", "python")), old, tmp_path) as world:
        world.expect(ConnectionLostError)
        a, b = await world.store("a", "python"), await world.store("b", "python")
        one_by_one = kind == "node-store" and not at_least(old.version, ONE_BY_ONE)
        await join_again(world, a, b, one_by_one=one_by_one)
        await go_through(world, a, b, one_by_one=one_by_one)
        await world.connect(await world.store("late", "node"))
        await world.settle_merged()


@pytest.mark.parametrize(("old", "kind"), pairs(channels="9.4.0"), indirect=["old"])
async def test_our_channels_on_an_old_server(old: NodePeer, tmp_path: Path, kind: str) -> None:
    """Two channels of our socket are paths of an older server, shared with its plain clients, in pieces."""
    async with World.open(Setup("node", ("python", "node")), old, tmp_path, fragment_size=61) as world:
        client = WsClient(world.url, multiplexed=True)
        for channel in ("one", "two"):
            await world.connect(await world.store(channel, "python"), socket=client, channel=channel)
            await world.connect(await world.store(f"plain {channel}", "node"), url=f"{world.url}/{channel}")
            await world.stores[channel].ops(["setValue", channel, "😀" * 100])
            await world.stores[f"plain {channel}"].ops(["setCell", "t", "r", channel, "x" * 100])
        for channel in ("one", "two"):
            await world.settle_merged_of(channel, f"plain {channel}", path=f"shop/{channel}")
        await until(lambda: client.connected, lambda: "the socket is gone", WAIT_SECONDS)
