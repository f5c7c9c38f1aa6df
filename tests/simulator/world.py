"""The parts of one simulation: a server that may die, clients that come and go, and what everybody has written."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from websockets.exceptions import InvalidStatus

from mergesync import MergeableStore, WsServer
from mergesync.exceptions import MergesyncError, RefusedChangesError
from mergesync.net import link as net_link
from mergesync.net import lives as net_lives
from mergesync.net import path as net_path
from mergesync.net import presence as net_presence
from mergesync.net import server as net_server
from mergesync.net import switchboard
from mergesync.net.client import WsSynchronizer, create_ws_synchronizer
from mergesync.persist import Persister, SqliteDatabase, poller, sqlite
from mergesync.store.hlc import client_part, latest_allowed
from mergesync.sync import hub, synchronizer
from mergesync.sync.admission import Leaf, Reason, leaves_of
from mergesync.sync.subprotocols import choose

from .application import GUEST, Application, Grant
from .clock import Clock
from .database import Databases
from .disk import Disk
from .hooks import Hooks, InjectedError, injected_only
from .loop import SimulatedLoop
from .network import Link, Network, SimulatedChannel
from .storage import Durable, WatchedJsonPersister, WatchedSqlitePersister, json_file, stored_stamps

__all__ = ["Client", "World", "simulated"]

ROOMS_SHARE = 0.3
"""How many of the schedules have an application that decides who may do what."""

FAR_SHARE = 0.15
"""In how many of these clocks of clients may be far ahead."""

_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


@dataclass
class Client:
    """A program with a store on a path.

    Attributes:
        is_stock: whether it speaks TinyBase's protocol and no more.
        identity: who it is for an application.
        shadow: what listeners have heard.
        held: per leaf the stamp that the store holds, as listeners have heard it; it never shrinks.
        last_stamp: the greatest that the store has made, once its clock is not too far ahead.
        made: all that it has made.
        told_status: what the status listener heard last.
        connections: how often it went online.
        is_behind: whether it has refused what others have, as being too far in the future.
    """

    name: str
    path_id: str
    clock: Clock
    store: MergeableStore
    multiplexed: bool
    is_stock: bool
    identity: str = GUEST
    synchronizer: WsSynchronizer | None = None
    shadow: dict[Leaf, Any] = field(default_factory=dict)
    held: dict[Leaf, str] = field(default_factory=dict)
    last_stamp: str = ""
    made: set[str] = field(default_factory=set)
    told_status: str = "offline"
    connections: int = 0
    is_behind: bool = False

    @property
    def address(self) -> str:
        """What the network calls its present connection; an earlier one may still be closing."""
        return f"{self.name}.{self.connections}"


@dataclass
class Options:
    """What kind of world a schedule is in.

    Attributes:
        storage: none, json or sqlite.
        relay: whether the server is a switchboard.
        has_far_clocks: whether clocks of clients may be so far ahead that their stamps are refused.
        has_small_outboxes: whether who reads slowly is soon cut off.
        fragment_size: in how large pieces messages travel.
        rooms: whether an application decides who may do what.
        lives: whether it also makes and removes paths.
    """

    storage: str
    relay: bool
    has_far_clocks: bool
    has_small_outboxes: bool
    fragment_size: int | None
    rooms: bool
    lives: bool

    @classmethod
    def draw(cls, seed: int, random: Random) -> Options:
        """Draw one."""
        relay = random.random() < 0.15
        options = cls(
            random.choice(("none", "json", "json", "sqlite")),
            relay,
            not relay and random.random() < 0.15,
            not relay and random.random() < 0.15,
            random.choice((None, None, 60)),
            rooms=False,
            lives=False,
        )
        choice = Random(f"rooms {seed}").random()  # apart, so that it changes nothing else
        if choice < ROOMS_SHARE and not relay:
            options.rooms, options.lives = True, choice < ROOMS_SHARE / 2
            options.has_far_clocks = Random(f"far {seed}").random() < FAR_SHARE
        return options


class World:
    """Everything in one simulation.

    Args:
        seed: decides everything.
        folder: for databases.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = Random(seed)
        self.loop = SimulatedLoop(self._draw_delay)
        self.network = Network(Random(self.random.random()), self._note_frame, self._note_post)
        self.disk = Disk(Random(self.random.random()))
        self.databases = Databases(folder, self.disk)
        self.options = Options.draw(seed, self.random)
        self.slowest_seconds = self.random.choice((0.003, 0.003, 0.05))  # of work in threads
        self.hooks = Hooks(Random(self.random.random()))
        self.server: WsServer | None = None
        self.server_clock = Clock()
        self.database = self._open_database()  # of the living server
        self.holders: dict[tuple[WsServer, str], Persister] = {}  # by server and path id
        self.clients: list[Client] = []
        self.clients_made = 0
        self.written: dict[str, dict[Leaf, dict[str, Any]]] = {}
        self.durable: dict[str, Durable] = {}
        self.errors: list[Exception] = []
        self.unexpected: list[str] = []
        self.has_cut = False  # links to clients that live on
        self.unheard_failures = 0  # of the disk, in loads that were cancelled
        self.server_died = False
        self.hears_strangers = False  # whether others than clients make stamps: a liar, a listener of the server
        self._trace = hashlib.sha256()
        self._ids = Random(self.random.random())
        self._tasks: set[asyncio.Task[None]] = set()
        self.application: Application | None = None
        if self.options.rooms:
            self.application = Application(self, Random(f"application {seed}"), lives=self.options.lives)

    # --- determinism

    def _draw_delay(self) -> float:
        return self.random.random() * self.slowest_seconds

    def note(self, text: str) -> None:
        """Add to the trace."""
        self._trace.update(f"{self.loop.time():.9f} {text}\n".encode("utf-8", "replace"))

    def _note_frame(self, link: Link, target: SimulatedChannel, text: str) -> None:
        self.note(f"{link.client_name} {target is link.client} {text}")

    def _note_post(self, link: Link, end: SimulatedChannel, text: str) -> None:
        if self.application is not None:
            self.application.posted(link, end, text)

    @property
    def trace_hash(self) -> str:
        """Equal for equal seeds."""
        return self._trace.hexdigest()

    def new_id(self, length: int) -> str:
        """A random id that is not random."""
        return "".join(self._ids.choices(_ALPHABET, k=length))

    def random_bytes(self, count: int = 32) -> bytes:
        """Random bytes that are not random."""
        return self._ids.randbytes(count)

    # --- errors

    def report(self, error: Exception) -> None:
        """The callback for errors that nobody called for; it may fail, too."""
        self.errors.append(error)
        self.hooks.may_raise()

    def fail(self, oracle: str, text: str) -> None:
        """Something was wrong at once, not only at rest."""
        self.unexpected.append(f"{oracle}: {text}")

    # --- the server

    def make_store(self) -> MergeableStore:
        """A store for a path of the server."""
        return MergeableStore(self.new_id(11), get_now=self.server_now)

    def server_now(self) -> int:
        """What the wall clock of the server says, in milliseconds."""
        return self.server_clock.read(self.loop.time())

    async def start_server(self) -> None:
        """Let there be a server."""
        server: WsServer | None = None
        self.database = self._open_database()

        def make_persister(path_id: str) -> Any:
            return self.make_persister(path_id, server)

        stores = self.options.storage != "none"
        server = self.server = WsServer(
            self.hooks.around(make_persister) if stores else None,
            relay=self.options.relay,
            fragment_size=self.options.fragment_size,
            presence=True,
            on_ignored_error=self.report,
            **({} if self.application is None else self.application.options()),
        )
        if self.application is not None:
            self.application.serve(server)
        await server.__aenter__()
        self.network.listening = _Entrance(server)

    def make_persister(self, path_id: str, server: WsServer | None) -> Persister:
        """A persister of a server, or of nobody who only looks."""
        if self.options.storage == "json":
            file, files = json_file(path_id), self.disk.view
            return WatchedJsonPersister(self, server, self.make_store(), file, path_id=path_id, files=files)
        database = self.database if server is not None else self._open_database()
        return WatchedSqlitePersister(self, server, self.make_store(), database, path_id)

    def _open_database(self) -> SqliteDatabase:
        return SqliteDatabase(self.databases.file, connect=self.databases.connect)  # type: ignore[arg-type]

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
        self.server_died = True
        if lose_power:
            self.disk.lose_power()
        else:
            self.disk.kill()
        self.databases.kill()
        for link in self.network.links:
            link.cut()
        await server.destroy()  # end its tasks; what they still try fails, as no disk hears them

    # --- clients

    def add_client(self, path_id: str, clock: Clock, multiplexed: bool = False, identity: str = GUEST) -> Client:
        """A program starts, without a connection yet."""
        self.clients_made += 1
        name = f"c{self.clients_made}"
        store = MergeableStore(name, get_now=lambda: clock.read(self.loop.time()))
        client = Client(name, path_id, clock, store, multiplexed, self.random.random() < 0.4, identity)
        store.add_did_finish_transaction_listener(lambda store: self._note_written(client, store))
        store.add_cell_listener(None, None, None, lambda _, t, r, c, new: client.shadow.__setitem__((t, r, c), new))
        store.add_value_listener(None, lambda _, v, new: client.shadow.__setitem__((None, "", v), new))
        self.clients.append(client)
        return client

    def _note_written(self, client: Client, store: MergeableStore) -> None:
        stamps = self.written.setdefault(client.path_id, {})
        own = client_part(client.name)
        if self.application is not None:
            self.application.written(client, store.get_transaction_mergeable_changes(), own)
        # What a clock that was too far ahead has stamped is stamped anew in the server's time.
        latest = latest_allowed(self.server_now())
        last = "" if client.last_stamp > latest else client.last_stamp
        client.last_stamp = last
        for leaf, (wire, *hlcs) in leaves_of(store.get_transaction_mergeable_changes()):
            hlc = hlcs[0] if hlcs else ""
            if hlc < client.held.get(leaf, "") <= latest:
                self.fail("stamps", f"{client.name} goes back at {leaf}: {hlc}")
            client.held[leaf] = hlc
            if hlc[11:] == own:
                if hlc <= last or hlc in client.made:
                    self.fail("stamps", f"{client.name} makes {hlc}, which is not new")
                client.last_stamp = max(client.last_stamp, hlc)
                client.made.add(hlc)
                stamps.setdefault(leaf, {})[hlc] = wire

    async def connect(self, client: Client) -> None:
        """A program goes online."""
        if client.synchronizer is not None:
            return
        client.connections += 1
        path_id, channel_id = ("", client.path_id) if client.multiplexed else (client.path_id, None)
        client.synchronizer = await create_ws_synchronizer(
            client.store,
            f"ws://{client.address}/{path_id}",
            channel_id,
            wait=False,
            fragment_size=self.options.fragment_size,
            on_ignored_error=partial(self._report_of, client),
            token=None if self.application is None else partial(self.application.token_for, client),
            name=None if self.application is None else client.name,
        )
        if self.application is not None:
            self.application.requests.listen(client)
        client.told_status = client.synchronizer.status
        client.synchronizer.add_status_listener(lambda told_by, status: self._note_status(client, told_by, status))
        self.spawn(client.synchronizer.start_sync())

    def _report_of(self, client: Client, error: Exception) -> None:
        client.is_behind |= isinstance(error, RefusedChangesError) and Reason.FUTURE.value in error.reasons
        self.report(error)

    def _note_status(self, client: Client, told_by: WsSynchronizer, status: str) -> None:
        if told_by is client.synchronizer:
            client.told_status = status

    def begin_to_disconnect(self, client: Client) -> None:
        """A program goes offline in order."""
        synchronizer, client.synchronizer = client.synchronizer, None
        if synchronizer is not None:
            self.spawn(synchronizer.destroy())

    async def hear_promise(self, client: Client) -> None:
        """What the server has promised to have stored for a client is there whenever it is looked for."""
        if client.synchronizer is None or self.options.has_far_clocks:  # what is refused is not stored
            return
        held, application = dict(client.held), self.application
        if self.options.relay:  # what peers have given it directly, they give to the server as well
            held = {leaf: hlc for leaf, hlc in held.items() if hlc in client.made}
        removals = 0 if application is None else application.removals_of(client.path_id)
        await client.synchronizer.durable()
        if removals is None or (application is not None and removals != application.removals_of(client.path_id)):
            return
        stored = stored_stamps(self, client.path_id)
        for leaf, hlc in held.items():
            if stored.get(leaf, "") < hlc:
                self.fail("durable", f"{client.path_id}: {leaf} {hlc} is promised, and {stored.get(leaf)} is stored")
        durable = self.durable.setdefault(client.path_id, {})
        for leaf, hlc in held.items():
            durable[leaf] = max(hlc, durable.get(leaf, ""))

    def links_of(self, client: Client) -> list[Link]:
        """The open links of a client."""
        return [link for link in self.network.links if link.client_name == client.address and link.open]

    def grant_of(self, client: Client) -> Grant | None:
        """What a client was granted on its present connection."""
        links = self.links_of(client)
        return None if self.application is None or not links else self.application.grants.get(links[-1].key)

    def ends_equal(self, client: Client) -> bool:
        """Whether a client that is on its path is to end equal to the server."""
        grant = self.grant_of(client)
        is_let = self.application is None or (grant is not None and grant.ends_equal)
        # Tame clocks add up: one that drifts after it was told the time, and that of a TinyBase client (632845).
        return is_let and not (client.is_behind and client.is_stock and not self.options.has_far_clocks)

    def spawn(self, work: Awaitable[Any]) -> None:
        """Do something meanwhile; errors of mergesync are part of life, all others are not."""

        async def run() -> None:
            try:
                await work
            except (MergesyncError, InjectedError, asyncio.CancelledError):
                pass
            except Exception as error:
                if not injected_only(error):
                    self.fail("error", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")

        task = self.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish_spawned(self) -> None:
        """Wait until all that was begun meanwhile is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def listed(self) -> dict[str, tuple[set[str], set[str]]]:
        """By path, whom the presence of it lists, and who is there."""
        if self.server is None:
            return {}
        switchboard = self.server._switchboard
        return {
            path_id: (set(presence.store.get_row_ids("clients")), set(switchboard.on_path.get(path_id, ())))
            for path_id, presence in switchboard._presences.items()
        }

    def replica(self, path_id: str) -> Any:
        """The hub of a path of the living server, or None."""
        path = None if self.server is None else self.server._switchboard._paths.get(path_id)
        return None if path is None else path._hub


@contextmanager
def simulated(seed: int) -> Iterator[World]:
    """A world in which everything random comes from the seed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, ExitStack() as patches:
        world = World(seed, Path(folder))

        async def connect(url: str, **options: Any) -> SimulatedChannel:
            name, _, path_id = url.removeprefix("ws://").partition("/")
            is_stock = any(client.is_stock for client in world.clients if client.address == name)
            names = options["subprotocols"]
            said = {name.lower(): value for name, value in options.get("additional_headers", {}).items()}
            return await world.network.connect(name, f"/{path_id}", names[0] if is_stock else choose(names), said)

        def patch(target: Any, name: str, value: Any) -> None:
            patches.enter_context(mock.patch.object(target, name, value))

        patch(net_link, "connect", connect)
        patch(net_link, "WebsocketsChannel", lambda channel: channel)
        patch(net_server, "get_now", world.server_now)
        patch(net_path, "MergeableStore", world.make_store)  # that of a path without storage
        patch(net_lives, "MergeableStore", world.make_store)
        patch(hub.Hub, "ready", _watched(world, hub.Hub.ready))
        patch(net_presence, "MergeableStore", lambda: MergeableStore("presence", get_now=world.server_now))
        patch(random, "uniform", Random(seed).uniform)
        # Nobody edits files from outside here; looking for it would be most of the work.
        patch(poller, "FILE_POLL_SECONDS", 30.0)
        patch(sqlite, "SQLITE_POLL_SECONDS", 30.0)
        patch(secrets, "token_bytes", world.random_bytes)
        patch(secrets, "token_hex", lambda count=32: world.random_bytes(count).hex())
        if world.options.has_far_clocks or world.options.rooms:
            # TinyBase's clients do not look whether the server has got all; ours find by it what they were not told,
            # and for long, as a server never gets what it refuses.
            patch(synchronizer, "ServerCheck", lambda _now: None)
        if world.options.has_small_outboxes:
            patch(switchboard, "MAX_OUTBOX_BYTES", 6000)
            patch(net_link, "MAX_OUTBOX_BYTES", 6000)
        asyncio.set_event_loop(world.loop)
        try:
            yield world
        finally:
            asyncio.set_event_loop(None)
            world.loop.close()


class _Entrance:
    """Where a server is asked for sockets, and serves them; what `websockets` is in reality."""

    def __init__(self, server: WsServer) -> None:
        self._server = server

    async def receive(self, name: str, target: str, headers: Mapping[str, str], subprotocol: str | None) -> Any:
        offered = [] if subprotocol is None else [subprotocol]
        visitor = self._server._visitor(target, headers, (name, 0), offered)
        refusal = await self._server._reception.receive(visitor)
        if refusal is not None:
            raise InvalidStatus(net_server._response(refusal))
        return visitor

    async def serve(self, channel: SimulatedChannel, visitor: Any) -> None:
        await self._server._switchboard.serve(channel, visitor)


def _watched(world: World, ready: Callable[..., None]) -> Callable[..., None]:
    """`Hub.ready` that tells of what was loaded."""

    def watched(path: hub.Hub, store: MergeableStore | None, now: float, **options: Any) -> None:
        if world.application is not None and store is not None and "~" not in path.path_id:
            world.application.loaded(path.path_id, store)
        ready(path, store, now, **options)

    return watched
