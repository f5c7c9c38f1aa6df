"""What clients ask the server to do, and what it asks them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mergesync import (
    Access,
    Changes,
    Client,
    ConnectionLostError,
    Identity,
    MergeableStore,
    RefusedError,
    RequestFailedError,
    RequestTimeoutError,
    SendResult,
    ServerPath,
    StaleVersionError,
    allow_write,
    create_ws_server,
)
from mergesync.net import actions as actions_module
from mergesync.net.actions import Actions
from mergesync.net.listening import ListeningWsServer
from mergesync.sync.subprotocols import EXTENDED
from tests.support import eventually, within

from .kit import Proxy, raw, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


async def failure(asking: Any) -> RequestFailedError:
    with pytest.raises(RequestFailedError) as raised:
        await within(asking)
    return raised.value


# --- actions


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_action(is_async: bool, server: ListeningWsServer) -> None:
    """It has path, client and data, and its result is the client's; what the client wrote before is there."""
    seen: list[Any] = []

    def double(path: ServerPath, client: Client, data: Any) -> Any:
        seen.append((path.id, client.id, path.store.get_values()))
        path.store.set_value("doubled", data["n"] * 2)
        return {"n": data["n"] * 2}

    async def double_later(path: ServerPath, client: Client, data: Any) -> Any:
        await asyncio.sleep(0)
        return double(path, client, data)

    assert server.action("double")(double_later if is_async else double) is (double_later if is_async else double)
    store = MergeableStore()
    async with synced(store, url_of(server)) as client:
        store.set_value("before", True)
        assert await within(client.act("double", {"n": 4})) == {"n": 8}
        assert store.get_values() == {"before": True, "doubled": 8}
        assert seen == [("p", server.get_client_ids("p")[0], {"before": True})]


async def test_what_an_action_raises(server: ListeningWsServer, errors: list[Exception]) -> None:
    """A refusal is told, with the application's own reason if it has one; a mistake is reported and not told."""

    def refuse(_path: ServerPath, _client: Client, data: Any) -> Any:
        match data:
            case "plain":
                raise RefusedError("not today")
            case "reason":
                raise RequestFailedError("sold out", "sold-out", {"left": 0})
            case "json":
                return {1, 2}
        raise ZeroDivisionError("a secret")

    server.action("refuse")(refuse)
    async with synced(MergeableStore(), url_of(server)) as client:
        error = await failure(client.act("refuse", "plain"))
        assert (error.reason, error.args[0], error.details) == ("refused", "not today", None)
        error = await failure(client.act("refuse", "reason"))
        assert (error.reason, error.args[0], error.details) == ("sold-out", "sold out", {"left": 0})
        assert errors == []
        for data in ("json", "bug"):
            error = await failure(client.act("refuse", data))
            assert (error.reason, "secret" in str(error)) == ("failed", False)
        assert [type(error) for error in errors] == [TypeError, ZeroDivisionError]
        assert (await failure(client.act("dance"))).reason == "unknown"


async def test_one_at_a_time(server: ListeningWsServer) -> None:
    """Actions of a path are called one after another; whose turn does not come in time is not called."""
    running: list[Any] = []
    gate = asyncio.Event()

    @server.action("slow")
    async def slow(_path: ServerPath, _client: Client, data: Any) -> Any:
        running.append(data)
        await gate.wait()
        return running.copy()

    async with synced(MergeableStore(), url_of(server)) as one, synced(MergeableStore(), url_of(server)) as other:
        first = asyncio.create_task(one.act("slow", 1))
        await eventually(lambda: running == [1])
        late = asyncio.create_task(other.act("slow", 2, timeout_seconds=0.05))
        with pytest.raises(RequestTimeoutError):
            await within(late)
        last = asyncio.create_task(other.act("slow", 3))
        gate.set()
        assert await within(first) == [1]
        assert await within(last) == [1, 3]


async def test_an_action_that_hangs(errors: list[Exception]) -> None:
    """Is given up, and keeps nobody from the next."""
    options: Any = {"hook_timeout_seconds": 0.1, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server:
        server.action("hang")(lambda *_: asyncio.Event().wait())
        server.action("work")(lambda *_: "done")
        async with synced(MergeableStore(), url_of(server)) as client:
            assert (await failure(client.act("hang"))).reason == "failed"
            assert await within(client.act("work")) == "done"
    assert [type(error) for error in errors] == [TimeoutError]


# --- actions that must not be done twice


async def test_a_connection_lost_on_the_way(server: ListeningWsServer, errors: list[Exception]) -> None:
    """With a key it is asked for again and done once; without one, nobody knows."""
    done: list[Any] = []
    gate = asyncio.Event()

    @server.action("book")
    async def book(_path: ServerPath, _client: Client, data: Any) -> Any:
        done.append(data)
        await gate.wait()
        return len(done)

    async with Proxy(lambda: server.port) as proxy, synced(MergeableStore(), proxy.url) as client:
        once = asyncio.create_task(client.act("book", "once", key="k1"))
        await eventually(lambda: done)
        proxy.cut()
        await eventually(lambda: client.client.connections == 2)
        await asyncio.sleep(0.05)
        gate.set()
        assert await within(once) == 1
        assert await within(client.act("book", "once", key="k1")) == 1
        assert await within(client.act("book", "twice", key="k2")) == 2
        assert done == ["once", "twice"]
        gate.clear()
        without = asyncio.create_task(client.act("book", "without"))
        await eventually(lambda: len(done) == 3)
        proxy.cut()
        with pytest.raises(ConnectionLostError):
            await within(without)
        gate.set()
        await eventually(lambda: client.status == "live")
    assert errors == []


def test_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results of late, by number and by size; what is under way is not forgotten."""
    monkeypatch.setattr(actions_module, "MAX_REMEMBERED_RESULTS", 3)
    monkeypatch.setattr(actions_module, "MAX_REMEMBERED_BYTES", 10)
    actions = Actions()
    answers: list[Any] = []

    def comes(key: str) -> bool:
        return actions.recall(("p", None, "act", key), lambda name, body: answers.append((key, name, body)))

    def ends(key: str, body: Any) -> None:
        actions.finish(("p", None, "act", key), "ok", body)

    assert not comes("slow")
    for number in range(4):
        assert not comes(str(number))
        ends(str(number), number)
    answers.clear()
    assert [comes(str(number)) for number in (2, 3)] == [True, True]
    assert answers == [("2", "ok", 2), ("3", "ok", 3)]
    assert not comes("1")
    ends("1", "x" * 20)
    assert not comes("1")
    answers.clear()
    assert comes("slow")
    ends("slow", 1)
    assert answers == [("slow", "ok", 1)] * 2


# --- the server asks


async def test_the_server_talks(server: ListeningWsServer) -> None:
    """It needs no name, and asks as clients do."""
    async with (
        synced(MergeableStore(), url_of(server), name="ann") as ann,
        synced(MergeableStore(), url_of(server)),
        server.open_path("p") as path,
    ):
        heard: list[Any] = []

        def hear(sender: str | None, message: Any) -> Any:
            heard.append((sender, message))
            return message

        ann.add_message_listener(hear)
        await eventually(lambda: path.names == ["ann"])
        assert sorted(map(str, map(path.name_of, path.clients))) == ["None", "ann"]
        assert path.send("ann", 1) == SendResult(("ann",), (), ())
        assert path.send(["ann", "bob"], 2) == SendResult(("ann",), ("bob",), ())
        assert path.send(None, 3) == SendResult(("ann",), (), ())
        assert await within(path.ask("ann", 4)) == ("ann", 4)
        assert heard == [(None, number) for number in (1, 2, 3, 4)]
        assert (await failure(path.ask("bob", 5))).reason == "no-receiver"
        ann.add_message_listener(lambda *_: asyncio.Event().wait())
        heard.clear()
        assert (await failure(path.ask("ann", None, timeout_seconds=0.05))).reason == "timeout"
        asking = asyncio.create_task(path.ask("ann", 6))
        await eventually(lambda: (None, 6) in heard)
        asking.cancel()
        await asyncio.wait([asking])


async def test_compare_and_set_on_the_server(server: ListeningWsServer) -> None:
    """The same rule, in one step of the event loop."""
    async with server.open_path("p") as path:
        version = path.version_of("t", "r")
        newer = path.compare_and_set(version, ({"t": {"r": {"c": 1}}}, {}))
        assert newer == path.version_of("t", "r") != version
        with pytest.raises(StaleVersionError) as raised:
            path.compare_and_set(version, ({"t": {"r": {"c": 2}}}, {}))
        assert (raised.value.content, raised.value.version) == ({"c": 1}, newer)
        everything = path.version
        path.compare_and_set(everything, ({}, {"v": 1}))
        assert path.version != everything


# --- who may


def accessing(**access: bool) -> Callable[..., Access]:
    return lambda _path_id, _client: Access(**access)


@pytest.mark.parametrize(
    ("access", "refused"),
    [({"actions": False}, {"act", "name", "send", "ask"}), ({"write": False}, {"cas"}), ({"read": False}, {"cas"})],
)
async def test_who_may_what(access: dict[str, bool], refused: set[str], errors: list[Exception]) -> None:
    """What `admit` does not grant is refused, and nothing else."""
    options: Any = {"admit": accessing(**access), "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server:
        server.action("act")(lambda *_: 1)
        asks = {
            "act": ["act", None, None, 1],
            "name": ["ann", ""],
            "send": [None, 1],
            "ask": [None, 1, 1],
            "cas": ["[[],[0,0]]", [{}, {"v": 1}]],
        }
        async with raw(url_of(server), subprotocols=["plain", EXTENDED]) as connection:
            for name, body in asks.items():
                await connection.send(f'X\n["{name}","{name}",{json.dumps(body)}]')
            answers = [json.loads(str(await within(connection.recv()))[2:]) for _ in asks]
        assert {name for name, kind, body in answers if kind == "error" and body[0] == "refused"} == refused


async def test_changes_on_a_condition_are_reviewed(errors: list[Exception]) -> None:
    """Rules and hooks decide of them as of all changes, but of all or nothing; what a hook edits is made as edited."""
    gate = asyncio.Event()

    async def review(_path: ServerPath, _client: Client, changes: Changes) -> None:
        await gate.wait()
        if "bad" in changes.values:
            raise RefusedError("bad")
        if "edited" in changes.values:
            changes.values["edited"] = "by the server"

    async with create_ws_server("127.0.0.1", 0, on_changes=review, on_ignored_error=errors.append) as server:
        store = MergeableStore()
        async with synced(store, url_of(server)) as client:
            trying = asyncio.create_task(client.compare_and_set(client.version(), ({}, {"bad": 1, "good": 1})))
            gate.set()
            error = await failure(trying)
            assert (error.reason, error.args[0]) == ("refused", "bad")
            await within(client.compare_and_set(client.version(), ({}, {"edited": 1, "good": 2})))
            assert store.get_values() == {"edited": "by the server", "good": 2}
            # while the hook takes its time somebody else is quicker
            gate.clear()
            trying = asyncio.create_task(client.compare_and_set(client.version(value_id="good"), ({}, {"good": 3})))
            await eventually(lambda: server._reception.turns_of("p").busy)
            path = server.path("p")
            assert path is not None
            path.store.set_value("good", 4)
            gate.set()
            with pytest.raises(StaleVersionError):
                await within(trying)
            assert path.store.get_value("good") == 4
    assert errors == []


async def test_changes_on_a_condition_keep_to_the_rules(errors: list[Exception]) -> None:
    """As those of messages do."""
    rules = [allow_write("mine", owner="owner")]
    options: Any = {
        "authorize": lambda info: Identity(info.query["who"]),
        "rules": rules,
        "on_ignored_error": errors.append,
    }
    async with (
        create_ws_server("127.0.0.1", 0, **options) as server,
        synced(MergeableStore(), url_of(server, "p?who=ann")) as client,
    ):
        await within(client.compare_and_set(client.version(), ({"mine": {"r": {"owner": "ann", "c": 1}}}, {})))
        bad: list[Any] = [({"mine": {"r": {"owner": "bob"}}}, {}), ({"other": {"r": {"c": 1}}}, {}), ({}, {"v": 1})]
        for edits in bad:
            assert (await failure(client.compare_and_set(client.version(), edits))).reason == "refused"
