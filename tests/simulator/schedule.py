"""One schedule: some hundred drawn steps, then peace, then the oracles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from mergesync import MergeableStore
from mergesync.limits import MAX_REQUEST_TIMEOUT_SECONDS
from mergesync.types import MISSING, CellOrMissing

from . import oracles
from .application import GUEST
from .clock import Clock
from .hooks import injected_only
from .hostile import Hostile
from .network import Link
from .tokens import COPIED
from .world import Client, World

__all__ = ["PEACE_SECONDS", "STEPS", "Outcome", "Schedule", "Step"]

STEPS = 200
PEACE_SECONDS = 90.0  # enough to find out that a link is deaf, and for the longest wait between two attempts
QUIET_SECONDS = 40.0  # then nobody says anything any more

_CELLS: tuple[Any, ...] = (0, 1, 2.5, True, False, None, "", "dog", "é😀", {"a": [1]}, [], "\U0001f600" * 9)
_OFTEN = 6
_STEP_SEEDS = 1_000_003

Step: TypeAlias = tuple[str, int, Callable[[], Awaitable[None]]]
"""A name, how often it is drawn, and what happens."""


@dataclass(frozen=True)
class Outcome:
    """How a schedule ended.

    Attributes:
        seed: which one it was.
        trace_hash: equal for equal runs.
        steps: the steps taken, by index.
        failures: what did not hold; each begins with the name of an oracle.
    """

    seed: int
    trace_hash: str
    steps: dict[int, str]
    failures: list[str]


class Schedule:
    """The steps, each drawn by its own index, so that the others stay the same if some are left out."""

    def __init__(self, world: World, seed: int, skip: Collection[int]) -> None:
        self.world = world
        self.random = Random(world.random.random())
        self.seed = seed
        self.skip = skip
        self.taken: dict[int, str] = {}
        self.paths = [f"p{index}" for index in range(self.random.choice((1, 1, 1, 2, 3, 5)))]
        self.first_clients = self.random.choice((0, 1, 1, 2, 3))
        self.most_clients = self.random.choice((1, 2, 2, 3, 3, 4, 5, 6, 8, 20))
        self.multiplexed = self.random.choice((0.0, 0.0, 0.5))
        self.hostile: Hostile | None = None
        self.answering: set[str] = set()  # clients with a listener that writes
        steps: list[Step] = [
            ("write", 40, self.write),
            ("transaction", 6, self.transaction),
            ("delete", 8, self.delete),
            ("durable", 4, self.durable),
            ("wait", 30, self.wait),
            ("new client", 4, self.new_client),
            ("online", 8, self.online),
            ("offline", 3, self.offline),
            ("client dies", 1, self.client_dies),
            ("client leaves", 2, self.client_leaves),
            ("cut", 4, self.cut),
            ("deaf", 1, self.deaf),
            ("stall", 2, self.stall),
            ("restart", 2, self.restart),
            ("unreachable", 2, self.unreachable),
            ("partition", 1, self.partition),
            ("server stops", 1, self.server_stops),
            ("server killed", 1, self.server_killed),
            ("power lost", 1, self.power_lost),
            ("server starts", 6, self.server_starts),
            ("disk fails", 2, self.disk_fails),
            ("clock", 2, self.clock),
            ("hooks", 1, self.hooks),
            ("listener", 2, self.listener),
            ("hostile", 3 if self.random.random() < 0.25 and not world.options.relay else 0, self.lie),
            *self.more_steps(),
        ]
        # A swarm: each schedule has only some of the faults, so that rare combinations come up.
        self.steps = [step for step in steps if step[1] >= _OFTEN or self.random.random() < 0.6]
        self.weights = [weight for _, weight, _ in self.steps]

    def more_steps(self) -> list[Step]:
        """Steps of other kinds of schedules."""
        return []

    async def begin(self) -> None:
        """The first server is there, and nobody else."""

    def add_client(self, path_id: str, clock: Clock, multiplexed: bool = False) -> Client:
        """A program starts."""
        return self.world.add_client(path_id, clock, multiplexed)

    def cell(self, client: Client) -> Any:
        """Something to write."""
        return self.random.choice(_CELLS)

    async def run(self) -> list[str]:
        await self.world.start_server()
        await self.begin()
        for index in range(self.first_clients):
            await self.world.connect(self.add_client(self.paths[index % len(self.paths)], Clock()))
        for index in range(STEPS):
            self.random.seed(self.seed * _STEP_SEEDS + index)
            if index not in self.skip:
                name, _, step = self.random.choices(self.steps, self.weights)[0]
                self.taken[index] = name
                self.world.note(f"step {name}")
                await step()
                oracles.always(self.world)
        await self.make_peace()
        failures = self.world.unexpected
        for path_id in self.paths:
            failures += oracles.at_rest(self.world, path_id)
        if self.world.application is not None:
            failures += self.world.application.at_rest()
        failures += await self.check_storage()
        failures += await self.end()
        return failures + list(oracles.errors(self.world))

    # --- steps that clients take

    def any_client(self) -> Client | None:
        return self.random.choice(self.world.clients) if self.world.clients else None

    async def write(self) -> None:
        if (client := self.any_client()) is not None:
            self.act(lambda: self.write_one(client))

    def act(self, work: Callable[[], object]) -> bool:
        """Change a store; whether all its listeners liked it."""
        try:
            work()
        except Exception as error:
            if not injected_only(error):
                raise
            return False
        return True

    def write_one(self, client: Client) -> None:
        store, cell = client.store, self.cell(client)
        if self.random.random() < 0.2:
            store.set_value(self.random.choice("vw"), cell)
        else:
            store.set_cell(self.random.choice("ts"), self.random.choice("123"), self.random.choice("abc"), cell)

    async def transaction(self) -> None:
        """Several writes at once, some of which are taken back; meanwhile others may send something."""
        if (client := self.any_client()) is None:
            return
        store = client.store
        # A clock that was put right meanwhile stamps anew, once the transaction is over.
        content = store.get_content if self.world.options.has_far_clocks else store.get_mergeable_content
        before = content() if self.random.random() < 0.5 else None
        store.start_transaction()
        for _ in range(self.random.randint(1, 6)):
            self.write_one(client)
            if self.random.random() < 0.3:
                self.world.note(f"{store.get_mergeable_content_hashes()}")
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.choice((0.005, 0.05, 0.5)))
        liked = self.act(lambda: store.finish_transaction(lambda _: before is not None))
        if liked and before is not None and content() != before:
            self.world.fail("rollback", f"of {client.name} left something behind")

    async def delete(self) -> None:
        if (client := self.any_client()) is None:
            return
        store, kind = client.store, self.random.randrange(5)
        table_id, row_id, cell_id = (self.random.choice(ids) for ids in ("ts", "123", "abc"))
        if kind == 0:
            self.act(lambda: store.del_table(table_id))
            there = store.has_table(table_id)
        elif kind == 1:
            self.act(lambda: store.del_row(table_id, row_id))
            there = store.has_row(table_id, row_id)
        elif kind == 2:
            self.act(lambda: store.del_value("v"))
            there = store.has_value("v")
        else:
            self.act(lambda: store.del_cell(table_id, row_id, cell_id))
            there = store.has_cell(table_id, row_id, cell_id)
        if there and client.name not in self.answering:
            self.world.fail("deleted", f"{table_id} {row_id} {cell_id} is still there, after deletion {kind}")

    async def wait(self) -> None:
        await asyncio.sleep(self.random.choice((0.0, 0.001, 0.01, 0.1, 1.0, 5.0)))

    async def new_client(self) -> None:
        if len(self.world.clients) < self.most_clients:
            clock = Clock(self.random.choice((0, 0, 0, -1000, 5000, 100_000)))
            clock.far = self.world.options.has_far_clocks and self.random.random() < 0.3
            multiplexed = self.random.random() < self.multiplexed
            await self.world.connect(self.add_client(self.random.choice(self.paths), clock, multiplexed))

    async def online(self) -> None:
        if (client := self.any_client()) is not None:
            await self.world.connect(client)

    async def offline(self) -> None:
        if (client := self.any_client()) is not None:
            self.world.begin_to_disconnect(client)

    async def restart(self) -> None:
        """A program stops to sync for a moment, on the same connection."""
        client = self.any_client()
        if client is None or client.synchronizer is None:
            return
        for _ in range(self.random.randint(1, 4)):
            client.synchronizer.stop_sync()
            self.act(lambda: self.write_one(client))
            self.world.spawn(client.synchronizer.start_sync())
            await asyncio.sleep(self.random.choice((0.0, 0.005, 0.02, 0.05)))

    async def client_dies(self) -> None:
        if (client := self.any_client()) is not None:
            self.world.clients.remove(client)
            self.world.network.unreachable.add(client.name)
            for link in self.world.links_of(client):
                link.cut()
            self.world.begin_to_disconnect(client)

    async def client_leaves(self) -> None:
        """A client goes for good, and in order: what it leaves behind must be all that it had."""
        client = self.any_client()
        hub = None if client is None else self.world.replica(client.path_id)
        if client is None or client.synchronizer is None or self.world.options.relay or hub is None:
            return
        links = self.world.links_of(client)
        if client.clock.far or client.synchronizer.status != "live":
            return
        if len(links) != 1 or links[0].is_troubled:
            return
        if client.is_stock and not client.synchronizer._session._heard_server:
            return  # live because the answer is late, and it may be that there is nobody
        was_told_of, had = self.is_told_of(client), dict(client.held)  # its listeners may write while it leaves
        await client.synchronizer.destroy()
        client.synchronizer = None
        self.world.clients.remove(client)
        same_hub = self.world.replica(client.path_id) is hub and hub.store is not None
        is_put_out = (links[0].server.close_reason or "").startswith("mergesync:")
        if was_told_of and same_hub and not (is_put_out or self.may_be_removed(client.path_id) or links[0].is_troubled):
            held = oracles.stamps_of(hub.store)
            for leaf, hlc in had.items():
                if held.get(leaf, "") < hlc:
                    self.world.fail("left", f"{client.name} leaves, and nobody has its {leaf} {hlc}")

    def may_be_removed(self, path_id: str) -> bool:
        """Whether a path may have been removed."""
        return False

    def is_told_of(self, client: Client) -> bool:
        """Whether the server has what a client has as soon as it is told of it, or something newer."""
        return True

    async def clock(self) -> None:
        clocks = [client.clock for client in self.world.clients]
        self.random.choice([self.world.server_clock, *clocks]).upset(self.random, self.world.loop.time())

    async def hooks(self) -> None:
        self.world.hooks.failing = self.random.choice((0.0, 0.3, 0.3, 1.0))

    async def listener(self) -> None:
        """A store gets a listener that fails at times, or one that answers what others write."""
        if (client := self.any_client()) is None:
            return
        hub = self.world.replica(client.path_id)
        store = client.store
        if hub is not None and hub.store is not None and self.random.random() < 0.4:
            store = hub.store
            self.world.hears_strangers = True
        else:
            self.answering.add(client.name)
        if self.random.random() < 0.5:
            store.add_row_listener(None, None, lambda *_: self.world.hooks.may_raise())
        else:
            store.add_cell_listener("t", "1", "a", _answer, mutator=True)

    async def lie(self) -> None:
        if self.hostile is None:
            self.world.hears_strangers = True
            self.hostile = Hostile(self.world, self.paths[0], self.random)
        await self.hostile.say_something()

    # --- what happens to links

    def any_link(self) -> Link | None:
        links = [link for link in self.world.network.links if link.open]
        return self.random.choice(links) if links else None

    async def cut(self) -> None:
        if (link := self.any_link()) is not None:
            self.cut_one(link)

    def cut_one(self, link: Link) -> None:
        owner = [client for client in self.world.clients if client.address == link.client_name]
        is_in_use = link.client.is_open and any(client.synchronizer is not None for client in owner)
        self.world.has_cut = self.world.has_cut or is_in_use
        link.cut()

    async def deaf(self) -> None:
        if (link := self.any_link()) is not None:
            link.go_deaf(self.random.choice(({link.client}, {link.server}, {link.client, link.server})))

    async def stall(self) -> None:
        if (link := self.any_link()) is not None:
            link.stall(self.random.choice((0.1, 0.5, 2.0, 10.0)))

    async def unreachable(self) -> None:
        if (client := self.any_client()) is not None:
            self.world.network.unreachable.symmetric_difference_update({client.name})

    async def partition(self) -> None:
        """Part of the clients hear nothing and reach nobody."""
        for client in self.world.clients:
            if self.random.random() < 0.5:
                self.world.network.unreachable.add(client.name)
                for link in self.world.links_of(client):
                    link.go_deaf({link.client, link.server})

    # --- what happens to the server

    async def server_stops(self) -> None:
        await self.world.stop_server()

    async def durable(self) -> None:
        client = self.any_client()
        if client is not None:
            self.world.spawn(self.world.hear_promise(client))

    async def server_killed(self) -> None:
        await self.world.kill_server(lose_power=False)

    async def power_lost(self) -> None:
        if self.world.options.storage != "sqlite":  # SQLite's own promise is not simulated
            await self.world.kill_server(lose_power=True)

    async def server_starts(self) -> None:
        if self.world.server is None:
            await self.world.start_server()

    async def disk_fails(self) -> None:
        disk = self.world.disk
        if self.random.random() < 0.7:
            disk.fail_after = self.random.randrange(20)
        else:
            disk.broken = True
            self.world.loop.call_later(self.random.choice((0.3, 2.0, 10.0)), setattr, disk, "broken", False)

    # --- the end

    async def make_peace(self) -> None:
        """No more faults; everybody online; wait until all is said."""
        self.world.note("peace")
        self.world.disk.fail_after = None
        self.world.disk.broken = False
        self.world.slowest_seconds = 0.003
        self.world.hooks.failing = 0.0
        self.world.network.unreachable.clear()
        if self.hostile is not None:
            self.hostile.leave()
        await self.server_starts()
        for client in self.world.clients:
            await self.world.connect(client)
        await asyncio.sleep(PEACE_SECONDS)
        await self.take_leave()
        if not self.world.options.has_far_clocks and not self.world.options.relay and self.random.random() < 0.5:
            await self.join_in_peace()
        await self.write_in_peace()
        if self.world.options.relay:
            self.world.unexpected += await self.wait_for_answers()
            await self.let_all_announce()
        else:
            await self.be_quiet()

    async def take_leave(self) -> None:
        """Whoever is not there now will not be."""

    async def write_in_peace(self) -> None:
        """Nothing is in the way of these, and nobody compares hashes afterwards."""
        for client in self.world.clients:
            self.act(lambda client=client: self.write_one(client))  # type: ignore[misc]
            self.act(lambda client=client: client.store.set_cell("t", "1", "a", self.last_cell(client)))  # type: ignore[misc]
            if self.random.random() < 0.3:
                client.store.start_transaction()
                self.world.loop.call_later(0.3, self.act, client.store.finish_transaction)
            await asyncio.sleep(self.random.choice((0.0, 0.02, 0.2)))
        await asyncio.sleep(10.0)

    def last_cell(self, client: Client) -> Any:
        """Something to write that nobody has written before."""
        return self.random.random()

    async def join_in_peace(self) -> None:
        """Who comes with something to say, where nothing is in the way, is soon live, and then has everything."""
        self.world.network.is_calm = True
        for path_id in (self.paths[0], "fresh"):
            client = self.world.add_client(path_id, Clock(), identity=GUEST)
            self.act(lambda client=client: self.write_one(client))  # type: ignore[misc]
            seen = len(self.world.errors)
            hub = self.world.replica(path_id)
            before = {} if hub is None else oracles.stamps_of(hub.store)
            await self.world.connect(client)
            while client.told_status != "live" and not self.errors_about(client, seen):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if errors := self.errors_about(client, seen):
                self.world.fail("join", f"{client.name} joined {path_id}: {errors!r}")
            held = oracles.stamps_of(client.store)
            if any(held.get(leaf, "") < hlc for leaf, hlc in before.items()):
                self.world.fail("join", f"{client.name} is live, and lacks something")
            await asyncio.sleep(1.0)
        await self.join_late()
        self.paths += ["fresh", "late"]

    def errors_about(self, client: Client, seen: int) -> list[Exception]:
        """What was reported since then that has to do with a client; here nobody else does anything."""
        return self.world.errors[seen:]

    async def join_late(self) -> None:
        """A path cannot be loaded at first; a client with channels stays, and is not cut off to begin anew."""
        self.world.hooks.failing_loads = 2  # so long that what the client announces is lost
        client = self.world.add_client("late", Clock(), multiplexed=True, identity=GUEST)
        await self.world.connect(client)
        for _ in range(4):
            self.act(lambda: self.write_one(client))
            await asyncio.sleep(0.4)
        self.world.hooks.failing_loads = 0

    async def wait_for_answers(self) -> list[str]:
        """A switchboard tells nobody who is gone: they are waited for one after another, all that were ever there."""
        for _ in range(self.world.clients_made):
            if not self._unanswered():
                break
            await asyncio.sleep(MAX_REQUEST_TIMEOUT_SECONDS)
        return self._unanswered()

    def _unanswered(self) -> list[str]:
        return [failure for path_id in self.paths for failure in oracles.started(self.world, path_id)]

    async def let_all_announce(self) -> None:
        """A switchboard repairs nothing: peers that differ find out when each tells its hashes (surprise 16)."""
        for client in self.world.clients:
            if client.synchronizer is not None:
                client.synchronizer.stop_sync()
                await client.synchronizer.start_sync()
                await asyncio.sleep(5.0)

    async def be_quiet(self) -> None:
        frames = self.world.network.frames
        await asyncio.sleep(QUIET_SECONDS)
        if self.world.network.frames != frames:
            self.world.fail("quiet", f"{self.world.network.frames - frames} frames at rest")

    async def check_storage(self) -> list[str]:
        """What is stored while the server still runs."""
        failures = []
        for path_id in self.paths:
            hub = self.world.replica(path_id)
            if hub is not None and hub.store is not None:
                failures += await oracles.storage(self.world, path_id, hub.store.get_mergeable_content())
        return failures

    async def end(self) -> list[str]:
        """Everybody goes, and nothing is left over."""
        for client in self.world.clients:
            self.world.begin_to_disconnect(client)
        try:
            async with asyncio.timeout(PEACE_SECONDS):
                await self.world.finish_spawned()
                await asyncio.sleep(QUIET_SECONDS / 2)
                failures = list(oracles.nobody_left(self.world))
                await self.world.stop_server()
                if self.world.application is not None:
                    failures += self.world.application.nobody_left()
        except TimeoutError:
            return ["end: somebody does not come to an end"]
        await asyncio.sleep(1.0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        return failures + [f"tasks: {task.get_name()} {task.get_coro()} is left" for task in left]


def _answer(store: MergeableStore, _table: str, _row: str, _cell: str, new: CellOrMissing, *_: object) -> None:
    if new is not MISSING:
        store.set_cell("t", "1", COPIED, new)
