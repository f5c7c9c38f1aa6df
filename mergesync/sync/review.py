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
from mergesync.sync.admission import Leaf
from mergesync.types import MergeableChanges

__all__ = ["Proposal", "Reviewer", "Verdict", "rulings", "without"]


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
    refused: Mapping[Leaf, str] = field(default_factory=dict)
    instead: Mapping[Leaf, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    corrects: bool = True
    denied: bool = False


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
    instead: Mapping[Leaf, Any] = verdict.instead
    if store.has_schema():
        instead = {leaf: wire for leaf, wire in instead.items() if store.fits_schema(leaf[0], leaf[2], wire)}
    rows: dict[tuple[str | None, str], dict[str, str]] = {}  # what each leaf must beat
    for leaves in (verdict.refused, instead) if verdict.corrects else (instead,):
        for leaf in leaves:
            rows.setdefault(leaf[:2], {})[leaf[2]] = verdict.refused.get(leaf, "")
    tables: dict[str, Any] = {}
    values: dict[str, Any] = {}
    successors: dict[str, str | None] = {}  # of one transaction most leaves have the same
    for (table_id, row_id), row in rows.items():
        kept = store.get_kept(table_id, row_id, row)
        written: dict[str, Any] = {}
        for leaf_id, newest in row.items():
            wire, present = kept[leaf_id]
            leaf = (table_id, row_id, leaf_id)
            if present > newest:
                if leaf not in instead:
                    continue
                newest = present
            if newest not in successors:
                successors[newest] = successor(newest, client)
            hlc = successors[newest]
            if hlc is not None:
                written[leaf_id] = [instead.get(leaf, wire), hlc]
        if table_id is None:
            values = written
        elif written:
            tables.setdefault(table_id, [{}])[0][row_id] = [written]
    return [[tables], [values], 1]


def without(changes: MergeableChanges, leaves: Collection[Leaf]) -> MergeableChanges:
    """Changes without some of their leaves, and without the containers that have nothing left."""
    rows_there = [row[0] for table in changes[0][0].values() for row in table[0].values()]
    has_rest = len(leaves) < sum(map(len, rows_there)) + len(changes[1][0])
    tables: dict[str, Any] = {}
    for table_id, table in changes[0][0].items():
        rows: dict[str, Any] = {}
        for row_id, row in table[0].items():
            cells = _rest(table_id, row_id, row[0], leaves) if has_rest else {}
            if cells or not row[0]:
                rows[row_id] = stamped(cells, hlc_of(row))
        if rows or not table[0]:
            tables[table_id] = stamped(rows, hlc_of(table))
    values = _rest(None, "", changes[1][0], leaves) if has_rest else {}
    return [stamped(tables, hlc_of(changes[0])), stamped(values, hlc_of(changes[1])), 1]


def _rest(table_id: str | None, row_id: str, stamps: dict[str, Any], leaves: Collection[Leaf]) -> dict[str, Any]:
    return {leaf_id: stamp for leaf_id, stamp in stamps.items() if (table_id, row_id, leaf_id) not in leaves}
