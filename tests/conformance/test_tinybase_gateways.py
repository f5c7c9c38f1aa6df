"""Stock TinyBase and clients of the four older servers on one path."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from mergesync import Changes, Client, MergeableStore, RefusedError, ServerPath, create_ws_server
from mergesync.gateways import room_server, state_sync, wsss
from tests.support import eventually

from .nodepeer import NodePeer
from .support import WAIT_SECONDS, canonical, until


def no_bad_words(path: ServerPath, client: Client, changes: Changes) -> None:
    """Refuses what nobody may see."""
    if "bad" in changes.values.values():
        raise RefusedError("bad words")


class Foreign:
    """A client whose frames are kept."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Any] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for frame in self.connection:
            self.frames.append(json.loads(frame))

    async def send(self, **keys: Any) -> None:
        await self.connection.send(json.dumps(keys))

    async def heard(self, text: str) -> None:
        await eventually(lambda: text in json.dumps(self.frames))


async def test_all_kinds_on_one_path(node: NodePeer) -> None:
    """Each hears of what the others write, nobody of what was refused, and all stores end equal."""
    gateways = {"/wsss": wsss(), "/wss": room_server(), "/states": state_sync()}
    errors: list[Exception] = []
    async with (
        create_ws_server(
            "127.0.0.1", 0, gateways=gateways, on_changes=no_bad_words, on_ignored_error=errors.append
        ) as server,
        AsyncExitStack() as stack,
    ):
        base = f"ws://127.0.0.1:{server.port}"

        async def foreign(path: str) -> Foreign:
            client = Foreign(await stack.enter_async_context(connect(f"{base}/{path}")))
            stack.callback(client.reading.cancel)
            return client

        one, other = await node.store("one"), await node.store("other")
        await one.ops(["setValue", "state", {"n": 1}])
        await one.connect(f"{base}/shop")
        await other.connect(f"{base}/shop")
        await other.wait(values={"state": {"n": 1}}, timeout=WAIT_SECONDS)

        document, room, state = await foreign("wsss"), await foreign("wss"), await foreign("states?identifier=ann")
        await document.send(id="d", roomName="shop")
        hello = {"protocol": "websocket-room-server:1", "roomProtocol": "x", "roomId": "shop", "clientState": {}}
        await room.send(**hello)
        await state.send(type=2, data={"stateIdentifier": "shop"})
        await eventually(lambda: document.frames and room.frames and state.frames)
        assert room.frames[0]["roomState"] == {"state": '{"n":1}'}
        assert state.frames[0] == {"type": 7, "data": {"state": {"state": {"n": 1}}}}

        version = document.frames[0]["version"]
        await document.send(id="d", roomName="shop", version=version, update="bad")
        await room.send(type=2, roomChanges=[{"key": "word", "value": "good"}])
        await state.send(type=3, data={"updates": {"title": "bad"}})
        await state.send(type=3, data={"updates": {"title": "fine"}})
        await one.ops(["setValue", "state", "bad"])
        await eventually(lambda: len(errors) == 1)
        await one.ops(["setValue", "state", {"n": 2}])
        await document.send(id="d", roomName="shop")
        await document.heard('{"n": 2}')
        version = document.frames[-1]["version"]
        await document.send(id="d", roomName="shop", version=version, update=[3])
        await one.wait(values={"state": [3], "word": "good", "title": "fine"}, timeout=WAIT_SECONDS)
        await other.wait(values={"state": [3], "word": "good", "title": "fine"}, timeout=WAIT_SECONDS)
        for client in (room, state):
            await client.heard("[3]")
        assert document.frames[1]["error"] == "bad words"
        path = server.path("shop")
        assert path is not None
        ours: MergeableStore = path.store

        async def same() -> bool:
            wanted = canonical(ours.get_mergeable_content())
            return all([canonical(await store.mergeable()) == wanted for store in (one, other)])

        await until(same, lambda: "not equal", WAIT_SECONDS)
        seen = [frame for client in (room, state) for frame in client.frames]
        assert '"bad"' not in json.dumps(seen)
        assert [frame for frame in state.frames if frame["type"] == 9] == [
            {"type": 9, "data": {"message": "bad words"}}
        ]
