"""Stock TinyBase and mergesync edit apart and meet again: the greatest stamp of every leaf wins, on all sides."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from mergesync import ConnectionLostError
from mergesync.persist import json_file_persisters

from .nodepeer import NodePeer
from .support import (
    MIXED_ON_NODE_FILE,
    MIXED_ON_OURS,
    MIXED_ON_RELAY,
    NODE_ON_OURS,
    NODE_ON_RELAY,
    PYTHON_ON_NODE,
    PYTHON_ON_NODE_FILE,
    PYTHON_ON_SIMPLE,
    SETUPS,
    AnyStore,
    Setup,
    World,
    connects,
    next_millisecond,
    until_back,
    until_down,
    until_live,
)

every_setup = pytest.mark.parametrize("setup", SETUPS, ids=str)

CONTENT: list[Any] = [
    {"pets": {"fido": {"species": "dog", "age": 3}, "felix": {"species": "cat", "tags": ["a", {"b": None}]}}},
    {"open": True, "limits": {"low": 0, "high": 1e21}},
]


async def fill(store: AnyStore, content: list[Any]) -> None:
    """Writes content as a user would."""
    await store.ops(["setTables", content[0]], ["setValues", content[1]])


@every_setup
async def test_conflicts_after_offline_edits(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """After edits and deletes on both sides while away, the later write of each leaf is everywhere."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await fill(a, CONTENT)
        await world.settle(CONTENT)
        await world.leave("a", "b")
        await a.ops(
            ["setCell", "pets", "fido", "age", 4],
            ["setCell", "pets", "fido", "only a", "x"],
            ["delRow", "pets", "felix"],
            ["delValue", "open"],
            ["setValue", "limits", [1, 2]],
        )
        await next_millisecond(a, b)
        await b.ops(
            ["setCell", "pets", "fido", "age", 5],
            ["setCell", "pets", "felix", "species", "lynx"],
            ["setRow", "pets", "rex", {"species": "dog"}],
            ["setValue", "open", False],
            ["delValue", "limits"],
        )
        await next_millisecond(a, b)
        await a.ops(["setCell", "pets", "fido", "species", "wolf"], ["setCell", "pets", "rex", "species", "shark"])
        await world.rejoin("a", "b")
        [tables, _] = await world.settle_merged()
        assert tables["pets"]["fido"] == {"species": "wolf", "age": 5, "only a": "x"}
        await b.ops(["delTable", "pets"], ["setValue", "again", True])
        await world.settle_merged()


@every_setup
async def test_one_stays_while_the_other_is_away(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Each side in turn is away while the other edits and deletes; the returning one has it all, and gives its own."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await fill(a, CONTENT)
        await world.settle(CONTENT)
        for away, here in ((a, b), (b, a)):
            await world.leave(away.name)
            await here.ops(
                ["setCell", "pets", "fido", "age", f"by {here.name}"],
                ["setRow", "pets", f"new of {here.name}", {"x": None, "y": {"z": 1}}],
                ["delCell", "pets", "felix", "tags"],
                ["setValue", "here", here.name],
            )
            await away.ops(
                ["setCell", "pets", "felix", "species", f"by {away.name}"],
                ["setCell", "pets", "felix", "tags", [away.name]],
                ["setValue", "away", away.name],
            )
            await world.rejoin(away.name)
            await world.settle_merged()


MISSING_SIDES: dict[str, tuple[list[Any], list[Any]]] = {
    "all on one side": (CONTENT, [{}, {}]),
    "only tables, only values": ([CONTENT[0], {}], [{}, CONTENT[1]]),
    "other tables": ([{"t1": {"r": {"c": 1}}}, {}], [{"t2": {"r": {"c": 2}}}, {}]),
    "other rows": ([{"t": {"r1": {"c": 1}, "r": {"c": 0}}}, {}], [{"t": {"r2": {"c": 2}, "r": {"c": 0}}}, {}]),
    "other cells": ([{"t": {"r": {"c1": 1, "c": 0}}}, {"v1": 1}], [{"t": {"r": {"c2": 2, "c": 0}}}, {"v2": 2}]),
    "all of these": (
        [{"t": {"r": {"a": 1, "both": 1}, "ra": {"c": 1}}, "ta": {"r": {"c": 1}}}, {"va": 1, "both": 1}],
        [{"t": {"r": {"b": 2, "both": 2}, "rb": {"c": 2}}, "tb": {"r": {"c": 2}}}, {"vb": 2, "both": 2}],
    ),
}


@every_setup
async def test_missing_on_either_side(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Tables, rows, cells and values that only one side has reach the other, whoever is first on the path."""
    async with World.open(setup, node, tmp_path) as world:

        async def meet(number: int, of_a: list[Any], of_b: list[Any]) -> None:
            url = f"{world.url}/{number}"
            a = await world.store(f"a{number}", setup.clients[0])
            b = await world.store(f"b{number}", setup.clients[1])
            await fill(a, of_a)
            await fill(b, of_b)
            first, second = (a, b) if number % 2 else (b, a)
            await world.connect(first, url=url)
            await world.connect(second, url=url)
            await world.settle_merged_of(f"a{number}", f"b{number}", path=f"shop/{number}")

        await asyncio.gather(*(meet(number, *sides) for number, sides in enumerate(MISSING_SIDES.values())))


@every_setup
async def test_third_client_later(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Who joins later has everything, deletions and objects included, and is heard by those who were there."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await fill(a, CONTENT)
        await b.ops(["setCell", "pets", "gone", "species", "dodo"], ["setValue", "gone", 1])
        await world.settle()
        await a.ops(["delRow", "pets", "gone"], ["delValue", "gone"])
        await world.settle(CONTENT)
        third = await world.third()
        await world.settle(CONTENT)
        for store in third:
            await store.ops(["setValue", store.name, [store.name]])
        await world.settle([CONTENT[0], {**CONTENT[1], **{store.name: [store.name] for store in third}}])


@pytest.mark.parametrize("setup", [MIXED_ON_OURS, MIXED_ON_RELAY, MIXED_ON_NODE_FILE], ids=str)
async def test_third_client_when_the_others_have_left(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """What a server has on disk, a client that comes when nobody else is there gets from it."""
    async with World.open(setup, node, tmp_path) as world:
        a, _ = await world.two()
        await fill(a, CONTENT)
        await a.ops(["setValue", "gone", 1], ["delValue", "gone"])
        await world.settle(CONTENT)
        await world.leave("a", "b")
        await world.third()
        await world.settle(CONTENT)


INITIAL: list[Any] = [{"t": {"r": {"c": "initial", "o": {"x": 1}}}}, {"v": "initial"}]


@every_setup
async def test_initial_content_of_the_first(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Initial content of the first client is everybody's; that of the second is not used then; writes beat it."""
    async with World.open(setup, node, tmp_path) as world:
        a = await world.store("a", setup.clients[0])
        b = await world.store("b", setup.clients[1])
        await world.connect(a, initial=INITIAL)
        await world.settle(INITIAL)
        await world.connect(b, initial=[{"t": {"r": {"c": "other", "d": "other"}}}, {"w": "other"}])
        await world.settle(INITIAL)
        await b.ops(["setCell", "t", "r", "c", "written"], ["delValue", "v"])
        await world.settle([{"t": {"r": {"c": "written", "o": {"x": 1}}}}, {}])
        await world.third(initial=INITIAL)
        await world.settle([{"t": {"r": {"c": "written", "o": {"x": 1}}}}, {}])


@every_setup
async def test_initial_content_of_the_second(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Initial content of a client that joins somebody with nothing fills the path, for all who are there."""
    async with World.open(setup, node, tmp_path) as world:
        a = await world.store("a", setup.clients[0])
        b = await world.store("b", setup.clients[1])
        await world.connect(a)
        await world.connect(b, initial=INITIAL)
        await world.settle(INITIAL)


def random_operation(generator: random.Random) -> list[Any]:
    """One of the many things that users do, on few ids, so that conflicts abound."""
    table_id, row_id, cell_id = (generator.choice("xyz") for _ in range(3))
    cell: Any = generator.choice([1, 1.5, "text", True, None, {"a": [1]}, [], "😀", generator.random()])
    return generator.choice(
        [
            ["setCell", table_id, row_id, cell_id, cell],
            ["setCell", table_id, row_id, cell_id, cell],
            ["setRow", table_id, row_id, {cell_id: cell, "z": 1}],
            ["setPartialRow", table_id, row_id, {cell_id: cell}],
            ["setValue", cell_id, cell],
            ["setPartialValues", {cell_id: cell, "z": 2}],
            ["delCell", table_id, row_id, cell_id],
            ["delRow", table_id, row_id],
            ["delValue", cell_id],
            ["delTable", table_id] if generator.random() < 0.3 else ["delValue", cell_id],
            ["transaction", [["setCell", table_id, row_id, cell_id, cell], ["delValue", cell_id]]],
        ]
    )


@pytest.mark.parametrize("seed", range(2))
@every_setup
async def test_random_edits(setup: Setup, node: NodePeer, tmp_path: Path, seed: int) -> None:
    """Whatever four clients do, connected or not, in the end the greatest stamp of every leaf is everywhere."""
    generator = random.Random(f"{setup} {seed}")
    async with World.open(setup, node, tmp_path) as world:
        stores = [*await world.two(), *await world.third()]
        for _ in range(25):
            store = generator.choice(stores)
            match generator.random():
                case chance if chance < 0.1 and store.name in world.clients:
                    await world.leave(store.name)
                case chance if chance < 0.3 and store.name not in world.clients:
                    await world.rejoin(store.name)
                case _:
                    await store.ops(*(random_operation(generator) for _ in range(generator.randint(1, 5))))
        await world.rejoin(*(store.name for store in stores if store.name not in world.clients))
        await world.settle_merged()


RESTARTS = [
    pytest.param(NODE_ON_OURS, id="node clients on our server in memory"),
    pytest.param(MIXED_ON_OURS, id="mixed clients on our server with files"),
    pytest.param(NODE_ON_RELAY, id="node clients on our relay"),
    pytest.param(MIXED_ON_RELAY, id="mixed clients on our relay with files"),
    pytest.param(PYTHON_ON_NODE, id="our clients on a node server"),
    pytest.param(PYTHON_ON_NODE_FILE, id="our clients on a node server with files"),
    pytest.param(PYTHON_ON_SIMPLE, id="our clients on a simple node server"),
    pytest.param(MIXED_ON_NODE_FILE, id="mixed clients on a node server with files"),
]


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("setup", RESTARTS)
async def test_server_restarts_under_clients(setup: Setup, node: NodePeer, tmp_path: Path, *, kill: bool) -> None:
    """A server that goes and comes back finds its clients again, with what they wrote before and meanwhile."""
    async with World.open(setup, node, tmp_path) as world:
        world.expect(ConnectionLostError)
        a, b = await world.two(reconnect=0.05)
        await fill(a, CONTENT)
        await world.settle(CONTENT)
        for number in range(2):
            await world.stop_server(kill=kill)
            await asyncio.gather(*map(until_down, world.clients.values()))
            await a.ops(["setCell", "pets", "fido", "age", f"a{number}"], ["setValue", f"a{number}", 1])
            await b.ops(["setCell", "pets", "fido", "age", f"b{number}"], ["delCell", "pets", "felix", "tags"])
            await world.start_server()
            await asyncio.gather(*map(until_live, world.clients.values()))
            await world.settle_merged()
            await b.ops(["setValue", "live", number])
            await a.ops(["setCell", "pets", "felix", "tags", [number]])
            await world.settle_merged()


@pytest.mark.parametrize("setup", SETUPS, ids=str)
async def test_dropped_connections(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Connections that are cut come back, and nothing written around the cut is missing."""
    async with World.open(setup, node, tmp_path) as world:
        world.expect(ConnectionLostError)
        a, b = await world.two(reconnect=0.05)
        for number in range(4):
            store, client = (a, world.clients["a"]) if number % 2 else (b, world.clients["b"])
            await store.ops(["setValue", f"before {number}", number])
            before = await connects(client)
            await client.terminate()
            await store.ops(["setValue", f"after {number}", number])
            await a.ops(["setCell", "t", "r", "c", f"a{number}"])
            await b.ops(["setCell", "t", "r", "c", f"b{number}"])
            await until_back(client, before)
        await world.settle_merged()


async def test_channels_survive_a_restart(node: NodePeer, tmp_path: Path) -> None:
    """Node clients with channels, and plain ones, come back to our restarted server with what they have."""
    folder = json_file_persisters(tmp_path / "data")
    async with World.open(NODE_ON_OURS, node, tmp_path, persisters=folder) as world:
        for name, channel in (("one", "one"), ("two", "two")):
            await world.connect(await world.store(name, "node"), channel=channel, reconnect=0.05)
        plain = await world.store("plain", "node")
        await world.connect(plain, url=f"{world.url}/one", reconnect=0.05)
        for kill in (False, True):
            for name in ("one", "two"):
                await world.stores[name].ops(["setValue", f"{name} {kill}", {"kill": kill}])
            await world.settle_of("one", "plain", path="shop/one")
            await world.settle_of("two", path="shop/two")
            await world.stop_server(kill=kill)
            await asyncio.gather(*map(until_down, world.clients.values()))
            await world.stores["two"].ops(["setValue", "offline", kill])
            await plain.ops(["setValue", "plain", kill])
            await world.start_server(persisters=folder)
            await asyncio.gather(*map(until_live, world.clients.values()))
            await world.settle_merged_of("one", "plain", path="shop/one")
            await world.settle_merged_of("two", path="shop/two")
