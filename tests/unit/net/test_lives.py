"""Paths that are made, end, and are removed, with real storage and over restarts."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mergesync import (
    Client,
    LoadError,
    MergeableStore,
    NotSupportedError,
    PathClosedError,
    PathExistsError,
    RefusedConnectionError,
    RefusedError,
    SaveError,
    ServerPath,
    SyncStatus,
    WsClient,
    WsServer,
    create_ws_server,
)
from mergesync.limits import MAX_REMEMBERED_REMOVALS, REMOVAL_REMEMBERED_SECONDS, REMOVAL_RETRY_SECONDS
from mergesync.net.lifecycle import LifeCycle
from mergesync.net.listening import ListeningWsServer
from mergesync.net.lives import Life, Lives
from mergesync.persist import json_file_persisters, sqlite_persisters
from mergesync.persist.files import FileSystem
from mergesync.store.hlc import encode_hlc
from tests.support import eventually, within

from .kit import Backend, asgi_app, closed_with, mux, raw, subscribed, synced, url_of, uvicorn_port

pytestmark = pytest.mark.usefixtures("leftovers")

GAME: Any = ({"pieces": {"king": {"at": "e1"}}}, {"turn": "white"})


@pytest.fixture(params=["json", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Any]:
    """Makes what a server keeps its paths in; each time on the same files."""
    if request.param == "json":
        return lambda: json_file_persisters(tmp_path / "data")
    return lambda: sqlite_persisters(tmp_path / "data.db")


def store_of(server: ListeningWsServer, path_id: str) -> MergeableStore:
    """What the server has of a path, which must be there."""
    path = server.path(path_id)
    assert path is not None
    return path.store


def quiet(_: Exception) -> None:
    """Nobody wants to know."""


class Wrapped:
    """A persister of which some things are otherwise."""

    def __init__(self, persister: Any) -> None:
        self.persister = persister

    def __getattr__(self, name: str) -> Any:
        return getattr(self.persister, name)


async def stored(storage: Callable[[], Any]) -> list[str]:
    """The paths for which something is stored, but for the server's own."""
    return [path_id for path_id in await storage().get_path_ids() if path_id != "~lives"]


# --- making


async def test_create(storage: Callable[[], Any]) -> None:
    """With an id that is generated or given, and content that is stored, and that no writer loses against."""
    before = MergeableStore().set_value("turn", "black")
    async with create_ws_server("127.0.0.1", 0, storage()) as server:
        one, other = await server.create_path(content=GAME), await server.create_path(content=GAME)
        assert len({one, other}) == 2
        assert await server.create_path("chess", content=GAME) == "chess"
        for path_id in ("chess", one):
            with pytest.raises(PathExistsError):
                await server.create_path(path_id)
        await eventually(lambda: server.path("chess") is None)
        async with synced(before, url_of(server, "chess")):
            assert before.get_values() == {"turn": "black"}
            assert before.get_tables() == GAME[0]
        async with raw(url_of(server, "by arrival".replace(" ", "-"))):
            await eventually(lambda: server.path("by-arrival"))
            with pytest.raises(PathExistsError):
                await server.create_path("by-arrival")
    assert await stored(storage) == sorted(["chess", one, other])
    async with create_ws_server("127.0.0.1", 0, storage()) as server:
        with pytest.raises(PathExistsError):
            await server.create_path("chess", content=GAME)
        async with server.open_path("chess") as path:
            assert path.store.get_content() == (GAME[0], {"turn": "black"})


async def test_create_in_memory() -> None:
    """Without storage it stays until it is removed."""
    async with create_ws_server("127.0.0.1", 0) as server:
        path_id = await server.create_path(content=GAME)
        for _ in range(2):
            store = MergeableStore()
            async with synced(store, url_of(server, path_id)):
                assert store.get_content() == GAME
            await eventually(lambda: server.get_path_ids() == [])
        assert await server.remove_path(path_id)
        assert server.path(path_id) is None
        assert not await server.remove_path(path_id)
        assert await server.create_path(path_id) == path_id


async def test_create_at_once() -> None:
    """Of many who make the same path, one does."""
    async with create_ws_server("127.0.0.1", 0, create="server") as server:
        results = await asyncio.gather(*(server.create_path("p") for _ in range(20)), return_exceptions=True)
        assert results.count("p") == 1
        assert {type(result) for result in results} == {str, PathExistsError}


async def test_create_what_cannot_be() -> None:
    """Nothing is made then."""
    backend = Backend()
    async with create_ws_server("127.0.0.1", 0, backend, create="server", on_ignored_error=quiet) as server:
        await server.create_path("other")
        assert await server.create_path("q") == "q"
        backend.load_trouble = OSError("no")
        with pytest.raises(LoadError):
            await server.create_path("p")
        with pytest.raises(ValueError, match="above 0"):
            await server.create_path("p", ttl_seconds=0)
        with pytest.raises(ValueError, match="above 0"):
            await server.create_path("p", idle_ttl_seconds=-1)
        backend.load_trouble = None
        with pytest.raises(PathExistsError):
            await server.create_path("~lives")
        with pytest.raises(ValueError, match="itself"):
            await server.remove_path("~lives")
    with pytest.raises(PathClosedError):
        await server.create_path("q")
    async with create_ws_server("127.0.0.1", 0, Backend()) as server:
        with pytest.raises(ValueError, match="lives=True"):
            await server.create_path(ttl_seconds=10)


# --- who makes paths


async def test_only_the_server_makes_paths(storage: Callable[[], Any]) -> None:
    """Others get 404 before there is a socket, or a refused channel; what it has made survives a restart."""
    async with create_ws_server("127.0.0.1", 0, storage(), create="server", on_ignored_error=quiet) as server:
        await server.create_path("made")
        async with server.open_path("opened"):
            pass
    async with create_ws_server("127.0.0.1", 0, storage(), create="server", on_ignored_error=quiet) as server:
        for path_id in ("unknown", "~lives", ""):
            with pytest.raises(InvalidStatus) as raised:
                async with raw(url_of(server, path_id)):
                    pass
            assert raised.value.response.status_code == 404
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True, on_ignored_error=quiet)
        async with synced(MergeableStore(), link, "made"), synced(MergeableStore(), link, "opened"):
            with pytest.raises(RefusedConnectionError, match="no such path"):
                await within(synced(MergeableStore(), link, "unknown").__aenter__())
            assert sorted(server.get_path_ids()) == ["made", "opened"]
    assert "unknown" not in await stored(storage)


async def test_a_companion_of_nothing() -> None:
    """Is no path either."""
    async with create_ws_server("127.0.0.1", 0, create="server", presence=True, on_ignored_error=quiet) as server:
        with pytest.raises(InvalidStatus):
            async with raw(url_of(server, "p/~clients")):
                pass
        await server.create_path("p")
        watching = MergeableStore()
        async with (
            raw(url_of(server, "p/~clients")) as client,
            raw(url_of(server)),
            synced(watching, url_of(server, "p/~clients")),
        ):
            assert len(watching.get_table("clients")) == 1
            assert await server.remove_path("p")
            assert (await closed_with(client))[0] == 4410


async def test_lives_that_cannot_be_read() -> None:
    """Nobody is let in until they can, and who comes hears 503."""
    backend = Backend()
    backend.load_trouble = OSError("no")
    async with create_ws_server("127.0.0.1", 0, backend, create="server", on_ignored_error=quiet) as server:
        with pytest.raises(InvalidStatus) as raised:
            async with raw(url_of(server)):
                pass
        assert raised.value.response.status_code == 503
        assert "Retry-After" in raised.value.response.headers
        with pytest.raises(LoadError):
            await server.create_path("p")
        backend.load_trouble = None

        async def made() -> bool:
            try:
                return await server.create_path("p") == "p"
            except LoadError:
                return False

        async with asyncio.timeout(20):
            while not await made():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with raw(url_of(server)):
            await eventually(lambda: server.get_client_ids("p"))


# --- removing


@pytest.mark.parametrize("create", ["any", "server"])
async def test_remove(storage: Callable[[], Any], create: Any) -> None:
    """Clients hear of it, on_leave is called once for each, and nothing is left on the disk."""
    left: list[str] = []

    def on_leave(path: ServerPath, client: Client, reason: str) -> None:
        left.append(reason)

    options: Any = {"create": create, "on_leave": on_leave, "on_ignored_error": quiet}
    async with create_ws_server("127.0.0.1", 0, storage(), **options) as server:
        for path_id in ("p", "q"):
            await server.create_path(path_id, content=GAME)
        store, stays = MergeableStore(), MergeableStore()
        async with raw(url_of(server)) as plain, mux(f"ws://127.0.0.1:{server.port}/") as channels:
            await subscribed(channels, "p")
            async with (
                synced(stays, url_of(server, "q")),
                synced(store, url_of(server), on_ignored_error=quiet) as client,
            ):
                store.set_value("turn", "black")
                assert await server.remove_path("p", "game over")
                assert await closed_with(plain) == (4410, "mergesync:removed game over")
                await eventually(lambda: client.status == SyncStatus.OFFLINE and client.error is not None)
                assert isinstance(client.error, RefusedConnectionError)
                assert client.error.status == 410
                with pytest.raises(RefusedConnectionError):
                    await within(client.durable())
                assert client.client.connections == 1
                assert left == ["removed"] * 3
                assert server.path("p") is None
                assert stays.get_content() == GAME
                assert not await server.remove_path("p")
    assert await stored(storage) == ["q"]


async def test_remove_what_is_not_loaded(storage: Callable[[], Any]) -> None:
    """What clients with fast clocks have stored is too old afterwards as well (simulator, seed 48467)."""
    stamp = encode_hlc(int(time.time() * 1000) + 60_000, 0, "ahead")
    changes = json.dumps([[{}], [{"turn": ["black", stamp]}], 1])
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True, on_ignored_error=quiet) as server:
        async with raw(url_of(server)) as connection:
            await connection.send(f'\n["m",3,{changes}]')
            await eventually(lambda: server.path("p") is not None and store_of(server, "p").has_value("turn"))
        await eventually(lambda: server.path("p") is None)
        assert await server.remove_path("p")
        async with raw(url_of(server)) as connection:
            await connection.send(f'\n["m",3,{changes}]')
            assert await closed_with(connection) == (4410, "mergesync:removed what it has is of before")
    assert await stored(storage) == []


@pytest.mark.parametrize("many", [True, False])
async def test_new_clients_of_a_path_that_was_ahead(
    many: bool, storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are let in, though their clocks show less than what was there (seed 66434), unless that was much."""
    if many:
        monkeypatch.setattr("mergesync.net.lives.MAX_STAMPS_AHEAD", 0)
    stamp = encode_hlc(int(time.time() * 1000) + 60_000, 0, "ahead")
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True, on_ignored_error=quiet) as server:
        async with server.open_path("p") as path:
            path.store.apply_mergeable_changes([[{}], [{"turn": ["black", stamp]}], 1])
        assert await server.remove_path("p")
        async with raw(url_of(server)) as connection:
            now = encode_hlc(int(time.time() * 1000) + 1000, 0, "fresh")
            await connection.send(f'\n["m",3,{json.dumps([[{}], [{"turn": ["white", now]}], 1])}]')
            if many:
                assert (await closed_with(connection))[0] == 4410
            else:
                await eventually(lambda: server.path("p") is not None and store_of(server, "p").has_value("turn"))


@pytest.mark.parametrize("loaded", [True, False])
async def test_remove_all(storage: Callable[[], Any], loaded: bool) -> None:
    """Those in use, those that were made, and those that are but stored."""
    async with create_ws_server("127.0.0.1", 0, storage()) as server:
        for path_id in ("a", "b"):
            await server.create_path(path_id, content=GAME)
        async with server.open_path("a" if loaded else "c"):
            assert await server.remove_all_paths() == 2 + (not loaded)
        assert await server.remove_all_paths() == 0
    assert await stored(storage) == []


async def test_while_the_application_has_it_open(storage: Callable[[], Any]) -> None:
    """Its store is gone for it, too."""
    async with create_ws_server("127.0.0.1", 0, storage()) as server:
        async with server.open_path("p") as path:
            path.store.set_value("v", 1)
            assert await server.remove_path("p")
            with pytest.raises(PathClosedError):
                path.store.set_value("v", 2)
            async with server.open_path("p") as anew:
                assert anew.store.get_values() == {}
    assert await stored(storage) == []


# --- late clients


async def turned_away(store: MergeableStore, url: str | WsClient, *channel: str) -> None:
    """A client with this store hears that the path was removed."""
    options: Any = {} if channel else {"on_ignored_error": quiet}
    async with synced(store, url, *channel, wait=False, **options) as client:
        await eventually(lambda: client.error is not None)
        assert isinstance(client.error, RefusedConnectionError)
        assert client.error.status == 410
        with pytest.raises(RefusedConnectionError):
            await within(client.durable())


@pytest.mark.parametrize("restart", [False, True])
async def test_a_late_client(storage: Callable[[], Any], restart: bool) -> None:
    """It does not bring back what was removed, and hears so; a fresh one makes the path anew. Also after a restart."""
    late, fresh = MergeableStore(), MergeableStore()
    options: Any = {"lives": True, "on_ignored_error": quiet}
    server = await create_ws_server("127.0.0.1", 0, storage(), **options)
    try:
        async with synced(late, url_of(server)):
            late.set_value("secret", "old")
            await eventually(lambda: store_of(server, "p").get_values() == {"secret": "old"})
        late.set_value("written while away", 1)
        assert await server.remove_path("p")
        if restart:
            await server.destroy()
            server = await create_ws_server("127.0.0.1", 0, storage(), **options)
        late.set_value("written after", 1)
        for companion in (False, True):
            async with raw(url_of(server)) if companion else synced(fresh, url_of(server)):
                await turned_away(late, url_of(server))
        async with synced(fresh, url_of(server)):
            fresh.set_value("v", "new")
            await eventually(lambda: store_of(server, "p").get_values() == {"v": "new"})
        async with server.open_path("p") as path:
            assert path.store.get_content() == ({}, {"v": "new"})
    finally:
        await server.destroy()
    assert await stored(storage) == ["p"]


async def test_what_cannot_be_read_is_removed(tmp_path: Path, errors: list[Exception]) -> None:
    """Whatever was in it, it goes."""
    (tmp_path / "p.json").write_text("no JSON")
    async with create_ws_server(
        "127.0.0.1", 0, json_file_persisters(tmp_path), lives=True, on_ignored_error=errors.append
    ) as server:
        assert await server.remove_path("p")
    assert not (tmp_path / "p.json").exists()
    assert len(errors) == 1
    assert isinstance(errors[0], LoadError)


async def test_a_removal_that_is_cut_off_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what it was reading, when the server ends (simulator, seed 3785)."""
    monkeypatch.setattr("mergesync.net.lifecycle.DESTROY_TIMEOUT_SECONDS", 0.05)
    reading, let_go = asyncio.Event(), asyncio.Event()

    class Hanging:
        store = MergeableStore()

        async def start_auto_load(self) -> None:
            reading.set()
            await asyncio.Event().wait()

        async def destroy(self) -> None:
            let_go.set()

        async def remove(self) -> None:
            raise AssertionError("nobody gets so far")

    others = json_file_persisters(tmp_path)

    def persister(path_id: str) -> Any:
        return Hanging() if path_id == "p" else others(path_id)

    async with create_ws_server("127.0.0.1", 0, persister, lives=True, on_ignored_error=quiet) as server:
        removal = asyncio.create_task(server.remove_path("p"))
        await within(reading.wait())
    assert let_go.is_set()
    with pytest.raises(PathClosedError):
        await removal


async def test_a_late_client_with_channels() -> None:
    """It is put out of the one, and goes on with the others."""
    late = MergeableStore()
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=quiet) as server:
        async with synced(late, url_of(server)):
            late.set_value("secret", "old")
            await eventually(lambda: store_of(server, "p").get_values() == {"secret": "old"})
            await server.remove_path("p")
        link = WsClient(f"ws://127.0.0.1:{server.port}/", multiplexed=True, on_ignored_error=quiet)
        other = MergeableStore()
        async with synced(other, link, "q"):
            await turned_away(late, link, "p")
            other.set_value("v", 1)
            await eventually(lambda: store_of(server, "q").get_values() == {"v": 1})
        await eventually(lambda: server.get_path_ids() == [])


async def test_defaults_are_not_late() -> None:
    """What an application starts with has no time, and is no old content."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=quiet) as server:
        async with server.open_path("p"):
            await server.remove_path("p")
        store = MergeableStore()
        async with synced(store, url_of(server), initial_content=({}, {"v": 1})) as client:
            await eventually(lambda: store_of(server, "p").get_values() == {"v": 1})
            assert client.error is None


async def test_reviewed_after_a_removal() -> None:
    """Hooks go on deciding of what fresh clients bring."""

    async def on_changes(path: ServerPath, client: Client, changes: Any) -> None:
        if "bad" in changes.values:
            raise RefusedError("bad")

    async with create_ws_server("127.0.0.1", 0, on_changes=on_changes, on_ignored_error=quiet) as server:
        async with server.open_path("p"):
            await server.remove_path("p")
        store = MergeableStore()
        async with synced(store, url_of(server)):
            store.set_value("bad", 1)
            store.set_value("good", 1)
            await eventually(lambda: store.get_values() == store_of(server, "p").get_values() == {"good": 1})


# --- removal that meets trouble


async def test_a_persister_that_cannot_remove() -> None:
    """Says so before anybody is put out; the path is as it was."""
    backend = Backend()
    errors: list[Exception] = []
    async with create_ws_server("127.0.0.1", 0, backend, lives=True, on_ignored_error=errors.append) as server:
        store = MergeableStore()
        async with synced(store, url_of(server)):
            store.set_value("v", 1)
            await eventually(lambda: store_of(server, "p").get_values() == {"v": 1})
            with pytest.raises(NotSupportedError, match="remove"):
                await server.remove_path("p")
            assert len(server.get_client_ids("p")) == 1
        await eventually(lambda: backend.values("p") == {"v": 1} and server.path("p") is None)
        await server.create_path("q", ttl_seconds=0.1)
        await eventually(lambda: errors)
        assert {type(error) for error in errors} == {NotSupportedError}
        with pytest.raises(NotSupportedError):
            await server.remove_path("q")
        async with synced(store, url_of(server)):
            assert store.get_values() == {"v": 1}
        assert backend.values("p") == {"v": 1}


async def test_storage_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who removes it hears so; nobody may come until it is gone, which is tried again, also by the next server."""
    trouble = [True]

    class Stuck(FileSystem):
        def remove(self, path: str) -> None:
            if trouble and path.endswith("p.json"):
                raise PermissionError("no")
            super().remove(path)

    def storage() -> Any:
        return json_file_persisters(tmp_path, files=Stuck())

    monkeypatch.setattr("mergesync.net.lives.REMOVAL_RETRY_SECONDS", 0.2)
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True, on_ignored_error=quiet) as server:
        await server.create_path("p", content=GAME)
        with pytest.raises(SaveError):
            await server.remove_path("p")
        with pytest.raises(InvalidStatus) as raised:
            async with raw(url_of(server)):
                pass
        assert raised.value.response.status_code == 410
        with pytest.raises(PathClosedError):
            async with server.open_path("p"):
                pass
    assert (tmp_path / "p.json").exists()
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True, on_ignored_error=quiet) as server:
        with pytest.raises(InvalidStatus):
            async with raw(url_of(server)):
                pass
        trouble.clear()
        await eventually(lambda: not (tmp_path / "p.json").exists())

        async def comes() -> None:
            while True:
                try:
                    async with raw(url_of(server)):
                        return
                except InvalidStatus:
                    await asyncio.sleep(0.02)

        await within(comes())


async def test_storage_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends does not wait for it for ever, and whoever waits for the removal hears that."""
    monkeypatch.setattr("mergesync.net.lifecycle.DESTROY_TIMEOUT_SECONDS", 0.1)
    backend = Backend()
    removing = asyncio.Event()

    class Hanging(Wrapped):
        """A persister that cannot let go."""

        async def remove(self) -> None:
            removing.set()
            await asyncio.Event().wait()

    async with create_ws_server(
        "127.0.0.1", 0, lambda path_id: Hanging(backend(path_id)), lives=True, on_ignored_error=quiet
    ) as server:
        await server.create_path("p", content=GAME)
        removal = asyncio.create_task(server.remove_path("p"))
        await within(removing.wait())
        with pytest.raises(InvalidStatus):
            async with raw(url_of(server)):
                pass
    with pytest.raises(PathClosedError):
        await within(removal)


async def test_removed_again_while_it_is_removed() -> None:
    """Whoever comes with what was written before the second time is late, too (simulator, seed 269 of rooms)."""
    backend = Backend()
    removing, gate = asyncio.Event(), asyncio.Event()

    class Slow(Wrapped):
        """A persister that takes its time to remove."""

        async def remove(self) -> None:
            removing.set()
            await gate.wait()
            await self.persister.destroy()

    late = MergeableStore()
    async with create_ws_server(
        "127.0.0.1", 0, lambda path_id: Slow(backend(path_id)), on_ignored_error=quiet
    ) as server:
        async with synced(MergeableStore(), url_of(server)):
            first = asyncio.create_task(server.remove_path("p"))
            await within(removing.wait())
        await asyncio.sleep(0.01)
        late.set_value("v", "between")
        await asyncio.sleep(0.01)
        second = asyncio.create_task(server.remove_path("p"))
        await asyncio.sleep(0)
        gate.set()
        assert await within(first)
        assert await within(second)
        await turned_away(late, url_of(server))


async def test_removed_when_it_was_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it is not stored yet that it was gone before."""
    gate, calls = asyncio.Event(), 0

    async def store_slowly(_: LifeCycle) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the path is gone
            await gate.wait()

    async with create_ws_server("127.0.0.1", 0, on_ignored_error=quiet) as server:
        await server.create_path("p", content=GAME)
        monkeypatch.setattr(LifeCycle, "_lives_stored", store_slowly)
        first = asyncio.create_task(server.remove_path("p"))
        await eventually(lambda: calls == 2)
        async with synced(MergeableStore(), url_of(server)) as client:
            await eventually(lambda: server.path("p"))
            assert await within(server.remove_path("p"))
            await eventually(lambda: client.error is not None)
        assert server.path("p") is None
        gate.set()
        assert await within(first)
        assert not await server.remove_path("p")


async def test_remove_in_a_hook() -> None:
    """An action ends its own game: the path goes when the hook is through."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=quiet) as server:

        @server.action("end")
        async def end(path: ServerPath, client: Client, data: Any) -> bool:
            return await server.remove_path(path.id, "ended")

        async with synced(MergeableStore(), url_of(server), on_ignored_error=quiet) as client:
            assert await within(client.act("end"), 5) in (True, None)
            await eventually(lambda: client.error is not None and server.path("p") is None)


async def test_who_comes_while_it_is_removed() -> None:
    """Is closed with 4410; what it was let onto is no more."""
    backend = Backend()
    gate = asyncio.Event()

    async def authorize_admit(path_id: str, client: Client) -> Any:
        from mergesync import Access

        if client.info.query.get("slow"):
            await gate.wait()
        return Access()

    async with create_ws_server("127.0.0.1", 0, admit=authorize_admit, on_ignored_error=quiet) as server:
        del backend
        async with raw(url_of(server)):
            await eventually(lambda: server.path("p"))
            coming = asyncio.create_task(raw_close(url_of(server, "p?slow=1")))
            await asyncio.sleep(0.05)
            removing = asyncio.create_task(server.remove_path("p"))
            await asyncio.sleep(0)
            gate.set()
            assert await within(removing)
            await within(coming)
        assert server.get_client_ids("p") == []


async def test_removed_while_it_is_made() -> None:
    """It is not made, and remembered as removed (simulator, seed 258 of rooms)."""
    gate = asyncio.Event()

    async def no_storage(_: str) -> None:
        await gate.wait()

    async with create_ws_server("127.0.0.1", 0, no_storage, on_ignored_error=quiet) as server:
        making = asyncio.create_task(server.create_path("p"))
        await eventually(lambda: server._life.is_made("p"))
        removing = asyncio.create_task(server.remove_path("p"))
        await eventually(lambda: not server._life.is_made("p"))
        gate.set()
        assert await within(removing)
        with pytest.raises(PathClosedError):
            await within(making)
        assert server._life.past("p")


async def test_lives_whose_persister_was_cancelled(storage: Callable[[], Any]) -> None:
    """They are loaded nevertheless, though nobody comes (simulator, seed 138 of rooms)."""
    create, asked = storage(), []

    async def cancelled_once(path_id: str) -> Any:
        asked.append(path_id)
        if len(asked) == 1:
            raise asyncio.CancelledError
        return create(path_id)

    async with create_ws_server("127.0.0.1", 0, cancelled_once, lives=True, on_ignored_error=quiet) as server:
        await eventually(lambda: server._life._ready)
    assert asked == ["~lives", "~lives"]


async def raw_close(url: str) -> None:
    """Come, and see it closed or refused."""
    try:
        async with raw(url) as client:
            await client.close()
    except InvalidStatus:
        pass


# --- times


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("idle", [False, True])
async def test_time_to_live(storage: Callable[[], Any], restart: bool, idle: bool) -> None:
    """The path goes when its time is over, in use or not, also after a restart; idle only while nobody is there."""
    options: Any = {"lives": True, "on_ignored_error": quiet}
    server = await create_ws_server("127.0.0.1", 0, storage(), **options)
    try:
        began = time.monotonic()
        # Long enough for a client to come in time on a machine that is busy.
        ttl: Any = {"idle_ttl_seconds": 0.6} if idle else {"ttl_seconds": 2.0}
        await server.create_path("p", content=GAME, **ttl)
        await server.create_path("stays", content=GAME, ttl_seconds=1000)
        async with raw(url_of(server)) as client:
            await eventually(lambda: server.get_client_ids("p"))
            if idle:
                await asyncio.sleep(0.8)
                assert len(server.get_client_ids("p")) == 1
                began = time.monotonic()
            elif not restart:
                assert (await closed_with(client))[0] == 4410
        if restart:
            await server.destroy()
            server = await create_ws_server("127.0.0.1", 0, storage(), **options)
            await server._life.ready()
        await eventually(lambda: not server._life._lives.is_alive("p") and not server._life._removals)
        assert time.monotonic() - began >= (0.5 if idle else 1.9)
    finally:
        await server.destroy()
    assert await stored(storage) == ["stays"]


async def test_keep_loaded(storage: Callable[[], Any]) -> None:
    """From when it is made, and after a restart, until it is removed."""
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True) as server:
        await server.create_path("p", content=GAME, keep_loaded=True)
        path = server.path("p")
        assert path is not None
        assert path.store.get_content() == GAME
    async with create_ws_server("127.0.0.1", 0, storage(), lives=True) as server:
        await eventually(lambda: store_of(server, "p").get_content() == GAME)
        async with raw(url_of(server)):
            await eventually(lambda: server.get_client_ids("p"))
        await eventually(lambda: server.get_path_ids() == [])
        assert server.path("p") is not None
        assert await server.remove_path("p")
        assert server.path("p") is None


async def test_idle_grace() -> None:
    """A path stays loaded for a while after its last client, and not longer; the server ends at once nevertheless."""
    backend = Backend()
    async with create_ws_server("127.0.0.1", 0, backend, idle_grace_seconds=0.3) as server:
        async with raw(url_of(server)):
            await eventually(lambda: server.path("p"))
        for _ in range(3):
            await asyncio.sleep(0.1)
            async with raw(url_of(server)):
                await eventually(lambda: server.get_client_ids("p"))
        assert backend.events.count("load p") == 1
        await eventually(lambda: "let go p" in backend.events)
    backend = Backend()
    async with create_ws_server("127.0.0.1", 0, backend, idle_grace_seconds=float("inf")) as server:
        async with raw(url_of(server)):
            await eventually(lambda: server.path("p"))
        await asyncio.sleep(0.05)
        assert server.path("p") is not None
    assert backend.events[-1] == "let go p"


# --- self-destruction


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_self_destruct(storage: Callable[[], Any], kind: str) -> None:
    """Asked whenever a client leaves; an error keeps the path; going down is no leave."""
    asked: list[tuple[str, int]] = []
    errors: list[Exception] = []

    def self_destruct(path: ServerPath, clients_left: int, created_at_seconds: float) -> bool:
        assert 0 <= time.time() - created_at_seconds < 60
        asked.append((path.id, clients_left))
        if path.id == "bad":
            raise KeyError("a mistake")
        return clients_left == 0 and path.id != "kept"

    async def later(path: ServerPath, clients_left: int, created_at_seconds: float) -> bool:
        await asyncio.sleep(0)
        return self_destruct(path, clients_left, created_at_seconds)

    hook = self_destruct if kind == "plain" else later
    options: Any = {"self_destruct": hook, "on_ignored_error": errors.append}
    async with create_ws_server("127.0.0.1", 0, storage(), **options) as server:
        for path_id in ("p", "kept", "bad", "up"):
            await server.create_path(path_id, content=GAME)
        async with raw(url_of(server)):
            async with raw(url_of(server)):
                await eventually(lambda: len(server.get_client_ids("p")) == 2)
            await eventually(lambda: asked == [("p", 1)])
        await eventually(lambda: asked == [("p", 1), ("p", 0)])
        for path_id in ("kept", "bad"):
            async with raw(url_of(server, path_id)):
                await eventually(lambda path_id=path_id: server.get_client_ids(path_id))  # type: ignore[misc]
            await eventually(lambda path_id=path_id: (path_id, 0) in asked)  # type: ignore[misc]
        async with raw(url_of(server, "up")):
            await eventually(lambda: server.get_client_ids("up"))
            await server.destroy()
    assert await stored(storage) == ["bad", "kept", "up"]
    assert [type(error) for error in errors] == [KeyError]
    assert "up" not in dict(asked)


# --- what is known


def test_lives_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was removed is forgotten after a week, or when there is too much of it; deadlines come in order."""
    monkeypatch.setattr("mergesync.net.lives.MAX_REMEMBERED_REMOVALS", 3)
    now = [1_700_000_000_000]
    lives = Lives(lambda: now[0])
    for number in range(5):
        lives.make(str(number), ttl_seconds=10)
        lives.remove(str(number))
        lives.removal_done(str(number))
    assert [number for number in range(5) if lives.get(str(number)) is not None] == [2, 3, 4]
    lives.make("4", ttl_seconds=1000)
    again = lives.get("4")
    assert again is not None
    assert again.born_after != ""
    assert lives.take_due() == []
    now[0] += 1_000_000
    assert lives.take_due() == ["4"]
    assert lives.take_due() == []
    now[0] += int(REMOVAL_REMEMBERED_SECONDS * 1000)
    assert lives.take_due() == []
    assert lives.path_ids() == ["4"]
    assert lives.get("3") is None
    assert len(lives._store.get_stamped_rows("paths")) <= 3
    lives.remove("4")
    now[0] += int(REMOVAL_RETRY_SECONDS * 1000)
    assert lives.take_due() == ["4"]
    assert MAX_REMEMBERED_REMOVALS == 10_000


def test_lives_of_former_times() -> None:
    """Are as they were; who had clients when the server ended has none."""
    now = [1_700_000_000_000]
    lives, store = Lives(lambda: now[0]), MergeableStore()
    lives.use(store)
    lives.make("p", idle_ttl_seconds=10)
    lives.occupied("p", True)
    lives.occupied("unknown", True)
    assert lives.get("p") == Life(created=1_700_000_000, idle_ttl=10)
    now[0] += 100_000
    later = Lives(lambda: now[0])
    later.use(MergeableStore().set_mergeable_content(json.loads(json.dumps(store.get_mergeable_content()))))
    assert later.get("p") == Life(created=1_700_000_000, idle_ttl=10, idle_since=1_700_000_100)
    assert later.take_due() == []
    now[0] += 10_000
    assert later.take_due() == ["p"]


async def test_in_an_asgi_app(tmp_path: Path) -> None:
    """Paths are refused there likewise; deadlines are looked after though nobody comes."""
    options: Any = {"create": "server", "on_ignored_error": quiet}
    async with create_ws_server("127.0.0.1", 0, sqlite_persisters(tmp_path / "x.db"), **options) as before:
        await before.create_path("p", content=GAME)
        await before.create_path("short", content=GAME, ttl_seconds=0.1)
    server = WsServer(sqlite_persisters(tmp_path / "x.db"), **options)
    async with uvicorn_port(asgi_app(server, "/sync")) as port:
        await eventually(lambda: server._life._ready and not server._life._lives.is_alive("short"))
        with pytest.raises(InvalidStatus) as raised:
            async with raw(f"ws://127.0.0.1:{port}/sync/unknown"):
                pass
        assert raised.value.response.status_code == 404
        store = MergeableStore()
        async with synced(store, f"ws://127.0.0.1:{port}/sync/p", on_ignored_error=quiet) as client:
            assert store.get_content() == GAME
            await server.remove_path("p")
            await eventually(lambda: client.error is not None)
            assert isinstance(client.error, RefusedConnectionError)
            assert client.error.status == 410
