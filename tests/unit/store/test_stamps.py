"""Stamps: packed into the bytes that are hashed, and unpacked again."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import ContentError
from mergesync.store.jsjson import fnv1a
from mergesync.store.leaves import leaf_hash, pack
from mergesync.store.stamps import (
    cell_of,
    hlc_in,
    is_live,
    newest_hlc,
    says,
    shown_text,
    text_in,
    unpack,
    unpacked,
    wire_in_text,
    wire_text,
)
from mergesync.types import MISSING

from .kit import TOMBSTONE, hlc

WIRES: list[tuple[Any, str]] = [
    (TOMBSTONE, "null"),
    (None, "null"),
    (True, "true"),
    (0, "0"),
    (1.5, "1.5"),
    (1e21, "1e+21"),
    (2**53, "9007199254740992"),
    (":", '":"'),
    ("é", '"é"'),
    ("\ud800", '"\\ud800"'),
    ("\ufffcx", '"\ufffcx"'),
    ("\ufffd[1]", '"\ufffd[1]"'),
    ({"a": 1}, '{"a":1}'),
    ([{":": None}], '[{":":null}]'),
]


@pytest.mark.parametrize(("wire", "text"), WIRES)
@pytest.mark.parametrize("stamp_hlc", ["", hlc(1)])
def test_pack(wire: Any, text: str, stamp_hlc: str) -> None:
    """A stamp gives back what was packed; its hash is that of its JSON, a colon and its HLC, a tombstone as null."""
    stamp = pack(wire, stamp_hlc)
    assert unpack(stamp) == (wire, stamp_hlc)
    assert (text_in(stamp), hlc_in(stamp)) == (wire_text(wire), stamp_hlc)
    assert leaf_hash((wire, stamp_hlc)) == fnv1a(f"{text}:{stamp_hlc}")
    assert unpacked({"c": stamp}) == {"c": [wire, stamp_hlc] if stamp_hlc else [wire]}
    assert unpacked({"c": stamp}, with_hash=True) == {"c": [wire, stamp_hlc, leaf_hash((wire, stamp_hlc))]}


def test_numbers_of_peers() -> None:
    """Numbers are packed as the doubles that they are in JavaScript."""
    assert wire_text(2**53 + 1) == b"9007199254740992"
    assert wire_text(10**21) == b"1e+21"
    assert wire_text(-0.0) == b"0"
    assert wire_in_text(b"1.0") == 1
    assert type(wire_in_text(b"1.0")) is int


@pytest.mark.parametrize(
    ("wire", "cell"),
    [
        (TOMBSTONE, MISSING),
        ("\ufffd", MISSING),
        ("\ufffdnull", MISSING),
        ("\ufffd{", MISSING),
        ("\ufffd[1, 2]", [1, 2]),
        ({"a": [1]}, {"a": [1]}),
        ([1], [1]),
        ("x", "x"),
        ("\uffff", "\uffff"),
        (None, None),
        (False, False),
    ],
)
def test_what_shows(wire: Any, cell: Any) -> None:
    """What an application sees of a stamp; nothing of tombstones and nonsense."""
    stamp = pack(wire, hlc(1))
    assert cell_of(text_in(stamp)) == cell
    assert is_live(stamp) is (cell is not MISSING)
    assert bool(shown_text(stamp)) is (cell is not MISSING)
    assert cell_of(shown_text(stamp)) == cell


def test_nothing_shows_of_no_stamp() -> None:
    """Where there is no stamp, nothing shows."""
    assert shown_text(None) == b""


@pytest.mark.parametrize(
    ("wire", "text", "same"),
    [
        ("a", "a", True),
        ("a", "a:", False),
        ("a:", "a", False),
        (1, 1, True),
        (1, 12, False),
        (12, 1, False),
        (1, True, False),
        (TOMBSTONE, TOMBSTONE, True),
        (None, TOMBSTONE, False),
        ([1], "\ufffd[1]", True),
        ({"a": 1}, '\ufffd{"a":1}', True),
        ([1], "\ufffd[2]", False),
    ],
)
def test_says(wire: Any, text: Any, same: bool) -> None:
    """A stamp says a text if an application would see the same; a raw object says its encoded text."""
    for stamp_hlc in ("", hlc(1)):
        assert says(pack(wire, stamp_hlc), wire_text(text)) is same


@pytest.mark.parametrize(
    ("stamps", "newest"),
    [
        ([], ""),
        ([pack("a", "")], ""),
        ([pack("a", hlc(1)), pack(TOMBSTONE, hlc(3)), pack(2, hlc(2))], hlc(3)),
        ([pack("a", hlc(1)), pack("b", ""), pack(2, hlc(2))], hlc(2)),
    ],
)
def test_the_newest_of_many(stamps: list[bytes], newest: str) -> None:
    """The greatest HLC, whether or not all have one."""
    assert newest_hlc(stamps) == newest


@pytest.mark.parametrize(
    "bad",
    [
        b'"a":short', b'"a"' + hlc(1).encode(), b'"a":"' + hlc(1).encode(), b"1:x" + hlc(1).encode(),
        b"1:" + hlc(1)[:-1].encode() + b"\xff", b"1:::" + hlc(1)[2:].encode(), b"1:" + hlc(1)[:-1].encode() + b" ",
    ],
)  # fmt: skip
@pytest.mark.parametrize("others", [[], [pack("a", hlc(1))], [pack("a", "")]])
def test_no_hlc_in_a_stamp(bad: bytes, others: list[bytes]) -> None:
    """What has the form of no HLC is told, wherever it is."""
    for stamps in ([bad, *others], [*others, bad]):
        with pytest.raises(ContentError):
            newest_hlc(stamps)
