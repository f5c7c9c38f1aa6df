"""Who may write what: tables, rows, cells, values, owners, and what stands or falls together."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.rooms.access import Client
from mergesync.rooms.rules import Rule, Rules, allow_write, allow_write_value
from mergesync.store import MergeableStore
from tests.unit.sync.kit import hlc, new_store

from .kit import client

GONE = "\ufffc"


def body_of(tables: dict[str, Any] | None = None, counter: int = 6, **values: Any) -> Any:
    """Changes of whole cells and values, all with one stamp."""
    stamped = {
        table_id: [{r: [{c: [cell, hlc(counter)] for c, cell in row.items()}] for r, row in table.items()}]
        for table_id, table in (tables or {}).items()
    }
    return [[stamped], [{value_id: [value, hlc(counter)] for value_id, value in values.items()}], 1]


def filled() -> MergeableStore:
    """Messages of two people, and a deleted one."""
    messages = {"1": {"author": "ann", "text": "hi"}, "2": {"author": "bob", "text": "ho"}, "3": {"author": GONE}}
    return new_store().apply_mergeable_changes(body_of({"messages": messages}, 1, title="old"))


def refused(
    rules: list[Rule],
    body: Any,
    *,
    who: Client | None = None,
    pulled: bool = False,
    store: MergeableStore | None = None,
) -> set[tuple[Any, ...]]:
    """The leaves that are refused, without what is empty."""
    found = Rules(rules).refused(store or filled(), who or client(), body, pulled=pulled)
    assert all(set(row.values()) == {hlc(6)} for row in found.values())
    return {tuple(part for part in (*place, leaf_id) if part) for place, row in found.items() for leaf_id in row}


PETS = {"pets": {"fido": {"a": 1, "b": 1}, "felix": {"a": 1}}}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([allow_write()], []),
        ([allow_write("pets")], []),
        ([allow_write("other")], ["fido a", "fido b", "felix a"]),
        ([allow_write_value()], ["fido a", "fido b", "felix a"]),
        ([allow_write(cell_id="a")], ["fido a", "fido b"]),
        ([allow_write("pets", "fido")], ["felix a"]),
        ([allow_write("pets", "fido", "a"), allow_write("pets", None, "b")], ["felix a"]),
        ([allow_write("pets", "fido"), allow_write("pets", "felix", "a")], []),
        ([allow_write(row_id="felix"), allow_write("pets", cell_id="a")], ["fido a", "fido b"]),
        ([allow_write(to=["bob"]), allow_write("pets", cell_id="a")], ["fido a", "fido b"]),
        ([allow_write(to=["ann", "bob"])], []),
        ([allow_write(to=lambda who: who.identity is not None)], []),
        ([allow_write(to=lambda who: False)], ["fido a", "fido b", "felix a"]),
    ],
)
def test_tables_rows_and_cells(rules: list[Rule], expected: list[str]) -> None:
    """What no rule allows is refused: of a pull row by row, of a transaction all of it."""
    expected_leaves = {("pets", *leaf.split()) for leaf in expected}
    assert refused(rules, body_of(PETS), pulled=True) == expected_leaves
    everything = {("pets", "fido", "a"), ("pets", "fido", "b"), ("pets", "felix", "a")}
    assert refused(rules, body_of(PETS)) == (everything if expected else set())


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([allow_write()], ["title", "open"]),
        ([allow_write_value()], []),
        ([allow_write_value("title")], ["open"]),
        ([allow_write_value("title"), allow_write_value("open", to=["bob"])], ["open"]),
        ([allow_write_value("title"), allow_write_value("open", to=["ann"])], []),
    ],
)
def test_values(rules: list[Rule], expected: list[str]) -> None:
    """Each by itself in a pull, together in a transaction."""
    assert refused(rules, body_of(title=1, open=2), pulled=True) == {(value_id,) for value_id in expected}
    assert refused(rules, body_of(title=1, open=2)) == ({("title",), ("open",)} if expected else set())


def test_a_transaction_stands_or_falls_as_a_whole() -> None:
    """Cells and values in one frame; what is not newer than what is there is not counted."""
    body = body_of({"pets": {"fido": {"a": 1}}}, title=1)
    body[0][0]["messages"] = [{"1": [{"text": ["older", hlc(0)]}]}]
    assert refused([allow_write()], body) == {("pets", "fido", "a"), ("title",)}
    assert refused([allow_write_value("title")], body) == {("pets", "fido", "a"), ("title",)}
    assert refused([allow_write("pets"), allow_write_value()], body) == set()


@pytest.mark.parametrize(
    ("row_id", "cells", "allowed"),
    [
        ("1", {"text": "new"}, True),
        ("1", {"author": "ann", "text": "new"}, True),
        ("1", {"author": "bob"}, False),  # given away
        ("1", {"author": GONE, "text": GONE}, True),  # deleted
        ("2", {"text": "new"}, False),
        ("2", {"author": "ann", "text": "mine"}, False),  # taken over
        ("2", {"author": GONE, "text": GONE}, False),
        ("3", {"author": "ann", "text": "again"}, True),  # of a row that is deleted
        ("3", {"text": "again"}, False),
        ("4", {"author": "ann", "text": "new"}, True),
        ("4", {"author": "bob", "text": "as another"}, False),
        ("4", {"text": "of nobody"}, False),
    ],
)
def test_owners(row_id: str, cells: dict[str, Any], allowed: bool) -> None:
    """Who owns a row writes it, whoever brings it along owns it, and nobody gives it to others."""
    rules = [allow_write("messages", owner="author")]
    leaves = {("messages", row_id, cell_id) for cell_id in cells}
    for pulled in (True, False):
        assert refused(rules, body_of({"messages": {row_id: cells}}), pulled=pulled) == (set() if allowed else leaves)


def test_an_owner_that_is_older_than_the_deletion() -> None:
    """Counts for nothing: the row would be nobody's."""
    store = new_store().apply_mergeable_changes(body_of({"messages": {"1": {"author": GONE}}}, 9))
    body = body_of({"messages": {"1": {"author": "ann"}}}, 6)
    body[0][0]["messages"][0]["1"][0]["text"] = ["x", hlc(6)]
    assert refused([allow_write("messages", owner="author")], body, store=store) == {("messages", "1", "text")}


def test_owners_of_some_cells() -> None:
    """A rule with an owner adds to what others may."""
    rules = [allow_write("messages", cell_id="likes"), allow_write("messages", owner="author", cell_id="text")]
    assert refused(rules, body_of({"messages": {"2": {"likes": 1}}})) == set()
    assert refused(rules, body_of({"messages": {"1": {"likes": 1, "text": "x"}}})) == set()
    assert len(refused(rules, body_of({"messages": {"2": {"likes": 1, "text": "x"}}}))) == 2


def test_nobody_in_particular_owns_nothing() -> None:
    """Without an identity there is no name to compare with, also no name of a rule."""
    rules = [allow_write("messages", owner="author"), allow_write("pets", to=["ann"])]
    nobody = client(None)
    assert refused(rules, body_of({"messages": {"4": {"author": "ann"}}}), who=nobody)
    assert refused(rules, body_of(PETS), who=nobody)


def test_a_function_is_asked_once() -> None:
    """For each body, however many cells are in it."""
    asked: list[Client] = []

    def ask(who: Client) -> bool:
        asked.append(who)
        return True

    who = client()
    rule = allow_write(cell_id="a", to=ask)
    tables = {t: {r: {"a": 1} for r in "xyz"} for t in "tuv"}
    assert refused([rule, allow_write(cell_id="b")], body_of(tables), who=who, pulled=True) == set()
    assert asked == [who]


def test_one_name_is_not_several() -> None:
    """A text would be taken for its letters."""
    with pytest.raises(TypeError, match=r"such as \['ann'\]"):
        allow_write(to="ann")
