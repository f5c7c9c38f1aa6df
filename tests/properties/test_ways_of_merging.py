"""However a body is merged, row by row or leaf by leaf, the store and what its listeners hear are the same.

Whole rows take short cuts: a blank store takes a tree, a new row is taken as it is, stamps that show are replaced by
others without a look at counts and order. Inside a transaction that can be taken back in part, each leaf goes its own
way, so that one is the model of the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mergesync.store import MergeableStore

from .strategies import TOMBSTONE, agreeing_bodies, bodies, cell_schemas, names_empties, paths, tables_schemas
from .support import new_store, store_of

Merge = Callable[[MergeableStore, Any], object]


def in_one_go(store: MergeableStore, body: Any) -> None:
    """As a synchronizer does."""
    store.apply_mergeable_changes(body)


def within(store: MergeableStore, body: Any) -> None:
    """In a transaction with a journal."""
    with store.transaction(), store.transaction():
        store.apply_mergeable_changes(body)


def leaf_by_leaf(store: MergeableStore, body: Any) -> None:
    """Each leaf as a body of its own; then what containers have."""
    with store.transaction(), store.transaction():
        for path, where, leaf_id in paths(body):
            leaf = {leaf_id: where[leaf_id]}
            if len(path) == 1:
                store.apply_mergeable_changes([[{}], [leaf], 1])
            else:
                table_id, row_id, _ = path
                store.apply_mergeable_changes([[{table_id: [{row_id: [leaf]}]}], [{}], 1])
        store.apply_mergeable_changes(body)


def heard(store: MergeableStore) -> list[Any]:
    """What listeners are told from now on, in order."""
    told: list[Any] = []
    store.add_cell_listener(None, None, None, lambda _, *arguments: told.append(arguments[:5]))
    store.add_value_listener(None, lambda _, *arguments: told.append(arguments[:3]))
    store.add_cell_ids_listener(None, None, lambda _, *ids: told.append(ids[:2]))
    store.add_row_ids_listener(None, lambda store, *ids: told.append((ids[0], store.get_row_ids(ids[0]))))
    store.add_table_cell_ids_listener(None, lambda store, *ids: told.append(store.get_table_cell_ids(ids[0])))
    store.add_did_finish_transaction_listener(
        lambda store: told.append([store.get_transaction_mergeable_changes(), store.get_transaction_log()])
    )
    return told


def outcome(store: MergeableStore, merge: Merge, body: Any, listens: bool) -> Any:
    """Everything that can be told of a merge, and that the next one begins with."""
    told = heard(store) if listens else []
    merge(store, copy.deepcopy(body))
    cell_ids = {table_id: store.get_table_cell_ids(table_id) for table_id in store.get_table_ids()}
    after = [store.get_mergeable_content(), store.get_content(), cell_ids]
    row_ids = {table_id: store.get_row_ids(table_id) for table_id in store.get_table_ids()}
    return repr([told, after, row_ids, store.get_mergeable_content_hashes(), store.get_next_hlc()])


DOG, CAT = ["dog", "Nn1JUF-----AAAAA"], ["cat", "Nn1JUF----0AAAAA"]
GONE, NONSENSE = [TOMBSTONE, "Nn1JUF----1AAAAA"], ["\ufffd1", "Nn1JUF----1AAAAA"]


def row(**leaves: Any) -> list[Any]:
    """A body of one row."""
    return [[{"t": [{"r": [leaves]}]}], [{}], 1]


@given(agreeing_bodies(1, 4), st.booleans(), st.booleans())
@example([row(a=DOG, b=DOG, c=DOG), row(c=CAT, b=DOG, a=CAT)], True, True)
@example([row(a=DOG, b=DOG), row(b=GONE, a=CAT), row(b=["b", "Nn1JUF----2AAAAA"], a=GONE)], True, True)
@example([row(a=DOG, b=DOG), row(a=NONSENSE, b=CAT), row(a=["a", "Nn1JUF----2AAAAA"])], True, True)
@example([row(a=DOG), row(b=["b"]), row(a=CAT, b=["b"], c=["c"])], True, True)
def test_whole_rows_are_merged_as_their_leaves_are(given_bodies: list[Any], listens: bool, hashed: bool) -> None:
    """Into a store that is blank or filled, with equal, older and newer stamps, tombstones and nonsense."""
    *earlier, last = given_bodies
    ways: tuple[Merge, ...] = (in_one_go, within) if names_empties(last) else (in_one_go, within, leaf_by_leaf)
    outcomes = set()
    for merge in ways:
        store = store_of(*earlier)
        if hashed:
            store.get_mergeable_content_hashes()
        outcomes.add(outcome(store, merge, last, listens))
        if not any(map(names_empties, given_bodies)):
            store._check()
    assert len(outcomes) == 1


@given(agreeing_bodies(2, 3), tables_schemas(), st.dictionaries(st.sampled_from("abc"), cell_schemas(), max_size=2))
def test_so_they_are_under_a_schema(given_bodies: list[Any], tables_schema: Any, values_schema: Any) -> None:
    """Which refuses, and adds defaults."""
    *earlier, last = given_bodies
    outcomes = set()
    for merge in (in_one_go, within):
        store = store_of(*earlier)
        store.set_schema(tables_schema, values_schema)
        outcomes.add(outcome(store, merge, last, listens=True))
    assert len(outcomes) == 1


@given(agreeing_bodies(1, 3), st.booleans())
def test_a_merge_is_taken_back(given_bodies: list[Any], hashed: bool) -> None:
    """To the very state that was there, order and hashes included."""
    *earlier, last = given_bodies
    store = store_of(*earlier)
    if hashed:
        store.get_mergeable_content_hashes()
    store.add_will_finish_transaction_listener(lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.apply_mergeable_changes(copy.deepcopy(last))
    twin = store_of(*earlier)
    assert repr([store.get_mergeable_content(), store.get_content()]) == repr(
        [twin.get_mergeable_content(), twin.get_content()]
    )


@given(bodies())
def test_the_same_again_is_no_news(body: list[Any]) -> None:
    """A body that was merged touches nothing."""
    assume(not names_empties(body))
    store = store_of(body)
    with store.transaction():
        store.apply_mergeable_changes(copy.deepcopy(body))
        assert not store.has_changed_stamps()
        assert store._transaction.rows == []
    assert new_store().apply_mergeable_changes(body).get_mergeable_content() == store.get_mergeable_content()
