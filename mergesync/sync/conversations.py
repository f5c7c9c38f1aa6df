"""Questions to peers and their answers: who waits for what, and until when.

A conversation is a generator that yields what to ask whom and is sent the answer; or a proposal, until that is decided.
Messages on a connection are not lost, so an answer that is late still counts: a time-out is reported, and whoever began
the conversation is told, but the question stays open. Time-outs follow the round trips that are measured.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from mergesync.deadlines import earliest
from mergesync.exceptions import ConnectionLostError, LimitExceededError, MergesyncError, RequestTimeoutError
from mergesync.limits import (
    MAX_PENDING_REQUESTS,
    MAX_REQUEST_TIMEOUT_SECONDS,
    MAX_WAITING_CONVERSATIONS,
    PROMPT_ANSWER_SECONDS,
)
from mergesync.sync.messages import Message, MessageType
from mergesync.sync.operations import OK, Operation
from mergesync.sync.payloads import EVERYONE, SERVER
from mergesync.sync.review import Proposal
from mergesync.types import NewId

__all__ = ["PAUSE", "Answer", "Conversation", "Conversations", "Pause", "Question", "Step", "Talk"]

_REQUEST_SUFFIX_LENGTH = 4
_ROUND_TRIPS_PER_TIMEOUT = 3
_ROUND_TRIP_DECAY = 0.75  # a slower round trip counts at once, a faster one little by little


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask.

    Attributes:
        address: whom; empty for everyone, of whom the first to answer counts.
        type: what kind of request, or the name of an operation.
        body: of the request.
        transaction_id: the first part of its id.
        repeated: whether it is asked again and again until somebody answers.
        meanwhile: called once it is asked, as its answer takes time.
    """

    address: str
    type: MessageType | str
    body: Any
    transaction_id: str
    repeated: bool = False
    meanwhile: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the body of the message is the result, if an operation was asked."""

    sender: str
    message: Message


class Pause(enum.Enum):
    """Something that takes long lets others do something in between."""

    PAUSE = enum.auto()


PAUSE: Final = Pause.PAUSE

Step: TypeAlias = Question | Proposal | Pause
"""What a conversation goes on with: an answer, a verdict on a proposal, or the next turn of whoever calls `wake`."""

Conversation: TypeAlias = Generator[Step, Answer, None]
"""Yields questions, is sent answers; `ConnectionLostError` and `RequestTimeoutError` are thrown into it."""


@dataclass(slots=True, eq=False)
class Talk:
    """A conversation under way."""

    conversation: Conversation
    peer: str
    on_late: Callable[[], None] | None
    question: Question | None = None
    asked: dict[str, float] = field(default_factory=dict)  # when, by request id
    deadline: float | None = None
    expiries: int = 0
    ended: bool = False


class Conversations:
    """All conversations of one synchronizer.

    Args:
        send: sends a message to an address.
        operate: asks the server an operation.
        report: hears of time-outs and of what goes wrong.
        new_id: makes random ids.
        request_timeout_seconds: how long an answer may take while round trips are short.
        knows_peers: whether `forget_peer` will be called for peers that are gone, so that the others are waited for
            without end. Otherwise only the server is.
    """

    def __init__(
        self,
        send: Callable[[str, Message], object],
        operate: Callable[[Operation], None],
        report: Callable[[Exception], None],
        new_id: NewId,
        *,
        request_timeout_seconds: float,
        knows_peers: bool,
    ) -> None:
        self._send = send
        self._operate = operate
        self._report = report
        self._new_id = new_id
        self._request_timeout_seconds = request_timeout_seconds
        self._knows_peers = knows_peers
        self._active: dict[Talk, None] = {}  # in the order of their last questions
        self._late: dict[Talk, None] = {}
        self._running: dict[Talk, None] = {}
        self._paused: dict[Proposal, Talk] = {}
        self._resting: dict[Talk, None] = {}
        self._queue: dict[Talk, None] = {}
        self._by_request: dict[str, Talk] = {}
        self._round_trips: dict[str, float] = {}

    # --- beginning and ending

    def begin(
        self, conversation: Conversation, now: float, *, peer: str = EVERYONE, on_late: Callable[[], None] | None = None
    ) -> Talk | None:
        """Begin a conversation, or queue it while too many requests wait for their answers.

        Args:
            conversation: not started yet.
            now: seconds.
            peer: whom it is with, if that is known.
            on_late: called when an answer does not come in time.

        Returns:
            A handle for `end`, or None if even too many are queued, which was reported.
        """
        talk = Talk(conversation, peer, on_late)
        if self._room_at() <= now:
            self._advance(talk, conversation.__next__, now)
        elif len(self._queue) < MAX_WAITING_CONVERSATIONS:
            self._queue[talk] = None
        else:
            message = f"more than {MAX_WAITING_CONVERSATIONS} exchanges wait"
            self._report(LimitExceededError(message, limit="requests", client_id=_client_id(peer)))
            return None
        return talk

    def end(self, talk: Talk | None) -> None:
        """End a conversation without a word, if it has not ended."""
        if talk is not None:
            talk.ended = True
            self._forget(talk)
            self._resting.pop(talk, None)
            self._paused = {proposal: paused for proposal, paused in self._paused.items() if paused is not talk}
            if talk not in self._running:  # it may be the one that asks for this
                talk.conversation.close()

    def clear(self) -> None:
        """End all conversations without a word."""
        for talk in [
            *self._active, *self._late, *self._queue, *self._running, *self._resting, *self._paused.values()
        ]:  # fmt: skip
            self.end(talk)
        self._queue.clear()

    def forget_peer(self, address: str) -> None:
        """A peer is gone: do not wait for it."""
        self._round_trips.pop(address, None)
        self._queue = {talk: None for talk in self._queue if talk.peer != address}
        for talk in [talk for talk in self._paused.values() if talk.peer == address]:
            self.end(talk)
        for talk in [*self._active, *self._late]:
            if talk.question is not None and talk.question.address == address:
                now = max(talk.asked.values())
                self._fail(talk, ConnectionLostError("the peer is gone", client_id=address), now)

    @property
    def waiting(self) -> int:
        """How many answers are waited for, the late ones aside."""
        return len(self._active)

    @property
    def all(self) -> int:
        """How many conversations there are: waiting, late, paused, resting or queued."""
        return self.waiting + len(self._late) + len(self._paused) + len(self._resting) + len(self._queue)

    @property
    def are_late(self) -> bool:
        """Whether nothing goes on but that late answers are waited for."""
        return self.all == len(self._late)

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None."""
        if self._resting:
            return 0.0
        talks = self._active if self._knows_peers else [*self._active, *self._late]
        due = earliest(*[talk.deadline for talk in talks])
        return min(due, self._room_at()) if self._queue and due is not None else due

    def wake(self, now: float) -> None:
        """Go on with what rests, and note which answers are late."""
        resting, self._resting = self._resting, {}
        for talk in resting:
            self._advance(talk, talk.conversation.__next__, now)
        for talk in [*self._active, *self._late]:
            if talk.deadline is not None and talk.deadline <= now and talk.question is not None and not talk.ended:
                self._expire(talk, talk.question, now)
        self._start_queued(now)

    def _expire(self, talk: Talk, question: Question, now: float) -> None:
        talk.expiries += 1
        seconds = self._timeout_seconds(question)
        error = RequestTimeoutError(
            f"no answer to {_name(question.type)} in {seconds:g} s", client_id=_client_id(question.address)
        )
        if talk.expiries == 1:
            del self._active[talk]
            self._late[talk] = None
        if question.repeated:
            talk.deadline = now + min(seconds * 2**talk.expiries, MAX_REQUEST_TIMEOUT_SECONDS)
            if talk.expiries > 1:
                self._put(talk, question, now)
        elif self._knows_peers or question.address == SERVER:
            talk.deadline = None
        elif talk.expiries == 1:
            talk.deadline = now + MAX_REQUEST_TIMEOUT_SECONDS
        else:
            self._fail(talk, error, now)
            return
        if talk.expiries == 1:
            self._report(error)
            if talk.on_late is not None:
                talk.on_late()

    def round_trip_seconds(self, address: str) -> float:
        """How long answers of a peer take, or of the quickest if the address is empty; 0 if that is not known."""
        if address == EVERYONE:
            return min(self._round_trips.values(), default=0.0)
        return self._round_trips.get(address, 0.0)

    def _timeout_seconds(self, question: Question) -> float:
        if isinstance(question.type, str) and not question.repeated:  # it may have to put a million rows in order first
            return MAX_REQUEST_TIMEOUT_SECONDS
        round_trip_seconds = self.round_trip_seconds(question.address)
        adapted = min(_ROUND_TRIPS_PER_TIMEOUT * round_trip_seconds, MAX_REQUEST_TIMEOUT_SECONDS)
        return max(self._request_timeout_seconds, adapted)

    def _note_round_trip(self, address: str, seconds: float) -> None:
        known = self._round_trips.pop(address, 0.0)
        self._round_trips[address] = max(seconds, known * _ROUND_TRIP_DECAY + seconds * (1 - _ROUND_TRIP_DECAY))
        if len(self._round_trips) > MAX_WAITING_CONVERSATIONS:
            del self._round_trips[next(iter(self._round_trips))]

    # --- questions and answers

    def take_answer(self, sender: str, message: Message, now: float) -> bool:
        """Go on with the conversation that an answer belongs to; returns whether there is one."""
        talk = self._by_request.get(message.request_id or "")
        if talk is None or talk.question is None or talk.question.address not in (EVERYONE, sender):
            return False
        self._note_round_trip(sender, now - talk.asked[message.request_id or ""])
        self._forget(talk)
        self._advance(talk, lambda: talk.conversation.send(Answer(sender, message)), now)
        self._start_queued(now)
        return True

    def resume(self, proposal: Proposal, now: float) -> None:
        """Go on with the conversation that waits for a verdict, if there is one."""
        talk = self._paused.pop(proposal, None)
        if talk is not None:
            self._advance(talk, talk.conversation.__next__, now)
            self._start_queued(now)

    def has_asked(self, request_id: str | None) -> bool:
        """Whether a question of this id waits for its answer."""
        return (request_id or "") in self._by_request

    def take_operation(self, operation: Operation, now: float) -> None:
        """Go on with the conversation that the answer to an operation belongs to; None is sent for an error."""
        result = operation.body if operation.name == OK else None
        self.take_answer(SERVER, Message(operation.request_id, MessageType.RESPONSE, result), now)

    def _fail(self, talk: Talk, error: MergesyncError, now: float) -> None:
        self._forget(talk)
        self._advance(talk, lambda: talk.conversation.throw(error), now)

    def _advance(self, talk: Talk, step: Callable[[], Step], now: float) -> None:
        self._running[talk] = None
        try:
            asked = step()
        except StopIteration:
            return
        except Exception as error:  # a mistake of ours must not take the connection down
            self._report(error)
            return
        finally:
            del self._running[talk]
        if talk.ended:
            talk.conversation.close()
            return
        if asked is PAUSE:
            self._resting[talk] = None
            return
        if isinstance(asked, Proposal):
            self._paused[asked] = talk
            return
        talk.question, talk.expiries = asked, 0
        talk.deadline = now + self._timeout_seconds(asked)
        self._active[talk] = None
        self._put(talk, asked, now)
        if asked.meanwhile is not None:
            asked.meanwhile()

    def _put(self, talk: Talk, question: Question, now: float) -> None:
        request_id = ""
        while not request_id or request_id in self._by_request:
            request_id = f"{question.transaction_id}.{self._new_id(_REQUEST_SUFFIX_LENGTH)}"
        talk.asked[request_id] = now
        self._by_request[request_id] = talk
        if isinstance(question.type, str):
            self._operate(Operation(request_id, question.type, question.body))
        else:
            self._send(question.address, Message(request_id, question.type, question.body))

    def _forget(self, talk: Talk) -> None:
        self._active.pop(talk, None)
        self._late.pop(talk, None)
        for request_id in talk.asked:
            del self._by_request[request_id]
        talk.asked.clear()

    def _room_at(self) -> float:
        """When another conversation may begin, at the latest: that is now, or when one of the others is not prompt.

        Who answers for a path learns from the first what many others need not be asked for, so that not all are asked
        at once. A client can only wait until there are fewer.
        """
        if len(self._active) < MAX_PENDING_REQUESTS:
            return -math.inf
        if not self._knows_peers:
            return math.inf
        talk = next(islice(reversed(self._active), MAX_PENDING_REQUESTS - 1, None))
        return max(talk.asked.values()) + PROMPT_ANSWER_SECONDS

    def _start_queued(self, now: float) -> None:
        while self._queue and self._room_at() <= now:
            talk = next(iter(self._queue))
            del self._queue[talk]
            self._advance(talk, talk.conversation.__next__, now)


def _name(kind: MessageType | str) -> str:
    return kind if isinstance(kind, str) else kind.name.lower()


def _client_id(address: str) -> str | None:
    """The client that an address names, if it does."""
    return None if address in (EVERYONE, SERVER) else address
