"""What the properties share: stores with injected clocks, and the ways in which two of them exchange what they have."""

from __future__ import annotations

import copy
from typing import Any

from mergesync.store import MergeableStore

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
    """What the asker lacks, by the exchange of hashes of protocol section 11; one body, not yet merged."""
    ours, theirs = asker.get_mergeable_content_hashes(), answerer.get_mergeable_content_hashes()
    tables: list[Any] = [{}]
    values: list[Any] = [{}]
    if ours[0] != theirs[0]:
        tables, differing_tables = answerer.get_mergeable_table_diff(asker.get_mergeable_table_hashes())
        if differing_tables:
            asked = asker.get_mergeable_row_hashes(differing_tables)
            more, differing_rows = answerer.get_mergeable_row_diff(asked)
            tables = join(tables, more)
            if differing_rows:
                asked = asker.get_mergeable_cell_hashes(differing_rows)
                tables = join(tables, answerer.get_mergeable_cell_diff(asked))
    if ours[1] != theirs[1]:
        values = answerer.get_mergeable_value_diff(asker.get_mergeable_value_hashes())
    return [tables, values, 1]


def join(one: list[Any], other: list[Any], depth: int = 2) -> list[Any]:
    """Two stamps of tables as one: the greater HLC, the children of both; of leaves, the later one stays."""
    hlc = max(one[1] if len(one) > 1 else "", other[1] if len(other) > 1 else "")
    children = dict(one[0])
    for child_id, child in other[0].items():
        known = depth > 0 and child_id in children
        children[child_id] = join(children[child_id], child, depth - 1) if known else child
    return [children, hlc] if hlc else [children]


def sync(one: MergeableStore, other: MergeableStore) -> None:
    """Both pull from each other what they lack."""
    one.apply_mergeable_changes(pull(one, other))
    other.apply_mergeable_changes(pull(other, one))
