"""What a blank store takes in one go, or as a tree that was made elsewhere, is what it takes leaf by leaf."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync import MergeableStore
from mergesync.exceptions import ClockDriftError, ContentError
from mergesync.store import building
from mergesync.store.building import NOT_YET, Built, TreeBuilder, build_content
from mergesync.store.cells import ENCODED, TOMBSTONE
from mergesync.store.leaves import pack

from .kit import T0, hlc, new_store, refused, state

CELLS = {
    "text": ["dog", hlc(1)],
    "number": [1.5, hlc(2)],
    "whole": [7, hlc(9)],
    "truth": [True, hlc(3)],
    "nothing": [None, hlc(4)],
    "gone": [TOMBSTONE, hlc(5)],
    "object": [f'{ENCODED}{{"a":1}}', hlc(6)],
    "nonsense": [f"{ENCODED}1", hlc(7)],
    "raw": [[1, 2], hlc(8)],
    "surrogate \ud800": ["\ud800", hlc(1)],
    "neutral": ["default"],
}

BODIES = [
    [[{"t": [{"r": [CELLS], "s": [{"text": ["cat", hlc(1)]}, hlc(20)]}, hlc(21)]}, hlc(22)], [CELLS, hlc(23)], 1],
    [[{"t": [{"r": [CELLS]}], "u": [{"r": [{"gone": [TOMBSTONE, hlc(5)]}]}]}], [{}], 1],
    [[{"t": [{"empty": [{}], "stamped": [{}, hlc(1)]}], "empty": [{}], "stamped": [{}, hlc(1)]}], [{}], 1],
    [[{}], [{}, hlc(1)], 1],
    [[{}], [{}], 1],
]


def seen(store: MergeableStore) -> list[Any]:
    """Everything that can be told of a store."""
    cell_ids = {table_id: store.get_table_cell_ids(table_id) for table_id in store.get_table_ids()}
    return [state(store), cell_ids, store.set_value("next", 1).get_mergeable_content()]


def is_named_without_leaves(body: Any) -> bool:
    """Whether it leaves a trace that `_check` does not know."""
    return "empty" in body[0][0]


def heard(store: MergeableStore) -> list[Any]:
    """What listeners are told from now on."""
    told: list[Any] = []
    store.add_tables_listener(lambda store: told.append(store.get_tables()))
    store.add_did_finish_transaction_listener(lambda store: told.append(store.get_transaction_mergeable_changes()))
    return told


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("hashes_were_asked", [False, True])
def test_merged_in_one_go(body: Any, hashes_were_asked: bool) -> None:
    """The same content, hashes, order, clock and events, twice over."""
    at_once, by_leaf = new_store(), new_store()
    told = [heard(store) for store in (at_once, by_leaf)]
    if hashes_were_asked:
        assert at_once.get_mergeable_content_hashes() == by_leaf.get_mergeable_content_hashes()
    for _ in range(2):
        at_once.apply_mergeable_changes(body)
        with by_leaf.transaction():  # in which a tree is not replaced
            by_leaf.apply_mergeable_changes(body)
        assert seen(at_once) == seen(by_leaf)
        if not is_named_without_leaves(body):
            at_once._check()
    assert told[0] == told[1]


@pytest.mark.parametrize("body", BODIES)
def test_loaded_is_what_was_kept(body: Any) -> None:
    """Content with its hashes, however it came about, is the same again."""
    store = new_store().apply_mergeable_changes(body)
    assert state(new_store().set_mergeable_content(store.get_mergeable_content())) == state(store)


def test_taken_back() -> None:
    """A listener that fails brings the blank store back, and it goes on."""
    store = new_store()
    listener_id = store.add_will_finish_transaction_listener(lambda _: 1 / 0)
    before = state(store)
    with pytest.raises(ZeroDivisionError):
        store.apply_mergeable_changes(BODIES[0])
    assert state(store) == before
    store.del_listener(listener_id).apply_mergeable_changes(BODIES[0])
    assert state(store) == state(new_store().apply_mergeable_changes(BODIES[0]))


def test_has_written() -> None:
    """What was taken is told from what was written here, in the same transaction too."""
    store = new_store()
    told: list[bool] = []
    store.add_did_finish_transaction_listener(lambda store: told.append(store.has_written()))
    store.apply_mergeable_changes(BODIES[1])
    store.apply_mergeable_changes(BODIES[0])
    store.set_value("text", "dog")  # as it is
    store.set_value("text", "cat")
    store.set_values_schema(
        {"text": {"type": "string"}, "number": {"type": "number"}, "more": {"type": "string", "default": "x"}}
    )
    store.apply_mergeable_changes([[{}], [{"text": ["cow", hlc(99)]}], 1])
    listener_id = store.add_value_listener("text", lambda store, *_: store.set_value("number", 2), mutator=True)
    store.apply_mergeable_changes([[{}], [{"text": ["pig", hlc(100)]}], 1])
    store.del_listener(listener_id)
    assert told == [False, False, False, True, True, False, True]


def test_a_tree_that_has_but_an_hlc_is_not_blank() -> None:
    """It is not replaced by the next body, which would forget the HLC; found by `test_merge.py`."""
    store = new_store()
    store.apply_mergeable_changes([[{}, "----------------"], [{}], 1])
    store.apply_mergeable_changes([[{"t": [{"r": [{"c": [0, "----------------"]}]}]}], [{}], 1])
    assert store.get_mergeable_content()[0][1] == "----------------"
    store._check()


# --- trees that are made elsewhere


def packed_rows(body: Any) -> Built:
    """The tree of a body, of which the rows come with packed stamps, and the rest is laid over them."""
    builder = TreeBuilder()
    for table_id, table in body[0][0].items():
        for row_id, row in table[0].items():
            stamps = {cell_id: pack(leaf[0], leaf[1] if leaf[1:] else "") for cell_id, leaf in row[0].items()}
            builder.add_row(table_id, row_id, stamps, is_plain=False)
    rest = [
        [{t: [{r: [{}, *row[1:]] for r, row in table[0].items()}, *table[1:]] for t, table in body[0][0].items()},
         *body[0][1:]],
        *body[1:],
    ]  # fmt: skip
    builder.lay(rest)
    return builder.finish()


def laid(body: Any) -> Built:
    """The tree of a body that is laid over nothing."""
    builder = TreeBuilder()
    builder.lay(body)
    return builder.finish()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("make", [packed_rows, laid])
def test_a_tree_of_packed_rows(body: Any, make: Any) -> None:
    """The same content, hashes, order and clock as by merging, and later changes go on from there."""
    adopting, merging = new_store(), new_store().apply_mergeable_changes(body)
    built = make(body)
    assert new_store().apply_mergeable_changes(built.body()).get_mergeable_content() == merging.get_mergeable_content()
    assert adopting.adopt(built)
    assert seen(adopting) == seen(merging)
    if not is_named_without_leaves(body):
        adopting._check()
    for store in (adopting, merging):
        store.apply_mergeable_changes(BODIES[0])
        store.del_table("t")
    assert seen(adopting) == seen(merging)


@pytest.mark.parametrize("body", BODIES)
def test_a_tree_of_content(body: Any) -> None:
    """The same as by loading; hashes that are not right are believed."""
    content = new_store().apply_mergeable_changes(body).get_mergeable_content()
    if content[1][0]:
        content[1][0]["text"][2] = 7
    built = build_content(content)
    assert built.body() == content
    adopting = new_store()
    assert adopting.adopt(built)
    assert seen(adopting) == seen(new_store().set_mergeable_content(content))


def test_many_plain_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several shapes, twice the same row, and HLCs that are checked in portions."""
    monkeypatch.setattr(building, "_STAMPS_AT_A_TIME", 3)
    builder, merged = TreeBuilder(), new_store()
    for number in range(9):
        cells = range(1 + number % 3)
        hlcs = [hlc(10 * number + cell) for cell in cells]
        for row_id in (f"r{number}", "twice"):
            builder.add_row("t", row_id, {str(cell): pack(cell, hlcs[cell]) for cell in cells}, is_plain=True)
            row = {str(cell): [cell, hlcs[cell]] for cell in cells}
            merged.apply_mergeable_changes([[{"t": [{row_id: [row]}]}], [{}], 1])
    adopting = new_store()
    assert adopting.adopt(builder.finish())
    assert adopting.get_table_cell_ids("t") == merged.get_table_cell_ids("t")
    assert adopting.get_tables() == merged.get_tables()
    adopting._check()


def test_stamps_that_come_later() -> None:
    """They are put where there was a place for them; one that never comes is told."""
    builder = TreeBuilder()
    builder.add_row("t", "r", {"a": NOT_YET, "b": pack(1, hlc(1))}, is_plain=False)
    builder.lay([[{"t": [{"r": [{"a": [2, hlc(2)], "c": [3, hlc(3)]}]}]}], [{}], 1])
    store = new_store()
    assert store.adopt(builder.finish())
    assert store.get_row("t", "r") == {"a": 2, "b": 1, "c": 3}
    assert store.get_cell_ids("t", "r") == ["a", "b", "c"]
    builder.add_row("t", "s", {"a": NOT_YET}, is_plain=False)
    with pytest.raises(ContentError, match="incomplete"):
        builder.finish()


def test_trees_that_are_refused() -> None:
    """A bad HLC, a malformed body, and stamps of the future."""
    builder = TreeBuilder()
    builder.add_row("t", "r", {"a": b"1:bad"}, is_plain=True)
    with pytest.raises(ContentError):
        builder.finish()
    with pytest.raises(ContentError):
        TreeBuilder().lay([[{}], [{"v": [1, "bad"]}], 1])
    with pytest.raises(ContentError):
        build_content([[{}, "", 0], [{"v": [1, ""]}, "", 0]])
    body = [[{}], [{"v": [1, hlc(1, time=T0 + 10**9)]}], 1]
    store = new_store()
    with refused(store, ClockDriftError):
        store.adopt(laid(body))


@pytest.mark.parametrize(
    "occupy",
    [
        lambda store: store.set_value("mine", 1),
        lambda store: store.set_values_schema({"open": {"type": "boolean"}}),
        lambda store: store.add_did_finish_transaction_listener(lambda _: None),
        lambda store: store.start_transaction(),
        lambda store: store.apply_mergeable_changes([[{"empty": [{}]}], [{}], 1]),
    ],
)
def test_a_store_that_has_to_merge(occupy: Any) -> None:
    """What is there, or who hears of it, keeps a tree from being taken as it is."""
    store = new_store()
    occupy(store)
    before = state(store)
    assert not store.adopt(laid(BODIES[0]))
    assert state(store) == before
