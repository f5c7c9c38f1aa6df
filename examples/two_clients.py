"""Two clients on a path of a server.

The first example of TinyBase's createWsServer documentation, in Python.
"""

import asyncio

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer


async def main() -> None:
    # Server
    server = await create_ws_server("localhost", 8047)

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
    await server.destroy()


asyncio.run(main())
