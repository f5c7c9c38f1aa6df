"""`WsServer` without a port of its own: beside other handlers, in Starlette, FastAPI and other ASGI apps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.server import serve

from mergesync import MergeableStore, RemoteProtocolError, WsServer
from mergesync.net.mounting import target_below_mount
from tests.support import eventually, same_content, within
from tests.unit.net.kit import asgi_app, closed_with, diff_frame, mux, pet, raw, subscribed, synced, uvicorn_port

pytestmark = pytest.mark.usefixtures("leftovers")

_legacy = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::uvicorn.config.UvicornDeprecationWarning")
_servers = ["websockets-sansio", "wsproto", pytest.param("websockets", marks=_legacy)]
EVERY_SERVER = pytest.mark.parametrize("ws", _servers, ids=["sansio", "wsproto", "legacy"])


# --- websockets


async def test_beside_other_handlers() -> None:
    """`handler` serves the connections it is given, and `serve_options` is what the protocol needs."""
    ws_server = WsServer()

    async def route(connection: Any) -> None:
        if connection.request.path.startswith("/echo"):
            await connection.send(await connection.recv())
        else:
            await ws_server.handler(connection)

    store, other = pet("fido"), pet("felix")
    async with ws_server, serve(route, "127.0.0.1", 0, **ws_server.serve_options) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with raw(f"{url}/echo") as socket, mux(url) as channels, synced(store, f"{url}/p"):
            await socket.send("hello")
            assert await within(socket.recv()) == "hello"
            await subscribed(channels, "p")
            async with synced(other, f"{url}/p"):
                await eventually(lambda: same_content(store, other))
            assert ws_server.get_path_ids() == ["p"]


# --- ASGI servers


@EVERY_SERVER
async def test_starlette(ws: str) -> None:
    """Two clients converge, one of them with a long text, and leave."""
    ws_server = WsServer()
    fido, felix = pet("fido"), pet("felix")
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        url = f"ws://127.0.0.1:{port}/sync/p"
        async with synced(fido, url), synced(felix, url):
            await eventually(lambda: same_content(fido, felix))
            fido.set_value("long", "ü" * 3_000_000)
            await eventually(lambda: same_content(fido, felix))
            assert ws_server.get_path_ids() == ["p"]
        await eventually(lambda: ws_server.get_stats().connections == 0)


async def test_fastapi() -> None:
    """`app.mount` beside routes of the app."""
    from fastapi import FastAPI

    ws_server = WsServer()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with ws_server:
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/sync", ws_server.asgi)

    @app.get("/hello")
    async def hello() -> str:
        return "hello"

    store, other = pet("fido"), pet("felix")
    async with uvicorn_port(app) as port:
        url = f"ws://127.0.0.1:{port}/sync/a/b"
        async with synced(store, url), synced(other, url):
            await eventually(lambda: same_content(store, other))
            assert ws_server.get_path_ids() == ["a/b"]
            async with httpx.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/hello")).json() == "hello"
                assert (await client.get(url.replace("ws:", "http:"))).status_code == 426


@EVERY_SERVER
async def test_invalid_frames(ws: str, errors: list[Exception]) -> None:
    """Closed with 1007 and the peer's reason, others untouched, reported once."""
    ws_server = WsServer(on_ignored_error=errors.append)
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        url = f"ws://127.0.0.1:{port}/sync/p"
        async with raw(url) as other, raw(url) as bad:
            await eventually(lambda: len(ws_server.get_client_ids("p")) == 2)
            await bad.send("bad")
            assert await closed_with(bad) == (1007, "tinybase:14")
            await other.send(b'S\n["r",1,""]')
            assert await within(other.recv()) == 'S\n["r",0,[0,0]]'
    (error,) = errors
    assert isinstance(error, RemoteProtocolError)
    assert (error.path_id, bool(error.client_id)) == ("p", True)


@EVERY_SERVER
async def test_destroying(ws: str) -> None:
    """Clients are told; those who come later are turned away with the same code."""
    ws_server = WsServer()
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        url = f"ws://127.0.0.1:{port}/sync/p"
        async with raw(url) as socket:
            await eventually(lambda: ws_server.get_client_ids("p"))
            destroying = asyncio.create_task(ws_server.destroy(1012, "restart"))
            assert await closed_with(socket) == (1012, "restart")
            await within(destroying)
            assert ws_server.get_stats().connections == 0
        async with raw(url) as late:
            assert await closed_with(late) == (1012, "restart")


@EVERY_SERVER
async def test_end_of_the_asgi_server(ws: str) -> None:
    """When the ASGI server stops, its clients are gone and nothing is left."""
    ws_server = WsServer()
    async with contextlib.AsyncExitStack() as stack:
        async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
            socket = await stack.enter_async_context(raw(f"ws://127.0.0.1:{port}/sync/p"))
            await eventually(lambda: ws_server.get_client_ids("p"))
        assert (await closed_with(socket))[0] in (1001, 1012)
    assert ws_server.get_stats().connections == 0


@EVERY_SERVER
async def test_slow_reader(ws: str, errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks and does not read is given up when 16 MiB wait for it; the others go on."""
    monkeypatch.setattr("mergesync.net.channel.CLOSE_TIMEOUT_SECONDS", 0.2)
    ws_server = WsServer(on_ignored_error=errors.append)
    store, reader = MergeableStore(), MergeableStore()
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        url = f"ws://127.0.0.1:{port}/sync/p"
        async with raw(url) as slow, synced(store, url), synced(reader, url):
            slow.transport.pause_reading()
            (slow_id, *_) = ws_server.get_client_ids("p")
            store.set_value("v", "x" * 1_000_000)
            number = 0
            while slow_id in ws_server.get_client_ids("p"):
                number += 1
                await slow.send('S\n["r",7,{}]')
                store.set_value("w", number)
                await eventually(lambda: same_content(store, reader))
                assert number < 100
            await eventually(lambda: ws_server.get_stats().connections == 2)
            slow.transport.abort()
    assert [getattr(error, "limit", None) for error in errors] == ["socket"]


async def test_subprotocols() -> None:
    """The first one offered is accepted, and `tinybase` carries channels."""
    ws_server = WsServer()
    async with uvicorn_port(asgi_app(ws_server, "/sync")) as port:
        url = f"ws://127.0.0.1:{port}/sync/base"
        async with mux(url) as socket, raw(url, subprotocols=["x", "y"]) as plain, raw(url) as none:
            assert (plain.subprotocol, none.subprotocol) == ("x", None)
            await subscribed(socket, "c")
            assert sorted(ws_server.get_path_ids()) == ["base", "base/c"]


# --- what follows the mount point


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
@pytest.mark.parametrize("root_path", ["", "/behind"])
async def test_paths_below_a_mount(ws: str, root_path: str) -> None:
    """The path id is what follows the mount point, encoded as it came, whatever stands in front."""
    ws_server = WsServer()
    app = asgi_app(ws_server, "/a b/{tenant}", nested="/outer")
    expected = {
        "p": "p",
        "": "",
        "a%20b": "a%20b",
        "team%2Fa/x": "team%2Fa/x",
        "%E2%82%AC?query=%2F": "%E2%82%AC",
        "x/x/x/": "x/x/x/",
        "%ff": "%ff",
    }
    async with uvicorn_port(app, ws, root_path=root_path) as port:
        for path, path_id in expected.items():
            async with raw(f"ws://127.0.0.1:{port}/outer/a%20b/caf%C3%A9/{path}"):
                await eventually(lambda: ws_server.get_path_ids() == [path_id])  # noqa: B023
            await eventually(lambda: ws_server.get_path_ids() == [])


@pytest.mark.parametrize(
    ("path", "raw_path", "root_path", "target"),
    [
        ("/sync/p", b"/sync/p", "/sync", "/p"),
        ("/sync/p", b"/sync/p", "/sync/", "/p"),
        ("/sync/", b"/sync/", "/sync", "/"),
        ("/sync", b"/sync", "/sync", ""),
        ("/sync/a b", b"/sync/a%20b?x", "/sync", "/a%20b"),
        ("/sync/a b", b"/a%20b", "/sync", "/a%20b"),  # raw_path without root_path
        ("/a b", b"/a%20b", "/sync", "/a%20b"),  # neither has root_path
        ("/sync/sync/a b", b"/sync/a%20b", "/sync", "/sync/a%20b"),
        ("/sync/sync/p", b"/sync/p", "/sync", "/sync/p"),
        ("/syncopate", b"/syncopate", "/sync", "/syncopate"),  # not below it
        ("/x y/a/b", b"/x%20y/a%2Fb", "/x y", "/a%2Fb"),
        ("/sync/a b", None, "/sync", "/a%20b"),
        ("/sync/a%b", b"/elsewhere", "/sync", "/a%25b"),
        ("/sync//", b"/sync//", "/sync", "//"),
        ("/p", b"/p", "", "/p"),
    ],
)
def test_target_below_mount(path: str, raw_path: bytes | None, root_path: str, target: str) -> None:
    """Servers and frameworks differ in what they say; the path id does not."""
    scope = {"path": path, "root_path": root_path} | ({} if raw_path is None else {"raw_path": raw_path})
    assert target_below_mount(scope) == target


def test_long_hostile_path() -> None:
    """A path of slashes and escapes costs no more than its length asks for."""
    path = "/%2f" * 15_000
    scope = {"path": "/sync" + "//" * 15_000, "raw_path": f"/sync{path}".encode(), "root_path": "/sync"}
    assert target_below_mount(scope) == path


# --- the ASGI interface itself


@pytest.mark.filterwarnings("ignore:Using `httpx`")
def test_test_client() -> None:
    """Starlette's TestClient sends the same key for every connection; they are different clients all the same."""
    from starlette.testclient import TestClient

    ws_server = WsServer()
    with TestClient(asgi_app(ws_server, "/sync")) as client:
        assert client.get("/sync/p").status_code == 426
        with client.websocket_connect("/sync/p") as one, client.websocket_connect("/sync/p") as two:
            two.send_text('S\n["r",1,""]')
            assert two.receive_text() == 'S\n["r",0,[0,0]]'
            assert len(set(ws_server.get_client_ids("p"))) == 2
            one.send_text(diff_frame())
            assert two.receive_text().endswith(diff_frame())
            two.send_text("bad")
            assert two.receive() == {"type": "websocket.close", "code": 1007, "reason": "tinybase:14"}
        with client.websocket_connect("/sync/p", subprotocols=["tinybase"]) as channels:
            assert channels.accepted_subprotocol == "tinybase"


class _Asgi:
    """One ASGI connection, played by hand."""

    def __init__(self, ws_server: WsServer, **scope: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.send_trouble: Exception | None = None
        self.stalled = False
        self.incoming.put_nowait({"type": "websocket.connect"})
        scope = {"type": "websocket", "path": "/p", "headers": [], **scope}
        self.task = asyncio.create_task(ws_server.asgi(scope, self.incoming.get, self._send))

    async def _send(self, message: Any) -> None:
        if self.send_trouble is not None:
            raise self.send_trouble
        if self.stalled:
            await asyncio.Event().wait()
        self.sent.append(message)

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})


async def test_server_that_does_not_tell_that_it_closed() -> None:
    """After we close, not every server says so again; the app returns all the same."""
    async with WsServer(on_ignored_error=lambda _: None) as ws_server:
        connection = _Asgi(ws_server)
        connection.say("bad")
        await within(connection.task)
        assert connection.sent[-1] == {"type": "websocket.close", "code": 1007, "reason": "tinybase:14"}


async def test_scope_with_the_least() -> None:
    """Without raw path, client, headers and reasons, as the specification allows."""
    async with WsServer() as ws_server:
        connection = _Asgi(ws_server)
        connection.say('S\n["r",1,""]')
        await eventually(lambda: len(connection.sent) == 2)
        assert connection.sent[1] == {"type": "websocket.send", "text": 'S\n["r",0,[0,0]]'}
        connection.incoming.put_nowait({"type": "websocket.disconnect"})
        await within(connection.task)


async def test_lone_surrogates_are_not_sent() -> None:
    """No server could encode them."""
    async with WsServer() as ws_server:
        connection = _Asgi(ws_server, subprotocols=["tinybase"])
        connection.say('S\n["h",-1,[0,1]]')
        connection.say('S\n["s",-1,[1,"\\ud800"]]')
        connection.say('M\n\ud800\nS\n["r",1,""]')
        await eventually(lambda: len(connection.sent) == 4)
        assert connection.sent[-1]["text"] == 'M\n\ufffd\nS\n["r",0,[0,0]]'
        connection.incoming.put_nowait({"type": "websocket.disconnect"})
        await within(connection.task)


async def test_sending_fails() -> None:
    """The other side is gone, which the server tells next; nothing is queued for it meanwhile."""
    async with WsServer() as ws_server:
        connection = _Asgi(ws_server)
        await eventually(lambda: ws_server.get_client_ids("p"))
        connection.send_trouble = OSError("gone")
        for _ in range(2):
            connection.say('S\n["r",1,""]')
            await eventually(connection.incoming.empty)
        connection.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await within(connection.task)


async def test_cancelled_by_the_server() -> None:
    """A server that cancels the app, even twice, leaves nothing behind, and the client is off its path."""
    async with WsServer() as ws_server:
        for stalled in (False, True):
            connection = _Asgi(ws_server)
            await eventually(lambda: ws_server.get_client_ids("p"))
            connection.stalled = stalled
            connection.task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if stalled:
                connection.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(connection.task)
            assert ws_server.get_stats().connections == 0
            assert ws_server.get_path_ids() == []


async def test_gone_before_it_began() -> None:
    """A connection that is gone before it is accepted is no client."""
    async with WsServer() as ws_server:
        connection = _Asgi(ws_server)
        connection.incoming.get_nowait()
        connection.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await within(connection.task)
        assert connection.sent == []


async def test_other_kinds_of_scopes() -> None:
    """Anything but WebSocket and HTTP is refused as the specification asks, by raising."""
    with pytest.raises(RuntimeError, match="lifespan"):
        await WsServer().asgi({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
