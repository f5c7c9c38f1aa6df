"""Presence and the ends of paths, with clients that are stock TinyBase."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mergesync import Client, ClientInfo, Identity, MergeableStore, RefusedChangesError, RefusedError, ServerPath
from mergesync.net.client import create_ws_synchronizer
from tests.support import eventually

from .nodepeer import NodeError, NodePeer
from .test_tinybase_rooms import named, shop


async def test_presence(node: NodePeer) -> None:
    """A stock client sees who comes and goes, says of itself what it likes, and cannot say it of others."""
    async with shop(presence=True, authorize=named) as s:
        base = f"ws://127.0.0.1:{s.server.port}/?token=ann"
        socket = await node.socket("socket", base)
        pets, rows = await node.store("pets"), await node.store("rows")
        await pets.connect(socket=socket, channel="shop")
        await rows.connect(socket=socket, channel="shop/~clients")
        (ann,) = s.server.get_client_ids("shop")
        assert s.server.get_client_ids("shop/~clients") == [ann]

        async def cell(row_id: str, cell_id: str) -> object:
            tables = (await rows.content())[0]
            return tables.get("clients", {}).get(row_id, {}).get(cell_id)

        assert await cell(ann, "identity") == "ann"
        async with create_ws_synchronizer(MergeableStore(), s.url(token="bob")) as synchronizer:
            bob = synchronizer.client_id
            assert bob is not None
            await synchronizer.set_presence({"mood": "good"})
            companion = s.server.path("shop/~clients")
            assert companion is not None
            await rows.ops(["setCell", "clients", ann, "cursor", 3])
            await eventually(lambda: companion.store.get_cell("clients", ann, "cursor") == 3)
            await s.settle(rows, path_id="shop/~clients")
            assert await cell(bob, "mood") == "good"
            await rows.ops(["setCell", "clients", bob, "mood", "bad"], ["setCell", "clients", ann, "since", 0])
            await eventually(lambda: s.errors)
            await s.settle(rows, path_id="shop/~clients")
            assert await cell(bob, "mood") == "good"
            assert await cell(ann, "since") != 0
        await eventually(lambda: list(companion.store.get_table("clients")) == [ann])
        await s.settle(rows, path_id="shop/~clients")
        assert list((await rows.content())[0]["clients"]) == [ann]


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
async def test_what_a_client_may_say_of_itself(node: NodePeer, later: bool) -> None:
    """A stock client knows its row by the id it made up; what it says is edited or refused, and it ends equal."""

    def review(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
        assert (path.id, client.id) == ("shop", "made up")
        if state.get("mood") == "bad":
            raise RefusedError("cheer up")
        state["mood"] = str(state.get("mood")).upper()

    async def review_later(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        review(path, client, state)

    def authorize(info: ClientInfo) -> Identity:
        return Identity(str(info.token), client_id=info.query.get("client"))

    async with shop(presence=True, authorize=authorize, on_presence=review_later if later else review) as s:
        socket = await node.socket("socket", f"ws://127.0.0.1:{s.server.port}/?token=ann&client=made%20up")
        pets, rows = await node.store("pets"), await node.store("rows")
        await pets.connect(socket=socket, channel="shop")
        await rows.connect(socket=socket, channel="shop/~clients")
        companion = s.store("shop/~clients")

        async def say(mood: str, shown: str, *, refused: bool = False) -> None:
            await rows.ops(["setCell", "clients", "made up", "mood", mood])
            await eventually(lambda: companion.get_cell("clients", "made up", "mood") == shown)
            await eventually(lambda: s.errors or not refused)
            await s.settle(rows, path_id="shop/~clients")
            assert (await rows.content())[0]["clients"]["made up"]["mood"] == shown

        await say("good", "GOOD")
        await say("bad", "GOOD", refused=True)
        await say("fine", "FINE")
        assert [type(error) for error in s.errors] == [RefusedChangesError]


async def test_removed(node: NodePeer) -> None:
    """A stock client hears of the end by a close code, does not bring the content back, and a fresh one begins anew."""
    async with shop(lives=True) as s:
        late, fresh = await node.store("late"), await node.store("fresh")
        client = await late.connect(s.url())
        await late.ops(["setCell", "pets", "fido", "species", "dog"])
        await s.settle(late)
        assert await s.server.remove_path("shop", "sold")
        await client.wait_status("closed")
        assert (await client.stats())["closes"] == [[4410, "mergesync:removed sold"]]
        await fresh.connect(s.url())
        again = await late.connect(s.url(), name="again")
        await again.wait_status("closed")
        assert (await again.stats())["closes"][0][0] == 4410
        await fresh.ops(["setValue", "open", True])
        await s.settle(fresh)
        assert await fresh.content() == [{}, {"open": True}]


async def test_put_out(node: NodePeer) -> None:
    """A stock client hears of it by a close code; with a ban it is refused before there is a socket."""
    async with shop(authorize=named) as s:
        store, other = await node.store("store"), await node.store("other")
        client = await store.connect(s.url(token="ann"))
        await other.connect(s.url(token="bob"))
        path = s.server.path("shop")
        assert path is not None
        ann = next(each for each in path.clients if each.identity is not None and each.identity.name == "ann")
        await path.eject(ann, 4321, "bye", ban_seconds=60)
        await client.wait_status("closed")
        assert (await client.stats())["closes"] == [[4321, "bye retry-after=60"]]
        with pytest.raises(NodeError):
            await store.connect(s.url(token="ann"), name="again")
        node.take_unhandled()
        await other.ops(["setValue", "v", 1])
        await s.settle(other)


async def test_paths_that_only_the_server_makes(node: NodePeer) -> None:
    """A stock client gets its initial content where there is a path, and is refused where there is none."""
    async with shop(create="server") as s:
        await s.server.create_path("shop", content=({"pets": {"fido": {"species": "dog"}}}, {"open": True}))
        store = await node.store("store")
        await store.ops(["setValue", "open", False])
        await store.connect(s.url())
        await store.wait(content=[{"pets": {"fido": {"species": "dog"}}}, {"open": False}])
        with pytest.raises(NodeError):
            await store.connect(s.url("elsewhere"), name="elsewhere")
        node.take_unhandled()
