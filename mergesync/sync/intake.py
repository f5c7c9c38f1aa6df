"""Merging what peers send: all of it that may be taken, and a word about the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mergesync.exceptions import MergesyncError, RefusedChangesError, SyncError
from mergesync.limits import MAX_LEAVES_REJECTED
from mergesync.store import MergeableStore
from mergesync.store.hlc import CLIENT_PART_LENGTH
from mergesync.sync.admission import Admission, ByRow, Leaf, Split, has_unstamped, split
from mergesync.sync.payloads import EVERYONE, SERVER
from mergesync.sync.review import Proposal, Reviewer, Verdict, rulings
from mergesync.types import MergeableChanges, NewId

__all__ = ["Complaints", "Intake", "Origin", "blamed"]

_Error = TypeVar("_Error", bound=MergesyncError)


@dataclass(slots=True)  # as a message, of which each has one
class Origin:
    """A body that was merged.

    Attributes:
        sender: from whom.
        body: all of it, whether it changed anything or not.
    """

    sender: str
    body: MergeableChanges


class Complaints(Protocol):
    """Who hears what is wrong."""

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Hear which leaves of a peer were not taken."""


def blamed(error: _Error, sender: str) -> _Error:
    """The error with the client whose fault it is."""
    if isinstance(error, SyncError) and error.client_id is None and sender not in (EVERYONE, SERVER):
        error.client_id = sender
    return error


class Intake:
    """The way of peers' changes into a store.

    Args:
        store: the store; no transaction of the application is open when something is merged.
        complaints: who hears what is wrong with what was sent; nothing is raised.
        authority: see `Admission`.
        new_id: makes random ids.
        reviewer: decides what of it is merged; None: all of it.

    Attributes:
        origin: what is being merged at present.
        rejected: peers that keep what was refused, and so are not equal to the store; with what that is.
    """

    def __init__(
        self,
        store: MergeableStore,
        complaints: Complaints,
        *,
        authority: bool,
        new_id: NewId,
        reviewer: Reviewer | None = None,
    ) -> None:
        self.origin: Origin | None = None
        self.rejected: dict[str, dict[Leaf, str]] = {}
        self._store = store
        self._complaints = complaints
        self._authority = authority
        self._new_id = new_id
        self._reviewer = reviewer
        self._proposals: dict[Proposal, None] = {}

    def merge(self, sender: str, changes: MergeableChanges, newest: str, *, pulled: bool = False) -> Proposal | None:
        """Merge what may be taken of a peer's changes.

        An authority looks at each leaf where its schema may refuse it, or where two values may have one stamp: among
        leaves without a stamp, and among those that a comparison of hashes has brought.

        Args:
            sender: from whom.
            changes: checked in form.
            newest: the greatest HLC in them.
            pulled: whether they were asked for, because hashes differed.

        Returns:
            What waits for a verdict, if something does.
        """
        looks = self._authority and (pulled or self._store.has_schema() or has_unstamped(changes))
        if not looks and newest <= self._store.latest_allowed_hlc():
            return self._propose(sender, changes, pulled)
        admission = Admission(self._store, authority=self._authority)
        parts = split(changes, admission.judge, admission.latest)
        proposal = self._propose(sender, parts.taken, pulled)
        self._complain(sender, parts)
        return proposal

    def _complain(self, sender: str, parts: Split) -> None:
        if parts.count:
            reasons = tuple(reason.value for reason in parts.reasons)
            self._complaints.report(blamed(RefusedChangesError(parts.count, reasons), sender))
            self._complaints.refused(sender, parts.refused)

    def _propose(self, sender: str, changes: MergeableChanges, pulled: bool) -> Proposal | None:
        if self._reviewer is None:
            self._apply(sender, changes)
            return None
        proposal = Proposal(sender, changes, pulled)
        verdict = self._reviewer.review(proposal)
        if verdict is None:
            self._proposals[proposal] = None
            return proposal
        self._carry_out(sender, verdict)
        return None

    def waits_for(self, sender: str) -> bool:
        """Whether something that a peer proposed waits for its verdict."""
        return any(proposal.sender == sender for proposal in self._proposals)

    def conclude(self, proposal: Proposal, verdict: Verdict) -> None:
        """Act on a verdict that was waited for; meanwhile another value may have got the same stamp."""
        del self._proposals[proposal]
        admission = Admission(self._store, authority=self._authority)
        parts = split(verdict.taken, admission.judge, admission.latest)
        self._carry_out(proposal.sender, replace(verdict, taken=parts.taken))
        self._complain(proposal.sender, parts)

    def _carry_out(self, sender: str, verdict: Verdict) -> None:
        self._apply(sender, verdict.taken, verdict)
        dropped = verdict.dropped
        count = sum(map(len, dropped.values())) if verdict.corrects else self._note_rejected(sender, dropped)
        if count and verdict.reasons:
            self._complaints.report(blamed(RefusedChangesError(count, verdict.reasons), sender))

    def _note_rejected(self, sender: str, refused: ByRow[str]) -> int:
        """A peer keeps what was refused, and offers it again and again; returns how much of it is new."""
        if not refused:
            return 0
        known = self.rejected.setdefault(sender, {})
        leaves = {(*place, leaf_id): hlc for place, row in refused.items() for leaf_id, hlc in row.items()}
        new = {leaf: hlc for leaf, hlc in leaves.items() if known.get(leaf) != hlc}
        if len(known) + len(new) > MAX_LEAVES_REJECTED:
            known.clear()
        known |= new
        return len(new)

    def _apply(self, sender: str, taken: MergeableChanges, verdict: Verdict | None = None) -> None:
        """Merge what is taken, and in the same transaction write what else was decided.

        What a listener that raised has taken back counts as refused, as its writer must hear of that.
        """
        self.origin = Origin(sender, taken)
        try:
            if verdict is not None and (verdict.refused or verdict.instead):
                with self._store.transaction():
                    self._store.merge_checked(taken)
                    self._store.merge_checked(rulings(self._store, verdict, self._new_id(CLIENT_PART_LENGTH)))
            else:
                self._store.merge_checked(taken)
        except Exception as error:
            self._complaints.report(error)
            failed = True
        else:
            failed = False
        finally:
            self.origin = None
        if failed:
            self._complaints.refused(sender, taken)

    def merge_own(self, changes: MergeableChanges) -> None:
        """Merge stamps that were made here; what listeners of the application do wrong is reported."""
        try:
            self._store.merge_checked(changes)
        except Exception as error:
            self._complaints.report(error)
