"""A whiteboard kept as one document: a program that knows nothing but JSON, and a store, replace it by its version."""

import asyncio
import json

from websockets.asyncio.client import connect

from mergesync import MergeableStore, StaleVersionError, create_ws_server, create_ws_synchronizer
from mergesync.gateways import wsss


async def main() -> None:
    async with create_ws_server("localhost", 8047, gateways={"/wsss": wsss()}):
        store = MergeableStore().set_value("state", ["a house"])
        url = "ws://localhost:8047/board"
        async with create_ws_synchronizer(store, url) as synchronizer, connect("ws://localhost:8047/wsss") as socket:
            await socket.send(json.dumps({"id": "ann", "roomName": "board"}))
            document = json.loads(await socket.recv())
            print(document["state"])  # -> ["a house"]

            # Whoever has seen the present version may replace it.
            stale = synchronizer.version(value_id="state")
            update = {"version": document["version"], "update": ["a house", "a tree"]}
            await socket.send(json.dumps({"id": "ann", "roomName": "board", **update}))
            while store.get_value("state") != ["a house", "a tree"]:
                await asyncio.sleep(0.01)
            try:
                await synchronizer.compare_and_set(stale, ({}, {"state": ["a cat"]}))
            except StaleVersionError as error:
                print(error.content)  # -> ["a house", "a tree"]
                await synchronizer.compare_and_set(error.version, ({}, {"state": [*error.content, "a cat"]}))
            while document["state"] != ["a house", "a tree", "a cat"]:
                document = json.loads(await socket.recv())
            print(len(document["state"]))  # -> 3

            # Who has not is told so, and what there is now.
            await socket.send(json.dumps({"id": "ann", "roomName": "board", **update}))
            print(json.loads(await socket.recv())["error"])  # -> wrong version


asyncio.run(main())
