"""Hooks of a server, over real sockets: who comes in, who hears of whom, and what goes wrong in hooks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mergesync import (
    Access,
    Changes,
    Client,
    ClientInfo,
    ConnectionLostError,
    Identity,
    InvalidCellError,
    LimitExceededError,
    LoadError,
    MergeableStore,
    NotDurableError,
    NotSupportedError,
    PathClosedError,
    QuotaExceededError,
    RedirectError,
    RefusedChangesError,
    RefusedConnectionError,
    RefusedError,
    ServerPath,
    WsServer,
    allow_write,
    allow_write_value,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.limits import Limits
from mergesync.net import switchboard
from mergesync.net.client import WsClient
from mergesync.net.listening import ListeningWsServer
from tests.support import TIMEOUT_SECONDS, Leftovers, eventually, same_content, within
from tests.unit.net.kit import (
    HLC,
    Backend,
    asgi_app,
    closed_with,
    diff_frame,
    mux,
    raw,
    subscribed,
    synced,
    url_of,
    uvicorn_port,
)

SECRET_TOKENS = {"ann": "t-ann", "bob": "t-bob"}


class World:
    """A server whose hooks a test gives, and what was reported."""

    def __init__(self, server: ListeningWsServer, errors: list[Exception]) -> None:
        self.server = server
        self.errors = errors

    def url(self, path: str = "p", token: str = "") -> str:
        """Where a path is, with a token in its query."""
        return url_of(self.server, path) + (f"?token={token}" if token else "")

    def store(self, path_id: str = "p") -> MergeableStore:
        """What the server has of a path."""
        path = self.server.path(path_id)
        assert path is not None
        return path.store


@asynccontextmanager
async def world(*arguments: Any, **hooks: Any) -> AsyncIterator[World]:
    """A server, which leaves nothing behind."""
    errors: list[Exception] = []
    leftovers = Leftovers()
    server = await create_ws_server("127.0.0.1", 0, *arguments, on_ignored_error=errors.append, **hooks)
    try:
        yield World(server, errors)
    finally:
        await within(server.destroy())
        await leftovers.none()


def named(info: ClientInfo) -> Identity:
    """Everybody is who they say."""
    if not info.token:
        raise RefusedError("who are you?")
    return Identity(info.token)


def later(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The same hook, async."""

    async def answer_later(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return hook(*arguments)

    return answer_later


def fail(*_: Any) -> Any:
    """A hook with a mistake in it."""
    raise KeyError("a mistake")


async def hang(*_: Any) -> Any:
    """A hook that never ends."""
    await asyncio.Event().wait()


SOON = 0.05

both = pytest.mark.parametrize("kind", [lambda hook: hook, later], ids=["plain", "async"])


# --- who comes in


@both
async def test_who_is_who_and_may_come(kind: Any) -> None:
    """Hooks know a client by what `authorize` has said of it; refusals are 401 and 403, before there is a socket."""
    seen: list[tuple[str, Client]] = []

    def admit(path_id: str, client: Client) -> Access:
        assert client.access == Access(read=False, write=False, presence=False, actions=False, overwrite=False)
        seen.append((path_id, client))
        if path_id == "closed":
            raise RefusedError("closed")
        if path_id == "teapot":
            raise RefusedError("I am a teapot", status=418)
        return Access(write=False)

    async with world(authorize=kind(named), admit=kind(admit)) as w:
        for path_id, token, status, text in [
            ("p", "", 401, "who are you?"),
            ("closed", "ann", 403, "closed"),
            ("teapot", "ann", 418, "I am a teapot"),
        ]:
            with pytest.raises(InvalidStatus) as caught:
                async with raw(w.url(path_id, token)):
                    pass
            assert caught.value.response.status_code == status
            assert text.encode() in (caught.value.response.body or b"")
        assert [type(error) for error in w.errors] == [RefusedConnectionError] * 3
        assert [error.path_id for error in w.errors] == ["p", "closed", "teapot"]  # type: ignore[attr-defined]
        headers = {"Authorization": "bearer  ann "}
        async with raw(w.url() + "?a=1&a=2&token=other", additional_headers=headers) as connection:
            path_id, client = seen[-1]
            assert (path_id, client.path_id, client.identity) == ("p", "p", Identity("ann"))
            assert client.info.query == {"a": "2", "token": "other"}
            assert client.info.headers["authorization"].endswith("ann")
            assert not client.info.multiplexed
            assert client.remote_address[0] == "127.0.0.1"
            await eventually(lambda: w.server.get_client_ids("p") == [client.id])
            assert connection.request is not None
            assert connection.request.headers["Sec-WebSocket-Key"] == client.id
            served = w.server.path("p")
            assert served is not None
            assert served.clients == [client]
            assert client.access == Access(write=False)


@pytest.mark.parametrize("hook", ["authorize", "admit"])
@pytest.mark.parametrize("mistake", [fail, later(fail), lambda *_: True, lambda *_: None, hang])
async def test_a_mistake_lets_nobody_in(hook: str, mistake: Any) -> None:
    """What a hook raises, returns or does not return: the answer is 500, and it is reported once, with the path."""
    async with world(**{hook: mistake}, hook_timeout_seconds=SOON) as w:
        with pytest.raises(InvalidStatus) as caught:
            async with raw(w.url()):
                pass
        assert caught.value.response.status_code == 500
        assert b"mistake" not in (caught.value.response.body or b"")
        (error,) = w.errors
        assert isinstance(error, KeyError | TypeError | TimeoutError)
        assert "path 'p', client" in error.__notes__[0]
        assert w.server.get_stats().connections == 0


async def test_an_expired_identity() -> None:
    """Does not come in."""
    async with world(authorize=lambda _: Identity("ann", time.time() - 1)) as w:
        with pytest.raises(RefusedConnectionError, match="has expired") as caught:
            await create_ws_synchronizer(MergeableStore(), w.url())
        assert caught.value.status == 401


async def test_a_client_sends_its_token() -> None:
    """A text, or what a function returns, for each connection; whoever is refused hears why."""
    fetched: list[str] = []

    async def fetch() -> str:
        fetched.append("ann")
        return "ann"

    async with world(authorize=named) as w:
        for token in ("ann", lambda: "ann", fetch):
            async with synced(
                MergeableStore(), w.url(), token=token, connect_options={"additional_headers": {"X": "y"}}
            ):
                path = w.server.path("p")
                assert path is not None
                (client,) = path.clients
                assert (client.identity, client.info.headers["x"]) == (Identity("ann"), "y")
        assert fetched == ["ann"]
        with pytest.raises(RefusedConnectionError, match="who are you") as caught:
            await within(create_ws_synchronizer(MergeableStore(), w.url()))
        assert caught.value.status == 401
        client_ = WsClient(w.url())
        with pytest.raises(ValueError, match="belong to the WsClient"):
            create_ws_synchronizer(MergeableStore(), client_, token="ann")


async def test_behind_other_doors() -> None:
    """An ASGI app answers alike; where an application took our `process_request` away, the socket is closed."""

    def admit(path_id: str, client: Client) -> Access:
        assert client.info.query == {"token": "ann"}
        raise RefusedError("not here")

    ws_server = WsServer(authorize=named, admit=admit, on_ignored_error=lambda _: None)
    async with uvicorn_port(asgi_app(ws_server, "/sync")) as port:
        for query, status in (("", 401), ("?token=ann", 403)):
            with pytest.raises(InvalidStatus) as caught:
                async with raw(f"ws://127.0.0.1:{port}/sync/p{query}"):
                    pass
            assert caught.value.response.status_code == status
    bare = WsServer(authorize=named, admit=admit, on_ignored_error=lambda _: None)
    async with bare, websockets.serve(bare.handler, "127.0.0.1", 0) as serving:
        port = next(iter(serving.sockets)).getsockname()[1]
        async with raw(f"ws://127.0.0.1:{port}/p") as connection:
            assert await closed_with(connection) == (4401, "mergesync:refused who are you?")
        async with raw(f"ws://127.0.0.1:{port}/p?token=ann") as connection:
            code, reason = await closed_with(connection)
            assert (code, reason[:26]) == (4403, "mergesync:refused not here")


async def test_an_application_that_answers_requests_too() -> None:
    """It is asked after the hooks."""

    async def process_request(connection: Any, request: Any) -> Any:
        return connection.respond(204, "") if request.path.startswith("/health") else None

    async with world(authorize=named, serve_options={"process_request": process_request}) as w:
        for path, token, status in (("p", "", 401), ("health", "", 401), ("health", "ann", 204)):
            with pytest.raises(InvalidStatus) as caught:
                async with raw(w.url(path, token)):
                    pass
            assert caught.value.response.status_code == status
        async with synced(MergeableStore(), w.url("p", "ann")):
            pass


def only_good(path_id: str, client: Client) -> Access:
    """Paths of which the names are good."""
    if not path_id.endswith("good"):
        raise RefusedError("bad")
    return Access()


@both
async def test_a_refused_channel_harms_no_other(kind: Any) -> None:
    """It gets no echo, as TinyBase knows no other no; frames on it are ignored, the other channel goes on."""
    async with world(admit=kind(only_good)) as w, mux(w.url("base")) as connection:
        await connection.send('S\n["x",-1,[1,"bad"]]')
        await connection.send("M\nbad\n" + diff_frame())
        await subscribed(connection, "good")
        await connection.send("M\ngood\n" + diff_frame(7))
        await eventually(lambda: w.store("base/good").get_values() == {"v": 7})
        assert w.server.get_path_ids() == ["base/good"]
        assert [str(error)[:3] for error in w.errors] == ["bad"]


@both
async def test_our_client_hears_of_a_refused_channel(kind: Any) -> None:
    """Whoever waits for it is told, and the other channels of its socket go on."""
    async with world(admit=kind(only_good)) as w:
        client = WsClient(w.url("base"), multiplexed=True, on_ignored_error=w.errors.append)
        good = MergeableStore().set_value("v", 1)
        async with synced(good, client, "good"):
            with pytest.raises(RefusedConnectionError, match="'bad' was refused: bad") as caught:
                async with create_ws_synchronizer(MergeableStore(), client, "bad"):
                    pass
            assert caught.value.status == 403
            good.set_value("v", 2)
            await eventually(lambda: w.store("base/good").get_values() == {"v": 2})
            assert client.connections == 1
            patient = await within(create_ws_synchronizer(MergeableStore(), client, "also bad", wait=False))
            patient._session.start(None)
            await eventually(lambda: "also bad" in str(w.errors[-1]))
            await within(patient.destroy())


async def test_another_token_opens_channels_that_were_refused() -> None:
    """At once, on the same socket; on another one if there was nowhere to show it."""

    def admit(path_id: str, client: Client) -> Access:
        assert client.identity is not None
        if path_id == "staff" and client.identity.data != "badge":
            raise RefusedError("staff only")
        return Access()

    def authorize(info: ClientInfo) -> Identity:
        return Identity("ann", data=info.token)

    async with world(authorize=authorize, admit=admit) as w:
        client = WsClient(w.url(""), multiplexed=True, token="none", on_ignored_error=lambda _: None)
        staff = await within(create_ws_synchronizer(MergeableStore(), client, "staff", wait=False))
        with pytest.raises(RefusedConnectionError):
            await within(staff.start_sync())
        await within(client.refresh_token("badge"))
        await eventually(lambda: staff.status == "live")
        assert client.connections == 2
        async with synced(MergeableStore(), client, "hall") as hall:
            await within(client.refresh_token("none"))
            await eventually(lambda: staff.error is not None)
            await within(client.refresh_token("badge"))
            await eventually(lambda: staff.status == hall.status == "live")
            assert client.connections == 2
        await within(staff.destroy())


async def test_a_client_that_is_gone_before_it_is_admitted() -> None:
    """Does not come onto the path."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def admit(path_id: str, client: Client) -> Access:
        entered.set()
        await gate.wait()
        return Access()

    joined: list[Client] = []
    async with world(admit=admit, on_join=lambda _, client: joined.append(client)) as w:
        async with mux(w.url("base")) as connection:
            await connection.send('S\n["x",-1,[1,"c"]]')
            await within(entered.wait())
        gate.set()
        await eventually(lambda: w.server.get_stats().connections == 0)
        assert (joined, w.server.get_path_ids(), w.errors) == ([], [], [])


async def test_an_id_that_the_application_gives() -> None:
    """Who comes again gets it, whoever seems to be there still; another identity gets another id."""
    events: list[tuple[str, str]] = []

    def authorize(info: ClientInfo) -> Identity:
        return Identity(str(info.token), client_id=info.query.get("client"))

    async with world(
        authorize=authorize,
        presence=True,
        on_join=lambda _, client: events.append(("join", client.id)),
        on_leave=lambda _, client, reason: events.append((reason, client.id)),
    ) as w:
        url = f"{w.url(token='ann')}&client=tab-1"
        async with raw(url, ping_interval=None) as dead, synced(MergeableStore(), w.url(token="watcher")):
            await eventually(lambda: "tab-1" in w.server.get_client_ids("p"))
            dead.transport.pause_reading()
            store, rows = MergeableStore(), MergeableStore()
            async with (
                synced(store, url) as ann,
                synced(rows, w.url("p/~clients", "bob")),
                raw(f"{w.url(token='eve')}&client=tab-1"),
            ):
                assert ann.client_id == "tab-1"
                await eventually(lambda: len(rows.get_table("clients")) == 3)
                assert rows.get_cell("clients", "tab-1", "identity") == "ann"
                assert w.server.get_client_ids("p").count("tab-1") == 1
                dead.transport.resume_reading()
                assert await closed_with(dead) == (4409, "mergesync:replaced")
                await within(ann.set_presence({"mood": "good"}))
                await eventually(lambda: rows.get_cell("clients", "tab-1", "mood") == "good")
                w.store().set_value("v", 1)
                await eventually(lambda: store.get_values() == {"v": 1})
        assert [event for event in events if event[1] == "tab-1"][:3] == [
            ("join", "tab-1"), ("lost", "tab-1"), ("join", "tab-1"),
        ]  # fmt: skip
    for wrong in ("", "S", "two\nlines"):
        async with world(authorize=lambda _, wrong=wrong: Identity("ann", client_id=wrong)) as w:
            with pytest.raises(InvalidStatus, match="500"):
                async with raw(w.url()):
                    pass
            assert [type(error) for error in w.errors] == [ValueError]


# --- who is there


async def test_each_is_welcomed_and_missed_once() -> None:
    """However they come and go, on plain sockets and channels, also when hooks take their time or fail."""
    events: list[tuple[str, str, str]] = []
    chance = random.Random(4)
    at_once: dict[str, int] = {}

    async def note(kind: str, path: ServerPath, client: Client) -> None:
        at_once[path.id] = at_once.get(path.id, 0) + 1
        assert at_once[path.id] == 1, "one at a time on a path"
        events.append((kind, path.id, client.id))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        at_once[path.id] -= 1
        if chance.random() < 0.2:
            raise KeyError("a mistake")

    async def on_join(path: ServerPath, client: Client) -> None:
        await note("join", path, client)

    async def on_leave(path: ServerPath, client: Client, reason: str) -> None:
        await note("leave", path, client)

    async def welcomed(path_id: str, connection: ClientConnection) -> None:
        assert connection.request is not None
        event = ("join", path_id, connection.request.headers["Sec-WebSocket-Key"])
        await eventually(lambda: event in events)

    async def come_and_go(number: int) -> None:
        for visit in range(6):
            stays = visit % 2 == 0  # until it is welcomed; else it may be gone before its turn
            if number % 2:
                path_id = f"p{number % 3}"
                async with raw(w.url(path_id)) as connection:
                    with suppress(ConnectionClosed):  # by a hook that made a mistake
                        await connection.send(diff_frame(number))
                    if stays:
                        await welcomed(path_id, connection)
                    await asyncio.sleep(chance.random() / 100)
                    if chance.random() < 0.5:
                        connection.transport.abort()
            else:
                async with mux(w.url("")) as connection:
                    await connection.send('S\n["x",-1,[1,"p0"]]')
                    await connection.send('S\n["y",-1,[1,"p1"]]')
                    if stays:
                        await welcomed("p0", connection)
                    if chance.random() < 0.5:
                        await connection.send('S\n[null,-1,[2,"p0"]]')

    async with world(on_join=on_join, on_leave=on_leave) as w:
        await within(asyncio.gather(*map(come_and_go, range(8))), 3 * TIMEOUT_SECONDS)
        async with raw(w.url()), raw(w.url()):  # who is there until the end
            await eventually(lambda: [kind for kind, path_id, _ in events if path_id == "p"].count("join") == 2)
            await within(w.server.destroy())
    for path_id in ("p", "p0", "p1", "p2"):
        for client_id in {client for _, path, client in events if path == path_id}:
            kinds = [kind for kind, path, client in events if (path, client) == (path_id, client_id)]
            # A channel may be given up and asked for again by the same client.
            assert kinds == ["join", "leave"] * (len(kinds) // 2), kinds
    assert len(events) >= 2 * (8 * 3 + 2)
    assert all(isinstance(error, KeyError) for error in w.errors)


@pytest.mark.parametrize("how", ["left", "lost", "fault", "shutdown", "unauthorized", "unsubscribed", "refused"])
async def test_why_somebody_has_gone(how: str) -> None:
    """By itself, by force, for an error, for a shutdown, because it is logged out, from a channel, or by a hook."""
    left: list[str] = []

    def on_join(path: ServerPath, client: Client) -> None:
        if how == "refused":
            raise RefusedError("full")

    async with world(
        authorize=lambda _: Identity("ann"), on_join=on_join, on_leave=lambda _, __, reason: left.append(reason)
    ) as w:
        if how == "unsubscribed":
            async with mux(w.url("")) as connection:
                await subscribed(connection, "c")
                await connection.send('S\n[null,-1,[2,"c"]]')
                await eventually(lambda: left == ["left"])
            return
        async with raw(w.url()) as connection:
            if how != "refused":
                await eventually(lambda: w.server.path("p"))
            if how == "lost":
                connection.transport.abort()
            elif how == "fault":
                await connection.send("nonsense")
            elif how == "shutdown":
                await within(w.server.destroy())
            elif how == "unauthorized":
                assert w.server.log_out("bob") == 0
                assert w.server.log_out("ann") == 1
                assert await closed_with(connection) == (4401, "mergesync:logged-out")
            elif how == "refused":
                code, reason = await closed_with(connection)
                assert (code, reason.startswith("mergesync:refused full")) == (4403, True)
        await eventually(lambda: left == [how])
    assert left == [how]


@both
async def test_on_join_may_write_and_refuse(kind: Any) -> None:
    """What it writes is there when the client first looks; a client that it does not want has to go."""
    left: list[str] = []

    def on_join(path: ServerPath, client: Client) -> None:
        assert client.identity is not None
        path.store.set_value("last", client.identity.name)
        if client.identity.name == "bob":
            raise RefusedError("not you")
        if client.identity.name == "eve":
            fail()

    async with world(
        authorize=named, on_join=kind(on_join), on_leave=lambda _, c, r: left.append(c.identity.name + r)
    ) as w:
        store = MergeableStore()
        async with synced(store, w.url(token="ann")):
            await eventually(lambda: store.get_values() == {"last": "ann"})
            for name in ("bob", "eve"):
                async with raw(w.url(token=name)) as connection:
                    assert (await closed_with(connection))[0] == 4403
            await eventually(lambda: store.get_values() == {"last": "eve"})
            await eventually(lambda: left == ["bobrefused", "everefused"])
        assert [type(error) for error in w.errors] == [KeyError]


async def test_refused_from_a_channel_after_a_while() -> None:
    """Only that channel is silent from then on."""

    def on_join(path: ServerPath, client: Client) -> None:
        if path.id == "bad":
            raise RefusedError("not you")

    async with world(on_join=on_join) as w, mux(w.url("")) as connection:
        await subscribed(connection, "good")
        await connection.send('S\n["x",-1,[1,"bad"]]')
        await connection.send("M\nbad\n" + diff_frame())
        await connection.send("M\ngood\n" + diff_frame(3))
        await eventually(lambda: w.store("good").get_values() == {"v": 3})
        await eventually(lambda: w.server.get_path_ids() == ["good"])  # it may be refused after that


async def test_a_server_that_is_destroyed_asks_nobody_any_more() -> None:
    """Who was at the door still is not asked about a path (simulator, seed 34 of rooms)."""
    asked: list[str] = []
    may_go_on = asyncio.Event()

    async def authorize(info: ClientInfo) -> Identity:
        asked.append("authorize")
        await may_go_on.wait()
        return Identity("ann")

    async def come(url: str) -> None:
        async with raw(url):
            pass

    async with world(authorize=authorize, admit=lambda *_: asked.append("admit")) as w:
        connecting = asyncio.create_task(come(w.url()))
        await eventually(lambda: asked)
        await w.server.destroy()
        may_go_on.set()
        await asyncio.wait([connecting])
        assert connecting.exception() is not None
        assert asked == ["authorize"]


async def test_who_is_gone_before_its_turn_is_not_welcomed() -> None:
    """Nor missed."""
    gate = asyncio.Event()
    events: list[str] = []

    async def on_join(path: ServerPath, client: Client) -> None:
        events.append("join")
        await gate.wait()

    async with world(on_join=on_join, on_leave=lambda *_: events.append("leave")) as w:
        async with raw(w.url()):
            await eventually(lambda: events == ["join"])
            async with raw(w.url()):
                await eventually(lambda: len(w.server.get_client_ids("p")) == 2)
            await eventually(lambda: len(w.server.get_client_ids("p")) == 1)
            gate.set()
        await eventually(lambda: events == ["join", "leave"])


# --- what they change


@both
async def test_changes_are_passed_edited_and_refused(kind: Any) -> None:
    """Others see what is left of them, the writer as well; a refusal is reported with path and client, and why."""

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        for pet in changes.tables.get("pets", {}).values():
            if pet.get("price") == -1:
                raise RefusedError("a price below zero")
            if pet.get("price") == 100:
                pet["price"] = 99
                pet["by"] = client.id
            pet.pop("secret", None)

    async with world(on_changes=kind(on_changes)) as w:
        one, other = MergeableStore(), MergeableStore()
        seen: list[Any] = []
        other.add_cell_listener(None, None, None, lambda _, t, r, c, new, *__: seen.append((r, c, new)))
        async with synced(one, w.url()), synced(other, w.url()):
            one.set_row("pets", "fido", {"price": 5, "name": "Fido"})
            await eventually(lambda: other.get_cell("pets", "fido", "price") == 5)
            one.set_row("pets", "fido", {"price": -1, "name": "Bad"})
            await eventually(lambda: same_content(one, other, w.store()) and len(w.errors) == 1)
            assert one.get_row("pets", "fido") == {"price": 5, "name": "Fido"}
            one.set_row("pets", "felix", {"price": 100, "secret": 1})
            await eventually(lambda: other.get_cell("pets", "felix", "by"))
            await eventually(lambda: same_content(one, other, w.store()) and len(w.errors) == 2)
            assert one.get_row("pets", "felix") == {"price": 99, "by": one.get_cell("pets", "felix", "by")}
        assert not [each for each in seen if each[2] in (-1, "Bad", 100) or each[1] == "secret"]
        errors = [(type(error), error.reasons, error.path_id) for error in w.errors]  # type: ignore[attr-defined]
        assert errors == [
            (RefusedChangesError, ("a price below zero",), "p"),
            (RefusedChangesError, ("the application did not let it through",), "p"),
        ]
        assert all(error.client_id for error in w.errors)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mistake", [fail, later(fail), hang, lambda _, __, changes: changes.values.update(v={1})])
async def test_a_mistake_lets_nothing_through(mistake: Any) -> None:
    """It is reported once, the writer ends equal, and others go on."""

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> Any:
        return mistake(path, client, changes) if "bad" in changes.values else None

    async with world(on_changes=on_changes, hook_timeout_seconds=SOON) as w:
        one, other = MergeableStore(), MergeableStore()
        async with synced(one, w.url()), synced(other, w.url()):
            one.set_value("bad", 1)
            other.set_value("good", 1)
            await eventually(lambda: same_content(one, other, w.store()) and one.get_values() == {"good": 1})
        (error,) = w.errors
        assert not isinstance(error, RefusedChangesError)
        assert "path 'p', client" in error.__notes__[0]


async def test_changes_are_reviewed_in_order_one_at_a_time() -> None:
    """Of one client as it wrote them, of all clients of a path one after the other; nothing overtakes."""
    seen: list[tuple[str, int]] = []
    inside = 0

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        for name, value in changes.values.items():
            seen.append((name, value))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        inside -= 1

    async with world(on_changes=on_changes) as w, raw(w.url()) as a, raw(w.url()) as b:
        for number in range(20):
            hlc = HLC[:-6] + f"{number // 10}{number % 10}" + HLC[-4:]
            await a.send(diff_frame(number, "a", hlc=hlc))
            await b.send(diff_frame(number, "b", hlc=hlc))
        await eventually(lambda: w.store().get_values() == {"a": 19, "b": 19})
    assert [number for name, number in seen if name == "a"] == list(range(20))
    assert [number for name, number in seen if name == "b"] == list(range(20))


async def test_others_go_on_while_a_hook_takes_its_time() -> None:
    """They join, read, and leave; only what they write waits for its turn."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        entered.set()
        await gate.wait()

    async with world(on_changes=on_changes) as w, w.server.open_path("p") as path:
        path.store.set_value("v", 1)
        async with raw(w.url()) as slow:
            await slow.send(diff_frame(1, "slow"))
            await within(entered.wait())
            for _ in range(3):
                other = MergeableStore()
                async with synced(other, w.url()):
                    assert other.get_values() == {"v": 1}
                    path.store.set_value("v", 2)
                    await eventually(lambda other=other: other.get_values() == {"v": 2})  # type: ignore[misc]
                    path.store.set_value("v", 1)
            gate.set()
            await eventually(lambda: path.store.get_values() == {"v": 1, "slow": 1})


async def test_what_is_said_by_who_has_gone_counts() -> None:
    """A verdict comes after its client has left: what passes is merged, and the path stays until then."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        entered.set()
        await gate.wait()

    backend = Backend()
    async with world(backend, on_changes=on_changes) as w:
        async with raw(w.url()) as connection:
            await connection.send(diff_frame(1))
            await within(entered.wait())
        await eventually(lambda: w.server.get_stats().connections == 0)
        assert backend.values("p") == {}
        gate.set()
        await eventually(lambda: backend.values("p") == {"v": 1})


async def test_what_was_said_while_the_path_was_loaded_is_reviewed() -> None:
    """With what its writer may do, also if that has gone meanwhile."""
    backend = Backend()
    backend.load_gate.clear()

    def admit(path_id: str, client: Client) -> Access:
        return Access(write=client.identity is not None and client.identity.name == "ann")

    async with world(backend, authorize=named, admit=admit) as w:
        for number, name in enumerate(("ann", "bob")):
            async with raw(w.url(token=name)) as connection:
                await connection.send(diff_frame(number, name))
                await eventually(lambda number=number: w.server.get_stats().receives == number + 1)  # type: ignore[misc]
            await eventually(lambda: w.server.get_stats().connections == 0)
        async with raw(w.url(token="ann")):
            backend.load_gate.set()
            await eventually(lambda: w.store().get_values() == {"ann": 0})
        assert [type(error) for error in w.errors] == [RefusedChangesError]


@pytest.mark.parametrize("overwrite", [True, False])
async def test_who_may_only_read(overwrite: bool) -> None:
    """Its changes reach nobody; it ends with the values of the server, or keeps its own and is told of that."""

    def admit(path_id: str, client: Client) -> Access:
        return Access(write=client.identity == Identity("ann"), overwrite=overwrite)

    backend = Backend()
    async with world(backend, authorize=named, admit=admit) as w:
        writer, reader = MergeableStore(), MergeableStore().set_value("offline", 1)
        async with synced(writer, w.url(token="ann")), synced(reader, w.url(token="bob")) as synchronizer:
            writer.set_value("v", 1)
            await eventually(lambda: reader.get_value("v") == 1)
            reader.set_value("v", 2)
            await eventually(lambda: len(w.errors) >= 2)
            if overwrite:
                await eventually(lambda: same_content(writer, reader, w.store()))
                assert reader.get_values() == {"v": 1}
            else:
                with pytest.raises(NotDurableError):
                    await within(synchronizer.durable())
                assert reader.get_values() == {"offline": 1, "v": 2}
                writer.set_value("v", 3)
                await eventually(lambda: reader.get_value("v") == 3)
            assert writer.get_value("offline") != 1
            assert {error.reasons for error in w.errors} == {("the client may only read",)}  # type: ignore[attr-defined]


async def test_who_may_only_write() -> None:
    """A letter box: what it drops in is merged, and nothing comes out of it."""

    def admit(path_id: str, client: Client) -> Access:
        return Access(read=client.identity == Identity("ann"))

    async with world(authorize=named, admit=admit) as w:
        owner, writer = MergeableStore().set_value("secret", 1), MergeableStore().set_value("letter", 1)
        async with synced(owner, w.url(token="ann")), synced(writer, w.url(token="bob")):
            await eventually(lambda: owner.get_value("letter") == 1)
            writer.set_value("another", 2)
            await eventually(lambda: owner.get_value("another") == 2)
            owner.set_value("secret", 3)
            await eventually(lambda: w.store().get_value("secret") == 3)
        assert writer.get_values() == {"letter": 1, "another": 2}
        assert w.errors == []


async def test_a_relay_cannot_review() -> None:
    """It would be seen before."""
    for hook in ("admit", "on_changes"):
        with pytest.raises(ValueError, match="relay"):
            WsServer(relay=True, **{hook: lambda *_: None})  # type: ignore[arg-type]
    joined: list[str] = []
    async with world(relay=True, authorize=named, on_join=lambda _, client: joined.append(client.identity.name)) as w:
        one, other = MergeableStore().set_value("v", 1), MergeableStore()
        async with synced(one, w.url(token="ann")), synced(other, w.url(token="bob")):
            await eventually(lambda: other.get_values() == {"v": 1})
            assert joined == ["ann", "bob"]
            async with w.server.open_path("p") as path:
                assert len(path.clients) == 2
                with pytest.raises(PathClosedError):
                    path.store.get_values()


# --- identities over time


async def test_expiry_closes_the_socket() -> None:
    """Within a second of it, with a code that says so."""
    left: list[str] = []
    async with (
        world(
            authorize=lambda _: Identity("ann", time.time() + 0.2), on_leave=lambda _, __, reason: left.append(reason)
        ) as w,
        raw(w.url()) as connection,
    ):
        began = time.monotonic()
        assert await closed_with(connection) == (4401, "mergesync:expired")
        assert time.monotonic() - began < 1.2
        await eventually(lambda: left == ["unauthorized"])


class Tokens:
    """`name:seconds:access` tokens."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def authorize(self, info: ClientInfo) -> Identity:
        """Who it is, and for how long."""
        name, seconds, access = (info.token or "::").split(":")
        if not name:
            raise RefusedError("no name")
        self.entered.set()
        await asyncio.sleep(0)
        return Identity(name, time.time() + float(seconds), access)

    def admit(self, path_id: str, client: Client) -> Access:
        """What the token says."""
        assert client.identity is not None
        if client.identity.data == "none":
            raise RefusedError("no longer")
        return Access(read="r" in client.identity.data, write="w" in client.identity.data)


@pytest.mark.parametrize("channel", [None, "c"])
async def test_a_new_token_on_an_open_connection(channel: str | None) -> None:
    """It lives longer, and what it may do is what the new token says; another's token, or none, is refused."""
    tokens = Tokens()
    async with world(authorize=tokens.authorize, admit=tokens.admit) as w:
        store = MergeableStore()
        path = "c" if channel is None else ""
        client = WsClient(
            w.url(path), multiplexed=channel is not None, token="ann:2:r", on_ignored_error=w.errors.append
        )
        async with synced(store, client, channel), w.server.open_path("c") as served:
            store.set_value("v", 1)
            await eventually(lambda: len(w.errors) == 1)
            await within(client.refresh_token("ann:1000:w"))
            served.store.set_value("hidden", 1)
            store.set_value("v", 2)
            await eventually(lambda: served.store.get_value("v") == 2)
            assert not store.has_value("hidden")
            await within(client.refresh_token("ann:1000:rw"))
            await eventually(lambda: same_content(store, served.store))
            for token, text in (("bob:1000:rw", "somebody else"), ("::", "no name")):
                with pytest.raises(RefusedConnectionError, match=text):
                    await within(client.refresh_token(token))
            await asyncio.sleep(2.2)  # the first token has expired
            assert client.connections == 1
            w.errors.clear()
            if channel is None:
                with pytest.raises(ConnectionError):
                    await within(client.refresh_token("ann:1000:none"))
            else:
                await within(client.refresh_token("ann:1000:none"))
                await eventually(lambda: [e for e in w.errors if "no longer" in str(e)])
                assert client.connections == 1


async def test_tokens_where_nobody_asks_for_them() -> None:
    """A server without `authorize`, and no connection at all."""
    async with world() as w:
        client = WsClient(w.url(), on_ignored_error=w.errors.append)
        await client.refresh_token("x")
        async with synced(MergeableStore(), client):
            with pytest.raises(NotSupportedError, match="does not ask"):
                await within(client.refresh_token("y"))


async def test_logged_out_between_the_door_and_the_room() -> None:
    """Whoever is about to come in does not."""
    gate, entered = asyncio.Event(), asyncio.Event()

    async def admit(path_id: str, client: Client) -> Access:
        entered.set()
        await gate.wait()
        return Access()

    async with world(authorize=named, admit=admit) as w:
        coming = asyncio.create_task(create_ws_synchronizer(MergeableStore(), w.url(token="ann")).__aenter__())
        await within(entered.wait())
        assert w.server.log_out("ann") == 0
        gate.set()
        with pytest.raises(RefusedConnectionError, match="logged out"):
            await within(coming)


# --- paths that the server edits


async def test_a_path_without_clients() -> None:
    """It is loaded, edited, stored and let go of; who comes later finds what was written."""
    backend = Backend()
    async with world(backend) as w:
        assert w.server.path("p") is None
        async with w.server.open_path("p") as path:
            assert w.server.path("p") is path
            assert (path.id, path.clients, path.store.get_values()) == ("p", [], {})
            versions = [path.version]
            with path.transaction():
                path.store.set_value("v", 1).set_cell("t", "r", "c", 1)
            versions.append(path.version)
            path.store.set_value("v", 2).set_value("v", 1)
            versions.append(path.version)
            assert len(set(versions)) == 3
            with pytest.raises(KeyError), path.transaction():
                path.store.set_value("v", 3)
                raise KeyError
            assert path.version == versions[-1]
            await within(path.durable())
            assert backend.values("p") == {"v": 1}
            async with w.server.open_path("p") as again:
                assert again is path
        await eventually(lambda: backend.open["p"] == 0)
        with pytest.raises(PathClosedError):
            path.store.get_values()
        with pytest.raises(PathClosedError):
            await path.durable()
        store = MergeableStore()
        async with synced(store, w.url()):
            assert store.get_tables() == {"t": {"r": {"c": 1}}}


async def test_a_path_with_clients() -> None:
    """What the server writes they get, what they write it has; the path stays when they go."""
    async with world() as w, w.server.open_path("p") as path:
        one, other = MergeableStore(), MergeableStore()
        async with synced(one, w.url()), synced(other, w.url()):
            path.store.set_value("v", 1)
            await eventually(lambda: one.get_values() == other.get_values() == {"v": 1})
            one.set_value("w", 2)
            await eventually(lambda: path.store.get_value("w") == 2)
            assert [client.id for client in path.clients] == w.server.get_client_ids("p")
            await eventually(lambda: same_content(one, other, path.store))
        await eventually(lambda: path.clients == [])
        assert path.store.get_values() == {"v": 1, "w": 2}
        with pytest.raises(NotDurableError):
            await path.durable()


async def test_paths_that_cannot_be_opened() -> None:
    """For now, or because there are too many, or no more at all."""
    backend = Backend()
    backend.load_trouble = OSError("no disk")
    async with world(backend, limits=Limits(paths=1)) as w:
        for _ in range(2):
            with pytest.raises(LoadError, match="no disk"):
                async with w.server.open_path("p"):
                    pass
        with pytest.raises(QuotaExceededError):
            async with w.server.open_path("q"):
                pass
        assert issubclass(QuotaExceededError, LimitExceededError)
    backend = Backend()
    backend.load_gate.clear()
    async with world(backend) as w:
        opening = asyncio.create_task(w.server.open_path("p").__aenter__())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(opening)
        backend.load_gate.set()
        await within(w.server.destroy())
        with pytest.raises(PathClosedError):
            async with w.server.open_path("p"):
                pass


async def test_the_server_is_destroyed_while_a_path_is_open() -> None:
    """What was written is stored; whoever waits for a path is told."""
    backend = Backend()
    async with world(backend) as w, w.server.open_path("p") as path:
        path.store.set_value("v", 1)
        backend.load_gate.clear()
        opening = asyncio.create_task(w.server.open_path("q").__aenter__())
        await asyncio.sleep(0)
        await within(w.server.destroy())
        assert backend.values("p") == {"v": 1}
        with pytest.raises(PathClosedError):
            await within(opening)
        backend.load_gate.set()


async def test_a_hook_may_open_its_own_path() -> None:
    """`admit` fills a path before its first client sees it."""
    async with world(Backend()) as w:

        async def admit(path_id: str, client: Client) -> Access:
            async with w.server.open_path(path_id) as path:
                path.store.set_value("seen", path.store.get_value("seen") is True or not path.store.has_value("seen"))
            return Access()

        object.__setattr__(w.server._reception._hooks, "admit", admit)
        for _ in range(3):
            store = MergeableStore()
            async with synced(store, w.url()):
                assert store.get_values() == {"seen": True}


# --- who is behind a proxy


@pytest.mark.parametrize(
    ("trusted", "forwarded", "seen"),
    [
        ([], "9.9.9.9", "127.0.0.1"),
        (["10.0.0.0/8"], "9.9.9.9", "127.0.0.1"),
        (["127.0.0.1"], "", "127.0.0.1"),
        (["127.0.0.1"], "9.9.9.9", "9.9.9.9"),
        (["127.0.0.1"], "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], "6.6.6.6, 9.9.9.9 ,10.1.2.3", "9.9.9.9"),
        (["127.0.0.1"], "6.6.6.6, unknown", "unknown"),
    ],
)
async def test_who_is_behind_a_proxy(trusted: list[str], forwarded: str, seen: str) -> None:
    """What a trusted proxy says, and not what anybody else has put into the header."""
    addresses: list[str] = []

    def authorize(info: ClientInfo) -> Identity:
        addresses.append(info.remote_address[0])
        return Identity("ann")

    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    async with world(authorize=authorize, trusted_proxies=trusted) as w, raw(w.url(), additional_headers=headers):
        assert addresses == [seen]


async def test_limits_count_who_is_behind_a_proxy() -> None:
    """Not the proxy itself."""
    one, other = ({"X-Forwarded-For": address} for address in ("9.9.9.9", "9.9.9.8"))
    async with (
        world(limits=Limits(connections_per_address=1), trusted_proxies=["127.0.0.1"]) as w,
        raw(w.url(), additional_headers=one),
    ):
        await eventually(lambda: w.server.get_stats().connections == 1)
        with pytest.raises(InvalidStatus, match="429"):
            async with raw(w.url(), additional_headers=one):
                pass
        async with raw(w.url(), additional_headers=other):
            pass


def test_networks_that_are_none() -> None:
    """They are refused at once, and one network is not several."""
    with pytest.raises(ValueError, match="has host bits set"):
        WsServer(trusted_proxies=["10.0.0.1/8"])
    with pytest.raises(TypeError, match="several"):
        WsServer(trusted_proxies="10.0.0.0/8")


# --- odd moments


class Knock:
    """A request for a socket, as an ASGI server passes it on; what happens while it is accepted, the test says."""

    def __init__(self, server: WsServer, key: str = "", token: str = "ann") -> None:
        self.sent: list[dict[str, Any]] = []
        self.on_accept: Callable[[], object] = lambda: None
        self.gone = asyncio.Event()
        headers = [(b"sec-websocket-key", key.encode())]
        scope = {"type": "websocket", "path": "/p", "query_string": f"token={token}".encode(), "headers": headers}
        self._asked = False
        self.task = asyncio.create_task(server.asgi(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        await self.gone.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.accept":
            self.on_accept()
        if message["type"] == "websocket.close":
            self.gone.set()

    async def over(self) -> list[dict[str, Any]]:
        """Everything is said."""
        await within(self.task)
        return self.sent


async def test_logged_out_while_the_socket_is_opened() -> None:
    """It is closed as soon as it is there."""
    async with WsServer(authorize=named) as server:
        knock = Knock(server)
        knock.on_accept = lambda: server.log_out("ann")
        assert (await knock.over())[-1] == {
            "type": "websocket.close",
            "code": 4401,
            "reason": "mergesync:logged-out",
        }


async def test_two_clients_of_one_key_at_the_same_time() -> None:
    """They are called differently, also by hooks; so is one without a key."""
    entered = 0
    gate = asyncio.Event()
    met: list[Client] = []

    async def authorize(info: ClientInfo) -> Identity:
        nonlocal entered
        entered += 1
        await gate.wait()
        return Identity("ann")

    async with WsServer(authorize=authorize, on_join=lambda _, client: met.append(client)) as server:
        key = "AAAAAAAAAAAAAAAAAAAAAA=="
        knocks = [Knock(server, key), Knock(server, key), Knock(server, "no key")]
        await eventually(lambda: entered == 3)
        gate.set()
        await eventually(lambda: len(met) == 3)
        ids = {client.id for client in met}
        assert len(ids) == 3
        assert key in ids
        assert ids == set(server.get_client_ids("p"))
        for knock in knocks:
            knock.gone.set()
            await knock.over()


async def test_an_expiry_that_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again and again, as clocks may be set."""
    monkeypatch.setattr(switchboard, "MAX_TIMER_SECONDS", 0.02)
    async with world(authorize=lambda _: Identity("ann", time.time() + 0.2)) as w, raw(w.url()) as connection:
        assert await closed_with(connection) == (4401, "mergesync:expired")


async def test_a_status_of_the_application_s_own() -> None:
    """It goes out as it is."""

    def authorize(info: ClientInfo) -> Identity:
        raise RefusedError("later", status=499)

    async with world(authorize=authorize) as w:
        with pytest.raises(InvalidStatus, match="499"):
            async with raw(w.url()):
                pass


async def test_a_rule_that_fails() -> None:
    """Nothing is let through, and it is reported once."""
    async with world(rules=[allow_write_value(to=lambda _: fail())]) as w:
        store = MergeableStore()
        async with synced(store, w.url()):
            store.set_value("v", 1)
            await eventually(lambda: w.errors and same_content(store, w.store()))
            assert store.get_values() == {}
        (error,) = w.errors
        assert isinstance(error, KeyError)


async def test_rules_look_at_what_is_there_when_it_is_the_hook_s_turn() -> None:
    """Of two who want a row for themselves, the second finds it taken (simulator, seed 843 of rooms)."""
    asked: list[str] = []
    may_go_on = asyncio.Event()

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        asked.append(client.identity.name if client.identity else "")
        await may_go_on.wait()

    rules = [allow_write("rows", owner="owner")]
    async with world(authorize=lambda info: Identity(info.token), rules=rules, on_changes=on_changes) as w:
        ann, bob = MergeableStore(), MergeableStore()
        async with synced(ann, w.url(token="ann")), synced(bob, w.url(token="bob")):
            ann.set_row("rows", "1", {"owner": "ann"})
            await eventually(lambda: asked)
            bob.set_row("rows", "1", {"owner": "bob"})
            await eventually(lambda: w.server._reception.turns_of("p")._waiting)
            may_go_on.set()
            await eventually(lambda: w.errors and same_content(ann, bob, w.store()))
            assert (ann.get_tables(), asked) == ({"rows": {"1": {"owner": "ann"}}}, ["ann"])
        (error,) = w.errors
        assert getattr(error, "reasons", None) == ("against the rules",)


async def test_what_is_no_news_needs_no_review() -> None:
    """A change that is older than what is there is nobody's business."""
    asked: list[Changes] = []
    async with world(on_changes=lambda *arguments: asked.append(arguments[2])) as w, raw(w.url()) as connection:
        newer, older = HLC[:-6] + "9" + HLC[-5:], HLC
        await connection.send(diff_frame(1, hlc=newer))
        await connection.send(diff_frame(2, hlc=older))
        await eventually(lambda: w.server.get_stats().receives == 2)
        assert [changes.values for changes in asked] == [{"v": 1}]


async def test_a_room_of_many_that_an_identity_leaves() -> None:
    """All sockets of one name at once, and only those."""
    async with world(authorize=named) as w, AsyncExitStack() as stack:
        for number in range(30):
            await stack.enter_async_context(raw(w.url(f"p{number % 3}", "ann" if number % 2 else "bob")))
        await eventually(lambda: w.server.get_stats().clients == 30)
        assert w.server.log_out("ann") == 15
        await eventually(lambda: w.server.get_stats().connections == 15)
        assert w.server.log_out("ann") == 0


# --- who is sent elsewhere


@both
async def test_who_is_sent_elsewhere(kind: Any) -> None:
    """Before there is a socket, by both hooks; a client follows, and asks anew on each connection; that is no error."""
    seen: list[str] = []

    def authorize(info: ClientInfo) -> Identity:
        if info.path_id == "old":
            raise RedirectError("/older")
        return named(info)

    def admit(path_id: str, client: Client) -> Access:
        seen.append(path_id)
        if path_id == "older":
            raise RedirectError("/new%20one")
        return Access()

    async with world(authorize=kind(authorize), admit=kind(admit)) as w:
        for number in (1, 2):
            async with synced(MergeableStore().set_value(f"v{number}", 1), w.url("old"), token="ann"):
                await eventually(lambda: w.store("new%20one").has_value(f"v{number}"))  # noqa: B023
        assert seen == ["older", "new%20one"] * 2
        assert w.errors == []
        async with mux(w.url("", "ann")) as connection:  # there it is a refusal
            await connection.send('S\n["sub",-1,[1,"older"]]')
            await eventually(lambda: seen[-1] == "older")


async def test_who_is_sent_to_another_server_does_not_show_its_token_there() -> None:
    """Nor does it go round in circles."""
    tokens: list[str | None] = []

    def note(info: ClientInfo) -> Identity:
        tokens.append(info.token)
        return Identity("somebody")

    def circle(info: ClientInfo) -> Identity:
        raise RedirectError(f"/{info.path_id}")

    async with world(authorize=note) as other, world(authorize=circle) as here:

        def away(info: ClientInfo) -> Identity:
            raise RedirectError(other.url("there"))

        async with world(authorize=away) as w, synced(MergeableStore(), w.url("p"), token="secret"):
            assert tokens == [None]
        with pytest.raises(ConnectionLostError, match="redirects"):
            await create_ws_synchronizer(MergeableStore(), here.url("p"))


async def test_who_is_sent_elsewhere_by_other_doors() -> None:
    """An ASGI app says where as well; where an application took our `process_request` away, it is too late."""

    def admit(path_id: str, client: Client) -> Access:
        if path_id == "old":
            raise RedirectError("/sync/new")
        return Access()

    ws_server = WsServer(admit=admit)
    async with (
        uvicorn_port(asgi_app(ws_server, "/sync")) as port,
        synced(MergeableStore(), f"ws://127.0.0.1:{port}/sync/old"),
    ):
        assert ws_server.path("new") is not None
        assert ws_server.path("old") is None
    bare = WsServer(admit=admit)
    async with bare, websockets.serve(bare.handler, "127.0.0.1", 0) as serving:
        port = next(iter(serving.sockets)).getsockname()[1]
        async with raw(f"ws://127.0.0.1:{port}/old") as connection:
            assert await closed_with(connection) == (4403, "mergesync:refused go to /sync/new")


@pytest.mark.parametrize("location", ["", "/a\r\nSet-Cookie: x", "/ä", "/\x00"])
def test_where_nobody_can_be_sent(location: str) -> None:
    """What cannot stand in a header is told at once."""
    with pytest.raises(ValueError, match="percent-encoded"):
        RedirectError(location)


# --- what the server changes in the name of a client


@both
async def test_changes_of_the_server_as_a_client(kind: Any) -> None:
    """Rules and the hook decide, as of the client's own; what they refuse nobody sees."""
    seen: list[Client] = []

    def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        seen.append(client)
        if changes.values.get("v") == "bad":
            raise RefusedError("no")
        changes.values["by"] = client.identity.name if client.identity else ""

    rules = [allow_write_value("v"), allow_write_value("w", to=["bob"])]
    async with world(authorize=named, on_changes=kind(on_changes), rules=rules) as w:
        store = MergeableStore()
        async with synced(store, w.url(token="ann")):
            path = w.server.path("p")
            assert path is not None
            (client,) = path.clients
            await path.change_as(client, ({}, {"v": 1}))
            await eventually(lambda: store.get_values() == {"v": 1, "by": "ann"})
            for refused in ({"v": "bad"}, {"w": 1}):
                with pytest.raises(RefusedError):
                    await path.change_as(client, ({}, refused))
            with pytest.raises(InvalidCellError):
                await path.change_as(client, ({}, {"v": {1}}))
            assert (store.get_values(), seen) == ({"v": 1, "by": "ann"}, [client, client])
            path.store.add_value_listener("v", lambda *_: fail(), mutator=True)
            with pytest.raises(KeyError):
                await path.change_as(client, ({}, {"v": 2}))
        await eventually(lambda: w.server.path("p") is None)
        with pytest.raises(PathClosedError):
            await path.change_as(client, ({}, {"v": 2}))
    assert w.errors == []


async def test_a_hook_does_not_wait_for_itself() -> None:
    """It is told at once that it would."""

    async def on_join(path: ServerPath, client: Client) -> None:
        await path.change_as(client, ({}, {"v": 1}))

    async with world(on_join=on_join) as w, raw(w.url()):
        await eventually(lambda: w.errors)
        assert isinstance(w.errors[0], RuntimeError)


async def test_whoever_asked_for_a_change_may_go() -> None:
    """It is made nevertheless, or is not."""
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        asked.set()
        await may_go_on.wait()
        if changes.values["v"] == 2:
            raise RefusedError("no")

    async with world(on_changes=on_changes) as w, synced(MergeableStore(), w.url()):
        path = w.server.path("p")
        assert path is not None
        for number in (1, 2):
            asked.clear()
            changing = asyncio.create_task(path.change_as(path.clients[0], ({}, {"v": number})))
            await within(asked.wait())
            changing.cancel()
            may_go_on.set()
            await eventually(lambda: path.store.get_values() == {"v": 1})
        await eventually(changing.done)
        assert w.errors == []


async def test_who_leaves_with_what_was_refused_asks_once() -> None:
    """The server will never have it, and says so as soon as it has decided of it."""

    async def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
        await asyncio.sleep(0.05)
        raise RefusedError("no")

    async with world(admit=lambda *_: Access(overwrite=False), on_changes=on_changes) as w:
        store = MergeableStore()
        async with synced(store, w.url()):
            await asyncio.sleep(0)
            before = w.server.get_stats().receives
            store.set_value("v", 1)
        assert store.get_values() == {"v": 1}
        assert w.server.get_stats().receives - before <= 3  # what was written, a question, and a retry if it was early
        assert [type(error) for error in w.errors] == [RefusedChangesError]
