"""The review of clients' changes on one path: what they may do there, the rules, then the application's hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from mergesync.exceptions import RefusedError
from mergesync.net.hooks import OnChanges
from mergesync.net.server_path import ServerPath
from mergesync.net.turns import Done
from mergesync.rooms.access import Client
from mergesync.rooms.changes import Changes, refusal, verdict_of
from mergesync.rooms.rules import Rules
from mergesync.sync.review import Proposal, Verdict, without
from mergesync.types import MergeableChanges

__all__ = ["Judge", "PathReviewer", "Reviewed", "judge_by"]

_READ_ONLY = ("the client may only read",)
_AGAINST_RULES = ("against the rules",)
_NOT_LET_THROUGH = ("the application did not let it through",)


Judge: TypeAlias = Callable[[Client, Proposal], Verdict]
"""Decides of what a client sends, before the application is asked."""


class Reviewed(Protocol):
    """The path whose changes are reviewed."""

    handle: ServerPath

    def client(self, client_id: str) -> Client | None:
        """Who sent something; None if that is not known any more."""

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        """Call the application when it is its turn."""

    def reviewed(self, proposal: Proposal, verdict: Verdict) -> None:
        """The hook took its time, and has decided."""

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """Hear of an error of a hook."""


def judge_by(rules: Rules, path: Reviewed) -> Judge:
    """Who decides by rules."""

    def judge(client: Client, proposal: Proposal) -> Verdict:
        body = proposal.body
        refused = rules.refused(path.handle.store, client, body, pulled=proposal.pulled)
        if not refused:
            return Verdict(body)
        return Verdict(
            without(body, refused), refused, {}, _AGAINST_RULES, _corrects(client), denied=not proposal.pulled
        )

    return judge


class PathReviewer:
    """Decides what of clients' changes is merged; a hook that fails lets nothing through.

    Args:
        path: the path.
        judge: decides first; None if nothing is to be decided there.
        on_changes: the hook; None if there is none.
    """

    def __init__(self, path: Reviewed, judge: Judge | None, on_changes: OnChanges | None) -> None:
        self._path = path
        self._judge = judge
        self._on_changes = on_changes

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide of a proposal, now or later."""
        client = self._path.client(proposal.sender)
        if client is None or not client.access.write:
            return self._refusal(client, proposal.body, _READ_ONLY)
        if self._on_changes is None:
            return self._judged(client, proposal)
        return self._by_hook(self._on_changes, client, proposal)

    def _judged(self, client: Client, proposal: Proposal) -> Verdict:
        if self._judge is None:
            return Verdict(proposal.body)
        try:
            return self._judge(client, proposal)
        except Exception as error:  # a function of the application that a rule asks
            self._path.report(error, client.id)
            return self._refusal(client, proposal.body, ())

    def _by_hook(self, on_changes: OnChanges, client: Client, proposal: Proposal) -> Verdict | None:
        """Rules are asked when it is the hook's turn: they look at what is there, and what came before is by then."""
        path = self._path
        judged = Verdict(proposal.body)
        asked: list[Changes] = []
        decided: list[Verdict] = []
        later = False

        def ask() -> Any:
            nonlocal judged
            judged = self._judged(client, proposal)
            changes = Changes(path.handle.store, judged.taken, pulled=proposal.pulled)
            if not changes:
                return None
            asked.append(changes)
            return on_changes(path.handle, client, changes)

        def decide(_: Any, error: Exception | None) -> None:
            verdict = self._decided(client, judged, asked, error)
            if later:
                path.reviewed(proposal, verdict)
            else:
                decided.append(verdict)

        path.call(ask, decide)
        later = True
        return decided[0] if decided else None

    def _decided(self, client: Client, judged: Verdict, asked: list[Changes], error: Exception | None) -> Verdict:
        reasons: tuple[str, ...] = ()
        if error is None and asked:
            try:
                return _both(judged, verdict_of(asked[0], reasons=_NOT_LET_THROUGH, corrects=_corrects(client)))
            except Exception as mistake:  # it has made of the changes what they cannot be
                error = mistake
        if error is None:
            return judged
        if isinstance(error, RefusedError):
            reasons = (error.message,)
        else:
            self._path.report(error, client.id)
        return _both(judged, self._refusal(client, judged.taken, reasons))

    def _refusal(self, client: Client | None, body: MergeableChanges, reasons: tuple[str, ...]) -> Verdict:
        return refusal(self._path.handle.store, body, reasons, corrects=_corrects(client))


def _corrects(client: Client | None) -> bool:
    """Whether a client is told what to keep; not if that would tell what it may not read."""
    return client is not None and client.access.overwrite and client.access.read


def _both(one: Verdict, other: Verdict) -> Verdict:
    """A verdict, and another on what it takes."""
    if not one.refused:
        return other
    return Verdict(
        other.taken,
        {place: {**one.refused.get(place, {}), **row} for place, row in {**one.refused, **other.refused}.items()},
        other.instead,
        one.reasons + other.reasons,
        one.corrects and other.corrects,
        one.denied or other.denied,
    )
