"""Presence and the ends of paths, with clients that are stock TinyBase."""

from __future__ import annotations

from mergesync import MergeableStore
from mergesync.net.client import create_ws_synchronizer
from tests.support import eventually

from .nodepeer import NodePeer
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
