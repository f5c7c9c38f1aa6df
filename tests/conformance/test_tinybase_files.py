"""Files of stock TinyBase and of mergesync: each opens what the other wrote, and servers of both take turns on them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mergesync import ConnectionLostError, MergeableStore
from mergesync.persist import JsonFilePersister, sqlite_persisters

from .nodepeer import NodePeer
from .support import (
    MIXED_ON_NODE_FILE,
    MIXED_ON_OURS,
    NODE_ON_OURS,
    NODE_ON_RELAY,
    PATH,
    AnyStore,
    Setup,
    World,
    canonical,
    python_store,
    settle,
    until,
    until_down,
    until_live,
)

CONTENT: list[Any] = [
    {
        "pets": {"fido": {"species": "dog", "tags": ["a", {"b": None}], "weight": 7.5}, "": {"__proto__": "odd"}},
        "10": {"9": {"8": 1e21, "empty": ""}},
    },
    {"open": True, "none": None, "text": 'Ünïcödé 😀 \u2028 "quoted" \\', "tree": {"b": [1e-7], "a": {}}},
]


async def write_content(store: AnyStore) -> None:
    """Writes the content above, with some things deleted again."""
    await store.ops(
        ["setTables", {**CONTENT[0], "gone": {"r": {"c": 1}}}],
        ["setValues", {**CONTENT[1], "gone": [1]}],
        ["setCell", "pets", "fido", "gone", {"x": 1}],
        ["delCell", "pets", "fido", "gone"],
        ["delTable", "gone"],
        ["delValue", "gone"],
    )
    assert canonical(await store.content()) == canonical(CONTENT)


# --- one file, no network


async def test_their_file_is_opened_here(node: NodePeer, tmp_path: Path) -> None:
    """A file of TinyBase's persister, tombstones and objects included, is loaded here stamp by stamp."""
    file = tmp_path / "store.json"
    theirs = await node.store("theirs")
    persister = await theirs.file_persister(file)
    await write_content(theirs)
    await persister.save()
    ours = python_store("ours", print)
    loader = JsonFilePersister(ours.store, file)
    await loader.load()
    await settle([theirs, ours], CONTENT)

    # And what is saved here on top of it is loaded there.
    await ours.ops(["delRow", "pets", "fido"], ["setCell", "pets", "rex", "likes", ["cats"]], ["delValue", "tree"])
    await loader.save()
    await loader.destroy()
    await persister.load()
    assert await persister.destroy() == []
    await settle([theirs, ours], await ours.content())


async def test_our_file_is_opened_there(node: NodePeer, tmp_path: Path) -> None:
    """A file written here, tombstones and objects included, is loaded by TinyBase stamp by stamp."""
    file = tmp_path / "store.json"
    ours = python_store("ours", print)
    await write_content(ours)
    saver = JsonFilePersister(ours.store, file)
    await saver.load()
    await saver.save()
    await saver.destroy()
    theirs = await node.store("theirs")
    persister = await theirs.file_persister(file)
    await persister.load()
    await settle([theirs, ours], CONTENT)
    await theirs.ops(["setCell", "pets", "fido", "tags", None], ["delTable", "10"])
    await persister.save()
    assert await persister.destroy() == []
    again = python_store("again", print)
    loader = JsonFilePersister(again.store, file)
    await loader.load()
    await loader.destroy()
    await settle([theirs, again], await theirs.content())


async def test_the_text_of_the_file_is_theirs(node: NodePeer, tmp_path: Path) -> None:
    """The same store is the same text in both files, byte for byte where the order of keys is the same."""
    theirs = await node.store("theirs", "s1", now=1704067200000)
    await theirs.ops(
        ["setRow", "pets", "fido", {"name": "Fido é 😀", "tags": [1, {"x": None}]}], ["setValue", "n", 1e21]
    )
    await theirs.ops(["setCell", "pets", "fido", "gone", 1], ["delCell", "pets", "fido", "gone"])
    persister = await theirs.file_persister(tmp_path / "theirs.json")
    await persister.save()
    assert await persister.destroy() == []
    store = MergeableStore("s1", get_now=lambda: 1704067200000)
    store.set_row("pets", "fido", {"name": "Fido é 😀", "tags": [1, {"x": None}]}).set_value("n", 1e21)
    store.set_cell("pets", "fido", "gone", 1).del_cell("pets", "fido", "gone")
    ours = JsonFilePersister(store, tmp_path / "ours.json")
    await ours.load()
    store.set_mergeable_content(json.loads((tmp_path / "theirs.json").read_text(encoding="utf-8")))
    await ours.save()
    await ours.destroy()
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "theirs.json").read_bytes()


# --- servers that take turns


async def test_servers_take_turns_on_a_folder(node: NodePeer, tmp_path: Path) -> None:
    """TinyBase's server, ours, and TinyBase's again on the same files, under connected clients: nothing is missing."""
    async with World.open(MIXED_ON_NODE_FILE, node, tmp_path) as world:
        world.expect(ConnectionLostError)
        a, b = await world.two(reconnect=0.05)
        await write_content(a)
        await world.settle(CONTENT)
        for turn in ("ours", "theirs", "ours", "theirs"):
            await world.stop_server()
            await asyncio.gather(*map(until_down, world.clients.values()))
            await a.ops(["setCell", "pets", "fido", "turn", {"of": turn}], ["setValue", f"{turn} a", True])
            await b.ops(["setCell", "pets", "fido", "turn", [turn]], ["delValue", f"{turn} a"])
            world.setup = MIXED_ON_OURS if turn == "ours" else MIXED_ON_NODE_FILE
            await world.start_server()
            await asyncio.gather(*map(until_live, world.clients.values()))
            await world.settle_merged()
            await b.ops(["setRow", "pets", f"rex of {turn}", {"since": turn}], ["delRow", "pets", "rex of ours"])
            await world.settle_merged()


@pytest.mark.parametrize("path", ["team/a", "A b", "%2F"])
async def test_servers_share_file_names(node: NodePeer, tmp_path: Path, path: str) -> None:
    """What one server stored of a path, the other finds by itself, when no client has anything."""
    async with World.open(MIXED_ON_NODE_FILE, node, tmp_path) as world:
        url = f"ws://127.0.0.1:{world.port}/{path.replace(' ', '%20')}"
        for turn, setup in enumerate([MIXED_ON_NODE_FILE, MIXED_ON_OURS, MIXED_ON_NODE_FILE]):
            if turn:
                await world.stop_server()
                world.setup = setup
                await world.start_server()
            store = await world.store(f"client {turn}", "node" if turn % 2 else "python")
            await world.connect(store, url=url)
            expected = {f"turn {n}": [n] for n in range(turn)}
            await settle([store], [{}, expected])
            await store.ops(["setValue", f"turn {turn}", [turn]])
            await world.settle_of(store.name, path=url.partition("//")[2].partition("/")[2])
            await world.leave(store.name)
        # The file names of both are the same where the path id is usual; and no other file is left.
        await world.stop_server()
        names = {name.name for name in world.folder.iterdir() if name.suffix == ".json"}
        world.setup = MIXED_ON_NODE_FILE
        await world.start_server()
        assert len(names) == 1, names


async def test_their_edit_of_a_file_in_use(node: NodePeer, tmp_path: Path) -> None:
    """What TinyBase's persister saves to a file of our running server is merged, and reaches its clients."""
    async with World.open(MIXED_ON_OURS, node, tmp_path) as world:
        a, _ = await world.two()
        await write_content(a)
        await world.settle(CONTENT)
        file = world.folder / f"{PATH}.json"
        saved = canonical(await a.mergeable())
        await until(lambda: file.exists() and canonical(json.loads(file.read_text())) == saved, file.read_text, 20.0)
        other = await node.store("other")
        persister = await other.file_persister(file)
        await persister.load()
        await settle([other, a], CONTENT)
        await other.ops(["setCell", "pets", "fido", "species", "wolf"], ["setValue", "tree", [1]], ["delTable", "10"])
        await persister.save()
        assert await persister.destroy() == []
        content = await other.content()
        await world.settle(content)
        await a.ops(["setValue", "after", True])
        await world.settle([content[0], {**content[1], "after": True}])


# --- SQLite


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("setup", [NODE_ON_OURS, NODE_ON_RELAY, MIXED_ON_OURS], ids=str)
async def test_sqlite_restart(setup: Setup, node: NodePeer, tmp_path: Path, *, kill: bool) -> None:
    """Clients find their SQLite server again; one that comes when they have left has everything from the database."""
    file = tmp_path / "data.db"
    async with World.open(setup, node, tmp_path, persisters=sqlite_persisters(file)) as world:
        world.expect(ConnectionLostError)
        a, b = await world.two(reconnect=0.05)
        await write_content(a)
        await world.settle(CONTENT)
        for number in range(2):
            await world.stop_server(kill=kill)
            await asyncio.gather(*map(until_down, world.clients.values()))
            await a.ops(["setCell", "pets", "fido", "number", number], ["delValue", "open"])
            await b.ops(["setCell", "pets", "fido", "number", [number]], ["setValue", "open", number])
            await world.start_server(persisters=sqlite_persisters(file))
            await asyncio.gather(*map(until_live, world.clients.values()))
            await world.settle_merged()
        content = await a.content()
        await world.leave("a", "b")
        await world.stop_server()
        await world.start_server(persisters=sqlite_persisters(file))
        await world.third()
        await world.settle(content)


async def test_many_paths_in_one_database(node: NodePeer, tmp_path: Path) -> None:
    """Paths of one database do not mix, and each is there after a restart, for clients that bring nothing."""
    file = tmp_path / "data.db"
    paths = ["", "a", "A", "a/b", "a-b", "%20", "x" * 300]
    async with World.open(NODE_ON_OURS, node, tmp_path, persisters=sqlite_persisters(file)) as world:
        base = world.url.removesuffix(PATH)
        for number, path in enumerate(paths):
            store = await world.store(f"writer {number}", "node" if number % 2 else "python")
            await world.connect(store, url=base + path)
            await store.ops(["setCell", "t", "r", "path", [path]], ["setValue", "gone", 1], ["delValue", "gone"])
            await world.settle_of(store.name, path=path)
        before = [await world.stores[f"writer {number}"].hashes() for number in range(len(paths))]
        await world.leave(*world.clients)
        await world.stop_server()
        await world.start_server(persisters=sqlite_persisters(file))
        for number, path in enumerate(paths):
            store = await world.store(f"reader {number}", "python" if number % 2 else "node")
            await world.connect(store, url=base + path)
            await world.settle_of(store.name, path=path, content=[{"t": {"r": {"path": [path]}}}, {}])
            assert await store.hashes() == before[number]
