"""What a cell may be, its wire form, and what an application sees of one."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import InvalidCellError, InvalidIdError
from mergesync.store import MergeableStore
from mergesync.store.cells import check_id, decode_cell, encode_cell, same_wire
from mergesync.store.leaves import pack
from mergesync.store.stamps import is_live
from mergesync.types import MISSING

from .kit import TOMBSTONE, refused

HIGH, LOW = chr(0xD83E), chr(0xDD89)
PAIR = HIGH + LOW


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Colour(enum.StrEnum):
    RED = "red"


def nested(depth: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("cell", "wire"),
    [
        (None, None),
        (True, True),
        (1, 1),
        (1.0, 1),
        (-0.0, 0),
        (0.5, 0.5),
        (2**53, 2**53),
        (1e300, 1e300),
        ("", ""),
        ("x\ufffc", "x\ufffc"),
        ("\ufffcx", "\ufffcx"),
        ("\ufffe", "\ufffe"),
        ("\ud800", "\ud800"),
        (HIGH + LOW, "🦉"),
        (LOW + HIGH, LOW + HIGH),
        ({}, "\ufffd{}"),
        ((1, 2.0), "\ufffd[1,2]"),
        ({"b": [None], "1": "é"}, '\ufffd{"1":"é","b":[null]}'),
        ({"a": TOMBSTONE}, '\ufffd{"a":"\ufffc"}'),
        ({"__proto__": 1}, '\ufffd{"__proto__":1}'),
        (Text("dog"), "dog"),
        (Colour.RED, "red"),
        (Whole(3), 3),
        (Real(2.0), 2),
        (Real(0.5), 0.5),
    ],
)
def test_encode(cell: Any, wire: Any) -> None:
    """A cell has one wire form, of a plain type."""
    encoded = encode_cell(cell)
    assert encoded == wire
    assert type(encoded) is type(wire)


NO_CELLS: list[Any] = [
    math.nan, math.inf, -math.inf, 2**53 + 1, -(2**53) - 1, 10**5000, TOMBSTONE, "\ufffd", "\ufffd[1]",
    Text("\ufffd{}"), Whole(2**60), Real("nan"), b"x", {1, 2}, 1j, object(), MISSING, [math.nan], {"a": 2**60}, {1: 2},
    {"a": {None: 1}}, [b"x"], [MISSING], nested(10_000),
]  # fmt: skip


@pytest.mark.parametrize("cell", NO_CELLS, ids=lambda cell: type(cell).__name__)
def test_what_is_no_cell(cell: Any) -> None:
    """What is not JSON, or is reserved by the wire, raises at the call and changes nothing."""
    with pytest.raises(InvalidCellError):
        encode_cell(cell)
    store = MergeableStore().set_cell("t", "r", "c", 1).set_value("v", 1)
    for write in (
        lambda: store.set_cell("t", "r", "c", cell),
        lambda: store.set_row("t", "r", {"a": 2, "c": cell}),
        lambda: store.set_partial_row("t", "r", {"a": 2, "c": cell}),
        lambda: store.add_row("t", {"a": 2, "c": cell}),
        lambda: store.set_table("t", {"q": {"a": 2}, "r": {"c": cell}}),
        lambda: store.set_tables({"t": {"r": {"c": cell}}}),
        lambda: store.set_content(({"t": {"r": {"c": 2}}}, {"v": cell})),
        lambda: store.set_default_content(({"t": {"r": {"d": 2}}}, {"w": cell})),
        lambda: store.set_value("v", cell),
        lambda: store.set_values({"a": 2, "v": cell}),
        lambda: store.set_partial_values({"a": 2, "v": cell}),
    ):
        with refused(store, InvalidCellError):
            write()


def test_a_value_that_contains_itself() -> None:
    """A list that contains itself is no cell."""
    cell: list[Any] = []
    cell.append(cell)
    with pytest.raises(InvalidCellError, match="contains itself"):
        encode_cell(cell)


@pytest.mark.parametrize(
    ("wire", "cell"),
    [
        ("dog", "dog"),
        (None, None),
        (False, False),
        (TOMBSTONE, MISSING),
        ("\ufffcx", "\ufffcx"),
        ("\uffff", "\uffff"),
        ("\ufffd[1.0,2]", [1, 2]),
        ('\ufffd{"a":{}}', {"a": {}}),
        ("\ufffd", MISSING),
        ("\ufffdbroken", MISSING),
        ("\ufffd1", MISSING),
        ('\ufffd"a"', MISSING),
        ("\ufffdnull", MISSING),
        ("\ufffd" + "[" * 10_000 + "]" * 10_000, MISSING),
        ({"a": [1]}, {"a": [1]}),
        ([1], [1]),
    ],
)
def test_decode(wire: Any, cell: Any) -> None:
    """A tombstone and nonsense from a peer are missing; whatever is not missing is live."""
    assert decode_cell(wire) == cell
    assert type(decode_cell(wire)) is type(cell)
    assert is_live(pack(wire, "")) is (cell is not MISSING)


def test_decode_gives_copies() -> None:
    """A raw object from a peer is not handed out itself."""
    wire = {"a": [1]}
    cell = decode_cell(wire)
    assert isinstance(cell, dict)
    cell["a"].append(2)
    assert wire == {"a": [1]}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1, 2.5, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        ("\ufffd[1]", [1], True),
        ({"a": 1}, '\ufffd{"a":1}', True),
        ([1], [1.0], True),
        ([1], [True], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ([1], 1, False),
    ],
)
def test_same_wire(one: Any, other: Any, same: bool) -> None:
    """Two wire forms are the same if an application sees the same; 1 is not True."""
    assert same_wire(one, other) is same
    assert same_wire(other, one) is same


@pytest.mark.parametrize("id_", ["", "__proto__", "constructor", "\ud800", TOMBSTONE, "\ufffd{}", "1", Text("a")])
def test_ids(id_: str) -> None:
    """Any string is an id."""
    assert check_id(id_) == id_
    store = MergeableStore().set_cell(id_, id_, id_, 1).set_value(id_, 2)
    assert store.get_content() == ({id_: {id_: {id_: 1}}}, {id_: 2})
    store._check()


@pytest.mark.parametrize("id_", [None, 1, 1.5, True, b"a", ["a"], {"a": 1}, ("a",), MISSING])
def test_what_is_no_id(id_: Any) -> None:
    """What is not a string raises at the call, unhashable or not, and changes nothing."""
    with pytest.raises(InvalidIdError):
        check_id(id_)
    store = MergeableStore().set_cell("t", "r", "c", 1).set_value("v", 1)
    for write in (
        lambda: store.set_cell(id_, "r", "c", 2),
        lambda: store.set_cell("t", id_, "c", 2),
        lambda: store.set_cell("t", "r", id_, 2),
        lambda: store.set_row(id_, "r", {"c": 2}),
        lambda: store.set_row("t", id_, {"c": 2}),
        lambda: store.set_partial_row(id_, "r", {"c": 2}),
        lambda: store.set_partial_row("t", id_, {"c": 2}),
        lambda: store.add_row(id_, {"c": 2}),
        lambda: store.set_table(id_, {"r": {"c": 2}}),
        lambda: store.set_value(id_, 2),
    ):
        with refused(store, InvalidIdError):
            write()


def test_ids_in_what_is_given() -> None:
    """Ids inside of rows, tables and values are checked before anything is written."""
    store = MergeableStore().set_cell("t", "r", "c", 1).set_value("v", 1)
    for write in (
        lambda: store.set_row("t", "r", {"a": 1, 2: 2}),
        lambda: store.set_partial_row("t", "r", {"a": 1, None: 2}),
        lambda: store.add_row("t", {"a": 1, ("x",): 2}),
        lambda: store.set_table("t", {"r": {"a": 2}, 1: {}}),
        lambda: store.set_tables({"t": {"r": {"a": 2}}, b"u": {}}),
        lambda: store.set_values({"a": 1, 2: 2}),
        lambda: store.set_partial_values({"a": 1, 2: 2}),
    ):
        with refused(store, InvalidIdError):
            write()


def test_two_surrogates_in_an_object() -> None:
    """Two surrogates that make a character are that character in the text of an object, beside lone ones or not."""
    assert encode_cell([HIGH + LOW]) == '\ufffd["🦉"]'
    assert encode_cell([HIGH, HIGH + LOW]) == '\ufffd["\\ud83e","🦉"]'
    assert encode_cell({HIGH + LOW: 1}) == '\ufffd{"🦉":1}'


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set_cell(PAIR, PAIR, PAIR, PAIR).set_value(PAIR, PAIR),
        lambda store: store.set_row(PAIR, PAIR, {PAIR: PAIR}).set_values({PAIR: PAIR}),
        lambda store: store.set_content(({PAIR: {PAIR: {PAIR: PAIR}}}, {PAIR: PAIR})),
    ],
)
def test_two_surrogates_in_ids(write: Callable[[MergeableStore], MergeableStore]) -> None:
    """Two surrogates that make a character are one id with that character, wherever an id is given."""
    store = write(MergeableStore())
    assert store.get_content() == ({"🦉": {"🦉": {"🦉": "🦉"}}}, {"🦉": "🦉"})
    assert json.loads(json.dumps(store.get_mergeable_content())) == store.get_mergeable_content()
    assert store.get_cell(PAIR, PAIR, PAIR) == store.get_value(PAIR) == "🦉"
    assert store.del_cell(PAIR, PAIR, PAIR).del_value(PAIR).get_content() == ({}, {})
    store._check()
