"""`MergeableStore`: what a transaction says it changed, and what synchronizers ask."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergesync.exceptions import ContentError, InvalidCellError, InvalidIdError
from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import T0, TOMBSTONE, Log, hlc, new_store, refused


def test_content_is_json() -> None:
    """Mergeable content is JSON, and loads into an equal store."""
    store = new_store().set_cell("t", "r", "c", {"a": ["é", None]}).set_value("v", 1.5).del_value("v")
    content = store.get_mergeable_content()
    assert json.loads(json.dumps(content)) == content
    assert new_store("s2").set_mergeable_content(content).get_mergeable_content() == content


def ours(counter: int) -> str:
    """A stamp of s1."""
    return hlc(counter, client="7JQY8")


def test_transaction_mergeable_changes() -> None:
    """The stamps that were replaced, as they are now, with hashes if wanted; nothing outside a transaction."""
    store = new_store().set_row("t", "r", {"a": 1, "b": 1}).set_values({"v": 1, "w": 1})
    plain, hashed = Log(), Log()
    store.add_did_finish_transaction_listener(lambda s: plain(s, s.get_transaction_mergeable_changes()))
    store.add_did_finish_transaction_listener(lambda s: hashed(s, s.get_transaction_mergeable_changes(True)))
    with store.transaction():
        store.set_cell("t", "r", "a", 2).set_cell("t", "q", "a", 3).del_value("v")
        assert store.get_transaction_mergeable_changes()[1] == [{"v": [TOMBSTONE, ours(6)]}]
        assert store.get_transaction_mergeable_changes(True)[1][0]["v"][:2] == [TOMBSTONE, ours(6)]
    [(changes,)] = plain.take()
    assert changes == [
        [{"t": [{"r": [{"a": [2, ours(4)]}], "q": [{"a": [3, ours(5)]}]}]}],
        [{"v": [TOMBSTONE, ours(6)]}],
        1,
    ]
    content = store.get_mergeable_content()
    [(changes,)] = hashed.take()
    assert changes[0][0]["t"][0]["q"] == content[0][0]["t"][0]["q"]
    assert changes[0][0]["t"][0]["r"] == [{"a": content[0][0]["t"][0]["r"][0]["a"]}, *content[0][0]["t"][0]["r"][1:]]
    assert changes[1] == [{"v": content[1][0]["v"]}, *content[1][1:]]
    assert store.get_transaction_mergeable_changes() == [[{}], [{}], 1]


def test_transaction_changes() -> None:
    """Net changes have MISSING for what is gone, at every level, and can be applied to another store."""
    store = (
        new_store().set_tables({"t": {"r": {"a": 1, "b": 1}, "q": {"a": 1}}, "u": {"r": {"a": 1}}}).set_value("v", 1)
    )
    other = new_store("s2").set_content(store.get_content())
    log = Log()
    store.add_did_finish_transaction_listener(lambda s: log(s, s.get_transaction_changes()))
    with store.transaction():
        store.del_table("u").del_row("t", "q").del_cell("t", "r", "b").set_cell("t", "r", "c", [1])
        store.del_value("v").set_value("w", 2)
    [(changes,)] = log.take()
    assert changes == [
        {"t": {"r": {"b": MISSING, "c": [1]}, "q": MISSING}, "u": MISSING},
        {"v": MISSING, "w": 2},
        1,
    ]
    assert other.apply_changes(changes).get_content() == store.get_content()


@pytest.mark.parametrize(
    "changes", [None, 1, [], [{}, {}], {}, [1, {}, 1], [{}, 1, 1], [{"t": 1}, {}, 1], [{"t": {"r": 1}}, {}, 1]]
)
def test_changes_that_are_none(changes: Any) -> None:
    """Malformed net changes raise and change nothing."""
    store = new_store().set_value("v", 1)
    with refused(store, ContentError):
        store.apply_changes(changes)


def test_changes_with_what_is_no_cell() -> None:
    """What is no cell or id in net changes takes the rest back."""
    store = new_store().set_value("v", 1)
    with refused(store, InvalidCellError):
        store.apply_changes([{"t": {"r": {"a": 1, "b": object()}}}, {}, 1])
    with refused(store, InvalidIdError):
        store.apply_changes([{"t": {"r": {"a": 1}}}, {1: 1}, 1])


def test_transaction_log() -> None:
    """The log tells what was touched, changed, refused, and which ids came and went."""
    store = new_store().set_row("t", "r", {"a": 1, "b": 1}).set_value("v", 1)
    store.set_schema({"t": {"a": {"type": "number"}, "b": {"type": "number"}}}, {"v": {"type": "number"}})
    log = Log()
    store.add_did_finish_transaction_listener(lambda s: log(s, s.get_transaction_log()))
    with store.transaction():
        store.set_partial_row("t", "r", {"a": 2, "b": "x"}).set_cell("t", "q", "a", 1).set_value("v", "y")
    [(heard,)] = log.take()
    assert heard == [
        True,
        False,
        {"t": {"r": {"a": [1, 2]}, "q": {"a": [MISSING, 1]}}},
        {"t": {"r": {"b": ["x"]}, "q": {"b": [MISSING]}}},
        {},
        {"v": ["y"]},
        {},
        {"t": {"q": 1}},
        {"t": {"q": {"a": 1}}},
        {},
    ]
    assert store.get_transaction_log() == [False, False, {}, {}, {}, {}, {}, {}, {}, {}]


def test_stamps_after_one() -> None:
    """Cells, values and tombstones; not what has no stamp, whatever its text is."""
    store = new_store().set_cell("t", "r", "c", 1).set_cell("t", "r", "d", 1)
    store.apply_mergeable_changes([[{"t": [{"r": [{"e": ["z" * 40, ""]}]}]}], [{"w": ["z" * 40, ""]}], 1])
    before = store.get_latest_hlc()
    assert list(store.get_stamps_after(before)) == []
    store.del_cell("t", "r", "d", force_del=True).set_value("v", 2)
    assert [(leaf, wire) for leaf, (wire, _) in store.get_stamps_after(before)] == [
        (("t", "r", "d"), TOMBSTONE),
        ((None, "", "v"), 2),
    ]
    assert all(before < stamp <= store.get_latest_hlc() for _, (_, stamp) in store.get_stamps_after(before))
    assert len(list(store.get_stamps_after(""))) == 3


def test_get_stamp() -> None:
    """Stamps are told with tombstones; None where there is none."""
    store = new_store().set_cell("t", "r", "c", 1).del_cell("t", "r", "c").set_value("v", [1])
    assert store.get_stamp("t", "r", "c") == (TOMBSTONE, ours(1))
    assert store.get_stamp(None, "", "v") == ("\ufffd[1]", ours(2))
    for ids in (("t", "r", "d"), ("t", "q", "c"), ("u", "r", "c"), (None, "", "w")):
        assert store.get_stamp(*ids) is None


def test_get_kept() -> None:
    """What stays when a peer's leaf is refused: what is here and fits, else the default, else a tombstone."""
    store = new_store().set_schema(
        {"t": {"c": {"type": "number", "default": 7}, "d": {"type": "number"}}}, {"v": {"type": "number", "default": 8}}
    )
    assert store.get_kept("t", "r", "c") == {"c": TOMBSTONE}
    store.set_row("t", "r", {"c": 1})
    assert store.get_kept("t", "r", "cde") == {"c": 1, "d": TOMBSTONE, "e": TOMBSTONE}
    store.apply_mergeable_changes(
        [[{"t": [{"r": [{"c": ["x", hlc(5)], "d": [1, hlc(5)]}]}]}], [{"v": ["x", hlc(5)]}], 1]
    )
    assert store.get_kept("t", "r", "cde") == {"c": 7, "d": 1, "e": TOMBSTONE}
    assert store.get_kept("t", "new", "c") == {"c": TOMBSTONE}
    assert store.get_kept(None, "", "vw") == {"v": 8, "w": TOMBSTONE}
    assert store.get_hlcs("t", "r", "cde") == {"c": hlc(5), "d": hlc(5), "e": ""}
    assert store.get_hlcs("t", "new", "c") == {"c": ""}
    assert store.get_hlcs(None, "", "vw") == {"v": hlc(5), "w": ""}


def test_a_subclass() -> None:
    """`_check` finds what is wrong."""
    store = new_store().set_cell("t", "r", "c", 1)
    store._check()
    store._tree.tables.children["t"].live += 1
    with pytest.raises(AssertionError):
        store._check()


def test_chaining() -> None:
    """Setters return the very store, of the very class."""

    class Mine(MergeableStore):
        pass

    store = Mine("s1")
    assert store.set_value("v", 1).del_value("v").set_schema({}).del_schema().merge(Mine("s2")) is store


# --- the clock


def test_set_clock() -> None:
    """The clock goes on from where it is set, and stamps follow it."""
    store = new_store().set_clock(T0 + 1000).set_value("v", 1)
    assert store.get_mergeable_content()[1][0]["v"][1] == hlc(0, T0 + 1000, "7JQY8")
    store.set_clock(T0 + 1005, tolerance_milliseconds=5).set_value("v", 2)
    assert store.get_mergeable_content()[1][0]["v"][1] == hlc(1, T0 + 1000, "7JQY8")


def test_a_clock_that_was_ahead() -> None:
    """What it stamped gets new stamps in the same order, deletions and objects included; the rest keeps its own."""
    store = new_store().set_cell("t", "r", "old", 1)
    theirs = [[{"t": [{"r": [{"theirs": [1, hlc(5)]}]}]}], [{}], 1]
    store.apply_mergeable_changes(theirs)
    store.set_clock(T0 + 10**9)
    store.set_cell("t", "r", "a", {"x": 1}).set_value("v", 1).set_cell("t", "r", "b", 2).del_cell("t", "r", "a")
    before, log = store.get_content(), Log()
    store.add_did_finish_transaction_listener(lambda s: log(s, s.get_transaction_mergeable_changes()))
    store.set_clock(T0)
    assert store.get_content() == before
    [(changes,)] = log.take()
    assert changes == [
        [{"t": [{"r": [{"b": [2, ours(7)], "a": [TOMBSTONE, ours(8)]}]}]}],
        [{"v": [1, ours(6)]}],
        1,
    ]
    store._check()


def test_a_clock_that_was_a_little_ahead() -> None:
    """What others take may stay; the next stamps are greater nevertheless."""
    store = new_store().set_clock(T0 + 1000).set_value("v", 1).set_clock(T0).set_value("v", 2)
    assert store.get_mergeable_content()[1][0]["v"][1] == hlc(1, T0 + 1000, "7JQY8")


@pytest.mark.parametrize("rolls_back", [False, True])
def test_a_clock_that_is_set_in_a_transaction(rolls_back: bool) -> None:
    """What is written in it, and what was before, is stamped anew as soon as it is over."""
    store = new_store().set_clock(T0 + 10**9).set_value("before", 1)
    store.transaction(lambda: store.set_value("v", 1).set_clock(T0).set_value("w", 1), lambda _: rolls_back)
    stamps = {value_id: stamp[1] for value_id, stamp in store.get_mergeable_content()[1][0].items()}
    assert stamps == {
        value_id: ours(counter) for counter, value_id in enumerate(["before"] if rolls_back else ["before", "v", "w"])
    }
    store._check()
