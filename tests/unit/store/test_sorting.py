"""Sorted pages of rows: as JavaScript compares, and told to listeners when they are other ones."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .kit import Log, new_store


def table(*cells: Any) -> MergeableStore:
    """A table of rows a, b, c, ... with these cells; `MISSING` for none."""
    store = new_store()
    for number, cell in enumerate(cells):
        store.set_cell("t", chr(97 + number), "other", 0)
        if cell is not MISSING:
            store.set_cell("t", chr(97 + number), "c", cell)
    return store


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        ((3, 1, 2.5, -1), "dbca"),
        (("b", "a", "", "B"), "cdba"),
        (("\uffff", "🦉"), "ba"),
        (("\ud800", "a"), "ba"),
        ((1, MISSING, -1, None, True, False), "cbdfae"),
        ((1, 1, 0), "cab"),
        ((10, "9", "", 8), "cdba"),
        (([10], [9, "x"], [[1], None], {"a": 1}, "z"), "caBde".lower()),
    ],
    ids=repr,
)
def test_order(cells: tuple[Any, ...], order: str) -> None:
    """Numbers by value, strings by UTF-16 units, what is missing or null as 0, arrays and objects as their text."""
    store = table(*cells)
    assert "".join(store.get_sorted_row_ids("t", "c")) == order
    assert "".join(store.get_sorted_row_ids("t", "c", True)) == order[::-1]


def test_text_that_is_no_number() -> None:
    """Strings that are no numbers do not compare with numbers; every row is in the result all the same."""
    assert sorted(table("x", 1, "2", None, [3]).get_sorted_row_ids("t", "c")) == list("abcde")


def test_by_row_id_and_page() -> None:
    """Without a cell the row ids are sorted; offset and limit cut a page."""
    store = new_store().set_table("t", {"b": {"c": 1}, "10": {"c": 1}, "9": {"c": 1}, "a": {"c": 1}})
    assert store.get_sorted_row_ids("t") == ["10", "9", "a", "b"]
    assert store.get_sorted_row_ids("t", None, True, 1, 2) == ["a", "9"]
    assert store.get_sorted_row_ids("t", offset=3) == ["b"]
    assert store.get_sorted_row_ids("t", limit=0) == []


def test_sorter() -> None:
    """A sorter of one's own compares cells, or row ids; descending turns it round, equal rows keep their order."""
    store = table("bb", "a", MISSING, "cc")

    def by_length(one: Any, other: Any) -> float:
        return len(one or "") - len(other or "")

    assert store.get_sorted_row_ids("t", "c", sorter=by_length) == ["c", "b", "a", "d"]
    assert store.get_sorted_row_ids("t", "c", True, sorter=by_length) == ["a", "d", "b", "c"]
    assert store.get_sorted_row_ids("t", sorter=lambda one, other: (one < other) - (one > other)) == [
        "d",
        "c",
        "b",
        "a",
    ]


def test_listening_to_a_page() -> None:
    """A page is told when it is another one than last time, not at every change of the table."""
    store = table(1, 2, 3)
    log = Log()
    store.add_sorted_row_ids_listener("t", "c", False, 0, 2, log)
    store.set_cell("t", "c", "c", 4).set_cell("t", "a", "other", 5).set_cell("t", "z", "c", 9)
    assert log.take() == []
    store.set_cell("t", "c", "c", 0)
    assert log.take() == [("t", "c", False, 0, 2, ["c", "a"])]
    store.del_row("t", "a")
    assert log.take() == [("t", "c", False, 0, 2, ["c", "b"])]
    store.del_table("t")
    assert log.take() == [("t", "c", False, 0, 2, [])]
