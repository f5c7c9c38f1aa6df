"""One store and its peers, sans-I/O (protocol section 11).

The core owns the requests that wait for answers and the pulls under way. It never waits, never looks at a clock and
never sends by itself: messages go out through an `Outlet`, time comes in as an argument in seconds of any steady clock,
and `deadline` says when `wake` is due next.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from mergesync.exceptions import (
    ClockDriftError,
    ConnectionLostError,
    LimitExceededError,
    MergesyncError,
    RemoteProtocolError,
    RequestTimeoutError,
)
from mergesync.limits import MAX_HELD_MESSAGES, MAX_PENDING_REQUESTS
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.sync.admission import Admits, changes_beyond, is_empty, split
from mergesync.sync.exchange import Ask, answer, pull
from mergesync.sync.messages import Message, MessageType
from mergesync.types import MergeableChanges, NewId

__all__ = ["EVERYONE", "TRANSACTION_ID_LENGTH", "Origin", "Outlet", "SyncState", "Synchronizer", "SynchronizerStats"]

EVERYONE = ""
"""The address of all others on a path."""

TRANSACTION_ID_LENGTH = 11
"""Characters of the id of a message that is not an answer."""

_REQUEST_SUFFIX_LENGTH = 4

_Answer: TypeAlias = tuple[str, Any]  # from whom, and the body
_Conversation: TypeAlias = Generator[tuple[str, Ask], _Answer, None]


class Outlet(Protocol):
    """Where a synchronizer's messages and complaints go."""

    def send(self, address: str, message: Message) -> None:
        """Send a message to one peer, or to everyone if the address is empty."""

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""

    def pulled(self) -> None:
        """Hear that a pull or the start has come to its end, well or not."""

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Hear that leaves of a peer were not taken: too far in the future, or against the schema."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """Hear of a transaction while syncing.

        Args:
            changes: the stamps that changed.
            origin: what was merged in it, or None for a local transaction.
            beyond: what of the changes was written here.
        """


@dataclass(frozen=True, slots=True)
class Origin:
    """A body that was merged.

    Attributes:
        sender: from whom.
        body: all of it, whether it changed anything or not.
    """

    sender: str
    body: MergeableChanges


class SyncState(enum.Enum):
    """What a synchronizer is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    LIVE = "live"


@dataclass(slots=True)
class SynchronizerStats:
    """How many messages went out and came in."""

    sends: int = 0
    receives: int = 0


@dataclass(slots=True)
class _Pending:
    """A request that waits for its answer."""

    address: str
    type: MessageType
    deadline: float
    transaction_id: str
    conversation: _Conversation


class Synchronizer:
    """Keeps a store equal to those of its peers.

    Args:
        store: the store; a listener is added to it until `destroy`.
        outlet: where messages and complaints go.
        request_timeout_seconds: how long a request waits for its answer.
        new_id: makes random ids.
        enforces_schema: whether leaves that do not fit the store's schema are refused, as an authority does, or taken
            and not shown, as one peer among others does.

    Attributes:
        state: stopped, starting or live.
        stats: messages sent and received.
    """

    def __init__(
        self,
        store: MergeableStore,
        outlet: Outlet,
        *,
        request_timeout_seconds: float,
        new_id: NewId,
        enforces_schema: bool = False,
    ) -> None:
        self.store = store
        self.state = SyncState.STOPPED
        self.stats = SynchronizerStats()
        self.request_timeout_seconds = request_timeout_seconds
        self._outlet = outlet
        self._new_id = new_id
        self._enforces_schema = enforces_schema
        self._pending: dict[str, _Pending] = {}
        self._pulling: dict[str, tuple[str, list[int]] | None] = {}  # by peer, what to pull when the present pull ends
        self._merging: Origin | None = None
        self._held: list[tuple[str, MergeableChanges]] = []
        self._listener_id = store.add_did_finish_transaction_listener(self._did_finish_transaction)

    # --- starting and stopping

    def start_sync(self, now: float, initial_content: Any = None) -> None:
        """Ask who is there, take what they have, tell everyone our hashes; from then on send every change.

        Args:
            now: the time in seconds.
            initial_content: `(tables, values)` for a store to which nobody gave anything.
        """
        if self.state is not SyncState.STOPPED:
            return
        self.state = SyncState.STARTING
        self._converse(self._start(initial_content), self._new_id(TRANSACTION_ID_LENGTH), now)

    def start_live(self) -> None:
        """Begin to send every change, and to act on others' messages, without asking anybody first."""
        self.state = SyncState.LIVE

    def announce(self, address: str = EVERYONE) -> None:
        """Tell a peer, or everyone, our hashes, so that they get what they lack."""
        self._send_new(address, MessageType.CONTENT_HASHES, self.store.get_mergeable_content_hashes())

    def ask_hashes(self, address: str, now: float) -> None:
        """Ask a peer for its hashes, and get what we lack."""
        self._converse(self._catch_up(address), self._new_id(TRANSACTION_ID_LENGTH), now)

    def stop_sync(self) -> None:
        """Neither send nor take changes any more; questions are still answered."""
        self.state = SyncState.STOPPED

    def disconnect(self) -> None:
        """The connection is gone: whatever waits for an answer fails."""
        self.stop_sync()
        for request_id in list(self._pending):
            self._fail(request_id, ConnectionLostError("the connection closed before the answer came"))
        self._pulling.clear()

    def destroy(self) -> None:
        """Let go of the store."""
        self.disconnect()
        self.store.del_listener(self._listener_id)

    def forget_peer(self, address: str) -> None:
        """A peer is gone; do not wait for it."""
        self._pulling.pop(address, None)
        for request_id, pending in list(self._pending.items()):
            if pending.address == address:
                del self._pending[request_id]
                pending.conversation.close()

    @property
    def is_pulling(self) -> bool:
        """Whether something that peers have is still to be got."""
        return bool(self._pulling)

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None if nothing waits."""
        if self._held:
            return 0.0
        return min((pending.deadline for pending in self._pending.values()), default=None)

    def wake(self, now: float) -> None:
        """Give up on requests that have waited too long, and merge what had to wait for a transaction."""
        self._merge_held()
        for request_id, pending in list(self._pending.items()):
            if pending.deadline <= now:
                error = RequestTimeoutError(
                    f"no answer to {pending.type.name.lower()} in {self.request_timeout_seconds} s",
                    client_id=pending.address or None,
                )
                self._fail(request_id, error)

    # --- messages

    def receive(self, sender: str, message: Message, now: float) -> None:
        """Act on a message of a peer."""
        self.stats.receives += 1
        kind = message.type
        if kind is MessageType.RESPONSE:
            self._take_answer(sender, message, now)
        elif kind is MessageType.CONTENT_DIFF:
            if self.state is not SyncState.STOPPED:
                self.merge(sender, message.body)
        elif kind is MessageType.CONTENT_HASHES:
            if self.state is not SyncState.STOPPED:
                self._pull_from(sender, message.request_id, message.body, now)
        elif kind is not MessageType.GET_CONTENT_HASHES or self.state is not SyncState.STOPPED:
            response = answer(self.store, message)
            if response is not None:
                self._send(sender, response)

    def merge(self, sender: str, changes: MergeableChanges) -> None:
        """Merge a peer's changes; whatever is wrong with them is reported, never raised.

        While the application has a transaction open they wait, so that its rollback cannot eat them.
        """
        if self.store.is_in_transaction():
            if len(self._held) >= MAX_HELD_MESSAGES:
                self._outlet.report(LimitExceededError("a transaction is open for too long", limit="client"))
            else:
                self._held.append((sender, changes))
            return
        if len(changes) != 3:
            self._outlet.report(RemoteProtocolError("changes without the final 1 are ignored", client_id=sender))
            return
        if self._enforces_schema and self.store.has_schema():
            self._merge_admitted(sender, changes, self._admits_by_schema)
            return
        try:
            self._apply(sender, changes)
        except ClockDriftError as error:
            self._outlet.report(error)
            self._merge_admitted(sender, changes, self._admits_by_time)

    def _merge_admitted(self, sender: str, changes: MergeableChanges, admits: Admits) -> None:
        taken, refused = split(changes, admits)
        self._apply(sender, taken)
        if not is_empty(refused):
            self._outlet.refused(sender, refused)

    def _admits_by_time(self, table_id: str | None, leaf_id: str, leaf: Any) -> bool:
        return hlc_of(leaf) <= self.store.latest_allowed_hlc()

    def _admits_by_schema(self, table_id: str | None, leaf_id: str, leaf: Any) -> bool:
        return self.store.fits_schema(table_id, leaf_id, leaf[0]) and self._admits_by_time(table_id, leaf_id, leaf)

    def _apply(self, sender: str, changes: MergeableChanges) -> None:
        self._merging = Origin(sender, changes)
        try:
            self.store.apply_mergeable_changes(changes)
        except ClockDriftError:
            raise
        except Exception as error:  # the body was refused whole, or a listener of the application failed
            self._outlet.report(error)
        finally:
            self._merging = None

    def _merge_held(self) -> None:
        if self._held and not self.store.is_in_transaction():
            held, self._held = self._held, []
            for sender, changes in held:
                self.merge(sender, changes)

    # --- conversations

    def _start(self, initial_content: Any) -> _Conversation:
        changes: MergeableChanges = [[{}], [{}], 1]
        try:
            sender, hashes = yield EVERYONE, (MessageType.GET_CONTENT_HASHES, "")
            _require_hashes(hashes)
            changes = yield from self._pulled(sender, hashes)
            self.merge(sender, changes)
        except MergesyncError as error:
            self._outlet.report(error)
            if isinstance(error, ConnectionLostError):
                return
        if is_empty(changes) and initial_content is not None:
            self.store.set_default_content(initial_content)
        if self.state is SyncState.STARTING:
            self.state = SyncState.LIVE
            self.announce()
            self._outlet.pulled()

    def _catch_up(self, address: str, hashes: list[int] | None = None) -> _Conversation:
        try:
            if hashes is None:
                _, hashes = yield address, (MessageType.GET_CONTENT_HASHES, "")
                _require_hashes(hashes)
            changes = yield from self._pulled(address, hashes)
            if not is_empty(changes) and self.state is not SyncState.STOPPED:
                self.merge(address, changes)
        except MergesyncError as error:
            self._outlet.report(error)

    def _pulled(self, address: str, hashes: Any) -> Generator[tuple[str, Ask], _Answer, MergeableChanges]:
        """Drive a pull, each question to the same peer."""
        pulling = pull(self.store, hashes)
        try:
            ask = next(pulling)
            while True:
                _, body = yield address, ask
                ask = pulling.send(body)
        except StopIteration as stop:
            return list(stop.value)

    def _pull_from(self, sender: str, request_id: str | None, hashes: list[int], now: float) -> None:
        """Get what a peer announced; if a pull from it is under way, do so when that ends."""
        transaction_id = self._new_id(TRANSACTION_ID_LENGTH) if request_id is None else request_id
        if sender in self._pulling:
            self._pulling[sender] = (transaction_id, hashes)
            return
        if hashes == self.store.get_mergeable_content_hashes():
            return
        self._pulling[sender] = None
        self._converse(self._pull_repeatedly(sender, hashes), transaction_id, now)

    def _pull_repeatedly(self, sender: str, hashes: list[int]) -> _Conversation:
        again: tuple[str, list[int]] | None = ("", hashes)
        while again is not None:
            yield from self._catch_up(sender, again[1])
            again = self._pulling.get(sender)
            if sender in self._pulling:
                self._pulling[sender] = None
        self._pulling.pop(sender, None)
        self._outlet.pulled()

    def _converse(self, conversation: _Conversation, transaction_id: str, now: float) -> None:
        try:
            address, ask = next(conversation)
        except StopIteration:
            return
        self._ask(conversation, address, ask, transaction_id, now)

    def _ask(self, conversation: _Conversation, address: str, ask: Ask, transaction_id: str, now: float) -> None:
        while len(self._pending) >= MAX_PENDING_REQUESTS:
            error = LimitExceededError(f"more than {MAX_PENDING_REQUESTS} requests wait", limit="requests")
            try:
                address, ask = conversation.throw(error)
            except StopIteration:
                return
        kind, body = ask
        request_id = f"{transaction_id}.{self._new_id(_REQUEST_SUFFIX_LENGTH)}"
        deadline = now + self.request_timeout_seconds
        self._pending[request_id] = _Pending(address, kind, deadline, transaction_id, conversation)
        self._send(address, Message(request_id, kind, body))

    def _take_answer(self, sender: str, message: Message, now: float) -> None:
        pending = self._pending.get(message.request_id or "")
        if pending is None or (pending.address and pending.address != sender):
            return  # nobody asked, or somebody else was asked: ignored, as in the peer
        del self._pending[message.request_id or ""]
        try:
            address, ask = pending.conversation.send((sender, message.body))
        except StopIteration:
            return
        self._ask(pending.conversation, address, ask, pending.transaction_id, now)

    def _fail(self, request_id: str, error: MergesyncError) -> None:
        pending = self._pending.pop(request_id, None)
        if pending is not None:
            try:
                address, ask = pending.conversation.throw(error)
            except StopIteration:
                return
            self._ask(pending.conversation, address, ask, pending.transaction_id, pending.deadline)

    # --- sending

    def _did_finish_transaction(self, store: MergeableStore) -> None:
        if self.state is not SyncState.LIVE and self._merging is None:
            return
        changes = store.get_transaction_mergeable_changes()
        if is_empty(changes):
            return
        if self._merging is None:
            self._outlet.changed(changes, None, changes)
        else:
            self._outlet.changed(changes, self._merging, changes_beyond(changes, self._merging.body))

    def send_changes(self, changes: MergeableChanges, address: str = EVERYONE) -> None:
        """Send changes as a message of our own."""
        self._send_new(address, MessageType.CONTENT_DIFF, changes)

    def _send_new(self, address: str, kind: MessageType, body: Any) -> None:
        self._send(address, Message(self._new_id(TRANSACTION_ID_LENGTH), kind, body))

    def _send(self, address: str, message: Message) -> None:
        self.stats.sends += 1
        self._outlet.send(address, message)


def _require_hashes(body: Any) -> None:
    if not (isinstance(body, list) and len(body) == 2 and isinstance(body[0], int | float)):
        raise RemoteProtocolError("an answer of another form than was asked for", excerpt=str(body)[:80])
