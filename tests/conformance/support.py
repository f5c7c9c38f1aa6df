"""Stores of both makes behind one face, on a server of either make: what the test_tinybase_* modules are written with.

    async with World.open(setup, node, tmp_path) as world:
        a, b = await world.two()
        await a.ops(["setCell", "pets", "fido", "species", "dog"])
        await world.settle([{"pets": {"fido": {"species": "dog"}}}, {}])

Operations and content are as in `nodepeer`: TinyBase's method names, wire form. A world ends by checking that nothing
was reported that the test did not expect, and that no task is left.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection

from mergesync import (
    ConnectionLostError,
    MergeableStore,
    RequestTimeoutError,
    SyncStatus,
    WsClient,
    WsServer,
    WsSynchronizer,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.net.listening import ListeningWsServer
from mergesync.persist import json_file_persisters
from mergesync.store import jsjson

from .nodepeer import NodeClient, NodePeer, NodeServer, NodeSocket, NodeStore, Operation

TOMBSTONE: Final = "\ufffc"
JSON_PREFIX: Final = "\ufffd"
WAIT_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.01
SET_BACK_SECONDS: Final = 2.0
SET_BACK_ROUNDS: Final = 3
HOST: Final = "127.0.0.1"
PATH: Final = "shop"

# Where the server answers, nobody ever waits that long. Where it does not, the first client on a path always does.
ANSWERED_SECONDS: Final = 5.0
UNANSWERED_SECONDS: Final = 0.4

Content: TypeAlias = list[Any]


# --- content


def canonical(tree: Any) -> str:
    """Text that is equal for what is equal in JavaScript, key order aside; True is not 1."""
    return json.dumps(_canonical(tree), sort_keys=True)


def _canonical(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _canonical(child) for key, child in tree.items()}
    if isinstance(tree, list | tuple):
        return [_canonical(child) for child in tree]
    if isinstance(tree, int | float) and not isinstance(tree, bool):
        return jsjson.canonical_number(tree)
    return tree


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two trees differ, for the messages of failures."""
    if canonical(one) == canonical(other):
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        children = [(f"{where}.{key!r}", one.get(key, _NOTHING), other.get(key, _NOTHING)) for key in {**one, **other}]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        children = [(f"{where}[{at}]", *pair) for at, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [f"{where}: {one!r:.200} != {other!r:.200}"]
    return [said for place, mine, yours in children for said in differences(mine, yours, place)][:10]


_NOTHING: Final = "(nothing)"


def merged_content(*mergeables: Content) -> Content:
    """What stores with these stamps must show once they have met: of each leaf the greatest stamp, told most simply."""
    tables: dict[str, dict[str, dict[str, list[Any]]]] = {}
    values: dict[str, list[Any]] = {}
    for mergeable in mergeables:
        for table_id, table in mergeable[0][0].items():
            for row_id, row in table[0].items():
                _take_greater(tables.setdefault(table_id, {}).setdefault(row_id, {}), row[0])
        _take_greater(values, mergeable[1][0])
    shown = {
        table_id: {row_id: cells for row_id, row in table.items() if (cells := _shown(row))}
        for table_id, table in tables.items()
    }
    return [{table_id: rows for table_id, rows in shown.items() if rows}, _shown(values)]


def _take_greater(leaves: dict[str, list[Any]], others: dict[str, list[Any]]) -> None:
    for leaf_id, leaf in others.items():
        if leaf_id not in leaves or leaf[1] > leaves[leaf_id][1]:
            leaves[leaf_id] = leaf


def _shown(leaves: dict[str, list[Any]]) -> dict[str, Any]:
    return {leaf_id: _decoded(leaf[0]) for leaf_id, leaf in leaves.items() if leaf[0] != TOMBSTONE}


def _decoded(cell: Any) -> Any:
    return json.loads(cell[1:]) if isinstance(cell, str) and cell.startswith(JSON_PREFIX) else cell


# --- our side, with the face of NodeStore and NodeClient


_SPECIALS: Final[dict[str, Any]] = {"-0": -0.0}


def snake_case(name: str) -> str:
    """TinyBase's name of a method as we spell it."""
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def run_operation(store: MergeableStore, operation: Operation) -> Any:
    """One operation of the vectors on our store; None for the store itself."""
    name, *arguments = operation
    match name:
        case "transaction":
            with store.transaction():
                return [run_operation(store, inner) for inner in arguments[0]]
        case "rollback":
            return store.transaction(lambda: [run_operation(store, inner) for inner in arguments[0]], lambda *_: True)
        case "apply":
            name = "applyMergeableChanges"
        case "load":
            name = "setMergeableContent"
        case "default":
            name = "setDefaultContent"
    arguments = [_SPECIALS[each["$"]] if isinstance(each, dict) and "$" in each else each for each in arguments]
    result = getattr(store, snake_case(name))(*arguments)
    return None if result is store else result


class PythonStore:
    """Our MergeableStore.

    Attributes:
        store: it.
        name: for messages.
    """

    def __init__(self, name: str, store: MergeableStore, report: Callable[[Exception], None]) -> None:
        self.name = name
        self.store = store
        self._report = report

    def __repr__(self) -> str:
        return f"<PythonStore {self.name!r}>"

    async def ops(self, *operations: Operation) -> list[Any]:
        """Runs operations."""
        return [run_operation(self.store, operation) for operation in operations]

    async def content(self) -> Content:
        """`[tables, values]`, what is visible."""
        return list(self.store.get_content())

    async def mergeable(self) -> Content:
        """Stamped content with hashes."""
        return self.store.get_mergeable_content()

    async def hashes(self) -> list[int]:
        """`[tables hash, values hash]`."""
        return self.store.get_mergeable_content_hashes()

    async def connect(
        self,
        url: str | None = None,
        *,
        socket: WsClient | None = None,
        channel: str | None = None,
        timeout: float = ANSWERED_SECONDS,
        fragment_size: int | None = None,
        reconnect: float | None = None,
        initial: Sequence[Any] | None = None,
        start: bool = True,
    ) -> PythonClient:
        """Connects, and starts to sync. `reconnect` has no meaning here, it always does."""
        given = socket if socket is not None else url
        assert given is not None
        transports: list[asyncio.WriteTransport] = []
        synchronizer = await create_ws_synchronizer(
            self.store,
            given,
            channel,
            request_timeout_seconds=timeout,
            fragment_size=fragment_size,
            on_ignored_error=self._report,
            connect_options=None if socket else {"create_connection": recording(ClientConnection, transports)},
        )
        client = PythonClient(self, synchronizer, transports)
        if start:
            await client.start_sync(initial)
        return client


class PythonClient:
    """Our WsSynchronizer."""

    def __init__(
        self, store: PythonStore, synchronizer: WsSynchronizer, transports: list[asyncio.WriteTransport]
    ) -> None:
        self.name = store.name
        self.synchronizer = synchronizer
        self._transports = transports

    async def start_sync(self, initial: Sequence[Any] | None = None) -> None:
        """Starts synchronizing, with optional initial content."""
        content = None if initial is None else (initial[0], initial[1])
        await asyncio.wait_for(self.synchronizer.start_sync(content), WAIT_SECONDS)

    async def stop_sync(self) -> None:
        """Stops synchronizing; the socket stays."""
        self.synchronizer.stop_sync()

    async def destroy(self) -> None:
        """Sends what is to be sent, and closes."""
        await self.synchronizer.destroy()

    async def terminate(self) -> None:
        """Drops the connection without a closing handshake; it comes back by itself."""
        self._transports[-1].abort()


def recording(kind: type[Any], transports: list[asyncio.WriteTransport]) -> type[Any]:
    """A class of WebSocket connections that tells its transports, so that tests can cut them."""

    class Recorded(kind):  # type: ignore[misc]  # one for servers, one for clients
        def connection_made(self, transport: asyncio.WriteTransport) -> None:
            transports.append(transport)
            super().connection_made(transport)

    return Recorded


AnyStore: TypeAlias = PythonStore | NodeStore
AnyClient: TypeAlias = PythonClient | NodeClient


# --- waiting


async def next_millisecond(*stores: AnyStore) -> None:
    """What is written after this has a greater stamp than all that was written before, by whichever of these stores.

    A client of ours that was kept from running between two looks at clocks sets its own a few milliseconds off.
    """
    clocks = [_now, *(store.store._clock.now for store in stores if isinstance(store, PythonStore))]
    last = max(clock() for clock in clocks)
    while min(clock() for clock in clocks) <= last:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def _now() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], bool | Awaitable[bool]], what: Callable[[], object], timeout: float) -> None:
    """Waits for a condition; fails with what there is instead."""
    end = time.monotonic() + timeout
    while True:
        met = condition()
        if met is True or (not isinstance(met, bool) and await met):
            return
        assert time.monotonic() < end, f"not in {timeout} s: {what()}"
        await asyncio.sleep(POLL_SECONDS)


async def until_live(client: AnyClient, timeout: float = WAIT_SECONDS) -> None:
    """Waits until a client is connected and syncing."""
    if isinstance(client, NodeClient):
        await client.wait_status("syncing", timeout=timeout)
        return
    synchronizer = client.synchronizer
    await until(lambda: synchronizer.status is SyncStatus.LIVE, lambda: synchronizer.status, timeout)


async def connects(client: AnyClient) -> int:
    """How many connections a client has made."""
    if isinstance(client, NodeClient):
        return int((await client.stats())["connects"])
    return client.synchronizer.client.connections


async def until_back(client: AnyClient, before: int, timeout: float = WAIT_SECONDS) -> None:
    """Waits until a client has a newer connection than it had, and syncs."""

    async def has_newer() -> bool:
        return await connects(client) > before

    await until(has_newer, lambda: f"no new connection of {client!r}", timeout)
    await until_live(client, timeout)


async def until_down(client: AnyClient, timeout: float = WAIT_SECONDS) -> None:
    """Waits until a client has noticed that its connection is gone, and cannot have another."""
    if isinstance(client, NodeClient):
        await client.wait_status("closed", timeout=timeout)
        return
    synchronizer = client.synchronizer
    down = (SyncStatus.OFFLINE, SyncStatus.CONNECTING)
    await until(lambda: synchronizer.status in down, lambda: synchronizer.status, timeout)


async def settle(stores: Iterable[AnyStore], content: Content | None = None, timeout: float = WAIT_SECONDS) -> Content:
    """Waits until all stores have the same visible content, stamps and hashes; ours are recomputed from the stamps.

    Args:
        stores: of either make.
        content: what it must be.
        timeout: when to fail, with what they have instead.

    Returns:
        The content.
    """
    stores = list(stores)
    end = time.monotonic() + timeout
    while True:
        hashes = await asyncio.gather(*(store.hashes() for store in stores))
        if all(each == hashes[0] for each in hashes):
            contents = await asyncio.gather(*(store.content() for store in stores))
            wanted = contents[0] if content is None else content
            if len({canonical(wanted), *map(canonical, contents)}) == 1:
                mergeables = await asyncio.gather(*(store.mergeable() for store in stores))
                if len(set(map(canonical, mergeables))) == 1:
                    for store in stores:
                        if isinstance(store, PythonStore):
                            store.store._check()
                    return contents[0]
        if time.monotonic() > end:
            break
        await asyncio.sleep(POLL_SECONDS)
    contents = await asyncio.gather(*(store.content() for store in stores))
    mergeables = await asyncio.gather(*(store.mergeable() for store in stores))
    wanted = contents[0] if content is None else content
    for store, has, stamps in zip(stores, contents, mergeables, strict=True):
        require_none(differences(has, wanted), f"content of {store!r} is not as it should be")
        require_none(differences(stamps, mergeables[0]), f"stamps of {store!r}, not as {stores[0]!r}")
    raise AssertionError("equal only after the time-out")


def require_none(things: Sequence[Any], what: str) -> None:
    """Fails with these things, if there are any; pytest explains no assertions of this module."""
    if things:
        raise AssertionError("\n".join([f"{what}:", *map(str, things)]))


# --- set-ups


@dataclass(frozen=True)
class Setup:
    """Who talks to whom.

    Attributes:
        server: `ours`, `ours-file` (with JSON files), `relay`, `relay-file`; or TinyBase's `node` (createWsServer),
            `node-store` (with stores in memory), `node-file`, `simple` (createWsServerSimple).
        clients: the makes of the two clients that a world has by itself.
    """

    server: str
    clients: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.server}:{'+'.join(self.clients)}"

    @property
    def is_ours(self) -> bool:
        """Whether the server is ours."""
        return not self.server.startswith(("node", "simple"))

    @property
    def answers(self) -> bool:
        """Whether the server has a store that answers the first client at once."""
        return self.server.startswith("ours")

    @property
    def has_store(self) -> bool:
        """Whether the server has a store at all."""
        return self.answers or self.server.endswith(("-file", "-store"))

    @property
    def keeps(self) -> bool:
        """Whether the server has files."""
        return self.server.endswith("-file")


NODE_ON_OURS: Final = Setup("ours", ("node", "node"))
NODE_ON_RELAY: Final = Setup("relay", ("node", "node"))
MIXED_ON_OURS: Final = Setup("ours-file", ("python", "node"))
MIXED_ON_RELAY: Final = Setup("relay-file", ("python", "node"))
PYTHON_ON_NODE: Final = Setup("node", ("python", "python"))
PYTHON_ON_NODE_STORE: Final = Setup("node-store", ("python", "python"))
PYTHON_ON_NODE_FILE: Final = Setup("node-file", ("python", "python"))
PYTHON_ON_SIMPLE: Final = Setup("simple", ("python", "python"))
MIXED_ON_NODE: Final = Setup("node-store", ("python", "node"))
MIXED_ON_NODE_FILE: Final = Setup("node-file", ("python", "node"))

SETUPS: Final = [
    *(NODE_ON_OURS, NODE_ON_RELAY, MIXED_ON_OURS, MIXED_ON_RELAY),
    *(PYTHON_ON_NODE, PYTHON_ON_NODE_STORE, PYTHON_ON_SIMPLE, MIXED_ON_NODE),
]
"""Those in which every live and offline scenario is run."""


@dataclass
class World:
    """A server, and clients of both makes on one path of it.

    Attributes:
        setup: who talks to whom.
        node: TinyBase, for its clients and its server.
        folder: for the files of the server.
        url: of the path.
        stores: by name, those on the path and those that have left.
        clients: by name, those on the path.
        errors: what our side reported; the test must empty it if it expects any.
        expected: kinds of errors that do not matter.
    """

    setup: Setup
    node: NodePeer
    folder: Path
    fragment_size: int | None = None
    server: WsServer | NodeServer | None = None
    port: int = 0
    stores: dict[str, AnyStore] = field(default_factory=dict)
    clients: dict[str, AnyClient] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    expected: list[type[Exception]] = field(default_factory=list)
    _servers: int = 0
    _start: dict[str, Any] = field(default_factory=dict)
    _options: dict[str, dict[str, Any]] = field(default_factory=dict)
    _transports: list[asyncio.WriteTransport] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, setup: Setup, node: NodePeer, folder: Path, *, fragment_size: int | None = None, **options: Any
    ) -> AsyncIterator[World]:
        """Starts the server; in the end closes everything, and checks that nothing is left or was reported.

        Args:
            setup: who talks to whom.
            node: TinyBase.
            folder: for files.
            fragment_size: of the server and all clients.
            options: of the server, see `start_server`.
        """
        world = cls(setup, node, folder / "data", fragment_size)
        if not setup.answers:
            world.expected.append(RequestTimeoutError)
        tasks = asyncio.all_tasks()
        await world.start_server(**options)
        try:
            yield world
            world.require_no_errors()
        finally:
            await asyncio.gather(*(world.leave(name) for name in list(world.clients)))
            await world.stop_server()
            for store in world.stores.values():
                if isinstance(store, NodeStore):
                    await node.do("dropStore", store=store.name)
        world.expect(ConnectionLostError)  # an exchange may have been under way
        world.require_no_errors()
        require_none([task for task in asyncio.all_tasks() - tasks if not task.done()], "tasks are left")

    def require_no_errors(self) -> None:
        """Fails if our side reported what was not expected."""
        require_none([e for e in self.errors if not isinstance(e, tuple(self.expected))], "errors were reported")

    @property
    def url(self) -> str:
        """Of the path."""
        return f"ws://{HOST}:{self.port}/{PATH}"

    # --- the server

    async def start_server(self, *, persisters: Any = None, patient: bool = False, **options: Any) -> None:
        """Starts the server, again on the same port if it ran before.

        Args:
            persisters: for our server: what makes persisters, instead of JSON files or nothing.
            patient: whether it waits long for answers, as a TinyBase server that gives up on one never asks again. A
                path of a TinyBase server with stores then takes as long to start.
            options: of our server, or of TinyBase's.
        """
        kind = self.setup.server
        self._start = {"persisters": persisters, "patient": patient, **options}
        timeout = ANSWERED_SECONDS if patient or self.setup.answers else UNANSWERED_SECONDS
        if self.setup.is_ours:
            if persisters is None and self.setup.keeps:
                persisters = json_file_persisters(self.folder)
            ours = await create_ws_server(
                HOST,
                self.port,
                persisters,
                relay=kind.startswith("relay"),
                request_timeout_seconds=timeout,
                fragment_size=self.fragment_size,
                on_ignored_error=self.errors.append,
                serve_options={"create_connection": recording(ServerConnection, self._transports)},
                **options,
            )
            self.server, self.port = ours, ours.port
            return
        self._servers += 1
        if kind == "simple":
            options["kind"] = kind
        else:
            if self.node.features["serverTimeout"]:
                options = {"timeout": timeout, **options}
            options = {"fragment_size": self.fragment_size, **options}
        if self.setup.has_store:
            options.setdefault("persist", self.folder if self.setup.keeps else "memory")
        self.server = await self.node.server(f"server{self._servers}", port=self.port, **options)
        self.port = self.server.port

    async def start_again(self) -> None:
        """Starts the server as it was started last."""
        await self.start_server(**self._start)

    async def stop_server(self, *, kill: bool = False) -> None:
        """Stops the server; `kill`: without saying good-bye to its clients."""
        server, self.server = self.server, None
        if isinstance(server, NodeServer):
            await (server.kill() if kill else server.stop())
        elif server is not None:
            if kill:
                for transport in self._transports:
                    transport.abort()
            await server.destroy()
            self._transports.clear()

    def server_store(self, path: str = PATH) -> AnyStore | None:
        """The store of the server, if there is one."""
        if isinstance(self.server, NodeServer):
            return self.server.store(path) if self.setup.has_store else None
        assert self.server is not None
        return replica(self.server, path)

    def expect(self, *kinds: type[Exception]) -> None:
        """These errors do not matter."""
        self.expected += kinds

    def take_errors(self) -> list[Exception]:
        """What our side reported, once."""
        taken = list(self.errors)
        self.errors.clear()
        return taken

    # --- clients

    async def store(self, name: str, make: str, **options: Any) -> AnyStore:
        """A new store of a make, not connected; options: `unique_id`, `offset` of its clock in ms, `ops`."""
        store: AnyStore
        if make == "node":
            store = await self.node.store(name, **options)
        else:
            store = python_store(name, self.errors.append, **options)
        self.stores[name] = store
        return store

    async def connect(self, store: AnyStore, *, url: str | None = None, **options: Any) -> AnyClient:
        """Connects a store to the path, and waits until it syncs."""
        if self.fragment_size is not None:
            options.setdefault("fragment_size", self.fragment_size)
        place = (url, options.get("channel"))
        answered = self.setup.answers or any(self._place(name) == place for name in self.clients)
        options.setdefault("timeout", ANSWERED_SECONDS if answered else UNANSWERED_SECONDS)
        client = await store.connect(url or self.url, **options)
        self.clients[store.name] = client
        self._options[store.name] = {**options, "url": url}
        return client

    def _place(self, name: str) -> tuple[str | None, str | None]:
        options = self._options[name]
        return options["url"], options.get("channel")

    async def two(self, **options: Any) -> tuple[AnyStore, AnyStore]:
        """Two new stores `a` and `b` of the makes of the set-up, connected."""
        a = await self.store("a", self.setup.clients[0])
        b = await self.store("b", self.setup.clients[1])
        await asyncio.gather(self.connect(a, **options), self.connect(b, **options))
        return a, b

    async def third(self, **options: Any) -> list[AnyStore]:
        """One more client of each make, connected."""
        stores = [await self.store(f"third {make}", make) for make in ("python", "node")]
        await asyncio.gather(*(self.connect(store, **options) for store in stores))
        return stores

    async def leave(self, *names: str) -> None:
        """Takes clients off the path."""
        clients = [self.clients.pop(name) for name in names]
        await asyncio.gather(*(client.destroy() for client in clients))

    async def rejoin(self, *names: str, **options: Any) -> None:
        """Connects stores that had left, as they were connected before."""
        await asyncio.gather(*(self.connect(self.stores[name], **{**self._options[name], **options}) for name in names))

    async def settle(self, content: Content | None = None, timeout: float = WAIT_SECONDS) -> Content:
        """Waits until all connected stores and that of the server are equal in content, stamps and hashes."""
        stores = [self.stores[name] for name in self.clients]
        of_server = self.server_store()
        if of_server is None:
            return await settle(stores, content, timeout)
        if self.setup.server != "node-file":
            return await settle([*stores, of_server], content, timeout)
        # TinyBase's file persister, when a save begins just after another, takes the older text for somebody's edit,
        # and sets the server store back to it, whatever the clients are. Who joins then may get the old things.
        for _ in range(SET_BACK_ROUNDS):
            try:
                return await settle([*stores, of_server], content, SET_BACK_SECONDS)
            except AssertionError:
                for name in list(self.clients):
                    await self.leave(name)
                    await self.rejoin(name)
        return await settle([*stores, of_server], content, timeout)

    async def wait_same_stamps(self) -> None:
        """Waits until all connected stores and that of the server have the same stamps and hashes, shown or not."""
        stores = [*(self.stores[name] for name in self.clients), self.server_store()]

        async def same() -> bool:
            mergeables = [await store.mergeable() for store in stores if store is not None]
            return len(set(map(canonical, mergeables))) == 1

        await until(same, lambda: f"stamps of {stores!r} differ", WAIT_SECONDS)

    async def settle_merged(self) -> Content:
        """Waits as `settle`, for what must come of what all stores of this world have."""
        mergeables = await asyncio.gather(*(store.mergeable() for store in self.stores.values()))
        return await self.settle(merged_content(*mergeables))

    async def settle_of(
        self, *names: str, path: str, content: Content | None = None, timeout: float = WAIT_SECONDS
    ) -> Content:
        """Waits until some stores, and that of the server for their path, are equal."""
        stores = [*(self.stores[name] for name in names), self.server_store(path)]
        return await settle([store for store in stores if store is not None], content, timeout)

    async def settle_merged_of(self, *names: str, path: str) -> Content:
        """Waits as `settle_of`, for what must come of what they have."""
        mergeables = await asyncio.gather(*(self.stores[name].mergeable() for name in names))
        return await self.settle_of(*names, path=path, content=merged_content(*mergeables))


def python_store(
    name: str,
    report: Callable[[Exception], None],
    *,
    unique_id: str | None = None,
    offset: int = 0,
    ops: Sequence[Operation] = (),
) -> PythonStore:
    """Our store behind the face of Node's."""
    get_now = (lambda: time.time_ns() // 1_000_000 + offset) if offset else None
    store = PythonStore(name, MergeableStore(unique_id, get_now=get_now), report)
    for operation in ops:
        run_operation(store.store, operation)
    return store


def replica(server: WsServer, path: str = PATH) -> PythonStore | None:
    """The store of a path of our server."""
    of_path = server._switchboard._paths.get(path)
    store = None if of_path is None else of_path._hub.store
    return None if store is None else PythonStore(f"server/{path}", store, lambda _: None)


__all__ = [
    "ANSWERED_SECONDS",
    "HOST",
    "JSON_PREFIX",
    "PATH",
    "SETUPS",
    "TOMBSTONE",
    "UNANSWERED_SECONDS",
    "WAIT_SECONDS",
    "AnyClient",
    "AnyStore",
    "ConnectionLostError",
    "ListeningWsServer",
    "NodeSocket",
    "PythonClient",
    "PythonStore",
    "Setup",
    "World",
    "canonical",
    "connects",
    "merged_content",
    "next_millisecond",
    "python_store",
    "replica",
    "settle",
    "until",
    "until_back",
    "until_down",
    "until_live",
]
