"""Clients that are ejected, banned, or put out of a path that is closed; and what they do then."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mergesync import (
    Client,
    ConnectionLostError,
    Identity,
    MergeableStore,
    RefusedConnectionError,
    ServerPath,
    SyncStatus,
    WsClient,
    create_ws_server,
)
from mergesync.limits import MAX_BANS, PUT_OUT_RETRY_SECONDS, RECONNECT_FIRST_SECONDS, RECONNECT_STABLE_SECONDS
from mergesync.net.bans import Bans, is_the_same
from mergesync.net.comeback import Comeback
from mergesync.net.listening import ListeningWsServer
from mergesync.persist import sqlite_persisters
from mergesync.rooms.access import Access, ClientInfo
from mergesync.sync.subprotocols import EXTENDED_CHANNELS
from tests.support import eventually, within

from .kit import Backend, closed_with, mux, raw, subscribed, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


def path_of(server: ListeningWsServer, path_id: str = "p") -> ServerPath:
    """A path that is there."""
    path = server.path(path_id)
    assert path is not None
    return path


def by_token(info: ClientInfo) -> Identity:
    """Everybody is who they say."""
    return Identity(info.token or "nobody")


class Log:
    """Who came and went."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    @property
    def hooks(self) -> dict[str, Any]:
        """Hooks that write it down."""
        return {"on_join": self._join, "on_leave": self._leave, "on_ignored_error": lambda _: None}

    def _join(self, path: ServerPath, client: Client) -> None:
        self.events.append(("join", f"{path.id} {client.id}"))

    async def _leave(self, path: ServerPath, client: Client, reason: str) -> None:
        await asyncio.sleep(0)
        self.events.append((reason, f"{path.id} {client.id}"))

    def reasons(self) -> list[str]:
        """Why clients went; each of them came before, once."""
        gone = [event for event in self.events if event[0] != "join"]
        for _, client_id in gone:
            assert next(kind for kind, who in self.events if who == client_id) == "join"
            assert len([who for _, who in self.events if who == client_id]) == 2
        return [reason for reason, _ in gone]


async def test_eject() -> None:
    """One client, with a code and a reason; the others stay."""
    log = Log()
    async with create_ws_server("127.0.0.1", 0, **log.hooks) as server:
        async with raw(url_of(server)) as first, raw(url_of(server)) as second:
            await eventually(lambda: len(server.get_client_ids("p")) == 2)
            path = path_of(server)
            one, other = path.clients
            await path.eject(one)
            assert path.clients == [other]
            assert await closed_with(first) == (4003, "")
            await path.eject(one)
            await path.eject(other, 4444, "bye")
            assert await closed_with(second) == (4444, "bye")
            for code, reason in ((4003, "x" * 124), (42, "")):
                with pytest.raises(ValueError, match="close"):
                    await path.eject(one, code, reason)
        await eventually(lambda: len(log.reasons()) == 2)
        assert log.reasons() == ["ejected", "ejected"]


async def test_a_client_ejects_itself_in_a_hook() -> None:
    """That ends at once."""
    events: list[str] = []

    async def on_join(path: ServerPath, client: Client) -> None:
        await path.eject(client, reason="full")
        events.append("joined")

    def on_leave(path: ServerPath, client: Client, reason: str) -> None:
        events.append(reason)

    async with create_ws_server("127.0.0.1", 0, on_join=on_join, on_leave=on_leave) as server:
        async with raw(url_of(server)) as client:
            assert await within(closed_with(client)) == (4003, "full")
        await eventually(lambda: events == ["joined", "ejected"])


async def test_ban(errors: list[Exception]) -> None:
    """It holds for all sockets of the identity, by plain sockets and channels, and ends in time; it is for one path."""
    log = Log()
    hooks = {**log.hooks, "on_ignored_error": errors.append, "authorize": by_token}
    async with create_ws_server("127.0.0.1", 0, **hooks) as server:
        ann, bob = url_of(server, "p?token=ann"), url_of(server, "p?token=bob")
        async with raw(ann) as first, raw(ann) as second, raw(bob):
            await eventually(lambda: len(server.get_client_ids("p")) == 3)
            path = path_of(server)
            await path.eject(path.clients[0], reason="spam", ban_seconds=1)
            assert await closed_with(first) == (4003, "spam retry-after=1")
            assert await closed_with(second) == (4003, "spam retry-after=1")
            banned_at = time.monotonic()
            assert len(path.clients) == 1
            with pytest.raises(RefusedConnectionError) as raised:
                await within(synced(MergeableStore(), ann).__aenter__())
            assert raised.value.status == 403
            async with mux(f"ws://127.0.0.1:{server.port}/?token=ann") as channels:
                await channels.send('S\n["sub",-1,[1,"p"]]')
                await subscribed(channels, "q")
                assert server.get_client_ids("p") == [path.clients[0].id]
            assert {error.path_id for error in errors if isinstance(error, RefusedConnectionError)} == {"p"}

            await asyncio.sleep(banned_at + 1.1 - time.monotonic())
            async with raw(ann):
                await eventually(lambda: len(path.clients) == 2)


async def test_ban_by_address() -> None:
    """Where nobody asks who clients are."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=lambda _: None) as server:
        async with raw(url_of(server)) as client:
            await eventually(lambda: server.get_client_ids("p"))
            path = path_of(server)
            await path.eject(path.clients[0], ban_seconds=60)
            assert (await closed_with(client))[1] == "retry-after=60"
            with pytest.raises(RefusedConnectionError):
                await within(synced(MergeableStore(), url_of(server)).__aenter__())
        async with raw(url_of(server, "q")):
            await eventually(lambda: server.get_client_ids("q"))


def test_bans() -> None:
    """Their number is bounded; who has neither an identity nor an address is known to nobody."""
    now = [1_700_000_000_000]
    bans = Bans(lambda: now[0])

    def client(name: str | None, address: Any = None) -> Client:
        identity = None if name is None else Identity(name)
        return Client("p", ClientInfo("c", "p", address, {}, False, {}, None), identity, Access())

    for number in range(MAX_BANS + 1):
        bans.ban("p", client(str(number)), 10)
    assert bans.refusal("p", Identity("0"), None) is None
    refusal = bans.refusal("p", Identity("1"), None)
    assert refusal is not None
    assert refusal.retry_after_seconds == 10
    now[0] += 10_000
    assert bans.refusal("p", Identity("1"), None) is None
    bans.ban("p", client(None, "/run/socket"), 10)
    assert bans.refusal("p", None, "/run/socket") is None
    bans.ban("p", client(None, ("2620:fe::9", 1)), 10)
    assert bans.refusal("p", None, ("2620:fe::1", 2)) is not None
    assert not is_the_same(client(None), client(None))
    nobody = client(None)
    assert is_the_same(nobody, nobody)
    assert is_the_same(client("a"), client("a", ("9.9.9.9", 1)))
    assert not is_the_same(client("a"), client("b"))


def test_bans_of_former_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not over hold; what is over is forgotten, stamps and all."""
    monkeypatch.setattr("mergesync.net.bans.MAX_BANS", 2)
    now, store = [1_700_000_000_000], MergeableStore()
    bans = Bans(lambda: now[0])
    bans.use(store)
    info = ClientInfo("c", "p", None, {}, False, {}, None)
    for number, name in enumerate("abcd"):
        bans.ban("p", Client("p", info, Identity(name), Access()), 10 * number)
    assert store.get_stamped_rows("bans").keys() == {f'["p","identity","{name}"]' for name in "cd"}
    now[0] += 25_000
    again = Bans(lambda: now[0])
    again.use(store)
    assert [name for name in "abcd" if again.refusal("p", Identity(name), None)] == ["d"]
    assert store.get_row_ids("bans") == ['["p","identity","d"]']


async def test_a_ban_survives_a_restart(tmp_path: Path) -> None:
    """Where the lives of paths do; its end stays what it was."""
    options: Any = {"authorize": by_token, "create": "server", "on_ignored_error": lambda _: None}
    persisters = partial(sqlite_persisters, tmp_path / "x.db")
    async with create_ws_server("127.0.0.1", 0, persisters(), **options) as server:
        await server.create_path("p", keep_loaded=True)
        async with raw(url_of(server, "p?token=ann")) as ann:
            await eventually(lambda: server.get_client_ids("p"))
            await path_of(server).eject(path_of(server).clients[0], ban_seconds=600)
            assert await closed_with(ann) == (4003, "retry-after=600")
    async with create_ws_server("127.0.0.1", 0, persisters(), **options) as server:
        with pytest.raises(RefusedConnectionError) as raised:
            await within(synced(MergeableStore(), url_of(server, "p?token=ann")).__aenter__())
        assert raised.value.status == 403
        async with raw(url_of(server, "p?token=bob")):
            await eventually(lambda: server.get_client_ids("p"))


async def test_close() -> None:
    """All clients are put out, what they have written is stored, and they may come back; a channel is silent, only."""
    log, backend = Log(), Backend()
    hooks = {**log.hooks, "create_persister_for_path": backend}
    async with create_ws_server("127.0.0.1", 0, **hooks) as server:
        store = MergeableStore()
        async with raw(url_of(server)) as plain, mux(f"ws://127.0.0.1:{server.port}/") as channels:
            await subscribed(channels, "p")
            await subscribed(channels, "q")
            async with synced(store, url_of(server), on_ignored_error=lambda _: None) as synchronizer:
                store.set_value("v", 1)
                await eventually(lambda: path_of(server).store.get_value("v") == 1)
                await path_of(server).close(4242, "closing time")
                assert backend.values("p") == {"v": 1}
                assert server.get_client_ids("p") == []
                assert await closed_with(plain) == (4242, "closing time")
                await eventually(lambda: synchronizer.status == SyncStatus.OFFLINE)
                error: Exception | None = synchronizer.error
                assert isinstance(error, ConnectionLostError)
                assert "4242 closing time" in str(error)
                assert server.get_client_ids("q") != []
        async with raw(url_of(server)):
            await eventually(lambda: server.get_client_ids("p"))
        await eventually(lambda: len(log.reasons()) == 5)
    assert sorted(log.reasons()) == ["closed", "closed", "closed", "left", "left"]


async def test_a_client_that_was_put_out_comes_back_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before some seconds, and with a ban not before that ends."""
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float, *arguments: Any) -> Any:
        slept.append(seconds)
        return await real_sleep(min(seconds, 0.01), *arguments)

    async with create_ws_server("127.0.0.1", 0, on_ignored_error=lambda _: None) as server:
        async with synced(MergeableStore(), url_of(server), on_ignored_error=lambda _: None) as client:
            monkeypatch.setattr("mergesync.net.link.asyncio.sleep", sleep)
            await path_of(server).eject(path_of(server).clients[0])
            await eventually(lambda: client.client.connections == 2 and client.status == SyncStatus.LIVE)
            assert max(slept) >= PUT_OUT_RETRY_SECONDS
            assert client.error is None  # as it is there again
            slept.clear()
            await path_of(server).eject(path_of(server).clients[0], ban_seconds=100)
            await eventually(lambda: len([seconds for seconds in slept if seconds >= 99]) >= 3)
            error: Exception | None = client.error
            assert isinstance(error, RefusedConnectionError)
            assert error.status == 403
            monkeypatch.undo()


async def test_a_channel_that_is_put_out() -> None:
    """Our client is told; its other channels go on."""
    async with create_ws_server("127.0.0.1", 0) as server:
        errors: list[Exception] = []
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True, on_ignored_error=errors.append)
        async with synced(MergeableStore(), link, "p") as one, synced(MergeableStore(), link, "q") as other:
            await path_of(server).eject(path_of(server).clients[0], reason="noise")
            await eventually(lambda: one.error is not None)
            assert "'p' was refused: noise" in str(one.error)
            assert other.error is None
            assert [type(error) for error in errors] == [RefusedConnectionError]
            other.store.set_value("v", 1)
            await eventually(lambda: path_of(server, "q").store.get_value("v") == 1)


async def test_a_channel_that_is_put_out_comes_back_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same socket; with a ban not before that ends."""
    monkeypatch.setattr("mergesync.net.comeback.PUT_OUT_RETRY_SECONDS", 0.01)
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=lambda _: None) as server:
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True, on_ignored_error=lambda _: None)
        async with synced(MergeableStore(), link, "p") as one, synced(MergeableStore(), link, "q"):
            for ban_seconds in (0.0, 1.0):
                began = time.monotonic()
                await path_of(server).eject(path_of(server).clients[0], ban_seconds=ban_seconds)
                await eventually(lambda: one.status == SyncStatus.CONNECTING)
                await eventually(lambda: one.status == SyncStatus.LIVE)
                assert time.monotonic() - began >= ban_seconds
                assert one.error is None
            one.store.set_value("v", 1)
            await eventually(lambda: path_of(server).store.get_value("v") == 1)
            assert link.connections == 1


async def test_how_late_a_channel_comes_back() -> None:
    """As late as a socket; and not at all once there is another connection, or nobody wants it any more."""
    loop = asyncio.get_running_loop()
    comeback = Comeback(lambda: None)

    def waits() -> float | None:
        return None if comeback._timer is None else comeback._timer.when() - loop.time()

    for text, seconds in (("no", PUT_OUT_RETRY_SECONDS), ("no retry-after=60", 60.0), ("", PUT_OUT_RETRY_SECONDS)):
        comeback.refused(text)
        assert (waits() or 0.0) > seconds - 1.0
    comeback.opened()
    assert waits() is None
    comeback._opened_at = loop.time() - RECONNECT_STABLE_SECONDS - 1.0
    comeback.refused("no")
    assert 0.0 < (waits() or 0.0) < PUT_OUT_RETRY_SECONDS + RECONNECT_FIRST_SECONDS
    comeback.cancel()
    assert waits() is None


async def test_a_thousand_are_ejected() -> None:
    """In less than a second, each is told."""
    async with create_ws_server("127.0.0.1", 0) as server, AsyncExitStack() as stack:
        clients: list[Any] = []
        for _ in range(20):
            connecting = [stack.enter_async_context(raw(url_of(server), ping_interval=None)) for _ in range(50)]
            clients += await asyncio.gather(*connecting)
        await eventually(lambda: len(server.get_client_ids("p")) == 1000)
        began = time.process_time()
        await path_of(server).close(reason="over")
        codes = await asyncio.gather(*map(closed_with, clients))
        await eventually(lambda: server.get_stats().connections == 0)
        seconds = time.process_time() - began  # the clients are in this very process
        assert set(codes) == {(4001, "over")}
        assert seconds < 1.0, seconds


async def test_who_is_told_in_an_operation() -> None:
    """On a channel: why, and what the application says."""
    async with create_ws_server("127.0.0.1", 0) as server:
        async with raw(f"ws://127.0.0.1:{server.port}/", subprotocols=["tinybase", EXTENDED_CHANNELS]) as client:
            await client.send('S\n["hello",-1,[0,1]]')
            await within(client.recv())
            await subscribed(client, "p")
            await path_of(server).close(reason="over")
            assert await within(client.recv()) == 'M\np\nX\n[null,"refused",["closed","over"]]'
