"""What is to be saved: leaf by leaf, or everything."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.store.unsaved import Unsaved, difference


def changes(hlc: str = "hlc", **values: Any) -> list[Any]:
    """Changes of values and of a cell that has the same stamps."""
    leaves = {value_id: [value, hlc] for value_id, value in values.items()}
    return [[{"t": [{"r": [dict(leaves)]}]}], [leaves], 1]


def test_added() -> None:
    """Later stamps replace earlier ones."""
    unsaved = Unsaved()
    assert not unsaved
    unsaved.add(changes(a=1, b=1))
    unsaved.add(changes(b=2))
    assert (bool(unsaved), unsaved.changes) == (True, changes(a=1, b=2))


def test_put_back() -> None:
    """What could not be saved is unsaved again, unless there is something newer, or everything is."""
    older, unsaved, whole = Unsaved(), Unsaved(), Unsaved(everything=True)
    older.add(changes(a=1, b=1))
    unsaved.add(changes(b=2))
    unsaved.put_back(older)
    assert unsaved.changes == changes(a=1, b=2)
    whole.put_back(older)
    whole.add(changes(a=1))
    assert (whole.everything, whole.changes) == (True, [[{}], [{}], 1])
    unsaved.put_back(whole)
    assert (unsaved.everything, unsaved.changes) == (True, [[{}], [{}], 1])


def test_discarded() -> None:
    """What others have written since need not be saved; the rest must, and what is older than it changes nothing."""
    unsaved = Unsaved()
    unsaved.add(changes(a=1, b=1))
    unsaved.discard(changes("hlc later", b=9, c=9))
    assert unsaved.changes == changes(a=1)
    unsaved.discard(changes("hlb", a=9))
    unsaved.discard([[{"t": [{"q": [{"a": [1]}]}], "u": [{"r": [{"a": [1]}]}]}], [{}], 1])
    assert unsaved.changes == changes(a=1)


NOTHING = [[{}], [{}], 1]
A_ROW = [[{"t": [{"r": [{}, "x"]}]}], [{}], 1]


@pytest.mark.parametrize(
    ("said", "known", "left"),
    [
        pytest.param(changes(a=1), None, changes(a=1), id="nothing is known"),
        pytest.param(changes(a=1), [{}, {}], changes(a=1), id="what is known are no changes"),
        pytest.param(changes(a=1), NOTHING, changes(a=1), id="none of it is known"),
        pytest.param(changes(a=1), changes(a=1), NOTHING, id="all of it is known"),
        pytest.param(changes(a=1), changes(a=1, b=2), NOTHING, id="and more"),
        pytest.param(changes(a=1, b=1), changes(a=1, b=2), changes(b=1), id="a leaf is another"),
        pytest.param(
            [[{"t": [{"r": [{}, "x"]}]}], [{}], 1], NOTHING, [[{"t": [{"r": [{}, "x"]}]}], [{}], 1], id="a row"
        ),
        pytest.param([[{}, "x"], [{}, "y"], 1], [[{}, "x"], [{}], 1], [[{}], [{}, "y"], 1], id="own stamps"),
    ],
)
def test_difference(said: Any, known: Any, left: Any) -> None:
    """What is known is left out, leaf by leaf."""
    assert difference(said, known) == left
