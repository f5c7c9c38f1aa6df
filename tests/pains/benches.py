"""A server and clients of either make behind one face: what the scripts are written with.

Stores and operations are those of `tests.conformance`: TinyBase's names of methods. Everything is as the documentation
of the make suggests: TinyBase's clients have a reconnecting wrapper around their sockets, ours reconnect by themselves.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from mergesync import MergeableStore, create_ws_server
from mergesync.persist import Persister, json_file_persisters
from mergesync.persist.names import file_name
from tests.conformance.nodepeer import NEWEST, NodeClient, NodePeer, NodeServer, NodeStore
from tests.conformance.support import AnyStore, python_store

__all__ = ["Bench", "MergesyncBench", "Server", "StockClientsBench", "TinyBaseBench"]

HOST: Final = "127.0.0.1"
Contents: TypeAlias = dict[str, Any]


class Server(ABC):
    """A server of either make.

    Attributes:
        port: where it listens.
        url: without a path.
    """

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"ws://{HOST}:{self.port}"

    @abstractmethod
    async def path_ids(self) -> list[str]:
        """The paths that have clients."""

    @abstractmethod
    async def errors(self) -> list[str]:
        """What its error handler heard."""

    @abstractmethod
    async def contents(self) -> Contents:
        """What its database holds, by path."""

    @abstractmethod
    async def stop(self) -> None:
        """End it, and drop its clients."""


class Bench(ABC):
    """A make of server and a make of clients, for one script.

    Attributes:
        name: of what is on it.
        needs_node: whether any of it is TinyBase.
        folder: for files.
        patience_seconds: how long a script waits for what ought to happen.
    """

    name: ClassVar[str]
    needs_node: ClassVar[bool] = False
    patience_seconds: float

    def __init__(self, folder: Path, node: NodePeer | None) -> None:
        self.folder = folder
        self._node = node
        self._ends = AsyncExitStack()
        self._connected = AsyncExitStack()
        self._numbers = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Bench]:
        """For one script."""
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(await NodePeer.start()) if cls.needs_node else None
            bench = cls(folder, node)
            async with bench._ends, bench._connected:
                yield bench

    @property
    def node(self) -> NodePeer:
        """TinyBase."""
        assert self._node is not None
        return self._node

    @abstractmethod
    async def store(self, *, offset: int = 0) -> AnyStore:
        """A new store, with a clock that is ahead by milliseconds."""

    @abstractmethod
    async def connect(self, store: AnyStore, url: str) -> None:
        """Connect a store for as long as the script runs, through all reconnects, and start to sync."""

    @abstractmethod
    async def heard(self) -> list[str]:
        """What the error handlers of all clients heard."""

    @abstractmethod
    async def serve(self, *, port: int = 0, files: bool = False, database: Mapping[str, Any] | None = None) -> Server:
        """Start a server: with a folder of files, with a database, or with neither.

        Args:
            port: 0 for a free one.
            files: whether to keep paths in files, named as the documentation of the make suggests.
            database: the `contents` at first, and how many `factoryFailures` and `loadFailures` come first.
        """

    @abstractmethod
    def file(self, path_id: str) -> Path:
        """The file of a path."""

    async def disconnect_all(self) -> None:
        """Let all clients go."""
        await self._connected.aclose()

    async def comes_true(self, condition: Callable[[], Awaitable[bool]], seconds: float | None = None) -> bool:
        """Wait until a condition holds, as long as patience lasts or so many seconds; whether it did."""
        deadline = time.monotonic() + (self.patience_seconds if seconds is None else seconds)
        while not await condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def files(self) -> list[str]:
        """The names of the files of paths."""
        return sorted(file.name for file in self.folder.iterdir() if file.suffix == ".json")

    def rows_in_file(self, path_id: str) -> int:
        """How many rows of the table `t` the file of a path holds."""
        tables = json.loads(self.file(path_id).read_bytes())[0][0]
        return len(tables["t"][0]) if "t" in tables else 0

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers


# --- mergesync


class _Database(Persister):
    """Keeps a store in a dict that may be told to fail."""

    def __init__(self, database: dict[str, Any], path_id: str, report: Callable[[Exception], None]) -> None:
        super().__init__(MergeableStore(), path_id=path_id, on_ignored_error=report)
        self._database = database

    async def _load(self) -> Any:
        if self._database["loadFailures"]:
            self._database["loadFailures"] -= 1
            raise OSError("timeout")
        return self._database["contents"].get(self.path_id)

    async def _save(self, body: Any) -> None:
        self._database["contents"][self.path_id] = body


class _MergesyncServer(Server):
    def __init__(self) -> None:
        self.reported: list[Exception] = []
        self.database: dict[str, Any] = {"contents": {}, "factoryFailures": 0, "loadFailures": 0}

    async def start(self, port: int, persisters: Any) -> None:
        self._server = await create_ws_server(HOST, port, persisters, on_ignored_error=self.reported.append)
        self.port = self._server.port

    def make_persister(self, path_id: str) -> Persister:
        if self.database["factoryFailures"]:
            self.database["factoryFailures"] -= 1
            raise OSError("db down")
        return _Database(self.database, path_id, self.reported.append)

    async def path_ids(self) -> list[str]:
        return self._server.get_path_ids()

    async def errors(self) -> list[str]:
        return list(map(str, self.reported))

    async def contents(self) -> Contents:
        return dict(self.database["contents"])

    async def stop(self) -> None:
        await self._server.destroy()


class _OnMergesync(Bench):
    async def serve(self, *, port: int = 0, files: bool = False, database: Mapping[str, Any] | None = None) -> Server:
        server = _MergesyncServer()
        persisters: Any = None
        if files:
            persisters = json_file_persisters(self.folder, on_ignored_error=server.reported.append)
        elif database is not None:
            server.database |= database
            persisters = server.make_persister
        await server.start(port, persisters)
        self._ends.push_async_callback(server.stop)
        return server

    def file(self, path_id: str) -> Path:
        return self.folder / file_name(path_id)


class MergesyncBench(_OnMergesync):
    """mergesync's server and clients."""

    name = "mergesync"
    patience_seconds = 20.0

    def __init__(self, folder: Path, node: NodePeer | None) -> None:
        super().__init__(folder, node)
        self._heard: list[Exception] = []

    async def store(self, *, offset: int = 0) -> AnyStore:
        return python_store(f"store{self._number()}", self._heard.append, offset=offset)

    async def connect(self, store: AnyStore, url: str) -> None:
        client = await store.connect(url, timeout=1.0)
        self._connected.push_async_callback(client.destroy)

    async def heard(self) -> list[str]:
        return list(map(str, self._heard))


# --- TinyBase


class _TinyBaseServer(Server):
    def __init__(self, server: NodeServer) -> None:
        self._server = server
        self._stopped = False
        self.port = server.port

    async def path_ids(self) -> list[str]:
        return list((await self._server.stats())["paths"])

    async def errors(self) -> list[str]:
        return list((await self._server.stats())["errors"])

    async def contents(self) -> Contents:
        return await self._server.database()

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await self._server.kill()


class _WithTinyBase(Bench):
    needs_node = True

    def __init__(self, folder: Path, node: NodePeer | None) -> None:
        super().__init__(folder, node)
        self._clients: list[NodeClient] = []

    async def store(self, *, offset: int = 0) -> AnyStore:
        return await self.node.store(f"store{self._number()}", offset=offset or None)

    async def connect(self, store: AnyStore, url: str) -> None:
        assert isinstance(store, NodeStore)
        client = await store.connect(url, wrapped=True)
        self._clients.append(client)
        self._connected.push_async_callback(client.destroy)

    async def heard(self) -> list[str]:
        return [error for client in self._clients for error in (await client.stats())["errors"]]


class TinyBaseBench(_WithTinyBase):
    """TinyBase 10.0.1 on Node: `createWsServer` and `createWsSynchronizer`."""

    name = f"TinyBase {NEWEST}"
    patience_seconds = 2.0

    async def serve(self, *, port: int = 0, files: bool = False, database: Mapping[str, Any] | None = None) -> Server:
        started = await self.node.server(
            f"server{self._number()}",
            port=port,
            persist=self.folder if files else None,
            file_names="documented" if files else None,
            database=database,
        )
        server = _TinyBaseServer(started)
        self._ends.push_async_callback(server.stop)
        return server

    def file(self, path_id: str) -> Path:
        return self.folder / (re.sub("[^a-zA-Z0-9]", "-", path_id) + ".json")


class StockClientsBench(_OnMergesync, _WithTinyBase):
    """TinyBase's clients on mergesync's server."""

    name = "TinyBase's clients on mergesync"
    patience_seconds = 5.0
