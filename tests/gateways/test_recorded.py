"""What was recorded with the four original servers, frame for frame where they are sound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mergesync import Access, Changes, Client, Limits, MergeableStore, RefusedError, RequestFailedError, ServerPath
from mergesync.gateways import message_broker, room_server, state_sync, wsss
from mergesync.net.listening import ListeningWsServer, create_ws_server
from tests.support import eventually

from .replay import Replay

# --- wsss


@pytest.mark.parametrize("name", ["wsss-1", "wsss-2", "wsss-3"])
async def test_wsss(name: str) -> None:
    async with create_ws_server("127.0.0.1", 0, gateways={"/wsss": wsss()}) as server:
        await Replay(lambda _: f"ws://127.0.0.1:{server.port}/wsss", _wsss_envelope).run(name)


def _wsss_envelope(frame: Any) -> Iterator[Any]:
    """What the readme has at the top stands there, too."""
    if "error" in frame:
        yield frame
    else:
        document = frame["data"]
        yield {**frame, **document, "state": {} if document["state"] is None else document["state"]}


# --- websocket-room-server: with what the callbacks of the recorder did


def _admit(path_id: str, client: Client) -> Access:
    hello = client.info.hello
    if hello["roomProtocol"] != "demo:1":
        raise RefusedError("wrong room protocol")
    if path_id.startswith("closed"):
        if hello.get("roomCredential") not in ("rw-code", "ro-code"):
            raise RefusedError("bad credential")
        return Access(write=hello["roomCredential"] == "rw-code")
    return Access()


def _on_presence(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
    state["clientState"].pop("isOwner", None)
    if client.info.hello.get("clientCredential") == "owner-cookie":
        state["clientState"]["isOwner"] = "true"


async def _on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
    if changes.values.get("n") == "1":
        await asyncio.sleep(0.05)
    if changes.values.get("a") == "BAD":
        raise RefusedError("bad value")
    if "loud" in changes.values:
        changes.values["loud"] = str(changes.values["loud"]).upper()


def _on_leave(path: ServerPath, client: Client, reason: str) -> None:
    if path.clients:
        state = path.state_of(client).get("clientState", {})
        path.store.set_value(f"gone:{state.get('nick', '?')}", "1")


def _split_news(frame: Any) -> Iterator[Any]:
    """What happens to a room and what happens to clients comes in frames of their own, if there is any."""
    if frame["type"] != 3:
        yield frame
        return
    for key, value in frame.items():
        if key != "type" and value:
            yield {"type": 3, key: value}


@asynccontextmanager
async def _rooms(pace: float = 1.0) -> AsyncIterator[ListeningWsServer]:
    async with create_ws_server(
        "127.0.0.1",
        0,
        admit=_admit,
        on_changes=_on_changes,
        on_leave=_on_leave,
        on_presence=_on_presence,
        gateways={"/wss": room_server(hello_timeout_seconds=5.0 * pace)},
        limits=Limits(heartbeat_seconds=10.0 * pace),
        on_ignored_error=lambda _: None,
    ) as server:

        @server.action("echo")
        def echo(path: ServerPath, client: Client, data: Any) -> Any:
            return data

        @server.action("fail")
        def fail(path: ServerPath, client: Client, data: Any) -> Any:
            raise RequestFailedError("nope", "no")

        @server.action("set")
        def set_(path: ServerPath, client: Client, data: Any) -> None:
            change = json.loads(data)
            path.store.set_value(change["key"], change["value"])

        @server.action("ask-one")
        def ask_one(path: ServerPath, client: Client, data: Any) -> None:
            asked = json.loads(data)
            frame = {"type": 4, "action": "ask-one", "id": asked["id"], "data": asked["text"]}
            assert path.send(asked["to"], frame).delivered

        @server.action("asked")
        def asked(path: ServerPath, client: Client, data: Any) -> None:
            told = json.loads(data)
            path.send(told["to"], {"type": 5, "id": told["id"], "success": True, "data": told["text"]})

        yield server


@pytest.mark.parametrize("name", ["room-1", "room-2", "room-3", "room-4", "room-5", "room-defects-1", "room-defects-2"])
async def test_room_server(name: str) -> None:
    async with _rooms() as server:
        await Replay(lambda _: f"ws://127.0.0.1:{server.port}/wss?x=1", _split_news).run(name)


async def test_time_outs_of_room_server() -> None:
    """No hello, and no answer to pings; at a fifth of the original's times."""
    async with _rooms(pace=0.2) as server:
        await Replay(lambda _: f"ws://127.0.0.1:{server.port}/wss", _split_news, pace=0.2).run("room-6")


# --- server-state-sync

_STATES: dict[str, dict[str, Any]] = {
    "open": {"chat": [], "title": "t"},
    "guarded": {"a": 1},
    "filtered": {"title": "t", "secret": 1},
    "asyncintercept": {"n": 1},
    "oneshot": {"n": 1},
    "ttl": {"n": 1},
}


def _admit_to_state(path_id: str, client: Client) -> Access:
    if path_id == "guarded":
        raise RefusedError
    return Access(write=path_id != "filtered" or client.info.query["identifier"] != "B")


async def _intercept(path: ServerPath, client: Client, changes: Changes) -> None:
    if path.id == "filtered":
        if "boom" in changes.values:
            raise ValueError("boom")
        changes.values.pop("secret", None)
        changes.values["title"] = str(changes.values["title"]).upper()
    elif path.id == "asyncintercept":
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["state-1", "state-2", "state-3", "state-4"])
async def test_state_sync(name: str) -> None:
    async with create_ws_server(
        "127.0.0.1",
        0,
        create="server",
        self_destruct=lambda path, clients_left, _: path.id == "oneshot" and not clients_left,
        admit=_admit_to_state,
        on_changes=_intercept,
        gateways={"/states": state_sync()},
        on_ignored_error=lambda _: None,
    ) as server:
        for state_id, values in _STATES.items():
            await server.create_path(state_id, content=({}, values))

        def store(state_id: str) -> MergeableStore:
            path = server.path(state_id)
            assert path is not None
            return path.store

        async def on_server(what: str) -> None:
            match what.split():
                case ["write", state_id, value]:
                    store(state_id).set_value("title", value)
                case ["see", state_id, number]:
                    assert store(state_id).get_value("n") == int(number)
                case ["gone", state_id]:
                    await eventually(lambda: server.path(state_id) is None)
                case ["remove", state_id]:
                    assert await server.remove_path(state_id) is True
                    assert await server.remove_path(state_id) is False
                case ["remove"]:
                    await server.remove_all_paths()

        url = f"ws://127.0.0.1:{server.port}/states?token="
        await Replay(lambda who: f"{url}&identifier={who}", on_server=on_server).run(name)


# --- wsmsgbroker


async def test_message_broker() -> None:
    async with create_ws_server(
        "127.0.0.1", 0, gateways={"/broker": message_broker()}, on_ignored_error=lambda _: None
    ) as server:
        # The `ack` of a question is its asker's; whoever is asked is given one of the server's.
        replay = Replay(
            lambda _: f"ws://127.0.0.1:{server.port}/broker",
            literal=lambda event: (
                event.get("send", {}).get("action") == "send" or (event.get("recv") or {}).get("action") == "answer"
            ),
        )
        await replay.run("broker")
