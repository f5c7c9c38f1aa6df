"""One store and its peers: the start, pulls, changes, transactions of the application, lies, and slow links."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import (
    ConnectionLostError,
    InvalidCellError,
    LimitExceededError,
    RefusedChangesError,
    RemoteProtocolError,
    RequestTimeoutError,
)
from mergesync.limits import MAX_HELD_MESSAGES, MAX_REQUEST_TIMEOUT_SECONDS, TRANSACTION_POLL_SECONDS
from mergesync.sync import conversations, pulling, start_answers
from mergesync.sync.messages import MessageType
from mergesync.sync.synchronizer import SyncState

from .kit import FUTURE, Driven, cell_changes, hlc, new_store, value_changes

EMPTY: list[Any] = [[{}], [{}], 1]
ASK_HASHES = ("", MessageType.GET_CONTENT_HASHES, "")
HASHES, DIFF, VALUES = MessageType.CONTENT_HASHES, MessageType.CONTENT_DIFF, MessageType.GET_VALUE_DIFF


def started(**options: Any) -> Driven:
    """A synchronizer that has just asked who is there; its store has one value."""
    driven = Driven(new_store().set_value("v", 1), **options)
    driven.core.start_sync(0.0)
    return driven


def live(**options: Any) -> Driven:
    """A synchronizer that syncs; its store has one value."""
    driven = Driven(new_store().set_value("v", 1), **options)
    driven.make_live()
    return driven


# --- the start --------------------------------------------------------------------------------------------


def test_start_with_an_equal_peer() -> None:
    """It asks who is there; hashes are equal, so it tells its own and is live."""
    driven = started()
    assert driven.core.state is SyncState.STARTING
    driven.answer(driven.store.get_mergeable_content_hashes())
    assert driven.outbox.take() == [ASK_HASHES, ("", HASHES, driven.store.get_mergeable_content_hashes())]
    assert (driven.core.state, driven.outbox.ended) == (SyncState.LIVE, 1)
    assert (driven.core.unanswered, driven.core.is_pulling, driven.core.deadline) == (0, False, None)
    assert (driven.core.stats.sends, driven.core.stats.receives) == (2, 1)


def test_others_who_answer() -> None:
    """Whoever answers later with other hashes is pulled from, too; TinyBase uses the first answer only."""
    driven = started()
    ours = driven.store.get_mergeable_content_hashes()
    for peer, hashes in [("S", ours), ("A", ours), ("B", [0, 5]), ("C", [0, 5])]:
        driven.answer(hashes, peer, index=0)
    assert [each[:2] for each in driven.outbox.take()] == [ASK_HASHES[:2], ("", HASHES), ("B", VALUES)]


def test_others_are_pulled_from_one_by_one() -> None:
    """Most of what the others have is the same, so each is asked once the one before has answered."""
    driven = started()
    for number, peer in enumerate("ABC"):
        driven.answer([0, number], peer, index=0)
    assert driven.core.is_pulling
    for number, peer in enumerate("ABC"):
        assert [each[0] for each in driven.outbox.sent if each[1].type is VALUES] == ["A", "B", "C"][: number + 1]
        driven.answer([{peer: [number, hlc(number)]}], peer)
        driven.outbox.sent = [each for each in driven.outbox.sent if each[1].type is not HASHES]
    assert driven.store.get_values() == {"v": 1, "A": 0, "B": 1, "C": 2}
    assert (driven.core.is_pulling, driven.core.unanswered) == (False, 0)


def test_others_after_who_answered_first_is_silent() -> None:
    """Answers that wait for a pull that does not end are followed once the start is over."""
    driven = started()
    driven.answer([0, 1], "A", index=0)
    driven.answer([0, 2], "B", index=0)
    driven.core.wake(1.0)
    driven.core.wake(1.0 + MAX_REQUEST_TIMEOUT_SECONDS)
    assert driven.outbox.sent[-1][0] == "B"


def test_others_are_not_kept_waiting_by_one_who_is_gone() -> None:
    """Who does not answer a pull in time is waited for beside the next; found by schedule 78303 of the simulator."""
    driven = started()
    driven.answer(driven.store.get_mergeable_content_hashes())
    driven.answer([0, 1], "A", index=0)
    driven.answer([0, 2], "B", index=0)
    assert driven.outbox.sent[-1][0] == "A"
    driven.core.wake(1.0)
    assert driven.outbox.sent[-1][0] == "B"
    driven.answer([{"B": [2, hlc(2)]}], "B")
    assert driven.core.is_pulling
    driven.core.wake(1.0 + MAX_REQUEST_TIMEOUT_SECONDS)
    assert (driven.store.get_values(), driven.core.is_pulling) == ({"v": 1, "B": 2}, False)


def test_too_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many different answers are blamed on who gave them."""
    monkeypatch.setattr(start_answers, "MAX_WAITING_CONVERSATIONS", 2)
    driven = started()
    for number, peer in enumerate("ABC", 1):
        driven.answer([0, number], peer, index=0)
    (error,) = driven.outbox.errors
    assert isinstance(error, LimitExceededError)
    assert (error.limit, error.client_id) == ("requests", "C")


def test_answers_to_a_start_that_is_over() -> None:
    """After a stop, answers to what was asked before are ignored."""
    driven = started()
    driven.core.stop_sync()
    driven.answer([0, 1], "A", index=0)
    driven.core.start_sync(0.0)
    driven.answer([0, 1], "A", index=0)
    assert [each[:2] for each in driven.outbox.take()] == [ASK_HASHES[:2]] * 2


def test_start_twice() -> None:
    """Starting again does nothing while it runs."""
    driven = started()
    driven.core.start_sync(0.0)
    assert driven.outbox.take() == [ASK_HASHES]


def test_start_pulls_first() -> None:
    """What the first who answers has is merged before the own hashes are told."""
    driven = started()
    driven.answer([0, 1], "A")
    assert driven.core.is_pulling
    driven.answer([{"w": [2, hlc(1)]}], "A")
    assert driven.store.get_values() == {"v": 1, "w": 2}
    assert [each[:2] for each in driven.outbox.take()] == [
        ("", MessageType.GET_CONTENT_HASHES),
        ("A", MessageType.GET_VALUE_DIFF),
        ("", HASHES),
    ]
    assert not driven.core.is_pulling


def test_start_with_nobody() -> None:
    """Without an answer in time it goes live, uses the initial content, and goes on asking ever more rarely."""
    driven = Driven()
    driven.core.start_sync(0.0, ({}, {"v": 7}))
    assert driven.core.deadline == 1.0
    driven.core.wake(1.0)
    assert driven.store.get_values() == {"v": 7}
    assert (driven.core.state, driven.outbox.ended) == (SyncState.LIVE, 1)
    assert [type(error) for error in driven.outbox.errors] == [RequestTimeoutError]
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_CONTENT_HASHES, HASHES]
    driven.core.wake(3.0)
    driven.core.wake(7.0)
    assert driven.outbox.take() == [ASK_HASHES, ASK_HASHES]
    assert len(driven.outbox.errors) == 1


def test_a_late_answer_to_the_start() -> None:
    """An answer after the time-out is used nevertheless, and what it brought is told to the others."""
    driven = started()
    driven.core.wake(1.0)
    driven.outbox.sent[1:] = []
    driven.answer([0, 1], now=1.2)
    assert driven.core.is_pulling
    driven.answer([{"w": [2, hlc(1)]}], now=2.4)
    assert driven.store.get_values() == {"v": 1, "w": 2}
    assert driven.outbox.take()[-1] == ("", HASHES, driven.store.get_mergeable_content_hashes())
    assert (driven.core.unanswered, driven.outbox.ended) == (0, 2)


def test_a_late_answer_without_news() -> None:
    """If the late answer brings nothing, nothing is told."""
    driven = started()
    driven.core.wake(1.0)
    driven.outbox.sent[1:] = []
    driven.answer(driven.store.get_mergeable_content_hashes(), now=1.2)
    assert driven.outbox.take() == [ASK_HASHES]
    assert (driven.core.unanswered, driven.outbox.ended) == (0, 2)


def test_somebody_comes_after_the_start() -> None:
    """Once hashes were compared with anybody, the question who is there is not repeated."""
    driven = started()
    driven.core.wake(1.0)
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "S", 1.5)
    assert (driven.core.unanswered, driven.core.deadline) == (0, None)
    driven = started()
    driven.core.wake(1.0)
    driven.hear(HASHES, [0, 5], "S", 1.5)
    driven.answer([{}], "S", 1.6)
    assert (driven.core.unanswered, driven.core.deadline) == (0, None)


def test_the_start_goes_on_while_somebody_announces() -> None:
    """An announcement during the start is followed, and does not end the start that waits for its own answers."""
    driven = started()
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "B")
    assert driven.core.unanswered == 1
    driven.core.wake(1.0)
    driven.outbox.sent[1:] = []
    driven.answer([0, 5], "A", 1.1)
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "B", 1.2)
    assert driven.core.unanswered == 1
    driven.answer([{}], "A", 1.3)
    assert driven.core.unanswered == 0


def test_start_with_nonsense() -> None:
    """Who answers nonsense is blamed, and the start is over, with the initial content."""
    driven = Driven()
    driven.core.start_sync(0.0, ({}, {"v": 7}))
    driven.answer([{}], "A")
    (error,) = driven.outbox.errors
    assert isinstance(error, RemoteProtocolError)
    assert error.client_id == "A"
    assert (driven.core.state, driven.core.unanswered) == (SyncState.LIVE, 0)
    assert driven.store.get_values() == {"v": 7}
    driven = started()
    driven.core.wake(1.0)
    driven.outbox.sent[1:] = []
    driven.answer([{}], "A", 1.5)
    assert (driven.core.state, driven.core.unanswered, driven.outbox.ended) == (SyncState.LIVE, 0, 2)


def test_initial_content_is_not_needed() -> None:
    """Who was given something does not use the initial content, not even in part."""
    driven = Driven()
    driven.core.start_sync(0.0, ({}, {"v": 7, "w": 7}))
    driven.answer([0, 1])
    driven.answer([{"v": [2, hlc(1)]}])
    assert driven.store.get_values() == {"v": 2}


def test_initial_content_that_is_none() -> None:
    """Initial content that cannot be written is reported, and the start goes on."""
    driven = Driven()
    driven.core.start_sync(0.0, ({}, {"v": object()}))
    driven.answer([0, 0])
    assert [type(error) for error in driven.outbox.errors] == [InvalidCellError]
    assert driven.core.state is SyncState.LIVE


def test_who_answered_first_goes() -> None:
    """If the peer that answers the start is gone, it goes live, and asks again who is there."""
    driven = started(knows_peers=True)
    driven.answer([0, 1], "A")
    driven.outbox.take()
    driven.core.forget_peer("A")
    assert [each[1] for each in driven.outbox.take()] == [HASHES, MessageType.GET_CONTENT_HASHES]
    assert (driven.core.state, driven.outbox.errors) == (SyncState.LIVE, [])


def test_who_answered_first_says_no_more() -> None:
    """The same where nobody tells that it is gone, after the longest time-out."""
    driven = started()
    driven.answer([0, 1], "A")
    driven.core.wake(1.0)
    assert driven.core.state is SyncState.LIVE
    driven.outbox.take()
    driven.core.wake(1.0 + MAX_REQUEST_TIMEOUT_SECONDS)
    assert driven.outbox.take() == [ASK_HASHES]
    driven.core.wake(2.0 + MAX_REQUEST_TIMEOUT_SECONDS)
    assert [type(error) for error in driven.outbox.errors] == [RequestTimeoutError, RequestTimeoutError]


def test_a_server_does_not_repeat_its_question() -> None:
    """A relay's replica asks once: who comes announces itself."""
    driven = started(knows_peers=True)
    driven.core.wake(1.0)
    driven.outbox.take()
    assert driven.core.deadline is None
    driven.core.wake(1000.0)
    assert driven.outbox.take() == []


# --- stopping ---------------------------------------------------------------------------------------------


def test_stopped() -> None:
    """Without syncing, questions 4 to 7 are answered, and nothing else; nothing is sent."""
    driven = started()
    driven.core.stop_sync()
    driven.outbox.take()
    driven.store.set_value("v", 2)
    driven.hear(MessageType.GET_CONTENT_HASHES, "")
    driven.hear(HASHES, [0, 5])
    driven.hear(DIFF, value_changes(w=[1, hlc(1)]))
    assert driven.outbox.take() == []
    assert driven.store.get_values() == {"v": 2}
    for kind, body in ((4, [[{}], {}]), (5, [[{}], {}]), (6, [{}])):
        driven.hear(MessageType(kind), {})
        assert driven.outbox.take() == [("S", MessageType.RESPONSE, body)]
    driven.hear(MessageType.GET_VALUE_DIFF, {})
    ((address, _, (values,)),) = driven.outbox.take()
    assert (address, list(values)) == ("S", ["v"])


def test_stopping_ends_what_waits() -> None:
    """An answer after stopping is for nobody, and a new start is not mixed up with the old."""
    driven = started()
    driven.core.stop_sync()
    driven.answer([0, 1])
    assert (driven.core.unanswered, driven.core.state) == (0, SyncState.STOPPED)
    driven.core.start_sync(5.0)
    driven.answer([0, 1], index=0)
    assert driven.core.state is SyncState.STARTING


def test_stopping_while_pulling() -> None:
    """A pull under way is dropped, and one from the same peer can begin with the next start."""
    driven = live()
    driven.hear(HASHES, [0, 5])
    driven.core.stop_sync()
    assert (driven.core.is_pulling, driven.core.unanswered) == (False, 0)
    driven.core.start_live()
    driven.hear(HASHES, [0, 5])
    driven.answer([{"w": [1, hlc(1)]}])
    assert driven.store.get_values() == {"v": 1, "w": 1}


def test_stopping_in_a_listener_of_a_pull() -> None:
    """An application may stop in the middle of a merge: what was pulled is merged, and nothing more is done."""
    driven = live()
    driven.store.add_value_listener("w", lambda *_: driven.core.stop_sync())
    driven.hear(HASHES, [0, 5], "A")
    driven.hear(HASHES, [0, 6], "A")
    driven.answer([{"w": [1, hlc(1)]}], "A")
    assert (driven.core.state, driven.core.unanswered, len(driven.outbox.sent)) == (SyncState.STOPPED, 0, 1)


def test_stopping_in_a_listener_of_the_start() -> None:
    """The same when the start itself merges."""
    driven = started()
    driven.store.add_value_listener("w", lambda *_: driven.core.stop_sync())
    driven.answer([0, 5])
    driven.answer([{"w": [1, hlc(1)]}])
    assert (driven.core.state, driven.core.unanswered, driven.outbox.ended) == (SyncState.STOPPED, 0, 0)


def test_disconnected() -> None:
    """What waited for an answer fails with one error; what was late was reported already."""
    driven = started()
    driven.core.disconnect()
    assert [type(error) for error in driven.outbox.errors] == [ConnectionLostError]
    assert (driven.core.state, driven.core.unanswered) == (SyncState.STOPPED, 0)
    driven.core.start_sync(0.0)
    driven.core.wake(1.0)
    driven.core.disconnect()
    driven.core.disconnect()
    assert [type(error) for error in driven.outbox.errors] == [ConnectionLostError, RequestTimeoutError]


def test_destroyed() -> None:
    """After that the store is on its own, and nothing is reported."""
    driven = started()
    driven.core.destroy()
    driven.core.start_live()
    driven.store.set_value("v", 2)
    assert (driven.outbox.changes, driven.outbox.errors) == ([], [])


# --- changes ----------------------------------------------------------------------------------------------


def test_local_changes() -> None:
    """Syncing or not, the outlet hears of each transaction that touched something; it is the one to send it."""
    driven = started()
    driven.store.set_value("v", 2)
    driven.core.start_live()
    driven.store.set_value("v", 3).set_value("v", 3)
    _, (changes, origin, beyond) = driven.outbox.changes
    assert origin is None
    assert changes is beyond
    assert list(changes[1][0]) == ["v"]
    driven.core.send_changes(changes)
    driven.core.send_changes(changes, "A")
    assert driven.outbox.take()[1:] == [("", DIFF, changes), ("A", DIFF, changes)]


def test_changes_of_peers() -> None:
    """A peer's changes are merged, and the outlet hears whose they were and what listeners wrote beside them."""
    driven = live()
    driven.store.add_value_listener("w", lambda store, *_: store.set_value("seen", True), True)
    body = value_changes(w=[1, hlc(1)])
    driven.hear(DIFF, body, "A")
    ((changes, origin, beyond),) = driven.outbox.changes
    assert origin is not None
    assert (origin.sender, origin.body) == ("A", body)
    assert changes is origin.body
    assert list(beyond[1][0]) == ["seen"]
    assert driven.core.origin is None


def test_changes_during_the_start() -> None:
    """What arrives during the start is merged at once; the outlet hears of it, and of what listeners wrote."""
    driven = started()
    driven.hear(DIFF, value_changes(w=[1, hlc(1)]), "A")
    assert driven.store.get_values() == {"v": 1, "w": 1}
    assert len(driven.outbox.changes) == 1


def test_changes_without_the_final_one() -> None:
    """A body of two elements is ignored as in the peer, but reported."""
    driven = live()
    driven.hear(DIFF, [[{}], [{"w": [1, hlc(1)]}]], "A")
    (error,) = driven.outbox.errors
    assert isinstance(error, RemoteProtocolError)
    assert error.client_id == "A"
    assert driven.store.get_values() == {"v": 1}


def test_changes_from_the_future() -> None:
    """A stamp too far ahead is refused, said once, and the outlet may answer it."""
    driven = live()
    body = value_changes(w=[1, hlc(0, FUTURE)], x=[1, hlc(1)])
    driven.hear(DIFF, body, "A")
    assert driven.store.get_values() == {"v": 1, "x": 1}
    assert [type(error) for error in driven.outbox.errors] == [RefusedChangesError]
    assert driven.outbox.refusals == [("A", value_changes(w=[1, hlc(0, FUTURE)]))]


@pytest.mark.parametrize("authority", [False, True])
def test_bare_containers(authority: bool) -> None:
    """Only an authority passes on what a body says beyond its leaves, so that all have the same hashes."""
    driven = live(authority=authority)
    body = [[{"t": [{}, hlc(1)]}, hlc(2)], [{}], 1]
    driven.hear(DIFF, body, "A")
    assert [changes for changes, _, _ in driven.outbox.changes] == ([body] if authority else [])
    assert driven.store.get_mergeable_content()[0][1] == hlc(2)


def test_own_stamps() -> None:
    """Stamps made here, such as corrections, count as a change of our own."""
    driven = live()
    driven.core.merge_own(value_changes(w=[1, hlc(1)]))
    ((_, origin, _),) = driven.outbox.changes
    assert origin is None


def test_an_outlet_that_fails() -> None:
    """What cannot be sent or told is reported; neither the application nor the peer is to blame."""
    driven = live()
    driven.outbox.failing = RecursionError("too deep")
    driven.store.set_value("v", 2)
    driven.core.announce()
    assert driven.outbox.errors == [driven.outbox.failing] * 2
    assert driven.store.get_values() == {"v": 2}


# --- pulling ----------------------------------------------------------------------------------------------


def test_announced_hashes() -> None:
    """Who announces other hashes is asked under the id of the announcement, or a new one if it has none."""
    driven = live()
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "S")
    assert driven.outbox.sent == []
    driven.hear(HASHES, [0, 5], "S", request_id="t")
    assert driven.core.is_pulling
    ((address, message),) = driven.outbox.sent
    assert (address, message.type) == ("S", MessageType.GET_VALUE_DIFF)
    assert message.request_id is not None
    assert message.request_id[:2] == "t."
    driven.answer([{"w": [1, hlc(1)]}], "S")
    assert (driven.store.get_values(), driven.outbox.ended) == ({"v": 1, "w": 1}, 1)
    driven.outbox.take()
    driven.hear(HASHES, [0, 5], "S", request_id=None)
    request_id = driven.outbox.sent[0][1].request_id
    assert request_id is not None
    assert len(request_id) == 16


def test_one_pull_from_a_peer_at_a_time() -> None:
    """However often a peer announces, one pull is under way; when it ends, the last announcement is followed."""
    driven = live()
    for number in range(1000):
        driven.hear(HASHES, [0, number], "S", request_id=str(number))
    assert len(driven.outbox.sent) == 1
    driven.answer([{}], "S")
    last = driven.outbox.sent[-1][1].request_id
    assert (len(driven.outbox.sent), last) == (2, f"999.{(last or '')[4:]}")
    driven.answer([{}], "S")
    assert (len(driven.outbox.sent), driven.core.unanswered, driven.outbox.ended) == (2, 0, 1)


def test_pulls_from_several_peers() -> None:
    """Different peers are pulled from at the same time."""
    driven = live()
    for peer in "AB":
        driven.hear(HASHES, [0, 5], peer)
    assert [address for address, _ in driven.outbox.sent] == ["A", "B"]


def test_nonsense_ends_a_pull() -> None:
    """A nonsensical answer is blamed on its sender and costs nothing more; the next announcement is followed."""
    driven = live()
    driven.hear(HASHES, [5, 5], "A")
    driven.answer([1, 2], "A")
    (error,) = driven.outbox.errors
    assert isinstance(error, RemoteProtocolError)
    assert error.client_id == "A"
    assert (len(driven.outbox.sent), driven.core.unanswered, driven.core.is_pulling) == (1, 0, False)
    driven.hear(HASHES, [5, 5], "A")
    assert len(driven.outbox.sent) == 2


def test_nonsense_and_a_newer_announcement() -> None:
    """An announcement that waits is followed even if the pull before it failed."""
    driven = live()
    for _ in range(2):
        driven.hear(HASHES, [0, 5], "A")
    driven.answer([1, 2], "A")
    driven.answer([{"w": [1, hlc(1)]}], "A")
    assert driven.store.get_values() == {"v": 1, "w": 1}


def test_asking_a_peer() -> None:
    """A peer can be asked for its hashes, and is pulled from; while a pull is under way, after that."""
    driven = live()
    driven.core.ask_hashes("A", 0.0)
    driven.core.ask_hashes("A", 0.0)
    assert driven.outbox.take() == [("A", MessageType.GET_CONTENT_HASHES, "")]
    driven.core.ask_hashes("A", 0.0)
    assert driven.outbox.take() == []


def test_asked_peers_answer() -> None:
    """The hashes that a peer was asked for are followed like announced ones; nonsense is blamed."""
    driven = live()
    driven.core.ask_hashes("A", 0.0)
    driven.answer([0, 5], "A")
    driven.answer([{"w": [1, hlc(1)]}], "A")
    assert driven.store.get_values() == {"v": 1, "w": 1}
    driven.core.ask_hashes("A", 0.0)
    driven.answer([{}], "A")
    assert [type(error) for error in driven.outbox.errors] == [RemoteProtocolError]


def test_peers_that_are_gone() -> None:
    """A peer that goes is forgotten without a word."""
    driven = live(knows_peers=True, authority=True)
    driven.hear(HASHES, [0, 5], "A")
    driven.hear(MessageType.GET_VALUE_DIFF, {}, "A")
    driven.core.forget_peer("A")
    driven.core.forget_peer("never there")
    assert (driven.core.unanswered, driven.core.is_pulling, driven.outbox.errors) == (0, False, [])


def test_too_many_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that cannot even be queued is reported, and the peer may announce again."""
    monkeypatch.setattr(conversations, "MAX_PENDING_REQUESTS", 1)
    monkeypatch.setattr(conversations, "MAX_WAITING_CONVERSATIONS", 0)
    driven = live(authority=True)
    for peer in "AB":
        driven.hear(HASHES, [0, 5], peer)
    (error,) = driven.outbox.errors
    assert isinstance(error, LimitExceededError)
    assert (error.client_id, len(driven.outbox.sent)) == ("B", 1)
    driven.answer([{}], "A")
    driven.hear(HASHES, [0, 5], "B")
    assert driven.outbox.sent[-1][0] == "B"


def test_slow_peers_are_waited_for() -> None:
    """An answer that takes longer than the time-out is used; the next time-outs are longer."""
    driven = live(knows_peers=True)
    driven.hear(HASHES, [5, 5], "A")
    driven.core.wake(1.0)
    driven.answer([[{}], {}], "A", 1.2)
    assert driven.core.deadline == pytest.approx(1.2 + 3 * 1.2)
    driven.answer([{"w": [1, hlc(1)]}], "A", 2.4)
    assert driven.store.get_values() == {"v": 1, "w": 1}


# --- an authority -----------------------------------------------------------------------------------------


def test_learns_from_questions() -> None:
    """Who asked first need not be asked for what its questions told; what is left is compared in the end."""
    driven = live(authority=True, knows_peers=True)
    driven.hear(MessageType.GET_CONTENT_HASHES, "", "A")
    driven.hear(MessageType.GET_TABLE_DIFF, {}, "A")
    driven.hear(MessageType.GET_VALUE_DIFF, {"w": 5}, "A")
    driven.outbox.take()
    other = new_store("other").set_value("w", 5)
    other.merge_checked([[{}], driven.store.get_mergeable_value_diff({}), 1])
    driven.hear(HASHES, other.get_mergeable_content_hashes(), "A")
    driven.answer(other.get_mergeable_value_diff(driven.store.get_mergeable_value_hashes()), "A")
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_VALUE_DIFF]
    assert driven.store.get_mergeable_content_hashes() == other.get_mergeable_content_hashes()


def test_checks_what_it_has_learned() -> None:
    """If the peer changed after its questions, the shorter pull misses that, and a full one follows."""
    driven = live(authority=True, knows_peers=True)
    driven.hear(MessageType.GET_TABLE_DIFF, {}, "A")
    driven.hear(MessageType.GET_VALUE_DIFF, {}, "A")
    driven.outbox.take()
    other = new_store("other").set_cell("t", "r", "c", 1)
    other.merge_checked([[{}], driven.store.get_mergeable_value_diff({}), 1])
    driven.hear(HASHES, other.get_mergeable_content_hashes(), "A")
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_TABLE_DIFF]


def test_sees_to_it_that_announcers_end_equal() -> None:
    """A peer that announced without having asked, as after its time-out, is told that there is more."""
    driven = live(authority=True, knows_peers=True)
    driven.hear(MessageType.GET_CONTENT_HASHES, "", "A")
    driven.hear(HASHES, [0, 0], "A")
    driven.answer([{}], "A")
    assert driven.outbox.take()[-1] == ("A", HASHES, driven.store.get_mergeable_content_hashes())


def test_who_asks_is_not_told() -> None:
    """A peer that has begun to ask since it announced gets what it lacks without being told."""
    driven = live(authority=True, knows_peers=True)
    driven.hear(HASHES, [0, 0], "A")
    driven.outbox.sent[:-1] = []
    driven.hear(MessageType.GET_VALUE_DIFF, {}, "A")
    driven.answer([{}], "A", index=0)
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_VALUE_DIFF, MessageType.RESPONSE]


def test_a_slow_announcer_is_sent_everything() -> None:
    """Over a link so slow that the peer would give up on every answer, all is sent without its asking (M11)."""
    driven = live(authority=True, knows_peers=True)
    driven.store.set_cell("t", "r", "c", 1)
    driven.hear(HASHES, [0, 0], "A")
    driven.answer([[{}], {}], "A", 0.6)
    driven.answer([{}], "A", 1.2)
    address, kind, body = driven.outbox.take()[-1]
    assert (address, kind) == ("A", DIFF)
    other = new_store("other")
    other.apply_mergeable_changes(body)
    assert other.get_mergeable_content() == driven.store.get_mergeable_content()


def announced_less(driven: Driven, peer: str = "A", now: float = 0.0) -> list[Any]:
    """A peer announces no values, and is pulled from; returns what was asked or told then."""
    driven.hear(HASHES, [0, 0], peer, now)
    driven.answer([{}], peer, now)
    return driven.outbox.take()[1:]


def test_peers_among_others_learn_nothing() -> None:
    """Who is no authority does not take questions for answers: the peer does not either."""
    driven = live()
    driven.hear(MessageType.GET_TABLE_DIFF, {}, "S")
    driven.hear(MessageType.GET_VALUE_DIFF, {}, "S")
    driven.outbox.take()
    driven.hear(HASHES, [5, 0], "S")
    driven.answer([[{}], {}], "S")
    driven.answer([{}], "S")
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_TABLE_DIFF, MessageType.GET_VALUE_DIFF]


def test_a_peer_among_others_that_lacks_something() -> None:
    """A TinyBase peer may have started from one who lacked most; it is told once that there is more."""
    driven = live()
    assert announced_less(driven) == [("A", MessageType.GET_CONTENT_HASHES, "")]
    driven.hear(HASHES, [0, 0], "B")
    driven.answer([{}], "B")
    driven.answer([0, 0], "B")
    assert driven.outbox.take()[-1] == ("B", HASHES, driven.store.get_mergeable_content_hashes())
    assert announced_less(driven, "B") == []


def test_what_is_on_its_way_to_a_peer() -> None:
    """A peer that has got the rest when it is asked again is told nothing."""
    driven = live()
    driven.hear(HASHES, [0, 0], "A")
    driven.answer([{}], "A")
    driven.answer(driven.store.get_mergeable_content_hashes(), "A")
    assert driven.outbox.take()[2:] == []
    assert (driven.core.is_pulling, driven.core.unanswered) == (False, 0)


def test_a_server_store_is_not_told() -> None:
    """To the server's own store everyone announces, so it pulls by itself."""
    assert announced_less(live(), "S") == []


def test_a_peer_that_is_gone_or_talks_nonsense_is_not_told() -> None:
    """Asked again, it does not answer, or not with hashes: that was reported, and nothing more is said."""
    driven = live(knows_peers=True)
    announced_less(driven)
    driven.core.forget_peer("A")
    assert driven.outbox.errors == []
    announced_less(driven)
    driven.hear(HASHES, [0, 0], "B")
    driven.answer([{}], "B")
    driven.answer([{}], "B")
    assert [type(error) for error in driven.outbox.errors] == [RemoteProtocolError]
    assert [each[1] for each in driven.outbox.take()] == [MessageType.GET_VALUE_DIFF, MessageType.GET_CONTENT_HASHES]


def test_how_many_told_peers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten first: who is told again by chance only asks once more."""
    monkeypatch.setattr(pulling, "MAX_WAITING_CONVERSATIONS", 1)
    driven = live()
    for peer in "AB":
        driven.hear(HASHES, [0, 0], peer)
        driven.answer([{}], peer)
        driven.answer([0, 0], peer)
    driven.outbox.take()
    assert announced_less(driven, "B") == []
    assert announced_less(driven, "A") == [("A", MessageType.GET_CONTENT_HASHES, "")]


# --- transactions of the application ----------------------------------------------------------------------


def test_nothing_happens_in_a_transaction() -> None:
    """While a transaction is open messages wait, in order, and a rollback takes back only what the application did."""
    driven = live()
    driven.store.start_transaction()
    driven.store.set_value("v", 2)
    driven.hear(DIFF, value_changes(w=[1, hlc(1)]), "A", 5.0)
    driven.hear(MessageType.GET_VALUE_DIFF, {}, "A", 5.0)
    assert driven.outbox.sent == []
    assert driven.core.is_pulling
    assert driven.core.deadline == 5.0 + TRANSACTION_POLL_SECONDS
    driven.core.wake(5.01)
    assert driven.core.deadline == 5.01 + TRANSACTION_POLL_SECONDS
    driven.store.finish_transaction(lambda _: True)
    driven.core.wake(5.02)
    assert driven.store.get_values() == {"v": 1, "w": 1}
    ((_, _, (values,)),) = driven.outbox.take()
    assert (values["v"][0], values["w"]) == (1, [1, hlc(1)])
    assert driven.core.unanswered == 0


def test_the_next_message_finds_the_transaction_over() -> None:
    """What waited is handled before whatever comes next."""
    driven = live()
    driven.store.start_transaction()
    driven.hear(DIFF, cell_changes("t", "r", c=[1, ""]))
    driven.store.finish_transaction()
    driven.hear(DIFF, cell_changes("t", "r", c=[2, ""]))
    assert driven.store.get_cell("t", "r", "c") == 2


def test_nobody_is_late_in_a_transaction() -> None:
    """Time-outs wait as well: the start's defaults do not get into the application's transaction."""
    driven = Driven()
    driven.core.start_sync(0.0, ({}, {"v": 7}))
    driven.store.start_transaction()
    driven.core.wake(1.0)
    assert (driven.outbox.errors, driven.core.state) == ([], SyncState.STARTING)
    driven.store.finish_transaction(lambda _: True)
    driven.core.wake(1.1)
    assert (driven.store.get_values(), driven.core.state) == ({"v": 7}, SyncState.LIVE)


def test_stopping_in_a_transaction() -> None:
    """Questions that wait are answered even if syncing stops; without the connection they are dropped."""
    driven = live()
    driven.store.start_transaction()
    driven.hear(MessageType.GET_VALUE_DIFF, {})
    driven.core.stop_sync()
    driven.store.finish_transaction()
    driven.core.wake(1.0)
    assert [each[1] for each in driven.outbox.take()] == [MessageType.RESPONSE]
    driven.store.start_transaction()
    driven.hear(MessageType.GET_VALUE_DIFF, {})
    driven.core.disconnect()
    driven.store.finish_transaction()
    driven.core.wake(1.0)
    assert driven.outbox.take() == []


@pytest.mark.parametrize(("knows_peers", "limit"), [(False, "client"), (True, "server")])
def test_how_much_waits_for_a_transaction(knows_peers: bool, limit: str) -> None:
    """1000 messages wait; one more closes the connection it came on, and the next one makes up for it."""
    driven = live(knows_peers=knows_peers)
    driven.store.start_transaction()
    for _ in range(MAX_HELD_MESSAGES):
        driven.hear(MessageType.GET_VALUE_DIFF, {})
    with pytest.raises(LimitExceededError) as caught:
        driven.hear(MessageType.GET_VALUE_DIFF, {})
    assert (caught.value.limit, caught.value.close_code) == (limit, 1013)
    driven.store.finish_transaction()
    driven.core.wake(1.0)
    assert len(driven.outbox.take()) == MAX_HELD_MESSAGES
