"""Looking at a store: every getter, copies all of them, and nothing for what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import InvalidIdError
from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import new_store, refused


def pets() -> MergeableStore:
    """A store with pets and a few values."""
    store = new_store().set_tables(
        {"pets": {"fido": {"age": 3, "tags": ["a"]}, "felix": {"age": 1}}, "gone": {"r": {"c": 1}}}
    )
    return store.set_values({"open": True, "gone": 1, "none": None}).del_value("gone").del_table("gone")


def test_content() -> None:
    """Content is what shows, in order."""
    store = pets()
    tables = {"pets": {"fido": {"age": 3, "tags": ["a"]}, "felix": {"age": 1}}}
    assert store.get_content() == (tables, {"open": True, "none": None})
    assert store.get_tables() == tables
    assert store.get_table("pets") == tables["pets"]
    assert store.get_row("pets", "fido") == tables["pets"]["fido"]
    assert store.get_values() == {"open": True, "none": None}


def test_ids() -> None:
    """Ids come in the order in which things came to life."""
    store = pets()
    assert store.get_table_ids() == ["pets"]
    assert store.get_row_ids("pets") == ["fido", "felix"]
    assert store.get_row_count("pets") == 2
    assert store.get_table_cell_ids("pets") == ["age", "tags"]
    assert store.get_cell_ids("pets", "fido") == ["age", "tags"]
    assert store.get_value_ids() == ["open", "none"]


def test_what_is_not_there() -> None:
    """Nothing, or the default, for what was deleted or never was."""
    store = pets()
    for table_id in ("gone", "never"):
        assert (store.get_table(table_id), store.get_row_ids(table_id), store.get_row_count(table_id)) == ({}, [], 0)
        assert (store.get_row(table_id, "r"), store.get_cell_ids(table_id, "r")) == ({}, [])
        assert (store.get_table_cell_ids(table_id), store.get_sorted_row_ids(table_id)) == ([], [])
        assert store.get_cell(table_id, "r", "c") is MISSING
        assert store.get_cell(table_id, "r", "c", 5) == 5
    assert store.get_row("pets", "never") == {}
    assert store.get_cell("pets", "fido", "never", "x") == "x"
    assert store.get_value("gone") is MISSING
    assert store.get_value("never", None) is None


def test_has() -> None:
    """None is there like any other cell."""
    store = pets()
    assert (store.has_tables(), store.has_values()) == (True, True)
    assert [store.has_table(table_id) for table_id in ("pets", "gone", "never")] == [True, False, False]
    assert [store.has_table_cell("pets", cell_id) for cell_id in ("tags", "never")] == [True, False]
    assert not store.has_table_cell("never", "c")
    assert [store.has_row("pets", row_id) for row_id in ("fido", "never")] == [True, False]
    assert not store.has_row("gone", "r")
    assert [store.has_cell("pets", "felix", cell_id) for cell_id in ("age", "tags")] == [True, False]
    assert not store.has_cell("never", "r", "c")
    assert [store.has_value(value_id) for value_id in ("none", "gone", "never")] == [True, False, False]
    store.del_tables().del_values()
    assert (store.has_tables(), store.has_values()) == (False, False)
    assert store.is_mergeable()


@pytest.mark.parametrize("id_", [None, 1, ["pets"], b"pets"])
def test_ids_that_are_none(id_: Any) -> None:
    """What is not a string is no id to read or to delete, hashable or not."""
    store = pets()
    acts: list[Callable[[], object]] = [
        lambda: store.get_table(id_),
        lambda: store.get_row_ids(id_),
        lambda: store.get_row_count(id_),
        lambda: store.get_table_cell_ids(id_),
        lambda: store.get_sorted_row_ids(id_),
        lambda: store.get_row(id_, "fido"),
        lambda: store.get_row("pets", id_),
        lambda: store.get_row("never", id_),
        lambda: store.get_cell_ids("pets", id_),
        lambda: store.get_cell("pets", "fido", id_),
        lambda: store.get_cell("pets", id_, "age"),
        lambda: store.get_value(id_),
        lambda: store.has_table(id_),
        lambda: store.has_table_cell("pets", id_),
        lambda: store.has_row("pets", id_),
        lambda: store.has_cell("pets", "fido", id_),
        lambda: store.has_value(id_),
        lambda: store.del_table(id_),
        lambda: store.del_row("pets", id_),
        lambda: store.del_cell("pets", "fido", id_),
        lambda: store.del_value(id_),
    ]
    for act in acts:
        with refused(store, InvalidIdError):
            act()


def test_getters_give_copies() -> None:
    """Changing what a getter gave does not change the store."""
    store = pets()
    store.get_tables()["pets"]["fido"]["age"] = 9
    store.get_row("pets", "fido")["tags"].append("b")  # type: ignore[union-attr]
    store.get_cell("pets", "fido", "tags").append("b")  # type: ignore[union-attr]
    store.get_values()["open"] = 9
    store.get_row_ids("pets").clear()
    store.get_table_cell_ids("pets").clear()
    store.get_mergeable_content()[1][0].clear()
    assert store.get_content() == pets().get_content()
    store._check()


def test_for_each() -> None:
    """Iteration hands out ids, and what goes a level deeper."""
    store = pets()
    found: list[Any] = []
    store.for_each_table(lambda t, rows: rows(lambda r, cells: cells(lambda c, cell: found.append((t, r, c, cell)))))
    assert found == [("pets", "fido", "age", 3), ("pets", "fido", "tags", ["a"]), ("pets", "felix", "age", 1)]
    counts: dict[str, int] = {}
    store.for_each_table_cell("pets", counts.__setitem__)
    store.for_each_table_cell("never", counts.__setitem__)
    assert counts == {"age": 2, "tags": 1}
    values: dict[str, Any] = {}
    store.for_each_value(values.__setitem__)
    assert values == {"open": True, "none": None}


def test_json() -> None:
    """JSON has objects and arrays in wire form, and is taken back by `set_json`."""
    store = pets()
    assert json.loads(store.get_tables_json()) == {
        "pets": {"fido": {"age": 3, "tags": '\ufffd["a"]'}, "felix": {"age": 1}}
    }
    assert store.get_values_json() == '{"open":true,"none":null}'
    assert store.get_json() == f"[{store.get_tables_json()},{store.get_values_json()}]"
    assert new_store().set_json(store.get_json()).get_content() == store.get_content()
