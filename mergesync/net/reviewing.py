"""The review of clients' changes on one path: what they may do there, the rules, then the application's hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mergesync.exceptions import RefusedError
from mergesync.net.hooks import Hooks
from mergesync.net.server_path import ServerPath
from mergesync.net.turns import Done
from mergesync.rooms.access import Client
from mergesync.rooms.changes import Changes, refusal, verdict_of
from mergesync.sync.review import Proposal, Verdict, without
from mergesync.types import MergeableChanges

__all__ = ["PathReviewer", "Reviewed"]

_READ_ONLY = ("the client may only read",)
_AGAINST_RULES = ("against the rules",)
_NOT_LET_THROUGH = ("the application did not let it through",)


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


class PathReviewer:
    """Decides what of clients' changes is merged; a hook that fails lets nothing through.

    Args:
        hooks: of the server.
        path: the path.
    """

    def __init__(self, hooks: Hooks, path: Reviewed) -> None:
        self._hooks = hooks
        self._path = path

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide of a proposal, now or later."""
        client = self._path.client(proposal.sender)
        if client is None or not client.access.write:
            return self._refusal(client, proposal.body, _READ_ONLY)
        if self._hooks.on_changes is None:
            return self._by_rules(client, proposal)
        return self._by_hook(self._hooks.on_changes, client, proposal)

    def _by_rules(self, client: Client, proposal: Proposal) -> Verdict:
        rules, body = self._hooks.rules, proposal.body
        if rules is None:
            return Verdict(body)
        try:
            refused = rules.refused(self._path.handle.store, client, body, pulled=proposal.pulled)
        except Exception as error:  # a function of the application that a rule asks
            self._path.report(error, client.id)
            return self._refusal(client, body, ())
        if not refused:
            return Verdict(body)
        return Verdict(
            without(body, refused), refused, {}, _AGAINST_RULES, _corrects(client), denied=not proposal.pulled
        )

    def _by_hook(self, on_changes: Callable[..., Any], client: Client, proposal: Proposal) -> Verdict | None:
        """Rules are asked when it is the hook's turn: they look at what is there, and what came before is by then."""
        path = self._path
        by_rules = Verdict(proposal.body)
        asked: list[Changes] = []
        decided: list[Verdict] = []
        later = False

        def ask() -> Any:
            nonlocal by_rules
            by_rules = self._by_rules(client, proposal)
            changes = Changes(path.handle.store, by_rules.taken, pulled=proposal.pulled)
            if not changes:
                return None
            asked.append(changes)
            return on_changes(path.handle, client, changes)

        def decide(_: Any, error: Exception | None) -> None:
            verdict = self._decided(client, by_rules, asked, error)
            if later:
                path.reviewed(proposal, verdict)
            else:
                decided.append(verdict)

        path.call(ask, decide)
        later = True
        return decided[0] if decided else None

    def _decided(self, client: Client, by_rules: Verdict, asked: list[Changes], error: Exception | None) -> Verdict:
        reasons: tuple[str, ...] = ()
        if error is None and asked:
            try:
                return _both(by_rules, verdict_of(asked[0], reasons=_NOT_LET_THROUGH, corrects=_corrects(client)))
            except Exception as mistake:  # it has made of the changes what they cannot be
                error = mistake
        if error is None:
            return by_rules
        if isinstance(error, RefusedError):
            reasons = (error.message,)
        else:
            self._path.report(error, client.id)
        return _both(by_rules, self._refusal(client, by_rules.taken, reasons))

    def _refusal(self, client: Client | None, body: MergeableChanges, reasons: tuple[str, ...]) -> Verdict:
        return refusal(self._path.handle.store, body, reasons, corrects=_corrects(client))


def _corrects(client: Client | None) -> bool:
    """Whether a client is told what to keep; not if that would tell what it may not read."""
    return client is not None and client.access.overwrite and client.access.read


def _both(one: Verdict, other: Verdict) -> Verdict:
    """A verdict, and another on what it takes."""
    return Verdict(
        other.taken,
        {**one.refused, **other.refused},
        other.instead,
        one.reasons + other.reasons,
        one.corrects and other.corrects,
        one.denied or other.denied,
    )
