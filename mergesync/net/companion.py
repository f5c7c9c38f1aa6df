"""The path that says who is on another one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from mergesync.exceptions import MergesyncError, RefusedError
from mergesync.net.actions import Actions
from mergesync.net.hooks import Hooks
from mergesync.net.path import Path, PathExit, PathOptions
from mergesync.net.presence import Presence, mistake
from mergesync.net.reviewing import PathReviewer
from mergesync.net.server_path import ServerPath
from mergesync.net.turns import Turns
from mergesync.rooms.access import Client
from mergesync.rooms.changes import Changes
from mergesync.store import MergeableStore
from mergesync.sync.review import Reviewer

__all__ = ["CompanionPath"]


class CompanionPath(Path):
    """A path in memory whose store is the presence of another; persisters, actions and other hooks are not for it.

    Args:
        path_id: the path.
        options: of the server.
        exit: where everything goes.
        turns: the application's callbacks about the other path.
        presence: whose rows are its content.
        predecessor: the path of the same id that has not ended yet.
        get_main: the other path, while it has clients.
    """

    def __init__(
        self,
        path_id: str,
        options: PathOptions,
        exit: PathExit,
        turns: Turns,
        presence: Presence,
        predecessor: Path | None,
        get_main: Callable[[], Path | None],
    ) -> None:
        self._rows = presence
        self._get_main = get_main
        self._on_presence = options.hooks.on_presence
        options = replace(
            options,
            create_persister_for_path=None,
            relay=False,
            hooks=Hooks(timeout_seconds=options.hooks.timeout_seconds),
            actions=Actions(),
        )
        super().__init__(path_id, options, exit, turns, None, predecessor)

    def _make_reviewer(self) -> Reviewer:
        return PathReviewer(self, self._rows.judge, None if self._on_presence is None else self._on_changes)

    def _replica(self) -> MergeableStore:
        return self._rows.store

    def _on_changes(self, _: ServerPath, client: Client, changes: Changes) -> Any:
        """A client writes to its own row: ask the application about what it would say of itself then."""
        assert self._on_presence is not None, "else nobody asks"
        main = self._get_main()
        assert main is not None, "who has a row is on it"
        speaker = main.client(client.id)
        assert speaker is not None, "likewise"
        state = self._rows.wanted(client, changes)
        result = self._on_presence(main.handle, speaker, state)
        if inspect.isawaitable(result):
            return self._take_later(result, client, changes, state)
        return self._take(client, changes, state)

    async def _take_later(
        self, result: Awaitable[Any], client: Client, changes: Changes, state: dict[str, Any]
    ) -> None:
        await result
        self._take(client, changes, state)

    def _take(self, client: Client, changes: Changes, state: dict[str, Any]) -> None:
        """What the application has left of it is what the client says."""
        if not self._rows.shows(client.id):
            raise RefusedError("the client has gone")
        try:
            self._rows.put_back(client, changes, state)
        except MergesyncError as error:
            raise mistake(error) from None
