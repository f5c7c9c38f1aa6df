"""What is decided of a peer's changes before any of them is merged, and what follows for those that are not.

Whoever decides may take its time: until it has, a `Proposal` waits, and neither the store nor anybody else has seen it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.diff import stamped
from mergesync.store.hlc import successor
from mergesync.sync.admission import ByRow, Place
from mergesync.types import MergeableChanges

__all__ = ["Proposal", "Reviewer", "Verdict", "rulings", "without"]

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """Changes that a peer wants to be merged.

    Attributes:
        sender: the peer.
        body: what of its changes `Admission` lets through.
        pulled: whether they were asked for, and so are what many transactions left; else they are those of one.
    """

    sender: str
    body: MergeableChanges
    pulled: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a proposal.

    Attributes:
        taken: what is merged; the very body of the proposal if that is all of it.
        refused: the HLCs of the leaves that are not.
        instead: wire forms to write under newer stamps, for refused leaves or others.
        reasons: why leaves were refused, as sentences' ends; none if that was reported already.
        corrects: whether refused leaves are answered with the values to keep. Else their writer keeps its own.
        denied: whether it is a no to all of it, rather than what was left of it.
    """

    taken: MergeableChanges
    refused: ByRow[str] = field(default_factory=dict)
    instead: ByRow[Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    corrects: bool = True
    denied: bool = False

    @property
    def dropped(self) -> ByRow[str]:
        """The refused leaves for which nothing is written instead."""
        if not self.instead:
            return self.refused
        rows = {
            place: {leaf_id: hlc for leaf_id, hlc in row.items() if leaf_id not in self.instead.get(place, ())}
            for place, row in self.refused.items()
        }
        return {place: row for place, row in rows.items() if row}


class Reviewer(Protocol):
    """Who decides."""

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide of a proposal; None if that takes time, and `reviewed` will be called with the verdict."""


def rulings(store: MergeableStore, verdict: Verdict, client: str) -> MergeableChanges:
    """What is written here so that everybody ends with what was decided: each leaf under a stamp that beats the others.

    A refused leaf needs none if what is here is newer by now: its writer gets that as everybody does. What was decided
    to be written against the schema of the store is not, as anything that is written here so.

    Args:
        store: only read.
        verdict: what was decided; what it takes is in the store.
        client: the client part to sign with.
    """
    places = {**verdict.refused, **verdict.instead} if verdict.corrects else verdict.instead
    successors: dict[str, str | None] = {}  # of one transaction most leaves have the same
    tables: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for place in places:
        written: dict[str, Any] = {}
        for leaf_id, (wire, newest) in _ruled(store, place, verdict).items():
            if newest not in successors:
                successors[newest] = successor(newest, client)
            hlc = successors[newest]
            if hlc is not None:
                written[leaf_id] = [wire, hlc]
        table_id, row_id = place
        if table_id is None:
            values = written
        elif written:
            tables.setdefault(table_id, [{}])[0][row_id] = [written]
    return [[tables], [values], 1]


def _ruled(store: MergeableStore, place: Place, verdict: Verdict) -> dict[str, tuple[Any, str]]:
    """The wire forms to write in a row, each with the HLC that it must beat."""
    refused, instead = verdict.refused.get(place, _NOTHING), verdict.instead.get(place, _NOTHING)
    if instead and store.has_schema():
        instead = {leaf_id: wire for leaf_id, wire in instead.items() if store.fits_schema(place[0], leaf_id, wire)}
    ruled = {}
    if verdict.corrects:
        left = {leaf_id: hlc for leaf_id, hlc in refused.items() if leaf_id not in instead} if instead else refused
        present, kept = store.get_hlcs(*place, left), store.get_kept(*place, left)
        ruled = {leaf_id: (kept[leaf_id], hlc) for leaf_id, hlc in left.items() if present[leaf_id] <= hlc}
    if instead:
        present = store.get_hlcs(*place, instead)
        for leaf_id, wire in instead.items():
            ruled[leaf_id] = wire, max(refused.get(leaf_id, ""), present[leaf_id])
    return ruled


def without(changes: MergeableChanges, leaves: Mapping[Place, Collection[str]]) -> MergeableChanges:
    """Changes without some of their leaves, and without the containers that have nothing left."""
    tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        rows: dict[str, Any] = {}
        for row_id, row in table[0].items():
            cells = _rest(row[0], leaves.get((table_id, row_id), ()))
            if cells or not row[0]:
                rows[row_id] = stamped(cells, hlc_of(row))
        if rows or not table[0]:
            tables[table_id] = stamped(rows, hlc_of(table))
    values = _rest(changes[1][0], leaves.get((None, ""), ()))
    return [stamped(tables, hlc_of(changes[0])), stamped(values, hlc_of(changes[1])), 1]


def _rest(stamps: dict[str, Any], leaves: Collection[str]) -> dict[str, Any]:
    if not leaves:
        return stamps
    if len(leaves) == len(stamps):  # the common case
        return {}
    return {leaf_id: stamp for leaf_id, stamp in stamps.items() if leaf_id not in leaves}
