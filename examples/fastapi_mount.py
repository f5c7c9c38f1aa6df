"""Paths for clients inside a FastAPI app, beside its own routes.

Needs `pip install fastapi uvicorn`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from mergesync import MergeableStore, WsServer, create_ws_synchronizer
from mergesync.persist import sqlite_persisters

ws_server = WsServer(sqlite_persisters("pets.db"))


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with ws_server:  # stores everything when the app stops
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/sync", ws_server.asgi)


@app.get("/paths")
def paths() -> list[str]:
    return ws_server.get_path_ids()


async def main() -> None:
    # Usually: uvicorn fastapi_mount:app --port 8047
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, port=8047, log_level="warning"))
    serving = asyncio.create_task(uvicorn_server.serve())
    while not uvicorn_server.started:
        await asyncio.sleep(0.05)

    store = MergeableStore()
    async with create_ws_synchronizer(store, "ws://127.0.0.1:8047/sync/petShop"):
        store.set_cell("pets", "fido", "species", "dog")
        print(paths())
        # -> ['petShop']
    await asyncio.sleep(0.5)  # ...

    other_store = MergeableStore()
    async with create_ws_synchronizer(other_store, "ws://127.0.0.1:8047/sync/petShop"):
        print(other_store.get_tables())
        # -> {'pets': {'fido': {'species': 'dog'}}}

    uvicorn_server.should_exit = True
    await serving


asyncio.run(main())
