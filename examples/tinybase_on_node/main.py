"""A stock TinyBase client on Node and a Python client on one path of a Python server.

Needs Node 20, and `npm install` in this folder.
"""

import asyncio
from pathlib import Path

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer


async def main() -> None:
    async with create_ws_server("localhost", 8047):
        node = await asyncio.create_subprocess_exec("node", str(Path(__file__).with_name("client.mjs")))

        store = MergeableStore()
        async with create_ws_synchronizer(store, "ws://localhost:8047/petShop"):
            store.set_cell("pets", "fido", "species", "dog")
            while not store.has_row("pets", "felix"):
                await asyncio.sleep(0.05)
            await node.wait()
            # -> Node: {"species":"dog"}

        print("Python:", store.get_row("pets", "felix"))
        # -> Python: {'species': 'cat'}


asyncio.run(main())
