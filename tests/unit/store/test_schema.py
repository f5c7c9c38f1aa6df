"""Schemas: which are taken, what they let through, and what a cell is when nobody says."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import InvalidIdError, SchemaError
from mergesync.store import MergeableStore
from mergesync.store.schema import CellSchema

from .kit import TOMBSTONE, ThrownError, hlc, new_store, refused, state

EXAMPLES: dict[str, Any] = {"string": "x", "number": 1.5, "boolean": True, "object": {"a": 1}, "array": [1]}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_types(kind: str) -> None:
    """A cell of each type takes its own kind and no other; null only where it is allowed."""
    for nullable in (False, True):
        store = new_store().set_values_schema({"v": {"type": kind, "allowNull": nullable}})
        for other, example in EXAMPLES.items():
            store.del_values().set_value("v", example)
            assert store.get_values() == ({"v": example} if other == kind else {})
        store.del_values().set_value("v", None)
        assert store.get_values() == ({"v": None} if nullable else {})


NO_CELL_SCHEMAS: list[Any] = [
    None, "string", [], {}, {"type": "text"}, {"type": None}, {"type": str}, {"type": "string", "default": 1},
    {"type": "number", "default": True}, {"type": "boolean", "default": 0}, {"type": "number", "default": float("nan")},
    {"type": "string", "default": TOMBSTONE}, {"type": "string", "default": None}, {"type": "object", "default": []},
    {"type": "array", "default": {}}, {"type": "string", "defalut": "x"}, {"type": ["string"]},
    {"type": "string", 1: 2},
]  # fmt: skip


@pytest.mark.parametrize("said", NO_CELL_SCHEMAS, ids=repr)
def test_what_is_no_schema_of_a_cell(said: Any) -> None:
    """A wrong schema of a cell or value raises; the old schemas and the content stay."""
    store = new_store().set_cell("t", "r", "c", 1).set_value("v", 1)
    store.set_schema({"t": {"c": {"type": "number"}}}, {"v": {"type": "number"}})
    with refused(store, SchemaError):
        store.set_tables_schema({"t": {"a": {"type": "string"}, "c": said}})
    with refused(store, SchemaError):
        store.set_values_schema({"a": {"type": "string"}, "v": said})
    with refused(store, SchemaError):
        store.set_schema({"t": {"a": {"type": "string", "default": "x"}}}, {"v": said})


@pytest.mark.parametrize("said", [1, "x", [], [("t", {})], {"t": 1}, {"t": [{}]}])
def test_what_is_no_schema_of_tables(said: Any) -> None:
    """A tables schema is a map of maps."""
    store = new_store().set_cell("t", "r", "c", 1)
    with refused(store, SchemaError):
        store.set_tables_schema(said)


@pytest.mark.parametrize("said", [1, "x", [1], {"v": 1}])
def test_what_is_no_schema_of_values(said: Any) -> None:
    """A values schema is a map."""
    store = new_store().set_value("v", 1)
    with refused(store, SchemaError):
        store.set_values_schema(said)


def test_ids_of_schemas() -> None:
    """The ids in a schema are strings."""
    store = new_store()
    for tables, values in (({1: {}}, None), ({"t": {1: {"type": "string"}}}, None), ({}, {1: {"type": "string"}})):
        with refused(store, InvalidIdError):
            store.set_schema(tables, values)


def test_parse() -> None:
    """A schema of a cell is read with its default in wire form, null allowed by either spelling."""
    parsed = CellSchema.parse({"type": "array", "default": [1.0], "allowNull": True}, "t.c")
    assert (parsed.type, parsed.default, parsed.allow_null) == ("array", '"\ufffd[1]"'.encode(), True)
    assert CellSchema.parse({"type": "string", "default": None, "allow_null": True}, "t.c").default == b"null"


def test_what_is_said_is_copied() -> None:
    """Changing the dicts of a schema afterwards changes nothing."""
    said: dict[str, Any] = {"t": {"c": {"type": "array", "default": [1]}}}
    values: dict[str, Any] = {"v": {"type": "string"}}
    store = new_store().set_schema(said, values)
    said["t"]["c"]["default"].append(2)
    values["v"]["type"] = "number"
    assert store.get_schema_json() == '[{"t":{"c":{"type":"array","default":[1]}}},{"v":{"type":"string"}}]'


def test_what_fits() -> None:
    """Without a schema anything fits; with one, an unknown table or value has nothing, and a deletion always fits."""
    store = new_store()
    assert store.fits_schema("t", "c", "x")
    store.set_tables_schema({"t": {"c": {"type": "number", "default": 7}}})
    assert [store.fits_schema("t", "c", wire) for wire in (1, "x", TOMBSTONE)] == [True, False, True]
    assert not store.fits_schema("t", "d", 1)
    assert not store.fits_schema("u", "c", 1)
    assert store.fits_schema(None, "v", "x")
    store.set_cell("t", "r", "c", "x").set_cell("t", "q", "d", 1).set_cell("u", "r", "c", 1).set_value("v", 1)
    assert store.get_content() == ({"t": {"r": {"c": 7}}}, {"v": 1})


def test_both_schemas_come_and_go() -> None:
    """Each schema can be set, asked for and removed by itself, and both together."""
    store = new_store()
    assert (store.has_schema(), store.get_schema_json()) == (False, "[{},{}]")
    store.set_schema({"t": {"c": {"type": "number"}}})
    assert (store.has_tables_schema(), store.has_values_schema(), store.has_schema()) == (True, False, True)
    store.set_values_schema({"v": {"type": "number"}})
    assert store.get_tables_schema_json() == '{"t":{"c":{"type":"number"}}}'
    assert store.get_values_schema_json() == '{"v":{"type":"number"}}'
    store.del_tables_schema()
    assert (store.has_tables_schema(), store.has_values_schema(), store.has_schema()) == (False, True, True)
    store.set_tables_schema({"t": {}}).del_values_schema()
    assert (store.has_tables_schema(), store.has_values_schema()) == (True, False)
    store.del_schema()
    assert (store.has_schema(), store.get_tables_schema_json(), store.get_values_schema_json()) == (False, "{}", "{}")


def test_a_schema_set_later() -> None:
    """What is there and does not fit becomes its default or is deleted; what fits keeps its stamp."""
    store = new_store().set_row("t", "r", {"fits": 1, "wrong": 2, "unknown": 3}).set_cell("u", "r", "c", 1)
    store.set_values({"fits": 1, "wrong": 2, "unknown": 3})
    fits = store.get_stamp("t", "r", "fits"), store.get_stamp(None, "", "fits")
    rules: dict[str, Any] = {"fits": {"type": "number"}, "wrong": {"type": "string", "default": "x"}}
    rules["new"] = {"type": "boolean", "default": False}
    store.set_schema({"t": rules}, rules)
    assert store.get_content() == (
        {"t": {"r": {"fits": 1, "wrong": "x", "new": False}}},
        {"fits": 1, "wrong": "x", "new": False},
    )
    assert (store.get_stamp("t", "r", "fits"), store.get_stamp(None, "", "fits")) == fits
    assert store.get_stamp("t", "r", "new") == (False, "")
    assert store.get_stamp("u", "r", "c") == (TOMBSTONE, hlc(9, client="7JQY8"))
    store._check()


def test_what_a_peer_sends_against_a_schema() -> None:
    """It is stamped and passed on, and shows as the default or not at all; without the schema it shows."""
    store = new_store().set_schema({"t": {"c": {"type": "number", "default": 7}}}, {"v": {"type": "number"}})
    changes = [[{"t": [{"r": [{"c": ["x", hlc(1)], "d": [1, hlc(1)]}]}]}], [{"v": ["x", hlc(1)]}], 1]
    store.apply_mergeable_changes(changes)
    assert store.get_content() == ({"t": {"r": {"c": 7}}}, {})
    assert store.get_stamp("t", "r", "c") == ("x", hlc(1))
    store._check()
    store.del_schema()
    assert store.get_content() == ({"t": {"r": {"c": "x", "d": 1}}}, {"v": "x"})
    assert store.get_row_count("t") == 1
    store._check()


def test_text_that_does_not_decode_has_no_default() -> None:
    """Nonsense from a peer does not show, schema or not."""
    store = new_store().set_values_schema({"v": {"type": "object", "default": {}}})
    store.apply_mergeable_changes([[{}], [{"v": ["\ufffdbroken", hlc(1)]}], 1])
    assert not store.has_value("v")
    assert not store.fits_schema(None, "v", "\ufffdbroken")
    assert store.fits_schema(None, "v", TOMBSTONE)
    assert store.fits_schema(None, "v", '\ufffd{"a":1}')
    assert not store.fits_schema(None, "v", "\ufffd[]")


def _change_schemas(store: MergeableStore, remove: bool) -> None:
    store.set_tables_schema({"t": {"c": {"type": "string", "default": "y"}}})
    store.set_values_schema({"v": {"type": "boolean"}})
    if remove:
        store.del_schema()
    raise ThrownError


@pytest.mark.parametrize("remove", [False, True])
def test_a_schema_that_is_taken_back(remove: bool) -> None:
    """A schema set or removed in a transaction that fails, or in a part of one, is as it was before."""
    store = new_store().set_row("t", "r", {"c": 1, "d": "x"}).set_value("v", 1)
    store.set_tables_schema({"t": {"c": {"type": "number"}, "d": {"type": "string"}}})
    with store.transaction():
        store.set_value("w", 1)
        before = state(store)
        with pytest.raises(ThrownError), store.transaction():
            _change_schemas(store, remove)
        assert state(store) == before
    store._check()
    before = state(store)
    with pytest.raises(ThrownError), store.transaction():
        _change_schemas(store, remove)
    assert state(store) == before
    store.transaction(lambda: store.del_schema().set_value("v", "x"), lambda _store: True)
    assert state(store) == before
    store._check()


def test_defaults_of_deleted_cells() -> None:
    """A deleted cell goes back to its default; forced, the row goes."""
    store = new_store().set_schema(
        {"t": {"c": {"type": "number", "default": 7}, "d": {"type": "string"}}}, {"v": {"type": "number", "default": 8}}
    )
    store.set_row("t", "r", {"c": 1, "d": "x"}).set_value("v", 1)
    assert store.del_cell("t", "r", "c").get_row("t", "r") == {"c": 7, "d": "x"}
    assert store.del_cell("t", "r", "d").get_row("t", "r") == {"c": 7}
    assert store.del_cell("t", "r", "never").get_row("t", "r") == {"c": 7}
    assert store.del_value("v").get_values() == {"v": 8}
    assert store.set_value("v", 2).del_values().get_values() == {"v": 8}
    assert not store.del_cell("t", "r", "c", True).has_row("t", "r")
    store._check()


def test_a_default_does_not_hide_a_deletion() -> None:
    """Where somebody deleted a cell, a default that is added to the row does not bring it back."""
    store = new_store().set_row("t", "r", {"c": 1, "d": 1}).del_row("t", "r")
    store.set_tables_schema({"t": {"c": {"type": "number", "default": 7}, "d": {"type": "number"}}})
    assert store.set_row("t", "r", {"d": 2}).get_row("t", "r") == {"d": 2}
    stamp = store.get_stamp("t", "r", "c")
    assert stamp is not None
    assert stamp[0] == TOMBSTONE
    store._check()
