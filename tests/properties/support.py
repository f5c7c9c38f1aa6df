"""What the properties share: stores with injected clocks, and the ways in which two of them exchange what they have."""

from __future__ import annotations

import copy
from typing import Any

from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges
from mergesync.sync import exchange
from mergesync.sync.answering import Answering
from mergesync.sync.messages import Message, decode_message, encode_message

from .strategies import T0, paths


class Clock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: int = T0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def new_store(unique_id: str = "one", now: int = T0) -> MergeableStore:
    """An empty store whose clock stands."""
    return MergeableStore(unique_id, get_now=Clock(now))


def store_of(*bodies: Any, unique_id: str = "one") -> MergeableStore:
    """A store that merged these bodies, in order."""
    store = new_store(unique_id)
    for body in bodies:
        store.apply_mergeable_changes(copy.deepcopy(body))
    return store


def apply(store: MergeableStore, operation: tuple[Any, ...]) -> Any:
    """Run one drawn operation on a store."""
    name, *arguments = operation
    return getattr(store, name)(*copy.deepcopy(arguments))


def stamps(store: MergeableStore) -> Any:
    """All stamps of a store, container stamps included, without hashes."""
    tables, values = store.get_mergeable_content()
    return (
        tables[1],
        {
            table_id: (table[1], {row_id: (row[1], _leaves(row[0])) for row_id, row in table[0].items()})
            for table_id, table in tables[0].items()
        },
        values[1],
        _leaves(values[0]),
    )


def leaves(store: MergeableStore) -> dict[tuple[str, ...], tuple[str, str]]:
    """The stamps of all cells and values, by path."""
    found = paths(store.get_mergeable_content())
    return {path: (repr(where[leaf_id][0]), where[leaf_id][1]) for path, where, leaf_id in found}


def _leaves(leaves: dict[str, list[Any]]) -> dict[str, Any]:
    return {leaf_id: (repr(leaf[0]), leaf[1]) for leaf_id, leaf in leaves.items()}


def pull(asker: MergeableStore, answerer: MergeableStore) -> list[Any]:
    """What the asker lacks, by the exchange that synchronizers use; one body, not yet merged."""
    answering = Answering(answerer, Ranges(answerer), learns=False)
    pulling = exchange.pull(asker, answerer.get_mergeable_content_hashes())
    try:
        kind, body = next(pulling)
        while True:
            response = answering.answer("peer", Message("r", kind, body), 0.0)
            kind, body = pulling.send(decode_message(encode_message(response)))
    except StopIteration as stop:
        return list(stop.value.changes)


def sync(one: MergeableStore, other: MergeableStore) -> None:
    """Both pull from each other what they lack."""
    one.apply_mergeable_changes(pull(one, other))
    other.apply_mergeable_changes(pull(other, one))
