"""Setters and deleters: a call stands or falls as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import ContentError, InvalidCellError, MergesyncError
from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import Log, hlc, new_store, refused


def filled() -> MergeableStore:
    """A store with two tables and two values."""
    return (
        new_store()
        .set_tables({"t": {"r": {"a": 1, "b": 2}, "q": {"a": 1}}, "u": {"r": {"a": 1}}})
        .set_values({"v": 1, "w": 2})
    )


def test_replacing() -> None:
    """A setter of a whole deletes what is not in it."""
    assert filled().set_content(({"x": {"r": {"a": 1}}}, {"z": 1})).get_content() == ({"x": {"r": {"a": 1}}}, {"z": 1})
    assert filled().set_content(({}, {})).get_content() == ({}, {})
    assert filled().set_tables({"t": {"r": {"c": 1}}}).get_tables() == {"t": {"r": {"c": 1}}}
    assert filled().set_table("t", {"r": {"c": 1}}).get_table("t") == {"r": {"c": 1}}
    assert filled().set_row("t", "r", {"c": 1}).get_row("t", "r") == {"c": 1}
    assert filled().set_row("t", "r", {"b": 3}).get_row("t", "r") == {"b": 3}
    assert filled().set_values({"w": 5}).get_values() == {"w": 5}


def test_partial() -> None:
    """A partial setter leaves the rest alone."""
    assert filled().set_partial_row("t", "r", {"b": 3, "c": 4}).get_row("t", "r") == {"a": 1, "b": 3, "c": 4}
    assert filled().set_partial_values({"w": 3, "x": 4}).get_values() == {"v": 1, "w": 3, "x": 4}


def test_callables() -> None:
    """Anything may be given by a callable; a cell's gets the present one, or MISSING."""
    store = new_store()
    store.set_content(lambda: ({"t": {"r": {"a": 1}}}, {"v": 1}))
    assert store.set_cell("t", "r", "a", lambda cell: cell + 1).get_cell("t", "r", "a") == 2
    assert store.set_cell("t", "r", "b", lambda cell: str(cell)).get_cell("t", "r", "b") == str(MISSING)
    assert store.set_value("v", lambda value: [value]).get_value("v") == [1]
    assert store.set_tables(lambda: {"t": {"r": {"c": 1}}}).get_tables() == {"t": {"r": {"c": 1}}}
    assert store.set_table("t", lambda: {"r": {"d": 1}}).set_row("t", "q", lambda: {"e": 1}).get_row_count("t") == 2
    assert store.set_values(lambda: {"w": 1}).get_values() == {"w": 1}
    assert store.add_row("t", lambda: {"f": 1}) == "0"


@pytest.mark.parametrize("given", [None, 1, "x", [1], [("a", 1)], {1}])
def test_what_is_no_dict(given: Any) -> None:
    """Rows, tables and values are dicts."""
    store = filled()
    for write in (
        lambda: store.set_tables(given),
        lambda: store.set_tables({"t": given}),
        lambda: store.set_table("t", {"r": given}),
        lambda: store.set_table("t", given),
        lambda: store.set_row("t", "r", given),
        lambda: store.set_partial_row("t", "r", given),
        lambda: store.add_row("t", given),
        lambda: store.set_values(given),
        lambda: store.set_partial_values(given),
        lambda: store.set_content((given, {})),
        lambda: store.set_content(({}, given)),
    ):
        with refused(store, InvalidCellError):
            write()
    with refused(store, ContentError):
        store.set_content(given)


def test_empty_things_are_refused() -> None:
    """An empty row, table or map changes nothing, and the listeners of what is invalid hear of it."""
    store = filled()
    cells, values = Log(), Log()
    store.add_invalid_cell_listener(None, None, None, cells)
    store.add_invalid_value_listener(None, values)
    content = store.get_mergeable_content()
    store.set_tables({}).set_table("t", {}).set_row("t", "r", {}).set_partial_row("t", "r", {})
    assert store.add_row("t", {}) is None
    store.set_values({}).set_partial_values({})
    assert store.get_mergeable_content() == content
    known = [(), ("t",), ("t", "r"), ("t", "r"), ("t",)]
    assert cells.take() == [(*ids, *[MISSING] * (3 - len(ids)), [MISSING]) for ids in known]
    assert values.take() == [(MISSING, [MISSING])] * 2


def test_empty_things_among_others() -> None:
    """An empty row or table in a larger one is left out, and so deleted."""
    assert filled().set_tables({"t": {}, "u": {"r": {"a": 2}}}).get_tables() == {"u": {"r": {"a": 2}}}
    assert filled().set_table("t", {"r": {}, "q": {"a": 2}}).get_table("t") == {"q": {"a": 2}}
    assert filled().set_tables({"t": {"r": {}}}).get_tables() == filled().get_tables()


def test_deleting() -> None:
    """What is deleted takes with it what it leaves empty; what is not there does nothing."""
    store = filled()
    store.del_cell("t", "r", "a").del_cell("t", "r", "never").del_row("t", "never").del_table("never").del_value(
        "never"
    )
    assert store.get_row("t", "r") == {"b": 2}
    assert store.del_cell("t", "r", "b").get_row_ids("t") == ["q"]
    assert store.del_row("t", "q").get_table_ids() == ["u"]
    assert store.del_table("u").get_tables() == {}
    assert store.del_value("v").get_values() == {"w": 2}
    assert store.del_values().get_values() == {}
    assert filled().del_tables().get_content() == ({}, {"v": 1, "w": 2})
    store._check()


def test_default_content() -> None:
    """Default content fills what nobody has written, has empty stamps, and never comes back over a deletion."""
    store = new_store().set_cell("t", "r", "a", 1).set_value("v", 1).set_value("gone", 1).del_value("gone")
    default = ({"t": {"r": {"a": 0, "b": 0}}, "u": {"r": {"a": 0}}}, {"v": 0, "w": 0, "gone": 0})
    store.set_default_content(lambda: default)
    assert store.get_content() == ({"t": {"r": {"a": 1, "b": 0}}, "u": {"r": {"a": 0}}}, {"v": 1, "w": 0})
    assert store.get_stamp("t", "r", "b") == (0, "")
    assert store.set_default_content(({}, {"w": 5})).get_value("w") == 5
    assert store.set_value("w", 6).get_stamp(None, "", "w") == (6, hlc(4, client="7JQY8"))
    with refused(store, InvalidCellError):
        store.set_default_content(({}, {"x": object()}))
    assert store.set_value("y", 1).get_stamp(None, "", "y") == (1, hlc(5, client="7JQY8"))
    store._check()


def test_set_json() -> None:
    """JSON text replaces all, the tables or the values; an empty object deletes."""
    store = filled().set_json('[{"t":{"r":{"a":1.0,"o":"\ufffd[1]","p":[2]}}},{"v":null}]')
    assert store.get_content() == ({"t": {"r": {"a": 1, "o": [1], "p": [2]}}}, {"v": None})
    assert store.set_json('{"t":{"r":{"b":1}}}').get_content() == ({"t": {"r": {"b": 1}}}, {"v": None})
    assert store.set_tables_json("{}").set_values_json("{}").get_content() == ({}, {})
    assert store.set_tables_json('{"t":{"r":{"b":1}}}').set_values_json('{"w":1}').get_content() == (
        {"t": {"r": {"b": 1}}},
        {"w": 1},
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "1", '"x"', "[]", "[{}]", "[{},{},1]", "[1,{}]", "[{},[]]", '[{"t":1},{}]',
        '[{},{"v":1e400}]',
        '[{"t":{"r":[]}},{}]', '[{},{"v":"\ufffc"}]', '[{},{"v":"\ufffdbroken"}]', "[" * 10_000, "NaN",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_json_that_is_none(text: str) -> None:
    """What is not JSON of a store raises a typed error and changes nothing."""
    store = filled()
    with refused_somehow(store):
        store.set_json(text)


def refused_somehow(store: MergeableStore) -> Any:
    """Either error will do: it is malformed, or a cell in it is none."""

    class Refused:
        def __enter__(self) -> None:
            self.before = store.get_mergeable_content(), store.get_content()

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
            assert (store.get_mergeable_content(), store.get_content()) == self.before
            assert isinstance(error, ContentError | InvalidCellError)
            assert isinstance(error, MergesyncError)
            return True

    return Refused()


def test_add_row() -> None:
    """Row ids are those of deleted rows, then the next number; taken ones are skipped."""
    store = new_store()
    assert [store.add_row("t", {"a": 1}) for _ in range(3)] == ["0", "1", "2"]
    store.set_row("t", "3", {"a": 1}).del_row("t", "1")
    assert store.add_row("t", {"a": 1}, False) == "4"
    assert [store.add_row("t", {"a": 1}) for _ in range(2)] == ["1", "5"]
    store.del_row("t", "2").set_row("t", "2", {"a": 1})
    assert store.add_row("t", {"a": 1}) == "6"
    store.del_table("t")
    assert store.add_row("t", {"a": 1}) == "0"
    store._check()


def test_order_of_integer_ids() -> None:
    """A dict that is given is taken in JavaScript's order."""
    store = new_store().set_values({"b": 1, "10": 1, "9": 1}).set_table("t", {"x": {"c": 1}, "1": {"c": 1}})
    assert store.get_value_ids() == ["9", "10", "b"]
    assert store.get_row_ids("t") == ["1", "x"]


def test_a_row_with_a_schema() -> None:
    """Wrong cells are left out or become defaults, missing ones are told, and a row without anything is refused."""
    store = new_store().set_schema(
        {"t": {"a": {"type": "number", "default": 7}, "b": {"type": "string"}}, "u": {"b": {"type": "string"}}},
        {"v": {"type": "number", "default": 8}, "w": {"type": "string"}},
    )
    log = Log()
    store.add_invalid_cell_listener(None, None, None, log)
    store.add_invalid_value_listener(None, log)
    assert store.get_values() == {"v": 8}
    assert store.set_row("t", "r", {"b": "x", "c": 1}).get_row("t", "r") == {"a": 7, "b": "x"}
    assert log.take() == [("t", "r", "c", [1])]
    assert store.set_row("t", "r", {"a": "x", "b": 1}).get_row("t", "r") == {"a": 7}
    assert ("t", "r", "a", ["x"]) in log.take()
    assert store.set_row("t", "q", {}).get_row("t", "q") == {"a": 7}
    assert not store.set_row("u", "r", {"b": 1}).has_row("u", "r")
    assert store.add_row("u", {"b": 1}) is None
    assert store.set_cell("t", "new", "b", "y").get_row("t", "new") == {"a": 7, "b": "y"}
    assert store.set_partial_row("t", "new", {"b": 1, "a": 2}).get_row("t", "new") == {"a": 2, "b": "y"}
    log.take()
    assert store.set_values({"w": 1, "x": 1}).get_values() == {"v": 8}
    assert ("w", [1]) in log.take()
    assert store.set_value("v", "x").get_values() == {"v": 8}
    assert store.set_default_content(({"t": {"new": {"a": "wrong"}}}, {"v": 3})).get_value("v") == 3
    assert store.get_row("t", "new") == {"a": 2, "b": "y"}
    store._check()
