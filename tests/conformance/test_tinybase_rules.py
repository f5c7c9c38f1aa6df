"""Clocks, schemas, callbacks and mutating listeners on one side, stock TinyBase on the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mergesync import MISSING, MergeableStore
from mergesync.exceptions import MergesyncError, RefusedChangesError
from mergesync.persist import json_file_persisters

from .nodepeer import NodePeer
from .support import (
    MIXED_ON_NODE,
    MIXED_ON_OURS,
    MIXED_ON_RELAY,
    NODE_ON_OURS,
    PYTHON_ON_NODE_STORE,
    PYTHON_ON_SIMPLE,
    SETUPS,
    WAIT_SECONDS,
    AnyStore,
    PythonStore,
    Setup,
    World,
    next_millisecond,
    settle,
    until,
)

every_setup = pytest.mark.parametrize("setup", SETUPS, ids=str)

MINUTE = 60_000
PETS: list[Any] = [{"pets": {"fido": {"species": "dog"}}}, {"open": True}]


async def until_content(store: AnyStore, content: list[Any]) -> None:
    """Waits until a store shows this."""

    async def shows() -> bool:
        return await store.content() == content

    await until(shows, lambda: f"not the content of {store!r}: {content!r}", WAIT_SECONDS)


# --- clocks


@pytest.mark.parametrize("offset", [299_000, -290_000], ids=["299 s ahead", "290 s behind"])
@every_setup
async def test_clock_within_bounds(setup: Setup, node: NodePeer, tmp_path: Path, offset: int) -> None:
    """What is written with a clock 299 s ahead, or behind, counts everywhere; others adopt the time, and are heard."""
    async with World.open(setup, node, tmp_path) as world:
        off = await world.store("off", setup.clients[1], offset=offset)
        a = await world.store("a", setup.clients[0])
        await world.connect(a)
        await world.connect(off)
        await off.ops(["setCell", "t", "r", "c", "off"], ["setValue", "v", "off"])
        await world.settle([{"t": {"r": {"c": "off"}}}, {"v": "off"}])
        await a.ops(["setCell", "t", "r", "c", "a"], ["delValue", "v"])
        await world.settle([{"t": {"r": {"c": "a"}}}, {}])
        await off.ops(["setCell", "t", "r", "c", "off again"], ["setValue", "v", {"again": 1}])
        await world.settle([{"t": {"r": {"c": "off again"}}}, {"v": {"again": 1}}])
        await world.third()
        await world.settle([{"t": {"r": {"c": "off again"}}}, {"v": {"again": 1}}])


@pytest.mark.parametrize("setup", [NODE_ON_OURS, MIXED_ON_OURS], ids=str)
async def test_our_clock_ten_minutes_ahead(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Our client stamps in the time of our server, so its writes are taken, those from before it connected as well."""
    async with World.open(setup, node, tmp_path) as world:
        a, _ = await world.two()
        await a.ops(["setTables", PETS[0]], ["setValues", PETS[1]])
        await world.settle(PETS)
        ahead = await world.store("ahead", "python", offset=10 * MINUTE)
        await ahead.ops(["setCell", "pets", "fido", "species", "fish"], ["setValue", "new", {"x": 1}])
        await world.connect(ahead)
        await world.settle([{"pets": {"fido": {"species": "fish"}}}, {**PETS[1], "new": {"x": 1}}])
        await next_millisecond()
        await a.ops(["setCell", "pets", "fido", "species", "wolf"])
        await world.settle([{"pets": {"fido": {"species": "wolf"}}}, {**PETS[1], "new": {"x": 1}}])
        await ahead.ops(["delRow", "pets", "fido"], ["delValue", "new"])
        await world.settle([{}, PETS[1]])


@pytest.mark.parametrize("setup", [NODE_ON_OURS, MIXED_ON_OURS], ids=str)
async def test_clock_ten_minutes_ahead(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Writes ten minutes ahead are reported and not taken; their writer is given the values to keep, and later ones."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setTables", PETS[0]], ["setValues", PETS[1]])
        await world.settle(PETS)
        ahead = await world.store("ahead", "node", offset=10 * MINUTE)
        await world.connect(ahead)
        await world.settle(PETS)

        await ahead.ops(
            ["setCell", "pets", "fido", "species", "fish"],
            ["setRow", "pets", "new", {"x": 1}],
            ["delValue", "open"],
            ["setValue", "new", {"x": 1}],
        )
        await until(lambda: bool(world.errors), lambda: "the refusal was not reported", WAIT_SECONDS)
        await until_content(ahead, PETS)
        errors = world.take_errors()
        assert {type(error) for error in errors} == {RefusedChangesError}, errors
        assert all(error.path_id == "shop" for error in errors if isinstance(error, RefusedChangesError))
        of_server = world.server_store()
        assert of_server is not None
        assert await of_server.content() == PETS
        assert await settle([a, b, of_server], PETS)

        # What others write later reaches it, though it holds those leaves under stamps from the future.
        later: list[Any] = [{"pets": {"fido": {"species": "wolf"}, "new": {"x": 2}}}, {"open": False}]
        await a.ops(["setTables", later[0]], ["setValues", later[1]])
        await settle([a, b, of_server], later)
        await until_content(ahead, later)
        # Its next write is refused just so, and what it does not touch is not.
        await ahead.ops(["setCell", "pets", "fido", "species", "fish"])
        await until(lambda: bool(world.errors), lambda: "the refusal was not reported", WAIT_SECONDS)
        await until_content(ahead, later)
        world.take_errors()
        await world.leave("ahead")
        await settle([a, b, of_server], later)


async def test_clock_put_right(node: NodePeer, tmp_path: Path) -> None:
    """A client whose clock was ten minutes ahead, and has lost its memory of that, is equal in stamps, too."""
    async with World.open(NODE_ON_OURS, node, tmp_path) as world:
        a, _ = await world.two()
        await a.ops(["setTables", PETS[0]], ["setValues", PETS[1]])
        ahead = await world.store("ahead", "node", offset=10 * MINUTE)
        await world.connect(ahead)
        await ahead.ops(["setCell", "pets", "fido", "species", "fish"])
        await until(lambda: bool(world.errors), lambda: "the refusal was not reported", WAIT_SECONDS)
        await until_content(ahead, PETS)
        world.take_errors()
        await world.leave("ahead")
        right = await world.store("right", "node")
        await world.connect(right)
        await right.ops(["setCell", "pets", "fido", "species", "cat"])
        await world.settle([{"pets": {"fido": {"species": "cat"}}}, {"open": True}])


# --- schemas

SCHEMA: dict[str, Any] = {
    "t": {
        "name": {"type": "string"},
        "n": {"type": "number"},
        "o": {"type": "object"},
        "x": {"type": "string", "allowNull": True},
    }
}
VALUES_SCHEMA: dict[str, Any] = {"open": {"type": "boolean"}, "list": {"type": "array"}}


@every_setup
async def test_schema_on_one_side(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """What does not fit the schema of one client is not shown there, yet stamped, passed on and hashed the same."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setTablesSchema", SCHEMA], ["setValuesSchema", VALUES_SCHEMA])
        await b.ops(
            ["setRow", "t", "r", {"name": "n", "n": 1.5, "o": {"a": 1}, "x": None, "other": 1}],
            ["setRow", "t", "bad", {"name": 1, "n": "1"}],
            ["setCell", "u", "r", "c", 1],
            ["setValues", {"open": True, "list": [1], "other": 1}],
        )
        shown: list[Any] = [
            {"t": {"r": {"name": "n", "n": 1.5, "o": {"a": 1}, "x": None}}},
            {"open": True, "list": [1]},
        ]
        await until_content(a, shown)
        await a.ops(["setCell", "t", "r", "n", 2], ["setCell", "t", "r", "n", "bad"], ["setValue", "open", False])
        content: list[Any] = [
            {
                "t": {
                    "r": {"name": "n", "n": 2, "o": {"a": 1}, "x": None, "other": 1},
                    "bad": {"name": 1, "n": "1"},
                },
                "u": {"r": {"c": 1}},
            },
            {"open": False, "list": [1], "other": 1},
        ]
        of_server = world.server_store()
        await settle([b, *([of_server] if of_server else [])], content)
        shown[0]["t"]["r"]["n"] = 2
        shown[1]["open"] = False
        await until_content(a, shown)
        hashes = await b.hashes()

        async def same_hashes() -> bool:
            return await a.hashes() == hashes

        await until(same_hashes, lambda: "the hashes differ", WAIT_SECONDS)


async def test_schema_on_our_server(node: NodePeer, tmp_path: Path) -> None:
    """What does not fit the schema of a path is reported and not taken; its writer ends equal to the server."""
    made = json_file_persisters(tmp_path / "data")

    def then(store: MergeableStore) -> None:
        store.set_tables_schema({"t": {"n": {"type": "number"}}}).set_values_schema({"open": {"type": "boolean"}})

    async with World.open(NODE_ON_OURS, node, tmp_path, persisters=lambda path_id: (made(path_id), then)) as world:
        a, _ = await world.two()
        await a.ops(["setCell", "t", "r", "n", 1], ["setValue", "open", True])
        await world.settle([{"t": {"r": {"n": 1}}}, {"open": True}])
        await a.ops(["setCell", "t", "r", "n", "text"], ["setCell", "t", "r", "other", 1], ["setValue", "open", 1])
        await a.ops(["setCell", "t", "s", "n", 2])
        await world.settle([{"t": {"r": {"n": 1}, "s": {"n": 2}}}, {"open": True}])
        await world.third()
        await world.settle([{"t": {"r": {"n": 1}, "s": {"n": 2}}}, {"open": True}])
        assert {type(error) for error in world.take_errors()} == {RefusedChangesError}


# --- callbacks


@pytest.mark.parametrize("relay", [False, True])
async def test_edits_of_our_server(node: NodePeer, tmp_path: Path, *, relay: bool) -> None:
    """What `then` writes is there when the first client comes; what the server writes later reaches all clients."""
    made = json_file_persisters(tmp_path / "data")
    stores: list[MergeableStore] = []

    async def then(store: MergeableStore) -> None:
        stores.append(store)
        if not store.has_value("version"):
            store.set_value("version", 1).set_cell("t", "r", "made", {"by": "server"})

    setup = MIXED_ON_RELAY if relay else MIXED_ON_OURS
    async with World.open(setup, node, tmp_path, persisters=lambda path_id: (made(path_id), then)) as world:
        _, b = await world.two()
        await world.settle([{"t": {"r": {"made": {"by": "server"}}}}, {"version": 1}])
        with stores[0].transaction():
            stores[0].set_cell("t", "r", "made", None).set_value("😀", [1])
        await b.ops(["setCell", "t", "r", "b", 1])
        await world.settle([{"t": {"r": {"made": None, "b": 1}}}, {"version": 1, "😀": [1]}])
        stores[0].del_table("t")
        await world.settle([{}, {"version": 1, "😀": [1]}])
        await world.leave("a", "b")
        await world.third()
        await world.settle([{}, {"version": 1, "😀": [1]}])


async def test_edits_of_a_node_server(node: NodePeer, tmp_path: Path) -> None:
    """What the callback of TinyBase's server writes, and what is written to its store later, reach our clients."""
    then = [["setValue", "version", 1], ["setCell", "t", "r", "made", {"by": "server"}]]
    async with World.open(PYTHON_ON_NODE_STORE, node, tmp_path, then=then) as world:
        a, _ = await world.two()
        await world.settle([{"t": {"r": {"made": {"by": "server"}}}}, {"version": 1}])
        of_server = world.server_store()
        assert of_server is not None
        await of_server.ops(["setCell", "t", "r", "made", None], ["delValue", "version"])
        await a.ops(["setValue", "a", 1])
        await world.settle([{"t": {"r": {"made": None}}}, {"a": 1}])


# --- mutating listeners


def keep_below_ten(store: MergeableStore, table_id: str, row_id: str, cell_id: str, cell: Any, *_: Any) -> None:
    """A mutating listener: no number above 10, and a count of what there is beside it."""
    if cell is not MISSING and isinstance(cell, int) and cell > 10:
        store.set_cell(table_id, row_id, cell_id, 10)
    store.set_cell("seen", row_id, cell_id, True)


@pytest.mark.parametrize("setup", [MIXED_ON_OURS, MIXED_ON_RELAY, MIXED_ON_NODE, PYTHON_ON_SIMPLE], ids=str)
async def test_mutator_of_a_client(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """What a mutating listener of our client makes of others' writes, everybody has."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        assert isinstance(a, PythonStore)
        a.store.add_cell_listener("t", None, None, keep_below_ten, True)
        await b.ops(["setRow", "t", "r", {"x": 5, "y": 50}])
        seen = {"r": {"x": True, "y": True}}
        await world.settle([{"t": {"r": {"x": 5, "y": 10}}, "seen": seen}, {}])
        await a.ops(["setCell", "t", "r", "x", 99])
        await b.ops(["setCell", "t", "s", "x", 11], ["setCell", "t", "r", "y", 4])
        await world.settle([{"t": {"r": {"x": 10, "y": 4}, "s": {"x": 10}}, "seen": {**seen, "s": {"x": True}}}, {}])
        await world.leave("a")
        await b.ops(["setCell", "t", "late", "x", 1000])
        await world.rejoin("a")
        [tables, _] = await world.settle()
        assert tables["t"]["late"] == {"x": 10}


@pytest.mark.parametrize("setup", [NODE_ON_OURS, MIXED_ON_RELAY], ids=str)
async def test_mutator_of_our_server(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """What a mutating listener of the server's store makes of clients' writes, everybody has, the writer too."""
    made = json_file_persisters(tmp_path / "data")

    def then(store: MergeableStore) -> None:
        store.add_cell_listener("t", None, None, keep_below_ten, True)

    async with World.open(setup, node, tmp_path, persisters=lambda path_id: (made(path_id), then)) as world:
        a, b = await world.two()
        await a.ops(["setRow", "t", "r", {"x": 5, "y": 50}])
        seen = {"r": {"x": True, "y": True}}
        await world.settle([{"t": {"r": {"x": 5, "y": 10}}, "seen": seen}, {}])
        await b.ops(["setCell", "t", "r", "x", 99], ["setValue", "v", 1])
        await world.settle([{"t": {"r": {"x": 10, "y": 10}}, "seen": seen}, {"v": 1}])


async def test_failing_listener(node: NodePeer, tmp_path: Path) -> None:
    """A listener that raises while changes of a peer are merged is reported, and nothing of the changes is lost."""
    async with World.open(MIXED_ON_OURS, node, tmp_path) as world:
        a, b = await world.two()
        assert isinstance(a, PythonStore)

        def fail(*_: Any) -> None:
            raise ValueError("of the application")

        a.store.add_value_listener("v", fail)
        await b.ops(["setValue", "v", 1])
        await b.ops(["setValue", "w", 2])
        await world.settle([{}, {"v": 1, "w": 2}])
        assert not any(isinstance(error, MergesyncError) for error in world.errors)
        assert "of the application" in str(world.take_errors())
