"""The Node side by itself, stock clients on a stock server: a failure elsewhere is then one of ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from .conftest import NodeVersion
from .nodepeer import NEWEST, VERSIONS, NodeError, NodePeer

T0 = 1704067200000
FIDO = ["setCell", "pets", "fido", "species", "dog"]


async def test_store_matches_the_vectors(node: NodePeer) -> None:
    store = await node.store("a", "s1", now=T0, ops=[FIDO])
    assert await store.content() == [{"pets": {"fido": {"species": "dog"}}}, {}]
    assert await store.hashes() == [2527180377, 0]
    assert await store.mergeable() == [
        [
            {
                "pets": [
                    {"fido": [{"species": ["dog", "Nn1JUF-----7JQY8", 1730177833]}, "", 2293389564]},
                    "",
                    399264430,
                ]
            },
            "",
            2527180377,
        ],
        [{}, "", 0],
    ]


async def test_operations(node: NodePeer) -> None:
    store = await node.store("a", "s1", now=T0)
    assert await store.ops(
        ["addRow", "t", {"c": {"a": [1, None]}}],
        ["setValue", "n", 1],
        ["setValue", "n", {"$": "increment"}],
        ["setValue", "undefined", {"$": "undefined"}],
        ["rollback", [["setValue", "n", 100]]],
        ["transaction", [["setValue", "x", 1], ["delValue", "x"]]],
        ["now", T0 + 1],
        ["apply", [[{}], [{"gone": ["\ufffc", "Nn1JUF----1AAAAA"]}], 1]],
    ) == ["0", None, None, None, [None], [None, None], None, None]
    assert await store.content() == [{"t": {"0": {"c": {"a": [1, None]}}}}, {"n": 2}]
    assert (await store.mergeable())[0][0]["t"][0]["0"][0]["c"][0] == '\ufffd{"a":[1,null]}'
    assert (await store.mergeable())[1][0]["gone"][0] == "\ufffc"
    assert await store.json() == '[{"t":{"0":{"c":"\ufffd{\\"a\\":[1,null]}"}}},{"n":2}]'
    assert await node.stringify(["1e21", "-0", "[1.0]", "nope"]) == [
        "1e+21",
        "0",
        "[1]",
        {"error": "Unexpected token 'o', \"nope\" is not valid JSON"},
    ]


async def test_errors_are_answers(node: NodePeer) -> None:
    with pytest.raises(NodeError, match='no verb "fly"'):
        await node.do("fly")
    with pytest.raises(NodeError, match='no store "a"'):
        await node.do("content", store="a")
    store = await node.store("a")
    with pytest.raises(NodeError, match="there is a store"):
        await node.store("a")
    with pytest.raises(NodeError, match=r"time-out after 0.05 s: .*values"):
        await store.wait(values={"v": 1}, timeout=0.05)
    with pytest.raises(NodeError, match=r"ECONNREFUSED|tinybase:5"):
        await store.connect("ws://127.0.0.1:1/p")


async def test_a_process_that_ends_fails_its_requests(node_installed: str) -> None:
    node = await NodePeer.start()
    store = await node.store("a")
    waiting = asyncio.create_task(store.wait(values={"v": 1}))
    await asyncio.sleep(0.05)
    await node.kill()
    with pytest.raises(NodeError, match="has ended"):
        await waiting
    with pytest.raises(NodeError, match="has ended"):
        await store.content()


async def test_a_version_that_is_not_installed(node_installed: str) -> None:
    with pytest.raises(NodeError, match=r"1\.2\.3"):
        await NodePeer.start("1.2.3")


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_version_syncs_with_the_newest(node_version: NodeVersion, version: str) -> None:
    newest = await node_version(NEWEST)
    other = newest if version == NEWEST else await node_version(version)
    server = await newest.server("w")
    a = await newest.store("a", ops=[FIDO])
    b = await other.store("b", ops=[["setValue", "open", True]])
    await a.connect(f"{server.url}/shop", timeout=0.2)
    await b.connect(f"{server.url}/shop", timeout=0.2)
    content = [{"pets": {"fido": {"species": "dog"}}}, {"open": True}]
    await a.wait(content=content)
    await b.wait(content=content)
    await a.ops(["setValue", "n", 1])
    await b.wait(values={"open": True, "n": 1})
    await b.ops(["setValue", "n", 2])
    await a.wait(values={"open": True, "n": 2})
    assert await a.hashes() == await b.hashes()
    assert other.version == version


async def test_channels_fragments_and_a_restart(node: NodePeer, tmp_path: Path) -> None:
    server = await node.server("w", persist=tmp_path, timeout=0.1, fragment_size=100)
    socket = await node.socket("s", f"{server.url}/base")
    one, two = await node.store("one"), await node.store("two")
    await one.connect(socket=socket, channel="c1", timeout=0.3)
    await two.connect(socket=socket, channel="c2", timeout=0.3)
    away = await node.store("away")
    client = await away.connect(f"{server.url}/base/c1", timeout=0.3, fragment_size=100, reconnect=0.02, record=True)
    await one.ops(["setValue", "long", "x" * 1000])
    await two.ops(["setValue", "v", 2])
    await node.wait_same(one, away, server.store("base/c1"))
    await server.store("base/c2").wait(values={"v": 2})
    assert (await socket.stats())["protocol"] == "tinybase"
    assert (await client.stats())["received"]
    await server.kill()
    await client.wait_status("closed")
    assert (await socket.stats())["closes"] == [[1006, ""]]
    await away.ops(["setValue", "v", 1])
    again = await node.server("w", persist=tmp_path, timeout=0.1, port=server.port)
    await client.wait_status("syncing")
    await node.wait_same(away, again.store("base/c1"))
    assert (await client.stats())["connects"] == 2
    assert (await client.destroy())["status"] == "destroyed"
    await again.wait_clients("base/c1", 0)
    await again.stop()
    saved = json.loads((tmp_path / "base%2Fc1.json").read_text())
    assert saved == await away.mergeable()
    copy = await node.store("copy")
    persister = await copy.file_persister(tmp_path / "base%2Fc1.json")
    await persister.load()
    await node.wait_same(copy, away)
    assert await persister.destroy() == []


async def test_simple_server_and_callback(node: NodePeer) -> None:
    simple = await node.server("simple", kind="simple")
    then = await node.server("then", persist="memory", paths=["p"], then=[["setValue", "v", 1]], timeout=0.05)
    store = await node.store("a")
    await store.connect(f"{simple.url}/p", timeout=0.05, name="c1")
    client = await store.connect(f"{then.url}/p", timeout=0.2, name="c2")
    await store.wait(values={"v": 1})
    stats = await then.stats()
    assert stats["stats"] == {"paths": 1, "clients": 1}
    assert stats["events"][0] == ["path", "p", 1]
    await client.destroy()
