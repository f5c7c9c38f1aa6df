"""Questions and answers: who waits for what, until when, and what happens to those who wait in vain."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from mergesync.exceptions import ConnectionLostError, LimitExceededError, MergesyncError, RequestTimeoutError
from mergesync.limits import MAX_PENDING_REQUESTS, MAX_REQUEST_TIMEOUT_SECONDS, PROMPT_ANSWER_SECONDS
from mergesync.sync import conversations
from mergesync.sync.conversations import Answer, Conversation, Conversations, Question
from mergesync.sync.messages import Message, MessageType
from mergesync.sync.operations import Operation
from tests.network import Ids

ASK = MessageType.GET_CONTENT_HASHES


class Table:
    """Conversations whose other ends are this test."""

    def __init__(self, *, knows_peers: bool = False, new_id: Callable[[int], str] | None = None) -> None:
        self.sent: list[tuple[str, str]] = []
        self.errors: list[Exception] = []
        self.operations: list[Operation] = []
        self.heard: list[Any] = []
        self.late = 0
        self.talks = Conversations(
            self._send,
            self.operations.append,
            self.errors.append,
            new_id or Ids(),
            request_timeout_seconds=1.0,
            knows_peers=knows_peers,
        )

    def deadline(self) -> float | None:
        """When the next time-out is due; a call, so that type checkers do not take it to be constant."""
        return self.talks.deadline

    def _send(self, address: str, message: Message) -> None:
        assert message.type is ASK
        assert message.request_id is not None
        self.sent.append((address, message.request_id))

    def on_late(self) -> None:
        """Somebody is told that an answer is late."""
        self.late += 1

    def asking(self, *addresses: str, repeated: bool = False) -> Conversation:
        """A conversation with these peers, one question each; it notes what it hears."""
        for address in addresses:
            try:
                answer = yield Question(address, ASK, "", f"to {address}", repeated)
                self.heard.append((answer.sender, answer.message.body))
            except MergesyncError as error:
                self.heard.append(type(error))
        self.heard.append("end")

    def begin(self, *addresses: str, repeated: bool = False, now: float = 0.0) -> Any:
        """Begin such a conversation."""
        return self.talks.begin(
            self.asking(*addresses, repeated=repeated), now, peer=addresses[0], on_late=self.on_late
        )

    def answer(self, sender: str, body: Any = "ok", now: float = 0.0, index: int = -1) -> None:
        """Answer one of the questions sent, by default the last."""
        self.talks.take_answer(sender, Message(self.sent[index][1], MessageType.RESPONSE, body), now)


def test_question_after_question() -> None:
    """Each answer brings the next question, until the conversation ends."""
    table = Table()
    table.begin("A", "B")
    table.answer("A", 1)
    table.answer("B", 2)
    assert [address for address, _ in table.sent] == ["A", "B"]
    assert table.heard == [("A", 1), ("B", 2), "end"]
    assert (table.talks.all, table.talks.waiting, table.talks.deadline) == (0, 0, None)


def test_whose_answer_counts() -> None:
    """The one who was asked must answer, once; of everyone the first. Other answers are ignored."""
    table = Table()
    table.begin("A")
    table.answer("B")
    table.talks.take_answer("A", Message("unknown", MessageType.RESPONSE, 1), 0.0)
    table.talks.take_answer("A", Message(None, MessageType.RESPONSE, 1), 0.0)
    assert table.heard == []
    table.answer("A")
    table.answer("A")
    assert table.heard == [("A", "ok"), "end"]
    table.begin("")
    table.answer("B", 1)
    table.answer("C", 2)
    assert table.heard[2:] == [("B", 1), "end"]


def test_request_ids_are_the_transaction_and_more() -> None:
    """A request id is the transaction's, a dot, and four characters that are not in use."""
    ids = iter(["aaaa", "aaaa", "bbbb"])
    table = Table(new_id=lambda length: next(ids))
    table.begin("A")
    table.begin("A")
    assert [request_id for _, request_id in table.sent] == ["to A.aaaa", "to A.bbbb"]


# --- time -------------------------------------------------------------------------------------------------


def test_late_answers_count() -> None:
    """A time-out is reported once and told to whoever began; the answer is taken whenever it comes."""
    table = Table(knows_peers=True)
    table.begin("A", "B")
    assert table.deadline() == 1.0
    table.talks.wake(0.9)
    assert table.errors == []
    table.talks.wake(1.0)
    (error,) = table.errors
    assert isinstance(error, RequestTimeoutError)
    assert (error.client_id, str(error)) == ("A", "no answer to get_content_hashes in 1 s (client 'A')")
    assert (table.late, table.talks.waiting, table.talks.all) == (1, 0, 1)
    assert table.deadline() is None
    table.talks.wake(1000.0)
    table.answer("A", 1, 5.0)
    table.answer("B", 2, 5.5)
    assert table.heard == [("A", 1), ("B", 2), "end"]
    assert len(table.errors) == 1


def test_the_server_is_waited_for_without_end() -> None:
    """The server goes only with the connection, so its answer is waited for; its time-out names no client."""
    table = Table()
    table.begin("S")
    table.talks.wake(1.0)
    assert table.talks.deadline is None
    assert [getattr(error, "client_id", "") for error in table.errors] == [None]
    table.answer("S", 1, 500.0)
    assert table.heard == [("S", 1), "end"]


def test_others_are_given_up_some_day() -> None:
    """Another client may be gone without our knowing: after the longest time-out the conversation hears so."""
    table = Table()
    table.begin("A", "B")
    table.talks.wake(1.0)
    assert table.talks.deadline == 1.0 + MAX_REQUEST_TIMEOUT_SECONDS
    table.talks.wake(1.0 + MAX_REQUEST_TIMEOUT_SECONDS)
    assert table.heard == [RequestTimeoutError]
    assert len(table.errors) == 1
    assert table.sent[-1][0] == "B"


def test_repeated_with_growing_pauses() -> None:
    """A repeated question is asked again after 2, 4, 8 ... and at most 30 time-outs; any of its answers counts."""
    table = Table()
    table.begin("", repeated=True)
    times = []
    for _ in range(7):
        now = table.talks.deadline
        assert now is not None
        table.talks.wake(now)
        times.append(now)
    assert times == [1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    assert len(table.sent) == 7
    assert len({request_id for _, request_id in table.sent}) == 7
    assert (len(table.errors), table.late) == (1, 1)
    table.answer("B", 1, 92.0, index=0)
    table.answer("B", 2, 92.0, index=3)
    assert table.heard == [("B", 1), "end"]
    assert (table.talks.all, table.talks.deadline) == (0, None)


def test_timeouts_follow_round_trips() -> None:
    """A slow answer raises the next time-out to that peer at once, quick ones lower it little by little."""
    table = Table()
    table.begin("A")
    table.answer("A", now=2.0)
    assert table.talks.round_trip_seconds("A") == 2.0
    table.begin("A", now=10.0)
    assert table.talks.deadline == 16.0
    table.answer("A", now=10.0)
    assert table.talks.round_trip_seconds("A") == 1.5
    table.begin("B", now=10.0)
    assert table.talks.deadline == 11.0
    table.answer("B", now=10.4)
    assert table.talks.round_trip_seconds("") == pytest.approx(0.4)
    table.begin("A", now=100.0)
    table.answer("A", now=900.0)
    table.begin("A", now=1000.0)
    assert table.talks.deadline == 1000.0 + MAX_REQUEST_TIMEOUT_SECONDS
    assert table.talks.round_trip_seconds("C") == 0.0


def test_round_trips_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many peers the round trips are known, not of more."""
    monkeypatch.setattr(conversations, "MAX_WAITING_CONVERSATIONS", 2)
    table = Table()
    for peer in "ABC":
        table.begin(peer)
        table.answer(peer, now=1.0)
    assert [table.talks.round_trip_seconds(peer) for peer in "ABC"] == [0.0, 1.0, 1.0]


# --- how many ---------------------------------------------------------------------------------------------


def test_how_many_requests_wait() -> None:
    """100 requests wait for answers; the next conversation is queued until one of them is answered, or late."""
    table = Table(knows_peers=True)
    for number in range(MAX_PENDING_REQUESTS):
        table.begin(str(number))
    table.begin("queued")
    table.begin("queued too")
    assert (table.talks.waiting, table.talks.all) == (MAX_PENDING_REQUESTS, MAX_PENDING_REQUESTS + 2)
    assert len(table.sent) == MAX_PENDING_REQUESTS
    table.answer("7", index=7)
    assert table.sent[-1][0] == "queued"
    table.talks.wake(1.0)
    assert table.sent[-1][0] == "queued too"
    assert table.talks.waiting == 1
    assert len(table.errors) == MAX_PENDING_REQUESTS


def test_how_many_conversations_are_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond that bound is not begun, and reported."""
    monkeypatch.setattr(conversations, "MAX_PENDING_REQUESTS", 1)
    monkeypatch.setattr(conversations, "MAX_WAITING_CONVERSATIONS", 1)
    table = Table()
    assert table.begin("A") is not None
    assert table.begin("B") is not None
    assert table.begin("C") is None
    (error,) = table.errors
    assert isinstance(error, LimitExceededError)
    assert (error.limit, error.client_id) == ("requests", "C")


# --- ends -------------------------------------------------------------------------------------------------


def test_silent_peers_do_not_keep_others_waiting() -> None:
    """At a server, those who do not answer promptly count no more, though it goes on waiting for them."""
    table = Table(knows_peers=True)
    for number in range(MAX_PENDING_REQUESTS):
        table.begin(f"silent {number}", now=0.001 * number)
    table.begin("A")
    table.begin("B", now=0.05)
    assert table.deadline() == PROMPT_ANSWER_SECONDS
    table.talks.wake(0.05)
    assert len(table.sent) == MAX_PENDING_REQUESTS
    table.talks.wake(PROMPT_ANSWER_SECONDS)
    assert [address for address, _ in table.sent[MAX_PENDING_REQUESTS:]] == ["A"]
    table.talks.wake(PROMPT_ANSWER_SECONDS + 0.001)
    assert table.sent[-1][0] == "B"
    table.answer("silent 0", now=0.2, index=0)
    assert table.heard == [("silent 0", "ok"), "end"]
    assert table.errors == []
    table.begin("C", now=0.3)
    assert table.sent[-1][0] == "C"


def test_peers_that_are_gone() -> None:
    """Conversations that wait for a peer that is gone hear so, queued ones are dropped; others go on."""
    table = Table(knows_peers=True)
    table.begin("A", "B")
    table.begin("B")
    table.talks.wake(1.0)
    table.begin("A", now=2.0)
    for number in range(MAX_PENDING_REQUESTS - 1):
        table.begin(str(number), now=2.0)
    table.begin("A", now=2.0)
    table.talks.forget_peer("A")
    assert table.heard == [ConnectionLostError, "end", ConnectionLostError]
    assert table.talks.all == MAX_PENDING_REQUESTS + 1
    assert table.talks.round_trip_seconds("A") == 0.0


def test_ended_without_a_word() -> None:
    """A conversation that is ended hears nothing, and nothing more is asked; ending it again does nothing."""
    table = Table()
    talk = table.begin("A", "B")
    table.talks.end(talk)
    table.talks.end(talk)
    table.talks.end(None)
    table.answer("A")
    assert (table.heard, table.talks.all, len(table.sent)) == ([], 0, 1)


def test_all_ended() -> None:
    """Waiting, late and queued conversations are ended all together."""
    table = Table(knows_peers=True)
    table.begin("late")
    table.talks.wake(1.0)
    for number in range(MAX_PENDING_REQUESTS + 1):
        table.begin(str(number), now=2.0)
    table.talks.clear()
    assert (table.heard, table.talks.all, table.talks.deadline) == ([], 0, None)


def test_ended_by_itself() -> None:
    """An application may end all conversations in a callback that one of them makes; that one asks no more."""
    table = Table()

    def conversation() -> Generator[Question, Answer, None]:
        yield Question("A", ASK, "", "t")
        table.talks.clear()
        yield Question("B", ASK, "", "t")

    table.talks.begin(conversation(), 0.0)
    table.answer("A")
    assert (len(table.sent), table.talks.all, table.errors) == (1, 0, [])


def test_ended_by_one_that_is_late() -> None:
    """Who is told that an answer is late may end everything, other late ones included."""
    table = Table()
    for peer in "AB":
        table.talks.begin(table.asking(peer), 0.0, on_late=table.talks.clear)
    table.talks.wake(1.0)
    assert len(table.errors) == 1
    assert (table.talks.all, table.heard) == (0, [])


def test_mistakes_end_one_conversation() -> None:
    """Whatever a conversation raises is reported and ends it, not the connection."""
    table = Table()

    def conversation() -> Generator[Question, Answer, None]:
        yield Question("A", ASK, "", "t")
        raise ZeroDivisionError

    table.talks.begin(conversation(), 0.0)
    table.begin("B")
    table.answer("A", index=0)
    assert [type(error) for error in table.errors] == [ZeroDivisionError]
    assert table.talks.all == 1


def test_nobody_is_told() -> None:
    """Being told of lateness is optional."""
    table = Table()
    table.talks.begin(table.asking("A"), 0.0)
    table.talks.wake(1.0)
    assert len(table.errors) == 1
