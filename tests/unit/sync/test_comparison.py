"""Comparing ranges of rows: what neither end may say, and how a client falls back on TinyBase's way."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_COMPARED_RANGES
from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges, row_fingerprint
from mergesync.sync.comparison import Comparing, _text, changes_in, compare, summed_tables
from mergesync.sync.messages import MessageType
from mergesync.sync.operations import COMPARE, ERROR, HELLO, OK, Operation
from mergesync.sync.synchronizer import SyncState
from mergesync.types import MergeableChanges

from .kit import Driven, hlc, new_store


def nothing(*_: Any) -> None:
    """Nobody is told."""


def store_of(count: int, unique_id: str = "s") -> MergeableStore:
    """A store with rows of one table."""
    store = new_store(unique_id)
    with store.transaction():
        for number in range(count):
            store.set_cell("t", f"r{number:03}", "c", number)
    return store


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [None, None],
        [1, None, []],
        [[1], None, []],
        [None, [], []],
        [None, {"v": "x"}, []],
        [None, None, {}],
        [None, None, [["t"]]],
        [None, None, [["t", "", "x"]]],
        [None, None, [[1, "", "x", None]]],
        [None, None, [["t", 1, "x", None]]],
        [None, None, [["t", "b", "x", "a"]]],
        [None, None, [["t", "", "x", None, "y", "z"]]],
        [None, None, [["t", "", 1, None]]],
        [None, None, [["t", "", {"r": 1}, None]]],
        [None, None, [["t", "", "x", "r", 1, None]]],
        [None, None, [["t", "", "x", None]] * (MAX_COMPARED_RANGES + 1)],
    ],
)
def test_what_is_no_comparison(body: Any) -> None:
    """A stranger's request is refused as a whole."""
    store = store_of(3)
    with pytest.raises(RemoteProtocolError):
        compare(store, Ranges(store), body, None)


@pytest.mark.parametrize(
    ("body", "tables"),
    [
        (None, []),
        ([[], {}, 1], []),
        ([[], {}, [["t", "", "x", None]], "changes"], ["t"]),
        ([None, None, [1, [], [1, "", "x", None], ["t", "", {}, None], ["u", "", None, "r", "x", None]]], ["u"]),
    ],
)
def test_where_fingerprints_are_needed(body: Any, tables: list[str]) -> None:
    """Whatever a stranger says."""
    assert summed_tables(body) == tables


GOOD: list[Any] = [[{}], {}, [], None, [], None, None]


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0, {}),
        (0, [{"t": 1}]),
        (1, []),
        (1, {"t": [1]}),
        (2, 1),
        (2, [["t", "", 1, None]]),
        (3, 1),
        (4, 1),
        (4, [1]),
        (6, 1),
    ],
)
def test_what_is_no_answer(at: int, what: Any) -> None:
    """A server's answer is checked before any of it is taken."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing).run()
    next(run)
    with pytest.raises(RemoteProtocolError):
        run.send([*GOOD[:at], what, *GOOD[at + 1 :]])


def test_too_few_elements() -> None:
    """Such as none."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing).run()
    next(run)
    with pytest.raises(RemoteProtocolError):
        run.send([])


def test_changes_that_come_with_a_request() -> None:
    """They are checked before anything is done with them; a request without them is one, too."""
    changes: MergeableChanges = [[{}], [{"v": [1, hlc(1)]}], 1]
    assert changes_in([None, None, []]) is None
    assert changes_in([None, None, [], changes]) == (changes, hlc(1))
    for nonsense in (None, [], [[{}], [{"v": 1}], 1]):
        with pytest.raises(RemoteProtocolError):
            changes_in([None, None, [], nonsense])


def test_equal_stores() -> None:
    """One request."""
    store = store_of(100)
    run = Comparing(store, Ranges(store), nothing).run()
    result = compare(store, Ranges(store), next(run), "place")
    assert result == [[{}], {}, [], [{}], [], store.get_mergeable_content_hashes(), "place"]
    with pytest.raises(StopIteration) as stop:
        run.send(result)
    assert stop.value.value is True


def test_two_that_never_agree() -> None:
    """Hashes that go on to differ though nothing is lacking end it."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing, [1, 1]).run()
    next(run)
    with pytest.raises(StopIteration) as stop:
        run.send([*GOOD[:5], [1, 1], None])
    assert stop.value.value is False


def test_hashes_that_were_not_told() -> None:
    """They are asked for, where nothing else is left to ask or give."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing, [1, 1]).run()
    next(run)
    assert run.send(GOOD) == [None, None, []]


def test_a_server_that_gives_for_ever() -> None:
    """So does one that gives something each time."""
    store = store_of(3)
    merged: list[MergeableChanges] = []
    run = Comparing(store, Ranges(store), lambda changes, _: merged.append(changes)).run()
    next(run)
    with pytest.raises(StopIteration) as stop:
        while True:
            run.send([[{"t": [{"r": [{"c": [1, hlc(1)]}]}]}], *GOOD[1:5], [1, 1], None])
    assert stop.value.value is False
    assert len(merged) == 2


def test_a_server_that_changes_for_ever() -> None:
    """So does one that is another each time, after a few rounds."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing).run()
    next(run)
    rounds = 0
    with pytest.raises(StopIteration) as stop:
        while True:
            rounds += 1
            run.send([*GOOD[:5], [rounds, rounds], None])
    assert (stop.value.value, rounds) == (False, 4)


def test_nothing_is_given_where_nothing_is_newer() -> None:
    """Neither for a row of which the other end has a newer cell, nor for rows that are wanted and not here."""
    store = store_of(3)
    merged: list[MergeableChanges] = []
    comparing = Comparing(store, Ranges(store), lambda changes, _: merged.append(changes))
    run = comparing.run()
    next(run)
    newer = [{"t": [{"r000": [{"c": [1, "z" * 16]}]}]}]
    asked = run.send([newer, {"u": ["r"]}, [["t", "r1", None, None]], None, [], None, None])
    assert (len(merged), len(asked)) == (0, 3)
    comparing.absorb()  # while the other end makes its answer
    assert len(merged) == 1
    assert run.send(GOOD) == [None, None, []]


def test_what_is_later_than_anything_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given with the first request, and so is not looked for, unless it is more than a page; and only once."""
    store = store_of(3)
    other = new_store("other").set_mergeable_content(store.get_mergeable_content())
    latest = other.get_latest_hlc()
    assert len(next(Comparing(store, Ranges(store), nothing, None, latest).run())) == 3
    store.set_cell("t", "r001", "c", "later").set_value("v", "later").del_cell("t", "r002", "c", force_del=True)
    run = Comparing(store, Ranges(store), nothing, None, latest).run()
    asked = next(run)
    changes = changes_in(asked)
    assert changes is not None
    assert changes[0][0][0]["t"][0].keys() == {"r001", "r002"}
    assert changes[0][1][0].keys() == {"v"}
    other.apply_mergeable_changes(changes[0])
    result = compare(other, Ranges(other), asked, None)
    with pytest.raises(StopIteration) as stop:
        run.send(result)
    assert stop.value.value is True
    run = Comparing(store, Ranges(store), nothing, None, latest).run()
    next(run)
    assert len(run.send([*GOOD[:5], [1, 1], None])) == 3  # another round
    monkeypatch.setattr("mergesync.sync.comparison.MAX_PAGE_BYTES", 50)
    assert len(next(Comparing(store, Ranges(store), nothing, None, latest).run())) == 3


def test_a_cell_that_is_newer_here() -> None:
    """Of a row that both have it is given with the next question, where nobody knows what is latest there."""
    store = store_of(3)
    other = new_store("other").set_mergeable_content(store.get_mergeable_content())
    store.set_cell("t", "r001", "c", "newer")
    run = Comparing(store, Ranges(store), nothing).run()
    asked = run.send(compare(other, Ranges(other), next(run), None))
    changes = changes_in(asked)
    assert changes is not None
    assert changes[0][0][0] == {"t": [{"r001": [{"c": list(store.get_stamp("t", "r001", "c") or ())}]}]}
    other.apply_mergeable_changes(changes[0])
    with pytest.raises(StopIteration) as stop:
        run.send(compare(other, Ranges(other), asked, None))
    assert stop.value.value is True


def test_wanted_rows_that_are_not_here() -> None:
    """They are not given."""
    store = store_of(3)
    run = Comparing(store, Ranges(store), nothing).run()
    next(run)
    *asked, changes = run.send([[{}], {"t": ["r000", "other"], "u": ["r"]}, [], None, ["v"], None, None])
    assert asked == [None, None, []]
    assert changes[0][0]["t"][0].keys() == {"r000"}


def test_many_ranges_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingerprints of parts take room in an answer as rows do; those without room are asked for again."""
    monkeypatch.setattr("mergesync.sync.comparison.MAX_PAGE_BYTES", 1)
    store = store_of(500)
    result = compare(store, Ranges(store), [None, None, [["t", "", "x", "r200", "x", None]]], None)
    (stretch,) = result[2]
    assert stretch[0] == "t"
    assert stretch[-3:] == ["r200", None, None]
    assert len(stretch) == 2 + 2 * 49


def test_listed_rows() -> None:
    """Of rows that are listed, those that are the same are passed over, and only those that are otherwise are given."""
    ours, theirs = store_of(3), store_of(3)
    theirs.set_cell("t", "r001", "c", "other")
    ranges = Ranges(theirs).of("t")
    listed = {row_id: _text(row_fingerprint(row_id, ranges.rows[row_id])) for row_id in ranges.ids("", None)}
    result = compare(ours, Ranges(ours), [None, None, [["t", "", listed, None]]], None)
    assert (list(result[0][0]["t"][0]), result[1:3]) == (["r001"], [{}, []])


# --- a client ---------------------------------------------------------------------------------------------


def news(hashes: list[int], changes: Any = None, cursor: str | None = "e.1") -> dict[str, Any]:
    """What a server answers that is greeted, or asked what has changed since."""
    return {"cursor": cursor, "changes": changes, "hashes": hashes}


class Asking(Driven):
    """A client of a server that can compare."""

    def __init__(self, store: MergeableStore) -> None:
        self.asked: list[Operation] = []
        super().__init__(store, operate=self.asked.append)
        self.core.start_sync(0.0, compares=True)
        self.hear_result(news([1, 1]))

    def deadline(self) -> float | None:
        """When it is to be woken."""
        return self.core.deadline

    def is_giving(self) -> bool:
        """Whether it has more to give than fits a message."""
        return self.core.is_giving

    def is_live(self) -> bool:
        """Whether the start is over."""
        return self.core.state is SyncState.LIVE

    def hear_result(self, result: Any, name: str = OK, now: float = 0.0) -> None:
        """The server answers the last request."""
        operation = Operation(self.asked[-1].request_id, name, result)
        assert self.core.has_asked(operation)
        self.core.receive_operation(operation, now)


def test_a_start() -> None:
    """Every change is sent once the server has answered, and the client is up to date when both are equal."""
    driven = Asking(store_of(3))
    assert [operation.name for operation in driven.asked] == [HELLO, COMPARE]
    assert driven.is_live()
    assert driven.is_giving()
    driven.hear_result([*GOOD[:5], driven.store.get_mergeable_content_hashes(), "e.2"])
    assert not driven.is_giving()
    assert driven.outbox.take() == []


def test_a_start_after_which_the_hashes_still_differ() -> None:
    """It is compared once more, then in TinyBase's way."""
    driven = Asking(store_of(3))
    driven.hear_result([*GOOD[:5], [1, 1], None])
    driven.hear_result([*GOOD[:5], [1, 1], None])
    assert driven.deadline() == 0.0
    driven.core.wake(0.1)
    driven.answer([1, 1], now=0.1)
    assert [operation.name for operation in driven.asked] == [HELLO, COMPARE, COMPARE, COMPARE]
    driven.outbox.take()
    driven.hear_result([*GOOD[:5], [1, 1], None], now=0.1)
    assert [kind for _, kind, _ in driven.outbox.take()] == [MessageType.GET_TABLE_DIFF]


def test_what_comes_is_merged_and_initial_content_is_not_needed() -> None:
    """As with TinyBase's way."""
    asked: list[Operation] = []
    driven = Driven(new_store(), operate=asked.append)
    driven.core.start_sync(0.0, ({}, {"initial": 1}), compares=True)
    driven.core.receive_operation(Operation(asked[0].request_id, OK, news([1, 1])), 0.0)
    other = store_of(1, "other")
    result = compare(other, Ranges(other), asked[1].body, None)
    driven.core.receive_operation(Operation(asked[1].request_id, OK, result), 0.0)
    assert driven.store.get_content() == ({"t": {"r000": {"c": 0}}}, {})


@pytest.mark.parametrize(("name", "result"), [(ERROR, ["unknown", ""]), (OK, "nonsense")])
def test_a_server_that_cannot_compare(name: str, result: Any) -> None:
    """It is asked in TinyBase's way, and not again."""
    driven = Asking(store_of(3))
    driven.hear_result(result, name)
    driven.answer([1, 1])
    assert [kind for _, kind, _ in driven.outbox.take()][-1] is MessageType.GET_TABLE_DIFF
    assert len(driven.outbox.errors) == (name == OK)
    driven.hear(MessageType.CONTENT_HASHES, [2, 2])
    assert len(driven.asked) == 2


def test_an_announcement() -> None:
    """A server that announces other hashes is compared with, too; in a transaction its answer waits."""
    driven = Asking(store_of(3))
    driven.hear_result([*GOOD[:5], driven.store.get_mergeable_content_hashes(), None])
    driven.hear(MessageType.CONTENT_HASHES, [2, 2])
    assert len(driven.asked) == 3
    driven.store.start_transaction()
    driven.hear_result([*GOOD[:5], driven.store.get_mergeable_content_hashes(), None], now=1.0)
    assert driven.core.is_pulling
    driven.store.finish_transaction()
    driven.core.wake(1.1)
    assert not driven.core.is_pulling


def test_a_server_that_takes_long() -> None:
    """It has half a minute, as it may have to put a million rows in order."""
    driven = Asking(store_of(3))
    driven.core.wake(29.0)
    assert driven.outbox.errors == []
    driven.core.wake(31.0)
    assert [str(error) for error in driven.outbox.errors] == ["no answer to compare in 30 s"]


def test_stopped_meanwhile() -> None:
    """What comes after that is not merged."""
    driven = Asking(store_of(3))
    last = driven.asked[-1]
    driven.core.stop_sync()
    assert not driven.core.has_asked(Operation(last.request_id, OK, None))
    driven.core.receive_operation(Operation(last.request_id, OK, GOOD), 0.0)
    assert driven.core.state is SyncState.STOPPED


# --- changes that are too large for a message -------------------------------------------------------------


def live(store: MergeableStore) -> Asking:
    """A client that is equal to the server."""
    driven = Asking(store)
    driven.hear_result([*GOOD[:5], store.get_mergeable_content_hashes(), None])
    driven.outbox.take()
    return driven


@pytest.mark.parametrize("cursor", [None, "e.5"])
def test_what_is_too_large_for_a_message_is_given_page_by_page(cursor: str | None) -> None:
    """The client compares again at once, and announces its hashes after that if nobody knows where it is."""
    driven = live(store_of(3))
    driven.outbox.failing = LimitExceededError("too large", limit="socket")
    assert not driven.core.send_changes([[{}], [{}], 1])
    driven.outbox.failing = None
    assert driven.deadline() == 0.0
    driven.core.wake(1.0)
    assert driven.deadline() == 2.0
    driven.answer([5, 5], now=1.0)
    driven.outbox.failing = LimitExceededError("too large", limit="socket")
    assert not driven.core.send_changes([[{}], [{}], 1])  # and more meanwhile
    driven.outbox.failing = None
    driven.core.wake(1.0)
    driven.hear_result([[{}], {}, [["t", "r001", "", "r002"]], None, [], None, None], now=1.0)
    *_, given = driven.asked[-1].body
    assert given[0][0]["t"][0].keys() == {"r001"}
    driven.hear_result([*GOOD[:5], driven.store.get_mergeable_content_hashes(), cursor], now=1.0)
    driven.answer(driven.store.get_mergeable_content_hashes(), now=1.0)
    assert not driven.is_giving()
    announces = [kind for _, kind, _ in driven.outbox.take() if kind is MessageType.CONTENT_HASHES]
    assert len(announces) == (cursor is None)


def test_a_row_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, and the rest is given."""
    driven = live(store_of(3))
    driven.hear(MessageType.CONTENT_HASHES, [2, 2])
    monkeypatch.setattr("mergesync.sync.payloads.MAX_MESSAGE_BYTES", 50)
    driven.hear_result([[{}], {"t": ["r001"]}, [], None, [], None, None])
    assert [str(error) for error in driven.outbox.errors] == ["a row is too large to be sent"]
    assert driven.asked[-1].body == [None, None, []]


def test_the_connection_is_lost_meanwhile() -> None:
    """The next start sees to it."""
    driven = live(store_of(3))
    driven.outbox.failing = LimitExceededError("too large", limit="socket")
    driven.core.send_changes([[{}], [{}], 1])
    driven.outbox.failing = None
    driven.core.wake(1.0)
    driven.core.disconnect()
    assert not driven.is_giving()
    assert driven.core.deadline is None
