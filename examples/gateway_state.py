"""A chat with rules that the server has made; a client speaks server-state-sync's protocol, another mergesync's."""

import asyncio
import json

from websockets.asyncio.client import connect

from mergesync import (
    Changes,
    Client,
    ClientInfo,
    Identity,
    MergeableStore,
    ServerPath,
    allow_write_value,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.gateways import state_sync


def authorize(info: ClientInfo) -> Identity:
    return Identity(info.query.get("identifier") or info.token or "guest")


def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
    if "topic" in changes.values:
        changes.values["topic"] = str(changes.values["topic"]).capitalize()


async def main() -> None:
    server = await create_ws_server(
        "localhost",
        8047,
        authorize=authorize,
        rules=[allow_write_value("topic"), allow_write_value("closed", to=["moderator"])],
        on_changes=on_changes,
        create="server",
        gateways={"/states": state_sync()},
    )
    async with server:
        await server.create_path("chat", content=({}, {"topic": "All and sundry", "closed": False}))
        store = MergeableStore()
        async with (
            create_ws_synchronizer(store, "ws://localhost:8047/chat", token="ann"),
            connect("ws://localhost:8047/states?identifier=bob&token=") as socket,
        ):
            await socket.send(json.dumps({"type": 2, "data": {"stateIdentifier": "chat"}}))
            print(json.loads(await socket.recv())["data"])
            # -> {"state": {"topic": "All and sundry", "closed": False}}

            store.set_value("topic", "the weather")
            print(json.loads(await socket.recv()))  # -> {"type": 3, "data": {"updates": {"topic": "The weather"}}}

            await socket.send(json.dumps({"type": 3, "data": {"updates": {"closed": True}}}))
            print(json.loads(await socket.recv()))  # -> {"type": 9, "data": {"message": "against the rules"}}
            await socket.send(json.dumps({"type": 2, "data": {"stateIdentifier": "other"}}))
            print(json.loads(await socket.recv())["type"])  # -> 8


asyncio.run(main())
