"""A server that is told of each client before it is served.

The fourth example of TinyBase's createWsServer documentation, in Python.
"""

import asyncio

from mergesync import ClientInfo, MergeableStore, create_ws_server, create_ws_synchronizer


# On the server:
def on_connection(client: ClientInfo) -> None:
    client_address = client.remote_address[0]
    if client_address in ("::1", "127.0.0.1"):
        print("Local client connected")


async def main() -> None:
    server = await create_ws_server("localhost", 8047, on_connection=on_connection)

    # On a client:
    synchronizer = await create_ws_synchronizer(
        MergeableStore(),
        "ws://localhost:8047",
    )
    await asyncio.sleep(0.5)  # ...
    # -> Local client connected

    await synchronizer.destroy()
    await server.destroy()


asyncio.run(main())
