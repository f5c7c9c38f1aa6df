"""A path as the application on the server has it: its store, who is there, what version it is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from mergesync.exceptions import PathClosedError
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore

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

    async def durable(self) -> None:
        """Return when all that was written is stored."""


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
            PathClosedError: nobody is there any more, and it was let go of.
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
        """Another text after each change, and the same on all stores that are equal; to be compared, not to be read.

        It covers stamps, so that what is written again under a newer stamp makes another version.
        """
        tables, values = self.store.get_mergeable_content_hashes()
        return f"{tables:08x}{values:08x}"

    def transaction(self) -> AbstractContextManager[Any]:
        """Write several things at once: others see all of it or nothing, and an error takes all of it back.

        Example:
            with path.transaction():
                path.store.set_cell("pets", "fido", "sold", True)
                path.store.set_value("sales", 1)
        """
        return self.store.transaction()

    async def durable(self) -> None:
        """Return when all that was written to the store before is on disk.

        Raises:
            NotDurableError: the path has no persister.
            SaveError: it cannot be stored.
            PathClosedError: the path is not open.
        """
        await self._path.durable()
