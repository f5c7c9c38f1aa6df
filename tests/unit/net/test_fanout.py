"""Changes of one turn of the event loop leave together; nobody notices but who counts writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import serve
from websockets.frames import Frame, Opcode

from mergesync import WsServer, create_ws_server
from mergesync.limits import MAX_JOINED_BYTES, MIN_JOINED_FRAMES
from mergesync.net import rounds
from mergesync.net.channel import WebsocketsChannel
from mergesync.store.hlc import encode_hlc
from mergesync.sync.server_connection import ServerConnection
from tests.support import within

from .kit import asgi_app, closed_with, mux, raw, subscribed, uvicorn_port

T0 = 1704067200000
PATIENCE_SECONDS = 600.0
"""A path that takes half of it to start compares hashes with its clients, and those frames are none of these tests'."""


def patient_server(**options: Any) -> Any:
    """A server of which no path is late, however busy the machine is."""
    return create_ws_server("127.0.0.1", 0, request_timeout_seconds=PATIENCE_SECONDS, **options)


def change(number: int, text: str = "") -> str:
    """A frame of a client that sets a value, newer than those of lesser numbers."""
    stamp = encode_hlc(T0, number, "AAAAA")
    return "\n" + json.dumps([f"t{number}", 3, [[{}], [{"v": [f"{number}{text}", stamp]}], 1]])


async def numbers(connection: ClientConnection, count: int) -> list[int]:
    """What the next changes say, in order."""
    frames = [await within(connection.recv()) for _ in range(count)]
    texts = [frame if isinstance(frame, str) else frame.decode() for frame in frames]
    return [int(json.loads(text[text.index("[") :])[2][1][0]["v"][0].partition("-")[0]) for text in texts]


async def joined(connection: ClientConnection) -> None:
    """Return when the server has this client on its path: it answers."""
    await connection.send('\n["here",1,""]')
    assert json.loads((await within(connection.recv(decode=True))).partition("\n")[2])[0] == "here"


@asynccontextmanager
async def writer_and_reader() -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    """Two clients on a path."""
    async with (
        patient_server() as server,
        raw(f"ws://127.0.0.1:{server.port}/p") as writer,
        raw(f"ws://127.0.0.1:{server.port}/p") as reader,
    ):
        await joined(writer)
        await joined(reader)
        yield writer, reader


async def sent_at_once(connection: ClientConnection, texts: list[str]) -> None:
    """Send frames so that they arrive as one piece."""
    frames = [Frame(Opcode.TEXT, text.encode()).serialize(mask=True) for text in texts]
    connection.transport.write(b"".join(frames))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server writes to any client; rounds of the event loop do not end early because a machine is busy."""
    monkeypatch.setattr(rounds, "MAX_ROUND_SECONDS", 60.0)
    made: list[bytes] = []
    write = WebsocketsChannel.write

    def noted(channel: WebsocketsChannel, frames: bytes) -> None:
        made.append(frames)
        write(channel, frames)

    monkeypatch.setattr(WebsocketsChannel, "write", noted)
    return made


def value_frames(writes: list[bytes]) -> list[int]:
    """How many changes each write has."""
    return [count for data in writes if (count := data.count(b'"v":'))]


async def test_changes_that_come_together_leave_in_one_write(writes: list[bytes]) -> None:
    """In order, to everyone but who made them; each reader's bytes are the same object."""
    async with (
        patient_server() as server,
        raw(f"ws://127.0.0.1:{server.port}/p") as writer,
        raw(f"ws://127.0.0.1:{server.port}/p") as one,
        raw(f"ws://127.0.0.1:{server.port}/p") as other,
    ):
        for connection in (writer, one, other):
            await joined(connection)
        writes.clear()
        await sent_at_once(writer, [change(number) for number in range(10)])
        assert await numbers(one, 10) == await numbers(other, 10) == list(range(10))
        assert value_frames(writes) == [10, 10]
        assert writes[0] is writes[1]
        assert server.get_stats().sends == 3 + 20
        await joined(writer)  # its own did not come back to it before this


async def test_many_changes_leave_in_parts(writes: list[bytes]) -> None:
    """Few readers need not wait until the server is through with all that has come."""
    async with writer_and_reader() as (writer, reader):
        writes.clear()
        count = 2 * MIN_JOINED_FRAMES + 3
        await sent_at_once(writer, [change(number) for number in range(count)])
        assert await numbers(reader, count) == list(range(count))
        assert value_frames(writes) == [MIN_JOINED_FRAMES, MIN_JOINED_FRAMES, 3]


async def test_a_lone_change_leaves_before_the_loop_waits(writes: list[bytes]) -> None:
    """Whoever reads the next of what has come finds it gone."""
    async with patient_server() as server, raw(f"ws://127.0.0.1:{server.port}/p") as reader:
        await joined(reader)
        writes.clear()
        async with server.open_path("p") as path:
            path.store.set_value("v", "1")
            await asyncio.sleep(0)
            assert value_frames(writes) == [1]
        assert await numbers(reader, 1) == [1]


async def test_a_round_ends_after_some_time(writes: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many frames have come, what follows from the first goes out meanwhile; here, after each of them."""
    monkeypatch.setattr(rounds, "MAX_ROUND_SECONDS", 0.0)
    async with writer_and_reader() as (writer, reader):
        writes.clear()
        await sent_at_once(writer, [change(number) for number in range(20)])
        assert await numbers(reader, 20) == list(range(20))
        assert value_frames(writes) == [1] * 20


async def test_what_waits_is_bounded(writes: list[bytes]) -> None:
    """Large changes do not wait for one another."""
    async with patient_server() as server, raw(f"ws://127.0.0.1:{server.port}/p") as reader:
        await joined(reader)
        writes.clear()
        async with server.open_path("p") as path:
            for number in range(6):
                path.store.set_value("v", f"{number}{'-' * (MAX_JOINED_BYTES // 3)}")
        assert await numbers(reader, 6) == list(range(6))
        assert value_frames(writes) == [3, 3]


async def test_what_was_written_before_a_farewell_comes_before_it() -> None:
    """As when every change left at once; on a socket with channels, too."""
    async with (
        patient_server() as server,
        raw(f"ws://127.0.0.1:{server.port}/p") as plain,
        mux(f"ws://127.0.0.1:{server.port}") as channels,
    ):
        await joined(plain)
        await subscribed(channels, "p")
        async with server.open_path("p") as path:
            path.store.set_value("v", "1")
            await within(path.close())
        assert await numbers(plain, 1) == await numbers(channels, 1) == [1]
        await closed_with(plain)


async def test_answers_keep_their_place_among_changes() -> None:
    """A client that asks after a change of another hears of the change first."""
    async with (
        patient_server() as server,
        raw(f"ws://127.0.0.1:{server.port}/p") as reader,
    ):
        await joined(reader)
        async with server.open_path("p") as path:
            path.store.set_value("v", "1")
            switchboard = server._switchboard
            client_id = next(iter(switchboard.on_path["p"]))
            switchboard.send("p", [client_id], 'S\n["late",0,[0,0]]')
        assert await numbers(reader, 1) == [1]
        assert await within(reader.recv()) == 'S\n["late",0,[0,0]]'


async def test_two_who_write_in_one_turn_get_each_the_others() -> None:
    """What is joined for all others is not for who has part of it."""
    async with (
        patient_server() as server,
        raw(f"ws://127.0.0.1:{server.port}/p") as one,
        raw(f"ws://127.0.0.1:{server.port}/p") as other,
        raw(f"ws://127.0.0.1:{server.port}/p") as reader,
    ):
        for connection in (one, other, reader):
            await joined(connection)
        writers = [socket.connection for socket in server._switchboard.on_path["p"].values()][:2]
        for number, writer in enumerate(writers * 2):
            assert isinstance(writer, ServerConnection)
            writer.receive(change(number), 0.0)
        assert await numbers(reader, 4) == [0, 1, 2, 3]
        assert await numbers(one, 2) == [1, 3]
        assert await numbers(other, 2) == [0, 2]


@pytest.mark.parametrize("how", ["compressed", "asgi"])
async def test_channels_that_cannot_take_bytes_get_the_same(how: str) -> None:
    """With compression, and behind an ASGI server, each frame is sent by itself."""
    ws_server = WsServer(request_timeout_seconds=PATIENCE_SECONDS)

    async def check(port: int, path: str, **options: Any) -> None:
        url = f"ws://127.0.0.1:{port}{path}"
        async with raw(url, **options) as writer, raw(url, **options) as reader:
            await joined(writer)
            await joined(reader)
            await sent_at_once(writer, [change(number, "é\u2028") for number in range(5)])
            frames = [await within(reader.recv(decode=True)) for _ in range(5)]
            assert [json.loads(frame.partition("\n")[2])[2][1][0]["v"][0] for frame in frames] == [
                f"{number}é\u2028" for number in range(5)
            ]

    if how == "asgi":
        async with uvicorn_port(asgi_app(ws_server, "/sync")) as port:
            await check(port, "/sync/p")
    else:
        options = {**ws_server.serve_options, "compression": "deflate"}
        async with ws_server, serve(ws_server.handler, "127.0.0.1", 0, **options) as listening:
            await check(listening.sockets[0].getsockname()[1], "/p", compression="deflate")


async def test_a_lone_surrogate_is_sent_as_javascript_would() -> None:
    """It cannot be encoded, and becomes a question mark in a diamond."""
    async with patient_server() as server, raw(f"ws://127.0.0.1:{server.port}/p") as reader:
        await joined(reader)
        clients = list(server._switchboard.on_path["p"])
        server._switchboard.send("p", clients, "S\n\ud800")
        assert await within(reader.recv()) == "S\n\ufffd"


async def test_compression_is_a_matter_of_the_path(writes: list[bytes]) -> None:
    """Off by default, and for those paths on that are to have it, if the client can; everybody gets the same."""
    async with (
        patient_server(compress=lambda path_id: path_id == "p") as server,
        raw(f"ws://127.0.0.1:{server.port}/p", compression="deflate") as one,
        raw(f"ws://127.0.0.1:{server.port}/p") as other,
        raw(f"ws://127.0.0.1:{server.port}/q", compression="deflate") as elsewhere,
    ):
        for connection in (one, other, elsewhere):
            await joined(connection)
        assert [len(each.protocol.extensions) for each in (one, other, elsewhere)] == [1, 0, 0]
        writes.clear()
        async with server.open_path("p") as path:
            path.store.set_value("v", "1")
        assert await numbers(one, 1) == await numbers(other, 1) == [1]
        assert value_frames(writes) == [1]
