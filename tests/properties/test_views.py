"""The mapping views show what the getters give, and write what the setters write."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .strategies import agreeing_bodies, cells, ids, operations, rows, tables
from .support import apply, new_store, store_of


def assert_views_equal_getters(store: MergeableStore) -> None:
    """Every way of looking at a store shows the same."""
    tables, values = store.get_content()
    assert {t: {r: dict(row) for r, row in table.items()} for t, table in store.tables.items()} == tables
    assert dict(store.values) == values == {v: store.get_value(v) for v in store.get_value_ids()}
    assert list(store.tables) == store.get_table_ids() == list(tables)
    assert len(store.tables) == len(tables)
    assert len(store.values) == len(values)
    assert store.has_tables() == bool(tables)
    assert store.has_values() == bool(values)
    for table_id, table in tables.items():
        view = store.tables[table_id]
        assert list(view) == store.get_row_ids(table_id) == list(table)
        assert len(view) == store.get_row_count(table_id) == len(table)
        assert sorted(store.get_sorted_row_ids(table_id)) == sorted(table)
        assert store.has_table(table_id)
        assert store.get_table(table_id) == table
        assert set(store.get_table_cell_ids(table_id)) == {cell_id for row in table.values() for cell_id in row}
        for row_id, row in table.items():
            assert dict(view[row_id]) == row == store.get_row(table_id, row_id)
            assert list(view[row_id]) == store.get_cell_ids(table_id, row_id)
            assert len(view[row_id]) == len(row)
            assert store.has_row(table_id, row_id)
            for cell_id, cell in row.items():
                assert store.get_cell(table_id, row_id, cell_id) == cell
                assert store.has_cell(table_id, row_id, cell_id)
                assert store.has_table_cell(table_id, cell_id)
    seen: dict[str, Any] = {}
    store.for_each_table(
        lambda t, rows: rows(lambda r, cells: cells(lambda c, cell: seen.update({repr((t, r, c)): cell})))
    )
    assert len(seen) == sum(len(row) for table in tables.values() for row in table.values())


@given(st.lists(operations(), max_size=6), agreeing_bodies(0, 2))
def test_all_ways_of_looking_agree(steps: list[Any], given_bodies: list[Any]) -> None:
    """Views, getters, ids, counts and has-methods agree after any history."""
    store = store_of(*given_bodies)
    for operation in steps:
        apply(store, operation)
    assert_views_equal_getters(store)


@given(tables(), ids(), ids(), ids(), cells(), rows())
def test_writing_through_views(
    table: dict[str, Any], table_id: str, row_id: str, cell_id: str, cell: Any, values: dict[str, Any]
) -> None:
    """Assignment and deletion in views are the setters and deleters."""
    plain, viewed = new_store(), new_store()
    plain.set_table(table_id, table)
    viewed.tables[table_id] = copy.deepcopy(table)
    plain.set_cell(table_id, row_id, cell_id, cell)
    if row_id in viewed.get_table(table_id):
        viewed.tables[table_id][row_id][cell_id] = cell
    elif viewed.has_table(table_id):
        viewed.tables[table_id][row_id] = {cell_id: cell}
    else:
        viewed.tables[table_id] = {row_id: {cell_id: cell}}
    for value_id, value in values.items():
        plain.set_value(value_id, value)
        viewed.values[value_id] = value
    assert viewed.get_mergeable_content() == plain.get_mergeable_content()
    plain.del_row(table_id, row_id)
    del viewed.tables[table_id][row_id]
    for value_id in list(values)[:1]:
        plain.del_value(value_id)
        del viewed.values[value_id]
    assert viewed.get_mergeable_content() == plain.get_mergeable_content()
    assert_views_equal_getters(viewed)


@given(st.lists(operations(), max_size=4), ids(), ids(), ids())
def test_what_is_not_there(steps: list[Any], table_id: str, row_id: str, cell_id: str) -> None:
    """Views raise KeyError exactly where getters say `MISSING` or nothing."""
    store = new_store()
    for operation in steps:
        apply(store, operation)
    if store.get_cell(table_id, row_id, cell_id) is MISSING:
        with pytest.raises(KeyError):
            store.tables[table_id][row_id][cell_id]
        assert not store.has_cell(table_id, row_id, cell_id)
    if store.get_value(cell_id) is MISSING:
        with pytest.raises(KeyError):
            del store.values[cell_id]
        assert cell_id not in store.values


@given(st.lists(operations(), max_size=4))
def test_what_getters_give_is_a_copy(steps: list[Any]) -> None:
    """Changing what a getter gave does not change the store."""
    store = new_store()
    for operation in steps:
        apply(store, operation)
    before = store.get_mergeable_content()
    for given_out in (store.get_content(), store.get_tables(), store.get_values(), store.get_mergeable_content()):
        _ruin(given_out)
    _ruin(store.get_transaction_mergeable_changes())
    assert store.get_mergeable_content() == before


def _ruin(thing: Any) -> None:
    if isinstance(thing, dict | list):
        for child in thing.values() if isinstance(thing, dict) else thing:
            _ruin(child)
        thing.clear()
    elif isinstance(thing, tuple):
        for child in thing:
            _ruin(child)
