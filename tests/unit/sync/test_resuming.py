"""A client that goes on where it stopped: what it asks, what it sends, and when it does not trust what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import RemoteProtocolError
from mergesync.limits import SERVER_CHECK_FIRST_SECONDS
from mergesync.store import MergeableStore
from mergesync.sync.messages import MessageType
from mergesync.sync.operations import COMPARE, HELLO, OK, SINCE, Operation
from mergesync.sync.resuming import checked_changes
from mergesync.sync.synchronizer import SyncState
from mergesync.types import MergeableChanges

from .kit import Driven, hlc, new_store, value_changes

NO_CHANGES: MergeableChanges = [[{}], [{}], 1]


class Resumed(Driven):
    """A client that had been equal to the server when the connection was lost, and is back."""

    def __init__(self, unconfirmed: MergeableChanges | None = None) -> None:
        self.asked: list[Operation] = []
        self.unconfirmed: MergeableChanges | None = unconfirmed or NO_CHANGES
        super().__init__(new_store(), operate=self.asked.append, unconfirmed=lambda: self.unconfirmed)
        self.core.start_sync(0.0, compares=True)
        self.answers(self.hashes(), cursor="e.1")

    def come_back(self) -> None:
        """The connection is lost, and made again."""
        self.core.disconnect()
        self.asked.clear()
        self.outbox.take()
        self.core.start_sync(0.0, compares=True)

    def hashes(self, *changes: MergeableChanges) -> list[int]:
        """Those of the store, had it these changes, too."""
        other = MergeableStore("other", get_now=lambda: 2**42 - 1)
        other.set_mergeable_content(self.store.get_mergeable_content())
        for each in changes:
            other.apply_mergeable_changes(each)
        return other.get_mergeable_content_hashes()

    def answers(self, hashes: list[int], changes: Any = None, cursor: Any = "e.9", now: float = 0.0) -> None:
        """The server answers."""
        result = {"cursor": cursor, "changes": changes, "hashes": hashes}
        self.core.receive_operation(Operation(self.asked[-1].request_id, OK, result), now)

    def is_done(self) -> bool:
        """Whether nothing is being asked."""
        return self.core.state is SyncState.LIVE and not self.core.is_pulling

    def deadline(self) -> float | None:
        """When it is to be woken."""
        return self.core.deadline

    def questions(self) -> list[tuple[str, Any]]:
        """What was asked since it is back."""
        return [(operation.name, operation.body) for operation in self.asked]


def test_nothing_has_changed() -> None:
    """One question, and nothing is announced."""
    driven = Resumed()
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.1", None], None])]
    assert driven.core.state is SyncState.STARTING
    driven.answers(driven.hashes(), NO_CHANGES)
    assert driven.is_done()
    assert driven.outbox.take() == []


def test_the_server_has_more() -> None:
    """The last message counts from which nothing was missed, and those without an id do not."""
    driven = Resumed()
    driven.hear(MessageType.CONTENT_DIFF, value_changes(v=[1, hlc(1)]), request_id="m1")
    driven.hear(MessageType.CONTENT_DIFF, value_changes(v=[2, hlc(2)]), request_id=None)
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.1", "m1"], None])]
    driven.hear(MessageType.CONTENT_DIFF, value_changes(v=[4, hlc(4)]), request_id="m4")
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.1", "m1"], None])]
    news = value_changes(v=[5, hlc(5)])
    driven.answers(driven.hashes(news), news)
    assert driven.store.get_values() == {"v": 5}
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.9", None], None])]


def test_the_server_lacks_something() -> None:
    """It is sent what it has not confirmed with the first question."""
    driven = Resumed()
    driven.store.set_value("v", 1)
    driven.unconfirmed = driven.store.get_mergeable_content()
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.1", None], driven.unconfirmed])]
    driven.answers(driven.hashes(), NO_CHANGES, "e.3")
    assert driven.is_done()


def test_an_answer_that_is_lost() -> None:
    """What was sent is not confirmed, and so is sent again on the next connection."""
    driven = Resumed(value_changes(v=[1, hlc(1)]))
    for _ in range(2):
        driven.come_back()
        assert driven.questions() == [(HELLO, [["e.1", None], driven.unconfirmed])]


def test_what_is_written_while_the_server_is_greeted() -> None:
    """It is sent with a second question."""
    driven = Resumed(value_changes(v=[1, hlc(1)]))
    driven.come_back()
    before = driven.hashes()
    driven.store.set_value("v", 2)
    driven.unconfirmed = driven.store.get_mergeable_content()
    driven.answers(before, NO_CHANGES, "e.2")
    assert driven.core.state is SyncState.LIVE
    assert driven.core.is_giving
    assert driven.questions()[1] == (SINCE, [["e.2", None], driven.unconfirmed])
    driven.answers(driven.hashes(), NO_CHANGES, "e.3")
    assert driven.is_done()


@pytest.mark.parametrize(("latest", "given"), [(hlc(0), 1), (hlc(9, 1), 0), (None, 0), ("nonsense", 0)])
def test_what_is_later_than_all_that_the_server_has(latest: Any, given: int) -> None:
    """Where nothing else is known, it is given with the first request that compares."""
    driven = Driven(new_store().set_value("v", 1), operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.core.start_sync(0.0, compares=True)
    result = {"cursor": "e.1", "changes": None, "hashes": [1, 1], "latest": latest}
    driven.core.receive_operation(Operation(asked[0].request_id, OK, result), 0.0)
    assert asked[1].name == COMPARE
    assert len(asked[1].body) == 3 + given


def test_the_server_is_one_of_before_a_restart() -> None:
    """It does not know the cursor, takes what is sent nevertheless, and what it has is compared."""
    driven = Resumed(value_changes(v=[1, hlc(1)]))
    driven.come_back()
    driven.answers([1, 1], None, "f.1")
    assert [name for name, _ in driven.questions()] == [HELLO, COMPARE]


@pytest.mark.parametrize("rest", [NO_CHANGES, None])
def test_nobody_knows_what_the_server_lacks(rest: MergeableChanges | None) -> None:
    """If the hashes differ, ranges are compared, and the cursor is forgotten."""
    driven = Resumed()
    driven.unconfirmed = rest
    driven.come_back()
    driven.answers([1, 1], NO_CHANGES)
    assert [name for name, _ in driven.questions()] == [HELLO, COMPARE]
    driven.come_back()
    assert driven.questions() == [(HELLO, [None, None])]


def test_hashes_that_differ_after_all() -> None:
    """What was sent has not made them equal."""
    driven = Resumed()
    driven.unconfirmed = value_changes(v=[1, hlc(1)])
    driven.come_back()
    driven.answers([1, 1], NO_CHANGES)
    assert [name for name, _ in driven.questions()] == [HELLO, COMPARE]


def test_a_cursor_that_means_nothing() -> None:
    """Equal hashes are as good as the rest."""
    driven = Resumed()
    driven.come_back()
    driven.answers(driven.hashes(), None, "f.1")
    assert driven.is_done()
    driven.come_back()
    driven.answers([1, 1], None, "f.1")
    assert [name for name, _ in driven.questions()] == [HELLO, COMPARE]
    assert driven.questions()[0][1] == [["f.1", None], None]


def test_what_is_written_all_the_time() -> None:
    """Then they cannot be compared; it is tried again later."""
    driven = Resumed()
    driven.come_back()
    for number in range(4):
        driven.store.set_value("v", number)
        driven.answers([number, number], NO_CHANGES)
    assert [name for name, _ in driven.questions()] == [HELLO, SINCE, SINCE, SINCE]
    assert driven.is_done()
    assert driven.deadline() == SERVER_CHECK_FIRST_SECONDS
    driven.outbox.take()
    driven.core.wake(2.0)
    driven.answer([3, 3], now=2.0)
    driven.answers(driven.hashes(), NO_CHANGES, now=2.0)
    assert driven.questions()[-1] == (SINCE, [["e.9", None], None])
    assert driven.deadline() is None
    assert [kind for _, kind, _ in driven.outbox.take()] == [MessageType.GET_CONTENT_HASHES]


def test_a_check_that_fails() -> None:
    """They are compared, and nothing is announced."""
    driven = Resumed()
    driven.come_back()
    for number in range(4):
        driven.store.set_value("v", number)
        driven.answers([number, number], NO_CHANGES)
    driven.core.wake(2.0)
    driven.answer([3, 3], now=2.0)
    driven.outbox.take()
    driven.answers([3, 3], NO_CHANGES, now=2.0)
    assert driven.questions()[-1][0] == COMPARE
    for _ in range(2):
        driven.core.receive_operation(
            Operation(driven.asked[-1].request_id, OK, [[{}], {}, [], None, [], [3, 3], None]), 2.0
        )
    driven.answer([[{}], {}], now=2.0)
    driven.answer([{}], now=2.0)
    assert MessageType.CONTENT_HASHES not in [kind for _, kind, _ in driven.outbox.take()]


@pytest.mark.parametrize("result", [{"server": "of an older version"}, "nonsense"])
def test_a_server_that_numbers_nothing(result: Any) -> None:
    """It is asked in TinyBase's way."""
    driven = Resumed()
    driven.come_back()
    driven.core.receive_operation(Operation(driven.asked[-1].request_id, OK, result), 0.0)
    assert [message.type for _, message in driven.outbox.sent] == [MessageType.GET_CONTENT_HASHES]
    driven.answer(driven.hashes())
    assert driven.is_done()


def test_something_was_missed() -> None:
    """The server announces hashes: it is asked what has changed since, and what it tells meanwhile does not count."""
    driven = Resumed()
    driven.hear(MessageType.CONTENT_DIFF, value_changes(v=[1, hlc(1)]), request_id="m1")
    driven.hear(MessageType.CONTENT_HASHES, [2, 2])
    driven.hear(MessageType.CONTENT_DIFF, value_changes(w=[1, hlc(4)]), request_id="m4")
    assert driven.questions()[-1] == (SINCE, [["e.1", "m1"], None])
    news = value_changes(v=[2, hlc(2)])
    driven.answers(driven.hashes(news), news)
    assert driven.is_done()
    driven.hear(MessageType.CONTENT_HASHES, driven.hashes())
    driven.hear(MessageType.CONTENT_DIFF, value_changes(w=[2, hlc(5)]), request_id="m5")
    driven.come_back()
    assert driven.questions() == [(HELLO, [["e.9", "m5"], None])]


@pytest.mark.parametrize(
    "result",
    [
        {"cursor": 1, "changes": None, "hashes": [1, 1]},
        {"cursor": "e.1", "changes": [], "hashes": [1, 1]},
        {"cursor": "e.1", "changes": [[{"t": 1}], [{}], 1], "hashes": [1, 1]},
    ],
)
def test_nonsense(result: Any) -> None:
    """It is reported, and the server is asked in TinyBase's way."""
    driven = Resumed()
    driven.come_back()
    driven.core.receive_operation(Operation(driven.asked[-1].request_id, OK, result), 0.0)
    assert [type(error) for error in driven.outbox.errors] == [RemoteProtocolError]
    assert [kind for _, kind, _ in driven.outbox.take()] == [MessageType.GET_CONTENT_HASHES]


def test_a_server_that_takes_long() -> None:
    """The client goes live without it, with the content it begins with; what it answers in the end counts."""
    driven = Driven(new_store(), operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.core.start_sync(0.0, ({}, {"v": 1}), compares=True)
    driven.core.wake(1.0)
    assert driven.core.state is SyncState.LIVE
    assert driven.store.get_values() == {"v": 1}
    assert driven.outbox.take() == []
    result = {"cursor": "e.1", "changes": None, "hashes": driven.store.get_mergeable_content_hashes()}
    driven.core.receive_operation(Operation(asked[0].request_id, OK, result), 5.0)
    assert not driven.core.is_pulling


def test_a_relay_that_takes_long() -> None:
    """It is told of the client's hashes before anything else that ends may pass for a promise that it has everything.

    Found by seed 41459 of the simulator: the server announced hashes of its own, and when that pull was over, the
    client asked whether all was stored.
    """
    driven = Driven(new_store(), operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.store.set_value("v", 1)
    driven.core.start_sync(0.0, compares=True)
    driven.core.wake(1.0)
    assert driven.core.state is SyncState.LIVE
    driven.outbox.take()
    driven.core.receive_operation(Operation(asked[0].request_id, OK, {}), 5.0)
    assert [kind for _, kind, _ in driven.outbox.take()] == [
        MessageType.CONTENT_HASHES,
        MessageType.GET_CONTENT_HASHES,
    ]


def test_initial_content() -> None:
    """It is written where the server has nothing, and what it raises is reported."""
    driven = Driven(new_store(), operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.core.start_sync(0.0, ({}, {"v": object()}), compares=True)
    driven.core.receive_operation(
        Operation(asked[0].request_id, OK, {"cursor": "e", "changes": None, "hashes": [0, 0]}), 0
    )
    assert driven.store.get_values() == {}
    assert len(driven.outbox.errors) == 1


def test_changes_that_are_none() -> None:
    """They are refused as a whole."""
    assert checked_changes(value_changes(v=[1, hlc(1)])) == hlc(1)
    nonsenses: list[Any] = [None, [], [[{}], [{}]], [[{}], [[]], 1]]
    for nonsense in nonsenses:
        with pytest.raises(RemoteProtocolError):
            checked_changes(nonsense)


def test_a_large_store_is_prepared_little_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hashes before the server is greeted, and the order of its rows before they are compared."""
    monkeypatch.setattr("mergesync.sync.resuming.HASHED_AT_ONCE", 10)
    monkeypatch.setattr("mergesync.store.ranges._SORTED_AT_ONCE", 10)
    store = new_store()
    store.set_table("t", {f"r{number}": {"c": 1} for number in range(50)})
    driven = Driven(store, operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.core.start_sync(0.0, compares=True)
    turns = 0
    while driven.core.deadline == 0.0:
        assert driven.core.unanswered == 1
        driven.core.wake(0.0)
        turns += 1
    assert ([operation.name for operation in asked], turns) == ([HELLO], 5)
    result = {"cursor": None, "changes": None, "hashes": [1, 1]}
    driven.core.receive_operation(Operation(asked[0].request_id, OK, result), 0.0)
    turns = 0
    while driven.core.deadline == 0.0:
        driven.core.wake(0.0)
        turns += 1
    assert ([operation.name for operation in asked], turns) == ([HELLO, COMPARE], 5)


def test_stopped_in_the_middle_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes on."""
    monkeypatch.setattr("mergesync.sync.resuming.HASHED_AT_ONCE", 1)
    driven = Driven(new_store().set_table("t", {"a": {"c": 1}, "b": {"c": 1}}), operate=(asked := []).append)  # type: ignore[var-annotated]
    driven.core.start_sync(0.0, compares=True)
    driven.core.stop_sync()
    assert driven.core.deadline is None
    driven.core.wake(0.0)
    assert asked == []
