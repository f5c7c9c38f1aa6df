"""Who is on a path, and what the application and others hear of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from mergesync.exceptions import MergesyncError, RefusedError, RequestFailedError
from mergesync.net.farewells import Farewell, forbidden
from mergesync.net.hooks import Hooks, LeaveReason
from mergesync.net.presence import Presence, mistake
from mergesync.net.server_path import ServerPath
from mergesync.net.turns import Done
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore

__all__ = ["Members", "MembersPath"]


class MembersPath(Protocol):
    """The path that they are on."""

    handle: ServerPath

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        """Call the application when it is its turn."""

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """Hear of an error of a hook."""

    def put_out(self, client: Client, farewell: Farewell) -> None:
        """A client must go."""

    def end(self) -> None:
        """The application wants the path to go."""


class Members:
    """The clients of one path.

    Args:
        path: the path.
        hooks: of the server.
        presence: who is there, for all to see; None if nobody is told.
        name_of: what a client is called.
        created_at_seconds: when the path was made, since 1970.
    """

    def __init__(
        self,
        path: MembersPath,
        hooks: Hooks,
        presence: Presence | None,
        name_of: Callable[[str], str | None],
        created_at_seconds: float,
    ) -> None:
        self._path = path
        self._hooks = hooks
        self._presence = presence
        self._name_of = name_of
        self._created_at_seconds = created_at_seconds
        self._here: dict[str, Client] = {}
        self._departed: dict[str, Client] = {}  # something they have said may be held still
        self._joined: set[Client] = set()  # those of whom the application has been told
        self._last_words: dict[Client, dict[str, Any]] = {}  # until the application has been told that they are gone

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._here.values()))

    def __contains__(self, client: object) -> bool:
        return isinstance(client, Client) and self._here.get(client.id) is client

    def find(self, client_id: str) -> Client | None:
        """Who is there, or was a while ago."""
        return self._here.get(client_id) or self._departed.get(client_id)

    # --- coming

    def add(self, client: Client) -> None:
        """A client is there; the application hears of it by `welcome`."""
        self._here[client.id] = client

    def welcome(self, client: Client) -> None:
        """Tell the application of a client, unless it is gone by then."""
        on_join = self._hooks.on_join

        def welcome() -> Any:
            if client not in self:
                return None
            self._joined.add(client)
            return None if on_join is None else on_join(self._path.handle, client)

        def welcomed(_: Any, error: Exception | None) -> None:
            if error is None:
                self.show(client)
                return
            if not isinstance(error, RefusedError):
                cause, error = error, RefusedError("the application failed")
                self._path.report(cause, client.id)
            if client in self:
                self._path.put_out(client, forbidden(error.message))

        if on_join is not None or self._hooks.on_leave is not None:
            self._path.call(welcome, welcomed)
        else:
            self.show(client)

    # --- going

    def remove(self, client_id: str, *, held: bool) -> Client:
        """A client is there no more.

        Args:
            client_id: the client.
            held: whether something that clients have said waits still, so that it must be known who they were.
        """
        client = self._here.pop(client_id)
        if held:
            self._departed[client_id] = client
        else:
            self._departed.clear()
        return client

    def miss(self, client: Client, reason: LeaveReason) -> None:
        """Tell others and the application that a client has gone."""
        state = self.state_of(client)
        if self._presence is not None:
            self._presence.hide(client.id)
        on_leave = self._hooks.on_leave
        if on_leave is not None and client in self._joined:
            self._last_words[client] = state
            self._path.call(lambda: on_leave(self._path.handle, client, reason), self._said_goodbye(client))
        self._joined.discard(client)
        if reason not in ("shutdown", "removed"):
            self._ask_whether_to_end()

    def _said_goodbye(self, client: Client) -> Done:
        def done(_: Any, error: Exception | None) -> None:
            del self._last_words[client]
            if error is not None:
                self._path.report(error, client.id)

        return done

    def _ask_whether_to_end(self) -> None:
        """Somebody has left: does the path go as well?"""
        self_destruct = self._hooks.self_destruct
        if self_destruct is None:
            return

        def decided(ends: Any, error: Exception | None) -> None:
            if error is not None:
                self._path.report(error)
            elif ends:
                self._path.end()

        self._path.call(lambda: self_destruct(self._path.handle, len(self), self._created_at_seconds), decided)

    # --- what others see

    @property
    def store(self) -> MergeableStore | None:
        """Who is on the path, as on its companion; None if nobody is told."""
        return None if self._presence is None else self._presence.store

    def show(self, client: Client) -> None:
        """Let others see a client, if it may be seen."""
        if self._presence is None or client not in self:
            return
        if client.access.presence:
            self._presence.show(client, self._name_of(client.id))
        else:
            self._presence.hide(client.id)

    def hide_all(self) -> None:
        """The path has ended."""
        if self._presence is not None:
            for client_id in self._here:
                self._presence.hide(client_id)

    def renamed(self, client_id: str) -> None:
        """A client has another name, or none any more."""
        if self._presence is not None:
            self._presence.rename(client_id, self._name_of(client_id))

    def state_of(self, client: Client) -> dict[str, Any]:
        """What a client says of itself, or has said last, if it has just gone."""
        if client in self._last_words:
            return self._last_words[client]
        return {} if self._presence is None else self._presence.said_by(client.id)

    def announce(self, client_id: str, state: dict[str, Any], done: Done) -> None:
        """A client says something of itself to all who see who is there, unless the application says no.

        Args:
            client_id: the client.
            state: what it says; the application may edit it.
            done: called when it is said, or is not.
        """
        presence, on_presence = self._presence, self._hooks.on_presence

        def ask() -> Any:  # after its join, of which the application may be thinking still
            client = self._here.get(client_id)
            if presence is None:
                raise RequestFailedError("the server does not say who is there", "unknown")
            presence.check(client_id, state)
            return None if on_presence is None or client is None else on_presence(self._path.handle, client, state)

        def decided(_: Any, error: Exception | None) -> None:
            if error is None and presence is not None:
                try:
                    presence.announce(client_id, state)
                except MergesyncError as failure:
                    error = mistake(failure) if presence.shows(client_id) else failure
            done(None, error)

        self._path.call(ask, decided)
