"""Sockets, clients and paths of one server: who is where, who is closed with what, and which texts go to whom."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Never

from mergesync.exceptions import (
    ConnectionLostError,
    LimitExceededError,
    LoadError,
    NotSupportedError,
    PathClosedError,
    QuotaExceededError,
    RefusedConnectionError,
    RefusedError,
    RemoteProtocolError,
    SyncError,
)
from mergesync.limits import (
    MAX_FRAME_BYTES,
    MAX_OUTBOX_BYTES,
    MAX_TIMER_SECONDS,
    MAX_UNANSWERED_BYTES,
    MAX_UNANSWERED_OPERATIONS,
    QUOTA_RETRY_SECONDS,
    Limits,
)
from mergesync.net.channel import ChannelClosed, TextChannel, post_to_all
from mergesync.net.companion import CompanionPath
from mergesync.net.fanout import Audience, Batch, Fanout
from mergesync.net.farewells import CLOSE_REMOVED, Farewell, forbidden, removed
from mergesync.net.frames import Frames
from mergesync.net.gateway import GatewayConnection, GatewaySocket
from mergesync.net.hooks import LeaveReason
from mergesync.net.laggards import Laggards
from mergesync.net.lifecycle import LifeCycle
from mergesync.net.path import Path, PathOptions
from mergesync.net.presence import Presence, companion_of, main_of
from mergesync.net.reception import Reception, Visitor
from mergesync.net.reporting import note_place
from mergesync.net.rounds import Rounds
from mergesync.net.server_socket import Connection, Question, ServerSocket
from mergesync.net.turns import Turns
from mergesync.rooms.access import Client, ClientInfo
from mergesync.sync.operations import (
    ERROR,
    EXCHANGES,
    HELLO,
    OK,
    OPERATIONS,
    REFUSED,
    TOKEN,
    Operation,
    operation_remainder,
)
from mergesync.sync.payloads import Payload, fits_frame, fits_message
from mergesync.sync.server_connection import ServerConnection

__all__ = ["CLOSE_GOING_AWAY", "CLOSE_RESTART", "CLOSE_UNAUTHORIZED", "Switchboard"]

CLOSE_NORMAL = 1000
CLOSE_GOING_AWAY = 1001
CLOSE_INTERNAL_ERROR = 1011
CLOSE_RESTART = 1012
CLOSE_TRY_AGAIN_LATER = 1013
CLOSE_UNAUTHORIZED = 4401
CLOSE_IDLE = 4408
CLOSE_REPLACED = 4409

_ID_LENGTH = 11
_CLOSED_ORDERLY = (1000, 1001, 1005)
_CLOSED_FOR_A_FAULT = (1002, 1003, 1007, 1009, 1010, 1013)
"""Codes with which a client, or the WebSocket layer on our side, says that the other side did something wrong."""


class Switchboard:
    """The inside of a `WsServer`.

    Args:
        options: of all paths.
        limits: what clients may use.
        reception: lets clients in.
        life: knows which paths may be.
        report: hears of every error that nobody called for.
        tell: called with `"path", path_id, change` and `"client", path_id, client_id, change`.
        on_connection: called for each socket before its frames are read; may be async.

    Attributes:
        on_path: the sockets on each path that has clients, by client id.
        sends: frames sent.
        receives: frames received.
        rounds: of the event loop.
    """

    def __init__(
        self,
        options: PathOptions,
        limits: Limits,
        reception: Reception,
        life: LifeCycle,
        *,
        report: Callable[[Exception], None],
        tell: Callable[..., None],
        on_connection: Callable[[ClientInfo], Any] | None,
    ) -> None:
        self.report = report
        self.on_path: dict[str, dict[str, ServerSocket]] = {}
        self.sends: int = 0
        self.receives: int = 0
        self._options = options
        self._limits = limits
        self._reception = reception
        self._life = life
        life.rule(self)
        self._tell = tell
        self._on_connection = on_connection
        self._paths: dict[str, Path] = {}
        self._ending: dict[str, Path] = {}
        self._presences: weakref.WeakValueDictionary[str, Presence] = weakref.WeakValueDictionary()
        self._sockets: dict[Connection, ServerSocket] = {}
        self._by_client_id: dict[str, ServerSocket] = {}
        self._laggards = Laggards(limits.outbox_bytes, limits.total_outbox_bytes, self._catch_up)
        self.rounds: Rounds = Rounds()
        self._fanout = Fanout(self._gather, self._deliver)
        self._nobody = asyncio.Event()
        self._id = options.new_id(_ID_LENGTH)
        self._destroyed: tuple[int, str] | None = None  # with what sockets are closed from then on

    @property
    def connections(self) -> int:
        """How many sockets are open."""
        return len(self._sockets)

    @property
    def client_ids(self) -> Container[str]:
        """The ids of all clients that have sockets."""
        return self._by_client_id

    # --- sockets

    async def serve(self, channel: TextChannel, visitor: Visitor) -> None:
        """Serve a socket until it is closed.

        Args:
            channel: the socket.
            visitor: whose it is, received already.
        """
        socket = self._add_socket(channel, visitor)
        try:
            async with socket.serving:
                if self._destroyed is not None:
                    socket.close(*self._destroyed, "shutdown")
                elif visitor.logged_out:
                    self._close_logged_out(socket)
                await self._converse(socket)
        except TimeoutError:  # it has been closed
            pass
        finally:
            socket.close(CLOSE_NORMAL, "", "left")
            try:
                await socket.wait_closed()
            finally:
                self._remove_socket(socket)

    def _add_socket(self, channel: TextChannel, visitor: Visitor) -> ServerSocket:
        older = self._by_client_id.get(visitor.info.client_id)
        if older is not None:
            if visitor.is_again(older.visitor):
                older.close(CLOSE_REPLACED, "mergesync:replaced", "lost")
            else:
                self._reception.give_another_id(visitor, self._by_client_id)
        info = visitor.info
        connection: Connection
        if visitor.gateway is not None:
            connection = GatewayConnection(info.client_id, self)
        else:
            connection = ServerConnection(
                info.client_id,
                info.path_id,
                dialect=visitor.dialect,
                switchboard=self,
                timeout_seconds=self._options.request_timeout_seconds,
            )
        socket = self._sockets[connection] = ServerSocket(channel, connection, visitor)
        if visitor.client is not None:
            socket.clients[info.path_id] = visitor.client
        self._by_client_id[connection.client_id] = socket
        self._nobody.clear()
        self._watch_expiry(socket)
        self._watch_silence(socket)
        return socket

    def _remove_socket(self, socket: ServerSocket) -> None:
        del self._sockets[socket.connection]
        self._laggards.forget(socket.channel)
        if self._by_client_id[socket.connection.client_id] is socket:
            del self._by_client_id[socket.connection.client_id]
        socket.let_go()
        if not self._sockets:
            self._nobody.set()

    def _watch_expiry(self, socket: ServerSocket) -> None:
        """Close a socket when the identity of its client expires."""
        identity = socket.visitor.identity
        if socket.expiry is not None:
            socket.expiry.cancel()
            socket.expiry = None
        if identity is not None and identity.expires_at_seconds is not None:
            wait_seconds = min(identity.expires_at_seconds - self._options.get_now() / 1000, MAX_TIMER_SECONDS)
            socket.expiry = asyncio.get_running_loop().call_later(wait_seconds, self._look_at_expiry, socket)

    def _look_at_expiry(self, socket: ServerSocket) -> None:
        identity = socket.visitor.identity
        assert identity is not None
        assert identity.expires_at_seconds is not None
        if identity.expires_at_seconds * 1000 <= self._options.get_now():
            socket.close(CLOSE_UNAUTHORIZED, "mergesync:expired", "unauthorized")
        else:
            self._watch_expiry(socket)

    def _watch_silence(self, socket: ServerSocket) -> None:
        """Close a socket whose client says nothing for too long, though it lives."""
        if self._limits.idle_seconds is None:
            return
        loop = asyncio.get_running_loop()
        wait_seconds = socket.heard_at + self._limits.idle_seconds - loop.time()
        if wait_seconds > 0:
            socket.silence = loop.call_later(min(wait_seconds, MAX_TIMER_SECONDS), self._watch_silence, socket)
        else:
            socket.close(CLOSE_IDLE, "mergesync:idle", "idle")

    def log_out(self, name: str) -> int:
        """Close all sockets whose identity has this name, and those about to be opened; returns how many there were."""
        visitors = self._reception.log_out(name)
        sockets = [socket for socket in self._sockets.values() if socket.visitor in visitors and not socket.closing]
        for socket in sockets:
            self._close_logged_out(socket)
        return len(sockets)

    def _close_logged_out(self, socket: ServerSocket) -> None:
        socket.close(CLOSE_UNAUTHORIZED, "mergesync:logged-out", "unauthorized")

    async def _converse(self, socket: ServerSocket) -> None:
        try:
            await self._introduce(socket)
            frames = Frames(socket, self._limits, self.rounds, self._count_receive)
            if isinstance(socket.connection, GatewayConnection):
                await self._pass_to_gateway(socket, socket.connection, frames)
            else:
                if not socket.closing:
                    socket.connection.open()
                await self._read(socket, socket.connection, frames)
        except ChannelClosed as closed:
            if closed.code in _CLOSED_FOR_A_FAULT and not socket.closing:
                self._blame(socket, RemoteProtocolError(f"the socket was closed with {closed}"))
            socket.close(CLOSE_NORMAL, "", "left" if closed.code in _CLOSED_ORDERLY else "lost")
        except Exception as error:
            note_place(error, socket.info.path_id, socket.info.client_id)
            self.report(error)
            socket.close(CLOSE_INTERNAL_ERROR, "", "fault")

    async def _introduce(self, socket: ServerSocket) -> None:
        """Tell the application; what the client said when it came is kept only where somebody may want to know."""
        if self._on_connection is not None:
            result = self._on_connection(socket.info)
            if inspect.isawaitable(result):
                await result
        asked = self._options.hooks.any or self._options.actions.handlers
        if not asked and socket.visitor.gateway is None:
            socket.visitor.forget_what_it_said()

    def _count_receive(self) -> None:
        self.receives += 1

    async def _pass_to_gateway(self, socket: ServerSocket, connection: GatewayConnection, frames: Frames) -> Never:
        """Let a gateway speak with a client."""
        assert socket.visitor.gateway is not None
        gateway, path_id = socket.visitor.gateway
        identity = socket.visitor.identity
        guest = GatewaySocket(connection, self, socket.channel, frames.next, socket.info, identity, path_id)
        try:
            await gateway(guest)
            frames.check_open()
            socket.close(CLOSE_NORMAL, "", "left")
        except RefusedError as error:  # it was reported where it was refused
            farewell = forbidden(error.message)
            socket.close(farewell.code, farewell.reason, farewell.why)
        except LoadError:  # the path closes the socket
            pass
        except ConnectionLostError:  # what the channel says of that comes now
            pass
        except SyncError as error:
            self._blame(socket, error)
        while True:  # until it is closed
            await frames.next()

    async def _read(self, socket: ServerSocket, connection: ServerConnection, frames: Frames) -> Never:
        """Read until the socket is closed."""
        loop = asyncio.get_running_loop()
        while True:
            frame = await frames.next()
            try:
                connection.receive(frame, loop.time())
            except SyncError as error:
                self._blame(socket, error)
            if socket.turns is not None or socket.renewal is not None:
                await socket.caught_up()

    def _condemn(self, socket: ServerSocket, error: SyncError) -> None:
        """Blame a socket as soon as whoever is sending now is through."""
        if not socket.condemned:
            socket.condemned = True
            asyncio.get_running_loop().call_soon(self._blame, socket, error)

    def _blame(self, socket: ServerSocket, error: SyncError) -> None:
        """A client is at fault: report once, with path and client, and close its socket with the right code."""
        if socket.closing:
            return
        note_place(error, socket.info.path_id, socket.info.client_id)
        self.report(error)
        if isinstance(error, RemoteProtocolError | LimitExceededError):
            socket.close(error.close_code, error.close_reason, "fault")
        else:
            socket.close(CLOSE_INTERNAL_ERROR, "", "fault")

    async def destroy(self, code: int, reason: str) -> None:
        """Close all sockets, store everything, let go of everything."""
        self._destroyed = (code, reason)
        for socket in list(self._sockets.values()):
            socket.close(code, reason, "shutdown")
        while self._sockets:
            self._nobody.clear()
            await self._nobody.wait()
        await self._reception.close()
        await asyncio.gather(*(path.destroy() for path in [*self._paths.values(), *self._ending.values()]))

    # --- what connections say

    def admit(self, path_id: str, connection: ServerConnection, decided: Callable[[bool], None]) -> None:
        """Whether a client may come onto the path of a channel."""
        socket = self._sockets[connection]

        def done(outcome: Client | RefusedConnectionError) -> None:
            if socket.closing:
                return
            if isinstance(outcome, Client):
                socket.clients[path_id] = outcome
                decided(True)
            else:
                decided(False)
                self._tell_refused(socket, path_id, forbidden(outcome.message, outcome.retry_after_seconds))

        self._reception.admit(path_id, socket.visitor, done)
        self._wait_for(socket, self._reception.turns_of(path_id))

    def _tell_refused(self, socket: ServerSocket, path_id: str, farewell: Farewell) -> None:
        """Tell a client that it is not on the path of a channel; TinyBase has no words for that."""
        if socket.connection.extended:
            self._post_operation(socket, path_id, Operation(None, REFUSED, [farewell.kind, farewell.text]))

    def _post_operation(self, socket: ServerSocket, path_id: str, operation: Operation) -> None:
        connection = socket.connection
        assert isinstance(connection, ServerConnection)
        prefix = connection.prefix(path_id)
        if prefix is not None:
            self._post_now(socket, f"{prefix}{OPERATIONS}\n{operation_remainder(operation)}")

    def _wait_for(self, socket: ServerSocket, turns: Turns) -> None:
        """Read no more of a socket until the application is through with what it has said."""
        if turns.busy:
            socket.turns = turns

    def join(self, path_id: str, connection: ServerConnection, channel_id: str | None) -> None:
        """A client comes onto a path."""
        if self._has_no_room_for(path_id):
            self._condemn(self._sockets[connection], self._too_many_paths(path_id))
        elif (refusal := self._gone(path_id)) is not None:
            self._turn_away(path_id, connection, refusal.message)
        else:
            self._join(path_id, connection, syncs=True)

    def _gone(self, path_id: str) -> RefusedConnectionError | None:
        """Why nobody may come onto a path, if it has been removed, or never was made."""
        main_id = main_of(path_id) if self._options.presence else None
        return self._life.refusal(path_id if main_id is None else main_id)

    async def admit_member(self, path_id: str, connection: GatewayConnection, hello: Any) -> Client:
        """Let the client of a gateway onto a path; raises RefusedConnectionError."""
        visitor = self._sockets[connection].visitor
        visitor.info = replace(visitor.info, hello=hello)
        return await self._reception.admitted(path_id, visitor)

    def join_member(self, path_id: str, connection: GatewayConnection, client: Client) -> Path:
        """The client of a gateway comes onto a path.

        Raises:
            QuotaExceededError: there are as many paths as `Limits` allow.
            ConnectionLostError: its socket is being closed.
            RefusedConnectionError: the path was removed.
        """
        socket = self._sockets[connection]
        if socket.closing or socket.condemned:
            raise ConnectionLostError("the socket is being closed", path_id=path_id, client_id=client.id)
        if self._has_no_room_for(path_id):
            raise self._too_many_paths(path_id)
        if (refusal := self._gone(path_id)) is not None:
            raise refusal
        socket.clients[path_id] = client
        connection.members[path_id] = None
        return self._join(path_id, connection, syncs=False)

    def _join(self, path_id: str, connection: Connection, *, syncs: bool) -> Path:
        clients = self.on_path.get(path_id)
        if clients is None:
            clients = self.on_path[path_id] = {}
            self._life.occupied(path_id, True)
            self._tell("path", path_id, 1)
        clients[connection.client_id] = self._sockets[connection]
        self._tell("client", path_id, connection.client_id, 1)
        path = self._paths.get(path_id)
        if path is None:
            path = self._new_path(path_id)
        path.join(self._sockets[connection].clients[path_id], syncs=syncs)
        return path

    def _new_path(self, path_id: str) -> Path:
        turns, predecessor = self._reception.turns_of(path_id), self._ending.get(path_id)
        main_id = main_of(path_id) if self._options.presence else None
        seen = self._options.presence or self._options.gateways  # their protocols may know of other clients
        presence = self._presence_of(path_id if main_id is None else main_id) if seen else None
        if main_id is None or presence is None:
            path = Path(
                path_id,
                self._options,
                self,
                turns,
                presence,
                predecessor,
                past=self._life.past(path_id),
                created_at_seconds=self._life.created_at(path_id),
            )
        else:
            get_main = partial(self._paths.get, main_id)
            path = CompanionPath(path_id, self._options, self, turns, presence, predecessor, get_main)
        self._paths[path_id] = path
        return path

    def _presence_of(self, path_id: str) -> Presence:
        """Who is on a path; kept by the path and by its companion while there are any."""
        presence = self._presences.get(path_id)
        if presence is None:
            presence = self._presences[path_id] = Presence(self._options.get_now)
        return presence

    def _has_no_room_for(self, path_id: str) -> bool:
        """Whether a path would be one too many, counting those that are still being stored."""
        there = self._paths.keys() | self._ending.keys() if self._ending else self._paths.keys()
        return self._limits.paths is not None and path_id not in there and len(there) >= self._limits.paths

    def _too_many_paths(self, path_id: str) -> QuotaExceededError:
        return QuotaExceededError(
            f"more than {self._limits.paths} paths",
            limit="paths",
            retry_after_seconds=QUOTA_RETRY_SECONDS,
            path_id=path_id,
        )

    def leave(self, path_id: str, connection: Connection) -> None:
        """A client leaves a path, unless it was refused there."""
        self._leave(path_id, connection, self._sockets[connection].why)

    def _leave(self, path_id: str, connection: Connection, why: LeaveReason) -> None:
        clients = self.on_path.get(path_id, {})
        socket = clients.pop(connection.client_id, None)
        if socket is None:
            return
        for answer in [answer for answer, asked in socket.unanswered.items() if asked.path_id == path_id]:
            del socket.unanswered[answer]
        socket.clients.pop(path_id, None)
        self._tell("client", path_id, connection.client_id, -1)
        if not clients:
            del self.on_path[path_id]
            self._fanout.forget(path_id)
            self._life.occupied(path_id, False)
            self._tell("path", path_id, -1)
        path = self._paths.get(path_id)
        if path is not None:
            path.leave(connection.client_id, why)

    def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
        """A client says something on a path."""
        path = self._paths[path_id]
        path.receive(connection.client_id, address, payload)
        if path.reviews(connection.client_id):
            self._sockets[connection].turns = path.turns

    def operate(self, path_id: str, connection: ServerConnection, operation: Operation, size: int) -> None:
        """A client asks the server itself, or answers what it was asked.

        Raises:
            LimitExceededError: too much that it has asked is not answered yet.
        """
        socket, client_id = self._sockets[connection], connection.client_id
        greets = operation.name == HELLO
        if greets and operation.body is None:
            self._answer(socket, path_id, operation, OK, self._greeting(client_id, 0.0))
        elif operation.name == TOKEN and self._reception.identifies:
            socket.renewal = asyncio.create_task(self._renew(path_id, socket, operation))
        elif operation.name in (OK, ERROR):
            self._paths[path_id].answered(client_id, operation)
        else:
            if len(socket.unanswered) >= MAX_UNANSWERED_OPERATIONS:
                raise LimitExceededError(f"more than {MAX_UNANSWERED_OPERATIONS} unanswered", limit="requests")
            if size + socket.unanswered_size > MAX_UNANSWERED_BYTES:
                raise LimitExceededError(f"more than {MAX_UNANSWERED_BYTES} bytes unanswered", limit="requests")

            asked_at = asyncio.get_running_loop().time()

            def answer(name: str, body: Any) -> None:
                if socket.unanswered.pop(answer, None) is not None:
                    if greets and name == OK:
                        held_seconds = asyncio.get_running_loop().time() - asked_at
                        body = {**self._greeting(client_id, held_seconds), **body}
                    self._answer(socket, path_id, operation, name, body)

            socket.unanswered[answer] = Question(path_id, size)
            path = self._paths[path_id]
            path.operate(client_id, operation, answer)
            if operation.name not in EXCHANGES or path.reviews(client_id):
                self._wait_for(socket, path.turns)

    def _greeting(self, client_id: str, held_seconds: float) -> dict[str, Any]:
        """Who this is, who the client is, and what time it is, so long after it has asked."""
        now = self._options.get_now()
        return {"server": self._id, "client": client_id, "now": now, "held": round(held_seconds * 1000)}

    async def _renew(self, path_id: str, socket: ServerSocket, asked: Operation) -> None:
        """Who came with one token shows another: ask anew who it is, and what it may do on each of its paths."""
        visitor = socket.visitor
        assert visitor.identity is not None
        try:
            identity = await self._reception.identify(replace(socket.info, token=str(asked.body)))
        except RefusedConnectionError as refusal:
            self._answer(socket, path_id, asked, ERROR, ["refused", refusal.message])
            return
        if identity.name != visitor.identity.name:
            self._answer(socket, path_id, asked, ERROR, ["refused", "the token of somebody else"])
            return
        visitor.identity = identity
        self._watch_expiry(socket)
        for joined in list(socket.clients.values()):
            await self._readmit(socket, joined)
        self._answer(socket, path_id, asked, OK, None)

    async def _readmit(self, socket: ServerSocket, client: Client) -> None:
        """What a client may do on a path may have changed with its token."""
        try:
            admitted = await self._reception.admitted(client.path_id, socket.visitor)
        except RefusedConnectionError as refusal:
            if self.on_path.get(client.path_id, {}).get(client.id) is socket:
                self.put_out(client.path_id, client.id, forbidden(refusal.message))
            return
        client.identity, client.access = admitted.identity, admitted.access
        path = self._paths.get(client.path_id)
        if path is not None and self.on_path.get(client.path_id, {}).get(client.id) is socket:
            path.access_changed(client)

    def _answer(self, socket: ServerSocket, path_id: str, asked: Operation, name: str, body: Any) -> None:
        if asked.request_id is not None:
            answer = Operation(asked.request_id, name, body)
            if not fits_message(operation_remainder(answer)):
                what = "a row is too large to be sent"
                place = {"path_id": path_id, "client_id": socket.info.client_id}
                self.report(LimitExceededError(what, limit="socket", **place))
                answer = Operation(asked.request_id, ERROR, ["limit", what])
            self._post_operation(socket, path_id, answer)

    def send_to(self, connection: Connection, frame: str) -> None:
        """A control for a socket, or a frame of a gateway, whose client can miss nothing."""
        socket = self._sockets[connection]
        if isinstance(connection, GatewayConnection) and not self._laggards.may_wait(
            socket.channel, len(frame), MAX_OUTBOX_BYTES
        ):
            self._condemn(socket, _does_not_read())
        else:
            self._post_now(socket, frame)

    # --- what gateways say

    def exists(self, path_id: str) -> bool:
        """Whether there is a path."""
        path = self._paths.get(path_id)
        return self._life.is_made(path_id) or (path is not None and path.is_used)

    def close_socket(self, connection: GatewayConnection, code: int, reason: str) -> None:
        """Close a socket, because of what its client has done."""
        self._sockets[connection].close(code, reason, "left" if code in _CLOSED_ORDERLY else "fault")

    def blame(self, connection: GatewayConnection, error: Exception, *, closes: bool) -> None:
        """Report an error of a client, or of the gateway, and close its socket."""
        socket = self._sockets[connection]
        note_place(error, socket.info.path_id, socket.info.client_id)
        self.report(error)
        if closes:
            socket.close(CLOSE_INTERNAL_ERROR, "", "fault")

    # --- what the application says

    def path(self, path_id: str) -> Path | None:
        """A path that is there."""
        return self._paths.get(path_id)

    def open(self, path_id: str) -> Path:
        """A path, whether it is there or not; nobody is on it yet.

        Raises:
            QuotaExceededError: it would be one too many.
            PathClosedError: the server is destroyed.
        """
        if self._destroyed is not None:
            raise PathClosedError("the server is destroyed", path_id=path_id)
        if self._has_no_room_for(path_id):
            raise self._too_many_paths(path_id)
        refusal = self._gone(path_id)
        if refusal is not None and refusal.retry_after_seconds is not None:
            raise PathClosedError(refusal.message, path_id=path_id)
        path = self._paths.get(path_id)
        return self._new_path(path_id) if path is None else path

    def loaded_path_ids(self) -> list[str]:
        """The paths that are there, but for companions."""
        return [path_id for path_id, path in self._paths.items() if not isinstance(path, CompanionPath)]

    async def end(self, path_id: str, text: str) -> None:
        """Put all clients out of a path and its companion, as it is removed, and let go of it."""
        for place in (path_id, companion_of(path_id)) if self._options.presence else (path_id,):
            for client_id in list(self.on_path.get(place, ())):
                self.put_out(place, client_id, removed(text))
        there = [paths[path_id] for paths in (self._paths, self._ending) if path_id in paths]
        await asyncio.gather(*(path.destroy() for path in there))

    def remove(self, path_id: str) -> None:
        """The application wants a path to go."""
        try:
            self._life.begin_removal(path_id, "")
        except NotSupportedError as error:
            self.report(error)

    def _turn_away(self, path_id: str, connection: ServerConnection, text: str) -> None:
        """A client comes onto a path that has been removed since it was let in."""
        socket = self._sockets[connection]
        if connection.multiplexed:
            connection.silence(path_id)
            self._tell_refused(socket, path_id, removed(text))
        else:
            socket.close(CLOSE_REMOVED, removed(text).reason, "removed")

    # --- what paths say

    def send(self, path_id: str, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients of a path."""
        self._fanout.flush()
        for prefix, sockets in self._sockets_of(path_id, client_ids).items():
            self._post(list(sockets.values()), [prefix + frame])

    def _sockets_of(self, path_id: str, client_ids: Iterable[str]) -> dict[str, dict[str, ServerSocket]]:
        """The sockets of clients of a path, by what precedes frames on them, then by client id."""
        clients = self.on_path.get(path_id, {})
        sockets: dict[str, dict[str, ServerSocket]] = {}
        for client_id in client_ids:
            socket = clients.get(client_id)
            connection = None if socket is None else socket.connection
            if socket is not None and isinstance(connection, ServerConnection):
                prefix = connection.prefix(path_id)
                if prefix is not None:
                    sockets.setdefault(prefix, {})[client_id] = socket
        return sockets

    def send_changes(self, path_id: str, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """A message that clients miss if they do not read; it goes out at the end of this turn of the event loop."""
        self._fanout.add(path_id, readers, frames, author)

    def _gather(self, path_id: str, readers: tuple[str, ...]) -> Audience:
        return Audience(path_id, readers, self._sockets_of(path_id, readers))

    def _deliver(self, batch: Batch) -> None:
        """Send the changes of a turn to the readers of a path: all but their authors get the very same bytes."""
        path_id, misses = batch.audience.path_id, self._laggards.misses
        for prefix, sockets in batch.audience.sockets.items():
            others, missing = [], []
            for client_id, socket in sockets.items():
                if misses(socket.channel, path_id, client_id, batch.size):
                    missing.append(client_id)
                elif client_id in batch.authors:
                    self._post([socket], batch.frames_for(client_id, prefix))
                else:
                    others.append(socket)
            self._write(others, batch.frames_for(None, prefix))
            for client_id in missing:  # until it has caught up, it costs nothing
                del sockets[client_id]

    def tell(self, path_id: str, client_id: str, operation: Operation) -> bool:
        """An operation that a client has not asked for; whether it can be told, and reads."""
        socket = self.on_path.get(path_id, {}).get(client_id)
        if socket is None or socket.channel.queued_bytes > self._limits.outbox_bytes:
            return False
        if isinstance(socket.connection, GatewayConnection):
            return socket.connection.tell(path_id, operation)
        if not socket.connection.extended:
            return False
        self._post_operation(socket, path_id, operation)
        return True

    def _catch_up(self, path_id: str, client_id: str) -> None:
        self._fanout.forget(path_id)
        path = self._paths.get(path_id)
        if path is not None:
            path.catch_up(client_id)

    def _post_now(self, socket: ServerSocket, frame: str) -> None:
        """Send a frame, after all changes that were to be sent before."""
        self._fanout.flush()
        if not socket.closing:
            self._post([socket], [frame])

    def _post(self, sockets: list[ServerSocket], frames: list[str]) -> None:
        size = sum(map(len, frames))  # the bytes may be more, but that decides little
        for socket in sockets:
            queued_bytes = socket.channel.queued_bytes
            if queued_bytes and queued_bytes + size > MAX_OUTBOX_BYTES:
                self._condemn(socket, _does_not_read())
        self._write(sockets, frames)

    def _write(self, sockets: list[ServerSocket], frames: list[str]) -> None:
        """Send frames to clients of which it is known that they read, or may miss nothing more."""
        if not all(map(fits_frame, frames)):
            for socket in sockets:
                self._condemn(socket, LimitExceededError(f"more than {MAX_FRAME_BYTES} bytes to send", limit="socket"))
            return
        ready = [socket.channel for socket in sockets if not socket.condemned]
        if ready and frames:
            self.sends += len(ready) * len(frames)
            post_to_all(ready, frames)

    def close(self, path_id: str, client_id: str, error: SyncError) -> None:
        """A client of a path has to go."""
        socket = self.on_path.get(path_id, {}).get(client_id)
        if socket is not None:
            self._condemn(socket, error)

    def put_out(self, path_id: str, client_id: str, farewell: Farewell) -> None:
        """A client must leave a path, and no other; without channels, its socket is closed."""
        socket = self.on_path[path_id][client_id]
        connection = socket.connection
        if isinstance(connection, ServerConnection) and connection.multiplexed:
            self._leave(path_id, connection, farewell.why)
            connection.silence(path_id)
            self._tell_refused(socket, path_id, farewell)
        else:
            socket.close(farewell.code, farewell.reason, farewell.why)

    def refuse(self, path_id: str, client_ids: Iterable[str], retry_after_seconds: float) -> None:
        """A path cannot be served for now: close its clients with a retry time; channels stay and are resynced."""
        clients = self.on_path.get(path_id, {})
        reason = f"mergesync:load retry-after={retry_after_seconds:.3f}"
        for socket in [clients[client_id] for client_id in client_ids if client_id in clients]:
            if not socket.connection.multiplexed:
                asyncio.get_running_loop().call_soon(socket.close, CLOSE_TRY_AGAIN_LATER, reason, "fault")

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
                socket.close(CLOSE_INTERNAL_ERROR, "", "fault")


def _does_not_read() -> LimitExceededError:
    return LimitExceededError("the client does not read what is sent to it", limit="socket")
