"""Adding, calling and removing listeners of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import Log, new_store

Add = Callable[[MergeableStore, Any, bool], str]

# By kind: how to add it with wildcards, and what it hears when t/r/c and v come to be.
KINDS: dict[str, tuple[Add, list[tuple[Any, ...]]]] = {
    "has_tables": (lambda s, f, m: s.add_has_tables_listener(f, m), [(True,)]),
    "tables": (lambda s, f, m: s.add_tables_listener(f, m), [("f",)]),
    "table_ids": (lambda s, f, m: s.add_table_ids_listener(f, m), [({"t": 1},)]),
    "has_table": (lambda s, f, m: s.add_has_table_listener(None, f, m), [("t", True)]),
    "table": (lambda s, f, m: s.add_table_listener(None, f, m), [("t", "f")]),
    "table_cell_ids": (lambda s, f, m: s.add_table_cell_ids_listener(None, f, m), [("t", {"c": 1})]),
    "has_table_cell": (lambda s, f, m: s.add_has_table_cell_listener(None, None, f, m), [("t", "c", True)]),
    "row_count": (lambda s, f, m: s.add_row_count_listener(None, f, m), [("t", 1)]),
    "row_ids": (lambda s, f, m: s.add_row_ids_listener(None, f, m), [("t", {"r": 1})]),
    "sorted_row_ids": (
        lambda s, f, m: s.add_sorted_row_ids_listener("t", "c", False, 0, None, f, m),
        [("t", "c", False, 0, None, ["r"])],
    ),
    "has_row": (lambda s, f, m: s.add_has_row_listener(None, None, f, m), [("t", "r", True)]),
    "row": (lambda s, f, m: s.add_row_listener(None, None, f, m), [("t", "r", "f")]),
    "cell_ids": (lambda s, f, m: s.add_cell_ids_listener(None, None, f, m), [("t", "r", {"c": 1})]),
    "has_cell": (lambda s, f, m: s.add_has_cell_listener(None, None, None, f, m), [("t", "r", "c", True)]),
    "cell": (lambda s, f, m: s.add_cell_listener(None, None, None, f, m), [("t", "r", "c", 1, MISSING, "f")]),
    "invalid_cell": (lambda s, f, m: s.add_invalid_cell_listener(None, None, None, f, m), []),
    "has_values": (lambda s, f, m: s.add_has_values_listener(f, m), [(True,)]),
    "values": (lambda s, f, m: s.add_values_listener(f, m), [("f",)]),
    "value_ids": (lambda s, f, m: s.add_value_ids_listener(f, m), [({"v": 1},)]),
    "has_value": (lambda s, f, m: s.add_has_value_listener(None, f, m), [("v", True)]),
    "value": (lambda s, f, m: s.add_value_listener(None, f, m), [("v", 1, MISSING, "f")]),
    "invalid_value": (lambda s, f, m: s.add_invalid_value_listener(None, f, m), []),
}


def come(store: MergeableStore) -> None:
    """A cell and a value come to be."""
    with store.transaction():
        store.set_cell("t", "r", "c", 1).set_value("v", 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mutator", [False, True])
def test_every_kind(kind: str, mutator: bool) -> None:
    """A listener of each kind hears of what comes, not of what stays, and not any more once it is removed."""
    add, heard = KINDS[kind]
    store, log = new_store(), Log()
    listener_id = add(store, log, mutator)
    assert store.get_listener_stats()[kind] == 1
    come(store)
    assert log.take() == heard
    come(store)
    assert log.take() == []
    store.del_listener(listener_id).del_listener(listener_id)
    assert not any(store.get_listener_stats().values())
    store.del_tables().del_values()
    assert log.take() == []


@pytest.mark.parametrize("kind", KINDS)
def test_called_by_hand(kind: str) -> None:
    """`call_listener` calls for everything that is there, as if it had just been looked at."""
    add, heard = KINDS[kind]
    store, log = new_store(), Log()
    come(store)
    listener_id = add(store, log, False)
    store.call_listener(listener_id)
    present = {
        "cell": [("t", "r", "c", 1, 1, "f")],
        "value": [("v", 1, 1, "f")],
    }.get(kind, heard)
    if kind.endswith("_ids") and kind != "sorted_row_ids":
        present = [(*heard[0][:-1], {})]
    assert log.take() == present
    assert store.call_listener("never") is store


def test_called_by_hand_for_what_is_not_there() -> None:
    """Concrete ids are called for, there or not; wildcards only for what is there."""
    store, log = new_store(), Log()
    store.call_listener(store.add_cell_listener("t", "r", "c", log))
    assert log.take() == [("t", "r", "c", MISSING, MISSING, "f")]
    store.call_listener(store.add_cell_listener("t", None, "c", log))
    store.call_listener(store.add_value_listener(None, log))
    assert log.take() == []
    store.call_listener(store.add_has_value_listener("v", log))
    assert log.take() == [("v", False)]


def test_listeners_of_transactions() -> None:
    """They are called once by hand, and counted together."""
    store, log = new_store(), Log()
    ids = [
        store.add_start_transaction_listener(log),
        store.add_will_finish_transaction_listener(log),
        store.add_did_finish_transaction_listener(log),
    ]
    assert store.get_listener_stats()["transaction"] == 3
    for listener_id in ids:
        store.call_listener(listener_id)
        assert log.take() == [()]
    store.set_value("v", 1)
    assert log.take() == [()] * 3
    for listener_id in ids:
        store.del_listener(listener_id)
    store.set_value("v", 2)
    assert log.take() == []


def test_wildcards() -> None:
    """A pattern hears of what matches it and of nothing else."""
    store = new_store()
    logs = {ids: Log() for ids in (("t", "r", "c"), ("t", None, "c"), (None, "r", None), ("t", "q", None))}
    for (table_id, row_id, cell_id), log in logs.items():
        store.add_cell_listener(table_id, row_id, cell_id, log)
    store.set_table("t", {"r": {"c": 1, "d": 2}, "q": {"c": 3}})
    store.set_cell("u", "r", "x", 4)
    heard = {ids: [call[:3] for call in log.take()] for ids, log in logs.items()}
    assert heard == {
        ("t", "r", "c"): [("t", "r", "c")],
        ("t", None, "c"): [("t", "r", "c"), ("t", "q", "c")],
        (None, "r", None): [("t", "r", "c"), ("t", "r", "d"), ("u", "r", "x")],
        ("t", "q", None): [("t", "q", "c")],
    }
