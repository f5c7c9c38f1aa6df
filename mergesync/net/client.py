"""`WsSynchronizer`: keeps a store equal to those of others over a WebSocket that reconnects by itself.

Two objects share the work. A `WsClient` owns a socket, its reconnecting, and its channels; a `WsSynchronizer` owns one
store on one of the channels. With one store per socket, as usual, `create_ws_synchronizer(store, url)` makes both.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from mergesync.exceptions import ConnectionLostError, LimitExceededError, SyncError
from mergesync.limits import (
    DEFAULT_REQUEST_TIMEOUT_SECONDS,
    MAX_OUTBOX_BYTES,
    MAX_READ_BYTES,
    RECONNECT_CAP_SECONDS,
    RECONNECT_FIRST_SECONDS,
)
from mergesync.net.alarm import Alarm
from mergesync.net.backoff import full_jitter
from mergesync.net.channel import ChannelClosed, WebsocketsChannel
from mergesync.store import MergeableStore
from mergesync.sync.admission import is_empty
from mergesync.sync.client_connection import ClientConnection, check_channel_id
from mergesync.sync.messages import Message, encode_message
from mergesync.sync.payloads import SUBPROTOCOL, fits_frame, fragments_of
from mergesync.sync.synchronizer import Origin, Synchronizer, SynchronizerStats, SyncState
from mergesync.system import new_id
from mergesync.types import Content, MergeableChanges

__all__ = ["OnMessage", "SyncStatus", "WsClient", "WsSynchronizer", "create_ws_synchronizer"]

_logger = logging.getLogger("mergesync")

OnMessage = Callable[[str, str | None, int, Any], object]
"""`(address or sender, request id, type of message, body)`."""


class SyncStatus(enum.StrEnum):
    """What a synchronizer is doing; equal to its lower-case name as a string."""

    OFFLINE = "offline"
    """There is no connection, and none is being made: not yet, or it waits to try again."""
    CONNECTING = "connecting"
    """A connection is being made."""
    CONNECTED = "connected"
    """There is a connection, but syncing was not started, or was stopped."""
    SYNCING = "syncing"
    """Connected, and exchanging what each side lacks."""
    LIVE = "live"
    """Connected, up to date, and every change goes out as it is made."""
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class _Options:
    """How a synchronizer talks."""

    request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS
    fragment_size: float | None = None
    on_send: OnMessage | None = None
    on_receive: OnMessage | None = None
    on_ignored_error: Callable[[Exception], object] | None = None


class WsClient:
    """A socket to a server that reconnects for ever, for one plain synchronizer or several channels.

    Args:
        url: `ws://host/path` or `wss://...`. With channels, a channel `c` is the path `path/c`.
        multiplexed: whether to use channels.
        connect_options: passed to `websockets.connect`, such as `ssl` or `additional_headers`.
        timeout_seconds: how long the server may take to accept channels, and a message may lack fragments.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.

    Example:
        client = WsClient("ws://localhost:8047/shop", multiplexed=True)
        async with create_ws_synchronizer(pets, client, "pets"), create_ws_synchronizer(staff, client, "staff"):
            ...
    """

    def __init__(
        self,
        url: str,
        *,
        multiplexed: bool = False,
        connect_options: dict[str, Any] | None = None,
        timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
        on_ignored_error: Callable[[Exception], object] | None = None,
    ) -> None:
        self.url = url
        self.multiplexed = multiplexed
        self.timeout_seconds = timeout_seconds
        self.reconnects = 0
        self._connect_options = connect_options or {}
        self._on_ignored_error = on_ignored_error
        self._synchronizers: dict[str | None, WsSynchronizer] = {}
        self._channel: WebsocketsChannel | None = None
        self._connection: ClientConnection | None = None
        self._connecting = False
        self._life: asyncio.Task[None] | None = None
        self._first_attempt: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._deadline, self._wake)
        self._closing_error: SyncError | None = None

    # --- for synchronizers

    def attach(self, synchronizer: WsSynchronizer, channel_id: str | None) -> None:
        """Add a synchronizer; raises ValueError if its channel does not fit this socket or is in use."""
        if self.multiplexed is (channel_id is None):
            raise ValueError("a socket with channels needs a channel id, and a plain one has none")
        if channel_id in self._synchronizers:
            raise ValueError(f"channel {channel_id!r} is in use on this socket already")
        if self._connection is not None and channel_id is not None:
            self._connection.subscribe(check_channel_id(channel_id), _now())
        self._synchronizers[channel_id] = synchronizer

    async def connect(self, *, wait: bool) -> None:
        """Begin to connect, and to reconnect whenever the connection is lost.

        Args:
            wait: return when there is a connection.

        Raises:
            ConnectionLostError: `wait`, and the first attempt failed; nothing more is tried then.
        """
        if self._life is None:
            self._first_attempt = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(), name=f"mergesync client {self.url}")
        if wait and self._first_attempt is not None:
            await asyncio.shield(self._first_attempt)

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def connecting(self) -> bool:
        """Whether a connection is being made."""
        return self._connecting

    def is_open(self, channel_id: str | None) -> bool:
        """Whether messages can be sent on a channel."""
        return self._connection is not None and self._connection.is_open(channel_id)

    def post(self, channel_id: str | None, address: str, remainder: str) -> None:
        """Send a message or fragment; without a connection it is dropped, and made up for by the next exchange."""
        if self._connection is not None:
            self.send(self._connection.outgoing(channel_id, address, remainder))

    async def release(self, synchronizer: WsSynchronizer, channel_id: str | None) -> None:
        """Remove a synchronizer; after the last one the socket is closed."""
        if self._synchronizers.get(channel_id) is synchronizer:
            del self._synchronizers[channel_id]
            if self._connection is not None and channel_id is not None:
                self._connection.unsubscribe(channel_id)
            if not self._synchronizers:
                await self.close()

    async def close(self) -> None:
        """Close the socket, and connect no more."""
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait([life])

    def set_alarm(self) -> None:
        """Some deadline may have changed."""
        self._alarm.set()

    # --- life

    async def _live(self) -> None:
        waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
        try:
            while True:
                if await self._connect_once():
                    waits = full_jitter(RECONNECT_FIRST_SECONDS, RECONNECT_CAP_SECONDS)
                self._tell_status()
                await asyncio.sleep(next(waits))
        finally:
            self._alarm.cancel()

    async def _connect_once(self) -> bool:
        """Connect and stay connected as long as possible; whether it worked for a while."""
        self._connecting = True
        self._tell_status()
        options = {"max_size": MAX_READ_BYTES, "compression": None, **self._connect_options}
        if self.multiplexed:
            options["subprotocols"] = [SUBPROTOCOL]
        try:
            connection = await connect(self.url, **options)
        except (OSError, WebSocketException, TimeoutError) as error:
            self._connecting = False
            self._attempt_failed(error)
            return False
        channel = self._channel = WebsocketsChannel(connection)
        worked = False
        try:
            worked = await self._talk(channel)
        finally:
            self._connecting = False
            self._channel = self._connection = None
            self._alarm.set()
            for synchronizer in self._synchronizers.values():
                synchronizer.disconnected()
            await channel.close(1000, "")
        return worked

    def _attempt_failed(self, error: Exception) -> None:
        lost = ConnectionLostError(f"cannot connect to {self.url}: {error}")
        lost.__cause__ = error
        if self._first_attempt is not None and not self._first_attempt.done():
            self._first_attempt.set_exception(lost)
            self._first_attempt.exception()  # whoever waits has it; if nobody does, it is reported below
        self.report(lost)

    async def _talk(self, channel: WebsocketsChannel) -> bool:
        channel_ids = [channel_id for channel_id in self._synchronizers if channel_id is not None]
        self._connection = ClientConnection(
            channel_ids if self.multiplexed else None, self, timeout_seconds=self.timeout_seconds, new_id=new_id
        )
        self._connecting = False
        self._closing_error = None
        if self._first_attempt is not None and not self._first_attempt.done():
            self._first_attempt.set_result(None)
        else:
            self.reconnects += 1
        worked = False
        try:
            self._connection.open(_now())
            self.set_alarm()
            while True:
                frame = await channel.receive()
                self._connection.receive(frame, _now())
                worked = True
                self.set_alarm()
        except ChannelClosed as closed:
            if self._closing_error is None:
                self.report(ConnectionLostError(f"{self.url} closed the connection: {closed}"))
        except SyncError as error:
            self._give_up(error)
            await channel.close(getattr(error, "close_code", 1000), getattr(error, "close_reason", ""))
        return worked

    def _give_up(self, error: SyncError) -> None:
        if self._closing_error is None:
            self._closing_error = error
            self.report(error)

    def _deadline(self) -> float | None:
        if self._connection is None:
            return None
        deadlines = [self._connection.deadline, *(each.deadline for each in self._synchronizers.values())]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _wake(self, now: float) -> None:
        try:
            if self._connection is not None:
                self._connection.wake(now)
        except SyncError as error:
            self._abort(error)
        for synchronizer in list(self._synchronizers.values()):
            synchronizer.wake(now)

    def _abort(self, error: SyncError) -> None:
        """The socket is of no use: close it, and connect anew."""
        if self._channel is not None and self._closing_error is None:
            self._give_up(error)
            closing = self._channel.close(getattr(error, "close_code", 1000), getattr(error, "close_reason", ""))
            task = asyncio.ensure_future(closing)
            task.add_done_callback(lambda _: None)

    def report(self, error: Exception) -> None:
        """An error that nobody called for."""
        if self._on_ignored_error is None:
            _logger.warning(
                "%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, SyncError) else error
            )
            return
        try:
            self._on_ignored_error(error)
        except Exception:
            _logger.exception("on_ignored_error failed")

    def _tell_status(self) -> None:
        for synchronizer in list(self._synchronizers.values()):
            synchronizer.status_may_have_changed()

    # --- what the connection says (Ports)

    def send(self, frame: str) -> None:
        """A frame for the socket."""
        channel = self._channel
        if channel is None or self._closing_error is not None:
            return
        if not fits_frame(frame) or channel.queued_bytes + len(frame) > MAX_OUTBOX_BYTES:
            self._abort(LimitExceededError("more is to be sent than the server reads", limit="socket"))
            return
        channel.post(frame)

    def opened(self, channel_id: str | None) -> None:
        """A channel can be used."""
        synchronizer = self._synchronizers.get(channel_id)
        if synchronizer is not None:
            synchronizer.connected()

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        """A message for a channel."""
        synchronizer = self._synchronizers.get(channel_id)
        if synchronizer is not None:
            synchronizer.receive(sender, message)


class WsSynchronizer:
    """Keeps one store equal to those of others; made by `create_ws_synchronizer`.

    Attributes:
        store: the store.
        client: the socket it uses.
    """

    def __init__(self, store: MergeableStore, client: WsClient, channel_id: str | None, options: _Options) -> None:
        self.store = store
        self.client = client
        self.channel_id = channel_id
        self._options = options
        self._wants_sync = False
        self._initial_content: Content | None = None
        self._went_live = asyncio.Event()
        self._destroyed = False
        self._told_status = SyncStatus.OFFLINE
        self._status_listeners: dict[str, Callable[..., object]] = {}
        self._next_listener_id = 0
        self._core = Synchronizer(store, self, request_timeout_seconds=options.request_timeout_seconds, new_id=new_id)
        client.attach(self, channel_id)

    # --- what users call

    @property
    def status(self) -> SyncStatus:
        """What it is doing, truthfully."""
        if self._destroyed:
            return SyncStatus.DESTROYED
        if self.client.connecting or (self.client.connected and not self.client.is_open(self.channel_id)):
            return SyncStatus.CONNECTING
        if not self.client.connected:
            return SyncStatus.OFFLINE
        if self._core.state is SyncState.STOPPED:
            return SyncStatus.CONNECTED
        if self._core.state is SyncState.LIVE and not self._core.is_pulling:
            return SyncStatus.LIVE
        return SyncStatus.SYNCING

    def add_status_listener(self, listener: Callable[[WsSynchronizer, SyncStatus], object]) -> str:
        """Listen to the status: `listener(synchronizer, status)`; returns an id for `del_listener`."""
        listener_id = str(self._next_listener_id)
        self._next_listener_id += 1
        self._status_listeners[listener_id] = listener
        return listener_id

    def del_listener(self, listener_id: str) -> Self:
        """Remove a status listener; an unknown id does nothing."""
        self._status_listeners.pop(listener_id, None)
        return self

    def get_stats(self) -> SynchronizerStats:
        """How many messages were sent and received."""
        return self._core.stats

    async def start_sync(self, initial_content: Content | None = None) -> Self:
        """Exchange what each side lacks, and from then on every change; again after each reconnect.

        Args:
            initial_content: `(tables, values)` to fill a store to which nobody gave anything; it never beats a write.

        Returns:
            When the first exchange is over; while there is no connection, that waits for one.
        """
        self._begin_sync(initial_content)
        await self._went_live.wait()
        return self

    def _begin_sync(self, initial_content: Content | None) -> None:
        self._check_not_destroyed()
        self._wants_sync = True
        self._initial_content = initial_content
        if self.client.is_open(self.channel_id):
            self._core.start_sync(_now(), initial_content)
            self.client.set_alarm()
        self.status_may_have_changed()

    def stop_sync(self) -> Self:
        """Neither send nor take changes any more; the connection stays."""
        self._wants_sync = False
        self._went_live.clear()
        self._core.stop_sync()
        self.status_may_have_changed()
        return self

    async def destroy(self) -> None:
        """Send what is still to be sent, and let go of the store; the last one on a socket closes it."""
        if self._destroyed:
            return
        self.stop_sync()
        self._core.destroy()
        await self.client.release(self, self.channel_id)
        self._destroyed = True
        self.status_may_have_changed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy()

    def _check_not_destroyed(self) -> None:
        if self._destroyed:
            raise ConnectionLostError("the synchronizer is destroyed")

    # --- what the socket says

    def connected(self) -> None:
        """Messages can be sent."""
        if self._wants_sync:
            self._core.start_sync(_now(), self._initial_content)
        self.status_may_have_changed()

    def disconnected(self) -> None:
        """The connection is gone; syncing begins again with the next one."""
        self._went_live.clear()
        self._core.disconnect()
        self.status_may_have_changed()

    def receive(self, sender: str, message: Message) -> None:
        """A message of a peer."""
        if self._options.on_receive is not None:
            self._guard(self._options.on_receive, sender, message.request_id, int(message.type), message.body)
        self._core.receive(sender, message, _now())
        self.status_may_have_changed()

    @property
    def deadline(self) -> float | None:
        """When `wake` is due."""
        return self._core.deadline

    def wake(self, now: float) -> None:
        """Time has passed."""
        self._core.wake(now)
        self.status_may_have_changed()

    def status_may_have_changed(self) -> None:
        """Tell the status listeners if it has."""
        status = self.status
        if status is not self._told_status:
            self._told_status = status
            for listener in list(self._status_listeners.values()):
                self._guard(listener, self, status)

    # --- what the core says (Outlet)

    def send(self, address: str, message: Message) -> None:
        """A message for peers."""
        if self._options.on_send is not None:
            self._guard(self._options.on_send, address, message.request_id, int(message.type), message.body)
        for remainder in fragments_of(encode_message(message), self._options.fragment_size, new_id):
            self.client.post(self.channel_id, address, remainder)

    def report(self, error: Exception) -> None:
        """An error that nobody called for."""
        if self._options.on_ignored_error is None:
            self.client.report(error)
        else:
            self._guard(self._options.on_ignored_error, error)

    def pulled(self) -> None:
        """An exchange is over."""
        if self._core.state is SyncState.LIVE:
            self._went_live.set()

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """What was not taken was reported already."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The store changed: send what was written here."""
        if self._core.state is SyncState.LIVE and not is_empty(beyond):
            self._core.send_changes(beyond)

    def _guard(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call the application; what it raises must not stop the exchange."""
        try:
            callback(*arguments)
        except Exception as error:
            if callback is not self._options.on_ignored_error:
                self.report(error)
            else:
                _logger.exception("on_ignored_error failed")


class create_ws_synchronizer:  # noqa: N801 - spelled in lower case because it is called like a function
    """Keep a store equal to those of others on a path: await it, or enter it.

    Awaiting connects; `await synchronizer.start_sync()` then begins to sync. Entering does both, and leaving sends what
    is still to be sent and closes.

    Args:
        store: the store.
        url_or_client: `ws://host/path`, or a `WsClient` that several synchronizers share.
        channel_id: a channel of the socket, for the path `path/channel_id`; None for a plain socket.
        initial_content: when entered: passed to `start_sync`.
        wait: whether to wait for the first connection, and to fail with ConnectionLostError if it cannot be made.
            False: start offline, and connect as soon as possible.
        request_timeout_seconds: how long a request waits for its answer.
        fragment_size: bytes of message text per fragment sent; None for no fragments.
        on_send: called with each message sent: `(address, request_id, type, body)`.
        on_receive: called with each message received: `(sender, request_id, type, body)`.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.
        connect_options: passed to `websockets.connect`.

    Example:
        store = MergeableStore()
        async with create_ws_synchronizer(store, "ws://localhost:8047/petShop"):
            store.set_cell("pets", "fido", "species", "dog")
    """

    def __init__(
        self,
        store: MergeableStore,
        url_or_client: str | WsClient,
        channel_id: str | None = None,
        *,
        initial_content: Content | None = None,
        wait: bool = True,
        request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
        fragment_size: float | None = None,
        on_send: OnMessage | None = None,
        on_receive: OnMessage | None = None,
        on_ignored_error: Callable[[Exception], object] | None = None,
        connect_options: dict[str, Any] | None = None,
    ) -> None:
        if channel_id is not None:
            check_channel_id(channel_id)
        self._store = store
        self._url_or_client = url_or_client
        self._channel_id = channel_id
        self._initial_content = initial_content
        self._wait = wait
        self._connect_options = connect_options
        self._options = _Options(request_timeout_seconds, fragment_size, on_send, on_receive, on_ignored_error)
        self._synchronizer: WsSynchronizer | None = None

    def __await__(self) -> Generator[Any, None, WsSynchronizer]:
        return self._create().__await__()

    async def _create(self) -> WsSynchronizer:
        client = self._url_or_client
        if isinstance(client, str):
            client = WsClient(
                client,
                multiplexed=self._channel_id is not None,
                connect_options=self._connect_options,
                timeout_seconds=self._options.request_timeout_seconds,
                on_ignored_error=self._options.on_ignored_error,
            )
        synchronizer = WsSynchronizer(self._store, client, self._channel_id, self._options)
        try:
            await client.connect(wait=self._wait)
        except BaseException:
            await synchronizer.destroy()
            raise
        return synchronizer

    async def __aenter__(self) -> WsSynchronizer:
        synchronizer = self._synchronizer = await self._create()
        if self._wait:
            await synchronizer.start_sync(self._initial_content)
        else:
            synchronizer._begin_sync(self._initial_content)
        return synchronizer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._synchronizer is not None:
            await self._synchronizer.destroy()


def _now() -> float:
    return asyncio.get_running_loop().time()
