"""What an application reads of changes, and what comes of what it leaves of them."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import InvalidCellError, InvalidIdError
from mergesync.rooms.changes import Changes, news_in, refusal, verdict_of
from mergesync.store import MergeableStore
from mergesync.sync.review import Verdict
from mergesync.types import MISSING
from tests.unit.sync.kit import cell_changes, hlc, new_store, value_changes

NOTHING = [[{}], [{}], 1]


def filled() -> MergeableStore:
    """A store with some of everything."""
    store = new_store()
    store.apply_mergeable_changes(cell_changes("t", "r", a=[1, hlc(5)], gone=["\ufffc", hlc(5)]))
    store.apply_mergeable_changes(value_changes(v=["old", hlc(5)], o=['\ufffd{"x":1}', hlc(5)]))
    return store


def decide(changes: Changes) -> Verdict:
    """What comes of changes as they are."""
    return verdict_of(changes, reasons=("because",), corrects=True)


def test_decoded_with_what_is_there() -> None:
    """Cells and values as an application knows them, new and old; what is older than what is there is no news."""
    body = [
        cell_changes("t", "r", a=[2, hlc(6)], b=['\ufffd[1]', hlc(6)], gone=[None, hlc(6)], old=["x", hlc(1)])[0],
        value_changes(v=["\ufffc", hlc(6)], o=["older", hlc(4)])[1],
        1,
    ]  # fmt: skip
    body[0][0]["u"] = [{"s": [{"c": [True, hlc(1)]}]}]
    changes = Changes(filled(), body, pulled=True)
    assert changes
    assert changes.pulled
    assert changes.tables == {"t": {"r": {"a": 2, "b": [1], "gone": None, "old": "x"}}, "u": {"s": {"c": True}}}
    missing = {"b": MISSING, "gone": MISSING, "old": MISSING}
    assert changes.old_tables == {"t": {"r": {"a": 1, **missing}}, "u": {"s": {"c": MISSING}}}
    assert changes.values == {"v": MISSING}
    assert changes.old_values == {"v": "old"}
    assert decide(changes) == Verdict(body)


def test_no_news() -> None:
    """Then there is nothing to decide."""
    assert not Changes(filled(), value_changes(v=["x", hlc(5)]), pulled=False)


def proposed() -> Changes:
    """A row of which an application thinks."""
    body = cell_changes("t", "r", a=[2, hlc(6)], b=[3, hlc(7)], old=["x", hlc(0)])
    body[1] = [{"v": [[1], hlc(6)]}]
    store = filled().apply_mergeable_changes(cell_changes("t", "r", old=["y", hlc(9)]))
    return Changes(store, body, pulled=False)


def test_what_is_taken_away_is_refused() -> None:
    """Cell by cell, or more at once; what is no news stays as it is."""
    changes = proposed()
    del changes.tables["t"]["r"]["a"]
    del changes.values["v"]
    verdict = decide(changes)
    assert verdict.refused == {("t", "r"): {"a": hlc(6)}, (None, ""): {"v": hlc(6)}}
    assert verdict.taken == cell_changes("t", "r", b=[3, hlc(7)], old=["x", hlc(0)])
    assert (verdict.instead, verdict.reasons) == ({}, ("because",))
    changes.tables.clear()
    assert decide(changes).refused == {("t", "r"): {"a": hlc(6), "b": hlc(7)}, (None, ""): {"v": hlc(6)}}


def test_what_is_given_another_value_is_written_instead() -> None:
    """That is no refusal to be reported; the same value is none at all."""
    changes = proposed()
    changes.tables["t"]["r"] |= {"a": {"x": 1}, "b": 3.0}
    changes.values["v"] = MISSING
    verdict = decide(changes)
    assert verdict.refused == {("t", "r"): {"a": hlc(6)}, (None, ""): {"v": hlc(6)}}
    assert verdict.instead == {("t", "r"): {"a": '\ufffd{"x":1}'}, (None, ""): {"v": "\ufffc"}}
    assert verdict.reasons == ()


def test_an_object_that_is_changed_inside() -> None:
    """Is another value."""
    changes = proposed()
    value: Any = changes.values["v"]
    value.append(2)
    assert decide(changes).instead == {(None, ""): {"v": "\ufffd[1,2]"}}


def test_what_is_added() -> None:
    """Is written as well; nothing is refused for that."""
    changes = proposed()
    changes.tables["t"]["r"]["by"] = "ann"
    changes.tables["log"] = {"1": {"what": "t"}}
    changes.values["count"] = 1
    verdict = decide(changes)
    assert verdict.taken is changes._body
    assert verdict.instead == {("t", "r"): {"by": "ann"}, ("log", "1"): {"what": "t"}, (None, ""): {"count": 1}}


@pytest.mark.parametrize(
    ("id_", "cell", "error"),
    [("x", float("nan"), InvalidCellError), (1, 1, InvalidIdError), ("x", {1}, InvalidCellError)],
)
def test_what_is_no_cell(id_: Any, cell: Any, error: type[Exception]) -> None:
    """The hook has failed, then."""
    changes = proposed()
    changes.tables["t"]["r"][id_] = cell
    with pytest.raises(error):
        decide(changes)


def test_news_and_their_refusal() -> None:
    """Only what would replace something is refused."""
    store = filled()
    body = value_changes(v=["x", hlc(6)], o=["older", hlc(4)], n=[1])
    assert news_in(store, body) == {(None, ""): {"v": hlc(6), "n": ""}}
    verdict = refusal(store, body, ("because",), corrects=True)
    assert verdict.refused == {(None, ""): {"v": hlc(6), "n": ""}}
    assert verdict.taken == value_changes(o=["older", hlc(4)])
    assert refusal(store, body, ("because",), corrects=False).taken == NOTHING
    old = value_changes(o=["older", hlc(4)])
    assert refusal(store, old, ("because",), corrects=True) == Verdict(old)
    assert refusal(store, old, ("because",), corrects=False) == Verdict(NOTHING)
