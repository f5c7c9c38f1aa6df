"""Sockets, clients and paths of one server: who is where, who is closed with what, and which texts go to whom."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mergesync.exceptions import LimitExceededError, QuotaExceededError, RemoteProtocolError, SyncError
from mergesync.limits import (
    MAX_FRAME_BYTES,
    MAX_OUTBOX_BYTES,
    MAX_UNANSWERED_OPERATIONS,
    QUOTA_RETRY_SECONDS,
    Limits,
)
from mergesync.net.channel import ChannelClosed, TextChannel, post_to_all
from mergesync.net.laggards import Laggards
from mergesync.net.pace import Pace
from mergesync.net.path import Path, PathOptions
from mergesync.net.reporting import note_place
from mergesync.sync.operations import COMPARE, ERROR, HELLO, OK, OPERATIONS, STORED, Operation, operation_remainder
from mergesync.sync.payloads import Payload, fits_frame, fits_message
from mergesync.sync.server_connection import ServerConnection, path_of
from mergesync.sync.subprotocols import Dialect, dialect_of
from mergesync.system import new_id

__all__ = ["CLOSE_GOING_AWAY", "CLOSE_RESTART", "ClientInfo", "Switchboard"]

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_INTERNAL_ERROR = 1011
CLOSE_RESTART = 1012
CLOSE_TRY_AGAIN_LATER = 1013

_ID_LENGTH = 11
_CLOSED_FOR_A_FAULT = (1002, 1003, 1007, 1009, 1010, 1013)
"""Codes with which a client, or the WebSocket layer on our side, says that the other side did something wrong."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What a connection callback is told.

    Attributes:
        client_id: what the client is called on its paths.
        path_id: the path of its URL.
        remote_address: the other end of the socket, usually `(host, port, ...)`.
        headers: of the HTTP request, by lower-case name.
        multiplexed: whether the client opens channels.
    """

    client_id: str
    path_id: str
    remote_address: Any
    headers: dict[str, str]
    multiplexed: bool


class _Socket:
    """A socket, its protocol state, and its end."""

    def __init__(self, channel: TextChannel, connection: ServerConnection, info: ClientInfo) -> None:
        self.channel = channel
        self.connection = connection
        self.info = info
        self.serving = asyncio.timeout(None)  # entered while the socket is served, so that closing ends that
        self.condemned = False  # it is about to be closed for a fault
        self.unanswered = 0  # operations under way
        self._closing: asyncio.Task[None] | None = None

    @property
    def closing(self) -> bool:
        """Whether it is being closed; nothing more is read of it or sent to it."""
        return self._closing is not None

    def close(self, code: int, reason: str) -> None:
        """Leave all paths, and begin to close; the first code given counts."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason))
            self.connection.close()

    async def _close(self, code: int, reason: str) -> None:
        await self.channel.close(code, reason)
        # The callback of the application may hang, and not every ASGI server tells when a socket is closed by us.
        with contextlib.suppress(RuntimeError):  # it is served no more
            self.serving.reschedule(asyncio.get_running_loop().time())

    async def wait_closed(self) -> None:
        """Return when it is closed; if that is cancelled, it is cut off."""
        if self._closing is not None:
            try:
                await asyncio.wait([self._closing])
            finally:
                self._closing.cancel()


class Switchboard:
    """The inside of a `WsServer`.

    Args:
        options: of all paths.
        limits: what clients may use.
        report: hears of every error that nobody called for.
        tell: called with `"path", path_id, change` and `"client", path_id, client_id, change`.
        on_connection: called for each socket before its frames are read; may be async.

    Attributes:
        on_path: the sockets on each path that has clients, by client id.
        sends: frames sent.
        receives: frames received.
    """

    def __init__(
        self,
        options: PathOptions,
        limits: Limits,
        *,
        report: Callable[[Exception], None],
        tell: Callable[..., None],
        on_connection: Callable[[ClientInfo], Any] | None,
    ) -> None:
        self.report = report
        self.on_path: dict[str, dict[str, _Socket]] = {}
        self.sends: int = 0
        self.receives: int = 0
        self._options = options
        self._limits = limits
        self._tell = tell
        self._on_connection = on_connection
        self._paths: dict[str, Path] = {}
        self._ending: dict[str, Path] = {}
        self._sockets: dict[ServerConnection, _Socket] = {}
        self._client_ids: set[str] = set()
        self._laggards = Laggards(limits.outbox_bytes, self._catch_up)
        self._nobody = asyncio.Event()
        self._id = options.new_id(_ID_LENGTH)
        self._destroyed: tuple[int, str] | None = None  # with what sockets are closed from then on

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._sockets)

    # --- sockets

    async def serve(self, channel: TextChannel, target: str, key: str, subprotocol: str | None) -> None:
        """Serve a socket until it is closed.

        Args:
            channel: the socket.
            target: the request target, still percent-encoded, with its query.
            key: the client's WebSocket key.
            subprotocol: what was negotiated.
        """
        socket = self._add_socket(channel, target, key, dialect_of(subprotocol))
        try:
            async with socket.serving:
                if self._destroyed is not None:
                    socket.close(*self._destroyed)
                await self._converse(socket)
        except TimeoutError:  # it has been closed
            pass
        finally:
            socket.close(CLOSE_NORMAL, "")
            try:
                await socket.wait_closed()
            finally:
                self._remove_socket(socket)

    def _add_socket(self, channel: TextChannel, target: str, key: str, dialect: Dialect) -> _Socket:
        path_id = path_of(target)
        connection = ServerConnection(
            self._client_id(key),
            path_id,
            dialect=dialect,
            switchboard=self,
            timeout_seconds=self._options.request_timeout_seconds,
        )
        headers = dict(channel.headers)
        info = ClientInfo(connection.client_id, path_id, channel.remote_address, headers, dialect.multiplexed)
        socket = self._sockets[connection] = _Socket(channel, connection, info)
        self._client_ids.add(connection.client_id)
        self._nobody.clear()
        return socket

    def _remove_socket(self, socket: _Socket) -> None:
        del self._sockets[socket.connection]
        self._laggards.forget(socket.channel)
        self._client_ids.discard(socket.connection.client_id)
        if not self._sockets:
            self._nobody.set()

    def _client_id(self, key: str) -> str:
        """The client's WebSocket key, as in the peer, unless it is none or is taken."""
        try:
            usable = len(base64.b64decode(key, validate=True)) == 16 and key not in self._client_ids
        except (binascii.Error, ValueError):
            usable = False
        return key if usable else base64.b64encode(new_id(16).encode()).decode()

    async def _converse(self, socket: _Socket) -> None:
        try:
            await self._introduce(socket.info)
            if not socket.closing:
                socket.connection.open()
            await self._read(socket)
        except ChannelClosed as closed:
            if closed.code in _CLOSED_FOR_A_FAULT and not socket.closing:
                self._blame(socket, RemoteProtocolError(f"the socket was closed with {closed}"))
        except Exception as error:
            note_place(error, socket.info.path_id, socket.info.client_id)
            self.report(error)
            socket.close(CLOSE_INTERNAL_ERROR, "")

    async def _introduce(self, info: ClientInfo) -> None:
        if self._on_connection is not None:
            result = self._on_connection(info)
            if inspect.isawaitable(result):
                await result

    async def _read(self, socket: _Socket) -> None:
        """Read until the socket is closed; once it is closing, what comes is of no use, but must be got past."""
        loop, limits = asyncio.get_running_loop(), self._limits
        messages = Pace(limits.messages_per_second, limits.burst_seconds, loop.time())
        bytes_ = Pace(limits.bytes_per_second, limits.burst_seconds, loop.time())
        while True:
            frame = await socket.channel.receive()
            if socket.closing or socket.condemned:
                continue
            self.receives += 1
            now = loop.time()
            try:
                socket.connection.receive(frame, now)
            except SyncError as error:
                self._blame(socket, error)
            wait_seconds = max(messages.wait_seconds(1, now), bytes_.wait_seconds(len(frame), now))
            if wait_seconds:  # what it sends meanwhile stays in its own memory, as nobody takes it
                await asyncio.sleep(wait_seconds)

    def _condemn(self, socket: _Socket, error: SyncError) -> None:
        """Blame a socket as soon as whoever is sending now is through."""
        if not socket.condemned:
            socket.condemned = True
            asyncio.get_running_loop().call_soon(self._blame, socket, error)

    def _blame(self, socket: _Socket, error: SyncError) -> None:
        """A client is at fault: report once, with path and client, and close its socket with the right code."""
        if socket.closing:
            return
        error.path_id = socket.info.path_id if error.path_id is None else error.path_id
        error.client_id = socket.info.client_id if error.client_id is None else error.client_id
        self.report(error)
        if isinstance(error, RemoteProtocolError | LimitExceededError):
            socket.close(error.close_code, error.close_reason)
        else:
            socket.close(CLOSE_INTERNAL_ERROR, "")

    async def destroy(self, code: int, reason: str) -> None:
        """Close all sockets, store everything, let go of everything."""
        self._destroyed = (code, reason)
        for socket in list(self._sockets.values()):
            socket.close(code, reason)
        while self._sockets:
            self._nobody.clear()
            await self._nobody.wait()
        await asyncio.gather(*(path.destroy() for path in [*self._paths.values(), *self._ending.values()]))

    # --- what connections say

    def join(self, path_id: str, connection: ServerConnection, channel_id: str | None) -> None:
        """A client comes onto a path."""
        if self._has_no_room_for(path_id):
            self._condemn(
                self._sockets[connection],
                QuotaExceededError(
                    f"more than {self._limits.paths} paths",
                    limit="paths",
                    retry_after_seconds=QUOTA_RETRY_SECONDS,
                    path_id=path_id,
                ),
            )
            return
        clients = self.on_path.get(path_id)
        if clients is None:
            clients = self.on_path[path_id] = {}
            self._tell("path", path_id, 1)
        clients[connection.client_id] = self._sockets[connection]
        self._tell("client", path_id, connection.client_id, 1)
        path = self._paths.get(path_id)
        if path is None:
            path = self._paths[path_id] = Path(path_id, self._options, self, self._ending.get(path_id))
        path.join(connection.client_id)

    def _has_no_room_for(self, path_id: str) -> bool:
        """Whether a path would be one too many, counting those that are still being stored."""
        there = self._paths.keys() | self._ending.keys() if self._ending else self._paths.keys()
        return self._limits.paths is not None and path_id not in there and len(there) >= self._limits.paths

    def leave(self, path_id: str, connection: ServerConnection) -> None:
        """A client leaves a path, unless it was refused there."""
        clients = self.on_path.get(path_id, {})
        if clients.pop(connection.client_id, None) is None:
            return
        self._tell("client", path_id, connection.client_id, -1)
        if not clients:
            del self.on_path[path_id]
            self._tell("path", path_id, -1)
        path = self._paths.get(path_id)
        if path is not None:
            path.leave(connection.client_id)

    def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
        """A client says something on a path."""
        self._paths[path_id].receive(connection.client_id, address, payload)

    def operate(self, path_id: str, connection: ServerConnection, operation: Operation) -> None:
        """A client asks the server itself.

        Raises:
            LimitExceededError: too much that it has asked is not answered yet.
        """
        if operation.name == HELLO:
            body = {"server": self._id, "client": connection.client_id, "now": self._options.get_now()}
            self._answer(path_id, connection, operation, OK, body)
        elif operation.name in (STORED, COMPARE):
            socket = self._sockets[connection]
            if socket.unanswered >= MAX_UNANSWERED_OPERATIONS:
                raise LimitExceededError(f"more than {MAX_UNANSWERED_OPERATIONS} unanswered", limit="requests")
            socket.unanswered += 1

            def answer(name: str, body: Any) -> None:
                socket.unanswered -= 1
                self._answer(path_id, connection, operation, name, body)

            path = self._paths[path_id]
            if operation.name == COMPARE:
                path.compare(connection.client_id, operation.body, answer)
            else:
                path.confirm(connection.client_id, hurry=operation.body is True, answer=answer)
        else:
            self._answer(path_id, connection, operation, ERROR, ["unknown", f"no operation {operation.name!r:.40}"])

    def _answer(self, path_id: str, connection: ServerConnection, asked: Operation, name: str, body: Any) -> None:
        if asked.request_id is not None:
            remainder = operation_remainder(Operation(asked.request_id, name, body))
            if not fits_message(remainder):
                what = "a row is too large to be sent"
                client_id = connection.client_id
                self.report(LimitExceededError(what, limit="socket", path_id=path_id, client_id=client_id))
                remainder = operation_remainder(Operation(asked.request_id, ERROR, ["limit", what]))
            self.send(path_id, [connection.client_id], f"{OPERATIONS}\n{remainder}")

    def send_to(self, connection: ServerConnection, frame: str) -> None:
        """A control for a socket."""
        self._post([self._sockets[connection]], frame)

    # --- what paths say

    def send(self, path_id: str, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients of a path; those without channels get the very same text."""
        clients = self.on_path.get(path_id, {})
        plain = []
        for client_id in client_ids:
            socket = clients.get(client_id)
            if socket is None:
                continue
            if not socket.connection.multiplexed:
                plain.append(socket)
            elif (wrapped := socket.connection.outgoing(path_id, frame)) is not None:
                self._post([socket], wrapped)
        self._post(plain, frame)

    def send_changes(self, path_id: str, client_ids: Iterable[str], frames: Sequence[str]) -> None:
        """A message that clients miss if they do not read."""
        clients = self.on_path.get(path_id, {})
        size = sum(map(len, frames))
        readers = []
        for client_id in client_ids:
            socket = clients.get(client_id)
            if socket is not None and not self._laggards.misses(socket.channel, path_id, client_id, size):
                readers.append(client_id)
        for frame in frames:
            self.send(path_id, readers, frame)

    def _catch_up(self, path_id: str, client_id: str) -> None:
        path = self._paths.get(path_id)
        if path is not None:
            path.catch_up(client_id)

    def _post(self, sockets: list[_Socket], frame: str) -> None:
        if not fits_frame(frame):
            for socket in sockets:
                self._condemn(socket, LimitExceededError(f"more than {MAX_FRAME_BYTES} bytes to send", limit="socket"))
            return
        ready = []
        size = len(frame)  # the bytes may be more, but that decides little
        for socket in sockets:
            if socket.closing or socket.condemned:
                continue
            if socket.channel.queued_bytes + size > MAX_OUTBOX_BYTES:
                error = LimitExceededError("the client does not read what is sent to it", limit="socket")
                self._condemn(socket, error)
            else:
                ready.append(socket.channel)
        if ready:
            self.sends += len(ready)
            post_to_all(ready, frame)

    def close(self, path_id: str, client_id: str, error: SyncError) -> None:
        """A client of a path has to go."""
        socket = self.on_path.get(path_id, {}).get(client_id)
        if socket is not None:
            self._condemn(socket, error)

    def refuse(self, path_id: str, client_ids: Iterable[str], retry_after_seconds: float) -> None:
        """A path cannot be served for now: close its clients with a retry time; channels stay and are resynced."""
        clients = self.on_path.get(path_id, {})
        reason = f"mergesync:load retry-after={retry_after_seconds:.3f}"
        for socket in [clients[client_id] for client_id in client_ids if client_id in clients]:
            if not socket.connection.multiplexed:
                asyncio.get_running_loop().call_soon(socket.close, CLOSE_TRY_AGAIN_LATER, reason)

    def path_done(self, path: Path) -> None:
        """A path has no clients and everything is stored."""
        del self._paths[path.path_id]
        self._ending[path.path_id] = path

    def path_ended(self, path: Path) -> None:
        """A path has let go of its storage; clients are still there only if something unforeseen ended it."""
        if self._ending.get(path.path_id) is path:
            del self._ending[path.path_id]
        if self._paths.get(path.path_id) is path:
            del self._paths[path.path_id]
            for socket in list(self.on_path.get(path.path_id, {}).values()):
                socket.close(CLOSE_INTERNAL_ERROR, "")
