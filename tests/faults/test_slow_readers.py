"""Readers that stop reading: they cost a bounded outbox, are not closed for it, and converge when they read again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from mergesync import MergeableStore, WsClient, WsServer, create_ws_server
from mergesync.limits import MAX_CHANGES_OUTBOX_BYTES, Limits
from mergesync.net.channel import TextChannel
from tests.support import eventually, same_content
from tests.unit.net.kit import asgi_app, raw, synced, uvicorn_port

pytestmark = pytest.mark.usefixtures("leftovers")

BUFFER_BYTES = 16 * 1024
TEXT = "x" * 10_000


@asynccontextmanager
async def narrow_server(errors: list[Exception], **options: Any) -> AsyncIterator[Any]:
    """A server whose sockets buffer little in the kernel, so that its own queues are what fills."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        options.setdefault(
            "limits", Limits(handshake_seconds=60.0)
        )  # a hundred sockets are made before the first speaks
        serve_options = {"sock": listening, "ping_interval": None}
        async with create_ws_server(serve_options=serve_options, on_ignored_error=errors.append, **options) as server:
            yield server


class Stallable:
    """A client's connection that can stop reading, and buffers little in the kernel."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._connection: ClientConnection | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What to connect with; once."""
        return {"sock": self._socket, "create_connection": self._connect, "ping_interval": None}

    def _connect(self, *arguments: Any, **options: Any) -> ClientConnection:
        assert self._connection is None, "it was cut, and connects again"
        self._connection = ClientConnection(*arguments, **options)
        return self._connection

    def stall(self) -> None:
        assert self._connection is not None
        self._connection.transport.pause_reading()

    def go_on(self) -> None:
        assert self._connection is not None
        self._connection.transport.resume_reading()


def outboxes(server: WsServer) -> list[int]:
    """What waits for each client in memory of ours."""
    channels: list[TextChannel] = [socket.channel for socket in server._switchboard._sockets.values()]
    return [channel.queued_bytes for channel in channels]


async def write_until_missed(server: WsServer, store: MergeableStore) -> None:
    """Write until somebody misses changes, and some more."""
    for number in range(20):
        store.set_value("v", f"{number}{TEXT}")
    number = 20
    while not server._switchboard._laggards._missed or number % 20:
        store.set_value("v", f"{number}{TEXT}")
        number += 1
        await asyncio.sleep(0)
        assert number < 10_000


@pytest.mark.slow
async def test_100_stalled_beside_10_live(errors: list[Exception]) -> None:
    """While 10 MB are written memory stays bounded; the live ones get all; none is cut, and all end equal."""
    stalled, live = [MergeableStore() for _ in range(100)], [MergeableStore() for _ in range(10)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(narrow_server(errors))
        url = f"ws://127.0.0.1:{server.port}/p"
        links = [Stallable(server.port) for _ in stalled]
        for store, link in zip(stalled, links, strict=True):
            await stack.enter_async_context(synced(store, url, connect_options=link.options))
        for store in live:
            await stack.enter_async_context(synced(store, url))
        for link in links:
            link.stall()
        for number in range(1000):
            live[number % 10].set_cell("t", str(number % 50), "c", f"{number}{TEXT}")
            if number % 20 == 0:
                await eventually(lambda: live[0].get_cell("t", "0", "c") == live[9].get_cell("t", "0", "c"))
        await eventually(lambda: same_content(*live))
        waiting = outboxes(server)
        assert sum(size > 0 for size in waiting) == len(stalled)
        assert max(waiting) <= MAX_CHANGES_OUTBOX_BYTES
        for link in links:
            link.go_on()
        await eventually(lambda: same_content(*live, *stalled), 60)
        await eventually(lambda: not any(outboxes(server)))
        assert server.get_stats().connections == 110
    assert errors == []


async def test_all_outboxes_together_are_bounded(errors: list[Exception]) -> None:
    """A few that do not read share what there is for all, long before any of them is at its own bound."""
    total = 20 * len(TEXT)
    stalled, live = [MergeableStore() for _ in range(4)], MergeableStore()
    async with AsyncExitStack() as stack:
        limits = Limits(total_outbox_bytes=total, handshake_seconds=60.0)
        server = await stack.enter_async_context(narrow_server(errors, limits=limits))
        url = f"ws://127.0.0.1:{server.port}/p"
        links = [Stallable(server.port) for _ in stalled]
        for store, link in zip(stalled, links, strict=True):
            await stack.enter_async_context(synced(store, url, connect_options=link.options))
        await stack.enter_async_context(synced(live, url))
        for link in links:
            link.stall()
        number = 0
        while len(server._switchboard._laggards._missed) < len(stalled):
            live.set_value("v", f"{number}{TEXT}")
            number += 1
            await asyncio.sleep(0)
            assert number < 10_000
        assert 0 < sum(outboxes(server)) <= total + len(stalled) * 2 * len(TEXT)  # one message may be larger
        for link in links:
            link.go_on()
        await eventually(lambda: same_content(live, *stalled))
    assert errors == []


async def test_what_it_writes_meanwhile_arrives(errors: list[Exception]) -> None:
    """Only what is sent to it waits; in the end both sides have all."""
    stalled, live = MergeableStore(), MergeableStore()
    async with narrow_server(errors) as server:
        url = f"ws://127.0.0.1:{server.port}/p"
        link = Stallable(server.port)
        async with synced(stalled, url, connect_options=link.options), synced(live, url):
            link.stall()
            await write_until_missed(server, live)
            stalled.set_value("w", 1)
            await eventually(lambda: live.get_value("w") == 1)
            assert stalled.get_value("v") != live.get_value("v")
            link.go_on()
            await eventually(lambda: same_content(stalled, live))
    assert errors == []


async def test_channels(errors: list[Exception]) -> None:
    """On each channel of a socket the client is told what it missed there, and nothing of one that it has left."""
    stores = {name: (MergeableStore(), MergeableStore()) for name in "abc"}
    async with narrow_server(errors) as server, AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{server.port}/p"
        link = Stallable(server.port)
        client = WsClient(url, multiplexed=True, connect_options=link.options)
        synchronizers = {}
        for name, (stalled, live) in stores.items():
            synchronizers[name] = await stack.enter_async_context(synced(stalled, client, name))
            await stack.enter_async_context(synced(live, f"{url}/{name}"))
        link.stall()
        for number in range(100):
            for _, live in stores.values():
                live.set_value("v", f"{number}{TEXT}")
            await asyncio.sleep(0)
        leaving = asyncio.create_task(synchronizers["c"].destroy())
        await eventually(lambda: len(server.get_client_ids("p/c")) == 1)
        link.go_on()
        await leaving
        await eventually(lambda: all(same_content(*stores[name]) for name in "ab"))
        assert not same_content(*stores["c"])
    assert errors == []


async def test_fragments_are_left_out_as_a_whole(errors: list[Exception]) -> None:
    """A message of which only some fragments came would never be complete."""
    stalled, live = MergeableStore(), MergeableStore()
    async with narrow_server(errors, fragment_size=1000) as server:
        url = f"ws://127.0.0.1:{server.port}/p"
        link = Stallable(server.port)
        async with synced(stalled, url, connect_options=link.options), synced(live, url, fragment_size=1000):
            link.stall()
            await write_until_missed(server, live)
            link.go_on()
            await eventually(lambda: same_content(stalled, live))
    assert errors == []


async def test_gone_while_it_lags(errors: list[Exception]) -> None:
    """A socket that is cut is forgotten; no timer goes on looking after it."""
    live = MergeableStore()
    async with narrow_server(errors) as server:
        url = f"ws://127.0.0.1:{server.port}/p"
        async with synced(live, url), raw(url, ping_interval=None) as stalled:
            await eventually(lambda: len(server.get_client_ids("p")) == 2)
            stalled.transport.pause_reading()
            await write_until_missed(server, live)
            assert server._switchboard._laggards._timer is not None
            stalled.transport.abort()
            await eventually(lambda: server.get_stats().connections == 1)
            assert not server._switchboard._laggards._missed
            assert server._switchboard._laggards._timer is None


async def test_one_message_larger_than_the_bound(errors: list[Exception]) -> None:
    """It is sent to who reads, and so is the next."""
    one, other = MergeableStore(), MergeableStore()
    async with narrow_server(errors) as server:
        url = f"ws://127.0.0.1:{server.port}/p"
        async with synced(one, url), synced(other, url):
            for number in range(3):
                one.set_value("v", f"{number}{'x' * 4 * MAX_CHANGES_OUTBOX_BYTES}")
            await eventually(lambda: same_content(one, other))
    assert errors == []


async def test_in_asgi() -> None:
    """The same through uvicorn."""
    errors: list[Exception] = []
    ws_server = WsServer(on_ignored_error=errors.append)
    stalled, live, reader = MergeableStore(), MergeableStore(), MergeableStore()
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws_ping_interval=None) as port:
        url = f"ws://127.0.0.1:{port}/sync/p"
        link = Stallable(port)
        async with synced(stalled, url, connect_options=link.options), synced(live, url), synced(reader, url):
            link.stall()
            for number in range(300):
                live.set_value("v", f"{number}{'x' * 100_000}")
                await eventually(lambda: reader.get_value("v") == live.get_value("v"))
            assert 0 < max(outboxes(ws_server)) <= MAX_CHANGES_OUTBOX_BYTES
            link.go_on()
            await eventually(lambda: same_content(stalled, live, reader))
    assert errors == []
