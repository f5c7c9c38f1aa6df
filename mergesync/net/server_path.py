"""A path as the application on the server has it: its store, who is there, what version it is."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mergesync.exceptions import PathClosedError
from mergesync.limits import DEFAULT_ACTION_TIMEOUT_SECONDS
from mergesync.net.channel import check_close
from mergesync.net.farewells import CLOSE_EJECTED, CLOSE_PATH_CLOSED, ejected
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.sync.talk import SendResult, Talk, addressed
from mergesync.sync.versions import Edits, compare_and_set, version_of

__all__ = ["OpenPath", "ServerPath"]


class OpenPath(Protocol):
    """What is behind a `ServerPath`."""

    path_id: str

    @property
    def store(self) -> MergeableStore | None:
        """The replica while it is in use."""

    @property
    def members(self) -> list[Client]:
        """Who is on the path."""

    @property
    def talk(self) -> Talk:
        """The messages of its clients."""

    async def ask(self, to: Iterable[str] | None, message: Any, timeout_seconds: float) -> Any:
        """Send a message, and return `[name, answer]` of the first who answers."""

    async def durable(self) -> None:
        """Return when all that was written is stored."""

    def eject(self, client: Client, code: int, reason: str, ban_seconds: float) -> None:
        """Put a client out."""

    async def close_clients(self, code: int, reason: str) -> None:
        """Put all clients out, and store what they have written."""


class ServerPath:
    """A path on the server, with or without clients; see `WsServer.path` and `WsServer.open_path`.

    Attributes:
        id: the path's.
    """

    def __init__(self, path: OpenPath) -> None:
        self.id: str = path.path_id
        self._path = path

    @property
    def store(self) -> MergeableStore:
        """The path's store: what is written to it goes to all clients, and to the persister.

        Raises:
            PathClosedError: nobody is there any more, and it was let go of; or it is a relay without storage.
        """
        store = self._path.store
        if store is None:
            raise PathClosedError("the path is not open", path_id=self.id)
        return store

    @property
    def clients(self) -> list[Client]:
        """Who is there, in order of joining."""
        return self._path.members

    @property
    def version(self) -> str:
        """Another text after each change, and the same on all stores that are equal; for `compare_and_set`.

        It covers stamps, so that what is written again under a newer stamp makes another version.
        """
        return version_of(self.store)

    def version_of(
        self,
        table_id: str | None = None,
        row_id: str | None = None,
        cell_id: str | None = None,
        *,
        value_id: str | None = None,
    ) -> str:
        """The same of a table, a row, a cell or a value."""
        return version_of(self.store, table_id, row_id, cell_id, value_id=value_id)

    def compare_and_set(self, version: str, edits: Edits) -> str:
        """Make changes if something still has this version, as `WsSynchronizer.compare_and_set` does for clients.

        Args:
            version: of what the changes depend on.
            edits: `(tables, values)`: the cells and values to set, with `MISSING` for what is to go.

        Returns:
            The version after it.

        Raises:
            StaleVersionError: it has another version by now.
            ContentError: the changes are malformed.
        """
        return compare_and_set(self.store, version, edits)

    def transaction(self) -> AbstractContextManager[Any]:
        """Write several things at once: others see all of it or nothing, and an error takes all of it back.

        Example:
            with path.transaction():
                path.store.set_cell("pets", "fido", "sold", True)
                path.store.set_value("sales", 1)
        """
        return self.store.transaction()

    # --- messages

    @property
    def names(self) -> list[str]:
        """What clients are called here; each name once."""
        return self._path.talk.names.all()

    def name_of(self, client: Client) -> str | None:
        """What a client is called, if it has said so."""
        return self._path.talk.names.name_of(client.id)

    def send(self, to: str | Iterable[str] | None, message: Any) -> SendResult:
        """Send a message to clients, once; who is not there does not get it.

        Args:
            to: a name, or several, or None for everybody who has one.
            message: JSON.
        """
        return self._path.talk.send(None, addressed(to), message)

    async def ask(
        self,
        to: str | Iterable[str] | None,
        message: Any,
        *,
        timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS,
    ) -> tuple[str | None, Any]:
        """Send a message to clients, and return the first answer, with the name of who gave it.

        Raises:
            RequestFailedError: `reason` is "no-receiver", "no-answer" or "timeout".
        """
        name, answer = await self._path.ask(addressed(to), message, timeout_seconds)
        return name, answer

    # --- putting out

    async def eject(
        self, client: Client, code: int = CLOSE_EJECTED, reason: str = "", *, ban_seconds: float = 0.0
    ) -> None:
        """Put a client out of the path: its socket is closed, or its channel is silent. `on_leave` is told "ejected".

        Args:
            client: one of `clients`; if it has gone already, only the ban counts.
            code: what its socket is closed with.
            reason: likewise.
            ban_seconds: for how long it may not come back, nor may others with its identity, who are put out as well;
                if there is no `authorize`, others with its address. With `lives` it is kept in the storage.

        Raises:
            ValueError: a close frame cannot carry these.

        Example:
            await path.eject(client, reason="no swearing", ban_seconds=600)
        """
        check_close(code, ejected(code, reason, ban_seconds).reason)
        self._path.eject(client, code, reason, ban_seconds)

    async def close(self, code: int = CLOSE_PATH_CLOSED, reason: str = "") -> None:
        """Put all clients out, and return when all that they have written is stored. They may come back.

        Raises:
            ValueError: a close frame cannot carry these.
            SaveError: it could not be stored.
        """
        check_close(code, reason)
        await self._path.close_clients(code, reason)

    # --- storage

    async def durable(self) -> None:
        """Return when all that was written to the store before is on disk.

        Raises:
            NotDurableError: the path has no persister.
            SaveError: it cannot be stored.
            PathClosedError: the path is not open.
        """
        await self._path.durable()
