"""What is taken back leaves no trace: content, stamps and hashes are exactly what they were."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.exceptions import ClockDriftError, TransactionError
from mergesync.store import MergeableStore

from .strategies import Drawn, agreeing_bodies, bodies, names_empties, operations, tables_schemas, values_schemas
from .support import apply, new_store, store_of


class Thrown(Exception):
    """What the tests throw."""


def state(store: MergeableStore) -> Any:
    """All that a rollback has to bring back."""
    return (
        store.get_mergeable_content(),
        store.get_content(),
        store.get_schema_json(),
        {table_id: store.get_row_count(table_id) for table_id in sorted(store.get_table_ids())},
        {table_id: sorted(store.get_table_cell_ids(table_id)) for table_id in sorted(store.get_table_ids())},
    )


steps: Drawn = st.deferred(
    lambda: (
        st.tuples(st.just("do"), operations())
        | st.tuples(st.just("do"), operations())
        | st.tuples(st.just("merge"), bodies())
        | st.tuples(st.just("hash"))
        | st.tuples(st.just("schema"), tables_schemas(), values_schemas())
        | st.tuples(st.sampled_from(("nested", "caught")), st.lists(steps, max_size=4))
    )
)


def run(store: MergeableStore, step: tuple[Any, ...]) -> None:
    """Run a drawn step; a caught one throws at its end, and is found to have left no trace."""
    match step:
        case ("do", operation):
            apply(store, operation)
        case ("merge", body):
            store.apply_mergeable_changes(body)
        case ("hash",):
            store.get_mergeable_content_hashes()
        case ("schema", tables_schema, values_schema):
            store.set_schema(tables_schema, values_schema)
        case ("nested", inner):
            with store.transaction():
                for each in inner:
                    run(store, each)
        case ("caught", inner):
            before = state(store)
            changes = store.get_transaction_mergeable_changes()
            with pytest.raises(Thrown), store.transaction():
                for each in inner:
                    run(store, each)
                raise Thrown
            assert state(store) == before
            assert store.get_transaction_mergeable_changes() == changes


def started(given_bodies: list[Any], operation: Any) -> MergeableStore:
    """A store with a past."""
    store = store_of(*given_bodies, unique_id="one")
    apply(store, operation)
    return store


@given(agreeing_bodies(0, 2), operations(), st.lists(steps, max_size=4), st.booleans())
def test_an_exception_takes_everything_back(bodies: list[Any], first: Any, steps: list[Any], hashed: bool) -> None:
    """An exception out of a transaction brings the exact old state back."""
    store = started(bodies, first)
    before = state(store) if hashed else None
    with pytest.raises(Thrown), store.transaction():
        for step in steps:
            run(store, step)
        raise Thrown
    assert state(store) == (before or state(started(bodies, first)))
    if not any(map(names_empties, bodies)):
        store._check()


@given(agreeing_bodies(0, 2), operations(), st.lists(steps, max_size=4))
def test_a_rollback_that_was_asked_for(bodies: list[Any], first: Any, steps: list[Any]) -> None:
    """So does `do_rollback`; the did-finish listeners then hear of no changes."""
    store = started(bodies, first)
    before = state(store)
    heard: list[Any] = []
    store.add_did_finish_transaction_listener(
        lambda s: heard.append((s.get_transaction_changes(), s.get_transaction_mergeable_changes()[0][0]))
    )

    def actions() -> None:
        for step in steps:
            run(store, step)

    store.transaction(actions, lambda _store: True)
    assert state(store) == before
    assert heard == [([{}, {}, 1], {})]


@given(agreeing_bodies(0, 2), st.lists(steps, max_size=4))
def test_what_is_not_taken_back_stands(bodies: list[Any], steps: list[Any]) -> None:
    """With exceptions caught inside, the rest of a transaction is as if the caught parts had never been."""
    store = store_of(*bodies)
    sent: list[Any] = []
    store.add_did_finish_transaction_listener(lambda s: sent.append(s.get_transaction_mergeable_changes()))
    before = store.get_mergeable_content()
    with store.transaction():
        for step in steps:
            run(store, step)
        content = store.get_mergeable_content()
    assert store.get_mergeable_content() == content
    if not any(map(names_empties, bodies)) and "merge" not in repr(steps):
        store._check()
        # What was there, and what was sent, is what is there now.
        heard = store_of(before, sent[-1], unique_id="two")
        assert heard.get_mergeable_content() == content


@given(agreeing_bodies(0, 2), operations(), operations(), operations(), st.integers(0, 3))
def test_a_mutating_listener_that_raises(
    bodies: list[Any], first: Any, operation: Any, written: Any, calls: int
) -> None:
    """A listener that may write and raises takes the transaction back, also what it wrote itself."""
    store = started(bodies, first)
    before = state(store)
    count = 0

    def listener(store: MergeableStore) -> None:
        nonlocal count
        count += 1
        apply(store, written)
        if count > calls:
            raise Thrown

    store.add_cell_listener(None, None, None, listener, True)
    store.add_value_listener(None, listener, True)
    try:
        apply(store, operation)
    except Thrown:
        assert state(store) == before
    else:
        assert count <= calls
    assert not store.is_in_transaction()
    if not any(map(names_empties, bodies)):
        store._check()


@given(agreeing_bodies(1, 3), operations(), operations(), st.sampled_from(("mutator", "will", "start", "look", "did")))
def test_a_load_with_listeners_that_raise(given_bodies: list[Any], first: Any, written: Any, when: str) -> None:
    """A load is taken back by the listeners that may write, and stands whatever the others do."""
    content = store_of(*given_bodies, unique_id="two").get_mergeable_content()
    store = new_store("one")
    apply(store, first)
    before = state(store)

    def raises(store: MergeableStore, *_: Any) -> None:
        if when in ("mutator", "will", "start"):
            apply(store, written)
        raise Thrown

    match when:
        case "mutator":
            store.add_tables_listener(raises, True)
            store.add_values_listener(raises, True)
        case "will":
            store.add_will_finish_transaction_listener(raises)
        case "start":
            store.add_start_transaction_listener(raises)
        case "look":
            store.add_tables_listener(raises)
            store.add_values_listener(raises)
        case "did":
            store.add_did_finish_transaction_listener(raises)
    try:
        store.set_mergeable_content(content)
    except (Thrown, ExceptionGroup):
        assert state(store)[0] == (content if when in ("look", "did") else before[0])
        if when not in ("look", "did"):
            assert state(store) == before
    else:
        assert when in ("mutator", "look")
        assert store.get_mergeable_content() == content
    if not any(map(names_empties, given_bodies)):
        store._check()


@given(agreeing_bodies(1, 3), st.lists(operations(), min_size=1, max_size=3), operations())
def test_a_load_with_listeners_that_write(given_bodies: list[Any], steps: list[Any], written: Any) -> None:
    """What mutating listeners write on a load is stamped on top of it, and hashed."""
    content = store_of(*given_bodies, unique_id="two").get_mergeable_content()
    store = new_store("one")
    for operation in steps:
        apply(store, operation)
    store.add_tables_listener(lambda s: apply(s, written), True)
    store.add_values_listener(lambda s: apply(s, written), True)
    store.set_mergeable_content(content)
    if not any(map(names_empties, given_bodies)):
        store._check()
        anew = store_of(store.get_mergeable_content(), unique_id="three")
        assert anew.get_mergeable_content() == store.get_mergeable_content()


@given(bodies(), operations())
def test_no_load_in_a_transaction(body: list[Any], operation: Any) -> None:
    """Content cannot be replaced in the middle of a transaction; the attempt changes nothing."""
    content = store_of(body).get_mergeable_content()
    store = new_store("two")
    with store.transaction():
        apply(store, operation)
        middle = state(store)
        with pytest.raises((TransactionError, ClockDriftError)):
            store.set_mergeable_content(content)
        assert state(store) == middle


@given(operations(), st.sampled_from(("look", "did")))
def test_writes_where_only_looking_is_allowed(operation: Any, when: str) -> None:
    """A write in a listener that may only look raises there, and changes nothing."""
    store = new_store()
    refused: list[bool] = []

    def write(store: MergeableStore, *_: Any) -> None:
        before = state(store)
        with pytest.raises(TransactionError):
            apply(store, operation)
        assert state(store) == before
        refused.append(True)

    if when == "look":
        store.add_value_listener(None, write)
    else:
        store.add_did_finish_transaction_listener(write)
    store.set_value("v", 1)
    assert refused == [True]
    assert store.get_content() == ({}, {"v": 1})
    store._check()
