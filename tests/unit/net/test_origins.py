"""Which pages may open sockets: the rule as a table, and at each door of a server."""

from __future__ import annotations

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from mergesync import RefusedConnectionError, WsServer, create_ws_server
from mergesync.net.origins import check_origins, origin_is_allowed
from tests.support import eventually, within
from tests.unit.net.kit import asgi_app, closed_with, raw, uvicorn_port
from tests.unit.net.test_mounts import EVERY_SERVER

pytestmark = pytest.mark.usefixtures("leftovers")

NAMED = ("https://app.example.org", "http://localhost:5173", "https://xn--bcher-kva.example", "tauri://localhost")

# origin, host, whether by wss, whether it may
TABLE: list[tuple[str | None, str | None, bool, bool]] = [
    # no browser
    (None, "example.org", True, True),
    (None, None, False, True),
    # its own pages
    ("https://example.org", "example.org", True, True),
    ("https://example.org", "example.org:443", True, True),
    ("https://example.org:8443", "example.org:8443", True, True),
    ("http://example.org", "example.org", False, True),
    ("http://example.org", "example.org:80", False, True),
    ("http://127.0.0.1:8047", "127.0.0.1:8047", False, True),
    ("http://[::1]:8047", "[::1]:8047", False, True),
    ("https://[::1]", "[::1]", True, True),
    ("https://example.org", "EXAMPLE.org", True, True),
    ("https://example.org", "example.org", False, True),  # TLS ends at a proxy
    ("https://xn--bcher-kva.example", "xn--bcher-kva.example", True, True),
    ("https://example.org.", "example.org.", True, True),
    # no host
    ("https://example.org", None, True, False),
    ("https://example.org", "", True, False),
    # nobody's
    ("null", "example.org", False, False),
    ("null", "null", False, False),
    ("", "example.org", False, False),
    ("", "", False, False),
    ("file://", "example.org", False, False),
    ("*", "example.org", False, False),
    # other host
    ("https://evil.example", "example.org", True, False),
    ("https://www.example.org", "example.org", True, False),
    ("https://example.org", "www.example.org", True, False),
    ("http://localhost:8047", "127.0.0.1:8047", False, False),
    # look-alikes
    ("https://example.org.evil.example", "example.org", True, False),
    ("https://evilexample.org", "example.org", True, False),
    ("https://example.orgevil", "example.org", True, False),
    ("https://example.org@evil.example", "example.org", True, False),
    ("https://evil.example/example.org", "example.org", True, False),
    ("https://evil.example#example.org", "example.org", True, False),
    ("https://evil.example?example.org", "example.org", True, False),
    ("https://evil.example\\example.org", "example.org", True, False),
    ("https://app-example.org", "example.org", True, False),
    ("https://appxexample.org", "example.org", True, False),
    ("https://app.example.org.evil.example", "example.org", True, False),
    # other port
    ("https://example.org:444", "example.org", True, False),
    ("http://localhost:5174", "localhost:8047", False, False),
    ("http://example.org:443", "example.org", True, False),
    ("http://example.org", "example.org:8080", False, False),
    ("https://example.org", "example.org:8443", True, False),
    # other scheme
    ("http://example.org", "example.org", True, False),
    ("http://example.org", "example.org:443", False, False),
    ("https://example.org", "example.org:80", False, False),
    ("ftp://example.org", "example.org", False, False),
    ("wss://example.org", "example.org", True, False),
    ("chrome-extension://example.org", "example.org", False, False),
    ("http://app.example.org", "example.org", False, False),
    ("https://localhost:5173", "example.org", True, False),
    # otherwise spelled than browsers do
    ("HTTPS://example.org", "example.org", True, False),
    ("https://EXAMPLE.org", "example.org", True, False),
    ("https://example.org/", "example.org", True, False),
    (" https://example.org", "example.org", True, False),
    ("https://example.org\n", "example.org", True, False),
    ("example.org", "example.org", True, False),
    ("//example.org", "example.org", True, False),
    ("https://", "", True, False),
    ("https://bücher.example", "bücher.example", True, False),
    ("https://xn--bcher-kva.example.", "xn--bcher-kva.example", True, False),
    ("https://example.org.", "example.org", True, False),
    ("https://example.org", "example.org.", True, False),
    # lists
    ("https://example.org https://evil.example", "example.org", True, False),
    ("https://evil.example https://example.org", "example.org", True, False),
    ("https://example.org, https://evil.example", "example.org", True, False),
    ("https://app.example.org https://example.org", "example.org", True, False),
    # named
    ("https://app.example.org", "example.org", True, True),
    ("https://app.example.org", "example.org", False, True),
    ("http://localhost:5173", "localhost:8047", False, True),
    ("http://localhost:5173", None, False, True),
    ("https://xn--bcher-kva.example", "example.org", True, True),
    ("tauri://localhost", "example.org", True, True),
    ("https://app.example.org.", "example.org", True, False),
    ("https://app.example.org:443", "example.org", True, False),
    ("https://APP.example.org", "example.org", True, False),
]


@pytest.mark.parametrize(("origin", "host", "secure", "allowed"), TABLE)
def test_table(origin: str | None, host: str | None, secure: bool, allowed: bool) -> None:
    """Only the very same scheme, host and port pass, and whoever says none."""
    assert origin_is_allowed(origin, host, secure=secure, allowed=check_origins(NAMED)) is allowed


@pytest.mark.parametrize("origin", [row[0] for row in TABLE])
def test_all(origin: str | None) -> None:
    """An asterisk lets everybody in."""
    assert origin_is_allowed(origin, "server.example", secure=True, allowed=check_origins(["*"]))


def test_null_by_name() -> None:
    """A page of a file is let in where that is asked for."""
    assert origin_is_allowed("null", "example.org", secure=False, allowed=check_origins(["null"]))


@pytest.mark.parametrize(
    "origin",
    [
        *("example.org", "https://example.org/", "https://Example.org", "https://example.org:443", "http://a:80"),
        *("https://bücher.example", "https://*.example.org", "", "https://example.org:123456", "https://a b"),
    ],
)
def test_named_as_no_browser_does(origin: str) -> None:
    """It would never match, so it is refused at once."""
    with pytest.raises(ValueError, match="not an origin"):
        WsServer(origins=[origin])


def test_one_text() -> None:
    """A text would be taken for its letters."""
    with pytest.raises(TypeError, match="collection"):
        create_ws_server(origins="https://example.org")


async def _check_door(url: str, own: str, errors: list[Exception]) -> None:
    """Strangers get 403, the server's own pages and those that are named get in, as does who says no origin."""
    for origin in ("https://evil.example", "null", own.replace("http:", "https:") + "0"):
        with pytest.raises(InvalidStatus) as refused:
            async with raw(url, additional_headers={"Origin": origin}):
                pass
        assert refused.value.response.status_code == 403
        error = errors.pop()
        assert isinstance(error, RefusedConnectionError)
        assert repr(origin) in str(error)
    for headers in ({}, {"Origin": own}, {"Origin": "https://app.example.org"}):
        async with raw(url, additional_headers=headers) as socket:
            await socket.send('S\n["r",1,""]')
            assert await within(socket.recv()) == 'S\n["r",0,[0,0]]'
    with pytest.raises(InvalidStatus):
        async with raw(url, additional_headers={"Origin": own, "X-Forwarded-Proto": "https"}):
            pass
    errors.clear()


async def test_own_port(errors: list[Exception]) -> None:
    """Before the upgrade, and before what an application answers to requests."""
    asked = []
    options = {"process_request": lambda _, request: asked.append(request.path)}
    async with create_ws_server(
        "127.0.0.1", 0, origins=["https://app.example.org"], on_ignored_error=errors.append, serve_options=options
    ) as server:
        await _check_door(f"ws://127.0.0.1:{server.port}/p", f"http://127.0.0.1:{server.port}", errors)
    assert asked == ["/p"] * 3


async def test_beside_other_handlers(errors: list[Exception]) -> None:
    """With `serve_options`; where an application replaces them, the handler closes the socket."""
    ws_server = WsServer(origins=["https://app.example.org"], on_ignored_error=errors.append)
    async with ws_server, serve(ws_server.handler, "127.0.0.1", 0, **ws_server.serve_options) as listening:
        port = listening.sockets[0].getsockname()[1]
        await _check_door(f"ws://127.0.0.1:{port}/p", f"http://127.0.0.1:{port}", errors)
    async with ws_server, serve(ws_server.handler, "127.0.0.1", 0) as listening:
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/p"
        async with raw(url, additional_headers={"Origin": "https://evil.example"}) as socket:
            assert await closed_with(socket) == (
                1008,
                "pages of the origin 'https://evil.example' may not open sockets",
            )
    assert [type(error) for error in errors] == [RefusedConnectionError]


@EVERY_SERVER
async def test_asgi(ws: str, errors: list[Exception]) -> None:
    """Before the socket is accepted."""
    ws_server = WsServer(origins=["https://app.example.org"], on_ignored_error=errors.append)
    async with uvicorn_port(asgi_app(ws_server, "/sync"), ws) as port:
        await _check_door(f"ws://127.0.0.1:{port}/sync/p", f"http://127.0.0.1:{port}", errors)


async def test_asgi_server_that_cannot_say_why(errors: list[Exception]) -> None:
    """Closed before it is accepted, which is 403 as well; by wss a page of plain http is another origin."""
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        sent.append(message)

    async with WsServer(on_ignored_error=errors.append) as ws_server:
        headers = [(b"origin", b"http://example.org"), (b"host", b"example.org")]
        scope = {"type": "websocket", "path": "/p", "scheme": "wss", "headers": headers}
        await within(ws_server.asgi(scope, receive, send))
    assert sent == [{"type": "websocket.close"}]
    assert len(errors) == 1


async def test_several_origins_in_one_request(errors: list[Exception]) -> None:
    """No browser sends two, so neither counts."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        own = f"http://127.0.0.1:{server.port}"
        with pytest.raises(InvalidStatus) as refused:
            async with raw(f"ws://127.0.0.1:{server.port}/p", additional_headers=[("Origin", own), ("Origin", own)]):
                pass
        assert refused.value.response.status_code == 403
        await eventually(lambda: len(errors) == 1)
