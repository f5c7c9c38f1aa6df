"""What clients ask a server: changes on a condition, actions, messages; each is done once at most, and answered."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mergesync import MergeableStore, WsServer
from mergesync.exceptions import (
    ConnectionLostError,
    NotSupportedError,
    RefusedConnectionError,
    RequestFailedError,
    RequestTimeoutError,
    StaleVersionError,
)
from mergesync.net.server_path import ServerPath
from mergesync.net.session import SyncStatus
from mergesync.rooms.access import Client as RoomClient
from mergesync.sync.admission import leaves_of
from mergesync.sync.versions import version_of
from mergesync.types import MISSING

if TYPE_CHECKING:
    from .application import Application
    from .world import Client, World

__all__ = ["SCOPES", "Requests"]

SCOPES: dict[str, dict[str, str]] = {"value": {"value_id": "n"}, "row": {"table_id": "c", "row_id": "1"}}
"""What changes depend on."""

_UNKNOWN = (ConnectionLostError, RequestTimeoutError, NotSupportedError, RefusedConnectionError)
"""Nobody knows then whether it was done."""


@dataclass
class _Version:
    """A version that something had on a server, and what it was."""

    version: str
    content: Any


@dataclass
class _History:
    """The versions of something on a server; more than one list if a server has forgotten some of them."""

    runs: list[list[_Version]] = field(default_factory=list)

    def follows(self, version: str, newer: str, token: str) -> bool:
        """Whether a version was followed by another, which a writer has made."""
        return any(
            (one.version, other.version) == (version, newer) and _holds(other.content, token)
            for run in self.runs
            for one, other in itertools.pairwise(run)
        )

    def lost(self, present: str) -> list[str] | None:
        """What came after a version that is the present one again; None if nothing was there before."""
        if not self.runs:
            return None
        versions = [one.version for one in self.runs[-1]]
        return versions[versions.index(present) + 1 :] if present in versions else versions

    def has(self, version: str, content: Any) -> bool:
        """Whether there was such a version."""
        return any((one.version, one.content) == (version, content) for run in self.runs for one in run)

    def holds(self, token: str) -> bool:
        """Whether something that a writer wanted was ever there."""
        return any(_holds(one.content, token) for run in self.runs for one in run)


def _holds(content: Any, token: str) -> bool:
    return bool(token in content.values() if isinstance(content, dict) else content == token)


class Requests:
    """What clients have asked for, and what came of it.

    Args:
        world: the world.
        application: whose servers they are.
    """

    def __init__(self, world: World, application: Application) -> None:
        self._world = world
        self._application = application
        self._histories: dict[tuple[str, str], _History] = {}  # by path and scope
        self._lost: list[tuple[str, str, str]] = []  # path, scope, token: they were told that they have lost
        self._won: list[tuple[str, str, str, str, str]] = []  # likewise, with the version before and after
        self._count = 0
        self._done: Counter[tuple[WsServer, str]] = Counter()  # actions by server and request
        self._by_key: Counter[tuple[WsServer, str]] = Counter()
        self._received: Counter[tuple[str, str]] = Counter()  # messages by client and message

    # --- what happens on the server

    def serve(self, server: WsServer) -> None:
        """Define what a server does for clients."""

        @server.action("mark")
        async def mark(path: ServerPath, _: RoomClient, data: Any) -> Any:
            self._done[server, data["id"]] += 1
            self._by_key[server, data["key"]] += 1
            if data["key"] and self._by_key[server, data["key"]] > 1:
                self._world.fail("action", f"{data['key']} is done again")
            await self._application.take_turn(path.id)
            path.store.set_cell("t", "2", "b", self._application.own_cell(path.id))
            return {"done": data["id"]}

    def loaded(self, path_id: str, store: MergeableStore, *, is_new: bool, has_lost: bool) -> None:
        """A server has loaded a path.

        Args:
            path_id: the path.
            store: what is there.
            is_new: whether what was there before may be of no importance.
            has_lost: whether what was not confirmed may be missing.
        """
        told = {newer for path, _, _, newer, _ in self._won if path == path_id}
        for scope, place in SCOPES.items():
            history = self._histories.setdefault((path_id, scope), _History())
            present = _Version(version_of(store, **place), _content(store, scope))
            lost = history.lost(present.version)
            if not is_new and lost and (told.intersection(lost) or not has_lost):
                self._world.fail("conditional", f"{path_id}: the server has forgotten {lost}")
            if lost is None or lost:
                history.runs.append([present])
        store.add_did_finish_transaction_listener(lambda store: self._note(path_id, store))

    def _note(self, path_id: str, store: MergeableStore) -> None:
        changed = {leaf for leaf, _ in leaves_of(store.get_transaction_mergeable_changes())}
        for scope in SCOPES:
            if any(leaf == (None, "", "n") if scope == "value" else leaf[:2] == ("c", "1") for leaf in changed):
                self._note_version(path_id, scope, store)

    def _note_version(self, path_id: str, scope: str, store: MergeableStore) -> None:
        history, content = self._histories[path_id, scope], _content(store, scope)
        token = content.get("x") if isinstance(content, dict) else content
        is_made = isinstance(token, str) and token.startswith("~cas~") and not history.holds(token)
        if is_made and store.get_value("m") != token:
            self._world.fail("conditional", f"{path_id}: {token} is made by half")
        history.runs[-1].append(_Version(version_of(store, **SCOPES[scope]), content))

    # --- what clients do

    async def compare_and_set(
        self, client: Client, scope: str, kind: str = "cas", timeout_seconds: float = 30.0
    ) -> Exception | None:
        """Change something, if it is what the client thinks it is; returns the error, if there is one."""
        synchronizer, path_id, tokens = client.synchronizer, client.path_id, self._application.tokens
        if synchronizer is None:
            return None
        version = synchronizer.version(**SCOPES[scope])
        token = tokens.make(kind, client.name, path_id)
        tables: Any = {"c": {"1": {"x": token}}} if scope == "row" else {}
        values = {"m": token} if scope == "row" else {"n": token, "m": token}
        try:
            newer = await synchronizer.compare_and_set(version, (tables, values), timeout_seconds=timeout_seconds)
        except StaleVersionError as error:
            self._lost.append((path_id, scope, token))
            content = MISSING if error.content is MISSING else error.content
            if error.version == version or not self._histories[path_id, scope].has(error.version, content):
                self._world.fail("conditional", f"{path_id}: {token} is told of {error.version} {content!r}")
            return error
        except RequestFailedError as error:
            if error.reason == "save":  # it was made, and may be forgotten
                return error
            self._lost.append((path_id, scope, token))
            if error.reason not in ("refused", "failed"):
                self._world.fail("conditional", f"{path_id}: {token} fails with {error.reason}")
            return error
        except _UNKNOWN as error:
            return error
        self._won.append((path_id, scope, version, newer, token))
        return None

    async def act(self, client: Client, *, has_key: bool) -> None:
        """Let the server do something."""
        self._count += 1
        synchronizer, id_ = client.synchronizer, f"a{self._count}"
        key = f"k{self._count}" if has_key else None
        if synchronizer is None:
            return
        try:
            result = await synchronizer.act("mark", {"id": id_, "key": key}, key=key)
        except RequestFailedError as error:
            if error.reason not in ("refused", "failed", "timeout"):
                self._world.fail("action", f"{id_} fails with {error.reason}")
        except ConnectionLostError:
            # It is asked for again on each next connection, also of a program that takes its leave and is not done with
            # that; after `destroy` there is none.
            if key is not None and synchronizer.status is not SyncStatus.DESTROYED:
                self._world.fail("action", f"{id_} is lost with a connection, and has a key")
        except _UNKNOWN:
            pass
        else:
            if result != {"done": id_} or not any(request == id_ for _, request in self._done):
                self._world.fail("action", f"{id_}: {result} is the answer")

    def listen(self, client: Client) -> None:
        """Let a client answer messages."""

        def answer(_: str | None, message: Any) -> Any:
            self._received[client.name, message] += 1
            if self._received[client.name, message] > 1:
                self._world.fail("message", f"{client.name} gets {message} again")
            return [client.name, message]

        if client.synchronizer is not None:
            client.synchronizer.add_message_listener(answer)

    async def talk(self, client: Client, to: list[str], *, asks: bool) -> None:
        """Send a message to others, or ask them something."""
        self._count += 1
        synchronizer, message = client.synchronizer, f"m{self._count}"
        if synchronizer is None:
            return
        try:
            if asks:
                name, answer = await synchronizer.ask(to, message, timeout_seconds=5.0)
                if name not in to or answer != [name, message]:
                    self._world.fail("message", f"{message} to {to}: {name} answers {answer}")
            else:
                result = await synchronizer.send(to, message)
                told = [*result.delivered, *result.unknown, *result.unreachable]
                if sorted(told) != sorted(set(to)):
                    self._world.fail("message", f"{message} to {to}: {result}")
        except RequestFailedError as error:
            if error.reason not in ("refused", "no-name", "no-receiver", "no-answer", "timeout"):
                self._world.fail("message", f"{message} fails with {error.reason}")
        except _UNKNOWN:
            pass

    # --- in the end

    async def race(self, clients: list[Client]) -> None:
        """Of all who try at once, where nothing is in the way, one wins, and the others are told."""
        trying = {client.synchronizer.version(value_id="n") for client in clients if client.synchronizer}
        if len(trying) != 1:
            self._world.fail("conditional", f"clients at rest think of {len(trying)} versions")
        errors = await asyncio.gather(*(self.compare_and_set(client, "value") for client in clients))
        if errors.count(None) != 1 or not all(isinstance(error, StaleVersionError | None) for error in errors):
            self._world.fail("conditional", f"{errors.count(None)} of {len(clients)} win: {errors!r}")

    def at_rest(self) -> Iterator[str]:
        """Who has won has made the version after that which it knew; of who has lost nothing was ever there."""
        for path_id, scope, version, newer, token in self._won:
            if not self._histories[path_id, scope].follows(version, newer, token):
                yield f"conditional: {path_id}: {token} has won with {version}, and {newer} does not follow that"
        for path_id, scope, token in self._lost:
            if self._histories[path_id, scope].holds(token):
                yield f"conditional: {path_id}: {token} has lost, and was there"


def _content(store: MergeableStore, scope: str) -> Any:
    return store.get_row("c", "1") if scope == "row" else store.get_value("n")
