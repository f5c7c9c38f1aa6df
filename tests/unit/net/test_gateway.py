"""The door for clients of other protocols: a gateway of one's own, and all that a server does to clients."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from mergesync import (
    MISSING,
    Access,
    Changes,
    Client,
    ClientInfo,
    GatewaySocket,
    Identity,
    InvalidCellError,
    LimitExceededError,
    Limits,
    LoadError,
    Member,
    MergeableStore,
    MergesyncError,
    PathClosedError,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    ServerPath,
    WsServer,
    allow_write_value,
    create_ws_server,
)
from mergesync.limits import MAX_CHANNELS, MAX_READ_BYTES, MAX_UNANSWERED_OPERATIONS
from mergesync.net.gateway import Gateways
from mergesync.net.listening import ListeningWsServer
from tests.support import eventually, same_content, within

from .kit import Backend, asgi_app, closed_with, raw, synced, url_of, uvicorn_port

pytestmark = pytest.mark.usefixtures("leftovers")


# --- a protocol: JSON lists, each answered by [true, result] or [false, class of the error, its text]


class Plain:
    """The client of one socket."""

    def __init__(self, socket: GatewaySocket) -> None:
        self.socket = socket
        self.members: dict[str, Member] = {}
        self.last: Member | None = None
        self.left: list[str] = []
        self.answers: list[Any] = []

    def say(self, *words: Any) -> None:
        self.socket.send(json.dumps(words))

    async def join(self, path_id: str) -> Any:
        member = self.last = self.members[path_id] = await self.socket.join(path_id, {"said": "hello"})
        member.on_transaction = lambda own: self.changed(own, member.store.get_transaction_changes()[1])
        member.on_message = self.hear
        member.on_name_lost = lambda: self.say("unnamed")
        member.on_left = lambda: self.left.append(path_id)
        return member.store.get_values()

    def changed(self, own: bool, values: dict[str, Any]) -> None:
        if values:
            self.say("changed", own, {key: "gone" if new is MISSING else new for key, new in values.items()})

    async def do(self, verb: str, *arguments: Any) -> Any:
        match verb:
            case "join":
                return await self.join(*arguments)
            case "leave":
                return self.socket.leave(*arguments)
            case "close":
                return self.socket.close(*arguments)
            case "fail":
                raise KeyError("a mistake")
            case "exists":
                return self.socket.exists(*arguments)
        member = self.last
        assert member is not None
        match verb:
            case "set":
                return await member.change(({}, {arguments[0]: arguments[1]}))
            case "delete":
                return await member.change(({}, {arguments[0]: MISSING}))
            case "version":
                return member.version(value_id=arguments[0])
            case "cas":
                return await member.compare_and_set(arguments[0], ({}, arguments[1])) != arguments[0]
            case "act":
                return await member.act(*arguments)
            case "name":
                await member.take_name(*arguments)
                return member.name
            case "unname":
                await member.give_up_name()
                return member.name
            case "send":
                return list((await member.send(*arguments)).delivered)
            case "ask":
                return await member.ask(*arguments)
            case "answer":
                return self.answers.pop(0)(*arguments)
            case "hurt":
                member.on_transaction = lambda own: 1 / 0
                return None
        raise RemoteProtocolError("unknown verb", excerpt=verb)

    def hear(self, sender: str | None, message: Any, answer: Any) -> None:
        if answer is not None:
            self.answers.append(answer)
        self.say("message", sender, message, answer is not None)


everybody: list[Plain] = []


async def plain(socket: GatewaySocket) -> None:
    """The gateway."""
    client = Plain(socket)
    everybody.append(client)
    async for frame in socket:
        verb, *arguments = json.loads(frame)
        if verb == "end":
            return
        try:
            client.say(True, await client.do(verb, *arguments))
        except RemoteProtocolError:
            raise
        except MergesyncError as error:
            client.say(False, type(error).__name__, str(error.args[0]))


class Caller:
    """A raw client of it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self) -> Any:
        return json.loads(await within(self.connection.recv()))

    async def ask(self, *words: Any) -> Any:
        await self.connection.send(json.dumps(words))
        return await self.next()

    async def do(self, *words: Any) -> Any:
        answer = await self.ask(*words)
        assert answer[0] is True, answer
        return answer[1]


@asynccontextmanager
async def serving(errors: list[Exception], *arguments: Any, **options: Any) -> AsyncIterator[ListeningWsServer]:
    everybody.clear()
    async with create_ws_server(
        "127.0.0.1", 0, *arguments, gateways={"/plain": plain}, on_ignored_error=errors.append, **options
    ) as server:
        yield server


@asynccontextmanager
async def calling(server: ListeningWsServer, path: str | None = "p", query: str = "") -> AsyncIterator[Caller]:
    async with raw(url_of(server, f"plain{query}")) as connection:
        caller = Caller(connection)
        if path is not None:
            await caller.do("join", path)
        yield caller


# --- on a path with others


async def test_it_is_a_client_like_others(errors: list[Exception]) -> None:
    """It edits one path together with clients of mergesync, is listed, and hears of its own changes as such."""
    async with serving(errors) as server:
        store = MergeableStore().set_value("v", 1)
        async with synced(store, url_of(server)), calling(server, None) as caller:
            await eventually(lambda: (path := server.path("p")) and path.store.get_value("v") == 1)
            assert await caller.do("join", "p") == {"v": 1}
            assert (len(server.get_client_ids("p")), server.get_stats().connections) == (2, 2)
            store.set_value("v", 2)
            assert await caller.next() == ["changed", False, {"v": 2}]
            assert await caller.ask("set", "w", {"deep": [1, None]}) == ["changed", True, {"w": {"deep": [1, None]}}]
            assert await caller.next() == [True, None]
            await eventually(lambda: store.get_values() == {"v": 2, "w": {"deep": [1, None]}})
            await caller.connection.send(json.dumps(["delete", "w"]))
            await eventually(lambda: store.get_values() == {"v": 2})
            path = server.path("p")
            assert path is not None
            await eventually(lambda: same_content(store, path.store))
            client = path.clients[1]
            assert (client.info.hello, client.info.path_id) == ({"said": "hello"}, "plain")
        await eventually(lambda: server.path("p") is None)
    assert errors == []


async def test_a_path_lives_while_it_is_there(errors: list[Exception]) -> None:
    """It keeps the path loaded, what it writes is stored, and it can leave, come again, and be elsewhere besides."""
    backend = Backend()
    async with serving(errors, backend) as server, calling(server) as caller:
        await caller.ask("set", "v", 1)
        await caller.next()
        await caller.do("join", "q")
        assert sorted(server.get_path_ids()) == ["p", "q"]
        assert await caller.do("exists", "p") is True
        await caller.do("leave", "p")
        await caller.do("leave", "p")
        await eventually(lambda: backend.values("p") == {"v": 1} and server.path("p") is None)
        assert await caller.do("exists", "p") is False
        with pytest.raises(PathClosedError):
            await everybody[0].members["p"].change(({}, {"v": 2}))
        with pytest.raises(PathClosedError):
            await everybody[0].members["p"].act("x")
        assert await caller.do("join", "p") == {"v": 1}
        assert everybody[0].left == ["p"]
    assert errors == []


async def test_a_listener_that_takes_a_change_back(errors: list[Exception]) -> None:
    """Who wants it hears of that, and hooks that take their time are called on."""

    async def on_changes(*_: Any) -> None:
        await asyncio.sleep(0)

    async with serving(errors, on_changes=on_changes) as server, calling(server):
        member = everybody[0].members["p"]
        failing = True

        def fail(*_: object) -> None:
            if failing:
                raise ZeroDivisionError

        member.path.store.add_value_listener("v", fail, True)
        with pytest.raises(ZeroDivisionError):
            await within(member.change(({}, {"v": 1})))
        failing = False
        await within(member.change(({}, {"v": 2})))
        assert member.store.get_values() == {"v": 2}
    assert errors == []


async def test_compare_and_set(errors: list[Exception]) -> None:
    async with serving(errors) as server, calling(server) as one, calling(server) as other:
        version = await one.do("version", "v")
        assert version == await other.do("version", "v")
        assert await one.ask("cas", version, {"v": 1}) == ["changed", False, {"v": 1}]
        assert await one.next() == [True, True]
        assert await other.next() == ["changed", False, {"v": 1}]
        assert (await other.ask("cas", version, {"v": 2}))[:2] == [False, "StaleVersionError"]
        assert (await other.ask("cas", "nonsense", {}))[:2] == [False, "RequestFailedError"]


async def test_actions_names_and_messages(errors: list[Exception]) -> None:
    """Between two of a gateway, one of mergesync, and the server."""
    async with serving(errors) as server:

        @server.action("double")
        def double(path: ServerPath, client: Client, data: int) -> int:
            return 2 * data

        async with calling(server) as one, calling(server) as other:
            assert await one.do("act", "double", 4) == 8
            assert (await one.ask("act", "nothing"))[:2] == [False, "RequestFailedError"]
            assert (await one.ask("send", "bob", 1))[:2] == [False, "RequestFailedError"]
            assert await one.do("name", "ann", "secret") == "ann"
            assert (await other.ask("name", "ann"))[:2] == [False, "RequestFailedError"]
            assert await other.ask("name", "ann", "secret") == [True, "ann"]
            assert await one.next() == ["unnamed"]
            assert await one.do("name", "cat") == "cat"
            assert await one.do("send", ["ann", "nobody"], {"x": 1}) == ["ann"]
            assert await other.next() == ["message", "cat", {"x": 1}, False]
            async with synced(MergeableStore(), url_of(server), name="dan") as synchronizer:
                synchronizer.add_message_listener(lambda sender, message: [sender, message])
                await eventually(lambda: synchronizer.name == "dan")
                assert await one.do("ask", "dan", "how?") == ["dan", ["cat", "how?"]]
                asked = asyncio.create_task(synchronizer.ask("cat", "and you?"))
                assert await one.next() == ["message", "dan", "and you?", True]
                await one.do("answer", "well")
                assert await within(asked) == ("cat", "well")
            path = server.path("p")
            assert path is not None
            assert path.send(None, "all").delivered == ("ann", "cat")
            assert await one.next() == ["message", None, "all", False]
            assert await one.do("unname") is None
            assert path.names == ["ann"]
    assert errors == []


# --- what the application decides


async def test_who_is_let_in(errors: list[Exception]) -> None:
    """`authorize` before there is a socket, `admit` for each path, with what the client said; `on_join` after that."""
    told: list[Any] = []
    left: list[str] = []

    def authorize(info: ClientInfo) -> Identity:
        if info.token is None:
            raise RefusedError("who are you?")
        return Identity(info.token)

    def admit(path_id: str, client: Client) -> Access:
        told.append((path_id, client.identity, client.info.hello))
        if path_id == "secret":
            raise RefusedError("not there")
        return Access()

    def on_join(path: ServerPath, client: Client) -> None:
        if path.id == "full":
            raise RefusedError("full")
        path.store.set_value("joined", 1)

    hooks: Any = {"authorize": authorize, "admit": admit, "on_join": on_join}
    hooks["on_leave"] = lambda path, client, reason: left.append(f"{path.id} {reason}")
    async with serving(errors, **hooks) as server:
        with pytest.raises(InvalidStatus) as refusal:
            async with calling(server):
                pass
        assert refusal.value.response.status_code == 401
        async with calling(server, None, "?token=ann") as caller:
            assert await caller.ask("join", "secret") == [False, "RefusedError", "not there"]
            assert await caller.do("join", "p") == {"joined": 1}
            await caller.connection.send('["join","full"]')
            assert await closed_with(caller.connection) == (4403, "mergesync:refused full")
        assert told[0] == ("secret", Identity("ann"), {"said": "hello"})
        await eventually(lambda: sorted(left) == ["full refused", "p refused"])
    assert [error.args[0] for error in errors][:2] == ["who are you?", "not there"]


async def test_what_is_refused_is_never_seen(errors: list[Exception]) -> None:
    """Neither by clients of mergesync nor by those of the gateway; what is edited is seen as it was edited."""

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        await asyncio.sleep(0)
        if changes.values.get("v") == "bad":
            raise RefusedError("bad words")
        if changes.values.get("v") == "oops":
            raise KeyError("oops")
        changes.values.pop("w", None)
        if changes.values.get("v") == "loud":
            changes.values["v"] = "LOUD"

    async with serving(errors, on_changes=on_changes) as server:
        store = MergeableStore()
        seen: list[Any] = []
        store.add_value_listener(None, lambda _, value_id, new: seen.append((value_id, new)))
        async with synced(store, url_of(server)), calling(server) as one, calling(server) as other:
            assert await one.ask("set", "v", "bad") == [False, "RefusedError", "bad words"]
            assert await one.ask("set", "v", "oops") == [False, "RefusedError", "the application failed"]
            assert await one.ask("set", "w", 1) == [True, None]
            assert await one.ask("set", "v", "loud") == ["changed", True, {"v": "LOUD"}]
            assert await other.next() == ["changed", False, {"v": "LOUD"}]
            await eventually(lambda: seen == [("v", "LOUD")])
    assert [type(error) for error in errors] == [KeyError]


async def test_access(errors: list[Exception]) -> None:
    """Who may not read is told that there is nothing; who may not write, or talk, hears that."""
    accesses = {"blind": Access(read=False), "mute": Access(write=False, actions=False)}

    def admit(path_id: str, client: Client) -> Access:
        return accesses.get(client.info.query.get("who", ""), Access())

    rules = [allow_write_value("v"), allow_write_value("w")]
    async with (
        serving(errors, admit=admit, rules=rules) as server,
        calling(server) as one,
        calling(server, query="?who=mute") as mute,
        calling(server, query="?who=blind") as blind,
    ):
        await one.ask("set", "v", 1)
        assert await one.next() == [True, None]
        assert await mute.next() == ["changed", False, {"v": 1}]
        assert await mute.ask("set", "v", 2) == [False, "RefusedError", "the client may only read"]
        assert (await mute.ask("name", "ann"))[:2] == [False, "RequestFailedError"]
        await blind.do("set", "w", 2)
        assert await mute.next() == ["changed", False, {"w": 2}]
        assert await one.next() == ["changed", False, {"w": 2}]
        version = await blind.do("version", "v")
        assert (await blind.ask("cas", version, {"v": 3}))[:2] == [False, "RequestFailedError"]
        assert await one.ask("set", "x", 2) == [False, "RefusedError", "against the rules"]
    assert errors == []


async def test_mistakes_of_a_gateway(errors: list[Exception]) -> None:
    """They raise where they are made."""
    async with serving(errors) as server, calling(server):
        with pytest.raises(InvalidCellError):
            await everybody[0].members["p"].change(({}, {"v": float("nan")}))
        with pytest.raises(ValueError, match="already"):
            await everybody[0].socket.join("p")
        with pytest.raises(ValueError, match="close code"):
            everybody[0].socket.close(999)


# --- ends


async def test_each_leaves_once(errors: list[Exception]) -> None:
    """However it ends, `on_leave` hears of it once, with the reason."""
    left: list[tuple[str, str]] = []
    hooks: Any = {
        "authorize": lambda info: Identity(info.token or "nobody"),
        "on_leave": lambda path, client, reason: left.append((client.identity.name, reason)),
    }
    async with serving(errors, **hooks) as server:
        async with calling(server, query="?token=goes"):
            pass
        async with calling(server, query="?token=lost") as caller:
            caller.connection.transport.abort()
            await eventually(lambda: len(left) == 2)
        async with calling(server, query="?token=ends") as caller:
            await caller.connection.send('["end"]')
            assert await closed_with(caller.connection) == (1000, "")
        async with calling(server, query="?token=closed") as caller:
            await caller.connection.send('["close",4000,"so it is"]')
            assert await closed_with(caller.connection) == (4000, "so it is")
        async with calling(server, query="?token=wrong") as caller:
            await caller.connection.send('["what?"]')
            assert (await closed_with(caller.connection))[0] == RemoteProtocolError.close_code
        async with calling(server, query="?token=fails") as caller:
            await caller.connection.send('["fail"]')
            assert (await closed_with(caller.connection))[0] == 1011
        async with calling(server, query="?token=listener") as caller, calling(server, query="?token=other") as other:
            await caller.do("hurt")
            assert (await other.ask("set", "v", 1))[0] == "changed"
            assert (await closed_with(caller.connection))[0] == 1011
            assert await other.next() == [True, None]
            assert server.log_out("other") == 1
            assert await closed_with(other.connection) == (4401, "mergesync:logged-out")
        async with calling(server, query="?token=last"):
            await server.destroy()
    assert left == [
        ("goes", "left"), ("lost", "lost"), ("ends", "left"), ("closed", "fault"), ("wrong", "fault"),
        ("fails", "fault"), ("listener", "fault"), ("other", "unauthorized"), ("last", "shutdown"),
    ]  # fmt: skip
    assert [type(error) for error in errors] == [RemoteProtocolError, KeyError, ZeroDivisionError]
    assert all(client.left == ["p"] for client in everybody)


async def test_who_is_put_out(errors: list[Exception]) -> None:
    """Ejected like others, and banned; and with all others when the path is closed."""
    async with serving(errors, authorize=lambda info: Identity(info.token or "nobody")) as server:
        async with calling(server, query="?token=ann") as caller, calling(server, query="?token=bob") as other:
            path = server.path("p")
            assert path is not None
            await path.eject(path.clients[0], reason="bye", ban_seconds=60)
            assert (await closed_with(caller.connection))[0] == 4003
            async with calling(server, None, "?token=ann") as again:
                assert (await again.ask("join", "p"))[:2] == [False, "RefusedError"]
            await path.close(reason="all of you")
            assert await closed_with(other.connection) == (4001, "all of you")
    assert {type(error).__name__ for error in errors} <= {"RefusedConnectionError"}


async def test_paths_of_the_server_alone(errors: list[Exception]) -> None:
    """What it has not made is not there; what it removes its clients lose."""
    async with serving(errors, create="server") as server, calling(server, None) as caller:
        assert await caller.ask("join", "p") == [False, "RefusedError", "there is no such path"]
        assert await caller.do("exists", "p") is False
        await server.create_path("p", content=({}, {"v": 1}))
        assert await caller.do("exists", "p") is True
        assert await caller.do("join", "p") == {"v": 1}
        await server.remove_path("p")
        assert await closed_with(caller.connection) == (4410, "mergesync:removed")
    assert [type(error).__name__ for error in errors] == ["RefusedConnectionError"]


@pytest.mark.parametrize("hook", ["admit", "on_join", "on_changes"])
async def test_who_goes_while_a_hook_thinks_is_no_ghost(hook: str, errors: list[Exception]) -> None:
    """It leaves at once, and not when the hook is through."""
    gate, asked = asyncio.Event(), asyncio.Event()

    async def think(*_: Any) -> Any:
        asked.set()
        await gate.wait()
        return Access()

    options: Any = {hook: think}
    async with serving(errors, **options) as server:
        async with calling(server, "p" if hook == "on_changes" else None) as caller:
            await caller.connection.send('["set","v",1]' if hook == "on_changes" else '["join","p"]')
            await within(asked.wait())
            caller.connection.transport.abort()
            await eventually(lambda: server.get_stats().connections == 0)
            assert server.get_client_ids("p") == []
        gate.set()
    assert errors == []


async def test_a_path_that_cannot_be_loaded(errors: list[Exception]) -> None:
    """Its clients are closed with 1013 and come again, as others do."""
    backend = Backend()
    backend.load_trouble = OSError("no disk")
    async with serving(errors, backend) as server, calling(server, None) as caller:
        await caller.connection.send('["join","p"]')
        code, reason = await closed_with(caller.connection)
        assert (code, reason.partition(" ")[0]) == (1013, "mergesync:load")
    assert [type(error) for error in errors] == [LoadError]


# --- limits


async def test_limits(errors: list[Exception]) -> None:
    """Paths of the server and of a socket, unanswered requests, and the size of frames."""
    async with serving(errors, limits=Limits(paths=2)) as server, calling(server) as caller:
        await caller.do("join", "q")
        assert (await caller.ask("join", "r"))[:2] == [False, "QuotaExceededError"]
    async with serving(errors) as server:
        async with calling(server, None) as caller:
            for number in range(MAX_CHANNELS):
                await caller.do("join", str(number))
            assert (await caller.ask("join", "more"))[:2] == [False, "LimitExceededError"]
            caller.connection.transport.write(b"\x81\xff" + (MAX_READ_BYTES + 1).to_bytes(8, "big") + b"\0\0\0\0")
            assert (await closed_with(caller.connection))[0] == 1009
        async with calling(server) as caller:
            member = everybody[-1].members["p"]
            await caller.do("name", "ann")
            async with calling(server) as other:
                await other.do("name", "bob")
                asking = [asyncio.create_task(member.ask("bob", n)) for n in range(MAX_UNANSWERED_OPERATIONS)]
                await other.next()
                assert (await caller.ask("act", "x"))[:2] == [False, "LimitExceededError"]
            results = await within(asyncio.gather(*asking, return_exceptions=True))
            assert {type(result) for result in results} == {RequestFailedError}


async def test_who_does_not_read(errors: list[Exception]) -> None:
    """Counts with what waits for all clients: it is closed when there is nothing left, and others are not."""
    async with serving(errors, limits=Limits(total_outbox_bytes=1_000_000)) as server:
        async with calling(server) as reader, calling(server) as one, calling(server) as other:
            for caller in (one, other):
                caller.connection.transport.pause_reading()
            path = server.path("p")
            assert path is not None
            laggards = server._switchboard._laggards
            most = 0
            for number in range(1000):
                path.store.set_value("v", [number, "x" * 50_000])
                assert (await reader.next())[0] == "changed"
                most = max(most, laggards.waiting_bytes)
                if len(path.clients) == 1:
                    break
            assert 500_000 < most <= 1_000_000
            assert len(path.clients) == 1
            for caller in (one, other):
                caller.connection.transport.resume_reading()
                assert (await closed_with(caller.connection))[0] == 1013
    assert [(type(error), error.limit) for error in errors if isinstance(error, LimitExceededError)] == [
        (LimitExceededError, "socket")
    ] * 2


def test_prefixes() -> None:
    """The longest that fits; `/` is all."""

    async def one(socket: GatewaySocket) -> None: ...

    async def other(socket: GatewaySocket) -> None: ...

    gateways = Gateways({"/a": one, "/a/b": other})
    assert gateways.find("/a?x=1") == (one, "")
    assert gateways.find("/a/b/c%20d?x=/a") == (other, "c%20d")
    assert gateways.find("/ab") is None
    assert Gateways({"/": one}).find("/x") == (one, "x")
    assert not Gateways({})
    for prefix in ("a", "", "/a?b"):
        with pytest.raises(ValueError, match="prefix"):
            Gateways({prefix: one})
    with pytest.raises(ValueError, match="relay"):
        WsServer(relay=True, gateways={"/a": one})


async def test_in_an_asgi_app(errors: list[Exception]) -> None:
    """As any path, below the mount point."""
    everybody.clear()
    ws_server = WsServer(gateways={"/plain": plain}, on_ignored_error=errors.append)
    async with uvicorn_port(asgi_app(ws_server, "/sync")) as port:
        store = MergeableStore()
        async with synced(store, f"ws://127.0.0.1:{port}/sync/p"), raw(f"ws://127.0.0.1:{port}/sync/plain") as socket:
            caller = Caller(socket)
            await caller.do("join", "p")
            await caller.ask("set", "v", 1)
            await eventually(lambda: store.get_value("v") == 1)
            await caller.next()
            await socket.send('["close",4001,"enough"]')
            assert await closed_with(socket) == (4001, "enough")
    assert errors == []
