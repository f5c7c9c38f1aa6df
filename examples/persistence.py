"""A server that keeps a path in a file: a third client finds what the first two left.

The second example of TinyBase's createWsServer documentation, in Python. The file is the one TinyBase would write. For
many paths, `json_file_persisters("folder")` and `sqlite_persisters("file.db")` give names that never collide.
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
        lambda path_id: JsonFilePersister(
            MergeableStore(),
            re.sub(r"[^a-zA-Z0-9]", "-", path_id) + ".json",
        ),
    )

    # Client 1
    client_store_1 = MergeableStore()
    client_store_1.set_cell("pets", "fido", "species", "dog")
    synchronizer_1 = await create_ws_synchronizer(client_store_1, "ws://localhost:8047/petShop")
    await synchronizer_1.start_sync()
    await asyncio.sleep(0.5)  # ...

    # Client 2
    client_store_2 = MergeableStore()
    client_store_2.set_cell("pets", "felix", "species", "cat")
    synchronizer_2 = await create_ws_synchronizer(client_store_2, "ws://localhost:8047/petShop")
    await synchronizer_2.start_sync()
    await asyncio.sleep(0.5)  # ...

    print(client_store_1.get_tables())
    # -> {'pets': {'fido': {'species': 'dog'}, 'felix': {'species': 'cat'}}}

    print(client_store_2.get_tables())
    # -> {'pets': {'fido': {'species': 'dog'}, 'felix': {'species': 'cat'}}}

    await synchronizer_1.destroy()
    await synchronizer_2.destroy()
    await asyncio.sleep(0.5)  # ...

    # Client 3 connects later
    client_store_3 = MergeableStore()
    synchronizer_3 = await create_ws_synchronizer(client_store_3, "ws://localhost:8047/petShop")
    await synchronizer_3.start_sync()

    print(client_store_3.get_tables())
    # -> {'pets': {'fido': {'species': 'dog'}, 'felix': {'species': 'cat'}}}

    await synchronizer_3.destroy()
    await server.destroy()

    # Remove file for the purposes of this demo.
    os.remove("petShop.json")


asyncio.run(main())
