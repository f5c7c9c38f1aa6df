"""One store on one channel of a link: its synchronizer core, its status, and the application's callbacks."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from mergesync.exceptions import (
    ConnectionLostError,
    NameTakenError,
    RefusedConnectionError,
    RequestFailedError,
    SyncError,
)
from mergesync.limits import DEFAULT_REQUEST_TIMEOUT_SECONDS, FLUSH_TIMEOUTS
from mergesync.net.announcing import Announcing
from mergesync.net.comeback import Comeback
from mergesync.net.durability import Durability
from mergesync.net.greeting import Greeting
from mergesync.net.link import Link, LinkState
from mergesync.net.mailbox import Mailbox
from mergesync.net.naming import Naming
from mergesync.net.reporting import OnIgnoredError, Reporter, plain_callback
from mergesync.net.requests import Requests
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.sync.admission import is_empty, leaves_of
from mergesync.sync.messages import Message, MessageType
from mergesync.sync.operations import ERROR, HELLO, MESSAGE, OK, REFUSED, SINCE, STORED, UNNAMED, Operation
from mergesync.sync.payloads import SERVER, remainders_of
from mergesync.sync.synchronizer import EVERYONE, Origin, Synchronizer, SynchronizerStats, SyncState
from mergesync.system import new_id
from mergesync.types import Content, MergeableChanges
from mergesync.waiting import settle

__all__ = ["OnMessage", "Session", "SessionOptions", "SyncStatus"]

OnMessage: TypeAlias = Callable[[str, str | None, int, Any], object]
"""`(address or sender, request id, type of message, body)`."""

_FORBIDDEN, _GONE = 403, 410
_FLUSH_ID_LENGTH = 16
_OPERATION_ID_LENGTH = 11
_FLUSH_PAUSE_SECONDS = 0.02
_QUESTIONS = (
    MessageType.GET_TABLE_DIFF,
    MessageType.GET_ROW_DIFF,
    MessageType.GET_CELL_DIFF,
    MessageType.GET_VALUE_DIFF,
)


class SyncStatus(enum.StrEnum):
    """What a synchronizer is doing; equal to its lower-case name as a string."""

    OFFLINE = "offline"
    """There is no connection, and none is being made: not yet, or it waits to try again."""
    CONNECTING = "connecting"
    """A connection is being made."""
    CONNECTED = "connected"
    """There is a connection, but syncing was not started, or was stopped."""
    SYNCING = "syncing"
    """Connected, and getting what is missing here."""
    LIVE = "live"
    """Connected, up to date as far as known, and every change goes out as it is made."""
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a store talks."""

    request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS
    fragment_size: float | None = None
    on_send: OnMessage | None = None
    on_receive: OnMessage | None = None
    on_ignored_error: OnIgnoredError | None = None
    name: str | None = None


class Session:
    """One store on one channel of a link.

    Args:
        store: the store.
        link: the socket.
        channel_id: the channel, None for a plain socket.
        options: how to talk.
        tell_status: called with each new status.

    Attributes:
        durability: what the server has confirmed to have stored.
        greeting: what the server has told of itself.
        naming: what it is called on the path.
        announcing: what it says of itself there.
        requests: what it asks the server itself.
        mailbox: who hears messages of others.
    """

    def __init__(
        self,
        store: MergeableStore,
        link: Link,
        channel_id: str | None,
        options: SessionOptions,
        tell_status: Callable[[SyncStatus], None],
    ) -> None:
        self._report = link.report if options.on_ignored_error is None else Reporter(options.on_ignored_error)
        self._on_send = plain_callback(options.on_send, "on_send")
        self._on_receive = plain_callback(options.on_receive, "on_receive")
        self._store = store
        self._link = link
        self._channel_id = channel_id
        self._options = options
        self._tell_status = tell_status
        self._told_status = SyncStatus.OFFLINE
        self._telling = False
        self._wants_sync = False
        self._initial_content: Content | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._heard_server = self._heard_others = False
        self._asked_at = 0.0  # when a peer last asked for something that it lacks
        self._flushing: tuple[str, asyncio.Future[Any]] | None = None
        self._channel_error: Exception | None = None
        self._comeback = Comeback(lambda: link.ask_again([channel_id]))
        self._end: SyncError | None = None  # the path was removed
        self._destroyed = False
        self.durability: Durability = Durability(store, self._ask_stored)
        self.greeting: Greeting = Greeting()
        self.naming: Naming = Naming(options.name)
        self.announcing: Announcing = Announcing()
        self.requests: Requests = Requests(self._operate)
        self.mailbox: Mailbox = Mailbox(self._operate, self._report)
        link.attach(self, channel_id)
        self._core = Synchronizer(
            store,
            self,
            request_timeout_seconds=options.request_timeout_seconds,
            new_id=new_id,
            operate=self._ask_server,
            unconfirmed=self.durability.unconfirmed,
        )

    # --- what the synchronizer says

    @property
    def status(self) -> SyncStatus:
        """What is going on, truthfully."""
        if self._destroyed:
            return SyncStatus.DESTROYED
        if self._link.state is LinkState.OFFLINE:
            return SyncStatus.OFFLINE
        if not self._link.is_open(self._channel_id):
            return SyncStatus.CONNECTING
        if self._core.state is SyncState.STOPPED:
            return SyncStatus.CONNECTED
        is_live = self._core.state is SyncState.LIVE and not self._core.is_pulling
        return SyncStatus.LIVE if is_live else SyncStatus.SYNCING

    @property
    def error(self) -> Exception | None:
        """Why it is not connected."""
        return self._channel_error or self._link.error

    @property
    def stats(self) -> SynchronizerStats:
        """How many messages were sent and received."""
        return replace(self._core.stats)

    def start(self, initial_content: Content | None) -> None:
        """Sync from now on, whenever there is a connection."""
        if self._destroyed:
            raise ConnectionLostError("the synchronizer is destroyed")
        self._wants_sync = True
        self._initial_content = initial_content
        if self._link.is_open(self._channel_id):
            self._start_sync()
            self._link.set_alarm()
        self.link_changed()

    def _start_sync(self) -> None:
        """Begin to exchange; a mergesync server tells what has changed, and compares ranges of rows."""
        self._core.start_sync(_now(), self._initial_content, compares=self._link.extended)

    async def wait_live(self) -> None:
        """Return when the first exchange is over, or syncing is stopped.

        Raises:
            ConnectionLostError: it was destroyed first.
            RefusedConnectionError: the server does not let it onto the path of its channel, or the path was removed.
        """
        if self._end is not None:
            raise self._end
        if self._wants_sync and self._core.state is not SyncState.LIVE:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def stop(self) -> None:
        """Neither send nor take changes any more; the connection stays."""
        self._wants_sync = False
        self._core.stop_sync()
        self.durability.lost()
        settle(self._waiters)
        self.link_changed()

    async def durable(self) -> None:
        """Return when all that was written before is stored.

        Raises:
            ConnectionLostError: it is destroyed.
            RefusedConnectionError: the path was removed.
        """
        if self._destroyed:
            raise ConnectionLostError("the synchronizer is destroyed")
        if self._end is not None:
            raise self._end
        await self.durability.durable()

    async def destroy(self) -> None:
        """Send what is still to be sent, and let go of store and link."""
        try:
            await self._flush()
        finally:
            self._destroyed = True
            self._wants_sync = False
            self._comeback.cancel()
            error = ConnectionLostError("the synchronizer was destroyed")
            settle(self._waiters, error)
            self.durability.close(error)
            self.requests.fail(error)
            self.mailbox.close()
            self._core.destroy()
            self.link_changed()
            await self._link.detach(self, self._channel_id)

    def guard(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call the application; what it raises is reported, and stops nothing."""
        self._report.guard(callback, *arguments)

    # --- flushing

    async def _flush(self) -> None:
        """Return when a peer has all that the store has, or it makes no progress any more.

        What is written while live has been sent already; but what a peer gets by asking for it, as at the start, would
        be cut off. A server of ours answers when it has merged all of it, and what it has refused it will never have.
        """
        timeout_seconds = self._options.request_timeout_seconds
        began = _now()
        while self._has_live_peer() and _now() < began + FLUSH_TIMEOUTS * timeout_seconds:
            asked_at, has_given = self._asked_at, not self._core.is_giving
            hashes = await self._ask_hashes(max(began, asked_at) + timeout_seconds)
            if hashes is None:
                is_over = self._asked_at == asked_at  # else it still fetches
            else:
                is_equal = hashes == self._store.get_mergeable_content_hashes()
                is_over = is_equal or (has_given and self._core.has_replica)
            if is_over:
                return
            await asyncio.sleep(_FLUSH_PAUSE_SECONDS)

    def _has_live_peer(self) -> bool:
        return self._core.state is SyncState.LIVE and (self._heard_server or self._heard_others)

    async def _ask_hashes(self, deadline: float) -> Any:
        """A peer's hashes, of a server of ours after it has merged all that we have said; None if not in time."""
        request_id = new_id(_FLUSH_ID_LENGTH)
        answer = asyncio.get_running_loop().create_future()
        self._flushing = (request_id, answer)
        try:
            async with asyncio.timeout_at(deadline):
                if self._core.has_replica:
                    self._operate(Operation(request_id, SINCE, [None, None]))
                else:
                    self._core.stats.sends += 1
                    address = SERVER if self._heard_server else EVERYONE
                    self.send(address, Message(request_id, MessageType.GET_CONTENT_HASHES, ""))
                return await answer
        except TimeoutError:
            return None
        finally:
            self._flushing = None

    # --- what the link says (Port)

    def opened(self) -> None:
        """Messages can be sent."""
        self._channel_error = None
        self._comeback.opened()
        self._heard_server = self._heard_others = False
        if self._link.extended:
            asyncio.get_running_loop().call_soon(self._greet)
            if (naming := self.naming.ask()) is not None:
                self._operate(naming)
            if (announcement := self.announcing.repeat()) is not None:
                self._operate(announcement)
        self.requests.opened(supported=self._link.extended)
        if self._wants_sync:
            self._start_sync()
        self.link_changed()

    def _greet(self) -> None:
        """Say hello, unless syncing has begun with it, as it has where it was started at once."""
        if not self._wants_sync:
            self._say_hello()

    def _say_hello(self) -> None:
        self._operate(Operation(self.greeting.ask(_now()), HELLO, None))

    def closed(self) -> None:
        """The connection is gone; syncing begins again with the next one."""
        self._comeback.cancel()
        self._core.disconnect()
        self.durability.lost()
        self.greeting.too_early = None
        self.requests.closed()
        self.naming.closed()
        if self._flushing is not None:
            self._flushed(self._flushing[0], None)
        self.link_changed()

    def ended(self, error: SyncError) -> None:
        """There will be no connection any more."""
        self._end = error
        settle(self._waiters, error)
        self.durability.close(error)
        self.requests.fail(error)

    def receive(self, sender: str, message: Message) -> None:
        """A message of a peer."""
        if self._on_receive is not None:
            self._report.guard(self._on_receive, sender, message.request_id, int(message.type), message.body)
        if sender == SERVER:
            self._heard_server = True
        else:
            self._heard_others = True
        if message.type in _QUESTIONS:
            self._asked_at = _now()
        self._flushed(message.request_id, message.body)
        self._core.receive(sender, message, _now())
        self.link_changed()

    def operate(self, operation: Operation) -> None:
        """The server itself says something."""
        try:
            if operation.name == REFUSED:
                self._lose_channel(operation.body)
            elif operation.name == MESSAGE:
                self.mailbox.received(operation)
            elif operation.name in (OK, ERROR, UNNAMED):
                self._take_answer(operation)
            elif operation.request_id is not None:
                body = ["unknown", f"no operation {operation.name!r:.40}"]
                self._operate(Operation(operation.request_id, ERROR, body))
        except (NameTakenError, RequestFailedError) as error:
            self._report(error)

    def _flushed(self, request_id: str | None, hashes: Any) -> None:
        """An answer, if it is the one that a flush waits for."""
        if self._flushing is not None and self._flushing[0] == request_id and not self._flushing[1].done():
            self._flushing[1].set_result(hashes)

    def _take_answer(self, operation: Operation) -> None:
        self._flushed(operation.request_id, operation.body.get("hashes") if isinstance(operation.body, dict) else None)
        greeted = self.greeting.take_answer(operation, self._store, _now())
        if greeted:
            self._mind_what_came_too_early()
        if self._core.has_asked(operation):
            self._core.receive_operation(operation, _now())
            self._heard_server |= self._core.has_replica
            self.link_changed()
        elif not (greeted or self.naming.take(operation) or self.announcing.take(operation)):
            self.durability.answered(operation)
            self.requests.answered(operation)

    def _lose_channel(self, body: Any) -> None:
        """The server does not let us onto the path, or no longer."""
        text = body[1] if isinstance(body, list) and len(body) == 2 else body
        removed = isinstance(body, list) and body[:1] == ["removed"]
        message = f"the channel {self._channel_id!r} was {'removed' if removed else 'refused'}: {text!s:.200}"
        error = RefusedConnectionError(message, status=_GONE if removed else _FORBIDDEN)
        self._channel_error = error
        self.closed()
        if not settle(self._waiters, error):
            self._report(error)
        if removed:
            self.ended(error)
        else:
            self._comeback.refused(str(text))

    def _ask_stored(self, hurry: bool) -> str:
        request_id = new_id(_OPERATION_ID_LENGTH)
        self._operate(Operation(request_id, STORED, hurry))
        return request_id

    def _ask_server(self, operation: Operation) -> None:
        """A question of the core."""
        if operation.name == HELLO:
            self.greeting.asked(operation.request_id or "", _now())
        self._operate(operation)

    def _operate(self, operation: Operation) -> None:
        if self._link.extended:  # what is answered late may be so on a connection to another server
            self._link.post_operation(self._channel_id, operation)

    @property
    def deadline(self) -> float | None:
        """When `wake` is due."""
        return self._core.deadline

    def wake(self, now: float) -> None:
        """Time has passed."""
        self._core.wake(now)
        self.link_changed()

    def link_changed(self) -> None:
        """Tell of the status if it has changed; if that changes it again, tell of that after."""
        if self._telling:
            return
        self._telling = True
        try:
            while (status := self.status) is not self._told_status:
                self._told_status = status
                self._tell_status(status)
        finally:
            self._telling = False

    # --- what the core says (Outlet)

    def send(self, address: str, message: Message) -> None:
        """A message for peers."""
        if self._on_send is not None:
            self._report.guard(self._on_send, address, message.request_id, int(message.type), message.body)
        for remainder in remainders_of(message, self._options.fragment_size, new_id):
            self._link.post(self._channel_id, address, remainder)

    def report(self, error: Exception) -> None:
        """An error that nobody called for; that the connection is lost, the link has told already."""
        if not isinstance(error, ConnectionLostError):
            self._report(error)

    def pulled(self) -> None:
        """An exchange is over."""
        if self._core.state is SyncState.LIVE:
            self._initial_content = None  # it is for the first start, not for each connection
            settle(self._waiters)
            if not self._core.is_giving:
                self.durability.live(supported=self._link.extended)

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """What was not taken was reported already; if it came too early, our clock may have been changed meanwhile."""
        hlc = min((hlc_of(stamp) for _, stamp in leaves_of(changes)), default="")
        if hlc > self._store.latest_allowed_hlc() and self.greeting.too_early is None:
            self.greeting.too_early = hlc
            self._say_hello()

    def _mind_what_came_too_early(self) -> None:
        """Begin anew with a server whose time allows now what was refused."""
        too_early, self.greeting.too_early = self.greeting.too_early, None
        if too_early is not None and too_early <= self._store.latest_allowed_hlc() and self._wants_sync:
            self.durability.lost()
            self._core.stop_sync()
            self._start_sync()
            self._link.set_alarm()

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The store changed: send what was written here."""
        if origin is not None:
            self.durability.overwritten(changes)
        if not is_empty(beyond):
            if self._core.state is SyncState.LIVE and not self._core.send_changes(beyond):
                self.durability.lost()  # the server need not be asked for it before the exchange that follows is over
                self._link.set_alarm()
            self.durability.written(beyond)


def _now() -> float:
    return asyncio.get_running_loop().time()
