"""A store as nested mappings."""

from __future__ import annotations

import pytest

from mergesync.exceptions import InvalidIdError
from mergesync.store import MergeableStore

from .kit import Log, new_store, refused


def pets() -> MergeableStore:
    """A store with pets."""
    return new_store().set_tables({"pets": {"fido": {"age": 3}, "felix": {"age": 1}}}).set_value("open", True)


def test_reading() -> None:
    """Views have the mappings' methods."""
    store = pets()
    assert store.tables["pets"]["fido"]["age"] == 3
    assert (list(store.tables), len(store.tables)) == (["pets"], 1)
    assert (list(store.tables["pets"]), len(store.tables["pets"])) == (["fido", "felix"], 2)
    assert dict(store.tables["pets"]["fido"]) == {"age": 3}
    assert len(store.tables["pets"]["fido"]) == 1
    assert (dict(store.values), len(store.values)) == ({"open": True}, 1)
    assert "fido" in store.tables["pets"]
    assert "never" not in store.values


def test_writing() -> None:
    """Assigning replaces, at every level, as one transaction."""
    store = pets()
    log = Log()
    store.add_did_finish_transaction_listener(log)
    store.tables["pets"]["fido"]["age"] = 4
    store.tables["pets"]["rex"] = {"age": 1}
    store.tables["cars"] = {"c": {"doors": 5}}
    store.values["open"] = None
    assert len(log.take()) == 4
    assert store.get_content() == (
        {"pets": {"fido": {"age": 4}, "felix": {"age": 1}, "rex": {"age": 1}}, "cars": {"c": {"doors": 5}}},
        {"open": None},
    )
    store.tables["copy"] = store.tables["pets"]
    assert store.get_table("copy") == store.get_table("pets")
    store.values.update(a=1, b=2)
    assert store.values.pop("a") == 1
    assert store.get_values() == {"open": None, "b": 2}


def test_deleting() -> None:
    """`del` deletes, at every level."""
    store = pets()
    del store.tables["pets"]["fido"]["age"]
    assert store.get_row_ids("pets") == ["felix"]
    del store.tables["pets"]["felix"]
    assert store.get_tables() == {}
    del store.values["open"]
    assert store.get_values() == {}
    store = pets()
    del store.tables["pets"]
    assert store.get_tables() == {}


def test_what_is_not_there() -> None:
    """Getting or deleting what is not there raises KeyError."""
    store = pets()
    tables, table, row, values = store.tables, store.tables["pets"], store.tables["pets"]["fido"], store.values
    for view in (tables, table, row, values):
        with pytest.raises(KeyError):
            view["never"]
        with pytest.raises(KeyError):
            del view["never"]
    store.del_tables()
    with pytest.raises(KeyError):
        table["fido"]
    assert (len(table), list(row)) == (0, [])


def test_ids() -> None:
    """Ids are strings here, too."""
    store = pets()
    with refused(store, InvalidIdError):
        store.values[1] = 2  # type: ignore[index]
    with refused(store, InvalidIdError):
        store.tables["pets"][1] = {"age": 1}  # type: ignore[index]


def test_repr() -> None:
    """A view prints what it shows."""
    store = pets().del_row("pets", "felix")
    assert repr(store.tables) == "TablesView({'pets': {'fido': {'age': 3}}})"
    assert repr(store.tables["pets"]) == "TableView({'fido': {'age': 3}})"
    assert repr(store.tables["pets"]["fido"]) == "RowView({'age': 3})"
    assert repr(store.values) == "ValuesView({'open': True})"
