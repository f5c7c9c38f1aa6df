"""The JSON of all tables, made from the texts in stamps: it says the same as the stamps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergesync.store import MergeableStore

from .kit import TOMBSTONE, hlc, new_store

PLENTY = 10**9


def said(store: MergeableStore) -> Any:
    """What the text says."""
    text = store.get_tables_text(PLENTY)
    assert text is not None
    return json.loads(text)


@pytest.mark.parametrize(
    "wire",
    [
        "dog",
        "",
        'a"b\\c',
        "\u2028é",
        ":",
        "a:b",
        True,
        None,
        0,
        -1.5,
        1e21,
        {"a": [1, {"b": None}]},
        [1, "x"],
        TOMBSTONE,
    ],
    ids=repr,
)
@pytest.mark.parametrize("stamp", [hlc(1), ""])
def test_any_wire(wire: Any, stamp: str) -> None:
    """With an HLC and without; a tombstone is U+FFFC."""
    store = new_store().apply_mergeable_changes([[{"t": [{"r": [{"c": [wire, stamp]}]}]}], [{}], 1])
    assert said(store) == store.get_mergeable_table_diff({})[0]
    assert said(store) == [{"t": [{"r": [{"c": [wire, stamp] if stamp else [wire]}]}]}]


def test_any_ids_and_containers() -> None:
    """In their order; containers with an HLC of their own, and those in which there is nothing."""
    rows = {'"': [{"é\u2028": [1, hlc(1)], "\\": [2, hlc(2)]}, hlc(3)], "b": [{}, hlc(4)]}
    changes = [
        [{"😀": [rows, hlc(5)], "empty": [{}, hlc(6)], "": [{"": [{"": [3, hlc(7)]}]}]}, hlc(8)],
        [{}],
        1,
    ]
    store = new_store().apply_mergeable_changes(changes)
    assert said(store) == store.get_mergeable_table_diff({})[0] == changes[0]
    assert list(said(store)[0]) == list(store.get_mergeable_table_diff({})[0][0])
    assert said(new_store()) == [{}]


def test_lone_surrogates() -> None:
    """They are escaped, so that the text is UTF-8."""
    store = new_store().apply_mergeable_changes([[{"t": [{"\ud800": [{"c\udfff": ["x\ud800", hlc(1)]}]}]}], [{}], 1])
    assert said(store) == store.get_mergeable_table_diff({})[0]


def test_no_more_than_is_enough() -> None:
    """Then there is none."""
    store = new_store().set_tables({"t": {str(number): {"c": number} for number in range(100)}})
    text = store.get_tables_text(PLENTY)
    assert text is not None
    assert store.get_tables_text(len(text)) == text
    assert store.get_tables_text(len(text) // 2) is None
