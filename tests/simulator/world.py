"""The parts of one simulation: a server that may die, clients that come and go, and what everybody has written."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from mergesync import MergeableStore, WsServer
from mergesync.exceptions import MergesyncError
from mergesync.net import link as net_link
from mergesync.net import server as net_server
from mergesync.net.client import WsSynchronizer, create_ws_synchronizer
from mergesync.persist import JsonFilePersister, SqliteDatabase, SqlitePersister, poller, sqlite
from mergesync.sync.subprotocols import choose

from .database import Databases
from .disk import Disk
from .loop import SimulatedLoop
from .network import Link, Network, SimulatedChannel

__all__ = ["Client", "World", "simulated"]

EPOCH_MILLISECONDS = 1_704_067_200_000
_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

Leaf = tuple[str | None, str, str]
"""Table id (None for values), row id, leaf id."""


@dataclass
class Client:
    """A program with a store on a path."""

    name: str
    path_id: str
    clock_offset_milliseconds: int
    store: MergeableStore
    synchronizer: WsSynchronizer | None = None
    shadow: dict[Leaf, Any] = field(default_factory=dict)


@dataclass
class Written:
    """What was written on a path, by all that ever were on it.

    Attributes:
        stamps: per leaf every stamp, with its value.
        sure: per leaf the greatest stamp among those that cannot have been lost.
    """

    stamps: dict[Leaf, dict[str, Any]] = field(default_factory=dict)


class World:
    """Everything in one simulation.

    Args:
        seed: decides everything.
        folder: for databases.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = Random(seed)
        self.loop = SimulatedLoop(self._draw_delay)
        self.network = Network(Random(self.random.random()), self._note_frame)
        self.disk = Disk(Random(self.random.random()))
        self.databases = Databases(folder)
        self.storage = self.random.choice(("none", "json", "sqlite"))
        self.relay = self.random.random() < 0.15
        self.server: WsServer | None = None
        self.clients: list[Client] = []
        self.written: dict[str, Written] = {}
        self.errors: list[Exception] = []
        self.unexpected: list[str] = []
        self.steps: list[str] = []
        self._trace = hashlib.sha256()
        self._ids = Random(self.random.random())
        self._names = 0

    # --- determinism

    def _draw_delay(self) -> float:
        return self.random.random() * 0.003

    def note(self, text: str) -> None:
        """Add to the trace."""
        self._trace.update(f"{self.loop.time():.9f} {text}\n".encode("utf-8", "replace"))

    def _note_frame(self, link: Link, target: SimulatedChannel, text: str) -> None:
        self.note(f"{link.client_name} {target is link.client} {text}")

    @property
    def trace_hash(self) -> str:
        """Equal for equal seeds."""
        return self._trace.hexdigest()

    def new_id(self, length: int) -> str:
        """A random id that is not random."""
        return "".join(self._ids.choices(_ALPHABET, k=length))

    def now(self, offset_milliseconds: int) -> int:
        """A wall clock that is off by so much."""
        return EPOCH_MILLISECONDS + int(self.loop.time() * 1000) + offset_milliseconds

    # --- the server

    def _make_store(self) -> MergeableStore:
        return MergeableStore(self.new_id(11), get_now=lambda: self.now(0))

    async def start_server(self) -> None:
        """Let there be a server."""
        self.server = WsServer(self.persister_factory(), relay=self.relay, on_ignored_error=self.errors.append)
        self.network.listening = self.server._switchboard.serve

    def persister_factory(self) -> Any:
        """What makes persisters for the living process; None where nothing is stored."""
        return {"none": None, "json": self._json_persister, "sqlite": self._sqlite_persister()}[self.storage]

    def _json_persister(self, path_id: str) -> JsonFilePersister:
        return JsonFilePersister(
            self._make_store(),
            f"/data/{path_id}.json",
            path_id=path_id,
            files=self.disk.view,
            on_ignored_error=self.errors.append,
        )

    def _sqlite_persister(self) -> Any:
        database = SqliteDatabase(self.databases.file, connect=self.databases.connect)  # type: ignore[arg-type]
        return lambda path_id: SqlitePersister(
            self._make_store(), database, path_id, on_ignored_error=self.errors.append
        )

    async def stop_server(self) -> None:
        """The server is shut down in order."""
        server, self.server, self.network.listening = self.server, None, None
        if server is not None:
            await server.destroy(1012, "")

    async def kill_server(self, lose_power: bool) -> None:
        """The server dies; nothing of it runs any more, nothing more of it reaches a disk."""
        server, self.server, self.network.listening = self.server, None, None
        if server is None:
            return
        if lose_power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self.databases.kill()
        for link in self.network.links:
            link.cut()
        await self._bury(server)

    async def _bury(self, server: WsServer) -> None:
        """End the tasks of a dead server; what they still try fails, as the disk does not hear them."""
        with mock.patch.object(server, "_report", create=True):
            await server.destroy()

    # --- clients

    def add_client(self, path_id: str, clock_offset_milliseconds: int) -> Client:
        """A program starts, without a connection yet."""
        self._names += 1
        name = f"c{self._names}"
        store = MergeableStore(name, get_now=lambda: self.now(clock_offset_milliseconds))
        client = Client(name, path_id, clock_offset_milliseconds, store)
        store.add_did_finish_transaction_listener(lambda store: self._note_written(client, store))
        store.add_cell_listener(None, None, None, lambda _, t, r, c, new: client.shadow.__setitem__((t, r, c), new))
        store.add_value_listener(None, lambda _, v, new: client.shadow.__setitem__((None, "", v), new))
        self.clients.append(client)
        return client

    def _note_written(self, client: Client, store: MergeableStore) -> None:
        stamps = self.written.setdefault(client.path_id, Written()).stamps
        for leaf, (wire, hlc) in changed_leaves(store.get_transaction_mergeable_changes()):
            stamps.setdefault(leaf, {}).setdefault(hlc, wire)

    async def connect(self, client: Client) -> None:
        """A program goes online."""
        if client.synchronizer is None:
            client.synchronizer = await create_ws_synchronizer(
                client.store, f"ws://{client.name}/{client.path_id}", wait=False, on_ignored_error=self.errors.append
            )
            self.spawn(client.synchronizer.start_sync())

    def begin_to_disconnect(self, client: Client) -> None:
        """A program goes offline in order."""
        synchronizer, client.synchronizer = client.synchronizer, None
        if synchronizer is not None:
            self.spawn(synchronizer.destroy())

    def spawn(self, work: Any) -> None:
        """Do something meanwhile; errors of mergesync are part of life, all others are not."""

        async def run() -> None:
            try:
                await work
            except (MergesyncError, asyncio.CancelledError):
                pass
            except Exception as error:
                self.unexpected.append(f"{type(error).__name__}: {error}")

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    _tasks: set[asyncio.Task[None]] = set()  # noqa: RUF012 - replaced per world below

    def stores(self, path_id: str) -> list[MergeableStore]:
        """The stores of the clients of a path."""
        return [client.store for client in self.clients if client.path_id == path_id]


def changed_leaves(body: Any) -> Iterator[tuple[Leaf, tuple[Any, str]]]:
    """Every leaf of changes or content."""
    for table_id, table in body[0][0].items():
        for row_id, row in table[0].items():
            for cell_id, stamp in row[0].items():
                yield (table_id, row_id, cell_id), (stamp[0], stamp[1] if len(stamp) > 1 else "")
    for value_id, stamp in body[1][0].items():
        yield (None, "", value_id), (stamp[0], stamp[1] if len(stamp) > 1 else "")


@contextmanager
def simulated(seed: int) -> Iterator[World]:
    """A world in which everything random comes from the seed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        world = World(seed, Path(folder))
        world._tasks = set()

        async def connect(url: str, **options: Any) -> SimulatedChannel:
            name, _, path_id = url.removeprefix("ws://").partition("/")
            return await world.network.connect(name, f"/{path_id}", choose(options["subprotocols"]))

        def now() -> int:
            return world.now(0)

        with (
            mock.patch.object(net_link, "connect", connect),
            mock.patch.object(net_link, "WebsocketsChannel", lambda channel: channel),
            mock.patch.object(net_server, "get_now", now),
            mock.patch.object(random, "uniform", Random(seed).uniform),
            # Nobody edits files from outside here; looking for it would be most of the work.
            mock.patch.object(poller, "FILE_POLL_SECONDS", 5.0),
            mock.patch.object(sqlite, "SQLITE_POLL_SECONDS", 5.0),
            mock.patch.object(secrets, "token_bytes", lambda count=32: world._ids.randbytes(count)),
            mock.patch.object(secrets, "token_hex", lambda count=32: world._ids.randbytes(count).hex()),
        ):
            asyncio.set_event_loop(world.loop)
            try:
                yield world
            finally:
                asyncio.set_event_loop(None)
                world.loop.close()
