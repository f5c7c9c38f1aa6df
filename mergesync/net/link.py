"""A socket to a server that is made anew whenever it is lost, and the stores that talk over it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from mergesync.deadlines import earliest
from mergesync.exceptions import (
    ConnectionLostError,
    LimitExceededError,
    NotSupportedError,
    RefusedConnectionError,
    SyncError,
)
from mergesync.limits import (
    CLOSE_TIMEOUT_SECONDS,
    MAX_CHANNELS,
    MAX_OUTBOX_BYTES,
    MAX_READ_BYTES,
    PUT_OUT_RETRY_SECONDS,
    RECONNECT_CAP_SECONDS,
    RECONNECT_FIRST_SECONDS,
    RECONNECT_STABLE_SECONDS,
)
from mergesync.net.alarm import Alarm
from mergesync.net.backoff import full_jitter, retry_after_seconds
from mergesync.net.channel import ChannelClosed, WebsocketsChannel
from mergesync.net.reporting import Reporter
from mergesync.sync.client_connection import ClientConnection, check_channel_id
from mergesync.sync.messages import Message
from mergesync.sync.operations import OK, TOKEN, Operation
from mergesync.sync.payloads import fits_frame
from mergesync.sync.subprotocols import dialect_of, offered
from mergesync.system import new_id
from mergesync.waiting import settle

__all__ = ["Link", "LinkState", "Port", "Token"]

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""What proves to a server who this is: a text, or what returns one for each new connection."""

_REFUSED = (401, 403)
_REQUEST_ID_LENGTH = 11
_CLOSE_NORMAL = 1000
_CLOSE_INTERNAL_ERROR = 1011
_CLOSE_REMOVED = 4410
_GONE = 410
_CLOSED_WITHOUT_FAULT = (1000, 1001, 1005, 1006, 1012)
"""Close codes after which a server is asked again soon: it went away, or the network did."""
_PUT_OUT = range(4000, 5000)
"""Close codes of applications: somebody has put us out on purpose, but for the two below."""
_CLOSED_TO_COME_AGAIN = (4401, 4429)
"""Another token may do; or it says itself how long to wait."""


class LinkState(enum.Enum):
    """Whether there is a connection."""

    OFFLINE = enum.auto()
    CONNECTING = enum.auto()
    CONNECTED = enum.auto()


class Port(Protocol):
    """What a link needs of a store that talks over it."""

    def opened(self) -> None:
        """Messages can be sent."""

    def closed(self) -> None:
        """The connection is gone."""

    def ended(self, error: SyncError) -> None:
        """There will be no connection any more."""

    def receive(self, sender: str, message: Message) -> None:
        """A message of a peer."""

    def operate(self, operation: Operation) -> None:
        """The server itself says something."""

    @property
    def deadline(self) -> float | None:
        """When `wake` is due."""

    def wake(self, now: float) -> None:
        """Time has passed."""

    def link_changed(self) -> None:
        """The state of the link may have changed."""


class Link:
    """A socket to a server that reconnects for ever, while at least one port is attached.

    One task connects, reads until the connection is lost, waits, and connects again.

    Args:
        url: where to.
        multiplexed: whether to use channels.
        connect_options: passed to `websockets.connect`.
        token: sent with each new connection.
        timeout_seconds: how long the server may take to accept channels, and a message may lack fragments.
        report: hears of every error that nobody called for.

    Attributes:
        state: whether there is a connection.
        connections: how many have been made.
        error: why there is none; None while there is one, or none was tried.
        report: see above.
    """

    def __init__(
        self,
        url: str,
        *,
        multiplexed: bool,
        connect_options: dict[str, Any],
        token: Token,
        timeout_seconds: float,
        report: Reporter,
    ) -> None:
        self.url = url
        self.multiplexed = multiplexed
        self.state: LinkState = LinkState.OFFLINE
        self.connections: int = 0
        self.error: Exception | None = None
        self._timeout_seconds = timeout_seconds
        self.report = report
        self._token = token
        self._requests: dict[str, asyncio.Future[Operation]] = {}
        self._connect_options = {
            "max_size": MAX_READ_BYTES,
            "compression": None,
            "close_timeout": CLOSE_TIMEOUT_SECONDS,
            # What is sent never waits, but pings do above this limit, and then would not find out that nobody reads.
            "write_limit": 2 * MAX_OUTBOX_BYTES,
            "subprotocols": offered(multiplexed=multiplexed),
            **connect_options,
        }
        self._ports: dict[str | None, Port] = {}
        self._channel: WebsocketsChannel | None = None
        self._connection: ClientConnection | None = None  # while messages can be exchanged
        self._life: asyncio.Task[None] | None = None
        self._last_life: asyncio.Task[None] | None = None  # which may be closing its socket still
        self._waiters: set[asyncio.Future[None]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._fault = False  # the present connection was closed here, for a fault of the server or our own
        self._ended: RefusedConnectionError | None = None  # the path was removed: there is no use in trying again
        self._heard = False  # something came on the present connection
        self._alarm = Alarm(self._deadline, self._wake)

    # --- ports

    def attach(self, port: Port, channel_id: str | None) -> None:
        """Add a port.

        Raises:
            ValueError: its channel does not fit this socket, or is in use.
            LimitExceededError: there are too many.
        """
        if self.multiplexed is (channel_id is None):
            raise ValueError("a socket with channels needs a channel id, and a plain one has none")
        if channel_id in self._ports:
            raise ValueError(f"channel {channel_id!r} is in use on this socket already")
        if channel_id is not None:
            check_channel_id(channel_id)
            if len(self._ports) >= MAX_CHANNELS:
                raise LimitExceededError(f"more than {MAX_CHANNELS} channels on a socket", limit="channels")
            if self._connection is not None:
                self._connection.subscribe(channel_id, _now())
                self._alarm.set()
        self._ports[channel_id] = port

    async def detach(self, port: Port, channel_id: str | None) -> None:
        """Remove a port; after the last one the socket is closed."""
        if self._ports.get(channel_id) is port:
            del self._ports[channel_id]
            if self._connection is not None and channel_id is not None:
                self._connection.unsubscribe(channel_id)
            self._alarm.set()
        if not self._ports:
            await self._close()

    async def connect(self, *, wait: bool) -> None:
        """Begin to connect, and to reconnect whenever the connection is lost.

        Args:
            wait: return when there is a connection.

        Raises:
            ConnectionLostError: `wait`, and the next attempt failed.
            RefusedConnectionError: the path was removed.
        """
        if self._ended is not None:
            raise self._ended
        if self._life is None:
            previous, self._last_life = self._last_life, None
            self._life = asyncio.create_task(self._live(previous), name=f"mergesync client {self.url}")
        if wait and self.state is not LinkState.CONNECTED:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def is_open(self, channel_id: str | None) -> bool:
        """Whether messages can be sent on a channel."""
        return self._connection is not None and self._connection.is_open(channel_id)

    @property
    def extended(self) -> bool:
        """Whether there is a connection on which operations were agreed on."""
        return self._connection is not None and self._connection.extended

    def post_operation(self, channel_id: str | None, operation: Operation) -> None:
        """Say something to the server itself; only where `extended`."""
        if self._connection is not None:
            self.send(self._connection.outgoing_operation(channel_id, operation))

    def post(self, channel_id: str | None, address: str, remainder: str) -> None:
        """Send a message or fragment; without a connection it is dropped, and made up for by the next exchange."""
        if self._connection is not None:
            self.send(self._connection.outgoing(channel_id, address, remainder))

    def ask_again(self, channel_ids: Iterable[str | None]) -> None:
        """Ask again for channels that the server has refused, where they are still wanted."""
        connection = self._connection
        for channel_id in channel_ids:
            if connection is not None and connection is self._connection and channel_id is not None:
                self._act(connection.subscribe_again, channel_id, _now())

    def set_alarm(self) -> None:
        """Some deadline may have changed."""
        self._alarm.set()

    # --- life

    async def _close(self) -> None:
        """Close the socket, and connect no more."""
        life, self._life = self._life, None
        if life is None:
            return
        settle(self._waiters, ConnectionLostError(f"the connection to {self.url} was given up"))
        self._last_life = life
        life.cancel()
        self._drop()
        await asyncio.wait([life])

    async def _live(self, previous: asyncio.Task[None] | None) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
        try:
            while True:
                worked, wait_seconds = await self._connect_once()
                if self._ended is not None:
                    for port in list(self._ports.values()):
                        port.ended(self._ended)
                    return
                if worked:
                    waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
                await asyncio.sleep(wait_seconds + next(waits))
        finally:
            self._set_state(LinkState.OFFLINE)

    async def _connect_once(self) -> tuple[bool, float]:
        """Connect and stay connected as long as possible: whether that worked, and how long to wait at least."""
        self._set_state(LinkState.CONNECTING)
        try:
            connection = await connect(self.url, **await self._options())
        except Exception as error:
            self._set_state(LinkState.OFFLINE)
            return False, self._connecting_failed(error)
        began = _now()
        closed = await self._talk(WebsocketsChannel(connection), extended=dialect_of(connection.subprotocol).extended)
        wait_seconds = retry_after_seconds(closed.reason)
        if closed.code in _PUT_OUT and closed.code not in _CLOSED_TO_COME_AGAIN:
            return False, max(wait_seconds, PUT_OUT_RETRY_SECONDS)
        worked = self._heard and not self._fault and closed.code in _CLOSED_WITHOUT_FAULT
        return worked or _now() - began > RECONNECT_STABLE_SECONDS, wait_seconds

    async def _options(self) -> dict[str, Any]:
        """What to connect with; the token may have to be fetched."""
        token = self._token() if callable(self._token) else self._token
        token = await token if inspect.isawaitable(token) else token
        if token is None:
            return self._connect_options
        headers = {**self._connect_options.get("additional_headers", {}), "Authorization": f"Bearer {token}"}
        return {**self._connect_options, "additional_headers": headers}

    async def refresh_token(self, token: str) -> None:
        """Use another token from now on; see `WsClient.refresh_token`."""
        if not callable(self._token):
            self._token = token
        connection = self._connection
        if connection is None:
            return
        if not connection.extended:
            raise NotSupportedError("the server does not take another token on an open connection")
        channel_id = next((channel_id for channel_id in self._ports if self.is_open(channel_id)), None)
        if not self.is_open(channel_id):  # there is nowhere to say it, but on a new connection
            assert self._channel is not None
            self._drop()
            self._begin_closing(self._channel, _CLOSE_NORMAL, "")
            return
        closed = [channel_id for channel_id in self._ports if not self.is_open(channel_id)]
        request_id = new_id(_REQUEST_ID_LENGTH)
        answer = self._requests[request_id] = asyncio.get_running_loop().create_future()
        self.post_operation(channel_id, Operation(request_id, TOKEN, token))
        try:
            operation = await answer
        finally:
            del self._requests[request_id]
        if operation.name != OK and isinstance(operation.body, list) and "unknown" in operation.body:
            raise NotSupportedError("the server does not ask who its clients are")
        if operation.name != OK:
            raise RefusedConnectionError(f"the server refuses the token: {operation.body!s:.200}", status=_REFUSED[0])
        self.ask_again(closed)  # it may open what the former one did not

    def _connecting_failed(self, error: Exception) -> float:
        wait_seconds = 0.0
        if isinstance(error, InvalidStatus):
            wait_seconds = retry_after_seconds(f"retry-after={error.response.headers.get('Retry-After')}")
        if isinstance(error, InvalidStatus) and (status := error.response.status_code) in _REFUSED:
            text = bytes(error.response.body or b"").decode(errors="replace").strip()
            refusal = RefusedConnectionError(f"{self.url} answers {status}: {text:.200}", status=status)
            refusal.__cause__ = error
            error = refusal
        elif isinstance(error, OSError | WebSocketException):
            cause, error = error, ConnectionLostError(f"cannot connect to {self.url}: {error}")
            error.__cause__ = cause
        self.error = error
        if not settle(self._waiters, error):
            self.report(error)
        return wait_seconds

    def _set_state(self, state: LinkState) -> None:
        if state is not self.state:
            self.state = state
            for port in list(self._ports.values()):
                port.link_changed()

    # --- one connection

    async def _talk(self, channel: WebsocketsChannel, *, extended: bool) -> ChannelClosed:
        """Read until the connection is lost; returns how it ended."""
        channel_ids = [channel_id for channel_id in self._ports if channel_id is not None]
        connection = ClientConnection(
            channel_ids if self.multiplexed else None,
            self,
            timeout_seconds=self._timeout_seconds,
            new_id=new_id,
            extended=extended,
        )
        self._channel, self._connection, self._closing = channel, connection, None
        self._heard = self._fault = False
        self.connections += 1
        self.error = None
        try:
            self._set_state(LinkState.CONNECTED)
            settle(self._waiters)
            self._act(connection.open, _now())
            while True:
                frame = await channel.receive()
                if self._connection is not None:
                    self._heard = True
                    self._act(connection.receive, frame, _now())
        except ChannelClosed as closed:
            if self._closing is None:
                self.error = self._loss(closed)
                self.report(self.error)
            return closed
        finally:
            self._drop()
            await self._finish_closing(channel)

    def _loss(self, closed: ChannelClosed) -> SyncError:
        """What the other side's closing means."""
        if closed.code == _CLOSE_REMOVED:
            self._ended = RefusedConnectionError(f"{self.url}: the path was removed: {closed}", status=_GONE)
            return self._ended
        return ConnectionLostError(f"{self.url} closed the connection: {closed}")

    def _act(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            self._abort(error)
        self._alarm.set()

    def _abort(self, error: Exception) -> None:
        """The connection is of no use: close it, and connect anew."""
        if self._channel is not None and self._closing is None:
            self._fault = True
            self.error = error
            self.report(error)
            self._drop()
            code = getattr(
                error, "close_code", _CLOSE_NORMAL if isinstance(error, SyncError) else _CLOSE_INTERNAL_ERROR
            )
            self._begin_closing(self._channel, code, getattr(error, "close_reason", ""))

    def _drop(self) -> None:
        """Nothing can be sent or received from now on."""
        if self._connection is not None:
            self._connection = None
            for answer in self._requests.values():
                if not answer.done():
                    answer.set_exception(ConnectionLostError("the connection closed before an answer came"))
            self._set_state(LinkState.OFFLINE)
            for port in list(self._ports.values()):
                port.closed()
            self._alarm.set()

    def _begin_closing(self, channel: WebsocketsChannel, code: int, reason: str) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(channel.close(code, reason))
        return self._closing

    async def _finish_closing(self, channel: WebsocketsChannel) -> None:
        """Read on until it is closed, as the other side's close frame comes last."""
        closing = self._begin_closing(channel, _CLOSE_NORMAL, "")
        with contextlib.suppress(ChannelClosed):
            while True:
                await channel.receive()
        await asyncio.wait([closing])
        self._channel = None

    # --- time

    def _deadline(self) -> float | None:
        if self._connection is None:
            return None
        return earliest(self._connection.deadline, *[port.deadline for port in self._ports.values()])

    def _wake(self, now: float) -> None:
        if self._connection is not None:
            self._act(self._connection.wake, now)
        for port in list(self._ports.values()):
            port.wake(now)

    # --- what the connection says (Ports)

    def send(self, frame: str) -> None:
        """A frame for the socket."""
        channel = self._channel
        if channel is None or self._fault:
            return
        if not fits_frame(frame) or channel.queued_bytes + len(frame) > MAX_OUTBOX_BYTES:
            error = LimitExceededError("more is to be sent than the server reads", limit="socket")
            asyncio.get_running_loop().call_soon(self._abort, error)
            return
        channel.post(frame)

    def opened(self, channel_id: str | None) -> None:
        """A channel can be used."""
        port = self._ports.get(channel_id)
        if port is not None:
            port.opened()

    def operate(self, channel_id: str | None, operation: Operation) -> None:
        """An operation for a channel, or an answer to the link's own."""
        answer = self._requests.get(operation.request_id or "")
        if answer is not None and not answer.done():
            answer.set_result(operation)
            return
        port = self._ports.get(channel_id)
        if port is not None:
            port.operate(operation)

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        """A message for a channel."""
        port = self._ports.get(channel_id)
        if port is not None:
            port.receive(sender, message)


def _now() -> float:
    return asyncio.get_running_loop().time()
