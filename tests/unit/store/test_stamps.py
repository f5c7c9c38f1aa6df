"""The stamped tree: lazy hashes equal those computed from all leaves, whatever changed in which order."""

from __future__ import annotations

import pytest

from mergesync.store.jsjson import child_hash, fnv1a
from mergesync.store.stamps import Leaves, Row, Table, Tree, leaf_hash

from .kit import TOMBSTONE, hlc


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (TOMBSTONE, "null"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("é", '"é"'),
        ("\ud800", '"\\ud800"'),
        ("\ufffd[1]", '"\ufffd[1]"'),
        ({"a": 1}, '{"a":1}'),
    ],
)
def test_leaf_hash(wire: object, text: str) -> None:
    """A leaf hashes as its JSON, a colon and its HLC; a tombstone as null."""
    assert leaf_hash((wire, hlc(1))) == fnv1a(f"{text}:{hlc(1)}")


def leaves_of(**wires: object) -> Leaves:
    """Leaves, all with the same HLC."""
    leaves = Leaves()
    leaves.stamps = {leaf_id: (wire, hlc(1)) for leaf_id, wire in wires.items()}
    return leaves


def share(leaf_id: str, hash_: int) -> int:
    """What a leaf adds to its row."""
    return child_hash(leaf_id, hash_) ^ child_hash(leaf_id, 0)


def test_empty_leaves() -> None:
    """An empty row adds nothing to its table; one with an HLC of its own does."""
    assert Leaves().hash() is None
    leaves = Leaves()
    leaves.hlc = hlc(1)
    assert leaves.hash() == fnv1a(hlc(1))


def test_soiled_leaves() -> None:
    """After a change the hash is as if computed anew, also for leaves that came or went, or changed twice."""
    leaves = leaves_of(a=1, b=2, gone=3)
    leaves.hash()
    assert leaves.known_hash == leaves_of(a=1, b=2, gone=3).hash()
    old_a, old_gone = leaves.stamps["a"], leaves.stamps.pop("gone")
    leaves.stamps["a"] = (5, hlc(1))
    leaves.stamps["new"] = (6, hlc(1))
    leaves.soil({"a": old_a, "gone": old_gone})
    leaves.soil({"a": (99, hlc(1)), "new": None, "never": None})
    assert leaves.known_hash is None
    assert leaves.hash() == leaves_of(a=5, b=2, new=6).hash() == leaves.known_hash


def test_soil_before_any_hash() -> None:
    """What changes before a hash was asked for needs no memory."""
    leaves = leaves_of(a=1)
    leaves.soil({"a": None})
    assert leaves.hash() == leaves_of(a=1).hash()


def test_forget_hash() -> None:
    """A forgotten hash is computed from all stamps."""
    leaves = leaves_of(a=1)
    leaves.hash()
    leaves.stamps["b"] = (2, hlc(1))
    leaves.forget_hash()
    assert leaves.hash() == leaves_of(a=1, b=2).hash()


def test_believed_leaves() -> None:
    """Wrong hashes from a file are kept; what changes later is XORed onto them with the hash it deserves."""
    leaves = leaves_of(a=1, b=2)
    leaves.believe({"a": 7, "b": 8}, 99)
    assert leaves.hash() == 99
    assert leaves.leaf_hashes() == {"a": 7, "b": 8}
    old = leaves.stamps["a"]
    leaves.stamps["a"] = (5, hlc(1))
    leaves.soil({"a": old})
    right = leaf_hash((5, hlc(1)))
    assert leaves.leaf_hashes() == {"a": right, "b": 8}
    assert leaves.hash() == 99 ^ share("a", 7) ^ share("a", right)


def test_believed_right_leaves() -> None:
    """Right hashes from a file are as if computed; an empty container with hash 0 adds nothing."""
    right = leaves_of(a=1)
    leaves = leaves_of(a=1)
    leaves.believe(right.leaf_hashes(), right.hash() or 0)
    assert (leaves.hash(), leaves.hash_leaf("a")) == (right.hash(), right.hash_leaf("a"))
    empty = Leaves()
    empty.believe({}, 0)
    assert empty.hash() is None
    empty.believe({}, 5)
    assert empty.hash() == 5


def tree_of(**cells: object) -> Tree:
    """A tree of table `t` with row `r` of these cells."""
    tree = Tree()
    table = tree.tables.children["t"] = Table()
    table.children["r"] = leaves_of(**cells)
    return tree


def test_an_empty_tree() -> None:
    """A tree without anything hashes to zeroes."""
    assert Tree().content_hashes() == [0, 0]
    assert Tree().tables.known_hash is None


def test_soiled_tree() -> None:
    """A changed row changes the hashes above it; what has no hash yet adds it, what is gone takes it out."""
    tree = tree_of(a=1)
    tree.content_hashes()
    table = tree.tables.children["t"]
    assert table.known_hash == table.hash()
    row = table.children["r"]
    old = row.stamps["a"]
    row.stamps["a"] = (2, hlc(1))
    tree.soil_row("t", "r", {"a": old})
    assert tree.tables.known_hash is None
    assert tree.content_hashes() == tree_of(a=2).content_hashes()
    table.children["q"] = Row()
    tree.soil_row("t", "q", None)
    assert tree.content_hashes() == tree_of(a=2).content_hashes()
    table.children["q"].stamps["a"] = (1, hlc(1))
    tree.soil_row("t", "q", None)
    assert tree.content_hashes() != tree_of(a=2).content_hashes()
    tree.soil_row("t", "q", None)
    del table.children["q"]
    assert tree.content_hashes() == tree_of(a=2).content_hashes()


def test_soiled_child_that_is_gone_or_empty() -> None:
    """A child that was soiled and is gone adds nothing any more."""
    tree = tree_of(a=1)
    tree.content_hashes()
    table = tree.tables.children["t"]
    known = table.children["r"].known_hash
    del table.children["r"]
    table.soil("r", known)
    assert table.hash() == 0


def test_child_hashes() -> None:
    """An empty child has hash 0."""
    tree = tree_of(a=1)
    tree.tables.children["t"].children["e"] = Row()
    assert tree.tables.children["t"].child_hashes() == {"r": leaves_of(a=1).hash(), "e": 0}


def test_believed_branch() -> None:
    """A wrong hash of a table is kept, and what changes later is XORed onto it."""
    tree = tree_of(a=1)
    table = tree.tables.children["t"]
    right = table.hash() or 0
    table.believe(99)
    assert table.hash() == 99
    row = table.children["r"]
    old, known = row.stamps["a"], row.hash()
    row.stamps["a"] = (2, hlc(1))
    tree.soil_row("t", "r", {"a": old})
    assert known is not None
    assert table.hash() == 99 ^ right ^ (tree_of(a=2).tables.children["t"].hash() or 0)
    table.forget_hash()
    assert table.hash() == 99 ^ right ^ (tree_of(a=2).tables.children["t"].hash() or 0)
    empty = Table()
    empty.believe(0)
    assert empty.hash() is None


def test_flip_empty() -> None:
    """A child that is named empty leaves a trace, and takes it out the next time."""
    table = Table()
    table.flip_empty("r")
    assert table.hash() == child_hash("r", 0)
    table.flip_empty("r")
    table.forget_hash()
    assert table.hash() is None


def test_hlc_of_a_branch() -> None:
    """A container's own HLC is part of its hash."""
    table = Table()
    table.hlc = hlc(1)
    assert table.hash() == fnv1a(hlc(1))


def test_rows() -> None:
    """Every row is told with its ids, in order."""
    tree = tree_of(a=1)
    tree.tables.children["u"] = Table()
    tree.tables.children["t"].children["q"] = Row()
    assert [(table_id, row_id) for table_id, row_id, _ in tree.rows()] == [("t", "r"), ("t", "q")]
