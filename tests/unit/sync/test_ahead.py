"""Clients that hold leaves under stamps too far in the future are given each later change in the same way."""

from __future__ import annotations

import pytest

from mergesync.store.hlc import successor
from mergesync.sync import ahead
from mergesync.sync.ahead import Ahead

from .kit import FUTURE, cell_changes, hlc, value_changes


def test_later_changes_are_given_above_what_is_held() -> None:
    """A change of such a leaf is given to its holder under the next stamp after the one it holds, again and again."""
    held = Ahead()
    first = hlc(0, FUTURE)
    held.note("ahead", value_changes(v=[1, first]))
    second = successor(first, "BBBBB")
    changes = value_changes(v=[2, hlc(1)], w=[3, hlc(1)])
    assert list(held.corrections(changes, "BBBBB")) == [("ahead", value_changes(v=[2, second]))]
    assert second is not None
    third = successor(second, "BBBBB")
    assert list(held.corrections(value_changes(v=[4, hlc(2)]), "BBBBB")) == [("ahead", value_changes(v=[4, third]))]


def test_the_latest_of_a_leaf_counts() -> None:
    """An older stamp noted later changes nothing."""
    held = Ahead()
    held.note("ahead", cell_changes("t", "r", c=[1, hlc(5, FUTURE)]))
    held.note("ahead", cell_changes("t", "r", c=[1, hlc(4, FUTURE)]))
    ((_, body),) = held.corrections(cell_changes("t", "r", c=[2, hlc(1)]), "BBBBB")
    assert body == cell_changes("t", "r", c=[2, successor(hlc(5, FUTURE), "BBBBB")])


def test_others_hear_nothing() -> None:
    """Other leaves, and clients that are gone, are not concerned."""
    held = Ahead()
    held.note("ahead", value_changes(v=[1, hlc(0, FUTURE)]))
    assert list(held.corrections(value_changes(w=[1, hlc(1)]), "BBBBB")) == []
    held.forget("ahead")
    held.forget("never there")
    assert list(held.corrections(value_changes(v=[1, hlc(1)]), "BBBBB")) == []


@pytest.mark.parametrize(("held_hlc", "new_hlc"), [(hlc(1), hlc(2)), ("z" * 16, hlc(2))])
def test_until_the_change_is_newer(held_hlc: str, new_hlc: str) -> None:
    """Once a change beats what the client holds it is taken by itself; a stamp that nothing beats is given up."""
    held = Ahead()
    held.note("ahead", value_changes(v=[1, held_hlc]))
    assert list(held.corrections(value_changes(v=[2, new_hlc]), "BBBBB")) == []
    assert list(held.corrections(value_changes(v=[3, ""]), "BBBBB")) == []


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit all leaves of a client are known, beyond it the oldest is forgotten."""
    monkeypatch.setattr(ahead, "MAX_LEAVES_AHEAD", 2)
    held = Ahead()
    for value_id in "abc":
        held.note("ahead", value_changes(**{value_id: [1, hlc(0, FUTURE)]}))
    changed = value_changes(**{value_id: [2, hlc(1)] for value_id in "abc"})
    ((_, body),) = held.corrections(changed, "BBBBB")
    assert set(body[1][0]) == {"b", "c"}
