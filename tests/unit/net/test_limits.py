"""What a server lets its clients use: each limit where it is reached, and one beyond it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mergesync import (
    ClientInfo,
    Identity,
    LimitExceededError,
    Limits,
    MergeableStore,
    QuotaExceededError,
    RefusedConnectionError,
    RefusedError,
    WsServer,
    create_ws_server,
)
from mergesync.net.door import counted_address
from mergesync.net.pace import Pace
from tests.support import eventually, within
from tests.unit.net.kit import Backend, asgi_app, closed_with, mux, raw, subscribed, synced, url_of, uvicorn_port
from tests.unit.net.test_mounts import EVERY_SERVER

# ruff: noqa: SIM117 - what is inside the server stands inside it

pytestmark = pytest.mark.usefixtures("leftovers")

ASK, ANSWER = 'S\n["r",1,""]', 'S\n["r",0,[0,0]]'


@pytest.mark.parametrize("name", ["connections", "outbox_bytes", "messages_per_second", "heartbeat_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_no_limits(name: str, value: float) -> None:
    """A limit of nothing, or less, is a mistake; None is for no limit."""
    options: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        Limits(**options)


@pytest.mark.parametrize("name", ["outbox_bytes", "total_outbox_bytes", "burst_seconds"])
def test_limits_that_must_be(name: str) -> None:
    """Without them nothing would be bounded, or nothing let through."""
    options: dict[str, Any] = {name: None}
    with pytest.raises(ValueError, match=name):
        Limits(**options)


# --- connections


@pytest.mark.parametrize(
    ("remote_address", "counted"),
    [
        (("9.9.9.9", 1), "9.9.9.9"),
        (("2620:fe::9", 1, 0, 0), "2620:fe::/64"),
        (("2620:fe:0:0:ffff::1", 1, 0, 0), "2620:fe::/64"),
        (("2620:fe:0:1::9", 1, 0, 0), "2620:fe:0:1::/64"),
        (("::ffff:9.9.9.9", 1, 0, 0), "9.9.9.9"),
        (("::ffff:10.0.0.1", 1, 0, 0), None),
        (("10.0.0.1", 1), None),
        (("172.17.0.1", 1), None),
        (("192.168.1.1", 1), None),
        (("127.0.0.1", 1), None),
        (("::1", 1, 0, 0), None),
        (("fe80::1%eth0", 1, 0, 2), None),
        (("testclient", 50000), None),
        ("", None),
        (None, None),
    ],
)
def test_counted_address(remote_address: Any, counted: str | None) -> None:
    """Machines on the internet are told apart; what may be a proxy is not counted."""
    assert counted_address(remote_address) == counted


async def _check_connections(url: str, server: WsServer, errors: list[Exception]) -> None:
    """Two get in, and the third when one has left."""
    async with raw(url) as first:
        async with raw(url):
            with pytest.raises(InvalidStatus) as refused:
                async with raw(url):
                    pass
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "10"
            (error,) = errors
            assert isinstance(error, RefusedConnectionError)
            assert (error.status, error.retry_after_seconds) == (429, 10.0)
        await eventually(lambda: server.get_stats().connections == 1)
        async with raw(url) as third:
            await third.send(ASK)
            assert await within(third.recv()) == ANSWER
        await first.send(ASK)
        assert await within(first.recv()) == ANSWER


async def test_connections(errors: list[Exception]) -> None:
    """On a port of its own."""
    limits = Limits(connections=2)
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        await _check_connections(url_of(server), server, errors)


@EVERY_SERVER
async def test_connections_in_asgi(ws: str, errors: list[Exception]) -> None:
    """The same status in each ASGI server."""
    ws_server = WsServer(limits=Limits(connections=2), on_ignored_error=errors.append)
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        await _check_connections(f"ws://127.0.0.1:{port}/sync/p", ws_server, errors)


async def test_connections_of_an_address(errors: list[Exception]) -> None:
    """They are counted by address while they are open; other addresses do not matter."""
    async with WsServer(limits=Limits(connections_per_address=2), on_ignored_error=errors.append) as ws_server:

        async def connect(host: str) -> asyncio.Queue[dict[str, Any]] | None:
            incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            sent: list[str] = []

            async def send(message: Any) -> None:
                sent.append(message["type"])

            incoming.put_nowait({"type": "websocket.connect"})
            scope = {"type": "websocket", "path": "/p", "client": (host, 50000)}
            tasks.append(asyncio.create_task(ws_server.asgi(scope, incoming.get, send)))
            await eventually(lambda: sent)
            return incoming if sent == ["websocket.accept"] else None

        tasks: list[asyncio.Task[None]] = []
        first = await connect("9.9.9.9")
        assert first is not None
        assert await connect("9.9.9.9") is not None
        assert await connect("9.9.9.9") is None
        assert await connect("9.9.9.10") is not None
        for _ in range(3):
            assert await connect("127.0.0.1") is not None
        first.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await eventually(tasks[0].done)
        assert await connect("9.9.9.9") is not None
        assert await connect("9.9.9.9") is None
        assert [str(error) for error in errors] == ["more than 2 sockets of 9.9.9.9"] * 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert not ws_server._door._by_address


# --- paths


async def test_paths(errors: list[Exception]) -> None:
    """Two may be open; who comes onto a third is closed with 4429 and a time, and nothing is made for it."""
    backend, made = Backend(), []

    def create(path_id: str) -> Any:
        made.append(path_id)
        return backend(path_id)

    limits = Limits(paths=2)
    async with create_ws_server("127.0.0.1", 0, create, limits=limits, on_ignored_error=errors.append) as server:
        async with raw(url_of(server, "a")), raw(url_of(server, "b")) as b:
            await eventually(lambda: server.get_path_ids() == ["a", "b"])
            async with raw(url_of(server, "c")) as third:
                assert await closed_with(third) == (4429, "mergesync:paths retry-after=10.000")
            async with raw(url_of(server, "b")) as another:
                await another.send(ASK)
                assert await within(another.recv()) == ANSWER
            await b.close()
            await eventually(lambda: server.get_path_ids() == ["a"] and not backend.open["b"])
            async with raw(url_of(server, "c")) as third:
                await third.send(ASK)
                assert await within(third.recv()) == ANSWER
    assert made == ["a", "b", "c"]
    (error,) = errors
    assert isinstance(error, QuotaExceededError)
    assert (error.limit, error.path_id, bool(error.client_id)) == ("paths", "c", True)


async def test_paths_that_are_being_stored(errors: list[Exception]) -> None:
    """They count until their storage is let go of, but who comes back to one is let in."""
    backend = Backend()
    limits = Limits(paths=1)
    async with create_ws_server("127.0.0.1", 0, backend, limits=limits, on_ignored_error=errors.append) as server:
        backend.destroy_gate.clear()
        async with raw(url_of(server, "a")) as first:
            await first.send(ASK)
            await within(first.recv())
        await eventually(lambda: server._switchboard._ending)
        async with raw(url_of(server, "b")) as other:
            assert (await closed_with(other))[0] == 4429
        async with raw(url_of(server, "a")) as again:
            await again.send(ASK)
            backend.destroy_gate.set()
            assert await within(again.recv()) == ANSWER


async def test_paths_of_channels(errors: list[Exception]) -> None:
    """A channel is a path; TinyBase has no word for a refused one, so the socket is closed, and leaves its others."""
    limits = Limits(paths=2)
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with mux(url_of(server, "")) as channels:
            await subscribed(channels, "a")
            await subscribed(channels, "b")
            await channels.send('S\n["sub",-1,[1,"c"]]')
            assert await closed_with(channels) == (4429, "mergesync:paths retry-after=10.000")
        await eventually(lambda: server.get_path_ids() == [])


async def test_clients_come_again_when_they_are_told(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """Whether it was the socket or the path that was one too many."""
    monkeypatch.setattr("mergesync.net.switchboard.QUOTA_RETRY_SECONDS", 0.05)
    store = MergeableStore().set_value("v", 1)
    limits = Limits(paths=1)
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with AsyncExitStack() as stack:
            occupied = await stack.enter_async_context(raw(url_of(server, "a")))
            await eventually(lambda: server.get_path_ids() == ["a"])
            options: dict[str, Any] = {"wait": False, "on_ignored_error": errors.append}
            synchronizer = await stack.enter_async_context(synced(store, url_of(server, "b"), **options))
            await eventually(lambda: any(isinstance(error, QuotaExceededError) for error in errors))
            await occupied.close()
            await eventually(lambda: synchronizer.status == "live")
            assert server.get_path_ids() == ["b"]


# --- pace


def test_pace() -> None:
    """A quiet client may burst; then it gets so much a second; a debt is waited for; None is no limit."""
    pace = Pace(10.0, 2.0, now=0.0)
    assert [pace.wait_seconds(1, 0.0) for _ in range(20)] == [0.0] * 20
    assert pace.wait_seconds(1, 0.0) == pytest.approx(0.1)
    assert pace.wait_seconds(0, 0.1) == pytest.approx(0.0)
    assert pace.wait_seconds(100, 0.1) == pytest.approx(10.0)
    assert pace.wait_seconds(20, 1000.0) == 0.0  # no more than the burst has gathered
    assert pace.wait_seconds(1, 1000.0) == pytest.approx(0.1)
    assert Pace(None, 2.0, now=0.0).wait_seconds(1e9, 0.0) == 0.0


@pytest.mark.parametrize(
    ("limits", "frame"),
    [
        (Limits(messages_per_second=100.0, burst_seconds=0.1), ASK),
        (Limits(bytes_per_second=100_000.0, burst_seconds=0.1), 'S\n["' + "r" * 990 + '",1,""]'),
    ],
)
async def test_who_sends_too_much_is_read_more_slowly(limits: Limits, frame: str, errors: list[Exception]) -> None:
    """It gets all its answers and is not closed, no sooner than it may; others are served meanwhile."""
    loop = asyncio.get_running_loop()
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as flooding, raw(url_of(server)) as other:
            began = loop.time()
            for _ in range(60):
                await flooding.send(frame)
            await other.send(ASK)
            assert await within(other.recv()) == ANSWER
            assert server.get_stats().receives < 60
            for _ in range(60):
                await within(flooding.recv())
            assert loop.time() - began >= 0.45
    assert errors == []


async def test_what_is_not_read_stays_with_the_sender(errors: list[Exception]) -> None:
    """A server that is not yet through with a frame takes no more than a few of the next into its memory."""
    limits, size = Limits(messages_per_second=0.001, burst_seconds=1.0), 1_000_000
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as flooding:
            await flooding.send(ASK)
            assert await within(flooding.recv()) == ANSWER
            masked = b"\x81\xff" + size.to_bytes(8, "big") + bytes(4) + b"x" * size
            for _ in range(50):
                flooding.transport.write(masked)
            for _ in range(10):
                async with raw(url_of(server, "other")) as other:
                    await other.send(ASK)
                    assert await within(other.recv()) == ANSWER
            assert flooding.transport.get_write_buffer_size() > 25 * size  # up to 20 MB may be in the kernel
            flooding.transport.abort()
    assert errors == []


async def test_closing_who_is_read_slowly(errors: list[Exception]) -> None:
    """A fault ends it at once, and so does the end of the server, however long it would have to wait."""
    limits = Limits(messages_per_second=0.001, burst_seconds=1.0)
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as bad, raw(url_of(server)) as good:
            await bad.send("bad")
            assert await closed_with(bad) == (1007, "tinybase:14")
            await good.send(ASK)
            assert await within(good.recv()) == ANSWER
            await within(server.destroy())
            assert (await closed_with(good))[0] == 1001
    assert [type(error).__name__ for error in errors] == ["RemoteProtocolError"]


# --- time


async def test_heartbeat(errors: list[Exception]) -> None:
    """Who does not answer pings is cut off; who does stays."""
    limits = Limits(heartbeat_seconds=0.2)
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as alive, raw(url_of(server)) as dead:
            dead.transport.pause_reading()
            await eventually(lambda: server.get_stats().connections == 1)
            dead.transport.abort()
            await alive.send(ASK)
            assert await within(alive.recv()) == ANSWER


@pytest.mark.parametrize("said", [b"", b"GET /p HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_handshake_that_takes_too_long(said: bytes) -> None:
    """Who does not say what it wants is cut off."""
    async with create_ws_server("127.0.0.1", 0, limits=Limits(handshake_seconds=0.2)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        await within(reader.read())
        writer.close()


async def test_quota_error_is_a_limit_error() -> None:
    """Who handles limits handles quotas."""
    error = QuotaExceededError("x", limit="paths", retry_after_seconds=1.5)
    assert isinstance(error, LimitExceededError)
    assert (error.close_code, error.close_reason) == (4429, "mergesync:paths retry-after=1.500")


async def test_a_flood_of_refusals(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """The first are reported one by one, and of the others how many there were: after a while, and in the end."""
    monkeypatch.setattr("mergesync.net.refusals.REFUSALS_REPORTED", 2)
    monkeypatch.setattr("mergesync.net.refusals.REFUSALS_SECONDS", 0.5)

    def said() -> list[str]:
        return [str(error.args[0]) for error in errors if isinstance(error, RefusedConnectionError)]

    def authorize(info: ClientInfo) -> Identity:
        raise RefusedError("no", status=401 if info.token is None else 403)

    async def flood(times: int, query: str = "") -> None:
        for _ in range(times):
            with pytest.raises(InvalidStatus):
                async with raw(url_of(server, f"p{query}")):
                    pass

    server = await create_ws_server("127.0.0.1", 0, authorize=authorize, on_ignored_error=errors.append)
    async with server:
        await flood(1, "?token=x")
        await flood(1)
        assert said() == ["no", "no"]
        await eventually(lambda: server._refusals._timer is None)
        await flood(5)
        await eventually(lambda: server._refusals._timer is None)
        more = [int(text.split()[0]) for text in said() if "more were refused" in text]
        assert said().count("no") - 2 + sum(more) == 5
        monkeypatch.setattr("mergesync.net.refusals.REFUSALS_SECONDS", 60)
        errors.clear()
        await flood(4)
        assert said() == ["no", "no"]
    assert said() == ["no", "no", "2 more were refused in 60 s"]


# --- silence


async def test_who_says_nothing(errors: list[Exception]) -> None:
    """It is put out though it answers pings; who says something now and then stays; nobody is to blame."""
    left: list[tuple[str, str]] = []
    async with create_ws_server(
        "127.0.0.1",
        0,
        limits=Limits(idle_seconds=2.0, heartbeat_seconds=0.5),
        on_leave=lambda path, client, reason: left.append((path.id, reason)),
        on_ignored_error=errors.append,
    ) as server:
        async with raw(url_of(server, "silent")) as silent, raw(url_of(server, "busy")) as busy:
            while not left:
                await busy.send(ASK)
                assert await within(busy.recv()) == ANSWER
                await asyncio.sleep(0.1)
            assert await closed_with(silent) == (4408, "mergesync:idle")
            assert (left, server.get_path_ids()) == ([("silent", "idle")], ["busy"])
    assert errors == []


async def test_who_is_put_out_for_its_silence_comes_again(errors: list[Exception]) -> None:
    """A synchronizer hears why, and comes back by itself."""
    limits, reported = Limits(idle_seconds=0.2), list[Exception]()
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with synced(MergeableStore(), url_of(server), on_ignored_error=reported.append) as synchronizer:
            await eventually(lambda: synchronizer.status == "offline")
            assert "4408" in str(reported[0])
    assert errors == []
