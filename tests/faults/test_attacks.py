"""Attacks on a server over real sockets: what they get, and what they cost the others."""

# ruff: noqa: SIM117 - what is inside the server stands inside it

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from mergesync import LimitExceededError, Limits, MergeableStore, MergesyncError, create_ws_server
from mergesync.net.listening import ListeningWsServer
from mergesync.persist import json_file_persisters, sqlite_persisters
from tests.support import eventually, same_content, within
from tests.unit.net.kit import closed_with, diff_frame, mux, pet, raw, subscribed, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")

ASK, ANSWER = 'S\n["r",1,""]', 'S\n["r",0,[0,0]]'
STORAGES = pytest.mark.parametrize("storage", ["json", "sqlite"])
FRAMES_PER_LIE: Final = 10


def persisters_of(storage: str, folder: Path) -> Any:
    return json_file_persisters(folder / "data") if storage == "json" else sqlite_persisters(folder / "data.db")


@asynccontextmanager
async def attacked(errors: list[Exception], *arguments: Any, **options: Any) -> AsyncIterator[ListeningWsServer]:
    """A server, with an honest client on the path `p` that must be served all the time, and in the end."""
    async with create_ws_server("127.0.0.1", 0, *arguments, on_ignored_error=errors.append, **options) as server:
        one, other = pet("fido"), MergeableStore()
        async with synced(one, url_of(server)), synced(other, url_of(server)):
            await eventually(lambda: same_content(one, other))
            yield server
            one.set_value("last", True)
            other.set_value("last too", True)
            await eventually(lambda: same_content(one, other) and len(one.get_value_ids()) >= 2)
    assert all(isinstance(error, MergesyncError) for error in errors), errors


# --- lies


class Liar:
    """A socket that says it has other hashes, and answers all questions about them."""

    def __init__(self, connection: ClientConnection, answers: dict[int, Any]) -> None:
        self.heard = 0
        self._connection = connection
        self._answers = answers

    async def lie(self, number: int) -> None:
        """Announce hashes that nobody has."""
        await self._connection.send(f'\n["lie{number}",2,[{number},{number}]]')

    async def answer_questions(self) -> None:
        """Until the socket is closed."""
        with suppress(ConnectionClosed):
            while True:
                frame = str(await self._connection.recv())
                self.heard += 1
                sender, _, text = frame.partition("\n")
                request_id, kind, _ = json.loads(text)
                if kind in self._answers:
                    await self._connection.send(f"{sender}\n" + json.dumps([request_id, 0, self._answers[kind]]))

    async def is_left_alone(self) -> None:
        """The server answers it again, so that it is through with all that came before."""
        heard = self.heard
        await self._connection.send(ASK)
        await eventually(lambda: self.heard > heard)


STAMP, FUTURE = "Nn1JUF-----7JQY8", "z" * 16
LIES: dict[str, dict[int, Any]] = {
    "nothing to be had": {1: [1, 1], 4: [[{}], {}], 7: [{}]},
    "differs everywhere": {
        1: [1, 1],
        4: [[{}], {"pets": 1, "t": 2}],
        5: [[{}], {"pets": {"fido": 1}, "t": {"r": 2}}],
        6: [{}],
        7: [{}],
    },
    "something new": {1: [1, 1], 4: [[{"t": [{"r": [{"c": [1, STAMP]}]}]}], {}], 7: [{"v": [1, STAMP]}]},
    "the future": {1: [1, 1], 4: [[{"t": [{"r": [{"c": [1, FUTURE]}]}]}], {}], 7: [{"v": [1, FUTURE]}]},
    "answers of another form": {1: [1, 1], 4: [1, 1], 7: [1, 1]},
    "silence": {},
}


@pytest.mark.parametrize("lie", LIES)
async def test_hash_storm(lie: str, errors: list[Exception]) -> None:
    """M14: hashes of a stranger are its affair and the server's: at most 10 frames a lie, and none to the others."""
    lies, heard = 50, 0

    def count(*_: Any) -> None:
        nonlocal heard
        heard += 1

    async with attacked(errors) as server, AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(synced(MergeableStore(), url_of(server), on_receive=count))
        async with raw(url_of(server)) as connection:
            liar = Liar(connection, LIES[lie])
            answering = asyncio.create_task(liar.answer_questions())
            await liar.is_left_alone()
            liar.heard = heard = 0
            for number in range(lies):
                await liar.lie(number)
                await liar.is_left_alone()
            assert liar.heard <= lies * FRAMES_PER_LIE
            assert heard <= 20 * 2  # what is new to all, once: a cell and a value
            await connection.close()
            await within(answering)


async def test_answers_to_questions_not_asked(errors: list[Exception]) -> None:
    """They are ignored, and so are answers to what another client was asked."""
    async with attacked(errors) as server:
        async with raw(url_of(server)) as asked, raw(url_of(server)) as stranger:
            await asked.send('\n["mine",2,[1,1]]')
            question = json.loads(str(await within(asked.recv())).partition("\n")[2])
            for request_id in ("nobody", question[0]):
                await stranger.send("S\n" + json.dumps([request_id, 0, [[{"t": [{"r": [{"c": [1, STAMP]}]}]}], {}]]))
            await stranger.send('S\n["r",4,{}]')
            while (answer := json.loads(str(await within(stranger.recv())).partition("\n")[2]))[0] != "r":
                pass
            assert "t" not in answer[2][0][0]


async def test_one_stamp_with_two_values(errors: list[Exception]) -> None:
    """Whoever repeats a stamp of another client with another value: all end with the same."""
    async with attacked(errors) as server:
        stores = [MergeableStore(), MergeableStore().set_value("v", "honest")]
        async with synced(stores[0], url_of(server)), synced(stores[1], url_of(server)):
            await eventually(lambda: same_content(*stores))
            hlc = stores[1].get_mergeable_content()[1][0]["v"][1]
            async with raw(url_of(server)) as liar:
                for value in ("lie", "a lie", "zzz"):
                    await liar.send(diff_frame(value, hlc=hlc))
                await liar.send(ASK)
                await within(liar.recv())
            stores.append(MergeableStore())
            async with synced(stores[2], url_of(server)):
                await eventually(lambda: same_content(*stores))


async def test_silence_of_many(errors: list[Exception]) -> None:
    """Strangers that announce hashes and never answer do not keep the server from asking an honest client."""
    async with attacked(errors, request_timeout_seconds=1000.0) as server, AsyncExitStack() as stack:
        live, offline = MergeableStore(), MergeableStore().set_value("written offline", 1)
        await stack.enter_async_context(synced(live, url_of(server)))
        for number in range(300):
            silent = await stack.enter_async_context(raw(url_of(server)))
            await silent.send(f'\n["lie",2,[{number},1]]')
        async with synced(offline, url_of(server)):
            await eventually(lambda: live.get_value("written offline") == 1)


# --- floods


@STORAGES
async def test_anonymous_paths(storage: str, tmp_path: Path, errors: list[Exception]) -> None:
    """M13: strangers on 300 paths of their own leave no file and no row, as long as they write nothing."""
    persisters = persisters_of(storage, tmp_path)
    async with attacked(errors, persisters) as server, AsyncExitStack() as stack:
        for number in range(300):
            connection = await stack.enter_async_context(raw(url_of(server, f"stranger{number}")))
            await connection.send(ASK)
            assert await within(connection.recv()) == ANSWER
            await connection.send('\n["h",2,[1,1]]')
    assert await persisters.get_path_ids() == ["p"]
    if storage == "json":
        assert [name for name in _below(tmp_path / "data") if name.endswith(".json")] == ["p.json"]


async def test_paths_up_to_the_quota(errors: list[Exception]) -> None:
    """One more is refused, however many come, and who is there stays."""
    async with attacked(errors, limits=Limits(paths=11)) as server, AsyncExitStack() as stack:
        for number in range(10):
            connection = await stack.enter_async_context(raw(url_of(server, str(number))))
            await connection.send(ASK)
            assert await within(connection.recv()) == ANSWER
        for number in range(10, 60):
            async with raw(url_of(server, str(number))) as refused:
                assert (await closed_with(refused))[0] == 4429
        assert server.get_stats().paths == 11


async def test_101_channels(errors: list[Exception]) -> None:
    """A socket has 100 channels; one more closes it, as in TinyBase, and frees them all."""
    async with attacked(errors) as server, mux(url_of(server, "m")) as connection:
        for number in range(100):
            await subscribed(connection, str(number))
        assert server.get_stats().paths == 101
        await connection.send('S\n["sub",-1,[1,"100"]]')
        assert await closed_with(connection) == (1013, "tinybase:15:channels")
        await eventually(lambda: server.get_stats().paths == 1)


async def test_subscribing_and_unsubscribing(errors: list[Exception]) -> None:
    """A thousand times, on one path and on as many: in the end nothing is left of it."""
    async with attacked(errors) as server, mux(url_of(server, "m")) as connection:
        for number in range(1000):
            for channel in ("same", f"new{number}"):
                await connection.send(f'S\n["s",-1,[1,"{channel}"]]')
                await connection.send(f'S\n[null,-1,[2,"{channel}"]]')
        for _ in range(2000):
            await within(connection.recv())
        await eventually(lambda: server.get_path_ids() == ["p"])
        await eventually(lambda: len(server._switchboard._paths) == 1 and not server._switchboard._ending)


async def test_resets(errors: list[Exception]) -> None:
    """Sockets that are cut in the middle of a frame leave nothing behind."""
    async with attacked(errors) as server:
        for _ in range(200):
            async with raw(url_of(server)) as connection:
                connection.transport.write(b"\x81\xfe\xff\xff" + bytes(4) + b"S\n[")
                connection.transport.abort()
        await eventually(lambda: server.get_stats().connections == 2)


async def test_empty_and_tiny_frames(errors: list[Exception]) -> None:
    """A thousand empty fragments of one message are one message, and no more costly."""
    async with attacked(errors) as server, raw(url_of(server)) as connection:
        head = b"\x01\x82" + bytes(4) + b"S\n"
        tail = b"\x80" + bytes([0x80 | 10]) + bytes(4) + b'["r",1,""]'
        connection.transport.write(head + (b"\x00\x80" + bytes(4)) * 1000 + tail)
        assert re.match(r'S\n\["r",0,\[\d+,\d+\]\]', str(await within(connection.recv())))


async def test_pings(errors: list[Exception]) -> None:
    """Who sends pings and does not read the answers costs a bounded queue."""
    async with attacked(errors, limits=Limits(heartbeat_seconds=0.3)) as server, raw(url_of(server)) as connection:
        connection.transport.pause_reading()
        for _ in range(1000):
            connection.transport.write((b"\x89\xfd" + bytes(4) + b"x" * 125) * 100)
            await asyncio.sleep(0)
        await eventually(lambda: server.get_stats().connections == 2)
        connection.transport.abort()


# --- handshakes

HEADERS: Final = (
    "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


def more_headers(count: int) -> str:
    return "".join(f"X-{number}: 1\r\n" for number in range(count - HEADERS.count("\r\n")))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET /p HTTP/1.1\r\n{HEADERS}\r\n", 101),
        (f"GET /p HTTP/1.1\r\n{HEADERS}{more_headers(128)}\r\n", 101),
        (f"GET /p HTTP/1.1\r\n{HEADERS}{more_headers(129)}\r\n", 431),
        (f"GET /p HTTP/1.1\r\n{HEADERS}X: {'x' * 8192}\r\n\r\n", 431),
        (f"GET /{'x' * 8192} HTTP/1.1\r\n{HEADERS}\r\n", 414),
        (f"GET /{'x' * 65536} HTTP/1.1\r\n{HEADERS}\r\n", 414),
        (f"GET /p HTTP/1.0\r\n{HEADERS}\r\n", 505),
        (f"POST /p HTTP/1.1\r\n{HEADERS}Content-Length: 0\r\n\r\n", 405),
        (f"OPTIONS * HTTP/1.1\r\n{HEADERS}\r\n", 405),
        (f"GET /p HTTP/1.1\r\n{HEADERS.replace('13', '8')}\r\n", 400),
        (f"GET /p HTTP/1.1\r\n{HEADERS.replace('AAAA==', '==')}\r\n", 400),
        (f"GET /p HTTP/1.1\r\n{HEADERS}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", 400),
        ("GET /p HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (f"GET /p HTTP/1.1\r\n{HEADERS}Content-Length: 5\r\n\r\nhello", None),
        (f"GET /p HTTP/1.1\r\n{HEADERS}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        (f"GET /p HTTP/1.1\r\n{HEADERS}X: 1\r\n 2\r\n\r\n", None),
        (f"GET /é HTTP/1.1\r\n{HEADERS}\r\n", None),
        ("\x16\x03\x01\x00\xa5\x01\r\n\r\n", None),
        ("\r\n\r\n", None),
    ],
    ids=range(19),
)
async def test_handshakes(request_: str, status: int | None, errors: list[Exception]) -> None:
    """Each gets its status, or is cut off without a word; nothing comes onto a path."""
    async with attacked(errors) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_.encode())
        line = (await within(reader.readline())).split()
        assert line[1:2] == ([] if status is None else [str(status).encode()])
        writer.transport.abort()
        await eventually(lambda: server.get_stats().connections == 2)


async def test_slow_loris(errors: list[Exception]) -> None:
    """Who takes its time for the handshake is cut off in time, as is who never begins."""
    async with attacked(errors, limits=Limits(handshake_seconds=0.3)) as server:

        async def drip() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            ended = asyncio.create_task(reader.read())
            with suppress(OSError):
                while not ended.done():
                    writer.write(b"G")
                    await asyncio.wait([ended], timeout=0.05)
            with suppress(OSError):
                await ended
            writer.transport.abort()

        await within(asyncio.gather(*(drip() for _ in range(50))))


# --- where paths lead

TARGETS: Final = [
    *("..", "../p", "../../etc/passwd", "%2e%2e", "%2e%2e%2fp", "..%2f..%2fp", "....//p", "..;/p", ".", "./p", "p/.."),
    *("//", "//p", "///", "p/", "p//q", "p/q", "\\", "..\\..\\p", "c:\\p", "C:p", "\\\\host\\share", "~", "~root", "-"),
    *("\0", "p\0", "p\0.json", "%00", "p%00", "\x7f", "\x1b[31m", "\t"),
    *("P", "P%20", "p%20", "p.", "p.json", "p.json.json", ".p", "con", "CON", "nul.txt", "com1", "LPT1", "aux.json"),
    *("%C3%A9", "e%CC%81", "%EF%BC%8E%EF%BC%8E", "%c3%a9", "%ff", "%ED%A0%80", "%", "%%", "%2", "%zz", "p;x", "*", "|"),
    *(
        "x" * 255,
        "x" * 256,
        "x" * 8000,
        "X" * 256,
        "%2e" * 500,
        "/" * 500,
        "data.db",
        "data.db-wal",
        ".lock",
        "p.path-id",
    ),
    *('"', "'", "';drop%20table%20x;--", "$(id)", "`id`", "{}", "{0}", "%s", "%n"),
]


def _below(folder: Path) -> dict[str, str | None]:
    """What is right in a folder: files with what they say, folders."""
    return {each.name: each.read_text() if each.suffix == ".json" else None for each in folder.iterdir()}


@STORAGES
async def test_where_paths_lead(storage: str, tmp_path: Path, errors: list[Exception]) -> None:
    """Each id is a path of its own, which is found again, and nothing is written outside of its place."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.json").write_text("[]")
    persisters = persisters_of(storage, folder)
    targets = list(dict.fromkeys(TARGETS))
    async with attacked(errors, persisters) as server:
        for number, target in enumerate(targets):
            await _write(server, target, f"{number}")
    assert _below(tmp_path) == {"inner": None, "outside.json": "[]"}
    assert storage == "sqlite" or set(_below(folder)) == {"data"}
    assert sorted(await persisters.get_path_ids()) == sorted({*targets, "p"})
    async with create_ws_server("127.0.0.1", 0, persisters_of(storage, folder)) as server:
        for number, target in enumerate(targets):
            assert f'"{number}"' in await _read(server, target), target


async def _open(server: ListeningWsServer, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Shake hands by hand, as libraries would not ask for such targets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /{target} HTTP/1.1\r\n{HEADERS}\r\n".encode())
    head = await within(reader.readuntil(b"\r\n\r\n"))
    assert b" 101 " in head, (target, head)
    return reader, writer


async def _say(writer: asyncio.StreamWriter, text: str) -> None:
    payload = text.encode()
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    writer.write(b"\x81" + length + bytes(4) + payload)
    await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> str:
    size = (await within(reader.readexactly(2)))[1]
    if size == 126:
        size = int.from_bytes(await within(reader.readexactly(2)), "big")
    return (await within(reader.readexactly(size))).decode()


async def _write(server: ListeningWsServer, target: str, value: str) -> None:
    reader, writer = await _open(server, target)
    await _say(writer, diff_frame(value))
    await _say(writer, 'S\n["r",1,""]')
    assert (await _answer(reader)).startswith('S\n["r",0,')
    writer.transport.abort()


async def _read(server: ListeningWsServer, target: str) -> str:
    reader, writer = await _open(server, target)
    await _say(writer, 'S\n["r",7,{}]')
    answer = await _answer(reader)
    writer.transport.abort()
    return answer


@pytest.mark.parametrize(
    "channel", ["..", ".", "", "/", "//", "/p", "p/", "a/../b", "a//b", "a?b", "a#b", "a\nb", "a\rb"]
)
async def test_channels_that_lead_elsewhere(channel: str, errors: list[Exception]) -> None:
    """Refused, as in TinyBase: 1007."""
    async with attacked(errors) as server, mux(url_of(server, "m")) as connection:
        await connection.send("S\n" + json.dumps(["s", -1, [1, channel]]))
        assert await closed_with(connection) == (1007, "tinybase:14")


@pytest.mark.parametrize(("length", "accepted"), [(1024, True), (1025, False)])
async def test_long_channels(length: int, accepted: bool, tmp_path: Path, errors: list[Exception]) -> None:
    """1,024 bytes of UTF-8, which is stored under a name of its own."""
    persisters = persisters_of("json", tmp_path)
    channel = quote("é") + "x" * (length - 6)
    async with attacked(errors, persisters) as server, mux(url_of(server, "")) as connection:
        await connection.send("S\n" + json.dumps(["s", -1, [1, channel]]))
        if accepted:
            await within(connection.recv())
            await connection.send(f"M\n{channel}\n{diff_frame()}")
            await connection.send(f"M\n{channel}\n{ASK}")
            await within(connection.recv())
        else:
            assert await closed_with(connection) == (1013, "tinybase:15:channels")
    assert (channel in await persisters.get_path_ids()) is accepted
    assert all(isinstance(error, LimitExceededError) for error in errors)
