"""One schedule: a few hundred drawn steps, then peace, then the oracles."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from mergesync import MergeableStore
from mergesync.store.cells import encode_cell
from mergesync.types import MISSING, CellOrMissing

from .world import Client, World, changed_leaves, simulated

__all__ = ["Outcome", "run_schedule"]

STEPS = 200
PEACE_SECONDS = 90.0  # enough to find out that a link is deaf, and for the longest wait between two attempts

_CELLS: tuple[Any, ...] = (0, 1, 2.5, True, False, None, "", "dog", "é😀", {"a": [1]}, [], "\U0001f600" * 9)


@dataclass(frozen=True)
class Outcome:
    """How a schedule ended."""

    seed: int
    trace_hash: str
    steps: dict[str, int]
    failures: list[str]


class _Schedule:
    def __init__(self, world: World) -> None:
        self.world = world
        self.random = Random(world.random.random())
        self.paths = [f"p{index}" for index in range(self.random.randint(1, 3))]
        self.step_counts: dict[str, int] = {}
        steps: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
            ("write", 40, self.write),
            ("transaction", 6, self.transaction),
            ("delete", 8, self.delete),
            ("wait", 30, self.wait),
            ("new client", 4, self.new_client),
            ("online", 8, self.online),
            ("offline", 3, self.offline),
            ("client dies", 1, self.client_dies),
            ("cut", 4, self.cut),
            ("deaf", 1, self.deaf),
            ("stall", 2, self.stall),
            ("unreachable", 2, self.unreachable),
            ("server stops", 1, self.server_stops),
            ("server killed", 1, self.server_killed),
            ("power lost", 1, self.power_lost),
            ("server starts", 6, self.server_starts),
            ("disk fails", 2, self.disk_fails),
        ]
        # A swarm: each schedule has only some of the faults, so that rare combinations come up.
        self.steps = [step for step in steps if step[1] >= 6 or self.random.random() < 0.6]

    async def run(self) -> list[str]:
        await self.world.start_server()
        for path_id in self.paths:
            await self.world.connect(self.world.add_client(path_id, 0))
        weights = [weight for _, weight, _ in self.steps]
        for _ in range(STEPS):
            name, _, step = self.random.choices(self.steps, weights)[0]
            self.world.steps.append(name)
            self.world.note(f"step {name}")
            self.step_counts[name] = self.step_counts.get(name, 0) + 1
            await step()
        await self.make_peace()
        failures = self.check()
        final = {path_id: self.world.stores(path_id)[:1] for path_id in self.paths}
        await self.end()
        return failures + await self.check_storage(final)

    # --- steps

    def any_client(self) -> Client | None:
        return self.random.choice(self.world.clients) if self.world.clients else None

    async def write(self) -> None:
        client = self.any_client()
        if client is not None:
            self.write_one(client.store)

    def write_one(self, store: MergeableStore) -> None:
        cell = self.random.choice(_CELLS)
        if self.random.random() < 0.2:
            store.set_value(self.random.choice("vw"), cell)
        else:
            store.set_cell(self.random.choice("ts"), self.random.choice("123"), self.random.choice("abc"), cell)

    async def transaction(self) -> None:
        client = self.any_client()
        if client is None:
            return
        rolls_back = self.random.random() < 0.3
        before = client.store.get_mergeable_content()
        try:
            with client.store.transaction():
                for _ in range(self.random.randint(1, 6)):
                    self.write_one(client.store)
                if rolls_back:
                    raise _RollbackError
        except _RollbackError:
            if client.store.get_mergeable_content() != before:
                self.world.unexpected.append("a rollback left something behind")

    async def delete(self) -> None:
        client = self.any_client()
        if client is None:
            return
        kind = self.random.randrange(5)
        table_id, row_id, cell_id = (self.random.choice(ids) for ids in ("ts", "123", "abc"))
        if kind == 0:
            client.store.del_table(table_id)
        elif kind == 1:
            client.store.del_row(table_id, row_id)
        elif kind == 2:
            client.store.del_value(self.random.choice("vw"))
        else:
            client.store.del_cell(table_id, row_id, cell_id)

    async def wait(self) -> None:
        await asyncio.sleep(self.random.choice((0.0, 0.001, 0.01, 0.1, 1.0, 5.0)))

    async def new_client(self) -> None:
        if len(self.world.clients) < 12:
            offset = self.random.choice((0, 0, 0, -1000, 5000, 200_000))  # within five minutes of one another
            client = self.world.add_client(self.random.choice(self.paths), offset)
            await self.world.connect(client)

    async def online(self) -> None:
        client = self.any_client()
        if client is not None:
            await self.world.connect(client)

    async def offline(self) -> None:
        client = self.any_client()
        if client is not None:
            self.world.begin_to_disconnect(client)

    async def client_dies(self) -> None:
        client = self.any_client()
        if client is not None and len(self.world.clients) > 1:
            self.world.clients.remove(client)
            for link in self.world.network.links:
                if link.client_name == client.name:
                    link.cut()
            self.world.begin_to_disconnect(client)

    def any_link(self) -> Any:
        links = [link for link in self.world.network.links if link.open]
        return self.random.choice(links) if links else None

    async def cut(self) -> None:
        if (link := self.any_link()) is not None:
            link.cut()

    async def deaf(self) -> None:
        if (link := self.any_link()) is not None:
            link.go_deaf()

    async def stall(self) -> None:
        if (link := self.any_link()) is not None:
            link.stall(self.random.choice((0.1, 0.5, 2.0, 10.0)))

    async def unreachable(self) -> None:
        client = self.any_client()
        if client is not None:
            self.world.network.unreachable.symmetric_difference_update({client.name})

    async def server_stops(self) -> None:
        await self.world.stop_server()

    async def server_killed(self) -> None:
        await self.world.kill_server(lose_power=False)

    async def power_lost(self) -> None:
        if self.world.storage != "sqlite":  # SQLite's own promise is not simulated
            await self.world.kill_server(lose_power=True)

    async def server_starts(self) -> None:
        if self.world.server is None:
            await self.world.start_server()

    async def disk_fails(self) -> None:
        self.world.disk.fail_after = self.random.randrange(20)

    # --- the end

    async def make_peace(self) -> None:
        """No more faults; everybody online; wait until all is said."""
        self.world.note("peace")
        self.world.disk.fail_after = None
        self.world.network.unreachable.clear()
        await self.server_starts()
        for client in self.world.clients:
            await self.world.connect(client)
        await asyncio.sleep(PEACE_SECONDS)
        if self.world.relay:
            await self.let_all_announce()

    async def let_all_announce(self) -> None:
        """A switchboard repairs nothing: peers that differ find out when each tells its hashes (surprise 16)."""
        for client in self.world.clients:
            if client.synchronizer is not None:
                client.synchronizer.stop_sync()
                await client.synchronizer.start_sync()
                await asyncio.sleep(5.0)

    def check(self) -> list[str]:
        failures = [f"unexpected: {text}" for text in self.world.unexpected]
        for path_id in self.paths:
            failures += self.check_path(path_id)
        return failures

    def check_path(self, path_id: str) -> list[str]:
        clients = [client for client in self.world.clients if client.path_id == path_id]
        replicas = {client.name: client.store for client in clients}
        if self.world.server is not None:
            path = self.world.server._switchboard._paths.get(path_id)
            if path is not None and path._hub.store is not None:
                replicas["server"] = path._hub.store
        failures = []
        for name, store in replicas.items():
            store._check()
            failures += self.check_equal(path_id, name, store, next(iter(replicas.values())))
        for client in clients:
            failures += self.check_client(client)
        return failures

    def check_equal(self, path_id: str, name: str, store: MergeableStore, first: MergeableStore) -> list[str]:
        failures = []
        if store.get_mergeable_content() != first.get_mergeable_content():
            failures.append(f"{path_id}: {name} differs")
        written = self.world.written.get(path_id)
        for leaf, (wire, hlc) in changed_leaves(store.get_mergeable_content()):
            if written is not None and hlc and written.stamps.get(leaf, {}).get(hlc, _NEVER) != wire:
                failures.append(f"{path_id}: {name} holds {leaf} {hlc} that nobody wrote")
        return failures

    def check_client(self, client: Client) -> list[str]:
        failures = []
        for (table_id, row_id, leaf_id), heard in client.shadow.items():
            if table_id is None:
                held = client.store.get_value(leaf_id)
            else:
                held = client.store.get_cell(table_id, row_id, leaf_id)
            if _wire(held) != _wire(heard):
                failures.append(f"{client.name}: listeners heard {leaf_id} is {heard!r}, the store holds {held!r}")
        status = client.synchronizer.status if client.synchronizer else None
        if str(status) != "live":
            failures.append(f"{client.name}: status {status} at rest")
        return failures

    async def check_storage(self, final: dict[str, list[MergeableStore]]) -> list[str]:
        """What the server has stored is what everybody had in the end."""
        failures = []
        make_persister = self.world.persister_factory()
        for path_id, stores in final.items():
            if make_persister is not None and stores and stores[0].get_mergeable_content()[0][0]:
                persister = make_persister(path_id)
                await persister.load()
                if persister.store.get_mergeable_content() != stores[0].get_mergeable_content():
                    failures.append(f"{path_id}: something else is stored")
                await persister.destroy()
        return failures

    async def end(self) -> None:
        for client in self.world.clients:
            self.world.begin_to_disconnect(client)
        await asyncio.sleep(PEACE_SECONDS)
        await self.world.stop_server()


_NEVER: Any = object()


class _RollbackError(Exception):
    pass


def _wire(cell: CellOrMissing) -> tuple[type, Any]:
    return (type(cell), None if cell is MISSING else encode_cell(cell))


def run_schedule(seed: int) -> Outcome:
    """Run one schedule."""
    with simulated(seed) as world:
        schedule = _Schedule(world)
        try:
            failures = world.loop.run_until_complete(schedule.run())
        except Exception:
            failures = [traceback.format_exc()]
        _end_tasks(world)
        return Outcome(seed, world.trace_hash, schedule.step_counts, failures)


def _end_tasks(world: World) -> None:
    """Nothing may be left over; what is, is ended here and told."""
    tasks = asyncio.all_tasks(world.loop)
    for task in tasks:
        task.cancel()
    if tasks:
        world.loop.run_until_complete(asyncio.wait(tasks))
