"""`create_ws_server`: a `WsServer` on a port of its own, with or without TLS."""

from __future__ import annotations

import asyncio
import errno
import ssl
import weakref
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self, Unpack

from websockets.asyncio.server import Server as WebsocketsServer
from websockets.asyncio.server import ServerConnection as WebsocketsConnection
from websockets.asyncio.server import serve
from websockets.protocol import State

from mergesync.net.addresses import Host, hold_more_connections, usable_addresses
from mergesync.net.channel import WebsocketsChannel
from mergesync.net.heartbeat import HeartbeatConnection
from mergesync.net.path_persister import CreatePersisterForPath
from mergesync.net.server import ServerOptions, WsServer, target_of
from mergesync.net.tls import Certificate, TlsFiles

__all__ = ["ListeningWsServer", "create_ws_server"]

_LISTEN_ATTEMPTS = 5


class create_ws_server:  # noqa: N801 - spelled in lower case because it is called like a function
    """A `WsServer` on a port of its own: `server = await create_ws_server(...)` or `async with create_ws_server(...)`.

    Args:
        host: where to listen: a name or an address, several of them, or None for all interfaces.
        port: 0 for a free one, see `server.port`.
        create_persister_for_path: see `WsServer`.
        tls: serve wss with the certificate in these files: one with all, or `(certificate, key)`. TLS is 1.2 or newer.
        ssl_context: serve wss with this instead, for what `tls` cannot do.
        serve_options: passed to `websockets.serve`, such as `ping_interval`, `process_request`, or `sock` in place of
            host and port.
        **options: any keyword argument of `WsServer`.

    Example:
        async with create_ws_server("localhost", 8047, sqlite_persisters("data.db")) as server:
            await server.serve_forever()
    """

    def __init__(
        self,
        host: Host = "localhost",
        port: int = 8047,
        create_persister_for_path: CreatePersisterForPath | None = None,
        *,
        tls: TlsFiles | None = None,
        ssl_context: ssl.SSLContext | None = None,
        serve_options: dict[str, Any] | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        if tls is not None and ssl_context is not None:
            raise ValueError("tls and ssl_context exclude each other")
        self._server = ListeningWsServer(create_persister_for_path, **options)
        self._host = host
        self._port = port
        if tls is not None:
            self._server._certificate = Certificate(tls)
            ssl_context = self._server._certificate.context
        self._serve_options = {"ssl": ssl_context, **(serve_options or {})}

    def __await__(self) -> Generator[Any, None, ListeningWsServer]:
        return self._server._listen(self._host, self._port, self._serve_options).__await__()

    async def __aenter__(self) -> ListeningWsServer:
        return await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._server.destroy()


class ListeningWsServer(WsServer):
    """A `WsServer` that listens on a port; made by `create_ws_server`."""

    _certificate: Certificate | None = None
    _listening: WebsocketsServer | None = None
    _port = 0
    _accepted: weakref.WeakSet[WebsocketsConnection]

    @property
    def port(self) -> int:
        """The port it listens on, or listened on until it was destroyed."""
        return self._port

    async def _listen(self, host: Host, port: int, serve_options: dict[str, Any]) -> Self:
        """Begin to accept connections."""
        if self._listening is not None:
            raise RuntimeError("the server listens already")
        self._life.start()
        self._accepted = weakref.WeakSet()
        options: dict[str, Any] = {**self.serve_options, "create_connection": self._accept, **serve_options}
        if "process_request" in serve_options:
            options["process_request"] = self._before(serve_options["process_request"])
        if options.get("sock") is not None:
            self._port = options["sock"].getsockname()[1]
            self._listening = await serve(self._serve_accepted, **options)
        else:
            self._listening = await self._listen_on(host, port, options)
        if "backlog" not in serve_options:
            hold_more_connections(self._listening.sockets)
        return self

    async def _listen_on(self, host: Host, port: int, options: dict[str, Any]) -> WebsocketsServer:
        reuse_port = bool(options.get("reuse_port"))
        attempts_left = _LISTEN_ATTEMPTS
        while True:
            attempts_left -= 1
            options["host"], self._port = await usable_addresses(host, port, reuse_port=reuse_port)
            try:
                return await serve(self._serve_accepted, port=self._port, **options)
            except OSError as error:  # somebody may have taken the port that was free a moment ago
                if port != 0 or error.errno != errno.EADDRINUSE or not attempts_left:
                    raise

    def _accept(self, *arguments: Any, **options: Any) -> WebsocketsConnection:
        """Make a connection, known from the start, so that a handshake under way does not keep `destroy` waiting."""
        connection = HeartbeatConnection(*arguments, **options)
        self._accepted.add(connection)
        return connection

    async def _serve_accepted(self, connection: WebsocketsConnection) -> None:
        """Serve a connection that nobody else looks at; what it would keep of its handshake is some 4 kB."""
        channel, target = WebsocketsChannel(connection), target_of(connection)
        self._accepted.discard(connection)
        for said in (connection.request, connection.response):
            if said is not None:
                said.headers.clear()
        await self._serve(connection, channel, target)

    def reload_certificate(self) -> None:
        """Read the files of `tls` again, for connections from now on; those that are open are not touched.

        Raises:
            OSError: the files cannot be used; the certificate stays as it is.
            ValueError: the server was made without `tls`.
        """
        if self._certificate is None:
            raise ValueError("the server has no certificate in files")
        self._certificate.reload()

    async def serve_forever(self) -> None:
        """Return when the server is destroyed."""
        if self._listening is not None:
            await self._listening.wait_closed()
        if self._destruction is not None:
            await asyncio.shield(self._destruction)

    async def _destroy(self, code: int, reason: str) -> None:
        listening = self._listening
        if listening is not None:
            listening.close(close_connections=False)
        await super()._destroy(code, reason)
        if listening is not None:
            for connection in list(self._accepted):
                if connection.state is State.CONNECTING:
                    connection.transport.abort()
            await listening.wait_closed()
