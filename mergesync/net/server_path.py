"""A path as the application on the server has it: its store, who is there, what version it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mergesync.exceptions import PathClosedError
from mergesync.limits import DEFAULT_ACTION_TIMEOUT_SECONDS
from mergesync.net.carrying import carry_out, check_let_through
from mergesync.net.channel import check_close
from mergesync.net.farewells import CLOSE_EJECTED, CLOSE_PATH_CLOSED, ejected
from mergesync.net.turns import Turns
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.sync.review import Verdict
from mergesync.sync.talk import SendResult, Talk, addressed
from mergesync.sync.versions import Edits, changes_of, compare_and_set, decode_edits, encode_edits, version_of
from mergesync.types import MergeableChanges

__all__ = ["OpenPath", "PathClients", "ServerPath"]


class PathClients(Protocol):
    """Who is on a path."""

    def __iter__(self) -> Iterator[Client]:
        """In order of joining."""

    def state_of(self, client: Client) -> dict[str, Any]:
        """What a client says of itself, or has said last, if it has just gone."""


class OpenPath(Protocol):
    """What is behind a `ServerPath`."""

    path_id: str

    @property
    def store(self) -> MergeableStore | None:
        """The replica while it is in use."""

    @property
    def members(self) -> PathClients:
        """Who is on the path."""

    @property
    def talk(self) -> Talk:
        """The messages of its clients."""

    @property
    def turns(self) -> Turns:
        """The application's callbacks about the path."""

    def review(self, client_id: str, body: MergeableChanges, decided: Callable[[Verdict], None]) -> None:
        """Decide what of a client's changes may be made, now or later."""

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """Hear of an error that nobody called for."""

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
        return list(self._path.members)

    def state_of(self, client: Client) -> dict[str, Any]:
        """What a client says of itself (`WsSynchronizer.set_presence`); in `on_leave`, what it has said last.

        Empty unless clients can see who is there: with `presence=True`, or gateways.
        """
        return self._path.members.state_of(client)

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

    async def change_as(self, client: Client, edits: Edits) -> None:
        """Make changes as if a client had written them: rules and `on_changes` decide of them, as of its own.

        Not in a hook or an action of this path, which would wait for itself; there, write to `store`.

        Args:
            client: who is on the path.
            edits: `(tables, values)`: the cells and values to set, with `MISSING` for what is to go.

        Raises:
            RefusedError: all of it was refused. Of less, what is in the store says what became of it.
            ContentError: they are malformed; likewise InvalidIdError and InvalidCellError.
            PathClosedError: the path is not open, or was closed before it was decided.
            RuntimeError: it is called in a hook of this path.

        Example:
            await path.change_as(client, ({"bids": {"vase": {"amount": 5}}}, {}))
        """
        if self._path.turns.is_caller:
            raise RuntimeError("a hook or an action cannot wait for another one of its path")
        body = changes_of(self.store, decode_edits(encode_edits(edits)))
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def decided(verdict: Verdict) -> None:
            try:
                check_let_through(verdict, client)
                carry_out(self.store, verdict, lambda error: self._path.report(error, client.id))
            except Exception as error:
                if not made.done():  # else nobody waits for it any more
                    made.set_exception(error)
            else:
                if not made.done():
                    made.set_result(None)

        self._path.review(client.id, body, decided)
        await made

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

    def send(
        self, to: str | Iterable[str] | None, message: Any, *, exclude: str | Iterable[str] | None = None
    ) -> SendResult:
        """Send a message to clients, once; who is not there does not get it.

        Args:
            to: a name, or several, or None for everybody who has one.
            message: JSON.
            exclude: a name, or several, whose holders do not get it nevertheless.

        Returns:
            Which names it was delivered to, which nobody has, and whose holders do not read.

        Example:
            told = path.send(None, {"doorbell": True}, exclude=path.name_of(client))
            print(len(told.delivered))
        """
        names = self.names if to is None else addressed(to) or []
        spared = frozenset(addressed(exclude) or ())
        return self._path.talk.send(None, [name for name in names if name not in spared], message)

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
