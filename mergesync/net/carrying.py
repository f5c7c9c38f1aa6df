"""Carrying out what was decided of a change that is made here for a client, and is in no other replica yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mergesync.exceptions import RefusedError
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.hlc import CLIENT_PART_LENGTH
from mergesync.sync.admission import leaves_of
from mergesync.sync.review import Verdict, rulings
from mergesync.system import new_id
from mergesync.types import MergeableChanges

__all__ = ["carry_out", "check_let_through"]


def check_let_through(verdict: Verdict, client: Client) -> None:
    """See to it that something of a change may be made.

    Raises:
        RefusedError: all of it was refused.
    """
    if verdict.denied:
        text = "; ".join(verdict.reasons) or "the application failed"
        raise RefusedError(text, path_id=client.path_id, client_id=client.id)


def carry_out(store: MergeableStore, verdict: Verdict, report: Callable[[Exception], None]) -> None:
    """Make what was decided of a change that is in no other replica yet.

    Args:
        store: where.
        verdict: what was decided.
        report: hears of a listener that raised when the change was made.

    Raises:
        Exception: what a listener raised that has taken the change back.
    """
    body = verdict.taken
    try:
        with store.transaction():
            store.merge_checked(verdict.taken)
            body = rulings(store, replace(verdict, corrects=False), new_id(CLIENT_PART_LENGTH))
            store.merge_checked(body)
    except Exception as error:
        if not _is_made(store, verdict.taken) or not _is_made(store, body):
            raise
        report(error)


def _is_made(store: MergeableStore, changes: MergeableChanges) -> bool:
    """Whether changes are there, or something newer."""
    stamps = ((hlc_of(stamp), store.get_stamp(*leaf)) for leaf, stamp in leaves_of(changes))
    return all(present is not None and hlc <= present[1] for hlc, present in stamps)
