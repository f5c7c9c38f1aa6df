"""How an application makes and removes paths, and puts clients out; what is removed stays away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from mergesync import WsServer
from mergesync.exceptions import LoadError, PathClosedError, PathExistsError, PersisterError, SaveError
from mergesync.store.hlc import encode_hlc
from mergesync.sync.admission import leaves_of
from mergesync.types import MISSING

from .tokens import token_in, tokens_in

if TYPE_CHECKING:
    from .application import Application
    from .world import World

__all__ = ["BRIEF", "Lifetimes"]

BRIEF = "brief"
"""A path with a time to live."""

_TABLES = ("mergesync_cells", "mergesync_values", "mergesync_containers", "mergesync_paths")
_RETRIED_SECONDS = 31.0  # what could not be removed is tried again by then


@dataclass(frozen=True)
class _Made:
    """A path that the application has made.

    Attributes:
        server: on which server.
        token: what it began with.
        ttl_seconds, idle_ttl_seconds: how long it may live, if not for ever.
        since: when, in seconds of the loop.
    """

    server: WsServer
    token: str
    ttl_seconds: float | None
    idle_ttl_seconds: float | None
    since: float


class Lifetimes:
    """The paths that an application makes and removes.

    Args:
        world: the world.
        application: whose they are.
        random: draws who may make paths.

    Attributes:
        removals: how often the removal of each path was begun.
    """

    def __init__(self, world: World, application: Application, random: Random) -> None:
        self.removals: dict[str, int] = {}
        self._world = world
        self._application = application
        self._only_here = random.random() < 0.4
        self._made: dict[str, _Made] = {}
        self._making: list[WsServer] = []  # on which one is just being made, once for each
        self._pending: dict[str, tuple[WsServer, set[str]]] = {}  # what dies with paths whose removal is tried again
        self._loads: Counter[str] = Counter()
        self._defaults: set[str] = set()  # what paths begin with has no stamp: clients may bring it at any time

    def options(self) -> dict[str, Any]:
        """What a server is made with."""
        return {"create": "server" if self._only_here else "any", "lives": True}

    def may_forget(self, path_id: str) -> bool:
        """Whether a path may have been removed."""
        return path_id == BRIEF or path_id in self.removals

    def loaded(self, path_id: str) -> None:
        """Somebody has come onto a path."""
        self._loads[path_id] += 1

    def begin(self) -> None:
        """There is another server. Without storage it knows nothing of removals (docs/paths.md): all may come back."""
        if self._world.options.storage == "none":
            self._application.tokens.dead.clear()
            self._pending.clear()

    def keeps_out(self, path_id: str) -> bool:
        """Whether nobody gets onto a path: only the application makes it, and has not since its time was over."""
        server, made = self._world.server, self._made.get(path_id)
        is_for_ever = made is not None and made.ttl_seconds is made.idle_ttl_seconds is None
        if server is None or not self._only_here or path_id != BRIEF or is_for_ever:
            return False
        return not server._life.is_made(path_id)

    # --- making

    async def make(
        self, path_id: str, *, ttl_seconds: float | None = None, idle_ttl_seconds: float | None = None
    ) -> None:
        """Make a path, if there is none."""
        server, token = self._world.server, self._application.own_cell(path_id)
        if server is None:
            return
        self._defaults.add(token)
        content: Any = ({"init": {"1": {"c": token}}}, {})
        since, removals = self._world.loop.time(), self.removals.get(path_id, 0)
        self._making.append(server)
        try:
            await server.create_path(
                path_id, content=content, ttl_seconds=ttl_seconds, idle_ttl_seconds=idle_ttl_seconds
            )
        except (PathExistsError, PathClosedError, PersisterError) as error:
            self._world.errors.append(error)
            return
        finally:
            self._making.remove(server)
        if removals == self.removals.get(path_id, 0):  # else it may have been removed before this was told
            self._made[path_id] = _Made(server, token, ttl_seconds, idle_ttl_seconds, since)

    async def make_all(self, path_ids: list[str]) -> bool:
        """See to it that there are these paths, where nobody else makes them; whether they are there."""
        server = self._world.server
        if server is None or not self._only_here:
            return True
        for path_id in path_ids:
            if not server._life.is_made(path_id):
                await self.make(path_id)
            if not server._life.is_made(path_id):
                try:
                    async with server.open_path(path_id):
                        pass
                except (LoadError, PathClosedError):
                    return False
        await asyncio.sleep(1.0)
        if server in self._making:  # what it is just making may not come to be
            return False
        return self._world.server is server and all(map(server._life.is_made, path_ids))

    # --- removing

    async def remove(self, path_id: str) -> bool:
        """Remove a path; whether that is done."""
        server = self._world.server
        if server is None:
            return False
        self.removals[path_id] = self.removals.get(path_id, 0) + 1
        self._world.durable.pop(path_id, None)
        self._made.pop(path_id, None)
        # Who asks for what is under way waits for it alike; too old is what was written until that began.
        is_under_way = path_id in server._life._removals
        _, failed = self._pending.get(path_id, (server, set()))
        dying = failed if is_under_way else self._written_so_far(path_id)
        loads = self._loads[path_id]
        try:
            was_there = await server.remove_path(path_id, "it is over")
        except (PathClosedError, LoadError) as error:
            self._world.errors.append(error)
            return False
        except SaveError as error:
            self._world.errors.append(error)
            if not is_under_way:
                self._pending[path_id] = (server, dying)
            return False
        if was_there:  # else a former removal says what is too old
            if self._is_remembered(server):
                self._is_gone(path_id, dying)
            if self._loads[path_id] == loads:
                self._mind_stored(path_id)
        return was_there

    def ends_itself(self, path_id: str) -> None:
        """The application says that a path is to go, when it is asked; its removal begins with that."""
        self.removals[path_id] = self.removals.get(path_id, 0) + 1  # a server that ends leaves it to the next one
        server = self._world.server
        self._world.durable.pop(path_id, None)
        self._made.pop(path_id, None)
        if server is not None and path_id not in server._life._removals:  # else it may be the last thing that it does
            self._world.spawn(self._see_it_end(server, path_id, self._written_so_far(path_id)))

    async def _see_it_end(self, server: WsServer, path_id: str, dying: set[str]) -> None:
        loads, now = self._loads[path_id], self._world.server_now() / 1000
        await asyncio.sleep(0.001)
        if (removal := server._life._removals.get(path_id)) is not None:
            await asyncio.wait([removal])
        life = server._life._lives.get(path_id)
        if server is not self._world.server or (life is not None and not life.removed and life.created >= now):
            return  # nobody knows, or it was made anew
        if life is None or not life.removed:
            self._world.fail("ends", f"{path_id}: it stays, and was to go")
        elif life.pending:
            self._pending[path_id] = (server, dying)
        else:
            if self._is_remembered(server):
                self._is_gone(path_id, dying)
            if self._loads[path_id] == loads:
                self._mind_stored(path_id)

    def _written_so_far(self, path_id: str) -> set[str]:
        """What is there of a path, and what clients have written to it by now, as their stamps say.

        What a clock that is fast has stamped later than now, and is not in the store, may come again (docs/paths.md).
        """
        tokens, hub = self._application.tokens, self._world.replica(path_id)
        here = [] if hub is None or hub.store is None else list(leaves_of(hub.store.get_mergeable_content()))
        latest = encode_hlc(self._world.server_now() - 1, 0, "app")
        of_clients = {token for token, hlc in tokens.latest.items() if hlc <= latest and tokens.paths[token] == path_id}
        in_store = {token for _, stamp in here if (token := token_in(stamp[0])) is not None}
        stored = set(tokens_in(self._stored(path_id)))
        if here:  # of what is stored, some may have been written over since
            stored = {token for token in stored if tokens.latest.get(token, "") <= latest}
        return (of_clients | in_store | stored) - self._defaults

    def _is_gone(self, path_id: str, dead: set[str]) -> None:
        server, tokens = self._world.server, self._application.tokens
        life = None if server is None else server._life._lives.get(path_id)
        born_after = "" if life is None else life.born_after
        tokens.dead |= {token for token in dead if tokens.copies.get(token, "") <= born_after}
        self._pending.pop(path_id, None)
        self._world.unexpected += self._left_of(path_id)

    def _mind_stored(self, path_id: str) -> None:
        """Just now nothing is stored, unless somebody makes the path anew."""
        server, stored = self._world.server, self._stored(path_id)
        is_anew = server is None or server._life.is_made(path_id) or server._switchboard.path(path_id) is not None
        if stored and not is_anew:
            self._world.fail("removed", f"{path_id}: {stored:.100} is still stored")

    def _left_of(self, path_id: str) -> Iterator[str]:
        """What should be nowhere any more, and is."""
        if left := self._application.tokens.dead.intersection(tokens_in(self._stored(path_id))):
            yield f"removed: {path_id}: {sorted(left)} are still stored"

    def _stored(self, path_id: str) -> str:
        """All that is stored of a path."""
        if self._world.options.storage == "json":
            files = self._world.disk.files.items()
            return "".join(f"{name}: {file.data!r}" for name, file in files if f"/{path_id}.json" in name)
        if self._world.options.storage == "none" or not self._world.databases.file.exists():
            return ""
        with self._world.databases.copied() as file, closing(sqlite3.connect(file)) as database:
            there = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            found = [
                database.execute(f"SELECT * FROM {name} WHERE path = ?", (path_id,)).fetchall()
                for name in sorted(there.intersection(_TABLES))
            ]
        return "".join(map(repr, filter(None, found)))

    # --- in the end

    def at_rest(self) -> Iterator[str]:
        """What was to go has gone, and what was made is there."""
        server = self._world.server
        for path_id, (of_server, dying) in list(self._pending.items()):
            if of_server is server:
                self._is_gone(path_id, dying)
        for path_id in self.removals:
            yield from self._left_of(path_id)
        for path_id, made in self._made.items():
            if self._has_ended(path_id, made):
                yield from self._mind_ended(path_id, made)
            elif made.ttl_seconds is made.idle_ttl_seconds is None:
                yield from self._mind_beginning(path_id, made)

    def _has_ended(self, path_id: str, made: _Made) -> bool:
        """Whether the time of a path is over for sure."""
        seconds = made.ttl_seconds
        if seconds is None:
            is_used = any(client.path_id == path_id for client in self._world.clients)
            seconds = None if is_used else made.idle_ttl_seconds
        if seconds is None or not self._is_remembered(made.server):
            return False
        return self._world.loop.time() > made.since + seconds + _RETRIED_SECONDS

    def _is_remembered(self, server: WsServer) -> bool:
        """Whether the present server knows what was made and removed on a server."""
        return self._world.options.storage != "none" or server is self._world.server

    def _mind_ended(self, path_id: str, made: _Made) -> Iterator[str]:
        server, hub = self._world.server, self._world.replica(path_id)
        if server is not None and not self._only_here and server._life.is_made(path_id):
            yield f"ttl: {path_id}: it is there, {self._world.loop.time() - made.since} s after it was made"
        content = [] if hub is None or hub.store is None else leaves_of(hub.store.get_mergeable_content())
        here = {token_in(stamp[0]) for _, stamp in content}
        is_there = made.token in here or made.token in tokens_in(self._stored(path_id))
        if is_there and made.token not in self._application.tokens.told:  # else a client may have brought it again
            yield f"ttl: {path_id}: {made.token} is there, {self._world.loop.time() - made.since} s after it was made"

    def _mind_beginning(self, path_id: str, made: _Made) -> Iterator[str]:
        hub = self._world.replica(path_id)
        if not self._is_remembered(made.server) or hub is None:
            return
        found = hub.store.get_cell("init", "1", "c")
        # Clients may bring what a path of former times began with, after a removal, or if the server has forgotten it.
        # If the application does not let that through it is deleted, which counts for more than what has no time.
        is_deleted = found is MISSING and hub.store.get_stamp("init", "1", "c") is not None
        if found != made.token and found not in self._defaults and not is_deleted:
            yield f"created: {path_id}: {found} is there, and it began with {made.token}"
