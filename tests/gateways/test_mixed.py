"""Foreign clients and those of mergesync on one path, and what ended or confused the original servers."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from mergesync import (
    Access,
    Changes,
    Client,
    Gateway,
    Identity,
    Limits,
    MergeableStore,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    ServerPath,
    create_ws_server,
)
from mergesync.gateways import message_broker, room_server, state_sync, wsss
from mergesync.net.listening import ListeningWsServer
from tests.support import eventually, within
from tests.unit.net.kit import closed_with, raw, synced

pytestmark = pytest.mark.usefixtures("leftovers")

ANSWERED = '{"id":"x","roomName":"x"}'


@asynccontextmanager
async def serving(gateway: Gateway, errors: list[Exception], **options: Any) -> AsyncIterator[ListeningWsServer]:
    async with create_ws_server(
        "127.0.0.1", 0, gateways={"/g": gateway}, on_ignored_error=errors.append, **options
    ) as server:
        yield server


class Foreign:
    """A client that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **keys: Any) -> None:
        await self.connection.send(json.dumps(keys))

    async def next(self) -> Any:
        return json.loads(await within(self.connection.recv()))

    async def ask(self, **keys: Any) -> Any:
        await self.send(**keys)
        return await self.next()


@asynccontextmanager
async def foreign(server: ListeningWsServer, rest: str = "") -> AsyncIterator[Foreign]:
    async with raw(f"ws://127.0.0.1:{server.port}/g{rest}") as connection:
        yield Foreign(connection)


def url(server: ListeningWsServer, path_id: str) -> str:
    return f"ws://127.0.0.1:{server.port}/{path_id}"


# --- wsss


async def test_wsss_and_a_store(errors: list[Exception]) -> None:
    """A room is a path under its name in a URL; what else is there changes neither document nor version."""
    async with serving(wsss(), errors) as server:
        store = MergeableStore().set_value("state", {"n": 1})
        async with synced(store, url(server, "room%20101")), foreign(server) as one, foreign(server) as other:
            await eventually(lambda: (path := server.path("room%20101")) and path.store.has_value("state"))
            first = (await one.ask(id="a", roomName="room 101"))["data"]
            assert first == {"name": "room 101", "state": {"n": 1}, "version": first["version"]}
            assert (await other.ask(id="b", roomName="room 101"))["data"] == first
            store.set_value("other", 1).set_cell("t", "r", "c", 1)
            store.set_value("state", [2])
            second = (await one.next())["data"]
            assert (second["state"], second["version"] != first["version"]) == ([2], True)
            await other.send(id="b", roomName="room 101", version=second["version"], update=None)
            assert (await one.next())["data"]["state"] is None
            await eventually(lambda: store.get_value("state") is None)
    assert errors == []


async def test_wsss_frames_that_were_the_end(errors: list[Exception]) -> None:
    """Every one of them is answered, and all others go on."""
    frames = ["null", "5", "[]", "{", '{"id":1}', '{"id":"a","roomName":true}', '{"id":"a","roomName":""}']
    frames += ['{"id":"a","roomName":"' + "x" * 1025 + '"}', '{"id":"a","roomName":"r","update":NaN}', "[" * 100_000]
    frames += ['{"id":"a","roomName":1e999}', '{"id":"a","roomName":' + "1" * 400 + "}"]
    async with serving(wsss(), errors) as server, foreign(server) as client:
        for frame in frames:
            await client.connection.send(frame)
            assert (await client.next()).keys() == {"error"}
        for name in ("constructor", "__proto__", "toString", "~clients", "a/b", 1.5, 10**25):
            assert (await client.ask(id=name, roomName=name))["data"]["state"] is None
        await client.connection.send('{"id":"a","roomName":"\\ud800","version":1,"update":"\\udfff"}')
        assert (await client.next())["data"]["state"] == "\ufffd"
        assert (await client.next())["data"]["name"] == "\ufffd"
        await client.connection.send(b'{"id":"a","roomName":"x","version":1,"update":{}}')
        assert (await client.next())["data"]["state"] == {}
        assert (await client.next())["data"]["state"] == {}
    assert errors == []


async def test_wsss_refusals(errors: list[Exception]) -> None:
    """Who may not come in, or not write, is told so and sees the truth; nobody else hears of it."""

    def admit(path_id: str, client: Client) -> Access:
        if path_id == "closed":
            raise RefusedError("not you")
        return Access(write=client.info.hello["id"] == "writer")

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        if changes.values["state"] == "bad":
            raise RefusedError("bad")

    async with serving(wsss(), errors, admit=admit, on_changes=on_changes) as server:
        async with foreign(server) as writer, foreign(server) as reader:
            assert await writer.ask(id="writer", roomName="closed") == {"error": "not you"}
            version = (await writer.ask(id="writer", roomName="r"))["data"]["version"]
            assert (await reader.ask(id="reader", roomName="r"))["data"]["version"] == version
            refusal = await writer.ask(id="writer", roomName="r", version=version, update="bad")
            assert refusal == {"error": "bad", "data": {"name": "r", "state": None, "version": version}}
            refusal = await writer.ask(id="writer", roomName="r", version=version, update="\ufffc")
            assert "reserved" in refusal["error"]
            refusal = await reader.ask(id="reader", roomName="r", version=version, update=1)
            assert (refusal["error"] != "wrong version", refusal["data"]["version"]) == (True, version)
            await writer.ask(id="writer", roomName="r", version=version, update="good")
            assert (await reader.next())["data"]["state"] == "good"


# --- websocket-room-server

HELLO: dict[str, Any] = {
    "protocol": "websocket-room-server:1",
    "roomProtocol": "demo:1",
    "roomId": "r",
    "clientState": {},
}


async def test_a_room_and_a_store(errors: list[Exception]) -> None:
    """What is no text is shown as JSON; who asks for a change hears what became of it only where that is another."""

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        if changes.values.pop("dropped", None) is not None:
            changes.values["added"] = "x"

    async with serving(room_server(), errors, on_changes=on_changes) as server:
        store = MergeableStore().set_values({"number": 1, "list": [1, "a"]})
        async with synced(store, url(server, "r")), foreign(server) as client:
            await eventually(lambda: (path := server.path("r")) and path.store.has_value("list"))
            welcome = await client.ask(**HELLO)
            assert welcome["roomState"] == {"number": "1", "list": '[1,"a"]'}
            store.del_value("number").set_value("flag", True)
            assert await client.next() == {"type": 3, "roomChanges": [{"key": "number"}]}
            assert await client.next() == {"type": 3, "roomChanges": [{"key": "flag", "value": "true"}]}
            changes = [{"key": "text", "value": "one"}, {"key": "dropped", "value": "y"}, {"key": "list"}]
            await client.send(type=2, roomChanges=changes)
            assert await client.next() == {"type": 3, "roomChanges": [{"key": "added", "value": "x"}]}
            assert await client.next() == {"type": 3, "roomChanges": [{"key": "dropped"}]}
            await eventually(lambda: store.get_values() == {"flag": True, "text": "one", "added": "x"})
    assert errors == []


async def test_frames_right_behind_the_hello(errors: list[Exception]) -> None:
    """They wait until the client is in, in their order."""
    async with serving(room_server(), errors, on_join=lambda path, client: asyncio.sleep(0.02)) as server:
        async with foreign(server) as client:
            await client.send(**HELLO)
            for value in ("1", "2"):
                await client.send(type=2, echo=True, roomChanges=[{"key": "n", "value": value}])
            assert (await client.next())["type"] == 1
            assert [(await client.next())["roomChanges"][0]["value"] for _ in range(2)] == ["1", "2"]
    assert errors == []


async def test_echo_where_nothing_is_said_of_it(errors: list[Exception]) -> None:
    """As the server wants it; what a message says counts more."""
    async with serving(room_server(echo=True), errors) as server, foreign(server) as client:
        await client.ask(**HELLO)
        await client.send(type=2, echo=False, roomChanges=[{"key": "n", "value": "1"}])
        answer = await client.ask(type=2, roomChanges=[{"key": "n", "value": "2"}])
        assert answer == {"type": 3, "roomChanges": [{"key": "n", "value": "2"}]}
    assert errors == []


async def test_rooms_that_were_the_end(errors: list[Exception]) -> None:
    """Names are data, reasons are cut, and nobody comes who says nothing."""

    def admit(path_id: str, client: Client) -> Access:
        if path_id == "long":
            raise RefusedError("no" * 200)
        return Access()

    async with serving(room_server(), errors, admit=admit) as server:
        for name in ("constructor", "__proto__"):
            async with foreign(server) as client:
                assert (await client.ask(**{**HELLO, "roomId": name, "clientState": {"__proto__": "x"}}))["type"] == 1
        async with foreign(server) as client:
            await client.send(**{**HELLO, "roomId": "long"})
            code, reason = await closed_with(client.connection)
            assert (code, len(reason)) == (1002, 123)
    assert [type(error).__name__ for error in errors] == ["RefusedConnectionError"]


async def test_no_hello(errors: list[Exception]) -> None:
    async with serving(room_server(hello_timeout_seconds=0.01), errors) as server, foreign(server) as client:
        assert await closed_with(client.connection) == (1002, "no hello received in time")
    assert errors == []


async def test_messages_to_clients_of_a_room(errors: list[Exception]) -> None:
    """The server asks one, another client sends to it, and it answers; late answers are no fault."""
    async with serving(room_server(), errors) as server:
        async with foreign(server) as client, synced(MergeableStore(), url(server, "r"), name="dan") as synchronizer:
            name = (await client.ask(**HELLO))["clientId"]
            path = server.path("r")
            assert path is not None
            asking = asyncio.create_task(path.ask(name, {"type": 4, "action": "move", "data": "left"}))
            asked = await client.next()
            assert asked == {"type": 4, "action": "move", "data": "left", "id": asked["id"]}
            await client.send(type=5, id=asked["id"], success=True, data="done")
            assert await within(asking) == (name, {"success": True, "data": "done"})
            await client.send(type=5, id=asked["id"], success=True)
            await eventually(lambda: synchronizer.name == "dan")
            await synchronizer.send(name, {"type": 5, "x": 1})
            said = await client.next()
            assert (said["action"], json.loads(said["data"])) == (
                "message",
                {"from": "dan", "message": {"type": 5, "x": 1}},
            )
    assert errors == []


async def test_actions_that_fail(errors: list[Exception]) -> None:
    """A mistake of the application is not told, and closes nobody."""
    async with serving(room_server(), errors) as server:

        @server.action("broken")
        def broken(path: ServerPath, client: Client, data: Any) -> None:
            raise KeyError("a mistake")

        @server.action("count")
        def count(path: ServerPath, client: Client, data: str | None) -> Any:
            return {"length": len(data or "")}

        async with foreign(server) as client:
            await client.ask(**HELLO)
            failure = await client.ask(type=4, action="broken", id="1")
            assert failure == {"type": 5, "id": "1", "success": False, "msg": "the server could not do it"}
            assert await client.ask(type=4, action="count", data="abc") == {
                "type": 5,
                "success": True,
                "data": '{"length":3}',
            }
    assert [type(error) for error in errors] == [KeyError]


async def test_presence(errors: list[Exception]) -> None:
    """Others see the clients of a room, and what they say of themselves, as long as that is not too much."""
    async with serving(room_server(), errors, presence=True) as server:
        watching = MergeableStore()
        async with synced(watching, url(server, "r/~clients")), foreign(server) as client:
            await client.ask(**{**HELLO, "clientState": {"nick": "ann"}, "clientName": "Ann"})

            def row() -> Any:
                [row] = watching.get_table("clients").values()
                return {key: row[key] for key in ("name", "clientName", "clientState")}

            said = {"name": "connection:1", "clientName": "Ann", "clientState": {"nick": "ann"}}
            await eventually(lambda: row() == said)
            await client.send(type=2, clientChanges=[{"key": "nick"}])
            await eventually(lambda: row() == {**said, "clientState": {}})
            await client.send(type=2, clientChanges=[{"key": "x", "value": "x" * 100_000}])
            assert (await closed_with(client.connection))[0] == 1002
            await eventually(lambda: watching.get_tables() == {})
    assert errors == []


async def test_who_is_hidden(errors: list[Exception]) -> None:
    """Who may not be seen is not, and does not see others; a name that another has is passed over."""

    def admit(path_id: str, client: Client) -> Access:
        hello = client.info.hello
        return Access(presence=not (hello and "hidden" in hello["clientState"]), actions=True)

    async with serving(room_server(), errors, admit=admit) as server:
        async with synced(MergeableStore(), url(server, "r"), name="connection:1") as taken:
            await eventually(lambda: taken.name == "connection:1")
            async with foreign(server) as one, foreign(server) as hidden:
                assert (await one.ask(**HELLO))["clientId"] == "connection:2"
                welcome = await hidden.ask(**{**HELLO, "clientState": {"hidden": "1"}})
                assert (welcome["clients"], welcome["clientId"]) == ({}, "connection:3")
                await hidden.send(type=2, clientChanges=[{"key": "a", "value": "b"}])
                await one.send(type=2, clientChanges=[{"key": "a", "value": "b"}])
                await one.ask(type=2, echo=True, clientChanges=[{"key": "a"}])
    assert errors == []


async def test_clients_of_a_room_and_others_see_one_another(errors: list[Exception]) -> None:
    """Who comes another way is in the room with what it says of itself, under its name; who may only read is not."""

    def on_presence(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
        if "clientState" in state:
            state["clientState"]["approved"] = "yes"

    hooks: Any = {
        "authorize": lambda info: Identity(info.token or "nobody"),
        "admit": lambda path_id, client: Access(write=client.identity.name != "onlooker"),
        "on_presence": on_presence,
    }
    async with serving(room_server(), errors, **hooks) as server, AsyncExitStack() as stack:
        ann = await stack.enter_async_context(synced(MergeableStore(), url(server, "r"), token="ann"))
        await stack.enter_async_context(synced(MergeableStore(), url(server, "r"), token="onlooker"))
        await within(ann.set_presence({"nick": "Annie", "cursor": [1, 2], "clientType": "web"}))
        client = await stack.enter_async_context(foreign(server))
        welcome = await client.ask(**{**HELLO, "clientState": {"nick": "cat"}})
        annie = {"clientType": "web", "clientName": "ann", "clientState": {"nick": "Annie", "cursor": "[1,2]"}}
        cat = {"clientState": {"nick": "cat", "approved": "yes"}}
        assert welcome["clients"] == {ann.client_id: annie, welcome["clientId"]: cat}

        await within(ann.set_presence({"nick": "Anne", "clientType": "web"}))
        news = [{"key": "nick", "value": "Anne"}, {"key": "cursor"}]
        assert await client.next() == {"type": 3, "updateClients": {ann.client_id: news}}
        await client.send(type=2, clientChanges=[{"key": "approved", "value": "no"}])
        news = [{"key": "approved", "value": "yes"}]
        assert await client.next() == {"type": 3, "updateClients": {welcome["clientId"]: news}}
        await within(ann.set_presence({"clientName": "Anne", "clientState": {"n": 1}}))
        assert await client.next() == {"type": 3, "removeClients": [ann.client_id]}
        anne = {"clientName": "Anne", "clientState": {"n": "1", "approved": "yes"}}
        assert await client.next() == {"type": 3, "addClients": {ann.client_id: anne}}

        async with synced(MergeableStore(), url(server, "r"), token="bob", name="Bob"):
            bob = {"clientName": "bob", "clientState": {}}
            [[came_as, shown]] = (await client.next())["addClients"].items()
            assert shown == bob
            assert await client.next() == {"type": 3, "removeClients": [came_as]}
            assert await client.next() == {"type": 3, "addClients": {"Bob": bob}}
            async with foreign(server) as late:
                assert set((await late.ask(**HELLO))["clients"]) == {
                    ann.client_id, "Bob", "connection:1", "connection:2",
                }  # fmt: skip
                assert list((await client.next())["addClients"]) == ["connection:2"]
            assert await client.next() == {"type": 3, "removeClients": ["connection:2"]}
        assert await client.next() == {"type": 3, "removeClients": ["Bob"]}
    assert errors == []


async def test_two_of_one_name_in_a_room(errors: list[Exception]) -> None:
    """One is called by its name, and the other by its id."""
    async with serving(room_server(), errors, names="many") as server, AsyncExitStack() as stack:
        twins = [
            await stack.enter_async_context(synced(MergeableStore(), url(server, "r"), name="twin")) for _ in range(2)
        ]
        await eventually(lambda: all(twin.name for twin in twins))
        client = await stack.enter_async_context(foreign(server))
        ids = set((await client.ask(**HELLO))["clients"])
        assert ids in ({"twin", twin.client_id, "connection:1"} for twin in twins)


async def test_who_does_not_answer_a_ping(errors: list[Exception]) -> None:
    """Is cut off and announced like any other leave; who answers stays."""
    limits = Limits(heartbeat_seconds=0.5)
    async with serving(room_server(), errors, limits=limits) as server, foreign(server) as alive:
        await alive.ask(**HELLO)
        async with raw(f"ws://127.0.0.1:{server.port}/g", ping_interval=None) as connection:
            dead = Foreign(connection)
            dead_id = (await dead.ask(**HELLO))["clientId"]
            assert list((await alive.next())["addClients"]) == [dead_id]
            connection.transport.pause_reading()
            assert await alive.next() == {"type": 3, "removeClients": [dead_id]}
            connection.transport.abort()


# --- server-state-sync


async def test_a_state_and_a_store(errors: list[Exception]) -> None:
    """`null` is a value; what is removed is shown as that; what changes nothing comes back all the same."""
    async with serving(state_sync(), errors) as server, server.open_path("chat") as path:
        path.store.set_values({"title": "t", "list": [1]})
        async with foreign(server, "?identifier=ann&token=") as client:
            state = await client.ask(type=2, data={"stateIdentifier": "chat"})
            assert state == {"type": 7, "data": {"state": {"title": "t", "list": [1]}}}
            update = {"type": 3, "data": {"updates": {"title": None, "list": [1]}}}
            assert await client.ask(**update) == {"type": 3, "data": {"updates": {"title": None}}}
            assert await client.next() == {"type": 3, "data": {"updates": {"list": [1]}}}
            assert path.store.get_values() == {"title": None, "list": [1]}
            path.store.del_value("list")
            assert await client.next() == {"type": 3, "data": {"updates": {"list": None}}}
            wrongs: list[Any] = ["text", [], 5, None]
            for wrong in wrongs:
                assert (await client.ask(type=3, data={"updates": wrong}))["type"] == 9
            assert (await client.ask(type=3, data={"updates": {"a": "\ufffc"}}))["type"] == 9
            for frame in ("hello", "null", "[]", '{"type":3}', "{}"):
                await client.connection.send(frame)
            await eventually(lambda: len(errors) == 5)
            assert (await client.ask(type="2", data={}))["type"] == 10
    assert {type(error) for error in errors} == {RemoteProtocolError}


async def test_nested_keys_of_a_state(errors: list[Exception]) -> None:
    """Two who write at paths in one property keep both, also while the application takes its time."""

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        await asyncio.sleep(0.001)
        if changes.values.get("box") == {"no": {}}:
            raise RefusedError("not empty")

    def nested(path: Any, **updates: Any) -> dict[str, Any]:
        return {"type": 3, "data": {"path": path, "updates": updates}}

    async with (
        serving(state_sync(), errors, on_changes=on_changes) as server,
        server.open_path("chat") as path,
        foreign(server, "?identifier=ann") as ann,
        foreign(server, "?identifier=bob") as bob,
    ):
        for client in (ann, bob):
            await client.ask(type=2, data={"stateIdentifier": "chat"})
        for number in range(20):
            await ann.send(**nested(["a", "ann"], **{f"n{number}": number}))
            await bob.send(**nested(["a", "bob", "deep"], n=number))
        whole = {"ann": {f"n{number}": number for number in range(20)}, "bob": {"deep": {"n": 19}}}
        await eventually(lambda: path.store.get_value("a") == whole)
        for client in (ann, bob):
            while await client.next() != {"type": 3, "data": {"updates": {"a": whole}}}:
                pass
        assert (await ann.ask(**nested(["a", "bob", "deep"], n=19)))["data"] == {"updates": {"a": whole}}
        assert (await ann.ask(**nested(["box", "no"])))["data"] == {"message": "not empty"}
        wrongs: list[Any] = ["a", [1], {}]
        for wrong in wrongs:
            assert (await ann.ask(**nested(wrong, n=1)))["data"] == {"message": "Could not update state"}
        deep = await ann.ask(**nested(["a"] * 10_000, n=1))
        assert deep["data"] == {"message": "the object or array is nested too deeply, or contains itself"}
    assert errors == []


async def test_a_state_that_ends(errors: list[Exception]) -> None:
    """Who is in it is told, and does not go on in a state that is none any more."""
    async with serving(state_sync(), errors) as server, foreign(server, "?identifier=ann") as client:
        async with server.open_path("chat") as path:
            await client.ask(type=2, data={"stateIdentifier": "chat"})
            await path.close(reason="enough")
            assert await closed_with(client.connection) == (4001, "enough")
        await eventually(lambda: server.path("chat") is None)
    assert errors == []


async def test_one_identifier_twice(errors: list[Exception]) -> None:
    """When one tab is closed, the other hears what comes; without an identifier there is no socket."""
    async with serving(state_sync(), errors) as server, server.open_path("chat") as path:
        async with foreign(server, "?identifier=ann") as one:
            async with foreign(server, "?identifier=ann") as other:
                for client in (one, other):
                    await client.ask(type=2, data={"stateIdentifier": "chat"})
            path.store.set_value("title", "new")
            assert await one.next() == {"type": 3, "data": {"updates": {"title": "new"}}}
        async with foreign(server, "?token=x") as nobody:
            assert await closed_with(nobody.connection) == (1008, "no identifier")
    assert errors == []


# --- wsmsgbroker


async def test_a_broker_and_a_synchronizer(errors: list[Exception]) -> None:
    """They send and answer one another; where names are kept, a broker's client does not take one of theirs."""
    async with serving(message_broker(), errors) as server:
        async with (
            synced(MergeableStore(), url(server, "b/c"), name="dan") as synchronizer,
            foreign(server, "/b/c") as one,
        ):
            synchronizer.add_message_listener(lambda sender, message: f"{message} of {sender}")
            await eventually(lambda: synchronizer.name == "dan")
            await one.ask(action="register", id="ann")
            answer = await one.ask(action="send", dest=["dan", "nobody"], message="hello", ack="mine")
            assert answer == {"action": "answer", "ack": "mine", "from": "dan", "message": "hello of ann"}
            asking = asyncio.create_task(synchronizer.ask("ann", 1))
            asked = await one.next()
            assert asked == {"action": "message", "message": 1, "ack": asked["ack"], "from": "dan"}
            await one.send(action="answer", ack=asked["ack"])
            assert await within(asking) == ("ann", None)
            path = server.path("b/c")
            assert path is not None
            path.send("ann", "from the server")
            assert await one.next() == {"action": "message", "message": "from the server"}
            async with foreign(server, "/b/c") as thief:
                await thief.send(action="register", id="dan")
                assert (await closed_with(thief.connection))[0] == 1008
    assert [type(error) for error in errors] == [RequestFailedError]


async def test_broker_frames_that_were_the_end(errors: list[Exception]) -> None:
    """They are reported, and the socket stays usable; a second id takes the place of the first."""
    frames = ["hello", "null", "{}", '{"action":"register"}', '{"action":"register","id":""}', '{"action":"send"}']
    frames += ['{"action":"send","dest":5,"message":1}', '{"action":"answer"}', '{"action":"constructor"}']
    frames += ['{"action":"send","dest":"constructor","message":1}']
    async with serving(message_broker(), errors) as server:
        async with foreign(server) as client, foreign(server) as other:
            for frame in frames:
                await client.connection.send(frame)
            await eventually(lambda: len(errors) == len(frames))
            await client.ask(action="register", id="first")
            await client.ask(action="register", id="second")
            await other.ask(action="register", id="other")
            await other.send(action="send", dest=["constructor", "first", "second"], message=1)
            assert await client.next() == {"action": "message", "message": 1, "from": "other"}
            await other.send(action="send", dest="second", message=2, ack="a")
            await client.next()
        await eventually(lambda: server.path("") is None)
    assert {type(error) for error in errors} == {RemoteProtocolError, RequestFailedError}


def test_nothing_imports_them() -> None:
    """Who does without does not load them."""
    code = "import sys, mergesync, mergesync.cli; print([name for name in sys.modules if 'gateways' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
