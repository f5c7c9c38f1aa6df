"""Who announces what, and how to end equal with them: one pull per peer at a time (protocol section 11)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from mergesync.exceptions import (
    ConnectionLostError,
    LimitExceededError,
    MergesyncError,
    RemoteProtocolError,
    RequestTimeoutError,
)
from mergesync.limits import MAX_PAGE_BYTES, MAX_WAITING_CONVERSATIONS
from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges
from mergesync.sync.admission import is_empty
from mergesync.sync.answering import Answering
from mergesync.sync.comparison import Comparing
from mergesync.sync.conversations import PAUSE, Answer, Conversation, Conversations, Question, Step
from mergesync.sync.exchange import Heard, Pulled, everything, hashes_of, pull
from mergesync.sync.intake import Intake
from mergesync.sync.messages import MessageType
from mergesync.sync.operations import COMPARE, Operation, operation_remainder
from mergesync.sync.payloads import SERVER, fits_message
from mergesync.sync.resuming import Resuming, Unconfirmed
from mergesync.sync.review import Proposal
from mergesync.types import MergeableChanges, NewId

__all__ = ["TRANSACTION_ID_LENGTH", "Announced", "PullHost", "Pulling"]

TRANSACTION_ID_LENGTH = 11
"""Characters of the id of a message that is not an answer."""

_SLOW = 0.5
"""A peer whose round trips take more than this part of the request time-out may give up on each answer."""


class PullHost(Protocol):
    """What pulling needs of the synchronizer around it."""

    blind: set[str]

    @property
    def is_syncing(self) -> bool:
        """Whether changes are taken."""

    def shown_to(self, address: str) -> MergeableStore:
        """What a peer may know of: a question of ours tells, too."""

    def announce(self, address: str) -> None:
        """Tell a peer our hashes."""

    def send_changes(self, changes: MergeableChanges, address: str) -> bool:
        """Send changes to a peer."""

    def settled(self) -> None:
        """Hear that somebody's hashes were compared with ours."""

    def resumed(self) -> None:
        """Hear that the server has answered where it and we are."""

    def pulled(self) -> None:
        """Hear that a pull has come to its end, well or not."""

    def blame(self, error: MergesyncError, sender: str) -> None:
        """Report what a peer did wrong."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a peer says it has.

    Attributes:
        transaction_id: the first part of the ids of what it is asked.
        hashes: its hashes; None if it is to be asked for them.
        heard: what its questions have told.
        to_us: whether it answered our question after it heard our own hashes.
    """

    transaction_id: str
    hashes: list[int] | None
    heard: Heard | None = None
    to_us: bool = False


class Pulling:
    """Gets what peers have announced.

    Args:
        store: what they are to be made equal with.
        host: the synchronizer around it.
        ranges: of the store.
        talks: its conversations.
        intake: where what was pulled is merged.
        answering: what peers are answered.
        new_id: makes random ids.
        request_timeout_seconds: how long a request waits for its answer while round trips are short.
        authority: see `Synchronizer`.
        unconfirmed: what the server may lack.

    Attributes:
        resuming: where we have stopped with the server.
        compares: whether the server is asked to compare ranges of rows, as far as is known it can.
        merges: how often something that was got was merged.
    """

    def __init__(
        self,
        store: MergeableStore,
        host: PullHost,
        *,
        ranges: Ranges,
        talks: Conversations,
        intake: Intake,
        answering: Answering,
        new_id: NewId,
        request_timeout_seconds: float,
        authority: bool,
        unconfirmed: Unconfirmed,
    ) -> None:
        self._store = store
        self._host = host
        self._ranges = ranges
        self._talks = talks
        self._intake = intake
        self._answering = answering
        self._new_id = new_id
        self._request_timeout_seconds = request_timeout_seconds
        self._authority = authority
        self.resuming: Resuming = Resuming(store, partial(self._merge, SERVER), unconfirmed, host.resumed)
        self.compares: bool = False
        self.merges: int = 0
        self._told: dict[str, None] = {}  # peers that were told that they lack something
        self._pulling: dict[str, Announced | None] = {}  # by peer, what to pull when the present pull ends
        self._missed: set[str] = set()  # peers of which the last pull did not work
        self._heard: dict[str, Heard] = {}  # by peer, what its questions told since it last announced its hashes

    @property
    def is_pulling(self) -> bool:
        """Whether something is still being got."""
        return bool(self._pulling)

    def has_all_of(self, address: str) -> bool | None:
        """Whether all that a peer has announced is merged; None if it is still being got."""
        return None if address in self._pulling else address not in self._missed

    def forget_peer(self, address: str) -> None:
        """A peer is gone."""
        self._heard.pop(address, None)
        self._missed.discard(address)
        self._told.pop(address, None)
        self._pulling.pop(address, None)

    def clear(self) -> None:
        """All are gone."""
        self.resuming.unsettle()
        self._told.clear()
        self._pulling.clear()
        self._missed.clear()
        self._heard.clear()

    # --- what peers tell

    def listen(self, sender: str, kind: MessageType, body: object) -> None:
        """Learn from what a peer asks; its start begins with the question for our hashes."""
        if kind is MessageType.GET_CONTENT_HASHES:
            self._heard[sender] = Heard()
        else:
            self._heard.setdefault(sender, Heard()).note(self._store, kind, body)

    def hear_announcement(self, sender: str, transaction_id: str | None, hashes: list[int], now: float) -> None:
        """A peer tells its hashes; if it is the server, and they differ, then something was missed."""
        if sender == SERVER and not self._has(hashes):
            self.resuming.unsettle()
        heard = self._take_heard(sender)
        self.pull_from(sender, Announced(transaction_id or self.new_transaction_id(), hashes, heard), now)

    def _take_heard(self, sender: str) -> Heard | None:
        heard = self._heard.pop(sender, None)
        return heard if heard is not None and heard.shortens() else None

    def _is_behind(self, sender: str) -> bool:
        """Whether a peer is getting what it lacks part by part; then its hashes differ anyway."""
        return self._answering.will_remind(sender)

    def new_transaction_id(self) -> str:
        """The first part of the ids of requests."""
        return self._new_id(TRANSACTION_ID_LENGTH)

    # --- getting it

    def pull_from(self, sender: str, announced: Announced, now: float) -> None:
        """Get what a peer announced; if a pull from it is under way, do so when that ends."""
        if sender in self._pulling:
            self._pulling[sender] = announced
        elif announced.hashes is not None and self._has(announced.hashes):
            self._host.settled()
        else:
            self._pulling[sender] = None
            if self._talks.begin(self._pull_announced(sender, announced), now, peer=sender) is None:
                del self._pulling[sender]

    def _has(self, hashes: list[int]) -> bool:
        return hashes == self._store.get_mergeable_content_hashes()

    def _pull_announced(self, sender: str, announced: Announced) -> Conversation:
        newer: Announced | None = announced
        try:
            while newer is not None:
                announced = newer
                heard = announced.heard
                hashes = yield from self.catch_up(sender, announced, heard)
                if hashes is not None and heard is not None and not self._has(hashes) and not self._is_behind(sender):
                    hashes = yield from self.catch_up(sender, announced, None)
                if hashes is None:
                    self._missed.add(sender)
                else:
                    self._missed.discard(sender)
                    self._host.settled()
                    if announced.to_us:
                        pass  # it knows that it lacks something
                    elif self._authority:
                        self._make_equal(sender, hashes)
                    elif self._pulling.get(sender) is None:
                        yield from self._tell_of_more(sender, hashes)
                newer, self._pulling[sender] = self._pulling.get(sender), None
        finally:
            self._pulling.pop(sender, None)
        self._host.pulled()

    def catch_up(
        self, sender: str, announced: Announced, heard: Heard | None
    ) -> Generator[Step, Answer, list[int] | None]:
        """Get what a peer has, part after part; returns its hashes before, or None if it did not work."""
        hashes, is_part = announced.hashes, True
        try:
            if hashes is None:
                hashes = yield from self.hashes_now(sender, announced.transaction_id)
                if heard is None and self._is_behind(sender):
                    heard = self._take_heard(sender)
            while is_part and not (yield from self.compared(sender, announced.transaction_id, hashes)):
                pulled = yield from self.pulled(sender, announced.transaction_id, hashes, heard)
                before = self._store.get_mergeable_content_hashes() if pulled.is_part else []
                yield from self.absorb(sender, pulled)
                is_part = pulled.is_part and not self._has(before)
        except (ConnectionLostError, RequestTimeoutError):
            return None  # reported when it was late; who is gone comes back and announces its hashes again
        except MergesyncError as error:
            self._host.blame(error, sender)
            return None
        return hashes

    def compares_with(self, address: str) -> bool:
        """Whether this is a server that can compare ranges of rows."""
        return self.compares and address == SERVER

    def compared(self, address: str, transaction_id: str, hashes: list[int]) -> Generator[Step, Answer, bool]:
        """End equal with a server of ours, both ways; returns whether that is so."""
        if self._has(hashes):
            return True
        if not self.compares_with(address):
            return False
        return (yield from self._trying(self._equalized(transaction_id, hashes)))

    def resumed(self, transaction_id: str) -> Generator[Step, Answer, bool]:
        """The same at the start of a connection, with the first words on it."""
        return (yield from self._trying(self._greeted(transaction_id)))

    def _trying(self, exchange: Generator[Step, Answer, bool | None]) -> Generator[Step, Answer, bool]:
        """Do without what mergesync adds to TinyBase where the server cannot, or answers nonsense."""
        try:
            is_equal = yield from exchange
            self.compares = is_equal is not None
        except RemoteProtocolError as error:
            is_equal, self.compares = False, False
            self._host.blame(error, SERVER)
        return bool(is_equal)

    def _greeted(self, transaction_id: str) -> Generator[Step, Answer, bool | None]:
        is_equal = yield from self.resuming.run(transaction_id, greets=True)
        if is_equal is False:
            is_equal = yield from self._compared(transaction_id, None, self.resuming.latest)
        return is_equal

    def _equalized(self, transaction_id: str, hashes: list[int]) -> Generator[Step, Answer, bool | None]:
        if self.resuming.cursor is not None and (yield from self.resuming.run(transaction_id, greets=False)):
            return True
        return (yield from self._compared(transaction_id, hashes))

    def _compared(
        self, transaction_id: str, hashes: list[int] | None, latest: str | None = None
    ) -> Generator[Step, Answer, bool | None]:
        """Compare ranges of rows; None if the server cannot."""
        while not self._ranges.prepare(None):
            yield PAUSE
        comparing = Comparing(
            self._store,
            self._ranges,
            merge=partial(self._merge, SERVER),
            their_hashes=hashes,
            their_latest=latest,
        )
        run = comparing.run()
        try:
            body = next(run)
            while True:
                body = self._fitting(body)
                answer_ = yield Question(SERVER, COMPARE, body, transaction_id, meanwhile=comparing.absorb)
                if answer_.message.body is None:
                    return None
                body = run.send(answer_.message.body)
        except StopIteration as stop:
            is_equal: bool = stop.value
            self.resuming.settle(comparing.cursor if is_equal else None)
            self.resuming.is_checked = is_equal
            return is_equal

    def _fitting(self, body: list[Any]) -> list[Any]:
        """A request without the changes that come with it, if they are too large: nothing smaller can be sent."""
        if len(body) == 3 or fits_message(operation_remainder(Operation(None, COMPARE, body))):
            return body
        self._host.blame(LimitExceededError("a row is too large to be sent", limit="socket"), SERVER)
        return body[:3]

    def absorb(self, sender: str, pulled: Pulled) -> Generator[Step, Answer, None]:
        """Merge what was pulled; goes on once that is decided."""
        proposal = self._merge(sender, pulled.changes, pulled.newest)
        if proposal is not None:
            yield proposal

    def _merge(self, sender: str, changes: MergeableChanges, newest: str) -> Proposal | None:
        """Merge what was got, if it is anything; returns what waits for a verdict."""
        if not self._host.is_syncing or is_empty(changes):
            return None
        self.merges += 1
        return self._intake.merge(sender, changes, newest, pulled=True)

    def hashes_now(self, address: str, transaction_id: str) -> Generator[Question, Answer, list[int]]:
        """Ask a peer for its hashes."""
        answer_ = yield Question(address, MessageType.GET_CONTENT_HASHES, "", transaction_id)
        return hashes_of(answer_.message)

    def pulled(
        self, address: str, transaction_id: str, hashes: list[int], heard: Heard | None = None
    ) -> Generator[Question, Answer, Pulled]:
        """Drive a pull, each question to the same peer."""
        pulling = pull(self._host.shown_to(address), hashes, heard)
        try:
            kind, body = next(pulling)
            while True:
                answer_ = yield Question(address, kind, body, transaction_id)
                kind, body = pulling.send(answer_.message)
        except StopIteration as stop:
            pulled: Pulled = stop.value
            return pulled

    # --- giving what is here

    def _make_equal(self, sender: str, hashes: list[int]) -> None:
        """See to it that a peer that announced other hashes gets what it lacks, unless it is getting it already.

        Usually it pulled before it announced, and lacks nothing. It does if it gave up waiting for our answer, because
        the path or the link was slow. Over a slow link it would give up again, so everything is sent unasked, if it is
        little; otherwise it is answered in small parts.
        """
        if self._has(hashes) or sender in self._heard or sender in self._host.blind or self._is_behind(sender):
            return
        if self._talks.round_trip_seconds(sender) <= _SLOW * self._request_timeout_seconds:
            self._host.announce(sender)
        elif self._answering.is_small(MAX_PAGE_BYTES):
            self._host.send_changes(everything(self._store), sender)
        else:
            self._answering.shrink(sender)
            self._host.announce(sender)

    def _tell_of_more(self, sender: str, hashes: list[int]) -> Generator[Step, Answer, None]:
        """Tell a peer that has announced hashes, and has since been pulled from, that it lacks something.

        A TinyBase peer may have got its start from one who lacked most (surprise 16). What is only on its way to it
        makes its hashes differ, too, so it is asked for them again. To the server's own store everyone announces.
        Each peer is told once, as two may never agree (surprise 1).
        """
        if self._has(hashes) or sender in self._told or sender == SERVER:
            return
        try:
            hashes = yield from self.hashes_now(sender, self.new_transaction_id())
        except (ConnectionLostError, RequestTimeoutError):
            return  # reported when it was late
        except MergesyncError as error:
            self._host.blame(error, sender)
            return
        if not self._has(hashes):
            self._told[sender] = None
            if len(self._told) > MAX_WAITING_CONVERSATIONS:
                del self._told[next(iter(self._told))]
            self._host.announce(sender)
