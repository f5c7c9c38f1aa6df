"""Merging what peers send: all of it that may be taken, and a word about the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from mergesync.exceptions import MergesyncError, RefusedChangesError, SyncError
from mergesync.store import MergeableStore
from mergesync.sync.admission import Admission, has_unstamped, split
from mergesync.sync.payloads import EVERYONE, SERVER
from mergesync.types import MergeableChanges

__all__ = ["Complaints", "Intake", "Origin", "blamed"]

_Error = TypeVar("_Error", bound=MergesyncError)


@dataclass(frozen=True, slots=True)
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

    Attributes:
        origin: what is being merged at present.
    """

    def __init__(self, store: MergeableStore, complaints: Complaints, *, authority: bool) -> None:
        self.origin: Origin | None = None
        self._store = store
        self._complaints = complaints
        self._authority = authority

    def merge(self, sender: str, changes: MergeableChanges, newest: str, *, pulled: bool = False) -> None:
        """Merge what may be taken of a peer's changes.

        An authority looks at each leaf where its schema may refuse it, or where two values may have one stamp: among
        leaves without a stamp, and among those that a comparison of hashes has brought.

        Args:
            sender: from whom.
            changes: checked in form.
            newest: the greatest HLC in them.
            pulled: whether they were asked for, because hashes differed.
        """
        admission = Admission(self._store, authority=self._authority)
        looks = self._authority and (pulled or self._store.has_schema() or has_unstamped(changes))
        if newest <= admission.latest and not looks:
            self._apply(sender, changes)
            return
        parts = split(changes, admission.judge, admission.latest)
        self._apply(sender, parts.taken)
        if parts.count:
            reasons = tuple(reason.value for reason in parts.reasons)
            self._complaints.report(blamed(RefusedChangesError(parts.count, reasons), sender))
            self._complaints.refused(sender, parts.refused)

    def _apply(self, sender: str, changes: MergeableChanges) -> None:
        """Merge; what a listener that raised has taken back counts as refused, as its writer must hear of that."""
        self.origin = Origin(sender, changes)
        try:
            merged = self.merge_own(changes)
        finally:
            self.origin = None
        if not merged:
            self._complaints.refused(sender, changes)

    def merge_own(self, changes: MergeableChanges) -> bool:
        """Merge stamps that were made here, or to be taken; whether no listener of the application raised.

        What was raised is reported.
        """
        try:
            self._store.merge_checked(changes)
        except Exception as error:
            self._complaints.report(error)
            return False
        return True
