"""What a store has and its storage, or a server's, lacks: nothing, some stamps, or all of it.

Stamps are kept by leaf, so what waits while saving fails is never more than the store itself.
"""

from __future__ import annotations

from typing import Any

from mergesync.store.bodies import hlc_of
from mergesync.types import MergeableChanges

__all__ = ["Unsaved", "difference", "has_stamps", "no_changes", "overlay"]

_TABLES_DEPTH = 3
_VALUES_DEPTH = 1


def has_stamps(changes: MergeableChanges) -> bool:
    """Whether changes say anything: a leaf, a container named without leaves, or a container's own stamp."""
    return any(stamp[0] or len(stamp) > 1 for stamp in changes[:2])


def no_changes() -> MergeableChanges:
    """Changes that say nothing."""
    return [[{}], [{}], 1]


def overlay(below: MergeableChanges, above: MergeableChanges) -> None:
    """Lay changes over others, leaf by leaf; `below` is changed, and takes over parts of `above`."""
    _lay(below[0], above[0], _TABLES_DEPTH)
    _lay(below[1], above[1], _VALUES_DEPTH)


def _lay(below: list[Any], above: list[Any], depth: int) -> None:
    below[1:] = above[1:] or below[1:]
    children = below[0]
    for id_, child in above[0].items():
        if depth > 1 and id_ in children:
            _lay(children[id_], child, depth - 1)
        else:
            children[id_] = child


def difference(changes: MergeableChanges, known: Any) -> MergeableChanges:
    """The stamps of changes that are not in others; if the others are no changes, all."""
    if not isinstance(known, list) or len(known) != 3:
        return changes
    tables = _subtract(changes[0], known[0], _TABLES_DEPTH) or [{}]
    return [tables, _subtract(changes[1], known[1], _VALUES_DEPTH) or [{}], 1]


def _subtract(stamp: list[Any], known: list[Any] | None, depth: int) -> list[Any] | None:
    if known is None:
        return stamp
    if stamp == known:
        return None
    if depth == 0:
        return stamp
    children = {}
    for id_, child in stamp[0].items():
        rest = _subtract(child, known[0].get(id_), depth - 1)
        if rest is not None:
            children[id_] = rest
    return [children, *stamp[1:]] if children or stamp[1:] != known[1:] else None


def _discard(leaves: dict[str, Any], newer: dict[str, Any]) -> None:
    for leaf_id in leaves.keys() & newer.keys():
        if hlc_of(newer[leaf_id]) > hlc_of(leaves[leaf_id]):
            del leaves[leaf_id]


class Unsaved:
    """Collects what is to be saved.

    Attributes:
        everything: whether all that the store holds is to be saved, because nobody knows what storage lacks.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self.everything: bool = everything
        self._changes: MergeableChanges = no_changes()

    def __bool__(self) -> bool:
        return self.everything or has_stamps(self._changes)

    @property
    def changes(self) -> MergeableChanges:
        """The stamps to be saved; to be ignored where `everything` is true."""
        return self._changes

    def add(self, changes: MergeableChanges) -> None:
        """Add what a transaction changed."""
        if not self.everything:
            overlay(self._changes, changes)

    def add_everything(self) -> None:
        """From now on, all of the store is unsaved."""
        self.everything = True
        self._changes = no_changes()

    def discard(self, changes: MergeableChanges) -> None:
        """Of these leaves, those need not be saved any more that others have written since."""
        tables, newer = self._changes[0][0], changes[0][0]
        for table_id in tables.keys() & newer.keys():
            rows, newer_rows = tables[table_id][0], newer[table_id][0]
            for row_id in rows.keys() & newer_rows.keys():
                _discard(rows[row_id][0], newer_rows[row_id][0])
        _discard(self._changes[1][0], changes[1][0])

    def put_back(self, older: Unsaved) -> None:
        """Take back what could not be saved; what was added since is newer."""
        if older.everything:
            self.add_everything()
        elif not self.everything:
            newer, self._changes = self._changes, older._changes
            overlay(self._changes, newer)
