"""`create_ws_server`: clients, listeners, stats, and what bad input gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from mergesync import ClientInfo, LimitExceededError, MergeableStore, RemoteProtocolError, SyncError, create_ws_server
from mergesync.limits import MAX_FRAME_BYTES
from mergesync.net.server import WsServer
from mergesync.net.tls import Certificate
from tests.support import Leftovers, eventually, same_content, within
from tests.unit.net.kit import closed_with, diff_frame, mux, pet, raw, subscribed, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")


async def test_two_clients_converge() -> None:
    """Each gets what the other has, and every change after that."""
    fido, felix = pet("fido"), pet("felix")
    async with create_ws_server("localhost", 0) as server, synced(fido, url_of(server)), synced(felix, url_of(server)):
        await eventually(lambda: same_content(fido, felix))
        fido.set_cell("pets", "rex", "species", "dog")
        felix.del_row("pets", "fido")
        await eventually(lambda: same_content(fido, felix) and felix.has_row("pets", "rex"))
        assert fido.get_row_ids("pets") == felix.get_row_ids("pets")


async def test_paths_are_apart() -> None:
    """Clients of one path see nothing of another; paths are percent-encoded text, and queries do not count."""
    one, other, same = MergeableStore(), MergeableStore(), MergeableStore()
    async with (
        create_ws_server("localhost", 0) as server,
        synced(one, url_of(server, "a%20b/c?x=1")),
        synced(same, url_of(server, "a%20b/c")),
        synced(other, url_of(server, "a b/c/".replace(" ", "%20"))),
    ):
        one.set_value("v", 1)
        await eventually(lambda: same.get_value("v") == 1)
        assert server.get_path_ids() == ["a%20b/c", "a%20b/c/"]
        assert not other.has_values()


async def test_what_there_is() -> None:
    """Ids of paths and clients, and how many there are."""
    async with create_ws_server("localhost", 0) as server:
        assert server.get_path_ids() == []
        assert server.get_client_ids("p") == []
        async with raw(url_of(server)) as one, raw(url_of(server)) as two, raw(url_of(server, "")):
            await eventually(lambda: server.get_stats().connections == 3)
            assert server.get_path_ids() == ["p", ""]
            keys = [socket.request.headers["Sec-WebSocket-Key"] for socket in (one, two) if socket.request]
            assert server.get_client_ids("p") == keys
            await one.send(diff_frame())
            await within(two.recv())
            stats = server.get_stats()
            assert (stats.paths, stats.clients, stats.connections) == (2, 3, 3)
            assert (stats.sends, stats.receives) == (1, 1)
        await eventually(lambda: server.get_stats().connections == 0)
        assert server.get_path_ids() == []


async def test_listeners() -> None:
    """Paths and clients are told as they come and go; a listener can be for one path, and can be removed."""
    told: list[Any] = []
    async with create_ws_server("localhost", 0) as server:
        server.add_path_ids_listener(lambda *said: told.append(("path", *said[1:])))
        server.add_client_ids_listener("p", lambda s, *said: told.append((s is server, *said)))
        removed = server.add_client_ids_listener(None, lambda *said: told.append("removed"))
        assert server.del_listener(removed).del_listener("none") is server
        async with raw(url_of(server)):
            await eventually(lambda: told)
            (client_id,) = server.get_client_ids("p")
            async with raw(url_of(server, "q")):
                await eventually(lambda: len(told) == 3)
        await eventually(lambda: len(told) == 6)
    expected = [("path", "p", 1), (True, "p", client_id, 1), ("path", "q", 1)]
    assert told[:3] == expected
    assert sorted(map(str, told[3:])) == sorted(map(str, [(*each[:-1], -1) for each in expected]))


async def test_listener_that_raises(errors: list[Exception]) -> None:
    """It is reported, with the path and the client, and the client is served all the same."""

    def fail(*_: object) -> None:
        raise KeyError("listener")

    store = MergeableStore()
    async with create_ws_server("localhost", 0, on_ignored_error=errors.append) as server:
        server.add_path_ids_listener(fail)
        server.add_client_ids_listener(None, fail)
        async with synced(store, url_of(server)):
            assert server.get_path_ids() == ["p"]
            (client_id,) = server.get_client_ids("p")
    assert [type(error) for error in errors] == [KeyError] * 4
    of_path, of_client = "path 'p'", f"path 'p', client {client_id!r}"
    assert [error.__notes__ for error in errors] == [[of_path], [of_client], [of_client], [of_path]]


async def test_coroutine_functions_are_refused() -> None:
    """Nobody would await them."""

    async def listen(*_: object) -> None: ...

    server = WsServer()
    with pytest.raises(TypeError, match="plain function"):
        server.add_path_ids_listener(listen)
    with pytest.raises(TypeError, match="on_ignored_error"):
        WsServer(on_ignored_error=listen)


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_connection(is_async: bool) -> None:
    """It is told who comes from where, before any frame is read."""
    infos: list[ClientInfo] = []
    gate = asyncio.Event()

    async def hear_slowly(info: ClientInfo) -> None:
        infos.append(info)
        await gate.wait()

    callback: Any = hear_slowly if is_async else infos.append
    async with (
        create_ws_server("127.0.0.1", 0, on_connection=callback) as server,
        raw(url_of(server, "a/b?c"), additional_headers={"X-Name": "Fido"}) as socket,
    ):
        await eventually(lambda: infos)
        await socket.send(diff_frame())
        assert bool(server.get_path_ids()) is not is_async
        gate.set()
        await eventually(lambda: server.get_stats().receives == 1)
        assert server.get_path_ids() == ["a/b"]
        (info,) = infos
        assert info.client_id == server.get_client_ids("a/b")[0]
        assert (info.path_id, info.multiplexed) == ("a/b", False)
        assert info.remote_address[:2] == socket.local_address[:2]
        assert info.headers["x-name"] == "Fido"


async def test_headers_are_kept_once() -> None:
    """Where the application finds them, and nowhere else."""
    told: list[ClientInfo] = []
    async with (
        create_ws_server("127.0.0.1", 0, on_connection=told.append) as server,
        raw(url_of(server), additional_headers={"X-Name": "Fido"}),
    ):
        await eventually(lambda: server.get_client_ids("p"))
        assert server._listening is not None
        [connection] = server._listening.connections
        assert connection.request is not None
        assert connection.response is not None
        assert (list(connection.request.headers), list(connection.response.headers)) == ([], [])
        [socket] = server._switchboard._sockets.values()
        assert socket.channel.headers is told[0].headers
        assert told[0].headers["x-name"] == "Fido"


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_connection_that_raises(is_async: bool, errors: list[Exception]) -> None:
    """That socket is closed with 1011, it was on no path, and the error is reported once, with path and client."""

    def fail(info: ClientInfo) -> None:
        if info.path_id == "bad":
            raise ValueError("no")

    async def fail_later(info: ClientInfo) -> None:
        fail(info)

    told: list[Any] = []
    callback = fail_later if is_async else fail
    async with create_ws_server("localhost", 0, on_connection=callback, on_ignored_error=errors.append) as server:
        server.add_path_ids_listener(lambda *said: told.append(said[1:]))
        async with raw(url_of(server, "good")) as good, raw(url_of(server, "bad")) as bad:
            assert await closed_with(bad) == (1011, "")
            await eventually(lambda: server.get_stats().connections == 1)
            assert told == [("good", 1)]
            await good.send('S\n["r",1,""]')
            assert await within(good.recv()) == 'S\n["r",0,[0,0]]'
    (error,) = errors
    assert isinstance(error, ValueError)
    assert "'bad'" in error.__notes__[0]


async def test_on_connection_that_ends_after_the_server() -> None:
    """A client that is introduced only when its socket is being closed does not come onto a path any more."""
    gate = asyncio.Event()
    told: list[Any] = []

    async def wait(_: ClientInfo) -> None:
        await gate.wait()

    server = await create_ws_server("localhost", 0, on_connection=wait)
    server.add_path_ids_listener(lambda *said: told.append(said))
    async with raw(url_of(server)) as socket:
        await eventually(lambda: server.get_stats().connections == 1)
        socket.transport.pause_reading()
        destroying = asyncio.create_task(server.destroy())
        await asyncio.sleep(0.02)
        gate.set()
        await asyncio.sleep(0.02)
        socket.transport.resume_reading()
        await within(destroying)
    assert told == []


async def test_on_connection_that_hangs_does_not_hold_up_the_end() -> None:
    """Destroying the server ends it."""
    cancelled = asyncio.Event()

    async def hang(_: ClientInfo) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    server = await create_ws_server("localhost", 0, on_connection=hang)
    async with raw(url_of(server)) as socket:
        await eventually(lambda: server.get_stats().connections == 1)
        closing = asyncio.create_task(server.destroy())
        assert (await closed_with(socket))[0] == 1001
        await within(closing)
    assert cancelled.is_set()
    assert server.get_stats().paths == 0


async def test_same_key_twice() -> None:
    """Keys that are taken, or are none, are replaced, so that no client can be taken for another."""
    async with create_ws_server("localhost", 0) as server:
        ids: list[str] = []
        server.add_client_ids_listener(None, lambda _, path, client, change: ids.append(client))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        requests = [
            await _upgrade(server.port, {"Sec-WebSocket-Key": key}),
            await _upgrade(server.port, {"Sec-WebSocket-Key": key}),
        ]
        await eventually(lambda: len(ids) == 2)
        assert ids[0] == key
        assert ids[1] != key
        assert len(ids[1]) == len(key)
        for writer in requests:
            writer.transport.abort()


async def _upgrade(port: int, headers: dict[str, str]) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = ["GET /p HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    assert b"101" in await within(reader.readline())
    return writer


# --- subprotocols and channels


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [(None, None), (["other"], "other"), (["other", "tinybase"], "other"), (["tinybase", "other"], "tinybase")],
)
async def test_subprotocols(offered: Any, accepted: str | None) -> None:
    """The first one offered is taken, or none; all but `tinybase` are plain."""
    async with create_ws_server("localhost", 0) as server, raw(url_of(server), subprotocols=offered) as socket:
        assert socket.subprotocol == accepted
        await eventually(lambda: server.get_stats().connections == 1)
        assert server.get_path_ids() == ([] if accepted == "tinybase" else ["p"])


async def test_channels_and_plain_clients_meet() -> None:
    """Channel c of base b is path b/c, or c on the root; the client's id is the same on all channels."""
    async with (
        create_ws_server("localhost", 0) as server,
        mux(url_of(server, "b")) as socket,
        mux(url_of(server, "")) as root,
        raw(url_of(server, "b/c")) as plain,
    ):
        await subscribed(socket, "c")
        await subscribed(socket, "d")
        await subscribed(root, "b/c")
        assert sorted(server.get_path_ids()) == ["b/c", "b/d"]
        (client_id,) = server.get_client_ids("b/d")
        assert client_id in server.get_client_ids("b/c")
        await socket.send("M\nc\n" + diff_frame())
        body = diff_frame().removeprefix("\n")
        assert await within(plain.recv()) == f"{client_id}\n{body}"
        assert await within(root.recv()) == f"M\nb/c\n{client_id}\n{body}"
        await socket.send('S\n[null,-1,[2,"c"]]')
        await eventually(lambda: client_id not in server.get_client_ids("b/c"))
        await plain.send(diff_frame(2, hlc="Nn1JUF-----8JQY8"))
        assert "M\nb/c\n" in str(await within(root.recv()))
        await socket.send("S\n" + json.dumps(["again", -1, [1, "c"]]))
        assert "again" in str(await within(socket.recv()))


async def test_lone_surrogate_in_a_channel_id() -> None:
    """It can be written in JSON but not sent as text; frames on it are sent with a replacement, and nothing breaks."""
    async with create_ws_server("localhost", 0) as server, mux(url_of(server, "")) as socket:
        await socket.send('S\n["s",-1,[1,"\\ud800"]]')
        assert "ud800" in str(await within(socket.recv()))
        await socket.send('S\n["s",-1,[1,"c"]]')
        await within(socket.recv())


# --- bad input


@pytest.mark.parametrize(
    "frame",
    [
        "no newline",
        "\nnot json",
        '\n["r",8,""]',
        '\n["r",3,[[{}],[{"v":[1,"bad"]}],1]]',
        b"\xff\xfe\nx",
        "\n" + "[" * 10_000,
        "M\nc\nx",
    ],
)
async def test_invalid_frames(frame: str | bytes, errors: list[Exception]) -> None:
    """That socket is closed with 1007, others are not touched, and it is reported once, with path and client."""
    async with (
        create_ws_server("localhost", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as other,
        raw(url_of(server)) as bad,
    ):
        await eventually(lambda: len(server.get_client_ids("p")) == 2)
        client_id = server.get_client_ids("p")[1]
        await bad.send(frame)
        await bad.send(frame)
        assert await closed_with(bad) == (1007, "tinybase:14")
        await eventually(lambda: server.get_stats().connections == 1)
        await other.send('S\n["r",1,""]')
        assert await within(other.recv()) == 'S\n["r",0,[0,0]]'
    (error,) = errors
    assert isinstance(error, RemoteProtocolError)
    assert (error.path_id, error.client_id) == ("p", client_id)


async def test_binary_frames_are_text() -> None:
    """A binary frame of UTF-8 is read like a text frame."""
    async with create_ws_server("localhost", 0) as server, raw(url_of(server)) as socket:
        await socket.send('S\n["ü",1,""]'.encode())
        assert await within(socket.recv()) == 'S\n["ü",0,[0,0]]'


@pytest.mark.parametrize(("raw_frame", "code"), [(b"\x81\x82\0\0\0\0\xff\xff", 1007), (b"\xc3\x80\0\0\0\0", 1002)])
async def test_what_the_websocket_layer_refuses(raw_frame: bytes, code: int, errors: list[Exception]) -> None:
    """A text frame that is not UTF-8, and broken framing, are reported once as well."""
    async with (
        create_ws_server("localhost", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as socket,
    ):
        await eventually(lambda: server.get_client_ids("p"))
        socket.transport.write(raw_frame)
        assert (await closed_with(socket))[0] == code
        await eventually(lambda: server.get_stats().connections == 0)
    (error,) = errors
    assert isinstance(error, SyncError)
    assert error.path_id == "p"
    assert error.client_id
    assert str(code) in str(error)


async def test_client_that_finds_fault_with_us(errors: list[Exception]) -> None:
    """A client that closes with 1007 has got something wrong from us: that is reported, an ordinary end is not."""
    async with create_ws_server("localhost", 0, on_ignored_error=errors.append) as server:
        async with raw(url_of(server)) as socket:
            await eventually(lambda: server.get_client_ids("p"))
            await socket.close(1007, "tinybase:14")
        async with raw(url_of(server)):
            pass
        await eventually(lambda: server.get_stats().connections == 0)
    (error,) = errors
    assert "1007 tinybase:14" in str(error)


@pytest.mark.parametrize(
    ("head", "limit"), [("\n", "socket"), ("\n0123456789abcdef\n0\n2\n", "fragments"), ("S\n", "socket")]
)
async def test_frames_that_are_too_large(head: str, limit: str, errors: list[Exception]) -> None:
    """Above 16 MiB the socket is closed with 1013, as the peer does; just below, the frame is read."""
    async with (
        create_ws_server("localhost", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as just_fits,
        raw(url_of(server)) as bad,
    ):
        await just_fits.send(head + "x" * (MAX_FRAME_BYTES - len(head)))
        if limit == "socket":
            assert await closed_with(just_fits) == (1007, "tinybase:14")
        await bad.send(head + "x" * (MAX_FRAME_BYTES - len(head) + 1))
        assert await closed_with(bad) == (1013, f"tinybase:15:{limit}")
    error = errors[-1]
    assert isinstance(error, LimitExceededError)
    assert (error.limit, error.path_id) == (limit, "p")
    assert len(errors) == (2 if limit == "socket" else 1)


async def test_frames_that_are_absurdly_large() -> None:
    """The library stops reading, with 1009."""
    async with (
        create_ws_server("localhost", 0, on_ignored_error=lambda _: None) as server,
        raw(url_of(server)) as socket,
    ):
        socket.transport.write(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0")
        assert (await closed_with(socket))[0] == 1009


async def test_http_requests_get_an_answer() -> None:
    """A request that is not an upgrade is refused, not dropped."""
    async with create_ws_server("localhost", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"426" in await within(reader.readline())
        writer.transport.abort()


# --- slow readers


async def test_slow_reader_of_a_relay(errors: list[Exception]) -> None:
    """Who does not read is closed with 1013 when 16 MiB wait for it; the others go on and get everything."""
    text = "x" * 1_000_000
    writer_store, reader_store = MergeableStore(), MergeableStore()
    async with create_ws_server("localhost", 0, relay=True, on_ignored_error=errors.append) as server:
        url = url_of(server)
        async with raw(url, max_queue=1) as slow:
            await eventually(lambda: server.get_client_ids("p"))
            (slow_id,) = server.get_client_ids("p")
            async with synced(writer_store, url), synced(reader_store, url):
                number = 0
                while slow_id in server.get_client_ids("p"):
                    number += 1
                    writer_store.set_value("v", f"{number}{text}")
                    await eventually(lambda: reader_store.get_value("v") == writer_store.get_value("v"))
                    assert number < 100
                assert number >= 16
                writer_store.set_value("v", 1)
                await eventually(lambda: reader_store.get_value("v") == 1)
            assert await closed_with(slow) == (1013, "tinybase:15:socket")
        (error,) = [error for error in errors if not isinstance(error, TimeoutError)]
        assert isinstance(error, LimitExceededError)
        assert (error.limit, error.path_id, error.client_id) == ("socket", "p", slow_id)


async def test_reader_that_never_reads_again(monkeypatch: pytest.MonkeyPatch, errors: list[Exception]) -> None:
    """What it asks is answered, up to 16 MiB. It cannot even be told why it is closed, so it is cut off."""
    monkeypatch.setattr("mergesync.net.channel.CLOSE_TIMEOUT_SECONDS", 0.2)
    store = MergeableStore()
    async with (
        create_ws_server("localhost", 0, on_ignored_error=errors.append) as server,
        raw(url_of(server)) as stalled,
        synced(store, url_of(server)),
    ):
        store.set_value("v", "x" * 1_000_000)
        await eventually(lambda: server.get_stats().connections == 2)
        stalled.transport.pause_reading()
        number = 0
        while len(server.get_client_ids("p")) == 2 and number < 100:
            number += 1
            await stalled.send('S\n["r",7,{}]')
            await asyncio.sleep(0.01)
        await eventually(lambda: server.get_stats().connections == 1)
        stalled.transport.abort()


# --- listening


async def test_awaited_server_and_its_port() -> None:
    """Awaited, it listens; destroyed, its port is free again, though still told."""
    server = await create_ws_server("127.0.0.1", 0)
    port = server.port
    with pytest.raises(OSError, match=f"port {port}"):
        await create_ws_server("127.0.0.1", port)
    serving = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert not serving.done()
    await server.destroy()
    await within(serving)
    async with create_ws_server("127.0.0.1", port) as again:
        assert again.port == port == server.port


async def test_several_addresses_share_a_port() -> None:
    """A name with an IPv4 and an IPv6 address listens on one port, also if any port will do."""
    async with create_ws_server(["127.0.0.1", "::1"], 0) as server:
        for host in ("127.0.0.1", "[::1]"):
            async with raw(f"ws://{host}:{server.port}/p") as socket:
                await socket.send('S\n["r",1,""]')
                assert await within(socket.recv())


async def test_address_that_is_not_there() -> None:
    """It is passed over if there are others, and an error if there are none."""
    async with create_ws_server(["127.0.0.1", "2001:db8::1"], 0) as server, raw(url_of(server)):
        pass
    with pytest.raises(OSError, match="2001:db8::1"):
        await create_ws_server("2001:db8::1", 0)


async def test_server_listens_once() -> None:
    """The same object cannot be awaited twice."""
    creating = create_ws_server("localhost", 0)
    async with creating:
        with pytest.raises(RuntimeError, match="already"):
            await creating


async def test_socket_of_ones_own() -> None:
    """`serve_options` may bring a socket, and ports may be shared by processes."""
    with socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        async with create_ws_server(serve_options={"sock": ours}) as server:
            assert server.port == ours.getsockname()[1]
            async with raw(url_of(server)):
                pass
    shared: Any = {"serve_options": {"reuse_port": True}}
    async with (
        create_ws_server("127.0.0.1", 0, **shared) as one,
        create_ws_server("127.0.0.1", one.port, **shared) as two,
    ):
        assert one.port == two.port


async def test_close_codes_that_cannot_be_sent() -> None:
    """They are refused at the call, and nothing is destroyed."""
    async with create_ws_server("localhost", 0) as server:
        for code, reason in ((1005, ""), (999, ""), (5000, ""), (1012, "x" * 124)):
            with pytest.raises(ValueError, match="close"):
                await server.destroy(code, reason)
        async with raw(url_of(server)) as client:
            destroying = asyncio.create_task(server.destroy(4000, "ü" * 61))
            assert await closed_with(client) == (4000, "ü" * 61)
            await within(destroying)


async def test_a_join_costs_few_frames() -> None:
    """With 100 clients on a path and data on both sides, one more brings at most 8 frames out, besides its news."""
    newcomer = pet("felix")
    async with (
        create_ws_server("localhost", 0) as server,
        contextlib.AsyncExitStack() as stack,
        synced(pet("fido"), url_of(server)),
    ):
        for _ in range(99):
            await stack.enter_async_context(raw(url_of(server), ping_interval=None))
        await eventually(lambda: server.get_stats().clients == 100)
        sends = server.get_stats().sends
        async with synced(newcomer, url_of(server)):
            await eventually(lambda: server.get_stats().sends - sends > 100)
            assert newcomer.get_row_ids("pets") == ["fido", "felix"] or newcomer.has_row("pets", "fido")
            assert server.get_stats().sends - sends <= 100 + 8


async def test_serve_options() -> None:
    """What `websockets.serve` offers is there, such as a check before the handshake."""

    def refuse(connection: Any, request: Any) -> Any:
        return connection.respond(403, "no")

    async with create_ws_server("localhost", 0, serve_options={"process_request": refuse}) as server:
        with pytest.raises(InvalidStatus, match="403"):
            await connect(url_of(server))


async def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name}"
    arguments = [
        *command.split(),
        *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
    ]
    await asyncio.to_thread(subprocess.run, arguments, check=True, capture_output=True)
    return certificate, key


async def test_tls(tmp_path: Path, leftovers: Leftovers) -> None:
    """`tls` or `ssl_context` serves wss, for clients with a context that trusts it, in a version that is safe."""
    certificate, key = await make_certificate(tmp_path, "one")
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate, key)
    theirs = ssl.create_default_context(cafile=str(certificate))
    served: list[dict[str, Any]] = [{"ssl_context": ours}, {"tls": (certificate, key)}, {"tls": str(both)}]
    for options in served:
        fido, felix = pet("fido"), pet("felix")
        async with create_ws_server("localhost", 0, **options) as server:
            url = f"wss://localhost:{server.port}/p"
            connecting = {"connect_options": {"ssl": theirs}}
            async with synced(fido, url, **connecting), synced(felix, url, **connecting):
                await eventually(lambda: same_content(fido, felix))  # noqa: B023 - it is over before the next
                fido.set_value("long", "x" * 3_000_000)
                await eventually(lambda: same_content(fido, felix))  # noqa: B023
    assert Certificate((certificate, key)).context.minimum_version is ssl.TLSVersion.TLSv1_2
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_a_certificate_is_read_again(tmp_path: Path, leftovers: Leftovers) -> None:
    """Who comes later sees the new one, who is there stays; one that cannot be used changes nothing."""
    certificate, key = await make_certificate(tmp_path, "one")
    newer, newer_key = await make_certificate(tmp_path, "two")
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.load_verify_locations(str(newer))

    def shown(connection: Any) -> str:
        return str(connection.transport.get_extra_info("peercert")["subject"][0][0][1])

    async with create_ws_server("localhost", 0, tls=(certificate, key)) as server:
        url = f"wss://localhost:{server.port}/p"
        async with raw(url, ssl=trusting) as first:
            certificate.write_text("nonsense")
            with pytest.raises(ssl.SSLError):
                server.reload_certificate()
            certificate.write_text(newer.read_text())
            with pytest.raises(ssl.SSLError):  # the key of another
                server.reload_certificate()
            async with raw(url, ssl=trusting) as second:
                assert (shown(first), shown(second)) == ("one", "one")
            key.write_text(newer_key.read_text())
            server.reload_certificate()
            async with raw(url, ssl=trusting) as third:
                assert shown(third) == "two"
            await first.send(diff_frame())
            await eventually(lambda: server.get_stats().receives == 1)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_certificates_that_are_none(tmp_path: Path) -> None:
    """They are refused before anybody listens."""
    with pytest.raises(OSError, match="No such file"):
        create_ws_server("localhost", 0, tls=tmp_path / "missing.pem")
    with pytest.raises(ValueError, match="exclude"):
        create_ws_server("localhost", 0, tls="cert.pem", ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    async with create_ws_server("localhost", 0) as server:
        with pytest.raises(ValueError, match="no certificate"):
            server.reload_certificate()
