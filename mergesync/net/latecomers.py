"""Clients that come back to a path with what was written before it was removed."""

from __future__ import annotations

from collections.abc import Callable

from mergesync.store.bodies import hlc_of
from mergesync.sync.admission import leaves_of, rows_of
from mergesync.sync.review import Proposal, Reviewer, Verdict, without

__all__ = ["Latecomers"]


class Latecomers:
    """A reviewer that lets nobody bring back what was removed, and asks another about the rest.

    Args:
        is_past: whether what has this stamp was written before the removal.
        put_out: called with a client that brings such a thing; nothing of what it brings is merged.
        others: decides of what all others bring; None: all of it is merged.
    """

    def __init__(self, is_past: Callable[[str], bool], put_out: Callable[[str], None], others: Reviewer | None) -> None:
        self._is_past = is_past
        self._put_out = put_out
        self._others = others

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide of a proposal, now or later."""
        if any(self._is_past(hlc_of(stamp)) for _, stamp in leaves_of(proposal.body)):
            self._put_out(proposal.sender)
            leaves = {(table_id, row_id): row for table_id, row_id, row in rows_of(proposal.body)}
            return Verdict(without(proposal.body, leaves), corrects=False)
        return Verdict(proposal.body) if self._others is None else self._others.review(proposal)
