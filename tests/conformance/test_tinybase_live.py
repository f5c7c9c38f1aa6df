"""Stock TinyBase and mergesync on one path, connected: what one writes the other has, stamps and hashes included."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from .nodepeer import NodePeer
from .support import SETUPS, AnyStore, Setup, World

every_setup = pytest.mark.parametrize("setup", SETUPS, ids=str)

SCALARS: dict[str, Any] = {
    "empty": "",
    "ascii": 'it\'s "quoted" \\ /',
    "control": "a\tb\nc\u0000\u001f\u007f\u2028",
    "accents": "Ünïcödé ß 中文 עברית",
    "astral": "😀👩‍👩‍👧‍👦 𝒳",
    "almost": "\ufffcx",
    "surrogate": "\ud800 lone \udfff",
    "zero": 0,
    "integer": 42,
    "negative": -17,
    "float": 0.1,
    "long float": 1.7976931348623157e308,
    "tiny": 5e-324,
    "1e21": 1e21,
    "1e20": 1e20,
    "1e-7": 1e-7,
    "0.000001": 0.000001,
    "2**53": 2**53,
    "-2**53": -(2**53),
    "1.5e300": 1.5e300,
    "true": True,
    "false": False,
    "null": None,
}

TREES: dict[str, Any] = {
    "object": {"b": 1, "a": [1, 2.5, None, True, "x"], "10": "ten", "9": "nine"},
    "empty object": {},
    "array": [1e21, -1e-7, {"deep": {"deeper": ["😀", "\u2028", '"']}}],
    "empty array": [],
    "nested": [[[[]]]],
    "odd keys": {"": 0, "__proto__": 1, "constructor": 2, "\n": 3, "é": 4},
}


@every_setup
async def test_scalars(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Strings, numbers, booleans and null arrive as they were set, in cells and values, both ways."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setRow", "t", "a", SCALARS], *(["setValue", f"a {name}", v] for name, v in SCALARS.items()))
        await b.ops(["setRow", "t", "b", SCALARS], *(["setValue", f"b {name}", v] for name, v in SCALARS.items()))
        values = {f"{side} {name}": v for side in "ab" for name, v in SCALARS.items()}
        await world.settle([{"t": {"a": SCALARS, "b": SCALARS}}, values])
        await a.ops(["setValue", "b null", 1.0], ["setCell", "t", "b", "zero", {"$": "-0"}])
        await b.ops(["setValue", "a empty", None], ["setCell", "t", "a", "zero", {"$": "-0"}])
        await world.settle([{"t": {"a": SCALARS, "b": SCALARS}}, {**values, "b null": 1, "a empty": None}])


@every_setup
async def test_objects_and_arrays(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Objects and arrays arrive with the order of their keys, are replaced by scalars and replace them."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setRow", "t", "a", TREES], ["setValues", TREES])
        await world.settle([{"t": {"a": TREES}}, TREES])
        await b.ops(
            ["setRow", "t", "b", TREES],
            ["setCell", "t", "a", "object", {"a": 1}],
            ["setCell", "t", "a", "array", "[]"],
            ["setValue", "nested", 1],
            ["setValue", "object", {"a": 1, "b": 2}],
        )
        await a.ops(["setCell", "t", "a", "new", [{"since": None}]])
        row = {**TREES, "object": {"a": 1}, "array": "[]", "new": [{"since": None}]}
        values = {**TREES, "nested": 1, "object": {"a": 1, "b": 2}}
        await world.settle([{"t": {"a": row, "b": TREES}}, values])


@every_setup
async def test_deletes(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Cells, rows, tables and values deleted on one side are gone on the other, and can be set again there."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        rows = {row: {"x": 1, "y": 2} for row in ("r1", "r2", "r3")}
        await a.ops(["setTables", {"t1": rows, "t2": rows, "t3": rows}], ["setValues", {"u": 1, "v": 2, "w": 3}])
        await world.settle()
        await a.ops(["delCell", "t1", "r1", "x"], ["delRow", "t1", "r2"], ["delTable", "t2"], ["delValue", "u"])
        await b.ops(["delCell", "t3", "r1", "y"], ["delRow", "t3", "r3"], ["delValue", "v"])
        left: list[Any] = [
            {"t1": {"r1": {"y": 2}, "r3": {"x": 1, "y": 2}}, "t3": {"r1": {"x": 1}, "r2": {"x": 1, "y": 2}}},
            {"w": 3},
        ]
        await world.settle(left)
        await b.ops(["setCell", "t2", "r1", "x", "again"], ["setValue", "u", None], ["delCell", "t1", "r1", "y"])
        await a.ops(["setCell", "t3", "r3", "x", "again"], ["delTable", "t1"])
        await world.settle(
            [
                {
                    "t2": {"r1": {"x": "again"}},
                    "t3": {"r1": {"x": 1}, "r2": {"x": 1, "y": 2}, "r3": {"x": "again"}},
                },
                {"w": 3, "u": None},
            ]
        )
        await a.ops(["delTables"])
        await b.ops(["delValues"])
        await world.settle([{}, {}])
        await b.ops(["setCell", "t1", "r1", "x", 1])
        await world.settle([{"t1": {"r1": {"x": 1}}}, {}])


@every_setup
async def test_simultaneous_writes(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Two sides that write the same cell and value at once, again and again, agree on the greatest stamp."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        for number in range(20):
            writes = (
                store.ops(["setCell", "t", "r", "c", f"{name}{number}"], ["setValue", "v", f"{name}{number}"])
                for name, store in (("a", a), ("b", b))
            )
            await asyncio.gather(*writes)
        [[tables, values], stamps] = await world.settle(), await a.mergeable()
        assert tables["t"]["r"]["c"] in ("a19", "b19")
        assert values["v"] in ("a19", "b19")
        assert stamps[0][0]["t"][0]["r"][0]["c"][0] == tables["t"]["r"]["c"]


@every_setup
async def test_both_delete_and_write(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """While one side deletes what the other writes, at once, both end with the same, whichever it is."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        for number in range(10):
            await a.ops(["setRow", "t", f"r{number}", {"x": 1, "y": 2}], ["setValue", "v", number])
            await world.settle()
            await asyncio.gather(
                a.ops(["delRow", "t", f"r{number}"], ["delValue", "v"]),
                b.ops(["setCell", "t", f"r{number}", "x", "kept"], ["setValue", "v", "kept"]),
            )
        await world.settle()


@every_setup
async def test_transactions(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A transaction arrives as a whole; what was rolled back, or set and deleted again, is seen by nobody."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        for store in (a, b):
            name = store.name
            await store.ops(
                ["transaction", [["setCell", "t", name, str(number), number] for number in range(50)]],
                ["rollback", [["setCell", "t", name, "0", "rolled back"], ["delTables"], ["setValue", "v", 1]]],
                ["transaction", [["setValue", f"{name} gone", 1], ["delValue", f"{name} gone"]]],
                ["transaction", [["setValue", name, 1], ["transaction", [["setValue", name, 2]]]]],
            )
        row = {str(number): number for number in range(50)}
        await world.settle([{"t": {"a": row, "b": row}}, {"a": 2, "b": 2}])


ODD_IDS = [
    *("", " ", "\n", "a\nb", "\t", "\u0000", "😀", "é", "\ud800", "x\udfff"),
    *("__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "length"),
    *("0", "1", "10", "2", "01", "-1", "1.5", "4294967294", "4294967295", "9007199254740993"),
    *("\ufffc", "\ufffd", "\ufffd{}", "null", "S", "a/b", "?#"),
]


@every_setup
async def test_odd_ids(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Any string is an id of a table, row, cell or value, on both sides, also when deleted."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["transaction", [["setCell", id_, "r", "c", f"a{id_}"] for id_ in ODD_IDS]])
        await b.ops(["transaction", [["setCell", "t", id_, id_, f"b{id_}"] for id_ in ODD_IDS]])
        await a.ops(["transaction", [["setValue", id_, f"a{id_}"] for id_ in ODD_IDS]])
        tables = {id_: {"r": {"c": f"a{id_}"}} for id_ in ODD_IDS}
        tables["t"] = {id_: {id_: f"b{id_}"} for id_ in ODD_IDS}
        await world.settle([tables, {id_: f"a{id_}" for id_ in ODD_IDS}])
        await b.ops(["transaction", [["delTable", id_] for id_ in ODD_IDS]], ["delValue", "__proto__"])
        await a.ops(["delTable", "t"], ["delValue", ""])
        await world.settle([{}, {id_: f"a{id_}" for id_ in ODD_IDS if id_ not in ("", "__proto__")}])


@every_setup
async def test_burst(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """Hundreds of small changes from both sides at once, none waiting for another, all arrive."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()

        async def write(store: AnyStore) -> None:
            for start in range(0, 500, 50):
                await store.ops(
                    *(["setCell", "t", str(n % 20), store.name, n] for n in range(start, start + 50)),
                    ["setValue", "last", f"{store.name} {start}"],
                )

        await asyncio.gather(write(a), write(b))
        [tables, values] = await world.settle()
        assert tables == {"t": {str(n): {"a": 480 + n, "b": 480 + n} for n in range(20)}}
        assert values["last"] in ("a 450", "b 450")


@every_setup
async def test_join_while_others_write(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A client that joins while another goes on writing misses nothing."""
    async with World.open(setup, node, tmp_path, patient=True) as world:
        a = await world.store("a", setup.clients[0])
        await world.connect(a)
        await a.ops(["setTable", "t", {f"r{n}": {"c": n} for n in range(300)}])
        await world.settle()
        for make in ("node", "python"):
            joiner = await world.store(f"joiner {make}", make)
            await joiner.ops(["setCell", "t", "r0", "by", joiner.name])
            joining = asyncio.create_task(world.connect(joiner))
            number = 0
            while not joining.done():
                number += 1
                await a.ops(["setCell", "t", f"r{number % 300}", "c", f"{make} {number}"], ["setValue", "n", number])
                await asyncio.sleep(0.001)
            await joining
            await world.settle_merged()


@every_setup
async def test_pause(setup: Setup, node: NodePeer, tmp_path: Path) -> None:
    """A client that stops syncing for a while has its own and the others' changes when it starts again."""
    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await world.clients["a"].stop_sync()
        await a.ops(["setValue", "a", 1])
        await b.ops(["setValue", "b", 2], ["setCell", "t", "r", "c", {"x": 1}])
        assert (await a.content())[1] == {"a": 1}
        await world.clients["a"].start_sync()
        await world.settle([{"t": {"r": {"c": {"x": 1}}}}, {"a": 1, "b": 2}])
        await a.ops(["delRow", "t", "r"])
        await world.settle([{}, {"a": 1, "b": 2}])
