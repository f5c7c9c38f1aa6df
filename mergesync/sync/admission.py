"""What of a peer's changes may be taken, and what is answered to the rest.

TinyBase refuses a whole body for one stamp too far in the future, and says nothing to anybody (surprise 3). Here the
other leaves are taken, the refusal is reported, and whoever wrote the stamp can be given the value to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE
from mergesync.store.hlc import successor
from mergesync.types import MergeableChanges

__all__ = ["Admits", "changes_beyond", "correction", "is_empty", "split"]

Admits: TypeAlias = Callable[[str | None, str, Any], bool]
"""Whether a leaf may be taken: `admits(table id or None for values, leaf id, stamp)`."""


def is_empty(changes: MergeableChanges) -> bool:
    """Whether no leaf is in these changes."""
    return not changes[0][0] and not changes[1][0]


def split(changes: MergeableChanges, admits: Admits) -> tuple[MergeableChanges, MergeableChanges]:
    """Part checked changes into what may be taken and what is refused, leaf by leaf.

    Args:
        changes: `[tables, values, 1]`.
        admits: whether a leaf may be taken.
    """
    taken_tables: dict[str, Any] = {}
    refused_tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        for row_id, row in table[0].items():
            taken, refused = _split_leaves(table_id, row[0], admits)
            if taken or not refused:
                taken_tables.setdefault(table_id, [{}, *table[1:]])[0][row_id] = [taken, *row[1:]]
            if refused:
                refused_tables.setdefault(table_id, [{}])[0][row_id] = [refused]
    taken_values, refused_values = _split_leaves(None, changes[1][0], admits)
    taken_body = [[taken_tables, *changes[0][1:]], [taken_values, *changes[1][1:]], 1]
    return taken_body, [[refused_tables], [refused_values], 1]


def _split_leaves(
    table_id: str | None, leaves: dict[str, Any], admits: Admits
) -> tuple[dict[str, Any], dict[str, Any]]:
    taken: dict[str, Any] = {}
    refused: dict[str, Any] = {}
    for leaf_id, leaf in leaves.items():
        (taken if admits(table_id, leaf_id, leaf) else refused)[leaf_id] = leaf
    return taken, refused


def correction(store: MergeableStore, refused: MergeableChanges, client: str) -> MergeableChanges:
    """For every refused leaf the value to keep, under the least stamp that beats the refused one.

    Args:
        store: what is kept.
        refused: the leaves refused.
        client: the client part to sign with.
    """
    kept = store.get_mergeable_cell_diff({t: {r: {} for r in table[0]} for t, table in refused[0][0].items()})
    tables: dict[str, Any] = {}
    for table_id, table in refused[0][0].items():
        for row_id, row in table[0].items():
            present = kept[0].get(table_id, [{}])[0].get(row_id, [{}])[0]
            leaves = _kept_leaves(present, row[0], client)
            if leaves:
                tables.setdefault(table_id, [{}])[0][row_id] = [leaves]
    values = _kept_leaves(store.get_mergeable_value_diff({})[0] if refused[1][0] else {}, refused[1][0], client)
    return [[tables], [values], 1]


def _kept_leaves(present: dict[str, Any], refused: dict[str, Any], client: str) -> dict[str, Any]:
    kept = {}
    for leaf_id, leaf in refused.items():
        hlc = successor(hlc_of(leaf), client)
        if hlc is not None:
            kept[leaf_id] = [present[leaf_id][0] if leaf_id in present else TOMBSTONE, hlc]
    return kept


def changes_beyond(changes: MergeableChanges, body: MergeableChanges) -> MergeableChanges:
    """The leaves of a transaction that did not come with the body it merged: what mutating listeners wrote.

    Without them a listener that answers a peer's change would be heard by nobody, and replicas would part.
    """
    tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        came_rows = body[0][0].get(table_id, [{}])[0]
        for row_id, row in table[0].items():
            leaves = _leaves_beyond(row[0], came_rows.get(row_id, [{}])[0])
            if leaves:
                tables.setdefault(table_id, [{}, *table[1:]])[0][row_id] = [leaves, *row[1:]]
    values = _leaves_beyond(changes[1][0], body[1][0])
    return [[tables, *changes[0][1:]], [values, *changes[1][1:]], 1]


def _leaves_beyond(changed: dict[str, Any], came: dict[str, Any]) -> dict[str, Any]:
    return {
        leaf_id: leaf
        for leaf_id, leaf in changed.items()
        if leaf_id not in came or hlc_of(came[leaf_id]) != hlc_of(leaf)
    }
