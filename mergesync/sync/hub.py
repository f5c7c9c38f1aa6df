"""One path on the server: its replica, its clients, and who hears what (protocol section 12; design decision 4).

The replica alone answers joiners and pulls from announcers, so that a join costs the same however many clients there
are; accepted changes go on to the others as the bytes that came in. With `relay=True` the hub is TinyBase's switchboard
instead: every message goes to whom it is addressed, the replica being one more peer.

The hub never waits: texts go out through an `Exit`, time comes in as an argument.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mergesync.exceptions import LimitExceededError, RemoteProtocolError, SyncError
from mergesync.limits import HELD_TIMEOUTS, MAX_HELD_BYTES, MAX_HELD_MESSAGES
from mergesync.store import MergeableStore
from mergesync.store.hlc import CLIENT_PART_LENGTH
from mergesync.store.unsaved import no_changes
from mergesync.sync.admission import body_of, changes_beyond, correction, is_blank, is_empty
from mergesync.sync.ahead import Ahead
from mergesync.sync.comparison import changes_in, summed_tables
from mergesync.sync.messages import Message, MessageType
from mergesync.sync.payloads import SERVER, Payload, fits_frame, remainders_of
from mergesync.sync.resuming import checked_place
from mergesync.sync.review import Proposal, Reviewer, Verdict
from mergesync.sync.synchronizer import EVERYONE, TRANSACTION_ID_LENGTH, Origin, Synchronizer, SyncState
from mergesync.sync.window import Window, page_of
from mergesync.types import MergeableChanges, NewId

__all__ = ["Exit", "Hub", "HubState"]


class Exit(Protocol):
    """Where a hub's texts and complaints go."""

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """Send the same frame to these clients of the path."""

    def send_changes(self, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """Send the frames of one message to readers but for its author, soon, and before anything else that is sent.

        To those that do not read it may be left out; the hub must then be told to `remind` them when they read again.

        Args:
            readers: the clients of the path that may read; the same tuple as long as they are the same.
            frames: of the message.
            author: the client that has it already, if there is one.
        """

    def close(self, client_id: str, error: SyncError) -> None:
        """Close the socket of a client, with the code of the error."""

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""


class HubState(enum.Enum):
    """Whether a path can serve its clients."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class _Held:
    """A message that waits for the path to be ready."""

    client_id: str
    address: str
    payload: Payload
    size_bytes: int


@dataclass(slots=True)
class _Waiting:
    """All that waits for the path to be ready."""

    messages: list[_Held] = field(default_factory=list)
    size_bytes: int = 0
    since: float | None = None


class Hub:
    """One path on the server.

    Args:
        path_id: the path.
        exit: where texts go.
        relay: be a switchboard, as TinyBase is.
        request_timeout_seconds: how long the replica waits for answers.
        fragment_size: bytes of message text per fragment sent by the replica, None for no fragments.
        new_id: makes random ids.
        reviewer: decides what of clients' changes is merged; None: all of it.

    Attributes:
        state: starting until `ready` or `fail` is called.
        store: the replica, once the path is ready; None for a relay without one.
        clients: the ids of the clients on the path, in order of joining.
    """

    def __init__(
        self,
        path_id: str,
        exit: Exit,
        *,
        relay: bool,
        request_timeout_seconds: float,
        fragment_size: float | None,
        new_id: NewId,
        reviewer: Reviewer | None = None,
    ) -> None:
        self.path_id = path_id
        self.state: HubState = HubState.STARTING
        self.store: MergeableStore | None = None
        self.clients: dict[str, None] = {}
        self._exit = exit
        self._relay = relay
        self._request_timeout_seconds = request_timeout_seconds
        self._fragment_size = fragment_size
        self._new_id = new_id
        self._reviewer = reviewer
        self._blind: set[str] = set()  # clients that may not know what is on the path
        self._readers: tuple[str, ...] | None = None  # the others, once somebody has asked
        self._waiting = _Waiting()
        self._ahead = Ahead()
        self._synchronizer: Synchronizer | None = None
        self._window: Window | None = None  # once somebody may come back
        self._has_failed = False  # and so something that clients have said was dropped
        self._questions: list[tuple[str, Callable[[bool], None]]] = []  # who waits to be merged, and what then
        self._asking: list[tuple[str, Callable[[], None]]] = []  # who waits for the path to be ready, and what then
        self._passing: tuple[str, Payload] | None = None  # the changes being merged: from whom, and as they came

    # --- life

    def ready(self, store: MergeableStore | None, now: float, *, is_late: bool = False) -> None:
        """The path can serve its clients; what they have said meanwhile is handled in order.

        Args:
            store: the replica, loaded; None for a relay without one.
            now: seconds.
            is_late: whether clients may have been missed, or may have given up: all that are there compare hashes.
        """
        # Who waits for an answer to an operation does not give up, and checks by itself that both are equal.
        patient = set() if self._has_failed else {client_id for client_id, _ in self._asking}
        late = [client_id for client_id in self.clients if client_id not in patient] if is_late else []
        self.store = store
        self.state = HubState.READY
        if store is not None:
            self._synchronizer = Synchronizer(
                store,
                self,
                request_timeout_seconds=self._request_timeout_seconds,
                new_id=self._new_id,
                authority=not self._relay,
                knows_peers=True,
                reviewer=self._reviewer,
                encodes=True,
            )
            self._synchronizer.blind |= self._blind
            if self._relay:
                self._synchronizer.start_sync(now)
            else:
                self._synchronizer.start_live()
        for client_id in late:  # first, so that nothing is confirmed to them before it was got
            self.resync(client_id, now)
        self._receive_waiting(now)
        self._answer_questions()
        asking, self._asking = self._asking, []
        for _, act in asking:
            act()

    def _receive_waiting(self, now: float) -> None:
        """Act on what has waited; as long as something does, nobody is told that all is merged."""
        waiting = self._waiting.messages
        waiting.reverse()
        while waiting:
            held = waiting.pop()
            if held.client_id in self.clients or held.payload.message.type is MessageType.CONTENT_DIFF:
                self.receive(held.client_id, held.address, held.payload, now)
        self._waiting = _Waiting()

    def fail(self) -> None:
        """The path cannot serve its clients for now; what they have said is dropped, to be asked for again later."""
        self.state = HubState.FAILED
        self._has_failed = True
        self._waiting = _Waiting()

    def starting(self) -> None:
        """The path is tried again."""
        self.state = HubState.STARTING

    def resync(self, client_id: str, now: float) -> None:
        """A client may have missed something, or we may: compare hashes both ways."""
        if self._synchronizer is not None:
            self._synchronizer.announce(client_id)
            self._synchronizer.ask_hashes(client_id, now)

    def remind(self, client_id: str) -> None:
        """A client has missed changes: let it compare hashes."""
        if self._synchronizer is not None:
            self._synchronizer.announce(client_id)

    def destroy(self) -> None:
        """Let go of the replica."""
        if self._synchronizer is not None:
            self._synchronizer.destroy()

    @property
    def unanswered(self) -> int:
        """How many exchanges of the replica with clients have not come to their end."""
        return 0 if self._synchronizer is None else self._synchronizer.unanswered

    def reviews(self, client_id: str) -> bool:
        """Whether something that a client has said waits for a verdict."""
        return self._synchronizer is not None and self._synchronizer.reviews(client_id)

    @property
    def holds(self) -> bool:
        """Whether something that clients have said waits, for the path or for a transaction."""
        if self._synchronizer is not None:
            return self._synchronizer.holds
        return bool(self._waiting.messages)

    # --- clients

    def join(self, client_id: str, *, reads: bool = True) -> None:
        """A client comes onto the path.

        Args:
            client_id: the client.
            reads: whether it may know what is on the path.
        """
        self.clients[client_id] = None
        self._readers = None
        if not reads:
            self._set_blind(client_id)

    def _set_blind(self, client_id: str) -> None:
        self._blind.add(client_id)
        self._readers = None
        if self._synchronizer is not None:
            self._synchronizer.blind.add(client_id)

    def access_changed(self, client_id: str, now: float, *, reads: bool) -> None:
        """A client on the path may do more or less from now on.

        Args:
            client_id: the client.
            now: seconds.
            reads: whether it may know what is on the path.
        """
        if not reads:
            self._set_blind(client_id)
            return
        was_blind = client_id in self._blind
        self._blind.discard(client_id)
        self._readers = None
        if self._synchronizer is not None:
            self._synchronizer.blind.discard(client_id)
            if self._synchronizer.forget_rejected(client_id):  # what it has kept may be taken now, or answered
                self.resync(client_id, now)
            elif was_blind:
                self.remind(client_id)

    def leave(self, client_id: str) -> None:
        """A client is gone. What it said while the path was starting still counts."""
        self.clients.pop(client_id, None)
        self._blind.discard(client_id)
        self._readers = None
        self._questions = [question for question in self._questions if question[0] != client_id]
        self._asking = [asking for asking in self._asking if asking[0] != client_id]
        self._ahead.forget(client_id)
        if self._synchronizer is not None:
            self._synchronizer.forget_peer(client_id)

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None."""
        if self._synchronizer is not None:
            return self._synchronizer.deadline
        since = self._waiting.since
        return None if since is None else since + HELD_TIMEOUTS * self._request_timeout_seconds

    def wake(self, now: float) -> None:
        """Give up on what has waited too long."""
        if self._synchronizer is not None:
            self._synchronizer.wake(now)
            self._answer_questions()
        elif self.deadline is not None and self.deadline <= now:
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting()
        for client_id in {held.client_id: None for held in waiting.messages}:
            self._exit.close(client_id, self._limit(client_id, "the path took too long to start"))

    # --- messages

    def receive(self, client_id: str, address: str, payload: Payload, now: float) -> None:
        """Act on a message of a client, or hold it until the path is ready."""
        if self.state is HubState.STARTING:
            self._hold(_Held(client_id, address, payload, payload.size_bytes), now)
        elif self.state is HubState.READY:
            if self._relay:
                self._switch(client_id, address, payload, now)
            elif address in (EVERYONE, SERVER):
                self._hear(client_id, payload, now)
            else:
                message = f"clients of a hub cannot address one another, such as {address!r:.40}"
                self._exit.report(RemoteProtocolError(message, path_id=self.path_id, client_id=client_id))

    def reviewed(self, proposal: Proposal, verdict: Verdict, now: float) -> None:
        """A proposal was decided that the reviewer had taken its time for."""
        assert self._synchronizer is not None
        self._synchronizer.reviewed(proposal, verdict, now)
        self._answer_questions()

    def when_merged(self, client_id: str, act: Callable[[bool], None]) -> None:
        """Act once all that a client has said and announced so far is merged: `act(whether it could be got)`."""
        self._questions.append((client_id, act))
        self._answer_questions()

    def when_ready(self, client_id: str, act: Callable[[], None]) -> None:
        """Act once the path is ready, if the client is still there."""
        if self.state is HubState.READY:
            act()
        else:
            self._asking.append((client_id, act))

    def take_given(self, client_id: str, body: Any, now: float) -> None:
        """Merge what a client that compares ranges of rows gives with its request; raises RemoteProtocolError."""
        self._take(client_id, changes_in(body), now)

    def _take(self, client_id: str, changes: tuple[MergeableChanges, str] | None, now: float) -> None:
        """Merge what comes with a request: many transactions may have left it, so it has no id of one."""
        if changes is not None and self._synchronizer is not None and not self._relay:
            self._synchronizer.receive(client_id, Message(None, MessageType.CONTENT_DIFF, *changes), now)

    def compare(self, client_id: str, body: Any) -> list[Any] | None:
        """Answer a client that compares ranges of rows; None if there is nobody here who has all of the path.

        Raises:
            RemoteProtocolError: it is no comparison.
        """
        if self._synchronizer is None or self._relay:
            return None
        return self._synchronizer.compare(client_id, body, self._cursor(client_id))

    def prepare(self, body: Any | None) -> bool:
        """Do some milliseconds of the work that an answer to `resume` or `compare` is, where the store is large.

        Args:
            body: what is to be compared; None if nothing is.

        Returns:
            Whether it can be answered without much delay.
        """
        if self._synchronizer is None or self._relay:
            return True
        return self._synchronizer.prepare(None if body is None else summed_tables(body))

    def _cursor(self, client_id: str) -> str | None:
        """Where a client is that has everything; from now on it is remembered what changes."""
        if client_id in self._blind:
            return None
        if self._window is None:
            self._window = Window(self._new_id(TRANSACTION_ID_LENGTH))
        return self._window.cursor

    def resume(
        self,
        client_id: str,
        body: Any,
        answer: Callable[[dict[str, Any]], None],
        now: float,
        *,
        begins: bool = False,
    ) -> None:
        """Merge what a client has for us, and tell it what has changed since it was there.

        Args:
            client_id: the client.
            body: see `SINCE`.
            answer: called with the result; empty if there is nobody here who has all of the path.
            now: seconds.
            begins: whether it begins to sync: what it was asked before, it has not heard, nor what time it is.

        Raises:
            RemoteProtocolError: it is no such body.
        """
        place, changes = checked_place(body)
        if self._synchronizer is None or self._relay:
            answer({})
            return
        if begins:
            self._synchronizer.forget_questions(client_id)
            if changes is not None and changes[1] > self._synchronizer.store.latest_allowed_hlc():
                changes = None  # it does not know yet what time it is here; once it does, it stamps them anew
        self._take(client_id, changes, now)
        theirs = no_changes() if changes is None else changes[0]
        self.when_merged(client_id, lambda _: answer(self._news(client_id, place, theirs)))

    def _news(self, client_id: str, place: tuple[str, str | None] | None, theirs: MergeableChanges) -> dict[str, Any]:
        """What has changed since a client was there, but for what it has said itself just now."""
        assert self._synchronizer is not None
        cursor, store = self._cursor(client_id), self._synchronizer.shown_to(client_id)
        leaves = None if self._window is None or cursor is None or place is None else self._window.since(*place)
        news = None if leaves is None else page_of(store, leaves, theirs)
        result = {"cursor": cursor, "changes": news, "hashes": store.get_mergeable_content_hashes()}
        if news is None and cursor is not None:  # it has to compare, and what is later need not be looked for
            result["latest"] = store.get_latest_hlc()
        return result

    def _answer_questions(self) -> None:
        if self._questions and self.state is HubState.READY and not self._waiting.messages:
            questions, self._questions = self._questions, []
            for client_id, act in questions:
                merged = self._synchronizer is None or self._synchronizer.has_all_of(client_id)
                if merged is None:
                    self._questions.append((client_id, act))
                else:
                    act(merged)

    def _hear(self, client_id: str, payload: Payload, now: float) -> None:
        """Let the replica act on a message."""
        if self._synchronizer is None:
            return
        self._passing = (client_id, payload) if payload.message.type is MessageType.CONTENT_DIFF else None
        try:
            self._synchronizer.receive(client_id, payload.message, now)
        finally:
            self._passing = None
        self._answer_questions()

    def _switch(self, client_id: str, address: str, payload: Payload, now: float) -> None:
        """Pass a message to whom it is addressed, as TinyBase does."""
        if address in (EVERYONE, SERVER):
            self._hear(client_id, payload, now)
        if address == EVERYONE:
            self._pass_on(client_id, payload)
        elif address in self.clients:
            self._send_remainders([address], client_id, payload.remainders)

    def _pass_on(self, sender: str, payload: Payload) -> None:
        """Send what came in to all other clients, as it came."""
        self._send_remainders([client for client in self.clients if client != sender], sender, payload.remainders)

    def _send_remainders(self, client_ids: list[str], sender: str, remainders: Iterable[str]) -> None:
        if client_ids:
            for remainder in remainders:
                self._exit.send(client_ids, f"{sender}\n{remainder}")

    @property
    def readers(self) -> tuple[str, ...]:
        """The clients that may know what is on the path; the same tuple as long as they are the same."""
        if self._readers is None:
            self._readers = tuple(client_id for client_id in self.clients if client_id not in self._blind)
        return self._readers

    def _send_news(self, news: MergeableChanges, author: str | None) -> None:
        """Send changes of the replica's own, or let clients compare hashes where there are too many for a message."""
        message = Message(self._new_id(TRANSACTION_ID_LENGTH), MessageType.CONTENT_DIFF, news)
        self._note_sent(message.request_id)
        try:
            remainders = remainders_of(message, self._fragment_size, self._new_id)
        except LimitExceededError:
            self._remind_all(author)
        else:
            self._send_changes(SERVER, remainders, author)

    def _note_sent(self, message_id: str | None) -> None:
        if self._window is not None:
            self._window.sent(message_id)

    def _send_changes(self, sender: str, remainders: Iterable[str], author: str | None) -> None:
        """Send changes that the replica has, so that who misses them can get them from it later."""
        frames = [f"{sender}\n{remainder}" for remainder in remainders]
        if all(map(fits_frame, frames)):
            self._exit.send_changes(self.readers, frames, author)
        else:  # it came in a frame that has no room for the sender's id (surprise 14)
            self._remind_all(author)

    def _remind_all(self, author: str | None) -> None:
        """All but the author of changes have missed them."""
        for client_id in self.readers:
            if client_id != author:
                self.remind(client_id)

    # --- holding

    def _hold(self, held: _Held, now: float) -> None:
        """Keep a message until the path is ready; newer hashes of a client replace its older ones."""
        waiting = self._waiting
        if held.payload.message.type is MessageType.CONTENT_HASHES:
            self._release(lambda other: _says_hashes(other, held))
        waiting.messages.append(held)
        waiting.size_bytes += held.size_bytes
        if waiting.since is None:
            waiting.since = now
        if len(waiting.messages) > MAX_HELD_MESSAGES or waiting.size_bytes > MAX_HELD_BYTES:
            self._release(lambda other: other.client_id == held.client_id)
            self._exit.close(held.client_id, self._limit(held.client_id, "too much was sent while the path starts"))

    def _release(self, drops: Callable[[_Held], bool]) -> None:
        """Drop some of what is held."""
        waiting = self._waiting
        waiting.messages = [held for held in waiting.messages if not drops(held)]
        waiting.size_bytes = sum(held.size_bytes for held in waiting.messages)

    def _limit(self, client_id: str, message: str) -> LimitExceededError:
        return LimitExceededError(message, limit="server", path_id=self.path_id, client_id=client_id)

    # --- what the replica's synchronizer says (Outlet)

    def send(self, address: str, message: Message) -> None:
        """A message of the replica."""
        if message.type is MessageType.CONTENT_DIFF:
            self._note_sent(message.request_id)
        client_ids = list(self.clients) if address == EVERYONE else [address] if address in self.clients else []
        if client_ids:
            self._send_remainders(client_ids, SERVER, remainders_of(message, self._fragment_size, self._new_id))

    def report(self, error: Exception) -> None:
        """An error in the replica's exchanges."""
        if isinstance(error, SyncError) and error.path_id is None:
            error.path_id = self.path_id
        self._exit.report(error)

    def pulled(self) -> None:
        """A pull has ended."""
        self._answer_questions()

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Answer leaves that were not taken with the value to keep, so that their writer ends equal.

        What is itself too far in the future goes to the writer alone, whose clock is ahead; the rest is written here,
        and so goes to everyone.
        """
        if self._relay:
            return
        assert self._synchronizer is not None
        latest = self._synchronizer.store.latest_allowed_hlc()
        kept = correction(self._synchronizer.store, changes, self._new_id(CLIENT_PART_LENGTH))
        theirs = body_of({leaf: stamp for leaf, stamp in kept.items() if stamp[1] > latest})
        ours = body_of({leaf: stamp for leaf, stamp in kept.items() if stamp[1] <= latest})
        if sender in self.clients and sender not in self._blind:
            self._ahead.note(sender, changes)
            if not is_empty(theirs):
                self._ahead.note(sender, theirs)
                self._synchronizer.send_changes(theirs, sender)
        if not is_empty(ours):
            self._synchronizer.merge_own(ours)

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The replica changed: tell those who do not know."""
        assert self._synchronizer is not None
        if self._window is not None:
            self._window.note(changes)
        if self._relay:
            if self._synchronizer.state is SyncState.LIVE and not is_empty(beyond):
                self._synchronizer.send_changes(beyond)
            return
        # Where all of it was written here, whoever made us do so hears it with the others.
        sender = None if origin is None or beyond is changes else origin.sender
        has_others = self.readers not in ((), (sender,))
        news = [changes]
        if origin is not None and self._passing is not None and self._is_all_new(origin, changes):
            if is_blank(beyond):  # else the message that follows completes it
                self._note_sent(self._passing[1].message.request_id)
            if has_others:
                self._send_changes(self._passing[0], self._passing[1].remainders, sender)
            news = [beyond]
        elif origin is not None and changes is origin.body:
            news = [changes, beyond]
        for body in news:
            if has_others and not is_blank(body):
                self._send_news(body, sender)
        if sender is not None and sender not in self._blind and not is_empty(beyond):
            self._synchronizer.send_changes(beyond, sender)
        if self._ahead:
            for client_id, body in self._ahead.corrections(changes, self._new_id(CLIENT_PART_LENGTH)):
                self._synchronizer.send_changes(body, client_id)

    def _is_all_new(self, origin: Origin, changes: MergeableChanges) -> bool:
        """Whether what came in may be passed on as it is: what is old already was reviewed by nobody."""
        assert self._passing is not None
        if origin.body is not self._passing[1].message.body:
            return False
        return self._reviewer is None or is_empty(changes_beyond(origin.body, changes))


def _says_hashes(held: _Held, newer: _Held) -> bool:
    same_way = held.client_id == newer.client_id and held.address == newer.address
    return same_way and held.payload.message.type is MessageType.CONTENT_HASHES
