"""Links that break: servers that go and come back, connections that are cut, stall or are refused."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mergesync import ConnectionLostError, MergeableStore, WsClient, create_ws_server
from mergesync.net.listening import ListeningWsServer
from tests.support import eventually, same_content, within
from tests.unit.net.kit import Proxy, pet, raw, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")

Errors = list[Exception]

IMPATIENT = {"ping_interval": 0.1, "ping_timeout": 0.2, "close_timeout": 0.2}
QUIET: dict[str, Any] = {"on_ignored_error": lambda _: None}


@pytest.fixture(autouse=True)
def _quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergesync.net.link.RECONNECT_FIRST_SECONDS", 0.02)
    monkeypatch.setattr("mergesync.net.link.RECONNECT_CAP_SECONDS", 0.1)


@pytest.fixture
async def server() -> AsyncIterator[ListeningWsServer]:
    """A server."""
    async with create_ws_server("127.0.0.1", 0, **QUIET) as listening:
        yield listening


async def test_server_goes_and_comes_back(errors: Errors) -> None:
    """Edits made on both sides meanwhile meet; the loss is reported, and it is tried until it works."""
    one, two = pet("fido"), pet("felix")
    server = await create_ws_server("127.0.0.1", 0)
    port = server.port
    async with (
        synced(one, url_of(server), on_ignored_error=errors.append) as first,
        synced(two, url_of(server), **QUIET),
    ):
        for number in range(3):
            await server.destroy(1012, "restart")
            await eventually(lambda: first.status == "offline")
            one.set_value("one", number)
            two.set_value("two", number)
            one.del_row("pets", "felix")
            await eventually(lambda: "cannot connect" in str(errors[-1]))
            assert first.status in ("offline", "connecting")
            server = await create_ws_server("127.0.0.1", port)
            await eventually(lambda: one.get_values() == {"one": number, "two": number})  # noqa: B023
            await eventually(lambda: same_content(one, two) and first.status == "live")
        assert first.client.connections == 4
    await server.destroy()
    assert all(isinstance(error, ConnectionLostError) for error in errors)
    assert "1012 restart" in str(errors[0])
    assert "cannot connect" in str(errors[1])


async def test_server_process_is_killed(tmp_path: Path) -> None:
    """Killed without warning and started again on its files, it has all that the clients have, and they all it has."""
    script = (
        "import asyncio, sys\n"
        "from mergesync import create_ws_server\n"
        "from mergesync.persist import json_file_persisters\n"
        "async def main():\n"
        "    persisters = json_file_persisters(sys.argv[1])\n"
        "    async with create_ws_server('127.0.0.1', int(sys.argv[2]), persisters) as server:\n"
        "        print(server.port, flush=True)\n"
        "        await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )

    async def start(port: int) -> tuple[asyncio.subprocess.Process, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(tmp_path), str(port), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        return process, int(await within(process.stdout.readline()))

    async def kill(process: asyncio.subprocess.Process) -> None:
        process.send_signal(signal.SIGKILL)
        await process.communicate()

    one, two, late = MergeableStore(), MergeableStore(), MergeableStore()
    process, port = await start(0)
    url = f"ws://127.0.0.1:{port}/p"
    async with synced(one, url, **QUIET) as first, synced(two, url, **QUIET):
        for number in range(3):
            one.set_value(f"before{number}", number)
            await kill(process)
            await eventually(lambda: first.status in ("offline", "connecting"))
            two.set_value(f"while{number}", number)
            process, _ = await start(port)
            await eventually(lambda: first.status == "live" and same_content(one, two))
            one.set_value(f"after{number}", number)
        await eventually(lambda: len(two.get_values()) == 9)
    async with synced(late, url, **QUIET):
        await eventually(lambda: same_content(one, late))
    await kill(process)


async def test_connections_are_cut(server: ListeningWsServer) -> None:
    """Again and again, at any moment, under writes from both sides: everything arrives."""
    one, two = MergeableStore(), MergeableStore()
    chance = random.Random(1)
    async with (
        Proxy(lambda: server.port) as proxy,
        synced(one, proxy.url, **QUIET) as first,
        synced(two, proxy.url, **QUIET) as second,
    ):
        for number in range(40):
            one.set_cell("t", f"one{number}", "c", number)
            two.set_cell("t", f"two{number}", "c", number)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.05)
            proxy.cut()
            if chance.random() < 0.3:
                one.set_value("x", "y" * 300_000)
                await asyncio.sleep(chance.random() * 0.02)
                proxy.cut()
        await eventually(lambda: same_content(one, two) and first.status == second.status == "live")
        assert one.get_table("t") == {f"{by}{number}": {"c": number} for by in ("one", "two") for number in range(40)}


@pytest.mark.parametrize("unsent", ["", "x" * 8_000_000], ids=["little", "much"])
async def test_half_open_link_is_noticed(server: ListeningWsServer, unsent: str, errors: Errors) -> None:
    """A link on which nothing moves any more is given up when a ping is missed, however much waits to be sent."""
    one, two = MergeableStore(), MergeableStore()
    async with Proxy(lambda: server.port) as proxy:
        options: Any = {"connect_options": IMPATIENT, "on_ignored_error": errors.append}
        async with synced(one, proxy.url, **options) as first, synced(two, url_of(server)):
            proxy.stalled = True
            one.set_value("one", 1).set_value("unsent", unsent)
            two.set_value("two", 2)
            await eventually(lambda: first.status != "live")
            assert not one.has_value("two")
            assert not two.has_value("one")
            proxy.cut()
            proxy.stalled = False
            await eventually(lambda: first.status == "live" and same_content(one, two))
            assert one.get_values() == {"one": 1, "unsent": unsent, "two": 2}
    assert any("ping" in str(error) for error in errors)


async def test_half_open_client_is_noticed() -> None:
    """The server lets go of clients that are silently gone, however much waits for them."""
    options: Any = {"serve_options": IMPATIENT, **QUIET}
    store = MergeableStore()
    async with (
        create_ws_server("127.0.0.1", 0, **options) as server,
        Proxy(lambda: server.port) as proxy,
        raw(proxy.url, ping_interval=None) as quiet,
        raw(url_of(server), ping_interval=None) as stalled,
    ):
        await eventually(lambda: len(server.get_client_ids("p")) == 2)
        proxy.stalled = True
        stalled.transport.pause_reading()
        async with synced(store, url_of(server)):
            store.set_value("v", "x" * 8_000_000)
            await eventually(lambda: len(server.get_client_ids("p")) == 1)
        for socket in (quiet, stalled):
            socket.transport.abort()


async def test_destroying_over_a_dead_link(server: ListeningWsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, without waiting for pings."""
    monkeypatch.setattr("mergesync.net.channel.CLOSE_TIMEOUT_SECONDS", 0.2)
    async with Proxy(lambda: server.port) as proxy:
        async with synced(MergeableStore(), proxy.url, request_timeout_seconds=0.2, **QUIET) as synchronizer:
            proxy.stalled = True
            await within(synchronizer.destroy(), 5)
        proxy.stalled = False


async def test_it_never_gives_up(server: ListeningWsServer) -> None:
    """However often it is refused, in whatever way."""
    store = MergeableStore()
    async with Proxy(lambda: server.port) as proxy:
        proxy.refusing = True
        async with synced(store, proxy.url, wait=False, **QUIET) as synchronizer:
            await eventually(lambda: proxy.accepted > 60)
            assert synchronizer.client.connections == 0
            proxy.refusing = False
            await eventually(lambda: synchronizer.status == "live")


async def test_channels_come_back(server: ListeningWsServer) -> None:
    """All channels of a socket are subscribed and synced again, those added while it was away, too."""
    stores = [MergeableStore() for _ in range(3)]
    others = [MergeableStore() for _ in range(3)]
    async with Proxy(lambda: server.port) as proxy, _plain_clients(server, others):
        client = WsClient(f"ws://127.0.0.1:{proxy.port}", multiplexed=True, **QUIET)
        target: Any = client
        async with synced(stores[0], target, "c0", **QUIET), synced(stores[1], target, "c1", **QUIET) as second:
            proxy.refusing = True
            proxy.cut()
            await eventually(lambda: not client.connected)
            for number, store in enumerate(stores):
                store.set_value("here", number)
            for number, store in enumerate(others):
                store.set_value("there", number)
            async with synced(stores[2], target, "c2", wait=False, **QUIET):
                assert second.status in ("offline", "connecting")
                proxy.refusing = False
                for store, other in zip(stores, others, strict=True):
                    await eventually(lambda: same_content(store, other) and len(store.get_values()) == 2)  # noqa: B023


@asynccontextmanager
async def _plain_clients(server: ListeningWsServer, stores: list[MergeableStore]) -> AsyncIterator[None]:
    async with (
        synced(stores[0], url_of(server, "c0")),
        synced(stores[1], url_of(server, "c1")),
        synced(stores[2], url_of(server, "c2")),
    ):
        yield


async def test_retry_after_over_http(server: ListeningWsServer) -> None:
    """A server that refuses the handshake may say when to come again, too."""
    attempts: list[float] = []

    def refuse(connection: Any, request: Any) -> Any:
        attempts.append(asyncio.get_running_loop().time())
        response = connection.respond(503, "later")
        response.headers["Retry-After"] = "1"
        return response

    async with (
        create_ws_server("127.0.0.1", 0, serve_options={"process_request": refuse}) as refusing,
        synced(MergeableStore(), url_of(refusing), wait=False, **QUIET),
    ):
        await eventually(lambda: len(attempts) == 2)
    assert attempts[1] - attempts[0] >= 1


LEGAL = {
    "offline": {"connecting", "destroyed"},
    "connecting": {"offline", "connected", "syncing", "destroyed"},
    "connected": {"syncing", "offline", "destroyed"},
    "syncing": {"live", "connected", "offline", "destroyed"},
    "live": {"syncing", "connected", "offline", "destroyed"},
    "destroyed": set(),
}


@pytest.mark.parametrize("seed", range(4))
async def test_status_is_true_at_all_times(server: ListeningWsServer, seed: int) -> None:
    """Through a random walk of cuts, refusals, stops and writes: an independent observer never catches it lying.

    The observer asks the proxy and the server. Who says it is connected has a connection and is on the server's list;
    who says it is live gets what others write, without another change of status.
    """
    chance = random.Random(seed)
    store, other = MergeableStore(), MergeableStore()
    path: list[str] = ["offline"]
    lies: list[str] = []

    def observe(synchronizer: Any, status: Any) -> None:
        if str(status) not in LEGAL[path[-1]]:
            lies.append(f"{path[-1]} -> {status}")
        path.append(str(status))
        if status != synchronizer.status:
            lies.append(f"told {status}, but it is {synchronizer.status}")
        online = status in ("connected", "syncing", "live")
        if online is not synchronizer.client.connected and status not in ("connecting", "destroyed"):
            lies.append(f"{status} with connected={synchronizer.client.connected}")
        if status == "live" and len(server.get_client_ids("p")) < 2:
            lies.append("live, but not on the server's list")

    async with (
        Proxy(lambda: server.port) as proxy,
        synced(other, url_of(server)),
        synced(store, proxy.url, wait=False, **QUIET) as synchronizer,
    ):
        synchronizer.add_status_listener(observe)
        path[-1] = str(synchronizer.status)
        for step in range(30):
            action = chance.choice(["cut", "refuse", "stop", "start", "write", "write"])
            if action == "cut":
                proxy.cut()
            elif action == "refuse":
                proxy.refusing = True
                proxy.cut()
                await eventually(lambda: synchronizer.status in ("offline", "connecting"))
                for _ in range(5):
                    await asyncio.sleep(0.01)
                    assert synchronizer.status in ("offline", "connecting")
                proxy.refusing = False
            elif action == "stop":
                synchronizer.stop_sync()
                assert synchronizer.status in ("offline", "connecting", "connected")
            elif action == "start":
                await within(synchronizer.start_sync())
                assert synchronizer.status in ("syncing", "live")
                seen = len(path)
                other.set_value("probe", step)
                await eventually(lambda: store.get_value("probe") == step or len(path) > seen)  # noqa: B023
            else:
                store.set_value("mine", step)
            await asyncio.sleep(chance.random() * 0.03)
        await within(synchronizer.start_sync())
        await eventually(lambda: synchronizer.status == "live" and same_content(store, other))
    assert lies == []
    assert path[-1] == "destroyed"
