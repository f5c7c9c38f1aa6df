"""Schedules with an application that decides who may come in and what they may write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.exceptions import InvalidStatus

from mergesync.exceptions import RefusedConnectionError
from mergesync.net.farewells import CLOSE_EJECTED, CLOSE_FORBIDDEN, CLOSE_PATH_CLOSED, CLOSE_REMOVED
from mergesync.net.server_path import ServerPath
from mergesync.net.switchboard import CLOSE_RESTART, CLOSE_UNAUTHORIZED
from mergesync.rooms.access import Client as RoomClient

from .application import ACCESSES, GUEST, NAMES, Application
from .clock import Clock
from .lifetimes import BRIEF, Lifetimes
from .requests import SCOPES
from .schedule import PEACE_SECONDS, Schedule, Step
from .world import Client

__all__ = ["RoomSchedule"]

_GONE_FOR_GOOD = 410
_GONE = (1000, 1006, 1013)
"""A client may have gone at the same moment, well or not, or its path could not be loaded."""
_PUT_OUT = (CLOSE_UNAUTHORIZED, CLOSE_FORBIDDEN)
"""It may have been put out meanwhile."""


class RoomSchedule(Schedule):
    """A schedule in which what clients write says what is to become of it."""

    is_joining = False  # somebody comes who does nothing wrong
    puttings_out = 0  # how often clients were, other than by removals

    @property
    def application(self) -> Application:
        """Who decides."""
        assert self.world.application is not None
        return self.world.application

    def more_steps(self) -> list[Step]:
        """What the application does, and what is done to it."""
        self.world.hears_strangers = True  # the server stamps what it answers refusals with
        return [
            ("hooks", 2, self.hooks),
            ("access", 5, self.access),
            ("log out", 1, self.log_out),
            ("application", 4, self.application_writes),
            ("race", 5, self.race),
            ("act", 3, self.act_on_server),
            ("talk", 3, self.talk),
            ("announce", 4, self.announce),
            ("eject", 2, self.eject),
            ("close", 1, self.close),
            *self.steps_of_lives(),
        ]

    def steps_of_lives(self) -> list[Step]:
        """Paths are made and removed."""
        return [] if self.lifetimes is None else [("make", 4, self.make), ("remove", 3, self.remove)]

    @property
    def lifetimes(self) -> Lifetimes | None:
        """Who makes and removes paths."""
        return self.application.lifetimes

    async def begin(self) -> None:
        """There are paths, where only the application makes them."""
        if self.lifetimes is not None:
            await self.lifetimes.make_all(self.paths)
            self.paths.append(BRIEF)

    def add_client(self, path_id: str, clock: Clock, multiplexed: bool = False) -> Client:
        """A program of somebody starts."""
        return self.world.add_client(path_id, clock, multiplexed, self.random.choice(NAMES))

    def cell(self, client: Client) -> Any:
        """Something that says who has written it."""
        return self.last_cell(client) if self.is_joining else self.application.cell(client, self.random)

    def last_cell(self, client: Client) -> Any:
        """Likewise."""
        return self.application.tokens.make("ok", client.name, client.path_id)

    def write_one(self, client: Client) -> None:
        """Sometimes to rows that have owners."""
        if not self.is_joining and self.random.random() < 0.15:
            row = {"a": self.cell(client)}
            if self.random.random() < 0.6:
                row["owner"] = self.random.choice((client.identity, client.identity, "ann"))
            client.store.set_partial_row("o", self.random.choice("12"), row)
        else:
            super().write_one(client)

    async def clock(self) -> None:
        """That of the server is right, so that it is known when identities expire."""
        if self.world.clients:
            self.any_client().clock.upset(self.random, self.world.loop.time())  # type: ignore[union-attr]

    def is_told_of(self, client: Client) -> bool:
        """Not while the application thinks, nor what was written before the path was removed, or by who was put out."""
        server = self.world.server
        on_path = () if server is None else server._switchboard.on_path.get(client.path_id, ())
        if not any(link.key in on_path for link in self.world.links_of(client)):
            return False
        is_told_at_once = not self.application.is_slow and not self.may_be_removed(client.path_id)
        return is_told_at_once and self.world.ends_equal(client)

    def may_be_removed(self, path_id: str) -> bool:
        return self.lifetimes is not None and self.lifetimes.may_forget(path_id)

    # --- what the application does

    async def access(self) -> None:
        """Somebody may do more or less from now on; whoever can be told at once is."""
        path_id, name = self.random.choice(self.paths), self.random.choice(NAMES)
        self.application.accesses[path_id, name] = self.random.choice(ACCESSES)
        for client in self.world.clients:
            if (client.path_id, client.identity) == (path_id, name) and self.random.random() < 0.8:
                self.world.spawn(self.refresh(client))

    async def refresh(self, client: Client) -> None:
        """A client shows another token on its open connection."""
        links = self.world.links_of(client)
        if client.synchronizer is not None and len(links) == 1:
            await client.synchronizer.client.refresh_token(self.application.token_for(client, short_lived=0.5))
            self.application.refreshed(links)

    async def log_out(self) -> None:
        """Nobody with a token of somebody is there any more."""
        server, name = self.world.server, self.random.choice(NAMES)
        if server is None:
            return
        self.application.revoke(name)
        sockets = self.sockets(lambda client: client.identity is not None and client.identity.name == name)
        server.log_out(name)
        await self.mind_closed(sockets, CLOSE_UNAUTHORIZED, f"{name} was logged out")

    async def application_writes(self) -> None:
        """The application edits a path itself."""
        self.write_on_server(self.random.choice(self.paths), "m" if self.random.random() < 0.3 else None)

    def write_on_server(self, path_id: str, value_id: str | None) -> None:
        """The application writes a value, or a cell."""
        hub = self.world.replica(path_id)
        if hub is None or hub.store is None:
            return
        store, cell = hub.store, self.application.own_cell(path_id)
        if value_id is not None:
            self.act(lambda: store.set_value(value_id, cell))
        else:
            self.act(lambda: store.set_cell("t", "3", "c", cell))

    async def eject(self) -> None:
        """A client is put out, perhaps with all of its identity, and for a while."""
        path = self.any_path()
        if path is None or not path.clients:
            return
        client, seconds = self.random.choice(path.clients), self.random.choice((0.0, 0.0, 5.0, 20.0))
        if seconds:
            name = client.identity.name if client.identity else ""
            self.application.ban(path.id, name, seconds)
            sockets = self.sockets(
                lambda other: other.path_id == path.id and other.identity is not None and other.identity.name == name
            )
        else:
            sockets = self.sockets(lambda other: other is client)
        for other in [each for each in self.world.clients if seconds and each.path_id == path.id]:
            if client.identity is not None and other.identity == client.identity.name:
                self.world.spawn(self.come_again(other))
        await path.eject(client, ban_seconds=seconds)
        await self.mind_closed(sockets, CLOSE_EJECTED, f"{client.id} was put out of {path.id}")

    async def come_again(self, client: Client) -> None:
        """A program is started anew, and so knows nothing of how long it was told to stay away."""
        self.world.begin_to_disconnect(client)
        await asyncio.sleep(1.0)
        if client in self.world.clients:
            await self.world.connect(client)

    async def close(self) -> None:
        """All clients are put out of a path."""
        if (path := self.any_path()) is not None:
            sockets = self.sockets(lambda client: client.path_id == path.id)
            self.world.spawn(path.close())
            await self.mind_closed(sockets, CLOSE_PATH_CLOSED, f"{path.id} was closed")

    def any_path(self) -> ServerPath | None:
        """A path that is there."""
        return None if self.world.server is None else self.world.server.path(self.random.choice(self.paths))

    async def make(self) -> None:
        """The application makes a path, some of them for a while."""
        assert self.lifetimes is not None
        path_id, is_idle = self.random.choice([*self.paths, BRIEF]), self.random.random() < 0.5
        seconds = self.random.choice((3.0, 10.0, 30.0)) if path_id == BRIEF else None
        ttls = {"idle_ttl_seconds" if is_idle else "ttl_seconds": seconds}
        self.world.spawn(self.lifetimes.make(path_id, **ttls))

    async def remove(self) -> None:
        """The application removes a path."""
        assert self.lifetimes is not None
        path_id = self.random.choice(self.paths)
        sockets = [] if self.world.server is None else self.sockets(lambda client: client.path_id == path_id)
        before = self.puttings_out  # the removal begins a moment later, and who is put out before it is told of that

        async def remove(lifetimes: Lifetimes) -> None:
            if await lifetimes.remove(path_id) and before == self.puttings_out:
                await self.mind_closed(sockets, CLOSE_REMOVED, f"{path_id} was removed", *_PUT_OUT)

        self.world.spawn(remove(self.lifetimes))

    async def server_stops(self) -> None:
        """Whoever is there is told to come again soon."""
        sockets = [] if self.world.server is None else self.sockets(lambda _: True)
        await self.world.stop_server()
        removed = () if self.lifetimes is None else (CLOSE_REMOVED,)  # a path may be about to end
        await self.mind_closed(sockets, CLOSE_RESTART, "the server was stopped", *_PUT_OUT, *removed)

    # --- what clients ask for

    async def race(self) -> None:
        """Several clients change the same thing, each if it is what it thinks."""
        path_id, scope = self.random.choice(self.paths), self.random.choice(list(SCOPES))
        if self.random.random() < 0.3:
            self.world.loop.call_later(0.05, self.write_on_server, path_id, "m")
        for client in [client for client in self.world.clients if client.path_id == path_id]:
            if self.random.random() < 0.2:
                self.act(lambda client=client: client.store.set_value("n", self.last_cell(client)))  # type: ignore[misc]
            for _ in range(self.random.choice((0, 1, 1, 2))):
                kind, seconds = self.random.choice(("cas", "cas", "cas", "bad")), self.random.choice((1.0, 30.0))
                self.world.spawn(self.application.requests.compare_and_set(client, scope, kind, seconds))

    async def act_on_server(self) -> None:
        """A client lets the server do something."""
        if (client := self.any_client()) is not None:
            self.world.spawn(self.application.requests.act(client, has_key=self.random.random() < 0.5))
            if self.random.random() < 0.3:  # the answer may be lost
                for link in self.world.links_of(client):
                    self.world.loop.call_later(self.random.choice((0.002, 0.02, 0.1)), self.cut_one, link)

    async def talk(self) -> None:
        """A client sends something to others, or asks them."""
        if (client := self.any_client()) is not None:
            names = [other.name for other in self.world.clients if other is not client]
            to = self.random.sample(names, min(len(names), self.random.choice((1, 2))))
            self.world.spawn(self.application.requests.talk(client, [*to, "nobody"], asks=self.random.random() < 0.5))

    async def announce(self) -> None:
        """A client says something of itself."""
        if (client := self.any_client()) is not None:
            self.world.spawn(self.application.announce(client))

    # --- what clients are told

    def sockets(self, concerns: Callable[[RoomClient], bool]) -> list[Any]:
        """The open sockets, without channels, of clients on paths."""
        server = self.world.server
        assert server is not None
        return [
            socket.channel
            for socket in server._switchboard._sockets.values()
            if not socket.closing and not socket.connection.multiplexed and any(map(concerns, socket.clients.values()))
            if self.hostile is None or socket.channel.remote_address[0] != self.hostile.name  # it may be at fault, too
        ]

    async def mind_closed(self, channels: list[Any], code: int, why: str, *others: int) -> None:
        """Sockets are closed with a code."""
        self.puttings_out += code != CLOSE_REMOVED  # what is told of one removal excuses nothing of another
        await asyncio.sleep(0.001)
        removed = () if self.lifetimes is None else (CLOSE_REMOVED,)  # that may have come first
        for channel in channels:
            if channel.close_code not in (code, *_GONE, *others, *removed):
                self.world.fail("code", f"{channel.remote_address[0]}: closed with {channel.close_code}; {why}")

    # --- the end

    async def make_peace(self) -> None:
        """Everybody is let in."""
        self.application.calm = True
        for place, access in self.application.accesses.items():
            if access is None:
                self.application.accesses[place] = ACCESSES[0]
        await asyncio.sleep(max([0.0, *self.application.bans.values()]) - self.world.loop.time())
        for client in self.silenced():
            self.world.begin_to_disconnect(client)
        await self.server_starts()
        if self.lifetimes is not None:
            self.world.disk.fail_after, self.world.disk.broken, self.world.hooks.failing = None, False, 0.0
            for _ in range(60):
                if await self.lifetimes.make_all([*self.paths, "fresh", "late", "slow"]):
                    break
                await asyncio.sleep(1.0)
        await super().make_peace()
        for path_id in self.paths:
            clients = [client for client in self.world.clients if client.path_id == path_id and self.may_race(client)]
            if clients:
                await self.application.requests.race(clients)
        if self.random.random() < 0.2:  # what the winners were told is there nevertheless
            await self.world.kill_server(lose_power=False)
            await self.server_starts()
            if self.lifetimes is not None:
                await self.lifetimes.make_all(self.paths)
            await asyncio.sleep(PEACE_SECONDS)
            await self.take_leave()
        await asyncio.sleep(10.0)

    async def take_leave(self) -> None:
        """Who is refused on a channel asks again; who is told then that its path was removed is not expected."""
        refused = self.silenced()
        for client in refused:
            self.world.begin_to_disconnect(client)
        await asyncio.sleep(5.0 if refused else 0.0)
        for client in refused:
            await self.world.connect(client)
        await asyncio.sleep(20.0 if refused else 0.0)
        silenced = self.silenced()
        for client in list(self.world.clients):
            error = None if client.synchronizer is None else client.synchronizer.error
            is_told = isinstance(error, RefusedConnectionError) and error.status == _GONE_FOR_GOOD
            may_be_late = self.may_be_removed(client.path_id)
            if is_told and not may_be_late:
                self.world.fail("code", f"{client.name} is told that {client.path_id} was removed, and it was not")
            # Before there is a socket, 410 is not the end: a client tries again, more and more seldom (docs/limits.md).
            is_kept_out = (
                self.lifetimes is not None
                and self.lifetimes.keeps_out(client.path_id)
                and (_is_answered(error, _GONE_FOR_GOOD) or client.multiplexed)
            )
            if is_told or is_kept_out or (may_be_late and client.is_stock and client in silenced):
                self.world.begin_to_disconnect(client)
                self.world.clients.remove(client)

    def silenced(self) -> list[Client]:
        """Stock clients with channels on which they are not let onto their paths: they have to open them anew."""
        there = {self.application.grants[client.id].program for client in self.application.there}
        stock = [client for client in self.world.clients if client.multiplexed and client.is_stock]
        return [client for client in stock if client.name not in there]

    def may_race(self, client: Client) -> bool:
        """Whether a client is sure to be answered, and to be let through."""
        grant = self.world.grant_of(client)
        return not client.is_stock and grant is not None and grant.ends_equal and grant.access.write

    async def be_quiet(self) -> None:
        """A client that cannot ask whether all is merged looks again and again whether the server has what it has."""
        if all(self.world.ends_equal(client) or not client.is_stock for client in self.world.clients):
            await super().be_quiet()

    async def join_in_peace(self) -> None:
        """Nothing is refused of who comes then."""
        self.is_joining = True
        await super().join_in_peace()
        if self.world.options.storage != "none":
            await self.promise_in_peace()
        self.is_joining = False

    def errors_about(self, client: Client, seen: int) -> list[Exception]:
        """Who may not write has listeners that do, when they hear of it."""
        ids = {None, *(link.key for link in self.world.links_of(client))}
        return [error for error in self.world.errors[seen:] if getattr(error, "client_id", None) in ids]

    async def promise_in_peace(self) -> None:
        """A client writes, and wants to know that it is stored, while its path takes its time to load."""
        self.world.hooks.load_seconds = 2.5  # more than it waits for an answer before it says what it has
        client = self.world.add_client("slow", Clock(), identity=GUEST)
        client.is_stock = False
        await self.world.connect(client)
        await asyncio.sleep(1.5)
        self.act(lambda: self.write_one(client))
        self.world.spawn(self.world.hear_promise(client))
        await asyncio.sleep(3.0)
        self.world.hooks.load_seconds = 0.0
        self.paths.append("slow")


def _is_answered(error: Exception | None, status: int) -> bool:
    """Whether a client was refused a socket with a status."""
    cause = None if error is None else error.__cause__
    return isinstance(cause, InvalidStatus) and cause.response.status_code == status
