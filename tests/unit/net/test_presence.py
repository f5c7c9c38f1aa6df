"""Presence over real sockets: who is on a path, what is said of each, and that nobody is left behind."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mergesync import (
    Access,
    Client,
    Identity,
    Limits,
    MergeableStore,
    NotSupportedError,
    RefusedChangesError,
    RefusedConnectionError,
    RefusedError,
    RequestFailedError,
    ServerPath,
    WsClient,
    create_ws_server,
)
from mergesync.limits import CLOSE_TIMEOUT_SECONDS, MAX_DEPARTED_CLIENTS, MAX_PRESENCE_BYTES, MAX_PRESENCE_CELLS
from mergesync.net.listening import ListeningWsServer
from mergesync.net.presence import Presence
from mergesync.rooms.access import ClientInfo
from mergesync.sync.subprotocols import EXTENDED, EXTENDED_CHANNELS
from tests.support import eventually, within

from .kit import Backend, Proxy, closed_with, mux, raw, subscribed, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


def by_token(info: ClientInfo) -> Identity:
    """Everybody is who they say."""
    return Identity(info.token or "nobody")


def listed(server: ListeningWsServer, path_id: str = "p") -> dict[str, Any]:
    """Who is on a path, as its companion says; somebody must be on it, or have it open."""
    path = server.path(f"{path_id}/~clients")
    return {} if path is None else dict(path.store.get_table("clients"))


async def test_rows(errors: list[Exception]) -> None:
    """A row for each client, with what the server vouches for; gone when it goes, and nothing else is ever there."""
    watching = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, presence=True, authorize=by_token) as server:
        async with synced(watching, url_of(server, "p/~clients")):
            assert watching.get_tables() == {}
            async with synced(MergeableStore(), url_of(server), name="Ann", token="ann") as ann:
                await eventually(lambda: "name" in watching.get_row("clients", ann.client_id or ""))
                row = watching.get_row("clients", ann.client_id)
                assert (row["name"], row["identity"], row["write"]) == ("Ann", "ann", True)
                assert 0 <= time.time() * 1000 - int(row["since"]) < 60_000  # type: ignore[arg-type]
                async with synced(MergeableStore(), url_of(server), token="bob") as bob:
                    await eventually(lambda: len(watching.get_table("clients")) == 2)
                    assert "name" not in watching.get_row("clients", bob.client_id)
                    assert server.get_client_ids("p") == [ann.client_id, bob.client_id]
                await eventually(lambda: len(watching.get_table("clients")) == 1)
            await eventually(lambda: watching.get_tables() == {})
        await eventually(lambda: server.get_path_ids() == [])
    assert errors == []


async def test_what_clients_say() -> None:
    """Over `mergesync.v1`: in place of what they said before, and said again on each new connection."""
    watching = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, presence=True, on_ignored_error=lambda _: None) as server:
        async with Proxy(lambda: server.port) as proxy, synced(watching, url_of(server, "p/~clients")):
            url = f"ws://127.0.0.1:{proxy.port}/p"
            async with synced(MergeableStore(), url, on_ignored_error=lambda _: None) as client:

                def said() -> dict[str, Any]:
                    row = watching.get_row("clients", client.client_id)
                    return {cell_id: cell for cell_id, cell in row.items() if cell_id not in ("since", "write")}

                await within(client.set_presence({"mood": "good", "cursor": [1, 2]}))
                await eventually(lambda: said() == {"mood": "good", "cursor": [1, 2]})
                await within(client.set_presence({"mood": None}))
                await eventually(lambda: said() == {"mood": None})
                for cells in ({"name": "x"}, {"since": 1}, {str(n): n for n in range(MAX_PRESENCE_CELLS)}):
                    with pytest.raises(RequestFailedError) as raised:
                        await within(client.set_presence(cells))
                    assert raised.value.reason == "refused"
                with pytest.raises(RequestFailedError):
                    await within(client.set_presence({"big": "x" * MAX_PRESENCE_BYTES}))
                before = client.client_id
                proxy.cut()
                await eventually(lambda: client.client_id != before and said() == {"mood": None})
                await eventually(lambda: list(watching.get_table("clients")) == [client.client_id])


async def test_what_was_refused_is_not_said_again(errors: list[Exception]) -> None:
    """Not even if two things were said before one of them was answered (simulator, seed 13 of rooms)."""
    said: list[Any] = []

    async def on_presence(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
        said.append(dict(state))
        await asyncio.sleep(0.01)
        raise RefusedError("no")

    async with (
        create_ws_server("127.0.0.1", 0, presence=True, on_presence=on_presence) as server,
        Proxy(lambda: server.port) as proxy,
        synced(MergeableStore(), f"ws://127.0.0.1:{proxy.port}/p", on_ignored_error=errors.append) as client,
    ):
        answers = await asyncio.gather(*(client.set_presence({"n": n}) for n in (1, 2)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RequestFailedError] * 2
        proxy.cut()
        await eventually(lambda: client.client.connections == 2 and client.status == "live")
        assert said == [{"n": 1}, {"n": 2}]


async def test_where_there_is_no_presence() -> None:
    """By default a path like a companion is a path, and nobody can say anything of itself."""
    async with create_ws_server("127.0.0.1", 0) as server:
        async with (
            synced(MergeableStore(), url_of(server)) as client,
            synced(MergeableStore(), url_of(server, "p/~clients")),
        ):
            with pytest.raises(RequestFailedError) as raised:
                await within(client.set_presence({"mood": "good"}))
            assert raised.value.reason == "unknown"
            assert listed(server) == {}
    async with create_ws_server("127.0.0.1", 0, presence=True) as server:
        async with raw(url_of(server), subprotocols=["plain", EXTENDED]) as client:
            await client.send('X\n["1","presence",[1]]')
            await client.send('X\n["2","presence",{"a":1}]')
            answers = [json.loads(str(await within(client.recv())).partition("\n")[2]) for _ in range(2)]
            assert [answer[1] for answer in answers] == ["error", "ok"]
            assert answers[0][2][0] == "invalid"


@pytest.mark.parametrize("edit", ["other row", "vouched", "another table", "a value", "a row of nobody", "too much"])
async def test_only_its_own_row(edit: str, errors: list[Exception]) -> None:
    """A client changes with a channel of the companion its own cells, and nothing else: it ends equal to the server."""
    async with create_ws_server("127.0.0.1", 0, presence=True, on_ignored_error=errors.append) as server:
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True)
        store, rows, seen = MergeableStore(), MergeableStore(), MergeableStore()
        async with synced(MergeableStore(), url_of(server)) as other, synced(seen, url_of(server, "p/~clients")):
            async with synced(store, link, "p") as mine, synced(rows, link, "p/~clients"):
                await eventually(lambda: len(rows.get_table("clients")) == 2)
                own = mine.client_id
                rows.set_cell("clients", own, "mood", "good")
                await eventually(lambda: seen.get_cell("clients", own, "mood") == "good")
                edits: dict[str, Callable[[], Any]] = {
                    "other row": lambda: rows.set_cell("clients", other.client_id, "mood", "bad"),
                    "vouched": lambda: rows.set_cell("clients", own, "since", 1),
                    "another table": lambda: rows.set_cell("spam", own, "mood", "bad"),
                    "a value": lambda: rows.set_value("spam", 1),
                    "a row of nobody": lambda: rows.set_cell("clients", "nobody", "mood", "bad"),
                    "too much": lambda: rows.set_cell("clients", own, "mood", "x" * MAX_PRESENCE_BYTES),
                }
                edits[edit]()
                await eventually(lambda: errors and rows.get_content() == seen.get_content())
                path = server.path("p/~clients")
                assert path is not None
                assert rows.get_content() == path.store.get_content()
                assert rows.get_cell("clients", own, "mood") == "good"
                assert list(rows.get_tables()) == ["clients"]
                assert {type(error) for error in errors} == {RefusedChangesError}
                path.store._check()


def moody(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
    """What a client may say of itself: its mood, which is shown in capitals, with how often it has changed."""
    if path.id != "p" or [client.id] != [member.id for member in path.clients]:
        raise AssertionError("the path itself, and its client")
    if state.get("mood") == "bad":
        raise RefusedError("cheer up")
    if state.get("mood") == "broken":
        raise KeyError("a mistake")
    if state.get("mood") == "vouched":
        state["write"] = False
    if state.get("mood") == "odd":
        state["odd"] = object()
    state.pop("spam", None)
    state["mood"] = str(state.get("mood", "none")).upper()
    state.setdefault("seen", []).append(len(path.clients))


async def moody_later(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
    """The same after a while."""
    await asyncio.sleep(0)
    moody(path, client, state)


@pytest.mark.parametrize("hook", [moody, moody_later])
@pytest.mark.parametrize("door", ["operation", "companion"])
async def test_on_presence(door: str, hook: Any, errors: list[Exception]) -> None:
    """What a client says of itself passes, is edited or is refused, whichever way it says so, and all end equal."""
    options: Any = {"presence": True, "on_presence": hook, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server:
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True)
        rows, seen = MergeableStore(), MergeableStore()
        everything: list[Any] = []
        seen.add_cell_listener("clients", None, None, lambda *said: everything.append(said[-2]))
        async with (
            synced(seen, url_of(server, "p/~clients")),
            synced(MergeableStore(), link, "p") as client,
            synced(rows, link, "p/~clients"),
        ):
            own = client.client_id
            await eventually(lambda: rows.has_row("clients", own))
            refusals: list[str] = []

            async def say(state: dict[str, Any]) -> None:
                if door == "operation":
                    try:
                        await within(client.set_presence(state))
                    except RequestFailedError as error:
                        refusals.append(error.reason)
                else:
                    count = len(errors)
                    with rows.transaction():
                        for cell_id in rows.get_cell_ids("clients", own):
                            if cell_id not in ("since", "write") and cell_id not in state:
                                rows.del_cell("clients", own, cell_id)
                        rows.set_partial_row("clients", own, state)
                    if state["mood"] in ("bad", "broken", "vouched", "odd"):
                        await eventually(lambda: len(errors) > count)

            def said() -> dict[str, Any]:
                row = seen.get_row("clients", own)
                return {cell_id: cell for cell_id, cell in row.items() if cell_id not in ("since", "write")}

            await say({"mood": "good", "spam": "buy", "seen": [0]})
            await eventually(lambda: said() == {"mood": "GOOD", "seen": [0, 1]})
            for mood in ("bad", "broken", "vouched", "odd"):
                await say({"mood": mood, "spam": "buy"})
                await eventually(lambda: rows.get_content() == seen.get_content())
                assert said() == {"mood": "GOOD", "seen": [0, 1]}
            await say({"mood": "fine"})
            await eventually(lambda: said() == {"mood": "FINE", "seen": [1]})
            await eventually(lambda: rows.get_content() == seen.get_content())
            if door == "operation":
                assert refusals == ["refused", "failed", "failed", "failed"]
            assert not {"good", "bad", "broken", "vouched", "odd", "buy"} & {str(cell) for cell in everything}
            kinds = [type(error) for error in errors if not isinstance(error, RefusedChangesError)]
            assert kinds == [KeyError, ValueError, ValueError]
            path = server.path("p/~clients")
            assert path is not None
            path.store._check()


async def test_on_presence_of_who_goes_meanwhile(errors: list[Exception]) -> None:
    """What a client said that left while the application was thinking nobody sees, and it is nobody's mistake."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def on_presence(path: ServerPath, client: Client, state: dict[str, Any]) -> None:
        entered.set()
        await gate.wait()

    options: Any = {"presence": True, "on_presence": on_presence, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server, server.open_path("p/~clients") as companion:
        for door in ("operation", "companion"):
            entered.clear()
            gate.clear()
            async with raw(f"ws://127.0.0.1:{server.port}/", subprotocols=["tinybase", EXTENDED_CHANNELS]) as link:
                await link.send('S\n["hello",-1,[0,1]]')
                await within(link.recv())
                await subscribed(link, "p")
                await subscribed(link, "p/~clients")
                await eventually(lambda: companion.store.get_row_ids("clients"))
                if door == "operation":
                    await link.send('M\np\nX\n["1","presence",{"a":1}]')
                else:
                    row_id = companion.store.get_row_ids("clients")[0]
                    cells = {"a": [1, companion.store.get_next_hlc()]}
                    body = ["t", 3, [[{"clients": [{row_id: [cells]}]}], [{}], 1]]
                    await link.send(f"M\np/~clients\n\n{json.dumps(body)}")
                await within(entered.wait())
            await eventually(lambda: server.get_stats().connections == 0)
            gate.set()
            await eventually(lambda: server.path("p") is None)
            assert companion.store.get_tables() == {}
    assert [type(error) for error in errors] == [RefusedChangesError]  # for what would have been merged


async def test_what_somebody_says_of_itself(errors: list[Exception]) -> None:
    """The application knows it while the client is there, and when it hears that it has gone; not after that."""
    heard: list[tuple[str, Any]] = []

    async def on_leave(path: ServerPath, client: Client, reason: str) -> None:
        await asyncio.sleep(0)
        heard.append((reason, path.state_of(client)))

    options: Any = {"presence": True, "on_leave": on_leave, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server, server.open_path("p") as path:
        async with synced(MergeableStore(), url_of(server)) as client:
            await eventually(lambda: path.clients)
            [member] = path.clients
            assert path.state_of(member) == {}
            await within(client.set_presence({"seat": 3}))
            assert path.state_of(member) == {"seat": 3}
        await eventually(lambda: heard == [("left", {"seat": 3})])
        assert path.state_of(member) == {}
    async with create_ws_server("127.0.0.1", 0) as server, server.open_path("p") as path, raw(url_of(server)):
        await eventually(lambda: path.clients)
        assert path.state_of(path.clients[0]) == {}
    assert errors == []


async def test_who_may_not_be_seen(errors: list[Exception]) -> None:
    """It is not listed, cannot say anything of itself, and is not let onto the companion by any door."""

    def admit(path_id: str, client: Client) -> Access:
        assert path_id == "p"
        return Access(presence=client.identity is None or client.identity.name != "ghost")

    options: Any = {"presence": True, "authorize": by_token, "admit": admit, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server:
        watching = MergeableStore()
        async with synced(watching, url_of(server, "p/~clients"), token="ann"):
            async with synced(MergeableStore(), url_of(server), name="Boo", token="ghost") as ghost:
                await eventually(lambda: ghost.name == "Boo")
                with pytest.raises(RequestFailedError):
                    await within(ghost.set_presence({"mood": "good"}))
                with pytest.raises(RefusedConnectionError):
                    await within(synced(MergeableStore(), url_of(server, "p/~clients"), token="ghost").__aenter__())
                link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True, token="ghost")
                async with synced(MergeableStore(), link, "p"):
                    with pytest.raises(RefusedConnectionError):
                        await within(synced(MergeableStore(), link, "p/~clients").__aenter__())
            assert watching.get_tables() == {}


async def test_after_on_join(errors: list[Exception]) -> None:
    """Who is refused by it was never listed; who is gone before its turn neither."""
    seen: list[Any] = []
    gate = asyncio.Event()

    async def on_join(path: ServerPath, client: Client) -> None:
        seen.append(listed(server))
        await gate.wait()
        if client.info.query.get("bad"):
            raise RefusedError("no")

    options: Any = {"presence": True, "on_join": on_join, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, **options) as server, server.open_path("p/~clients") as companion:
        changes: list[Any] = []
        companion.store.add_row_ids_listener("clients", lambda *_: changes.append(listed(server)))
        async with raw(url_of(server)):
            await eventually(lambda: seen)
        async with raw(url_of(server, "p?bad=1")) as bad:
            gate.set()
            assert (await closed_with(bad))[0] == 4403
            async with raw(url_of(server)):
                await eventually(lambda: len(listed(server)) == 1)
        await eventually(lambda: listed(server) == {})
        assert [len(change) for change in changes] == [1, 0]


async def test_a_path_that_cannot_be_loaded() -> None:
    """Nobody is on it."""
    backend = Backend()
    backend.load_trouble = OSError("no")
    options: Any = {"create_persister_for_path": backend, "presence": True, "on_ignored_error": lambda _: None}
    async with create_ws_server("127.0.0.1", 0, **options) as server, server.open_path("p/~clients"):
        async with raw(url_of(server)) as client:
            assert (await closed_with(client))[0] == 1013
        async with mux(f"ws://127.0.0.1:{server.port}/") as client:
            await subscribed(client, "p")
            assert listed(server) == {}
            backend.load_trouble = None
            await eventually(lambda: len(listed(server)) == 1)
    assert backend.events.count("make p/~clients") == 0


async def test_a_silent_death() -> None:
    """Two heartbeats later it is gone, though others have to be waited for until they close."""
    limits = Limits(heartbeat_seconds=1.0)
    async with create_ws_server(
        "127.0.0.1", 0, presence=True, limits=limits, on_ignored_error=lambda _: None
    ) as server:
        async with server.open_path("p/~clients"), raw(url_of(server), ping_interval=None) as dead:
            await eventually(lambda: len(listed(server)) == 1)
            dead.transport.pause_reading()
            died_at = time.monotonic()
            async with raw(url_of(server)):
                await eventually(lambda: len(listed(server)) == 2)
                await eventually(lambda: len(listed(server)) == 1 and len(server.get_client_ids("p")) == 1)
                assert time.monotonic() - died_at < CLOSE_TIMEOUT_SECONDS  # 2 s, if this machine is not busy
            dead.transport.abort()


async def test_churn() -> None:
    """However clients come, go, reconnect and crash: who is listed is who is there."""
    order = random.Random(4)
    watching = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, presence=True, on_ignored_error=lambda _: None) as server:
        async with synced(watching, url_of(server, "p/~clients")), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(synced(MergeableStore(), url_of(server))) for _ in range(5)]
            for _ in range(60):
                match order.choice(["crash", "come", "drop"]):
                    case "crash":
                        channel = order.choice(clients).client._link._channel
                        if channel is not None:
                            channel.connection.transport.abort()
                    case "come":
                        async with raw(url_of(server)):
                            pass
                    case "drop":
                        async with raw(url_of(server)) as client:
                            client.transport.abort()
                await asyncio.sleep(order.choice([0, 0.01]))
            await eventually(
                lambda: (
                    len(watching.get_table("clients")) == 5
                    and {client.client_id for client in clients} == set(watching.get_table("clients"))
                    and set(server.get_client_ids("p")) == set(watching.get_table("clients"))
                )
            )


async def test_access_that_changes() -> None:
    """With a renewed token a client may be seen no more: its row goes, and it is put out of the companion."""

    def authorize(info: ClientInfo) -> Identity:
        return Identity("ann", data=info.token)

    def admit(path_id: str, client: Client) -> Access:
        assert client.identity is not None
        return Access(presence=client.identity.data == "seen", write=False)

    options: Any = {"presence": True, "authorize": authorize, "admit": admit, "on_ignored_error": lambda _: None}
    async with create_ws_server("127.0.0.1", 0, **options) as server, server.open_path("p/~clients"):
        link = WsClient(
            f"ws://127.0.0.1:{server.port}/", multiplexed=True, token="seen", on_ignored_error=lambda _: None
        )
        async with synced(MergeableStore(), link, "p") as client, synced(MergeableStore(), link, "p/~clients"):
            await eventually(lambda: client.client_id in listed(server))
            assert listed(server)[client.client_id]["write"] is False
            await within(link.refresh_token("hidden"))
            await eventually(lambda: listed(server) == {})
            assert server.get_client_ids("p/~clients") == []
            await within(link.refresh_token("seen"))
            await eventually(lambda: client.client_id in listed(server))


async def test_a_peer_that_knows_no_operations() -> None:
    """Cannot say anything of itself over them."""
    async with create_ws_server("127.0.0.1", 0, presence=True) as server:
        options: Any = {"connect_options": {"subprotocols": None}}
        async with synced(MergeableStore(), url_of(server), **options) as client:
            with pytest.raises(NotSupportedError):
                await within(client.set_presence({"mood": "good"}))
            assert client.client_id is None


def test_rows_are_forgotten() -> None:
    """Of clients that are gone nothing is left in the end; who still remembers one cannot bring it back."""
    presence = Presence(lambda: 1_700_000_000_000)
    store = presence.store
    for number in range(MAX_DEPARTED_CLIENTS):
        info = ClientInfo(str(number), "p", None, {}, False, {}, None)
        presence.show(Client("p", info, None, Access()), None)
        store.get_mergeable_content_hashes()
        presence.hide(str(number))
        assert len(store.get_stamped_rows("clients")) == (number + 1) % MAX_DEPARTED_CLIENTS
    assert store.get_tables() == {}
    store._check()


async def test_who_remembers_what_is_forgotten(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """A client that was there long ago neither brings rows back nor hears of them; one that missed a leave loses it."""
    monkeypatch.setattr("mergesync.net.presence.MAX_DEPARTED_CLIENTS", 2)
    old = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, presence=True, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)), server.open_path("p/~clients") as companion:
            async with synced(old, url_of(server, "p/~clients")):
                for _ in range(3):
                    async with raw(url_of(server)):
                        await eventually(lambda: len(old.get_table("clients")) == 2)
                    await eventually(lambda: len(old.get_table("clients")) == 1)
            assert len(old.get_stamped_rows("clients")) == 4
            assert len(companion.store.get_stamped_rows("clients")) == 2
            async with raw(url_of(server)):
                await eventually(lambda: len(listed(server)) == 2)
            await eventually(lambda: len(companion.store.get_stamped_rows("clients")) == 1)
            old.set_row("clients", "ghost", {"since": 1})
            async with synced(old, url_of(server, "p/~clients")):
                await eventually(lambda: list(old.get_table("clients")) == server.get_client_ids("p"))
                await eventually(lambda: errors)
            rows = companion.store.get_stamped_rows("clients")
            assert set(rows) == {*server.get_client_ids("p"), "ghost"}
