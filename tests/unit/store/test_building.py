"""What a blank store takes in one go is what it takes leaf by leaf."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync import MergeableStore
from mergesync.store.cells import ENCODED, TOMBSTONE

from .kit import hlc, new_store, state

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
    [[{"empty": [{}], "stamped": [{}, hlc(1)], "t": [{"empty": [{}], "stamped": [{}, hlc(1)]}]}], [{}], 1],
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
