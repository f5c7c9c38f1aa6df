"""A server that changes a path's data once it is loaded: the place to upgrade it.

The third example of TinyBase's createWsServer documentation, in Python.
"""

import asyncio
import os
import re

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer
from mergesync.persist import JsonFilePersister


async def main() -> None:
    # Server
    server = await create_ws_server(
        "localhost",
        8047,
        lambda path_id: (
            JsonFilePersister(
                MergeableStore(),
                re.sub(r"[^a-zA-Z0-9]", "-", path_id) + ".json",
            ),
            lambda store: store.set_value("pathId", path_id),
        ),
    )

    client_store = MergeableStore()
    client_store.set_cell("pets", "fido", "species", "dog")
    synchronizer = await create_ws_synchronizer(client_store, "ws://localhost:8047/petShop")
    await synchronizer.start_sync()

    print(client_store.get_content())
    # -> ({'pets': {'fido': {'species': 'dog'}}}, {'pathId': 'petShop'})

    await synchronizer.destroy()
    await server.destroy()

    # Remove file for the purposes of this demo.
    os.remove("petShop.json")


asyncio.run(main())
