"""The path that says who is on another one."""

from __future__ import annotations

from dataclasses import replace

from mergesync.net.actions import Actions
from mergesync.net.hooks import Hooks
from mergesync.net.path import Path, PathExit, PathOptions
from mergesync.net.presence import Presence
from mergesync.net.turns import Turns
from mergesync.store import MergeableStore

__all__ = ["CompanionPath"]


class CompanionPath(Path):
    """A path in memory whose store is the presence of another; hooks, persisters and actions are not for it.

    Args:
        path_id: the path.
        options: of the server.
        exit: where everything goes.
        turns: for what it has to do in order.
        presence: whose rows are its content.
        predecessor: the path of the same id that has not ended yet.
    """

    def __init__(
        self,
        path_id: str,
        options: PathOptions,
        exit: PathExit,
        turns: Turns,
        presence: Presence,
        predecessor: Path | None,
    ) -> None:
        self._rows = presence
        options = replace(
            options,
            create_persister_for_path=None,
            relay=False,
            hooks=Hooks(timeout_seconds=options.hooks.timeout_seconds),
            actions=Actions(),
        )
        super().__init__(path_id, options, exit, turns, None, predecessor)

    def _make_reviewer(self) -> Presence:
        return self._rows

    def _replica(self) -> MergeableStore:
        return self._rows.store
