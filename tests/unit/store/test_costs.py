"""What a change costs does not grow with what did not change: counted, so that no clock decides.

Counted are the instructions that the interpreter executes. In a store many times as large they must be the same
ones for one change and the hashes after it: what goes through rows or tables somewhere would add thousands.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from mergesync.store import MergeableStore

from .kit import T0, Clock, hlc

Change = Callable[[MergeableStore], object]

_FEW, _MANY = 30, 1000


def instructions(action: Callable[[], object]) -> int:
    """How many instructions an action takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.disable()  # what other tests have left would be finalized here, and counted
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def new_cell(text: str) -> list[Any]:
    """The body of a peer's change of one cell, newer than what is there."""
    return [[{"pets": [{"row7": [{"name": [text, hlc(1, T0 + 1)]}]}]}], [{}], 1]


def roll_back(store: MergeableStore) -> None:
    """Change a row and make one, and take both back."""

    def actions() -> None:
        store.set_cell("pets", "row7", "name", "changed").set_cell("pets", "new", "name", "x")

    store.transaction(actions, lambda _: True)


def look_in_between(store: MergeableStore) -> None:
    """Ask for hashes in the middle of a transaction."""
    with store.transaction():
        store.set_cell("pets", "row7", "name", "changed")
        store.get_mergeable_content_hashes()
        store.set_cell("pets", "row7", "name", "changed again")


CHANGES: dict[str, Change] = {
    "set a cell": lambda store: store.set_cell("pets", "row7", "name", "changed"),
    "set a cell of a new row": lambda store: store.set_cell("pets", "new", "name", "changed"),
    "set a row": lambda store: store.set_row("pets", "row7", {"age": 3}),
    "add a row": lambda store: store.add_row("pets", {"name": "x"}),
    "delete a cell": lambda store: store.del_cell("pets", "row7", "name"),
    "delete a row": lambda store: store.del_row("pets", "row7"),
    "merge a cell": lambda store: store.apply_mergeable_changes(new_cell("changed")),
    "merge nothing new": lambda store: store.apply_mergeable_changes(new_cell("")),
    "begin a table": lambda store: store.set_cell("new", "row", "name", "x"),
    "set a value": lambda store: store.set_value("open", True),
    "take back": roll_back,
    "ask for hashes in between": look_in_between,
    "change nothing": lambda store: store.set_cell("pets", "row7", "name", "fido7"),
}


def full_store(size: int, kind: str) -> MergeableStore:
    """A store of many rows, or many tables, of which the hashes are known."""
    store = MergeableStore("s1", get_now=Clock())
    with store.transaction():
        for number in range(size):
            table_id, row_id = ("pets", f"row{number}") if kind == "rows" else (f"table{number}", "row")
            store.set_cell(table_id, row_id, "name", f"fido{number}")
        store.set_cell("pets", "row7", "name", "fido7")
    store.get_mergeable_content_hashes()
    return store


@pytest.mark.parametrize("is_heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("kind", ["rows", "tables"])
@pytest.mark.parametrize("name", CHANGES)
def test_change_in_large_store(name: str, kind: str, is_heard: bool) -> None:
    """One change, what listeners hear of it, and the hashes cost the same in a store of any size."""

    def cost(size: int) -> int:
        store = full_store(size, kind)
        if is_heard:
            heard: list[Any] = []
            store.add_did_finish_transaction_listener(
                lambda store: heard.append((store.get_transaction_mergeable_changes(), store.get_transaction_log()))
            )
            store.add_cell_listener(None, None, None, lambda *arguments: heard.append(arguments))
            store.add_row_ids_listener(None, lambda *arguments: heard.append(arguments))
            store.add_table_cell_ids_listener(None, lambda *arguments: heard.append(arguments))
        return instructions(lambda: (CHANGES[name](store), store.get_mergeable_content_hashes()))

    cost(_FEW)  # what is kept at hand from now on
    assert cost(_MANY) == cost(_FEW)


@pytest.mark.parametrize("kind", ["rows", "tables"])
def test_looking_at_one_thing(kind: str) -> None:
    """So does a look at one thing."""

    def cost(size: int) -> int:
        store = full_store(size, kind)
        return instructions(
            lambda: (
                store.get_cell("pets", "row7", "name"),
                store.get_row("pets", "row7"),
                store.has_row("pets", "none"),
                store.has_tables(),
                store.has_table("pets"),
                store.get_row_count("pets"),
                store.get_table_cell_ids("pets"),
                store.get_mergeable_content_hashes(),
            )
        )

    assert cost(_MANY) == cost(_FEW)
