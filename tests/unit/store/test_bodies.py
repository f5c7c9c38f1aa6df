"""Bodies of stamps: what is malformed is refused as a whole, at every level."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mergesync.exceptions import ClockDriftError, ContentError
from mergesync.store.bodies import (
    CHANGES,
    CONTENT,
    WIRE,
    check_body,
    check_tables,
    check_values,
    hlc_of,
)
from mergesync.store.hlc import latest_allowed

from .kit import T0, hlc, new_store, refused

LATEST = latest_allowed(T0)


class Text(str):
    __slots__ = ()


class Pairs(dict[str, Any]):
    pass


def of_cell(leaf: Any) -> list[Any]:
    """Changes with one cell."""
    return [[{"t": [{"r": [{"c": leaf}]}]}], [{}], 1]


def of_value(leaf: Any) -> list[Any]:
    """Changes with one value."""
    return [[{}], [{"v": leaf}], 1]


WITHIN: list[Any] = []
WITHIN.append(WITHIN)

NO_LEAVES: list[Any] = [
    1, None, "x", {}, [], [1, "", 0, 0], [1, "bad"], [1, 5], [1, None], [1, True], [1, {}], [1, [0]], [1, "é" * 16],
    [1, hlc(1)[:15]], [1, hlc(1), "0"], [1, hlc(1), math.nan], [1, hlc(1), True], [1, hlc(1), None], [math.nan, hlc(1)],
    [math.inf], [10**400, hlc(1)], [object(), hlc(1)], [b"x"], [{"a": math.nan}, hlc(1)],
    [{1: 2}, hlc(1)], [[2**60], hlc(1)], [WITHIN, hlc(1)], [(1,), hlc(1)],
]  # fmt: skip


@pytest.mark.parametrize("leaf", NO_LEAVES, ids=lambda leaf: repr(leaf)[:20])
def test_leaves_that_are_none(leaf: Any) -> None:
    """A stamp or wire form that cannot be raises ContentError, in a cell, beside usual ones, and in a value."""
    store = new_store().set_cell("t", "r", "c", 1)
    beside = of_cell(leaf)
    beside[0][0]["t"][0]["q"] = [{"c": [1, hlc(1)], "d": ["x", hlc(2)]}]
    for body in (of_cell(leaf), of_value(leaf), beside):
        with refused(store, ContentError):
            store.apply_mergeable_changes(body)


@pytest.mark.parametrize(
    "body",
    [
        None, 1, "xx", [], {}, [[{}]], [[{}], [{}], 2], [[{}], [{}], True], [[{}], [{}], "1"], [[{}], [{}], 1, 1],
        [{}, {}, 1], [[], [{}], 1], [[[]], [{}], 1], [[{}, "bad"], [{}], 1], [[{}], [[]], 1], [[{"t": {}}], [{}], 1],
        [[{"t": [[]]}], [{}], 1], [[{"t": [{"r": {}}]}], [{}], 1], [[{"t": [{"r": [[]]}]}], [{}], 1],
        [[{"t": [{"r": [{}, "bad"]}]}], [{}], 1], [[{1: [{}]}], [{}], 1], [[{"t": [{1: [{}]}]}], [{}], 1],
        [[{"t": [{1: [{"c": ["x", hlc(1)]}]}]}], [{}], 1], [[{"t": [{"r": [{1: ["x", hlc(1)]}]}]}], [{}], 1],
        [[{}], [{1: ["x", hlc(1)]}], 1], [[{"t": [{"r": [{"c": ["x", hlc(1)]}, "bad"]}]}], [{}], 1],
    ],
    ids=lambda body: repr(body)[:40],
)  # fmt: skip
def test_bodies_that_are_none(body: Any) -> None:
    """A malformed container or id at any level raises ContentError."""
    with refused(new_store().set_value("v", 1), ContentError):
        new_store().apply_mergeable_changes(body)
    with pytest.raises(ContentError):
        check_body(body, CHANGES, LATEST)


@pytest.mark.parametrize(
    ("body", "newest"),
    [
        ([[{}], [{}]], ""),
        ([[{}], [{}], 1.0], ""),
        (([{}], ({},), 1), ""),
        ([[{}, hlc(3)], [{}, hlc(2)], 1], hlc(3)),
        ([[{"t": [{}, hlc(3)]}], [{"v": [1, hlc(2), 0.5]}], 1], hlc(3)),
        ([[{"t": [{"r": [{}, hlc(3)]}]}], [{}], 1], hlc(3)),
        ([[{"t": [{"r": [{"c": [1, hlc(4)]}, hlc(3)]}]}], [{}], 1], hlc(4)),
        (of_cell(["x", hlc(1)]), hlc(1)),
        (of_cell([[1], hlc(1)]), hlc(1)),
        (of_cell([1.5, hlc(1)]), hlc(1)),
        (of_cell((None, hlc(1))), hlc(1)),
        (of_cell([Text("x"), hlc(1)]), hlc(1)),
        (of_cell([1]), ""),
        (of_cell([1, ""]), ""),
        (of_cell([1, 0]), ""),
        (of_cell([1, 0.0]), ""),
        (of_cell([1, False]), ""),
        (of_cell([1, []]), ""),
        ([[{"t": [Pairs(r=[{"c": ["x", hlc(1)]}])]}], [{}], 1], hlc(1)),
        ([[{"t": [{"r": [{"__proto__": ["x", hlc(1)]}]}]}], [{"__proto__": [1]}], 1], hlc(1)),
    ],
    ids=lambda body: repr(body)[:40],
)
def test_bodies_that_are_taken(body: Any, newest: str) -> None:
    """A well-formed body passes, and its greatest HLC is told."""
    assert check_body(body, CHANGES, LATEST) == newest
    new_store().apply_mergeable_changes(body)._check()


def test_ids_and_stamps_are_plain() -> None:
    """Bodies are as a JSON parser gives them: ids and HLCs of subclasses of str are refused."""
    for body in (
        of_cell(["x", Text(hlc(1))]),
        [[{"t": [{Text("r"): [{"c": ["x"]}]}]}], [{}], 1],
        [[{"t": [{"r": [{Text("c"): ["x"]}]}]}], [{}], 1],
        [[{Text("t"): [{}]}], [{}], 1],
    ):
        with pytest.raises(ContentError):
            check_body(body, CHANGES, LATEST)


@pytest.mark.parametrize("where", [of_cell, of_value])
def test_stamps_from_the_future(where: Any) -> None:
    """A stamp more than five minutes ahead is refused with its name, one of five minutes is taken."""
    late, too_late = hlc(0, T0 + 300_000), hlc(0, T0 + 300_001)
    store = new_store()
    with refused(store, ClockDriftError, too_late):
        store.apply_mergeable_changes(where(["x", too_late]))
    store.apply_mergeable_changes(where(["x", late]))
    assert check_body(where(["x", late]), CHANGES, LATEST) == late


def test_content_has_hashes_everywhere() -> None:
    """Content to load is of two parts, and every stamp has a hash."""
    content = [[{"t": [{"r": [{"c": ["x", hlc(1), 1]}, "", 2]}, "", 3]}, "", 4], [{"v": [1, hlc(2), 5]}, "", 6]]
    assert check_body(content, CONTENT, LATEST) == hlc(2)
    for broken in (
        [*content, 1],
        [content[0][:2], content[1]],
        [content[0], [{"v": [1, hlc(2)]}, "", 6]],
        [[{"t": [{"r": [{"c": ["x", hlc(1)]}, "", 2]}, "", 3]}, "", 4], content[1]],
        [[{"t": [{"r": [{"c": ["x", hlc(1), 1]}]}, "", 3]}, "", 4], content[1]],
    ):
        with pytest.raises(ContentError):
            check_body(broken, CONTENT, LATEST)


def test_the_wire_is_stricter() -> None:
    """On the wire there are no hashes and no loose forms of the empty HLC."""
    assert check_values([{"v": [1, hlc(1)]}], WIRE) == hlc(1)
    assert check_tables([{"t": [{"r": [{"c": ["x"]}]}]}], WIRE) == ""
    for leaf in ([1, hlc(1), 0], [1, 0], [1, False], [1, []]):
        with pytest.raises(ContentError):
            check_values([{"v": leaf}], WIRE)
        with pytest.raises(ContentError):
            check_tables([{"t": [{"r": [{"c": leaf}]}]}], WIRE)


def test_a_cell_of_depth_10_000() -> None:
    """A raw object of any depth is refused with ContentError; as text it is stamped and does not show."""
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    store = new_store()
    with refused(store, ContentError):
        store.apply_mergeable_changes(of_value([deep, hlc(1)]))
    text = "\ufffd" + "[" * 10_000 + "]" * 10_000
    store.apply_mergeable_changes(of_value([text, hlc(1)]))
    assert store.get_values() == {}
    assert store.get_stamp(None, "", "v") == (text, hlc(1))


def test_parts_of_stamps() -> None:
    """What is missing or loosely empty is the empty HLC."""
    assert [hlc_of([1]), hlc_of([1, 0]), hlc_of([1, hlc(1)])] == ["", "", hlc(1)]
