"""Changes that depend on a version, over real sockets."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mergesync import (
    MISSING,
    Access,
    Changes,
    Client,
    ClientInfo,
    Identity,
    InvalidCellError,
    MergeableStore,
    NotSupportedError,
    RequestFailedError,
    ServerPath,
    StaleVersionError,
    create_ws_server,
)
from mergesync.net.listening import ListeningWsServer
from mergesync.sync.messages import MessageType
from mergesync.sync.subprotocols import EXTENDED
from mergesync.sync.versions import version_of
from tests.support import eventually, same_content, within

from .kit import Backend, raw, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


async def test_the_present_version(server: ListeningWsServer) -> None:
    """The changes are made on the server, and come to all, this client included, before it hears that they are."""
    one, other = MergeableStore(), MergeableStore()
    async with synced(one, url_of(server)) as synchronizer, synced(other, url_of(server)):
        one.set_row("t", "gone", {"c": 1})
        version = synchronizer.version("t", "r")
        newer = await within(
            synchronizer.compare_and_set(version, ({"t": {"r": {"c": [1]}, "gone": MISSING}}, {"v": 2}))
        )
        assert one.get_content() == ({"t": {"r": {"c": [1]}}}, {"v": 2})
        assert newer == synchronizer.version("t", "r") != version
        await eventually(lambda: same_content(one, other))


@pytest.mark.parametrize(
    ("scope", "content"),
    [
        ({}, [{"t": {"r": {"c": None}}}, {"v": [1]}]),
        ({"table_id": "t"}, {"r": {"c": None}}),
        ({"table_id": "t", "row_id": "r"}, {"c": None}),
        ({"table_id": "t", "row_id": "r", "cell_id": "c"}, None),
        ({"value_id": "v"}, [1]),
    ],
)
async def test_a_stale_version(scope: Any, content: Any, server: ListeningWsServer) -> None:
    """Nothing is changed, and the client hears the present version, with which it can try again, and what is there."""
    store = MergeableStore()
    async with synced(store, url_of(server)) as synchronizer:
        version = synchronizer.version(**scope)
        store.set_cell("t", "r", "c", None).set_value("v", [1])
        edits = ({"t": {"r": {"c": 2}}}, {"v": 2})
        with pytest.raises(StaleVersionError) as raised:
            await within(synchronizer.compare_and_set(version, edits))
        assert raised.value.version == synchronizer.version(**scope)
        assert raised.value.content == content
        assert store.get_content() == ({"t": {"r": {"c": None}}}, {"v": [1]})
        await within(synchronizer.compare_and_set(raised.value.version, edits))
        assert store.get_content() == ({"t": {"r": {"c": 2}}}, {"v": 2})


async def test_nothing_there(server: ListeningWsServer) -> None:
    """A cell that is gone is told from one that is null."""
    store = MergeableStore()
    async with synced(store, url_of(server)) as synchronizer:
        version = synchronizer.version(value_id="v")
        store.set_value("v", 1).del_value("v")
        with pytest.raises(StaleVersionError) as raised:
            await within(synchronizer.compare_and_set(version, ({}, {"v": 1})))
        assert raised.value.content is MISSING


async def test_racing_writers(server: ListeningWsServer) -> None:
    """Of many who want the same, one wins each round, and the others hear who."""
    writers, rounds = 20, 10
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(synced(MergeableStore(), url_of(server))) for _ in range(writers)]

        async def tries(number: int, edits: Any) -> int | None:
            client = clients[number]
            try:
                await client.compare_and_set(client.version(value_id="turn"), edits)
            except StaleVersionError:
                return None
            return number

        for turn in range(rounds):
            versions = {client.version(value_id="turn") for client in clients}
            assert len(versions) == 1
            edits: Any = ({}, {"turn": turn // 2})  # every other time it is what is there already
            won = await within(asyncio.gather(*(tries(number, edits) for number in range(writers))))
            assert len([number for number in won if number is not None]) == 1
            await eventually(lambda: len({client.version(value_id="turn") for client in clients}) == 1)


async def test_a_writer_that_counts(server: ListeningWsServer) -> None:
    """Nobody's step is lost when all try until they win."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(synced(MergeableStore(), url_of(server))) for _ in range(5)]

        async def count(client: Any) -> None:
            version, present = client.version(value_id="n"), client.store.get_value("n", 0)
            for _ in range(10):
                while True:
                    try:
                        version = await client.compare_and_set(version, ({}, {"n": present + 1}))
                        present += 1
                        break
                    except StaleVersionError as error:
                        version, present = error.version, error.content

        await within(asyncio.gather(*(count(client) for client in clients)))
        assert clients[0].store.get_value("n") == 50


async def test_what_cannot_be_done(server: ListeningWsServer, errors: list[Exception]) -> None:
    """Wrong cells raise at the call; a server without a store, or a TinyBase server, does not do it."""
    async with synced(MergeableStore(), url_of(server)) as synchronizer:
        with pytest.raises(InvalidCellError):
            await synchronizer.compare_and_set(synchronizer.version(), ({}, {"v": float("nan")}))
        with pytest.raises(RequestFailedError) as raised:
            await within(synchronizer.compare_and_set("of nothing", ({}, {})))
        assert raised.value.reason == "invalid"
    async with create_ws_server("127.0.0.1", 0, relay=True) as relay:
        async with synced(
            MergeableStore(), url_of(relay), request_timeout_seconds=0.1, on_ignored_error=errors.append
        ) as client:
            with pytest.raises(RequestFailedError) as raised:
                await within(client.compare_and_set(client.version(), ({}, {})))
            assert raised.value.reason == "no-store"
        options: Any = {"connect_options": {"subprotocols": ["plain"]}, "request_timeout_seconds": 0.1}
        async with synced(MergeableStore(), url_of(relay), on_ignored_error=errors.append, **options) as client:
            with pytest.raises(NotSupportedError):
                await within(client.compare_and_set(client.version(), ({}, {})))


async def test_listeners_of_the_server_that_raise(server: ListeningWsServer, errors: list[Exception]) -> None:
    """Take the changes back; it is reported, and the client hears that it was not done."""
    async with synced(MergeableStore(), url_of(server)) as synchronizer:
        (path,) = server._switchboard._paths.values()
        store = path._hub.store
        assert store is not None

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        store.add_value_listener("v", fail, True)
        with pytest.raises(RequestFailedError) as raised:
            await within(synchronizer.compare_and_set(synchronizer.version(), ({}, {"v": 1})))
        assert raised.value.reason == "failed"
        assert (store.get_values(), synchronizer.store.get_values()) == ({}, {})
    assert [type(error) for error in errors] == [ZeroDivisionError]


async def test_listeners_that_raise_when_it_is_done(server: ListeningWsServer, errors: list[Exception]) -> None:
    """They take nothing back, so the client hears that it has won (simulator, seed 925 of rooms)."""
    async with synced(MergeableStore(), url_of(server)) as synchronizer:
        (path,) = server._switchboard._paths.values()
        store = path._hub.store
        assert store is not None

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        store.add_value_listener("v", fail)
        version = await within(synchronizer.compare_and_set(synchronizer.version(), ({}, {"v": 1})))
        assert store.get_values() == synchronizer.store.get_values() == {"v": 1}
        assert version == synchronizer.version()
    assert [type(error) for error in errors] == [ZeroDivisionError]


async def test_who_wins_is_told_when_it_is_stored() -> None:
    """So that a server that dies lets nobody else win (simulator, seed 29 of rooms); or that it cannot be stored."""
    backend = Backend()
    async with (
        create_ws_server("127.0.0.1", 0, backend, on_ignored_error=lambda _: None) as server,
        synced(MergeableStore(), url_of(server)) as synchronizer,
    ):
        version = await within(synchronizer.compare_and_set(synchronizer.version(), ({}, {"v": 1})))
        assert backend.values("p") == {"v": 1}
        backend.flush_trouble = OSError("full")
        with pytest.raises(RequestFailedError) as raised:
            await within(synchronizer.compare_and_set(version, ({}, {"v": 2})))
        assert (raised.value.reason, synchronizer.store.get_values()) == ("save", {"v": 2})
        backend.flush_trouble = None


async def test_what_is_written_meanwhile_is_replaced() -> None:
    """The change is made when the hook has let it through, not when it was asked for (simulator, seed 998 of rooms)."""
    asked = asyncio.Event()
    may_go_on = asyncio.Event()

    async def on_changes(*_: Any) -> None:
        asked.set()
        await may_go_on.wait()

    async with (
        create_ws_server("127.0.0.1", 0, on_changes=on_changes) as server,
        synced(MergeableStore(), url_of(server)) as synchronizer,
        asyncio.TaskGroup() as tasks,
    ):
        version = synchronizer.version(value_id="turn")
        trying = tasks.create_task(synchronizer.compare_and_set(version, ({}, {"turn": "mine", "by": "me"})))
        await within(asked.wait())
        path = server.path("p")
        assert path is not None
        path.store.set_value("by", "somebody else")
        may_go_on.set()
        await within(trying)
        assert path.store.get_values() == {"turn": "mine", "by": "me"}


async def test_who_may_not_read_any_more_is_not_told_what_is_there() -> None:
    """It asked while it might, and what it has announced before is waited for (simulator, seed 42904)."""

    def authorize(info: ClientInfo) -> Identity:
        return Identity("ann", data=info.token)

    def admit(_: str, client: Client) -> Access:
        return Access(read=client.identity is not None and client.identity.data == "reader")

    async with (
        create_ws_server("127.0.0.1", 0, authorize=authorize, admit=admit) as server,
        server.open_path("p") as path,
        raw(f"{url_of(server)}?token=reader", subprotocols=["plain", EXTENDED]) as connection,
    ):

        async def said() -> Any:
            """What the server says next, but for changes."""
            while (message := json.loads(str(await within(connection.recv()))[2:]))[1] == MessageType.CONTENT_DIFF:
                pass
            return message

        path.store.set_value("v", "secret")
        version = version_of(MergeableStore(), value_id="v")
        await connection.send('S\n["announced",2,[1,0]]')
        await connection.send(f'X\n["mine","cas",{json.dumps([version, [{}, {"v": "mine"}]])}]')
        question, kind, _ = await said()
        assert kind == MessageType.GET_TABLE_DIFF
        await connection.send('X\n["token","token","writer"]')
        assert await said() == ["token", "ok", None]
        await connection.send(f'S\n["{question}",0,[[{{}}],{{}}]]')
        while (answer := await said())[0] != "mine":
            if answer[1] == MessageType.GET_VALUE_DIFF:
                await connection.send(f'S\n["{answer[0]}",0,[{{}}]]')
        assert answer[1:2] + answer[2][:1] == ["error", "refused"]


async def test_what_a_hook_drops_from_a_row_that_it_edits() -> None:
    """The change is not made then, as it would not be the one that was asked for."""

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        changes.tables["t"]["r"]["a"] = "edited"
        changes.tables["t"]["r"].pop("b", None)

    async with (
        create_ws_server("127.0.0.1", 0, on_changes=on_changes) as server,
        synced(MergeableStore(), url_of(server)) as synchronizer,
    ):
        version = synchronizer.version("t", "r")
        with pytest.raises(RequestFailedError, match="did not let it through"):
            await synchronizer.compare_and_set(version, ({"t": {"r": {"a": 1, "b": 2}}}, {}))
        assert synchronizer.version("t", "r") == version
        await synchronizer.compare_and_set(version, ({"t": {"r": {"a": 1}}}, {}))
        await eventually(lambda: synchronizer.store.get_row("t", "r") == {"a": "edited"})


@pytest.mark.parametrize(
    "body", [None, [], ["v"], [1, [{}, {}]], ["v", None], ["[[],[0,0]]", [{}]], ["[[],[0,0]]", [1, 2]]]
)
async def test_what_the_server_does_not_understand(body: Any, server: ListeningWsServer) -> None:
    """Is answered with why, and closes nothing."""
    async with raw(url_of(server), subprotocols=["plain", EXTENDED]) as connection:
        for _ in range(2):
            await connection.send(f'X\n["r","cas",{json.dumps(body)}]')
            assert json.loads(str(await within(connection.recv()))[2:])[1:][0] == "error"
