"""The recorded vectors of the peer, `golden/vectors.json`, and how its operations run on our store."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from typing import Any

from mergesync.exceptions import MergesyncError
from mergesync.store import MergeableStore, jsjson

T0 = 1704067200000


@cache
def load_vectors() -> dict[str, Any]:
    """All vectors, numbers as JavaScript reads them."""
    text = (Path(__file__).parent / "golden" / "vectors.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = jsjson.loads(text)
    return loaded


class Clock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: int = T0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


_METHODS = {
    "setCell": "set_cell",
    "setRow": "set_row",
    "setPartialRow": "set_partial_row",
    "setTable": "set_table",
    "setTables": "set_tables",
    "setValue": "set_value",
    "setValues": "set_values",
    "setPartialValues": "set_partial_values",
    "delCell": "del_cell",
    "delRow": "del_row",
    "delTable": "del_table",
    "delTables": "del_tables",
    "delValue": "del_value",
    "delValues": "del_values",
    "addRow": "add_row",
    "apply": "apply_mergeable_changes",
    "load": "set_mergeable_content",
    "default": "set_default_content",
}


def run(store: MergeableStore, clock: Clock, operation: list[Any]) -> None:
    """Run one operation; what the peer ignores raises here, and is ignored like there."""
    name, *arguments = operation
    if name == "now":
        clock.now = arguments[0]
    elif name == "transaction":
        with store.transaction():
            for inner in arguments[0]:
                run(store, clock, inner)
    else:
        with contextlib.suppress(MergesyncError):
            getattr(store, _METHODS[name])(*arguments)


def recorded_changes(store: MergeableStore) -> list[Any]:
    """A list that grows by what each transaction would send."""
    sent: list[Any] = []

    def listener(store: MergeableStore) -> None:
        changes = store.get_transaction_mergeable_changes()
        if changes[0][0] or changes[1][0]:
            sent.append(changes)

    store.add_did_finish_transaction_listener(listener)
    return sent
