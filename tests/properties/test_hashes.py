"""Hashes kept bit by bit equal hashes computed anew, whenever somebody asks."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mergesync.store import MergeableStore

from .strategies import agreeing_bodies, names_empties, operations
from .support import apply, new_store, store_of


def content_hashes_anew(store: MergeableStore) -> Any:
    """Content as a store has it that merged it at once and never hashed before."""
    return store_of(copy.deepcopy(store.get_mergeable_content()), unique_id="anew").get_mergeable_content()


@given(st.lists(st.tuples(operations(), st.booleans()), max_size=8))
def test_writes_with_hashes_asked_for_in_between(steps: list[tuple[Any, bool]]) -> None:
    """It does not matter between which writes hashes were asked for."""
    store, quiet = new_store(), new_store()
    for operation, ask in steps:
        apply(store, operation)
        apply(quiet, operation)
        if ask:
            store.get_mergeable_content_hashes()
            store._check()
    assert store.get_mergeable_content() == quiet.get_mergeable_content() == content_hashes_anew(store)
    store._check()
    quiet._check()


@given(
    st.lists(operations(), max_size=4),
    st.lists(st.tuples(operations(), st.booleans()), min_size=1, max_size=6),
    st.booleans(),
)
def test_hashes_asked_for_in_the_middle_of_a_transaction(
    first: list[Any], steps: list[tuple[Any, bool]], hashed_before: bool
) -> None:
    """In the middle of a transaction, too, hashes are those of the stamps as they are."""
    store = new_store()
    for operation in first:
        apply(store, operation)
    if hashed_before:
        store.get_mergeable_content_hashes()
    with store.transaction():
        for operation, ask in steps:
            apply(store, operation)
            if ask:
                assert store.get_mergeable_content() == content_hashes_anew(store)
    assert store.get_mergeable_content() == content_hashes_anew(store)
    store._check()


@given(st.lists(operations(), min_size=1, max_size=5), operations(), st.sampled_from(("cell", "will", "did", "start")))
def test_hashes_asked_for_in_listeners(steps: list[Any], written: Any, when: str) -> None:
    """Listeners may ask for hashes, and write after they did."""
    store = new_store()
    seen: list[Any] = []

    def look(store: MergeableStore) -> None:
        seen.append((store.get_mergeable_content(), content_hashes_anew(store)))

    def look_and_write(store: MergeableStore) -> None:
        look(store)
        if len(seen) % 3 == 1:
            apply(store, written)
            look(store)

    match when:
        case "cell":
            store.add_cell_listener(None, None, None, look_and_write, True)
            store.add_value_listener(None, look_and_write, True)
        case "will":
            store.add_will_finish_transaction_listener(look_and_write)
        case "did":
            store.add_did_finish_transaction_listener(look)
        case "start":
            store.add_start_transaction_listener(look_and_write)
    for operation in steps:
        apply(store, operation)
        store._check()
    for kept, anew in seen:
        assert kept == anew


@given(agreeing_bodies(1, 4), st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_merges_with_hashes_asked_for_in_between(bodies: list[Any], ask: list[bool], one_transaction: bool) -> None:
    """Hashes after merges are those of the stamps, in one transaction or in several."""
    store = new_store()
    if one_transaction:
        store.start_transaction()
    for body, asked in zip(bodies, ask, strict=False):
        store.apply_mergeable_changes(body)
        if asked:
            store.get_mergeable_content_hashes()
    if one_transaction:
        store.finish_transaction()
    if not any(map(names_empties, bodies)):
        assert store.get_mergeable_content() == content_hashes_anew(store)
        store._check()
    assert store.get_mergeable_content() == store_of(*bodies).get_mergeable_content()


@given(agreeing_bodies(1, 3), st.lists(operations(), max_size=4), st.booleans())
def test_hashes_loaded_and_then_changed(bodies: list[Any], steps: list[Any], ask: bool) -> None:
    """Right hashes that came with content stay right under writes."""
    source = store_of(*bodies)
    if any(map(names_empties, bodies)):
        return  # TinyBase's traces are in the hashes (surprise 20)
    store = new_store("three").set_mergeable_content(source.get_mergeable_content())
    if ask:
        assert store.get_mergeable_content_hashes() == source.get_mergeable_content_hashes()
    for operation in steps:
        apply(store, operation)
    assert store.get_mergeable_content() == content_hashes_anew(store)
    store._check()
