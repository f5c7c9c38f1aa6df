"""`WsServer`: paths for clients, on a port of its own, beside other `websockets` handlers, or inside an ASGI app."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from websockets.asyncio.server import Server as WebsocketsServer
from websockets.asyncio.server import ServerConnection as WebsocketsConnection
from websockets.asyncio.server import serve

from mergesync.exceptions import SyncError
from mergesync.limits import DEFAULT_REQUEST_TIMEOUT_SECONDS, MAX_READ_BYTES
from mergesync.net.channel import AsgiChannel, AsgiReceive, AsgiScope, AsgiSend, WebsocketsChannel
from mergesync.net.path import CreatePersisterForPath
from mergesync.net.switchboard import CLOSE_GOING_AWAY, ClientInfo, Switchboard
from mergesync.system import new_id
from mergesync.types import NewId

__all__ = ["ClientInfo", "ListeningWsServer", "ServerStats", "WsServer", "create_ws_server"]

_logger = logging.getLogger("mergesync")

PathIdsListener: TypeAlias = Callable[..., object]
ClientIdsListener: TypeAlias = Callable[..., object]


@dataclass(frozen=True, slots=True)
class ServerStats:
    """How much there is.

    Attributes:
        paths: paths with clients.
        clients: clients on them; one that is on two paths counts twice.
        connections: sockets.
        sends: frames sent.
        receives: frames received.
    """

    paths: int
    clients: int
    connections: int
    sends: int
    receives: int


def select_subprotocol(_: object, offered: Iterable[Any]) -> Any:
    """The first subprotocol a client offers, as the peer's server does; None if it offers none."""
    return next(iter(offered), None)


class WsServer:
    """Synchronizes the clients of each path, and keeps a replica of each path's store.

    It has no socket of its own: give `handler` to `websockets.serve`, mount `asgi` in Starlette or FastAPI, or use
    `create_ws_server`. Enter it, or call `destroy` in the end, so that everything is stored.

    Args:
        create_persister_for_path: `(path_id) -> persister, (persister, then) or None`, or an awaitable of these, called
            when the first client of a path comes. `then(store)`, also possibly async, is called once the store is
            loaded. None: paths live in memory while they have clients.
        relay: be a switchboard between clients, as TinyBase's server is, instead of answering for them.
        request_timeout_seconds: how long the server waits for a client's answer.
        fragment_size: bytes of message text per fragment sent; None for no fragments (clients before 9.2 cannot join
            them).
        on_connection: called with a `ClientInfo` for each socket, before any of its frames is read; may be async.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.

    Example:
        ws_server = WsServer()
        async with ws_server, websockets.serve(ws_server.handler, "localhost", 8047, **ws_server.serve_options):
            ...
    """

    def __init__(
        self,
        create_persister_for_path: CreatePersisterForPath | None = None,
        *,
        relay: bool = False,
        request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
        fragment_size: float | None = None,
        on_connection: Callable[[ClientInfo], Any] | None = None,
        on_ignored_error: Callable[[Exception], Any] | None = None,
    ) -> None:
        self.create_persister_for_path = create_persister_for_path
        self.relay = relay
        self.request_timeout_seconds = request_timeout_seconds
        self.fragment_size = fragment_size
        self.new_id: NewId = new_id
        self._on_ignored_error = on_ignored_error
        self._listeners: dict[str, tuple[str, str | None, Callable[..., object]]] = {}
        self._next_listener_id = 0
        self._switchboard = Switchboard(self, report=self._report, tell=self._tell, on_connection=on_connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy()

    # --- what there is

    def get_path_ids(self) -> list[str]:
        """The paths that have clients."""
        return list(self._switchboard.on_path)

    def get_client_ids(self, path_id: str) -> list[str]:
        """The clients of a path."""
        return list(self._switchboard.on_path.get(path_id, ()))

    def get_stats(self) -> ServerStats:
        """How many paths, clients and frames."""
        board = self._switchboard
        clients = sum(map(len, board.on_path.values()))
        return ServerStats(len(board.on_path), clients, board.connections, board.sends, board.receives)

    def add_path_ids_listener(self, listener: PathIdsListener) -> str:
        """Listen to paths: `listener(server, path_id, change)`, with 1 when the first client comes, -1 after the last.

        Returns:
            An id for `del_listener`.
        """
        return self._add_listener("path", None, listener)

    def add_client_ids_listener(self, path_id: str | None, listener: ClientIdsListener) -> str:
        """Listen to the clients of a path, or of all if it is None: `listener(server, path_id, client_id, change)`."""
        return self._add_listener("client", path_id, listener)

    def del_listener(self, listener_id: str) -> Self:
        """Remove a listener; an unknown id does nothing."""
        self._listeners.pop(listener_id, None)
        return self

    def _add_listener(self, kind: str, path_id: str | None, listener: Callable[..., object]) -> str:
        listener_id = str(self._next_listener_id)
        self._next_listener_id += 1
        self._listeners[listener_id] = (kind, path_id, listener)
        return listener_id

    def _tell(self, kind: str, path_id: str, *arguments: Any) -> None:
        for wanted_kind, wanted_path, listener in list(self._listeners.values()):
            if wanted_kind == kind and wanted_path in (None, path_id):
                try:
                    listener(self, path_id, *arguments)
                except Exception as error:
                    self._report(error)

    # --- doors

    @property
    def serve_options(self) -> dict[str, Any]:
        """What `websockets.serve` must be told for this protocol."""
        return {
            "select_subprotocol": select_subprotocol,
            "max_size": MAX_READ_BYTES,
            "compression": None,
        }

    async def handler(self, connection: WebsocketsConnection) -> None:
        """Serve one connection of the `websockets` library; pass it to `websockets.serve` with `serve_options`."""
        request = connection.request
        target = "/" if request is None else request.path
        key = "" if request is None else request.headers.get("Sec-WebSocket-Key", "")
        await self._switchboard.serve(WebsocketsChannel(connection), target, key, connection.subprotocol)

    async def asgi(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve WebSockets as an ASGI app: `Mount("/sync", app=ws_server.asgi)`.

        The path id is what follows the mount point, percent-encoded as the client sent it.
        """
        if scope["type"] != "websocket":
            raise RuntimeError(f"mergesync serves only websockets, not {scope['type']!r}")
        if (await receive())["type"] != "websocket.connect":
            return
        subprotocol = select_subprotocol(None, scope.get("subprotocols", ()))
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        channel = AsgiChannel(scope, receive, send)
        key = channel.headers.get("sec-websocket-key", "")
        await self._switchboard.serve(channel, _asgi_target(scope), key, subprotocol)

    async def destroy(self, code: int = CLOSE_GOING_AWAY, reason: str = "") -> None:
        """Close all clients, store everything, and leave no task, socket or timer. May be called again.

        Args:
            code: what the clients are told; 1012 for a restart.
            reason: likewise.
        """
        await self._switchboard.destroy(code, reason)
        self._listeners.clear()

    def _report(self, error: Exception) -> None:
        if self._on_ignored_error is None:
            _logger.warning("%s: %s", type(error).__name__, error, exc_info=_unexpected(error))
            return
        try:
            self._on_ignored_error(error)
        except Exception:
            _logger.exception("on_ignored_error failed")


def _unexpected(error: Exception) -> Exception | None:
    """Give a traceback of what is not a peer's mistake."""
    return None if isinstance(error, SyncError) else error


def _asgi_target(scope: AsgiScope) -> str:
    """What of the request target follows the mount point, percent-encoded as the client sent it."""
    raw_path = scope.get("raw_path")
    path = raw_path.decode("latin-1").partition("?")[0] if raw_path else str(scope["path"])
    root = str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


class create_ws_server:  # noqa: N801 - spelled in lower case because it is called like a function
    """A `WsServer` on a port of its own: `server = await create_ws_server(...)` or `async with create_ws_server(...)`.

    Args:
        host: where to listen.
        port: 0 for a free one, see `server.port`.
        create_persister_for_path: see `WsServer`.
        ssl_context: serve wss with this.
        serve_options: passed to `websockets.serve`.
        options: passed to `WsServer`.

    Example:
        async with create_ws_server("localhost", 8047, sqlite_persisters("data.db")) as server:
            await server.serve_forever()
    """

    def __init__(
        self,
        host: str | None = "localhost",
        port: int = 8047,
        create_persister_for_path: CreatePersisterForPath | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        serve_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._server = ListeningWsServer(create_persister_for_path, **options)
        self._listen = (host, port, ssl_context, serve_options or {})

    def __await__(self) -> Generator[Any, None, ListeningWsServer]:
        return self._server.listen(*self._listen).__await__()

    async def __aenter__(self) -> ListeningWsServer:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._server.destroy()


class ListeningWsServer(WsServer):
    """A `WsServer` that listens on a port; made by `create_ws_server`."""

    _listening: WebsocketsServer | None = None

    async def listen(
        self, host: str | None, port: int, ssl_context: ssl.SSLContext | None, serve_options: dict[str, Any]
    ) -> ListeningWsServer:
        """Begin to accept connections."""
        options = {**self.serve_options, **serve_options}
        self._listening = await serve(self.handler, host, port, ssl=ssl_context, **options)
        return self

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listening is None:
            raise RuntimeError("the server does not listen yet")
        return int(next(iter(self._listening.sockets)).getsockname()[1])

    async def serve_forever(self) -> None:
        """Return when the server is destroyed."""
        if self._listening is not None:
            await self._listening.wait_closed()

    async def destroy(self, code: int = CLOSE_GOING_AWAY, reason: str = "") -> None:
        """Stop listening, close all clients, store everything."""
        listening = self._listening
        if listening is not None:
            listening.close(close_connections=False)
        await super().destroy(code, reason)
        if listening is not None:
            await listening.wait_closed()
