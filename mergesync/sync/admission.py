"""What of a peer's changes may be taken, and what is answered to the rest.

TinyBase refuses a whole body for one stamp too far in the future, and says nothing to anybody (surprise 3). Here the
other leaves are taken, the refusal is reported, and whoever wrote the stamp is given the value to keep.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.diff import stamped
from mergesync.store.hlc import successor
from mergesync.store.jsjson import dumps
from mergesync.types import MergeableChanges

__all__ = [
    "Admission", "ByRow", "Leaf", "Place", "Reason", "Split", "body_of", "body_within", "changes_beyond", "correction",
    "has_bare_containers", "has_unstamped", "is_blank", "is_empty", "leaf_size", "leaves_of", "rows_of", "split",
]  # fmt: skip


class Reason(enum.Enum):
    """Why a leaf is refused."""

    FUTURE = "too far in the future"
    SCHEMA = "against the schema"
    TAKEN = "another value has the same stamp"


Judge: TypeAlias = Callable[[str | None, str, str, Any], Reason | None]
"""`judge(table id or None for values, row id, leaf id, stamp)`: why the leaf may not be taken, or None if it may."""


Leaf: TypeAlias = tuple[str | None, str, str]
"""`(table id or None for values, row id, leaf id)`."""

Place: TypeAlias = tuple[str | None, str]
"""`(table id or None for values, row id)`."""

_Said = TypeVar("_Said", covariant=True)

ByRow: TypeAlias = Mapping[Place, Mapping[str, _Said]]
"""Something that is said of leaves, row by row, by their ids."""


def rows_of(changes: MergeableChanges) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """The leaves of each row of changes, then the values: `(table id or None, row id, leaves)`."""
    for table_id, table in changes[0][0].items():
        for row_id, row in table[0].items():
            yield table_id, row_id, row[0]
    yield None, "", changes[1][0]


def leaves_of(changes: MergeableChanges) -> Iterator[tuple[Leaf, Any]]:
    """Every leaf of changes with its stamp."""
    for table_id, table in changes[0][0].items():
        for row_id, row in table[0].items():
            for cell_id, stamp in row[0].items():
                yield (table_id, row_id, cell_id), stamp
    for value_id, stamp in changes[1][0].items():
        yield (None, "", value_id), stamp


def body_of(leaves: dict[Leaf, Any]) -> MergeableChanges:
    """Changes of these leaves."""
    tables: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for (table_id, row_id, leaf_id), stamp in leaves.items():
        if table_id is None:
            values[leaf_id] = stamp
        else:
            tables.setdefault(table_id, [{}])[0].setdefault(row_id, [{}])[0][leaf_id] = stamp
    return [[tables], [values], 1]


def leaf_size(leaf: Leaf, wire: Any) -> int:
    """About how many bytes of JSON a leaf takes with its stamp."""
    return sum(len(id_) for id_ in leaf if id_) + (len(wire) if isinstance(wire, str) else 24) + 24


def body_within(max_bytes: int, leaves: Iterable[tuple[Leaf, Any]]) -> MergeableChanges | None:
    """Changes of these leaves, the last of each; None if they are more than so many bytes."""
    found: dict[Leaf, Any] = {}
    for leaf, stamp in leaves:
        max_bytes -= leaf_size(leaf, stamp[0])
        if max_bytes < 0:
            return None
        found[leaf] = stamp
    return body_of(found)


def is_empty(changes: MergeableChanges) -> bool:
    """Whether no leaf is in these changes."""
    return not changes[0][0] and not changes[1][0]


def is_blank(changes: MergeableChanges) -> bool:
    """Whether these changes say nothing at all, not even an HLC of a container."""
    return is_empty(changes) and len(changes[0]) == len(changes[1]) == 1


def has_unstamped(changes: MergeableChanges) -> bool:
    """Whether some leaf has the empty HLC, as defaults have."""
    for table in changes[0][0].values():
        for row in table[0].values():
            for leaf in row[0].values():
                if len(leaf) == 1 or not leaf[1]:
                    return True
    return any(len(leaf) == 1 or not leaf[1] for leaf in changes[1][0].values())


def has_bare_containers(changes: MergeableChanges) -> bool:
    """Whether something is said of containers beyond their leaves: they have an HLC, or nothing in them."""
    tables, values = changes[0], changes[1]
    if len(tables) > 1 or len(values) > 1:
        return True
    for table in tables[0].values():
        if len(table) > 1 or not table[0]:
            return True
        for row in table[0].values():
            if len(row) > 1 or not row[0]:
                return True
    return False


class Admission:
    """Judges leaves.

    A leaf that would not be taken anyway, because what is here is newer, is never refused: its writer hears of the
    newer one as everybody does.

    Args:
        store: only read.
        authority: whether what this store decides holds for its peers. Then its schema decides, too; and where two
            values have the same stamp (two defaults, or two stores with one unique id), which otherwise would stay
            apart for ever, its own stays.
    """

    def __init__(self, store: MergeableStore, *, authority: bool) -> None:
        self._store = store
        self._authority = authority
        self._latest = store.latest_allowed_hlc()

    @property
    def latest(self) -> str:
        """The greatest HLC that is not too far in the future."""
        return self._latest

    def judge(self, table_id: str | None, row_id: str, leaf_id: str, leaf: Any) -> Reason | None:
        """Why the leaf may not be taken, or None if it may."""
        hlc = hlc_of(leaf)
        present = self._store.get_stamp(table_id, row_id, leaf_id)
        if present is not None and hlc <= present[1]:
            tie = self._authority and hlc == present[1] and dumps(leaf[0]) != dumps(present[0])
            return Reason.TAKEN if tie else None
        if hlc > self._latest:
            return Reason.FUTURE
        if self._authority and not self._store.fits_schema(table_id, leaf_id, leaf[0]):
            return Reason.SCHEMA
        return None


@dataclass(slots=True)
class Split:
    """Changes, parted.

    Attributes:
        taken: what may be taken; the very changes if that is all of them.
        refused: the other leaves.
        count: how many are refused.
        reasons: why.
    """

    taken: MergeableChanges
    refused: MergeableChanges = field(default_factory=lambda: [[{}], [{}], 1])
    count: int = 0
    reasons: dict[Reason, None] = field(default_factory=dict)


def split(changes: MergeableChanges, judge: Judge, latest: str) -> Split:
    """Part checked changes into what may be taken and what is refused, leaf by leaf.

    Args:
        changes: `[tables, values, 1]`.
        judge: whether a leaf may be taken.
        latest: a greater HLC of a container is left out.
    """
    parting = _Parting(judge, latest)
    tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        rows: dict[str, Any] = {}
        for row_id, row in table[0].items():
            leaves = parting.part(table_id, row_id, row[0])
            if leaves or not row[0]:
                rows[row_id] = parting.container(leaves, row)
        if rows or not table[0]:
            tables[table_id] = parting.container(rows, table)
    values = parting.part(None, "", changes[1][0])
    taken = [parting.container(tables, changes[0]), parting.container(values, changes[1]), 1]
    result = parting.result
    result.taken = taken if parting.changed else changes
    return result


class _Parting:
    """What `split` knows while it walks."""

    def __init__(self, judge: Judge, latest: str) -> None:
        self.result = Split([])
        self.changed = False
        self._judge = judge
        self._latest = latest

    def part(self, table_id: str | None, row_id: str, leaves: dict[str, Any]) -> dict[str, Any]:
        """The leaves of a row, or of the values, that may be taken."""
        refused = {}
        for leaf_id, leaf in leaves.items():
            reason = self._judge(table_id, row_id, leaf_id, leaf)
            if reason is not None:
                refused[leaf_id] = leaf
                self.result.reasons[reason] = None
        if not refused:
            return leaves
        self.changed = True
        self.result.count += len(refused)
        if table_id is None:
            self.result.refused[1][0] = refused
        else:
            self.result.refused[0][0].setdefault(table_id, [{}])[0][row_id] = [refused]
        return {leaf_id: leaf for leaf_id, leaf in leaves.items() if leaf_id not in refused}

    def container(self, children: dict[str, Any], stamp: list[Any]) -> list[Any]:
        """The stamp of a container, without an HLC that is too far in the future."""
        hlc = hlc_of(stamp)
        if hlc > self._latest:
            self.changed = True
            hlc = ""
        return stamped(children, hlc)


def correction(store: MergeableStore, refused: MergeableChanges, client: str) -> dict[Leaf, Any]:
    """For every refused leaf the value to keep, under the least stamp that beats the refused one.

    A leaf that already has that value needs none, nor has one whose stamp nothing can beat.

    Args:
        store: only read.
        refused: the leaves refused.
        client: the client part to sign with.
    """
    kept = {}
    for leaf, stamp in leaves_of(refused):
        wire = store.get_kept(*leaf[:2], (leaf[2],))[leaf[2]]
        hlc = successor(hlc_of(stamp), client)
        if hlc is not None and dumps(wire) != dumps(stamp[0]):
            kept[leaf] = [wire, hlc]
    return kept


def changes_beyond(changes: MergeableChanges, body: MergeableChanges) -> MergeableChanges:
    """The leaves of some changes that others do not have, or have with another stamp."""
    if changes == body:  # the common case
        return [[{}], [{}], 1]
    tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        came_rows = body[0][0].get(table_id, [{}])[0]
        for row_id, row in table[0].items():
            leaves = _leaves_beyond(row[0], came_rows.get(row_id, [{}])[0])
            if leaves:
                tables.setdefault(table_id, [{}])[0][row_id] = [leaves]
    return [[tables], [_leaves_beyond(changes[1][0], body[1][0])], 1]


def _leaves_beyond(changed: dict[str, Any], came: dict[str, Any]) -> dict[str, Any]:
    return {
        leaf_id: leaf
        for leaf_id, leaf in changed.items()
        if leaf_id not in came or hlc_of(came[leaf_id]) != hlc_of(leaf)
    }
