"""What of a body is taken, why the rest is not, and what is answered to it."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.store.cells import TOMBSTONE
from mergesync.store.hlc import successor
from mergesync.sync.admission import (
    Admission,
    Reason,
    body_of,
    changes_beyond,
    correction,
    has_bare_containers,
    has_unstamped,
    is_blank,
    is_empty,
    leaves_of,
    split,
)

from .kit import FUTURE, cell_changes, hlc, new_store, value_changes

EMPTY: list[Any] = [[{}], [{}], 1]
LATEST = hlc(0, 300_000, "zzzzz")


def refuse_all(*_: object) -> Reason:
    """A judge who takes nothing."""
    return Reason.SCHEMA


def test_emptiness() -> None:
    """Changes are empty without leaves, and blank if they say nothing of containers either."""
    assert is_empty(EMPTY)
    assert is_blank(EMPTY)
    for body in ([[{}, hlc(1)], [{}], 1], [[{}], [{}, hlc(1)], 1]):
        assert is_empty(body)
        assert not is_blank(body)
    for body in (value_changes(v=[1]), cell_changes("t", "r", c=[1])):
        assert not is_empty(body)
        assert not is_blank(body)


def test_unstamped() -> None:
    """Leaves without a stamp are found among cells and values, however they are written."""
    for body in (value_changes(v=[1]), value_changes(v=[1, ""]), cell_changes("t", "r", a=[1, hlc(1)], b=[1])):
        assert has_unstamped(body)
    assert not has_unstamped(cell_changes("t", "r", a=[1, hlc(1)]))
    assert not has_unstamped(EMPTY)


@pytest.mark.parametrize(
    "body",
    [
        [[{}, hlc(1)], [{}], 1],
        [[{}], [{}, hlc(1)], 1],
        [[{"t": [{}]}], [{}], 1],
        [[{"t": [{"r": [{}]}]}], [{}], 1],
        [[{"t": [{"r": [{"c": [1]}]}, hlc(1)]}], [{}], 1],
        [[{"t": [{"r": [{"c": [1]}, hlc(1)]}]}], [{}], 1],
    ],
)
def test_bare_containers(body: Any) -> None:
    """What is said of containers beyond their leaves is found."""
    assert has_bare_containers(body)
    assert not has_bare_containers(cell_changes("t", "r", c=[1, hlc(1)]))


def test_leaves() -> None:
    """Changes are a set of leaves, and can be made of one."""
    body = cell_changes("t", "r", c=[1, hlc(1)], d=[2])
    body[1] = [{"v": [3]}]
    leaves = dict(leaves_of(body))
    assert leaves == {("t", "r", "c"): [1, hlc(1)], ("t", "r", "d"): [2], (None, "", "v"): [3]}
    assert body_of(leaves) == body


# --- judging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leaf", "peer", "authority"),
    [
        ([2, hlc(9)], None, None),
        ([2, hlc(1)], None, None),
        ([1, hlc(5)], None, None),
        ([1.0, hlc(5)], None, None),
        ([2, hlc(5)], None, Reason.TAKEN),
        ([2, hlc(0, 300_000)], None, None),
        ([2, hlc(0, 300_001)], Reason.FUTURE, Reason.FUTURE),
        (["text", hlc(9)], None, Reason.SCHEMA),
        (["text", hlc(1)], None, None),
        ([TOMBSTONE, hlc(9)], None, None),
    ],
)
def test_judging(leaf: Any, peer: Reason | None, authority: Reason | None) -> None:
    """A peer refuses the far future only; an authority its schema's misfits and second values of a stamp as well.

    What is older than what is here is not refused by anybody: it is not taken anyway.
    """
    store = new_store()
    store.merge_checked(cell_changes("t", "r", c=[1, hlc(5)]))
    store.set_tables_schema({"t": {"c": {"type": "number"}}})
    assert Admission(store, authority=False).judge("t", "r", "c", leaf) is peer
    assert Admission(store, authority=True).judge("t", "r", "c", leaf) is authority


def test_two_defaults_are_a_tie() -> None:
    """Of two values without a stamp an authority keeps its own; null and a deletion are two."""
    store = new_store().set_default_content(({}, {"v": None}))
    judge = Admission(store, authority=True).judge
    assert judge(None, "", "v", [None]) is None
    assert judge(None, "", "v", [None, ""]) is None
    assert judge(None, "", "v", [TOMBSTONE]) is Reason.TAKEN
    assert judge(None, "", "w", [1]) is None


# --- parting ----------------------------------------------------------------------------------------------


def test_all_may_be_taken() -> None:
    """If nothing is refused the changes are the very same, so that they can be passed on as they came."""
    body = cell_changes("t", "r", c=[1, hlc(1)])
    parts = split(body, lambda *_: None, LATEST)
    assert parts.taken is body
    assert (parts.refused, parts.count, parts.reasons) == (EMPTY, 0, {})


def test_parted_leaf_by_leaf() -> None:
    """Each leaf stands for itself; containers that lose all their leaves are not named, bare ones still are."""
    good, bad = [1, hlc(1)], [1, hlc(0, FUTURE)]
    body = [
        [
            {
                "t": [{"r": [{"a": good, "b": bad}, hlc(2)], "s": [{"c": bad}], "bare": [{}]}],
                "u": [{"r": [{"a": bad}]}],
            },
            hlc(3),
        ],
        [{"v": good, "w": bad}],
        1,
    ]
    parts = split(body, Admission(new_store(), authority=False).judge, LATEST)
    assert parts.taken == [[{"t": [{"r": [{"a": good}, hlc(2)], "bare": [{}]}]}, hlc(3)], [{"v": good}], 1]
    assert parts.refused == [
        [{"t": [{"r": [{"b": bad}], "s": [{"c": bad}]}], "u": [{"r": [{"a": bad}]}]}],
        [{"w": bad}],
        1,
    ]
    assert (parts.count, list(parts.reasons)) == (4, [Reason.FUTURE])


def test_stamps_of_containers() -> None:
    """A container's own stamp too far in the future is left out, and refuses no leaf."""
    body = [[{"t": [{"r": [{"c": [1, hlc(1)]}, "z" * 16]}, hlc(1)]}, "z" * 16], [{}, "z" * 16], 1]
    parts = split(body, lambda *_: None, LATEST)
    assert parts.taken == [[{"t": [{"r": [{"c": [1, hlc(1)]}]}, hlc(1)]}], [{}], 1]
    assert parts.count == 0


def test_nothing_may_be_taken() -> None:
    """All leaves refused leave empty changes."""
    parts = split(value_changes(v=[1, hlc(1)]), refuse_all, LATEST)
    assert parts.taken == EMPTY
    assert parts.refused == value_changes(v=[1, hlc(1)])


# --- answering --------------------------------------------------------------------------------------------


def test_corrections_beat_what_they_correct() -> None:
    """What is here is given under the least stamp above the refused one; what is not, as a deletion."""
    store = new_store().set_cell("t", "r", "c", 1)
    bad = hlc(3, FUTURE)
    refused = cell_changes("t", "r", c=[2, bad], d=[3, bad])
    refused[1] = [{"v": [4, bad]}]
    kept = correction(store, refused, "BBBBB")
    better = successor(bad, "BBBBB")
    assert better is not None
    assert better > bad
    assert kept == {
        ("t", "r", "c"): [1, better],
        ("t", "r", "d"): [TOMBSTONE, better],
        (None, "", "v"): [TOMBSTONE, better],
    }


def test_corrections_that_are_of_no_use() -> None:
    """A value that is here already needs none; a stamp that nothing can beat gets none."""
    store = new_store().set_value("v", 1)
    assert correction(store, value_changes(v=[1, hlc(0, FUTURE)]), "BBBBB") == {}
    assert correction(store, value_changes(v=[2, "z" * 16]), "BBBBB") == {}


def test_corrections_fit_the_schema() -> None:
    """What a schema refused is answered with what is here if that fits, else with the default of a row that shows."""
    store = new_store().set_row("t", "r", {"c": 1, "d": "x"})
    store.set_tables_schema({"t": {"c": {"type": "number"}, "d": {"type": "number", "default": 7}}})
    store.set_values_schema({"v": {"type": "boolean", "default": True}})
    bad = cell_changes("t", "r", c=["a", hlc(9)], d=["b", hlc(9)], e=["c", hlc(9)])
    bad[0][0]["t"][0]["s"] = [{"d": ["d", hlc(9)]}]
    bad[1] = [{"v": ["e", hlc(9)]}]
    kept = correction(store, bad, "BBBBB")
    assert {leaf: wire for leaf, (wire, _) in kept.items()} == {
        ("t", "r", "c"): 1,
        ("t", "r", "d"): 7,
        ("t", "r", "e"): TOMBSTONE,
        ("t", "s", "d"): TOMBSTONE,
        (None, "", "v"): True,
    }


def test_what_listeners_wrote() -> None:
    """Of a transaction that merged a body, what did not come with it was written here."""
    came = cell_changes("t", "r", a=[1, hlc(1)], b=[1, hlc(1)])
    came[1] = [{"v": [1, hlc(1)]}]
    changes = [
        [{"t": [{"r": [{"a": [1, hlc(1)], "b": [2, hlc(2)], "c": [3, hlc(3)]}]}], "u": [{"r": [{"a": [4]}]}]}],
        [{"v": [1, hlc(1)], "w": [5]}],
        1,
    ]
    assert changes_beyond(changes, came) == [
        [{"t": [{"r": [{"b": [2, hlc(2)], "c": [3, hlc(3)]}]}], "u": [{"r": [{"a": [4]}]}]}],
        [{"w": [5]}],
        1,
    ]
    assert changes_beyond(came, came) == EMPTY
    changes[0] = came[0]
    assert changes_beyond(changes, came) == [[{}], [{"w": [5]}], 1]
