"""Whatever of an application raises, wherever it is called: other paths notice nothing, and it is reported once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mergesync import ClientInfo, LoadError, MergeableStore, SaveError, create_ws_server
from mergesync.net.listening import ListeningWsServer
from tests.support import eventually, same_content
from tests.unit.net.kit import Backend, Persister, closed_with, raw, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")

Errors = list[Exception]
QUIET: dict[str, Any] = {"on_ignored_error": lambda _: None}


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_LOAD_FIRST_SECONDS", "SAVE_RETRY_FIRST_SECONDS", "SAVE_RETRY_CAP_SECONDS"):
        monkeypatch.setattr(f"mergesync.net.path.{name}", 0.05)


class Trouble(Exception):
    """What the application raises."""


class Application(Backend):
    """An application that raises at one of its sites on the path `bad`, and nowhere else.

    Attributes:
        site: where; empty for nowhere.
        raised: what it raised.
    """

    def __init__(self, site: str) -> None:
        super().__init__()
        self.site = site
        self.raised: Errors = []

    def maybe_raise(self, site: str, path_id: str) -> None:
        """Raise if this is the site."""
        if site == self.site and path_id == "bad":
            self.raised.append(Trouble(site))
            raise self.raised[-1]

    async def create_later(self, path_id: str) -> Any:
        """The factory of persisters, for the sites that are coroutines."""
        await asyncio.sleep(0)
        self.maybe_raise("awaited factory", path_id)
        persister = _Persister(self, path_id)

        async def then(store: MergeableStore) -> None:
            await asyncio.sleep(0)
            self.maybe_raise("awaited then", path_id)

        return persister, then

    def create(self, path_id: str) -> Any:
        """The factory of persisters."""
        self.maybe_raise("factory", path_id)
        if self.site.startswith("awaited"):
            return self.create_later(path_id)
        return _Persister(self, path_id), lambda store: self.then(store, path_id)

    def then(self, store: MergeableStore, path_id: str) -> None:
        """Called once the store is loaded."""
        self.maybe_raise("then", path_id)
        for site, add in {**LOOKING, **MAY_WRITE}.items():
            add(store, lambda *_, site=site: self.maybe_raise(site, path_id))

    def on_connection(self, info: ClientInfo) -> None:
        """Called for each socket."""
        self.maybe_raise("on_connection", info.path_id)


class _Persister(Persister):
    backend: Application

    async def start_auto_load(self) -> None:
        self.backend.maybe_raise("load", self.path_id)
        await super().start_auto_load()

    async def start_auto_save(self) -> None:
        self.backend.maybe_raise("start of saving", self.path_id)
        await super().start_auto_save()

    async def flush(self) -> None:
        self.backend.maybe_raise("flush", self.path_id)
        await super().flush()

    async def destroy(self) -> None:
        await super().destroy()
        self.backend.maybe_raise("destroy", self.path_id)


AddListener = Callable[[MergeableStore, Callable[..., None]], Any]
LOOKING: dict[str, AddListener] = {
    "did-finish listener": lambda store, listener: store.add_did_finish_transaction_listener(listener),
    "cell listener": lambda store, listener: store.add_cell_listener(None, None, None, listener),
    "tables listener": lambda store, listener: store.add_tables_listener(listener),
    "value listener": lambda store, listener: store.add_value_listener(None, listener),
}
MAY_WRITE: dict[str, AddListener] = {
    "will-finish listener": lambda store, listener: store.add_will_finish_transaction_listener(listener),
    "mutating cell listener": lambda store, listener: store.add_cell_listener(None, None, None, listener, mutator=True),
}
SETTING_UP = ["factory", "awaited factory", "load", "then", "awaited then", "start of saving"]
TIDYING_UP = ["flush", "destroy"]


@asynccontextmanager
async def good_clients(server: ListeningWsServer, errors: Errors) -> AsyncIterator[Callable[[], Any]]:
    """Two clients of another path, who must not notice anything; what is given checks that they still sync."""
    one, two = MergeableStore(), MergeableStore()
    number = 0

    async def still_sync() -> None:
        nonlocal number
        number += 1
        one.set_value("number", number)
        await eventually(lambda: two.get_value("number") == number)

    heard: Errors = []
    async with (
        synced(one, url_of(server, "good"), on_ignored_error=heard.append) as first,
        synced(two, url_of(server, "good"), on_ignored_error=heard.append) as second,
    ):
        await still_sync()
        yield still_sync
        await still_sync()
        assert first.status == second.status == "live"
        assert first.client.connections == second.client.connections == 1
    assert heard == []


def told_with(error: Exception) -> str:
    """Where an error says that it happened."""
    return f"{error} {getattr(error, 'path_id', '')} {' '.join(getattr(error, '__notes__', []))}"


@pytest.mark.parametrize("site", SETTING_UP)
async def test_setting_up(site: str, errors: Errors) -> None:
    """The client is told when to come again; once the trouble is over, the path recovers by itself."""
    application = Application(site)
    async with (
        create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=errors.append) as server,
        good_clients(server, errors) as still_sync,
    ):
        async with raw(url_of(server, "bad")) as socket:
            assert await closed_with(socket) == (1013, "mergesync:load retry-after=0.050")
        await still_sync()
        store = MergeableStore().set_value("v", 1)
        async with synced(store, url_of(server, "bad"), wait=False, **QUIET) as synchronizer:
            await eventually(lambda: len(application.raised) >= 2)
            assert "bad" not in application.stored
            application.site = ""
            await eventually(lambda: synchronizer.status == "live")
        await eventually(lambda: application.values("bad") == {"v": 1})
        await eventually(lambda: not application.open["bad"])
    assert [error.__cause__ for error in errors] == application.raised
    assert all(isinstance(error, LoadError) and error.path_id == "bad" for error in errors)


@pytest.mark.parametrize("site", TIDYING_UP)
async def test_tidying_up(site: str, errors: Errors) -> None:
    """What clients have written is not lost, and the path can be opened again."""
    application = Application(site)
    async with (
        create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=errors.append) as server,
        good_clients(server, errors) as still_sync,
    ):
        async with synced(MergeableStore().set_value("v", 1), url_of(server, "bad")):
            pass
        await eventually(lambda: application.raised)
        await still_sync()
        late = MergeableStore()
        async with synced(late, url_of(server, "bad")):
            await eventually(lambda: late.get_value("v") == 1)
            application.site = ""
        await eventually(lambda: application.values("bad") == {"v": 1} and not application.open["bad"])
    assert [error.__cause__ for error in errors] == application.raised
    assert all(isinstance(error, SaveError) and error.path_id == "bad" for error in errors)


async def test_on_connection(errors: Errors) -> None:
    """That socket is closed with 1011, which is reported with path and client; it never was on the path."""
    application = Application("on_connection")
    options: Any = {"on_connection": application.on_connection, "on_ignored_error": errors.append}
    async with (
        create_ws_server("127.0.0.1", 0, application.create, **options) as server,
        good_clients(server, errors) as still_sync,
    ):
        for _ in range(3):
            async with raw(url_of(server, "bad")) as socket:
                assert await closed_with(socket) == (1011, "")
            await still_sync()
        assert server.get_path_ids() == ["good"]
        application.site = ""
        async with synced(MergeableStore().set_value("v", 1), url_of(server, "bad")):
            pass
        await eventually(lambda: application.values("bad") == {"v": 1})
    assert errors == application.raised
    assert all("path 'bad', client " in told_with(error) for error in errors)


@pytest.mark.parametrize("kind", ["path ids listener", "client ids listener"])
async def test_listeners_of_the_server(kind: str, errors: Errors) -> None:
    """Those who come and go are served all the same; each call that fails is reported."""
    application = Application(kind)
    async with create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=errors.append) as server:

        def listener(_: object, path_id: str, *__: object) -> None:
            application.maybe_raise(kind, path_id)

        if kind == "path ids listener":
            server.add_path_ids_listener(listener)
        else:
            server.add_client_ids_listener(None, listener)
        async with good_clients(server, errors) as still_sync:
            one, two = MergeableStore().set_value("v", 1), MergeableStore()
            async with synced(one, url_of(server, "bad")), synced(two, url_of(server, "bad")):
                await eventually(lambda: same_content(one, two))
                await still_sync()
    assert errors == application.raised
    assert len(errors) == (2 if kind == "path ids listener" else 4)
    assert all("path 'bad'" in told_with(error) for error in errors)


@pytest.mark.parametrize("site", LOOKING)
async def test_listeners_of_the_store(site: str, errors: Errors) -> None:
    """What a client wrote is taken, passed on and stored, though a listener of the server's store fails on it."""
    application = Application(site)
    async with (
        create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=errors.append) as server,
        good_clients(server, errors) as still_sync,
    ):
        one, two = MergeableStore(), MergeableStore()
        async with synced(one, url_of(server, "bad")), synced(two, url_of(server, "bad")):
            for number in range(3):
                one.set_cell("t", f"r{number}", "c", number).set_value("v", number)
                await eventually(lambda: same_content(one, two))
            await still_sync()
        await eventually(lambda: application.values("bad") == {"v": 2})
    assert application.raised
    assert errors == application.raised
    assert all("path 'bad'" in told_with(error) for error in errors)


@pytest.mark.parametrize("site", MAY_WRITE)
async def test_listeners_of_the_store_that_may_write(site: str, errors: Errors) -> None:
    """If one that runs inside the transaction fails, the change is taken back at the server, and stays at its writer.

    Each time is reported, and the two are equal again with the first exchange after the trouble.
    """
    application = Application(site)
    async with (
        create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=errors.append) as server,
        good_clients(server, errors) as still_sync,
    ):
        one, two = MergeableStore(), MergeableStore()
        async with synced(two, url_of(server, "bad")):
            async with synced(one, url_of(server, "bad")):
                one.set_cell("t", "r", "c", 1)
                await eventually(lambda: application.raised)
                await still_sync()
                assert not two.has_tables()
            application.site = ""
            async with synced(one, url_of(server, "bad")):
                await eventually(lambda: same_content(one, two))
    assert errors == application.raised
    assert all("path 'bad'" in told_with(error) for error in errors)


@pytest.mark.parametrize("site", ["factory", "flush", "then", "cell listener"])
async def test_on_ignored_error(site: str, caplog: pytest.LogCaptureFixture) -> None:
    """If even the callback that is told of errors raises, that is logged, and everything goes on."""
    caplog.set_level(logging.ERROR, "mergesync")
    application = Application(site)
    told: Errors = []

    def on_ignored_error(error: Exception) -> None:
        told.append(error)
        raise Trouble("on_ignored_error")

    async with (
        create_ws_server("127.0.0.1", 0, application.create, on_ignored_error=on_ignored_error) as server,
        good_clients(server, told) as still_sync,
    ):
        store = MergeableStore().set_cell("t", "r", "c", 1)
        async with synced(store, url_of(server, "bad"), wait=False, **QUIET) as synchronizer:
            await eventually(lambda: application.raised or synchronizer.status == "live")
        await eventually(lambda: application.raised)
        await still_sync()
        application.site = ""
        async with synced(store, url_of(server, "bad"), wait=False, **QUIET) as synchronizer:
            await eventually(lambda: synchronizer.status == "live")
        await eventually(lambda: "bad" in application.stored and not application.open["bad"])
    assert told
    assert len(caplog.records) == len(told)
