"""A room with seats and an action; one client speaks websocket-room-server's protocol, the other mergesync's."""

import asyncio
import json
from typing import Any

from websockets.asyncio.client import connect

from mergesync import (
    Access,
    Client,
    MergeableStore,
    RefusedError,
    RequestFailedError,
    ServerPath,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.gateways import room_server

HELLO = {"protocol": "websocket-room-server:1", "roomProtocol": "cards:1", "roomId": "table"}


def admit(path_id: str, client: Client) -> Access:
    hello = client.info.hello
    if hello is None:  # a client of mergesync
        return Access()
    if hello.get("roomCredential") not in ("play", "look"):
        raise RefusedError("wrong code")
    return Access(write=hello["roomCredential"] == "play")


def on_presence(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
    if client.info.hello is None:
        return
    state["clientState"].pop("isOwner", None)  # nobody may claim that
    if client.info.hello.get("clientCredential") == "the owner":
        state["clientState"]["isOwner"] = "true"


async def main() -> None:
    gateways = {"/wss": room_server()}
    async with create_ws_server("localhost", 8047, admit=admit, on_presence=on_presence, gateways=gateways) as server:

        @server.action("sit")
        def sit(path: ServerPath, client: Client, data: Any) -> None:
            if path.store.has_value(f"seat:{data}"):
                raise RequestFailedError("somebody sits there", "taken")
            path.store.set_value(f"seat:{data}", "taken")

        store = MergeableStore()
        async with (
            create_ws_synchronizer(store, "ws://localhost:8047/table") as synchronizer,
            connect("ws://localhost:8047/wss") as socket,
        ):
            hello = {"clientState": {"isOwner": "true", "nick": "ann"}, "roomCredential": "play"}
            await socket.send(json.dumps({**HELLO, **hello}))
            welcome = json.loads(await socket.recv())
            print(welcome["clients"][welcome["clientId"]])  # -> {"clientState": {"nick": "ann"}}

            await synchronizer.act("sit", "north")
            print(json.loads(await socket.recv()))
            # -> {"type": 3, "roomChanges": [{"key": "seat:north", "value": "taken"}]}
            await socket.send(json.dumps({"type": 4, "action": "sit", "id": "1", "data": "north"}))
            print(json.loads(await socket.recv())["msg"])  # -> somebody sits there

            await socket.send(json.dumps({"type": 2, "roomChanges": [{"key": "cards:hand", "value": "[7]"}]}))
            while not store.has_value("cards:hand"):
                await asyncio.sleep(0.01)
            print(store.get_values())  # -> {"seat:north": "taken", "cards:hand": "[7]"}


asyncio.run(main())
