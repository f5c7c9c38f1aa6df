"""What listeners hear: net changes, in order, with the functions that tell them."""

from __future__ import annotations

from typing import Any

from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import Log, ThrownError, hlc, new_store


def test_what_goes() -> None:
    """All levels hear of what goes."""
    store = new_store().set_cell("t", "r", "c", 1).set_value("v", 1)
    log = Log()
    store.add_has_tables_listener(log)
    store.add_table_ids_listener(log)
    store.add_has_table_cell_listener("t", "c", log)
    store.add_row_count_listener("t", log)
    store.add_row_ids_listener("t", log)
    store.add_cell_ids_listener("t", "r", log)
    store.add_cell_listener("t", "r", "c", log)
    store.add_has_values_listener(log)
    store.add_value_ids_listener(log)
    store.add_value_listener("v", log)
    store.del_tables()
    assert log.take() == [
        (False,),
        ({"t": -1},),
        ("t", "c", False),
        ("t", 0),
        ("t", {"r": -1}),
        ("t", "r", {"c": -1}),
        ("t", "r", "c", MISSING, 1, "f"),
    ]
    store.del_values()
    assert log.take() == [(False,), ({"v": -1},), ("v", MISSING, 1, "f")]


def test_net_ids() -> None:
    """A row deleted and set again is no change of ids; a count is told only if it differs."""
    store = new_store().set_table("t", {"r": {"c": 1}, "q": {"c": 1}})
    log = Log()
    store.add_row_ids_listener("t", log)
    store.add_row_count_listener("t", log)
    store.add_table_cell_ids_listener("t", log)
    with store.transaction():
        store.del_row("t", "r").set_cell("t", "r", "c", 2)
    assert log.take() == []
    with store.transaction():
        store.del_row("t", "r").set_cell("t", "new", "c", 2)
    assert log.take() == [("t", {"r": -1, "new": 1})]


def test_get_changes() -> None:
    """`get_cell_change` and `get_value_change` tell whether, from what and to what."""
    store = new_store().set_row("t", "r", {"a": 1, "b": 1}).set_values({"a": 1, "b": 1})
    found: list[Any] = []

    def cells(store: MergeableStore, get_cell_change: Any) -> None:
        found.extend(
            get_cell_change(*ids) for ids in (("t", "r", "a"), ("t", "r", "b"), ("t", "q", "a"), ("u", "r", "a"))
        )

    def values(store: MergeableStore, get_value_change: Any) -> None:
        found.extend(get_value_change(value_id) for value_id in ("a", "b", "c", "d"))

    store.add_tables_listener(cells)
    store.add_values_listener(values)
    with store.transaction():
        store.set_cell("t", "r", "a", 2).set_cell("t", "q", "a", 3).set_values({"a": 2, "c": 3})
    assert found == [
        (True, 1, 2),
        (False, 1, 1),
        (True, MISSING, 3),
        (False, MISSING, MISSING),
        (True, 1, 2),
        (True, 1, MISSING),
        (True, MISSING, 3),
        (False, MISSING, MISSING),
    ]


def test_mutators() -> None:
    """Mutators are called first; the others see what they made of it."""
    store = new_store()
    log = Log()
    store.add_cell_listener("t", "r", "c", log)
    store.add_cell_listener("t", "r", "c", lambda s, t, r, c, new: s.set_cell(t, r, c, min(new, 5)), True)
    store.add_value_listener("v", lambda s: s.del_value("v"), True)
    store.add_values_listener(log)
    store.set_cell("t", "r", "c", 9)
    assert log.take() == [("t", "r", "c", 5, MISSING, "f")]
    store.set_cell("t", "r", "c", 7).set_value("v", 1)
    assert log.take() == []
    store._check()


def test_mutators_of_values_hear_of_what_mutators_of_cells_wrote() -> None:
    """The round of values begins after that of tables."""
    store = new_store()
    log = Log()
    store.add_tables_listener(lambda s: s.set_value("v", 1), True)
    store.add_value_listener("v", log, True)
    store.set_cell("t", "r", "c", 1)
    assert log.take() == [("v", 1, MISSING, "f")]


def test_merged_and_loaded_changes_are_heard() -> None:
    """Listeners hear of a peer's changes and of a load as of any other."""
    store = new_store().set_cell("t", "gone", "c", 1).set_value("gone", 1)
    log = Log()
    store.add_cell_listener(None, None, None, log)
    store.add_value_listener(None, log)
    store.add_row_ids_listener(None, log)
    store.add_table_ids_listener(log)
    store.apply_mergeable_changes([[{"t": [{"r": [{"c": ["x", hlc(5)]}]}]}], [{"v": [1, hlc(5)]}], 1])
    assert log.take() == [("t", {"r": 1}), ("t", "r", "c", "x", MISSING, "f"), ("v", 1, MISSING, "f")]
    store.set_mergeable_content(new_store("s2").set_cell("u", "r", "c", 1).get_mergeable_content())
    heard = log.take()
    assert ({"u": 1, "t": -1},) in heard
    assert ("t", "gone", "c", MISSING, 1, "f") in heard
    assert ("u", "r", "c", 1, MISSING, "f") in heard
    assert ("gone", MISSING, 1, "f") in heard


def test_invalid_listeners() -> None:
    """They hear of what the schema refused, all of it, even if the transaction changes nothing."""
    store = new_store().set_schema({"t": {"c": {"type": "number"}}}, {"v": {"type": "number"}})
    log = Log()
    for mutator in (True, False):
        store.add_invalid_cell_listener("t", None, None, log, mutator)
        store.add_invalid_value_listener("v", log, mutator)
    with store.transaction():
        store.set_cell("t", "r", "c", "x").set_cell("t", "r", "c", [1]).set_value("v", "y").set_value("w", 1)
    assert log.take() == [("t", "r", "c", ["x", [1]]), ("v", ["y"])] * 2
    store.apply_mergeable_changes([[{"t": [{"r": [{"c": ["x", hlc(5)]}]}]}], [{}], 1])
    assert log.take() == [("t", "r", "c", ["x"])] * 2


def test_an_object_in_another_spacing_is_no_change() -> None:
    """A peer's text of the same object is a new stamp, and no change for an application."""
    store = new_store().set_value("v", {"a": [1, 2]})
    log, sent = Log(), Log()
    store.add_value_listener(None, log)
    store.add_did_finish_transaction_listener(lambda s: sent(s, s.get_transaction_mergeable_changes()))
    changes = [[{}], [{"v": ['\ufffd{"a": [1, 2]}', hlc(5)]}], 1]
    store.apply_mergeable_changes(changes)
    assert log.take() == []
    assert sent.take() == [(changes,)]


def test_sorted_listeners_that_raise() -> None:
    """A listener to a page that raises keeps nothing from the others."""
    store = new_store()
    log = Log()

    def throw() -> None:
        raise ThrownError

    store.add_sorted_row_ids_listener("t", None, False, 0, None, throw)
    store.add_sorted_row_ids_listener("t", None, False, 0, None, log)
    try:
        store.set_cell("t", "r", "c", 1)
    except ThrownError:
        assert log.take() == [("t", None, False, 0, None, ["r"])]
    else:
        raise AssertionError("the error is lost")
