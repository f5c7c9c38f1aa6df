"""One store and its peers, sans-I/O (protocol section 11).

The core never waits, never looks at a clock and never sends by itself: messages go out through an `Outlet`, time comes
in as an argument in seconds of any steady clock, and `deadline` says when `wake` is due next. While the application has
a transaction open the core stands still, so that a rollback neither eats what peers sent nor takes back what they got.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from mergesync.deadlines import earliest
from mergesync.exceptions import (
    ConnectionLostError,
    LimitExceededError,
    MergesyncError,
    RemoteProtocolError,
    RequestTimeoutError,
)
from mergesync.limits import HASHED_AT_ONCE, MAX_HELD_MESSAGES, TRANSACTION_POLL_SECONDS
from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges
from mergesync.store.unsaved import no_changes
from mergesync.sync.admission import has_bare_containers, is_empty
from mergesync.sync.answering import Answering
from mergesync.sync.comparison import compare
from mergesync.sync.conversations import Conversation, Conversations, Question, Talk
from mergesync.sync.exchange import hashes_of
from mergesync.sync.intake import Intake, Origin, blamed
from mergesync.sync.messages import Message, MessageType
from mergesync.sync.operations import Operation
from mergesync.sync.payloads import EVERYONE, SERVER
from mergesync.sync.pulling import TRANSACTION_ID_LENGTH, Announced, Pulling
from mergesync.sync.resuming import Unconfirmed
from mergesync.sync.review import Proposal, Reviewer, Verdict
from mergesync.sync.server_check import ServerCheck
from mergesync.sync.start_answers import StartAnswers
from mergesync.types import MergeableChanges, NewId

__all__ = ["EVERYONE", "TRANSACTION_ID_LENGTH", "Origin", "Outlet", "SyncState", "Synchronizer", "SynchronizerStats"]


class Outlet(Protocol):
    """Where a synchronizer's messages and complaints go."""

    def send(self, address: str, message: Message) -> None:
        """Send a message to one peer, or to everyone if the address is empty.

        Raises:
            LimitExceededError: it is too large to be sent.
        """

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""

    def pulled(self) -> None:
        """Hear that a pull or the start has come to its end, well or not."""

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Hear which leaves of a peer were not taken; they were reported already."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """Hear of a transaction, whether syncing or not.

        Args:
            changes: the stamps that changed; and others that came with them, if this is a client.
            origin: what was merged in it, or None for a local transaction.
            beyond: what of the changes was written here.
        """


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


class Synchronizer:
    """Keeps a store equal to those of its peers.

    Args:
        store: the store; a listener is added to it until `destroy`.
        outlet: where messages and complaints go.
        request_timeout_seconds: how long a request waits for its answer while round trips are short.
        new_id: makes random ids.
        authority: whether this is the replica that alone answers for a path: then its schema and its values decide (see
            `Admission`), it learns from what peers ask, and sees to it that whoever announces hashes ends equal.
        knows_peers: whether `forget_peer` is called for peers that are gone.
        reviewer: decides what of peers' changes is merged; None: all of it.
        operate: asks the server an operation, where `start_sync` was told that it can answer; its answers go to
            `receive_operation`.
        unconfirmed: what the server may lack of what was written here.
        bounded: whether messages must fit frames.
        encodes: whether messages are sent as text.

    Attributes:
        state: stopped, starting or live.
        stats: messages sent and received.
        blind: peers that may not know what is in the store; for them it is empty.
    """

    def __init__(
        self,
        store: MergeableStore,
        outlet: Outlet,
        *,
        request_timeout_seconds: float,
        new_id: NewId,
        authority: bool = False,
        knows_peers: bool = False,
        reviewer: Reviewer | None = None,
        operate: Callable[[Operation], None] | None = None,
        unconfirmed: Unconfirmed = lambda: None,
        bounded: bool = True,
        encodes: bool = False,
    ) -> None:
        self.store = store
        self._ask_operation = operate
        self.blind: set[str] = set()
        self.state: SyncState = SyncState.STOPPED
        self.stats: SynchronizerStats = SynchronizerStats()
        self.request_timeout_seconds = request_timeout_seconds
        self._outlet = outlet
        self._new_id = new_id
        self._authority = authority
        self._knows_peers = knows_peers
        self._intake = Intake(store, outlet, authority=authority, new_id=new_id, reviewer=reviewer)
        self._talks = Conversations(
            self._send,
            self._operate,
            outlet.report,
            new_id,
            request_timeout_seconds=request_timeout_seconds,
            knows_peers=knows_peers,
        )
        self._ranges = Ranges(store)
        self._answering = Answering(store, self._ranges, learns=authority, bounded=bounded, encodes=encodes)
        self._nothing: MergeableStore | None = None  # what the blind are shown, once there are any
        self._telling_nothing: Answering | None = None
        self._pulling = Pulling(
            store,
            self,
            ranges=self._ranges,
            talks=self._talks,
            intake=self._intake,
            answering=self._answering,
            new_id=new_id,
            request_timeout_seconds=request_timeout_seconds,
            authority=authority,
            unconfirmed=unconfirmed,
        )
        self._initial_content: Any = None
        self._start_talk: Talk | None = None
        self._start_pulls = False  # somebody has answered the start's question
        self._answers: StartAnswers | None = None
        self._server_check: ServerCheck | None = None  # while the server may have given up on what we announced
        self._heard_server = False
        self._held: list[tuple[str | None, Callable[[float], None]]] = []  # whose is of no use without it
        self._compares_soon = False  # changes were made that are too many for a message
        self._comparing = False
        self._look_again_at: float | None = None  # while a transaction of the application is open
        self._listener_id = store.add_did_finish_transaction_listener(self._did_finish_transaction)

    # --- starting and stopping

    def start_sync(self, now: float, initial_content: Any = None, *, compares: bool | None = None) -> None:
        """Ask who is there, take what they have, tell everyone our hashes; from then on send every change.

        When nobody answers in time the changes begin to be sent nevertheless, and the question stays open.

        Args:
            now: the time in seconds.
            initial_content: `(tables, values)` for a store to which nobody gave anything.
            compares: whether the server is one of ours: then it is greeted, and asked what has changed. Either may give
                up on what it is told (see `ServerCheck`). None: there is no server.
        """
        if self.state is not SyncState.STOPPED:
            return
        self.state = SyncState.STARTING
        self._initial_content = initial_content
        transaction_id = self._new_id(TRANSACTION_ID_LENGTH)
        self._answers = StartAnswers(transaction_id)
        self._pulling.compares = bool(compares)
        conversation = self._start(transaction_id, self._answers)
        self._start_talk = self._talks.begin(conversation, now, on_late=self._go_live)
        self._server_check = None if compares is None else ServerCheck(now)

    def start_live(self) -> None:
        """Begin to send every change, and to act on others' messages, without asking anybody first."""
        self.state = SyncState.LIVE

    def announce(self, address: str = EVERYONE) -> None:
        """Tell a peer, or everyone, our hashes, so that they get what they lack."""
        if address not in self.blind:
            self._send_new(address, MessageType.CONTENT_HASHES, self.store.get_mergeable_content_hashes())

    def ask_hashes(self, address: str, now: float) -> None:
        """Ask a peer for its hashes, and get what we lack."""
        self._pulling.pull_from(address, Announced(self._new_id(TRANSACTION_ID_LENGTH), None), now)

    def stop_sync(self) -> None:
        """Neither send nor take changes any more; questions are still answered."""
        self.state = SyncState.STOPPED
        self._talks.clear()
        self._start_talk, self._start_pulls, self._answers = None, False, None
        self._server_check, self._heard_server = None, False
        self._compares_soon = self._comparing = False
        self._pulling.clear()
        self._answering.clear()
        self._telling_nothing = None

    def disconnect(self) -> None:
        """The connection is gone: whatever waits for an answer fails."""
        waited = self._talks.waiting > 0
        self.stop_sync()
        self._held.clear()
        if waited:
            self._outlet.report(ConnectionLostError("the connection closed before an answer came"))

    def destroy(self) -> None:
        """Let go of the store."""
        self.stop_sync()
        self.store.del_listener(self._listener_id)

    def forget_peer(self, address: str) -> None:
        """A peer is gone; do not wait for it. Of what it has said and is held, only its changes count."""
        self._held = [(sender, act) for sender, act in self._held if sender != address]
        self._pulling.forget_peer(address)
        self._answering.forget_peer(address)
        if self._telling_nothing is not None:
            self._telling_nothing.forget_peer(address)
        self.forget_rejected(address)
        self.blind.discard(address)
        self._talks.forget_peer(address)

    def forget_questions(self, address: str) -> None:
        """A peer begins anew, and will tell of itself what we have asked; do not wait for it."""
        self._talks.forget_peer(address)
        self._pulling.forget_peer(address)

    def forget_rejected(self, address: str) -> bool:
        """What a peer keeps that was refused will be decided again; whether there is anything."""
        return self._intake.rejected.pop(address, None) is not None

    @property
    def is_pulling(self) -> bool:
        """Whether something that peers have is still to be got, or merged."""
        others = self._answers is not None and self._answers.waiting
        return bool(self._pulling.is_pulling or self._start_pulls or others or self.is_giving or self._held)

    @property
    def has_replica(self) -> bool:
        """Whether the server is one of ours, with all of the path."""
        return self._pulling.compares

    @property
    def is_giving(self) -> bool:
        """Whether the server is still to be given what was too much for a message."""
        return self._compares_soon or self._comparing

    def reviews(self, address: str) -> bool:
        """Whether something that a peer has said waits for a verdict."""
        return self._intake.waits_for(address)

    @property
    def holds(self) -> bool:
        """Whether something waits for the end of a transaction."""
        return bool(self._held)

    def has_all_of(self, address: str) -> bool | None:
        """Whether all that a peer has said and announced is merged; None if it is still being got, or reviewed."""
        if self._held or self.reviews(address):
            return None
        pulled = self._pulling.has_all_of(address)
        return pulled and address not in self._intake.rejected

    def shown_to(self, address: str) -> MergeableStore:
        """What a peer may know of: a question of ours tells, too."""
        if address not in self.blind:
            return self.store
        if self._nothing is None:
            self._nothing = MergeableStore("")
        return self._nothing

    def _answering_to(self, address: str) -> Answering:
        if address not in self.blind:
            return self._answering
        if self._telling_nothing is None:
            nothing = self.shown_to(address)
            self._telling_nothing = Answering(nothing, Ranges(nothing), learns=False)
        return self._telling_nothing

    @property
    def origin(self) -> Origin | None:
        """What is being merged at this moment, for listeners of the store that want to know."""
        return self._intake.origin

    @property
    def unanswered(self) -> int:
        """How many exchanges with peers have not come to their end."""
        return self._talks.all

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None if nothing waits."""
        if self._look_again_at is not None:
            return self._look_again_at
        if self._compares_soon and not self._comparing:
            return 0.0
        check = None if self._server_check is None or self._comparing else self._server_check.deadline
        return earliest(self._talks.deadline, self._answering.deadline, check)

    def wake(self, now: float) -> None:
        """Go on with what had to wait for a transaction, and note which answers are late."""
        if not self._stands_still(now):
            self._release(now)
            self._talks.wake(now)
            self._pull_from_others(now)
            self._remind(now)
            if self._compares_soon and not self._comparing:
                self._comparing = True
                self._talks.begin(self._compare_again(), now, peer=SERVER)
            check = None if self._comparing else self._server_check
            if check is not None and check.is_due(now) and self._heard_server:
                self._talks.begin(self._check_server(check), now, peer=SERVER)

    def _remind(self, now: float) -> None:
        """Tell our hashes to peers that were not answered everything; look what those have that were, meanwhile."""
        reminded, served = self._answering.due(now)
        for peer in reminded:
            self.announce(peer)
        if self._authority:
            for peer in served:
                announced = Announced(self._pulling.new_transaction_id(), None, to_us=True)
                self._pulling.pull_from(peer, announced, now)

    def _stands_still(self, now: float) -> bool:
        """Whether the application has a transaction open; if so, look again soon, as nobody tells when it is over."""
        still = self.store.is_in_transaction()
        self._look_again_at = now + TRANSACTION_POLL_SECONDS if still else None
        return still

    def _release(self, now: float) -> None:
        held, self._held = self._held, []
        for _, act in held:
            act(now)

    # --- messages

    def receive(self, sender: str, message: Message, now: float) -> None:
        """Act on a message of a peer.

        Raises:
            LimitExceededError: a transaction is open for so long that too many messages wait for its end; the
                connection is to be closed, and what was missed is exchanged on the next.
        """
        self.stats.receives += 1
        self._take(sender, message, now)

    def has_asked(self, operation: Operation) -> bool:
        """Whether an operation answers one that was asked here."""
        return self._talks.has_asked(operation.request_id)

    def receive_operation(self, operation: Operation, now: float) -> None:
        """Act on the server's answer to an operation that was asked here; raises what `receive` raises."""
        self._take(SERVER, operation, now)

    def _take(self, sender: str, message: Message | Operation, now: float) -> None:
        """Act on what came, or hold it while a transaction is open."""
        if not self._stands_still(now):
            self._release(now)
            self._act_on(sender, message, now)
        elif len(self._held) < MAX_HELD_MESSAGES:
            is_change = isinstance(message, Message) and message.type is MessageType.CONTENT_DIFF
            self._held.append((None if is_change else sender, lambda now: self._act_on(sender, message, now)))
        else:
            limit = "server" if self._knows_peers else "client"
            raise LimitExceededError(f"more than {MAX_HELD_MESSAGES} messages wait for a transaction", limit=limit)

    def _act_on(self, sender: str, message: Message | Operation, now: float) -> None:
        self._heard_server = self._heard_server or sender == SERVER
        if isinstance(message, Operation):
            self._talks.take_operation(message, now)
            self._pull_from_others(now)
            return
        kind = message.type
        syncing = self.state is not SyncState.STOPPED
        if kind is MessageType.RESPONSE:
            if not self._talks.take_answer(sender, message, now):
                self._hear_another(sender, message)
            self._pull_from_others(now)
        elif kind is MessageType.CONTENT_DIFF:
            if syncing:
                self._merge_sent(sender, message)
        elif kind is MessageType.CONTENT_HASHES:
            if syncing:
                self._pulling.hear_announcement(sender, message.request_id, message.body, now)
                if self._server_check is not None and sender != SERVER:
                    self._server_check.begin_again(now)
        elif kind is not MessageType.GET_CONTENT_HASHES or syncing:
            if self._authority and sender not in self.blind:
                self._pulling.listen(sender, kind, message.body)
            self._send(sender, self._answering_to(sender).answer(sender, message, now))

    def prepare(self, summed: Iterable[str] | None) -> bool:
        """Do some milliseconds of the work that the first hashes and fingerprints of a large store are.

        Args:
            summed: the tables of which fingerprints are needed; None if nothing is to be compared.

        Returns:
            Whether nothing is left to do.
        """
        if not self.store.hash_some(HASHED_AT_ONCE):
            return False
        return summed is None or self._ranges.prepare(summed)

    def compare(self, sender: str, body: Any, cursor: str | None) -> list[Any]:
        """Answer a peer that compares ranges of rows; raises RemoteProtocolError."""
        store = self.shown_to(sender)
        return compare(store, self._ranges if store is self.store else Ranges(store), body, cursor)

    # --- changes

    def _merge_sent(self, sender: str, message: Message) -> None:
        if len(message.body) == 3:
            self._intake.merge(sender, message.body, message.newest, pulled=message.request_id is None)
            self._pulling.resuming.heard(message.request_id)
        else:
            error = RemoteProtocolError("changes without the final 1 are ignored", excerpt=repr(message.body)[:80])
            self.blame(error, sender)

    def reviewed(self, proposal: Proposal, verdict: Verdict, now: float) -> None:
        """A proposal was decided that the reviewer had taken its time for."""
        if self._stands_still(now):
            self._held.append((None, lambda now: self._conclude(proposal, verdict, now)))
        else:
            self._release(now)
            self._conclude(proposal, verdict, now)

    def _conclude(self, proposal: Proposal, verdict: Verdict, now: float) -> None:
        self._intake.conclude(proposal, verdict)
        self._talks.resume(proposal, now)

    def merge_own(self, changes: MergeableChanges) -> None:
        """Merge stamps that were made here; what listeners do wrong is reported."""
        self._intake.merge_own(changes)

    def _did_finish_transaction(self, store: MergeableStore) -> None:
        self._ranges.note()
        self._answering.changed()
        origin = self._intake.origin
        if origin is not None and store.has_taken_all():  # the common case
            changes, beyond = origin.body, no_changes()
        else:
            is_told_whole = origin is not None and self._authority and has_bare_containers(origin.body)
            if not (is_told_whole or store.has_changed_stamps()):
                return
            if origin is None:
                changes = beyond = store.get_transaction_mergeable_changes()
            else:  # what bare containers say is nowhere else; and nobody is told of what comes to a client
                takes_body = is_told_whole or not self._authority
                changes = origin.body if takes_body else store.get_transaction_mergeable_changes()
                nothing_taken = not takes_body and is_empty(origin.body)
                beyond = changes if nothing_taken else store.get_changes_beyond(origin.body)
        self._pulling.resuming.writes += not is_empty(beyond)
        try:
            self._outlet.changed(changes, origin, beyond)
        except Exception as error:  # the application that wrote is not to blame
            self._outlet.report(error)

    # --- the start

    def _start(self, transaction_id: str, answers: StartAnswers) -> Conversation:
        if self._pulling.compares:
            yield from self._resume(transaction_id)
        if not self._pulling.compares:
            if self.state is SyncState.LIVE:
                self.announce()  # nobody was told of our hashes when the server's answer was late
            yield from self._ask_everyone(transaction_id, answers)

    def _resume(self, transaction_id: str) -> Conversation:
        """Begin with a server of ours; once it has answered, every change is sent as it is made."""
        merges, self._comparing = self._pulling.merges, True
        try:
            is_equal = yield from self._pulling.resumed(transaction_id)
        finally:
            self._comparing = False
        if not self._pulling.compares or self._pulling.resuming.is_checked:
            self._server_check = None
        if self._pulling.compares:
            self._compares_soon = self._compares_soon or not is_equal
            if self._pulling.merges == merges:
                self._write_initial_content()
            self._outlet.pulled()

    def resumed(self) -> None:
        """The server has answered."""
        if self.state is SyncState.STARTING:
            self.state = SyncState.LIVE

    def _ask_everyone(self, transaction_id: str, answers: StartAnswers) -> Conversation:
        ask = Question(EVERYONE, MessageType.GET_CONTENT_HASHES, "", transaction_id, repeated=not self._knows_peers)
        is_over, merges = False, self._pulling.merges
        while not is_over:
            sender = EVERYONE
            try:
                answer_ = yield ask
                sender = answer_.sender
                self._start_pulls = True
                hashes = hashes_of(answer_.message)
                answers.know(hashes)
                if hashes != self.store.get_mergeable_content_hashes():
                    pulled = yield from self._pulling.pulled(sender, transaction_id, hashes)
                    yield from self._pulling.absorb(sender, pulled)
                is_over = True
            except (RequestTimeoutError, ConnectionLostError):
                self._go_live()  # who answered first is gone; somebody else may answer
            except MergesyncError as error:
                self.blame(error, sender)
                break
            finally:
                self._start_pulls = False
        news = self._pulling.merges != merges
        if news:
            self._initial_content = None
        if self.state is SyncState.STARTING:
            self._go_live()
        elif self.state is SyncState.LIVE:
            if news:
                self.announce()
            self._outlet.pulled()

    def _go_live(self) -> None:
        """The start is over, or takes too long to go on waiting for it."""
        if self.state is not SyncState.STARTING:
            return
        self._write_initial_content()
        self.state = SyncState.LIVE
        if not self._comparing:
            self.announce()
        self._outlet.pulled()

    def _write_initial_content(self) -> None:
        initial_content, self._initial_content = self._initial_content, None
        if initial_content is not None:
            try:
                self.store.set_default_content(initial_content)
            except Exception as error:
                self._outlet.report(error)

    def _hear_another(self, sender: str, message: Message) -> None:
        """An answer that no question waits for: to the start's question there may be several."""
        try:
            if self._answers is not None:
                self._answers.note(sender, message)
        except LimitExceededError as error:
            self.blame(error, sender)

    def _pull_from_others(self, now: float) -> None:
        """Once the start is over, get what those have who answered later.

        One by one, as most of it is the same; who does not answer in time, as it may be gone, keeps nobody waiting.
        """
        waiting = None if self._answers is None else self._answers.waiting
        while waiting and self.state is SyncState.LIVE and not (self._start_pulls or self._is_being_given()):
            sender, hashes = waiting.popleft()
            self._pulling.pull_from(sender, Announced(self._new_id(TRANSACTION_ID_LENGTH), hashes, to_us=True), now)

    def _is_being_given(self) -> bool:
        return self._pulling.is_pulling and not self._talks.are_late

    # --- what pulling needs (PullHost)

    @property
    def is_syncing(self) -> bool:
        """Whether changes are taken."""
        return self.state is not SyncState.STOPPED

    def pulled(self) -> None:
        """A pull has come to its end."""
        self._outlet.pulled()

    def settled(self) -> None:
        """Somebody's hashes were compared with ours: the start need not ask any more who is there."""
        if self.state is SyncState.LIVE and not (self._start_pulls or self._comparing):
            start_talk, self._start_talk = self._start_talk, None
            self._talks.end(start_talk)

    def blame(self, error: MergesyncError, sender: str) -> None:
        """Report what a peer did wrong."""
        self._outlet.report(blamed(error, sender))

    # --- a server that may have given up

    def _check_server(self, check: ServerCheck) -> Conversation:
        """Become equal with the server; if one of TinyBase's lacks something, announce our hashes to it again."""
        hashes = yield from self._pulling.catch_up(SERVER, Announced(self._new_id(TRANSACTION_ID_LENGTH), None), None)
        if hashes is None or self.state is not SyncState.LIVE:
            return
        if self._pulling.resuming.is_checked or hashes == self.store.get_mergeable_content_hashes():
            check.succeeded()
        elif not self._pulling.compares:
            self.announce(SERVER)

    def _compare_again(self) -> Conversation:
        """Give the server what was too much for a message; if they are not known to be equal then, announce hashes."""
        try:
            while self._compares_soon:
                self._compares_soon = False
                announced = Announced(self._pulling.new_transaction_id(), None)
                yield from self._pulling.catch_up(SERVER, announced, None)
        finally:
            self._comparing = False
        if self._pulling.resuming.cursor is None:
            self.announce()
        self._outlet.pulled()

    # --- sending

    def send_changes(self, changes: MergeableChanges, address: str = EVERYONE) -> bool:
        """Send changes as a message of our own; where there are too many for one, let the other end compare instead.

        Returns:
            Whether they were sent. If not, `wake` may be due at once.
        """
        if self._send(address, Message(self._new_id(TRANSACTION_ID_LENGTH), MessageType.CONTENT_DIFF, changes)):
            return True
        if self._pulling.compares:
            self._compares_soon = True
        else:
            self.announce(address)
        return False

    def _send_new(self, address: str, kind: MessageType, body: Any) -> None:
        self._send(address, Message(self._new_id(TRANSACTION_ID_LENGTH), kind, body))

    def _operate(self, operation: Operation) -> None:
        assert self._ask_operation is not None
        self._ask_operation(operation)

    def _send(self, address: str, message: Message) -> bool:
        """Send a message; returns whether it is not too large."""
        self.stats.sends += 1
        try:
            self._outlet.send(address, message)
        except LimitExceededError as error:
            if message.type is not MessageType.CONTENT_DIFF:
                self._outlet.report(error)
            return False
        except Exception as error:  # such as a body too deep to be written
            self._outlet.report(error)
        return True
