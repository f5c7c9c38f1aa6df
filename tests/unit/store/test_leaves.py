"""What is done for every leaf: checked, packed, compared, replaced, hashed."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.limits import MAX_INTEGER
from mergesync.store.cells import ENCODED, TOMBSTONE
from mergesync.store.jsjson import fnv1a
from mergesync.store.leaves import (
    are_plain,
    child_hash,
    hash_change,
    hash_share,
    leaf_hash,
    news_in,
    pack,
    replace_shown,
    take,
)

from .kit import hlc

SURROGATE = "\ud800"


@pytest.mark.parametrize("wire", ["dog", TOMBSTONE, f"{ENCODED}[]", 1, -MAX_INTEGER, 0.5, True, None])
def test_plain_leaves(wire: Any) -> None:
    """Scalars with an HLC, which is not checked, and a hash where there must be one."""
    hlcs = ["before"]
    assert are_plain({"a": [wire, hlc(1)], "b": [wire, "anything"]}, 2, hlcs)
    assert are_plain({"a": [wire, hlc(2), 7]}, 3, hlcs)
    assert hlcs == ["before", hlc(1), "anything", hlc(2)]
    assert are_plain({}, 2, hlcs)


@pytest.mark.parametrize(
    "leaf",
    [
        "dog", ("dog", hlc(1)), [], ["dog"], ["dog", hlc(1), 7], ["dog", 0], [{}, hlc(1)], [[], hlc(1)],
        [MAX_INTEGER + 1, hlc(1)], [float("inf"), hlc(1)], [float("nan"), hlc(1)], [object(), hlc(1)],
    ],
)  # fmt: skip
def test_leaves_that_are_not_plain(leaf: Any) -> None:
    """Whoever asks must look at each by itself."""
    assert not are_plain({"a": ["dog", hlc(1)], "b": leaf}, 2, [])


def test_what_else_is_not_plain() -> None:
    """Ids that are no strings, hashes that are no integers."""
    assert not are_plain({1: ["dog", hlc(1)]}, 2, [])
    assert not are_plain({"a": ["dog", hlc(1), 7.0]}, 3, [])
    assert not are_plain({"a": ["dog", hlc(1)]}, 3, [])


def test_a_new_row_is_taken() -> None:
    """Each leaf is packed; what shows is counted; ids that no row showed are told."""
    stamps: dict[str, bytes] = {}
    counts, begun = {"text": 2, "left": 0}, ["before"]
    said: dict[str, Any] = {
        "text": ["dog", hlc(2)],
        "left": [7, hlc(1)],
        "gone": [TOMBSTONE, hlc(3)],
        "nonsense": [f"{ENCODED}1", hlc(1)],
        "raw": [[1], ""],
        "neutral": [0.5],
        "loose": [SURROGATE, 0],
    }
    assert take(said, stamps, counts, begun, hlc(1)) == (5, hlc(3))
    assert stamps == {leaf_id: pack(leaf[0], (leaf[1] or "") if leaf[1:] else "") for leaf_id, leaf in said.items()}
    assert counts == {"text": 3, "left": 1, "raw": 1, "neutral": 1, "loose": 1}
    assert begun == ["before", "left", "raw", "neutral", "loose"]
    assert take({}, {}, {}, [], hlc(9)) == (0, hlc(9))


@pytest.mark.parametrize(
    ("leaf", "old", "wins"),
    [
        (["new", hlc(2)], None, True),
        (["new", hlc(2)], pack("old", hlc(1)), True),
        (["new", hlc(2)], pack("old", hlc(2)), False),
        (["new", hlc(2)], pack("old", hlc(3)), False),
        (["new", hlc(2)], pack(TOMBSTONE, hlc(1)), True),
        (["new", hlc(2)], pack(TOMBSTONE, hlc(2)), False),
        (["new", hlc(2)], pack("old", ""), True),
        (["new", hlc(2)], pack("Nn1JUF-----AAAAA:Nn1JUF-----AAAAA", ""), True),
        (["new"], None, True),
        (["new"], pack("old", ""), True),
        (["new"], pack("new", ""), False),
        (["new", 0], pack("old", hlc(1)), False),
        ([TOMBSTONE], None, True),
        ([TOMBSTONE], pack("old", ""), True),
        ([TOMBSTONE], pack(TOMBSTONE, ""), False),
    ],
)
def test_news(leaf: Any, old: bytes | None, wins: bool) -> None:
    """The greater HLC wins; without one on either side, who comes last."""
    said = {"a": leaf, "known": ["x", hlc(5)]}
    stamps = {"known": pack("y", hlc(5))} | ({} if old is None else {"a": old})
    before = dict(stamps)
    news, newest = news_in(said, stamps, hlc(1))
    said_hlc = leaf[1] if leaf[1:] and leaf[1] else ""
    assert news == ({"a": pack(leaf[0], said_hlc)} if wins else {})
    assert newest == (max(said_hlc, hlc(1)) if wins else hlc(1))
    assert stamps == before


SHOWN = ["text", 5, None, True, f"{ENCODED}{{}}", [1], SURROGATE]
HIDDEN = [TOMBSTONE, f"{ENCODED}1"]


@pytest.mark.parametrize("old", SHOWN)
@pytest.mark.parametrize("new", SHOWN)
def test_stamps_that_show_are_replaced(old: Any, new: Any) -> None:
    """In their place; the first of those that were there is kept."""
    stamps = {"a": pack(old, hlc(1)), "b": pack("x", hlc(1)), "c": pack(old, hlc(1))}
    before: dict[str, bytes | None] = {"c": None}
    assert replace_shown(stamps, {"c": pack(new, hlc(2)), "a": pack(new, hlc(3))}, before)
    assert [*stamps.items()] == [("a", pack(new, hlc(3))), ("b", pack("x", hlc(1))), ("c", pack(new, hlc(2)))]
    assert before == {"c": None, "a": pack(old, hlc(1))}


@pytest.mark.parametrize(
    ("old", "new"),
    [(None, "x"), *((old, "x") for old in HIDDEN), *(("x", new) for new in HIDDEN), (TOMBSTONE, TOMBSTONE)],
)
def test_other_stamps_are_not(old: Any, new: Any) -> None:
    """Nor is anything else, then."""
    stamps = {"a": pack("x", hlc(1))} | ({} if old is None else {"b": pack(old, hlc(1))})
    before: dict[str, bytes | None] = {}
    as_it_was = dict(stamps)
    assert not replace_shown(stamps, {"a": pack("y", hlc(2)), "b": pack(new, hlc(2))}, before)
    assert (stamps, before) == (as_it_was, {})


def test_hash_share() -> None:
    """Of each leaf its hash under its id, without what a hash of 0 would add."""
    stamps = {"a": pack("dog", hlc(1)), "b": pack(TOMBSTONE, hlc(2)), SURROGATE: pack(1, "")}
    expected = 0
    for leaf_id, stamp in stamps.items():
        hash_ = fnv1a((b"null" if stamp[:1] == b":" else b"").decode() + stamp.decode())
        expected ^= child_hash(leaf_id, hash_) ^ child_hash(leaf_id, 0)
    assert hash_share(stamps) == expected
    assert hash_share({}) == 0
    assert leaf_hash((TOMBSTONE, hlc(2))) == fnv1a(f"null:{hlc(2)}")


def test_hash_change() -> None:
    """Old and new stamps, where there are any."""
    before: dict[str, bytes | None] = {"a": pack(1, hlc(1)), "new": None, "gone": pack(TOMBSTONE, hlc(1)), "not": None}
    stamps = {"a": pack(TOMBSTONE, hlc(2)), "new": pack("x", hlc(2)), "other": pack(2, "")}
    expected = hash_share({"a": pack(1, hlc(1)), "gone": pack(TOMBSTONE, hlc(1))})
    expected ^= hash_share({"a": stamps["a"], "new": stamps["new"]})
    assert hash_change(before, stamps) == expected
    assert hash_change({}, stamps) == 0


def test_what_is_kept_of_ids_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And hashes are right beyond it."""
    stamp = pack(1, "")
    wanted = [hash_share({f"id{number}": stamp}) for number in range(10)]
    monkeypatch.setattr("mergesync.store.leaves._MOST_AT_HAND", 3)
    assert [hash_share({f"id{number}": stamp}) for number in range(10)] == wanted
    assert [hash_share({f"new{number}": stamp}) for number in range(10)]


def test_child_hash() -> None:
    """A child adds the hash of its id, a colon and its hash in decimal digits."""
    assert child_hash("a", 0) == fnv1a("a:0") == child_hash("a", 0)
    assert child_hash("é", 2**32 - 1) == fnv1a("é:4294967295")
    assert child_hash(SURROGATE, 1) == fnv1a("\ufffd:1")
