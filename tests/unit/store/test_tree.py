"""The stamped tree: lazy hashes equal those computed from all leaves, whatever changed in which order."""

from __future__ import annotations

from typing import Any

from mergesync.store.jsjson import fnv1a
from mergesync.store.leaves import child_hash, leaf_hash, pack
from mergesync.store.stamps import stamp_hash
from mergesync.store.tree import Leaves, Table, Tree

from .kit import hlc, new_store


def leaves_of(**wires: Any) -> Leaves:
    """Leaves, all with the same HLC."""
    leaves = Leaves()
    leaves.stamps = {leaf_id: pack(wire, hlc(1)) for leaf_id, wire in wires.items()}
    return leaves


def share(leaf_id: str, hash_: int) -> int:
    """What a leaf adds to its row."""
    return child_hash(leaf_id, hash_) ^ child_hash(leaf_id, 0)


def test_a_great_many_leaves() -> None:
    """More ids than are kept at hand."""
    leaves = leaves_of(**{f"leaf{number}": number for number in range(9000)})
    expected = 0
    for leaf_id, stamp in leaves.stamps.items():
        expected ^= share(leaf_id, stamp_hash(stamp))
    assert leaves.hash() == expected


def test_empty_leaves() -> None:
    """An empty row has no hash; one with an HLC of its own does, until that is taken back."""
    leaves = Leaves()
    assert leaves.hash() is None
    leaves.set_hlc(hlc(1))
    assert leaves.hash() == fnv1a(hlc(1))
    leaves.set_hlc("")
    assert leaves.hash() is None


def test_soiled_leaves() -> None:
    """After a change the hash is as if computed anew, also for leaves that came or went, or changed twice."""
    leaves = leaves_of(a=1, b=2, gone=3)
    leaves.hash()
    old_a, old_gone = leaves.stamps["a"], leaves.stamps.pop("gone")
    leaves.stamps["a"] = pack(5, hlc(1))
    leaves.stamps["new"] = pack(6, hlc(1))
    leaves.soil({"a": old_a, "gone": old_gone})
    leaves.soil({"a": pack(99, hlc(1)), "new": None, "never": None})
    assert leaves.hash() == leaves_of(a=5, b=2, new=6).hash()
    leaves.soil(dict(leaves.stamps))
    leaves.stamps.clear()
    assert leaves.hash() is None


def test_soil_before_any_hash() -> None:
    """What changes before a hash was asked for needs no memory."""
    leaves = leaves_of(a=1)
    leaves.soil({"a": None})
    assert leaves.hash() == leaves_of(a=1).hash()


def test_hlc_of_leaves_with_a_hash() -> None:
    """A new HLC of a container changes its hash at once."""
    leaves = leaves_of(a=1)
    plain = leaves.hash()
    assert plain is not None
    leaves.set_hlc(hlc(2))
    assert leaves.hash() == plain ^ fnv1a(hlc(2))
    leaves.set_hlc("")
    assert leaves.hash() == plain


def test_believed_leaves() -> None:
    """Wrong hashes from a file are kept; what changes later is XORed onto them with the hash it deserves."""
    leaves = leaves_of(a=1, b=2)
    old = leaves.stamps["a"]
    leaves.believe(
        99, {leaf_id: (stamp, said) for (leaf_id, stamp), said in zip(leaves.stamps.items(), (7, 8), strict=True)}
    )
    assert leaves.has_given_hashes
    assert leaves.hash() == 99
    assert leaves.leaf_hashes() == {"a": 7, "b": 8}
    leaves.stamps["a"] = pack(5, hlc(1))
    leaves.soil({"a": old})
    right = leaf_hash((5, hlc(1)))
    assert leaves.leaf_hashes() == {"a": right, "b": 8}
    assert leaves.hash_leaf("b") == 8
    assert leaves.hash() == 99 ^ share("a", 7) ^ share("a", right)


def test_believed_right_leaves() -> None:
    """Right hashes from a file are as if computed; an empty container with hash 0 has none."""
    leaves = leaves_of(a=1)
    leaves.believe(leaves_of(a=1).hash() or 0, {})
    assert not leaves.has_given_hashes
    assert (leaves.hash(), leaves.leaf_hashes()) == (leaves_of(a=1).hash(), leaves_of(a=1).leaf_hashes())
    empty = Leaves()
    empty.believe(0, {})
    assert empty.hash() is None
    empty.believe(5, {})
    assert empty.hash() == 5


def tree_of(**cells: Any) -> Tree:
    """A tree of table `t` with row `r` of these cells."""
    tree = Tree()
    table = tree.tables.children["t"] = Table()
    table.children["r"] = leaves_of(**cells)
    return tree


def test_an_empty_tree() -> None:
    """A tree without anything hashes to zeroes."""
    assert Tree().content_hashes() == [0, 0]


def test_soiled_tree() -> None:
    """A changed row changes the hashes above it; what has no hash yet adds it, what is gone takes it out."""
    tree = tree_of(a=1)
    tree.content_hashes()
    table = tree.tables.children["t"]
    row = table.children["r"]
    tree.soil_row("t", "r")
    row.soil({"a": row.stamps["a"]})
    row.stamps["a"] = pack(2, hlc(1))
    assert tree.content_hashes() == tree_of(a=2).content_hashes()
    table.children["q"] = Leaves()
    tree.soil_row("t", "q")
    tree.soil_row("t", "q")
    assert tree.content_hashes() == tree_of(a=2).content_hashes()
    table.children["q"].stamps["a"] = pack(1, hlc(1))
    tree.soil_row("t", "q")
    assert tree.content_hashes() != tree_of(a=2).content_hashes()
    tree.soil_row("t", "q")
    del table.children["q"]
    assert tree.content_hashes() == tree_of(a=2).content_hashes()
    tree.soil_table("t")
    del tree.tables.children["t"]
    assert tree.tables.hash() is None


def test_child_hashes() -> None:
    """An empty child has hash 0."""
    tree = tree_of(a=1)
    tree.tables.children["t"].children["e"] = Leaves()
    assert tree.tables.children["t"].child_hashes() == {"r": leaves_of(a=1).hash(), "e": 0}


def test_believed_branch() -> None:
    """A wrong hash of a table is kept, and what changes later is XORed onto it."""
    tree = tree_of(a=1)
    table = tree.tables.children["t"]
    right = table.hash() or 0
    table.believe(99)
    assert table.hash() == 99
    row = table.children["r"]
    tree.soil_row("t", "r")
    row.soil({"a": row.stamps["a"]})
    row.stamps["a"] = pack(2, hlc(1))
    assert table.hash() == 99 ^ right ^ (tree_of(a=2).tables.children["t"].hash() or 0)
    empty = Table()
    empty.believe(0)
    assert empty.hash() is None


def test_traces_of_empty_children() -> None:
    """A child that is named empty leaves a trace, and takes it out the next time, hash known or not."""
    for known in (False, True):
        table = Table()
        table.children["r"] = leaves_of(a=1)
        if known:
            table.hash()
        table.flip_trace("q")
        expected = child_hash("r", leaves_of(a=1).hash() or 0)
        assert table.hash() == expected ^ child_hash("q", 0)
        table.flip_trace("q")
        assert table.hash() == expected


def test_hlc_of_a_branch() -> None:
    """A container's own HLC is part of its hash, until it is taken back."""
    table = Table()
    table.set_hlc(hlc(1))
    assert table.hash() == fnv1a(hlc(1))
    table.set_hlc(hlc(2))
    assert table.hash() == fnv1a(hlc(2))
    table.set_hlc("")
    assert table.hash() is None


def test_rows() -> None:
    """Every row is told with its ids, in order."""
    tree = tree_of(a=1)
    tree.tables.children["u"] = Table()
    tree.tables.children["t"].children["q"] = Leaves()
    assert [(table_id, row_id) for table_id, row_id, _ in tree.rows()] == [("t", "r"), ("t", "q")]


def test_hashes_little_by_little() -> None:
    """What changes meanwhile counts, and what goes; in the end they are those that are computed at once."""
    store = new_store()
    with store.transaction():
        for number in range(10):
            store.set_cell("t", f"r{number}", "c", number).set_cell("u", f"r{number}", "c", number)
    steps = 0
    while not store.hash_some(3):
        store.set_cell("t", f"r{steps}", "c", "other").set_cell("t", f"new{steps}", "c", 1)
        if steps == 1:
            store.del_row("u", "r1").forget_deleted_rows("u")
        steps += 1
    assert steps > 6
    assert store.hash_some(1)
    store._check()


def test_nothing_to_hash() -> None:
    """Not even a row."""
    store = new_store()
    assert store.hash_some(1)
    store.apply_mergeable_changes([[{"t": [{}, hlc(1)]}], [{}], 1])
    assert store.hash_some(1)
    store._check()
