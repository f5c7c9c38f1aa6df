"""Names, messages and questions between clients over real sockets."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mergesync import (
    ConnectionLostError,
    MergeableStore,
    NameTakenError,
    NotSupportedError,
    RemoteProtocolError,
    RequestFailedError,
    RequestTimeoutError,
    SendResult,
    WsClient,
    create_ws_server,
)
from mergesync.limits import MAX_MESSAGES_BEING_ANSWERED, MAX_NAME_BYTES, MAX_UNANSWERED_OPERATIONS
from mergesync.net.listening import ListeningWsServer
from mergesync.net.naming import Naming
from mergesync.net.requests import send_result
from mergesync.sync.operations import operation_remainder
from mergesync.sync.subprotocols import EXTENDED
from tests.support import eventually, within

from .kit import Proxy, closed_with, raw, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


class Room:
    """A server, and clients that keep what they hear."""

    def __init__(self, server: ListeningWsServer, errors: list[Exception], stack: AsyncExitStack) -> None:
        self.server = server
        self.heard: dict[str, list[Any]] = {}
        self._errors = errors
        self._stack = stack

    async def enter(self, name: str | None, answer: Any = None, path: str = "p", url: str | None = None) -> Any:
        """A client of that name, which gives that answer to everything."""
        options: Any = {"name": name, "on_ignored_error": self._errors.append}
        url = url_of(self.server, path) if url is None else url
        client = await self._stack.enter_async_context(synced(MergeableStore(), url, **options))
        heard = self.heard.setdefault(name or "", [])

        def hear(sender: str | None, message: Any) -> Any:
            heard.append((sender, message))
            return answer

        client.add_message_listener(hear)
        await eventually(lambda: client.name == name or self._errors)
        return client


@pytest.fixture(params=["refuse"])
async def room(request: pytest.FixtureRequest, errors: list[Exception]) -> AsyncIterator[Room]:
    """A room with the policy for names that the test asks for."""
    async with create_ws_server("127.0.0.1", 0, names=request.param, on_ignored_error=errors.append) as server:
        async with AsyncExitStack() as stack:
            yield Room(server, errors, stack)


def policy(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("room", [name], indirect=True)


# --- messages


async def test_send(room: Room) -> None:
    """To one, to several and to all, on one path; the sender hears what became of it name by name."""
    ann, _bob, _col = [await room.enter(name) for name in ("ann", "bob", "col")]
    await room.enter("bob", path="elsewhere")
    assert await within(ann.send("bob", {"m": [1]})) == SendResult(("bob",), (), ())
    assert await within(ann.send(["col", "dan", "ann"], 2)) == SendResult(("col",), ("dan", "ann"), ())
    assert await within(ann.send(None, None)) == SendResult(("bob", "col"), (), ())
    await eventually(lambda: len(room.heard["col"]) == 2)
    assert room.heard == {"ann": [], "bob": [("ann", {"m": [1]}), ("ann", None)], "col": [("ann", 2), ("ann", None)]}


async def test_the_server_sends_to_all_but_some(room: Room) -> None:
    """It says to whom, and hears whom it was sent to."""
    for name in ("ann", "bob", "col"):
        await room.enter(name)
    path = room.server.path("p")
    assert path is not None
    assert path.send(None, 1, exclude="ann") == SendResult(("bob", "col"), (), ())
    assert path.send(["ann", "bob", "dan"], 2, exclude=["bob", "eve"]) == SendResult(("ann",), ("dan",), ())
    assert path.send("ann", 3, exclude=None) == SendResult(("ann",), (), ())
    await eventually(lambda: len(room.heard["ann"]) == 2)
    assert room.heard == {"ann": [(None, 2), (None, 3)], "bob": [(None, 1)], "col": [(None, 1)]}


async def test_who_does_not_read(room: Room) -> None:
    """Is not delivered to, and the sender hears that."""
    ann = await room.enter("ann")
    async with raw(url_of(room.server), subprotocols=["plain", EXTENDED]) as mute:
        await mute.send('X\n["n","name",["mute",""]]')
        await eventually(lambda: len(room.server.get_client_ids("p")) == 2)
        mute.transport.pause_reading()
        results = [await within(ann.send("mute", "x" * 300_000)) for _ in range(60)]
        assert results[0] == SendResult(("mute",), (), ())
        assert results[-1] == SendResult((), (), ("mute",))
        mute.transport.resume_reading()


async def test_ask(room: Room) -> None:
    """The first who has an answer gives it; who has none keeps nobody waiting."""
    ann = await room.enter("ann")
    await room.enter("mute")
    await room.enter("bob", {"answer": 42})
    assert await within(ann.ask(["mute", "bob"], "why?")) == ("bob", {"answer": 42})
    assert await within(ann.ask(None, "why?")) == ("bob", {"answer": 42})
    for to, reason in (("dan", "no-receiver"), ([], "no-receiver"), ("mute", "no-answer")):
        with pytest.raises(RequestFailedError) as raised:
            await within(ann.ask(to, "why?"))
        assert raised.value.reason == reason


async def test_ask_who_takes_too_long(room: Room) -> None:
    """The server says so; and so it does if who was asked goes away."""
    ann, bob = await room.enter("ann"), await room.enter("bob")
    never = asyncio.Event()
    bob.add_message_listener(lambda *_: never.wait())
    with pytest.raises(RequestFailedError) as raised:
        await within(ann.ask("bob", 1, timeout_seconds=0.1))
    assert raised.value.reason == "timeout"
    asking = asyncio.create_task(ann.ask("bob", 2))
    await eventually(lambda: len(room.heard["bob"]) == 2)
    await within(bob.destroy())
    with pytest.raises(RequestFailedError) as raised:
        await within(asking)
    assert raised.value.reason == "no-receiver"


async def test_listeners(room: Room, errors: list[Exception]) -> None:
    """All hear; the first answer counts, plain or awaited; one that raises is reported and stops nobody."""
    ann, bob = await room.enter("ann"), await room.enter("bob")

    async def answer(sender: str | None, message: Any) -> str:
        await asyncio.sleep(0)
        return f"{sender} says {message}"

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    listener_ids = [bob.add_message_listener(listener) for listener in (fail, answer, lambda *_: "later")]
    assert await within(ann.ask("bob", "hello")) == ("bob", "ann says hello")
    assert [type(error) for error in errors] == [ZeroDivisionError]
    for listener_id in listener_ids:
        bob.del_listener(listener_id)
    with pytest.raises(RequestFailedError):
        await within(ann.ask("bob", "hello"))


async def test_more_messages_than_can_be_answered(room: Room) -> None:
    """Are answered as by one without listeners, so that nothing grows without end."""
    ann, bob = await room.enter("ann"), await room.enter("bob")
    go = asyncio.Event()
    bob.add_message_listener(lambda *_: go.wait())
    for number in range(MAX_MESSAGES_BEING_ANSWERED):
        await within(ann.send("bob", number))
    await eventually(lambda: len(room.heard["bob"]) == MAX_MESSAGES_BEING_ANSWERED)
    with pytest.raises(RequestFailedError):
        await within(ann.ask("bob", "too much"))
    go.set()
    await eventually(lambda: not bob._session.mailbox._answering)
    assert await within(ann.ask("bob", "again")) == ("bob", True)


# --- names


async def test_without_a_name(room: Room) -> None:
    """Nothing can be sent."""
    nobody = await room.enter(None)
    for asking in (nobody.send(None, 1), nobody.ask(None, 1)):
        with pytest.raises(RequestFailedError) as raised:
            await within(asking)
        assert raised.value.reason == "no-name"


async def test_refuse(room: Room, errors: list[Exception]) -> None:
    """The second has no name, and hears of it; it syncs all the same."""
    first, second = await room.enter("ann"), await room.enter("ann")
    assert [type(error) for error in errors] == [NameTakenError]
    assert (first.name, second.name, second.status) == ("ann", None, "live")


@policy("replace")
async def test_replace(room: Room, errors: list[Exception]) -> None:
    """The first loses it, and hears of it."""
    first, second = await room.enter("ann"), await room.enter("ann")
    await eventually(lambda: errors)
    assert [type(error) for error in errors] == [NameTakenError]
    assert (first.name, second.name, first.status) == (None, "ann", "live")


@policy("many")
async def test_many(room: Room, errors: list[Exception]) -> None:
    """Both have it."""
    bob = await room.enter("bob")
    await room.enter("ann")
    await room.enter("ann")
    assert await within(bob.send("ann", 1)) == SendResult(("ann",), (), ())
    await eventually(lambda: room.heard["ann"] == [("bob", 1)] * 2)
    assert errors == []


async def test_a_name_comes_back_with_the_connection(room: Room, errors: list[Exception]) -> None:
    """Whoever has it by then."""
    async with Proxy(lambda: room.server.port) as proxy:
        ann, bob = await room.enter("ann", url=proxy.url), await room.enter("bob")
        proxy.cut()
        await eventually(lambda: ann.name is None)
        await eventually(lambda: ann.client.connections == 2 and ann.name == "ann")
        assert await within(bob.send("ann", "welcome back")) == SendResult(("ann",), (), ())
        await eventually(lambda: room.heard["ann"] == [("bob", "welcome back")])
        await within(ann.destroy())
    assert [type(error) for error in errors] in ([], [ConnectionLostError])


async def test_a_name_on_a_connection_that_died_unnoticed(room: Room) -> None:
    """Whoever knows its secret gets it at once; a client says the same one on each connection."""
    naming = Naming("ann")
    first, second = naming.ask(), naming.ask()
    assert first is not None
    assert second is not None
    assert (first.body, first.request_id == second.request_id) == (second.body, False)
    url = url_of(room.server)
    async with raw(url, subprotocols=["plain", EXTENDED]) as dead, raw(url, subprotocols=["plain", EXTENDED]) as alive:
        for connection in (dead, alive):
            await connection.send(f"X\n{operation_remainder(first)}")
            assert json.loads(str(await within(connection.recv()))[2:])[1:] == ["ok", "ann"]


# --- what goes wrong


async def test_connections_that_are_lost(room: Room) -> None:
    """What was asked fails; what is asked meanwhile waits for the next connection, but not for ever."""
    async with Proxy(lambda: room.server.port) as proxy:
        ann, bob = await room.enter("ann", url=proxy.url), await room.enter("bob")
        bob.add_message_listener(lambda *_: asyncio.Event().wait())
        asking = asyncio.create_task(ann.ask("bob", 1))
        await eventually(lambda: room.heard["bob"])
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(ConnectionLostError):
            await within(asking)
        with pytest.raises(RequestTimeoutError):
            await within(ann.send("bob", 2, timeout_seconds=0.05))
        waiting = asyncio.create_task(ann.send("bob", 3))
        proxy.refusing = False
        assert await within(waiting) == SendResult(("bob",), (), ())
        waiting = asyncio.create_task(ann.ask("bob", 4))
        await eventually(lambda: len(room.heard["bob"]) == 3)
        await within(ann.destroy())
        with pytest.raises(ConnectionLostError):
            await within(waiting)


async def test_not_with_tinybase() -> None:
    """A server that does not agree on more is asked for nothing; that is told at once."""
    async with create_ws_server("127.0.0.1", 0) as server:
        options = {"subprotocols": ["plain"]}
        async with synced(MergeableStore(), url_of(server), name="ann", connect_options=options) as client:
            assert client.name is None
            with pytest.raises(NotSupportedError):
                await within(client.send(None, 1))
            with pytest.raises(NotSupportedError):
                await within(client.act("x"))


async def test_channels(room: Room) -> None:
    """Each channel is a path, with names of its own."""
    client: Any = WsClient(url_of(room.server), multiplexed=True)
    async with synced(MergeableStore(), client, "one", name="ann") as one:
        async with synced(MergeableStore(), client, "two", name="ann") as two:
            await eventually(lambda: one.name == two.name == "ann")
            bob = await room.enter("bob", path="p/two")
            two.add_message_listener(lambda sender, message: [sender, message])
            assert await within(bob.ask("ann", "hi")) == ("ann", ["bob", "hi"])


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("dance", None, "unknown"),
        *(("name", body, "invalid") for body in (None, "ann", ["ann"], ["", "s"], ["x" * (MAX_NAME_BYTES + 1), "s"])),
        *(("send", body, "invalid") for body in (None, [], ["ann", 1], [["ann", 1], 1], [None])),
        *(("ask", body, "invalid") for body in (None, [None, 1], [None, 1, "soon"], ["ann", 1, 1])),
    ],
)  # fmt: skip
async def test_what_the_server_does_not_understand(name: str, body: Any, reason: str, room: Room) -> None:
    """Is answered with why, and closes nothing."""
    async with raw(url_of(room.server), subprotocols=["plain", EXTENDED]) as connection:
        for request in ("null", '"r"'):
            await connection.send(f'X\n[{request},"{name}",{json.dumps(body)}]')
        while not (frame := str(await within(connection.recv()))).startswith("X\n"):
            pass
        request_id, answer, [found, text] = json.loads(frame[2:])
        assert (request_id, answer, found) == ("r", "error", reason)
        assert text
        await connection.send(f'X\n["n","name",["{"x" * MAX_NAME_BYTES}","s"]]')
        assert json.loads(str(await within(connection.recv()))[2:])[1] == "ok"


async def test_answers_nobody_asked_for(room: Room, errors: list[Exception]) -> None:
    """Are passed over on both sides."""
    ann = await room.enter("ann", "yes")
    async with raw(url_of(room.server), subprotocols=["plain", EXTENDED]) as connection:
        for frame in ('["r","ok",1]', '["r","error",1]', '[null,"ok",1]'):
            await connection.send(f"X\n{frame}")
        await connection.send('X\n["n","name",["raw",""]]')
        await eventually(lambda: len(room.server.get_client_ids("p")) == 2)
        assert await within(ann.send("raw", 1)) == SendResult(("raw",), (), ())
    assert errors == []


async def test_too_many_questions(room: Room) -> None:
    """A client that asks more at once than is answered is closed with 1013."""
    await room.enter("bob")
    async with raw(url_of(room.server), subprotocols=["plain", EXTENDED]) as connection:
        await connection.send('X\n["n","name",["raw",""]]')
        bob = await room.enter("carl")
        bob.add_message_listener(lambda *_: asyncio.Event().wait())
        for number in range(MAX_UNANSWERED_OPERATIONS + 1):
            await connection.send(f'X\n["{number}","ask",[["carl"],1,60]]')
        assert await closed_with(connection) == (1013, "tinybase:15:requests")


async def test_what_the_client_does_not_understand(errors: list[Exception]) -> None:
    """Nonsense of a server raises where it was asked for, or is passed over."""
    with pytest.raises(RemoteProtocolError):
        send_result({"delivered": 1})
