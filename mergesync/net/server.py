"""`WsServer`: paths for clients, beside other `websockets` handlers, or inside an ASGI app."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeAlias, TypedDict, TypeVar

from websockets.asyncio.server import ServerConnection as WebsocketsConnection
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import enable_server_permessage_deflate
from websockets.http11 import Request, Response

from mergesync.exceptions import RefusedConnectionError
from mergesync.limits import (
    CLOSE_TIMEOUT_SECONDS,
    DEFAULT_REQUEST_TIMEOUT_SECONDS,
    HOOK_TIMEOUT_SECONDS,
    MAX_FRAMES_READ_AHEAD,
    MAX_OUTBOX_BYTES,
    MAX_READ_BYTES,
    Limits,
)
from mergesync.net.actions import ActionHandler, Actions
from mergesync.net.bans import Bans
from mergesync.net.channel import (
    AsgiChannel,
    AsgiReceive,
    AsgiScope,
    AsgiSend,
    WebsocketsChannel,
    asgi_headers,
    check_close,
    close_reason,
    headers_of,
)
from mergesync.net.door import Door, headers_of_refusal, refuse_websocket
from mergesync.net.farewells import CLOSE_FORBIDDEN
from mergesync.net.gateway import Gateway, Gateways
from mergesync.net.heartbeat import HeartbeatConnection
from mergesync.net.hooks import Admit, Authorize, Hooks, OnChanges, OnJoin, OnLeave, OnPresence, SelfDestruct
from mergesync.net.lifecycle import Create, LifeCycle
from mergesync.net.mounting import refuse_http, target_below_mount
from mergesync.net.path import PathOptions
from mergesync.net.path_persister import CreatePersisterForPath
from mergesync.net.proxies import Proxies
from mergesync.net.reception import Reception, Visitor
from mergesync.net.refusals import Refusals
from mergesync.net.reporting import OnIgnoredError, Reporter, note_place, plain_callback
from mergesync.net.server_path import ServerPath
from mergesync.net.switchboard import CLOSE_GOING_AWAY, CLOSE_UNAUTHORIZED, Switchboard
from mergesync.rooms.access import ClientInfo
from mergesync.rooms.rules import Rule, Rules
from mergesync.sync.names import NamePolicy
from mergesync.sync.subprotocols import choose
from mergesync.system import get_now, new_id
from mergesync.types import Content

__all__ = [
    "ClientIdsListener",
    "OnConnection",
    "PathIdsListener",
    "ServerOptions",
    "ServerStats",
    "WsServer",
    "target_of",
]

_CLOSE_POLICY = 1008
_UNAUTHORIZED = 401

PathIdsListener: TypeAlias = Callable[["WsServer", str, int], object]
"""`(server, path_id, change)`, the change being 1 when the first client comes and -1 after the last."""

ClientIdsListener: TypeAlias = Callable[["WsServer", str, str, int], object]
"""`(server, path_id, client_id, change)`, the change being 1 or -1."""

_Handler = TypeVar("_Handler", bound=ActionHandler)
OnConnection: TypeAlias = Callable[[ClientInfo], Any]
"""Called for each socket before any of its frames is read; may be async."""


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


def _select_subprotocol(_: object, offered: Iterable[Any]) -> Any:
    """What the `websockets` library asks with the connection as the first argument."""
    return choose(offered)


def _offered(headers: Mapping[str, str]) -> list[str]:
    """The subprotocols that a client offers."""
    return [name.strip() for name in headers.get("sec-websocket-protocol", "").split(",") if name.strip()]


def target_of(connection: WebsocketsConnection) -> str:
    """What a connection was opened to: the path and the query of its URL."""
    return "/" if connection.request is None else connection.request.path


def _is_encrypted(connection: WebsocketsConnection) -> bool:
    return connection.transport.get_extra_info("ssl_object") is not None


def _response(refusal: RefusedConnectionError) -> Response:
    """What a request for a socket is answered with that is refused."""
    body = f"{refusal.message}\n".encode()
    about = {"Connection": "close", "Content-Length": str(len(body)), "Content-Type": "text/plain"}
    headers = Headers({**about, **headers_of_refusal(refusal)})
    return Response(refusal.status, _phrase(refusal.status), headers, body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # an application's own
        return "Refused"


class ServerOptions(TypedDict, total=False):
    """The keyword arguments of `WsServer`, which `create_ws_server` takes as well."""

    relay: bool
    request_timeout_seconds: float
    fragment_size: float | None
    origins: Collection[str]
    trusted_proxies: Collection[str]
    limits: Limits
    names: NamePolicy | str
    presence: bool
    create: Create
    lives: bool
    self_destruct: SelfDestruct | None
    idle_grace_seconds: float
    compress: Callable[[str], bool] | None
    authorize: Authorize | None
    admit: Admit | None
    rules: Iterable[Rule]
    on_changes: OnChanges | None
    on_join: OnJoin | None
    on_leave: OnLeave | None
    on_presence: OnPresence | None
    hook_timeout_seconds: float
    gateways: Mapping[str, Gateway] | None
    on_connection: OnConnection | None
    on_ignored_error: OnIgnoredError | None


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
        origins: web pages of which other origins may connect, such as `["https://example.org"]`, spelled as browsers
            do; `["*"]` for all. Pages of the server's own host and port may, and programs, which say no origin.
        trusted_proxies: addresses or networks of proxies whose `X-Forwarded-For` says who is behind them; what others
            say there is not believed.
        limits: what clients may use.
        names: what happens when a second client wants to be called the same on a path: `refuse`, `replace` or `many`.
        presence: say on the path `<path>/~clients` who is on a path; see docs/paths.md.
        create: who makes paths: `any` for whoever comes, or `server` for the application alone.
        lives: keep in the storage what `create_path`, `remove_path` and bans say; implied by `create="server"`.
        self_destruct: `(path, clients_left, created_at_seconds) -> bool`: called when a client has left, whether the
            path is to be removed.
        idle_grace_seconds: how long a path stays loaded after its last client; `math.inf` until the server ends.
        compress: called with the path id in a socket's URL; where it says yes, the socket is compressed if the client
            can. By default none is: that costs some 33 kB for each, and frames are no longer made once for all of them.
            Behind an ASGI server, that server decides.
        authorize: `(info) -> Identity`: who asks for a socket, before there is one. Hooks may be async; they say no by
            raising `RefusedError`, and if they raise anything else, or take too long, that is a no as well.
        admit: `(path_id, client) -> Access`: what a client may do on a path, before it is on it.
        rules: who may write what, made by `allow_write` and `allow_write_value`. If there are any, nothing else may be
            written by clients.
        on_changes: `(path, client, changes)`: called with what a client wants to change, before anybody else hears of
            it. It may edit the `Changes`, or refuse them.
        on_join: `(path, client)`: a client has come onto a path.
        on_leave: `(path, client, reason)`: a client of which `on_join` was told has gone, for a `LeaveReason`.
        on_presence: `(path, client, state)`: called with what a client wants to say of itself, as a dict, before others
            see it. It may edit that, or refuse it.
        hook_timeout_seconds: how long each hook may take.
        gateways: what speaks with clients of other protocols, by prefix of their URLs, such as
            `{"/wsss": mergesync.gateways.wsss()}`.
        on_connection: called with a `ClientInfo` for each socket, before any of its frames is read; may be async. If
            it raises, the socket is closed with 1011.
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
        origins: Collection[str] = (),
        trusted_proxies: Collection[str] = (),
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        names: NamePolicy | str = NamePolicy.REFUSE,
        presence: bool = False,
        create: Create = "any",
        lives: bool = False,
        self_destruct: SelfDestruct | None = None,
        idle_grace_seconds: float = 0.0,
        compress: Callable[[str], bool] | None = None,
        authorize: Authorize | None = None,
        admit: Admit | None = None,
        rules: Iterable[Rule] = (),
        on_changes: OnChanges | None = None,
        on_join: OnJoin | None = None,
        on_leave: OnLeave | None = None,
        on_presence: OnPresence | None = None,
        hook_timeout_seconds: float = HOOK_TIMEOUT_SECONDS,
        gateways: Mapping[str, Gateway] | None = None,
        on_connection: OnConnection | None = None,
        on_ignored_error: OnIgnoredError | None = None,
    ) -> None:
        self._gateways = Gateways(gateways or {})
        self._report = Reporter(on_ignored_error)
        self._refusals = Refusals(self._report)
        self._door = Door(origins, limits)
        self._proxies = Proxies(trusted_proxies)
        self._compress = compress
        self._limits = limits
        self._hook_timeout_seconds = hook_timeout_seconds
        self._listeners: dict[str, tuple[str, str | None, Callable[..., object]]] = {}
        self._next_listener_id = 0
        self._destruction: asyncio.Task[None] | None = None
        self._actions = Actions()
        rules = list(rules)
        hooks = Hooks(
            authorize=authorize,
            admit=admit,
            rules=Rules(rules) if rules else None,
            on_changes=on_changes,
            on_join=on_join,
            on_leave=on_leave,
            on_presence=on_presence,
            self_destruct=self_destruct,
            timeout_seconds=hook_timeout_seconds,
        )
        if relay and hooks.review:
            raise ValueError("with relay=True nothing can be reviewed: admit, rules and on_changes need the hub")
        if relay and self._gateways:
            raise ValueError("with relay=True there is no store for gateways")
        bans = Bans(get_now)
        options = PathOptions(
            create_persister_for_path,
            relay,
            request_timeout_seconds,
            fragment_size,
            new_id,
            get_now,
            hooks,
            self._actions,
            NamePolicy(names),
            presence,
            bool(self._gateways),
            bans,
            idle_grace_seconds,
        )
        self._life = LifeCycle(
            create,
            create_persister_for_path,
            bans,
            keeps=lives or create == "server",
            get_now=get_now,
            report=self._report,
        )
        self._reception = Reception(hooks, self._report, self._refusals, get_now, bans, self._life, presence=presence)
        self._visitors: weakref.WeakKeyDictionary[WebsocketsConnection, Visitor] = weakref.WeakKeyDictionary()
        self._switchboard = Switchboard(
            options,
            limits,
            self._reception,
            self._life,
            report=self._report,
            tell=self._tell,
            on_connection=on_connection,
        )

    async def __aenter__(self) -> Self:
        self._life.start()
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
        self._listeners[listener_id] = (kind, path_id, plain_callback(listener, "a listener"))
        return listener_id

    def _tell(self, kind: str, path_id: str, *arguments: Any) -> None:
        for wanted_kind, wanted_path, listener in list(self._listeners.values()):
            if wanted_kind == kind and wanted_path in (None, path_id):
                try:
                    listener(self, path_id, *arguments)
                except Exception as error:
                    note_place(error, path_id, *arguments[:-1])  # the client's id, if it is about one
                    self._report(error)

    # --- paths

    def path(self, path_id: str) -> ServerPath | None:
        """A path that is there and loaded, or None: it has clients, had some a moment ago, or is opened."""
        path = self._switchboard.path(path_id)
        return path.handle if path is not None and path.is_loaded else None

    @asynccontextmanager
    async def open_path(self, path_id: str) -> AsyncIterator[ServerPath]:
        """Load a path, with or without clients, and keep it until the block is left.

        Raises:
            LoadError: it cannot be loaded for now.
            QuotaExceededError: there are as many paths as `Limits` allow.
            PathClosedError: the server is destroyed.

        Example:
            async with server.open_path("petShop") as path:
                path.store.set_cell("pets", "fido", "species", "dog")
                await path.durable()
        """
        await self._life.ready()
        path = self._switchboard.open(path_id)
        try:
            await path.open()
            self._life.adopt(path_id)
            yield path.handle
        finally:
            path.release()

    async def create_path(
        self,
        path_id: str | None = None,
        *,
        content: Content | None = None,
        ttl_seconds: float | None = None,
        idle_ttl_seconds: float | None = None,
        keep_loaded: bool = False,
    ) -> str:
        """Make a path that is not there yet, stored at once; without storage it stays in memory until it is removed.

        Args:
            path_id: its id; None for one that nobody can guess.
            content: `[tables, values]` to begin with. It has no time, so whatever anybody has written wins over it.
            ttl_seconds: the path is removed after that.
            idle_ttl_seconds: it is removed when it has been without clients for that long.
            keep_loaded: load it now, and after a restart, and keep it so.

        Returns:
            Its id.

        Raises:
            PathExistsError: there is one of this id, or something is stored for it.
            ValueError: with storage, a time to live needs `lives=True`, as it could not survive a restart.
            LoadError: the storage cannot be read for now.
            SaveError: it could not be stored at once. After this, or an error of a listener of its store, the path is
                not made, and its content may be stored nevertheless: see to it with `open_path` or `remove_path`.
            PathClosedError: the server is destroyed, or the path is just being removed.

        Example:
            path_id = await server.create_path(content=({}, {"title": "A new game"}), idle_ttl_seconds=3600)
        """
        return await self._life.make(
            path_id,
            content,
            ttl_seconds=ttl_seconds,
            idle_ttl_seconds=idle_ttl_seconds,
            keep_loaded=keep_loaded,
        )

    async def remove_path(self, path_id: str, reason: str = "") -> bool:
        """Remove a path and all that is stored for it; its clients are closed with 4410.

        It is remembered for a week: who comes back with what was written before is closed with 4410, too, and nothing
        of it is taken. A hook of the same path does not wait for it.

        Returns:
            Whether there was one.

        Raises:
            NotSupportedError: its persister has no `remove`. The path is as it was.
            SaveError: it could not be removed from the storage. That is tried again, and nobody may come until then.
            LoadError: with `lives`, these cannot be read for now.
            PathClosedError: the server is destroyed.
        """
        return await self._life.remove(path_id, reason)

    async def remove_all_paths(self, reason: str = "") -> int:
        """Remove all paths that are there, that `create_path` has made, or that are stored; returns how many.

        A function that makes persisters cannot tell what is stored, but `json_file_persisters` and `sqlite_persisters`
        can.
        """
        return await self._life.remove_all(reason)

    def action(self, name: str) -> Callable[[_Handler], _Handler]:
        """Let clients ask for something: a decorator of `handler(path, client, data)`, plain or async.

        What it returns, JSON, is the result of `WsSynchronizer.act`. It says no by raising `RefusedError`, or
        `RequestFailedError` with a reason of its own; anything else is reported, and the client is told that it
        failed. Like all hooks, actions of a path are called one at a time, in order, each for `hook_timeout_seconds` at
        most, and a client's only after what it wrote before is merged.

        Example:
            @server.action("rename")
            def rename(path: ServerPath, client: Client, data: Any) -> str:
                path.store.set_value("title", data["title"])
                return path.version
        """

        def add(handler: _Handler) -> _Handler:
            self._actions.handlers[name] = handler
            return handler

        return add

    def log_out(self, name: str) -> int:
        """Close all sockets whose identity has this name, with 4401; returns how many.

        `authorize` has to refuse them from then on, as clients come back.
        """
        return self._switchboard.log_out(name)

    # --- doors

    @property
    def serve_options(self) -> dict[str, Any]:
        """What `websockets.serve` must be told for this protocol."""
        return {
            "create_connection": HeartbeatConnection,
            "process_request": self._process_request,
            "select_subprotocol": _select_subprotocol,
            "max_size": MAX_READ_BYTES,
            "max_queue": MAX_FRAMES_READ_AHEAD,
            "compression": None,
            "open_timeout": self._open_timeout,
            "ping_interval": self._limits.heartbeat_seconds,
            "ping_timeout": self._limits.heartbeat_seconds,
            "close_timeout": CLOSE_TIMEOUT_SECONDS,
            # What is sent never waits, but pings do above this limit, and then would not find out who is gone.
            "write_limit": 2 * MAX_OUTBOX_BYTES,
        }

    @property
    def _open_timeout(self) -> float | None:
        """How long the handshake may take: what the client may, and what `authorize` and `admit` may."""
        seconds = self._limits.handshake_seconds
        if seconds is None or not self._reception.asks:
            return seconds
        return seconds + 2 * self._hook_timeout_seconds

    def _process_request(self, connection: WebsocketsConnection, request: Request) -> Any:
        """Refuse whom the door or the application refuses, before there is a WebSocket."""
        headers = headers_of(request.headers.raw_items())
        address = self._proxies.address_of(headers, connection.remote_address)
        refusal = self._refusal(headers, address, secure=_is_encrypted(connection))
        if refusal is not None:
            return _response(refusal)
        visitor = self._visitor(request.path, headers, address, _offered(headers))
        if self._compress is not None and self._compress(visitor.info.path_id):
            protocol = connection.protocol
            protocol.available_extensions = enable_server_permessage_deflate(protocol.available_extensions)
        return self._receive(connection, visitor)

    async def _receive(self, connection: WebsocketsConnection, visitor: Visitor) -> Response | None:
        await self._switchboard.rounds.wait()
        refusal = await self._reception.receive(visitor)
        if refusal is not None:
            return _response(refusal)
        self._visitors[connection] = visitor
        return None

    def _visitor(self, target: str, headers: Mapping[str, str], remote_address: Any, offered: Iterable[str]) -> Visitor:
        visitor = self._reception.visitor(target, headers, remote_address, offered, self._switchboard.client_ids)
        visitor.gateway = self._gateways.find(target)
        return visitor

    def _refusal(
        self, headers: Mapping[str, str], remote_address: Any, *, secure: bool
    ) -> RefusedConnectionError | None:
        refusal = self._door.refusal(headers, remote_address, secure=secure)
        if refusal is not None:
            self._refusals.report(refusal)
        return refusal

    def _before(self, theirs: Callable[[WebsocketsConnection, Request], Any]) -> Callable[..., Any]:
        """Let an application answer requests, but for those of whom the door or a hook refuses."""

        async def process_request(connection: WebsocketsConnection, request: Request) -> Any:
            for process in (self._process_request, theirs):
                response = process(connection, request)
                response = await response if inspect.isawaitable(response) else response
                if response is not None:
                    return response
            return None

        return process_request

    async def handler(self, connection: WebsocketsConnection) -> None:
        """Serve one connection of the `websockets` library; pass it to `websockets.serve` with `serve_options`."""
        await self._serve(connection, WebsocketsChannel(connection), target_of(connection))

    async def _serve(self, connection: WebsocketsConnection, channel: WebsocketsChannel, target: str) -> None:
        headers, address = channel.headers, self._proxies.address_of(channel.headers, channel.remote_address)
        refusal = self._refusal(headers, address, secure=_is_encrypted(connection))
        if refusal is not None:  # an application has replaced our process_request
            await connection.close(_CLOSE_POLICY, close_reason(refusal.message))
            return
        with self._door.inside(address):
            visitor = self._visitors.pop(connection, None)
            if visitor is None:  # nobody is asked, or likewise
                visitor = self._visitor(target, headers, address, _offered(headers))
                refusal = await self._reception.receive(visitor)
                if refusal is not None:
                    code = CLOSE_UNAUTHORIZED if refusal.status == _UNAUTHORIZED else CLOSE_FORBIDDEN
                    await connection.close(code, close_reason(f"mergesync:refused {refusal.message}"))
                    return
            channel.headers = visitor.info.headers  # a KiB, of which one copy is enough
            await self._switchboard.serve(channel, visitor)

    async def asgi(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Serve WebSockets as an ASGI app: `Mount("/sync", app=ws_server.asgi)`.

        The path id is what follows the mount point, percent-encoded as the client sent it. Plain HTTP requests get 426.
        """
        if scope["type"] == "http":
            await refuse_http(send)
            return
        if scope["type"] != "websocket":
            raise RuntimeError(f"mergesync serves only WebSockets, not {scope['type']!r}")
        if (await receive())["type"] != "websocket.connect":
            return
        headers = asgi_headers(scope)
        address = self._proxies.address_of(headers, scope.get("client"))
        refusal = self._refusal(headers, address, secure=scope.get("scheme") in ("wss", "https"))
        if refusal is not None:
            await refuse_websocket(scope, send, refusal)
            return
        offered = list(scope.get("subprotocols", ()))
        target = f"{target_below_mount(scope)}?{bytes(scope.get('query_string', b'')).decode('latin-1')}"
        with self._door.inside(address):
            visitor = self._visitor(target, headers, address, offered)
            refusal = await self._reception.receive(visitor)
            if refusal is not None:
                await refuse_websocket(scope, send, refusal)
                return
            await send({"type": "websocket.accept", "subprotocol": choose(offered)})
            channel = AsgiChannel(scope, receive, send)
            await self._switchboard.serve(channel, visitor)

    async def destroy(self, code: int = CLOSE_GOING_AWAY, reason: str = "") -> None:
        """Close all clients, store everything, and leave no task, socket or timer. May be called again.

        It is not interrupted if who called it is cancelled.

        Args:
            code: what the clients are told; 1012 for a restart.
            reason: likewise.

        Raises:
            ValueError: a close frame cannot carry these.
        """
        check_close(code, reason)
        if self._destruction is None:
            self._destruction = asyncio.create_task(self._destroy(code, reason))
        await asyncio.shield(self._destruction)

    async def _destroy(self, code: int, reason: str) -> None:
        await self._life.destroy()
        await self._switchboard.destroy(code, reason)
        self._refusals.destroy()
        self._listeners.clear()
