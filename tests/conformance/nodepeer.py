"""Stock TinyBase on Node, as an object of asyncio: `node/peer.mjs` behind typed methods.

    async with await NodePeer.start("9.4.0") as node:
        store = await node.store("a", "s1")
        client = await store.connect("ws://127.0.0.1:8047/petShop")
        await store.ops(["setCell", "pets", "fido", "species", "dog"])
        await store.wait(content=[{"pets": {"fido": {"species": "dog"}}}, {}])

Content and stamps are in wire form: U+FFFC is undefined, objects and arrays in stamps are strings that begin
with U+FFFD.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = [
    "NEWEST",
    "OLDER_VERSIONS",
    "VERSIONS",
    "NodeClient",
    "NodeError",
    "NodePeer",
    "NodePersister",
    "NodeProcess",
    "NodeServer",
    "NodeSocket",
    "NodeStore",
    "NodeUnavailableError",
    "ensure_node",
    "run_node",
]

NODE_FOLDER: Final = Path(__file__).parent / "node"
NEWEST: Final = "10.0.1"
OLDER_VERSIONS: Final = [
    *("5.0.0", "5.1.0", "5.3.1", "5.4.9", "6.0.0", "6.7.5", "7.0.0", "7.3.5"),
    *("8.0.1", "8.5.0", "9.2.0", "9.4.0", "9.5.1", "9.6.0", "9.7.1"),
]
"""Those that TinyBase itself synchronizes with 10.0.1."""
VERSIONS: Final = [*OLDER_VERSIONS, NEWEST]

LINE_LIMIT = 1 << 28
INSTALL_SECONDS = 300
ANSWER_SECONDS = 20.0
WAIT_SECONDS = 20.0
EXIT_SECONDS = 5.0

Operation = Sequence[Any]
"""One operation of the vectors: `["setCell", "pets", "fido", "species", "dog"]`, `["apply", changes]`, ..."""


class NodeUnavailableError(Exception):
    """There is no Node, or its packages cannot be installed."""


class NodeError(Exception):
    """The Node side answered with an error, or is gone."""


@functools.cache
def ensure_node() -> str:
    """Installs the npm packages unless they are there; returns the node executable.

    Workers of pytest-xdist wait for one another. The hash of package-lock.json is kept beside the packages and
    tells whether they are current.

    Raises:
        NodeUnavailableError: the reason, for a skip or a failure.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NodeUnavailableError("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < 20:
        raise NodeUnavailableError(f"node is {version}, and 20 or newer is needed")
    wanted = hashlib.sha256((NODE_FOLDER / "package-lock.json").read_bytes()).hexdigest()
    mark = NODE_FOLDER / "node_modules" / ".installed"
    with (NODE_FOLDER / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.exists() and mark.read_text() == wanted:
            return node
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                command, cwd=NODE_FOLDER, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise NodeUnavailableError(f"npm ci took more than {INSTALL_SECONDS} s") from error
        except subprocess.CalledProcessError as error:
            raise NodeUnavailableError(f"npm ci failed: {error.stderr.strip()[-500:]}") from error
        mark.write_text(wanted)
    return node


def run_node(script: str, *arguments: str, timeout: float = 120.0) -> str:
    """Runs a script of `node/` to its end; returns what it printed."""
    done = subprocess.run(
        [ensure_node(), str(NODE_FOLDER / script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise NodeError(f"{script} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _parse_int(text: str) -> int | float:
    """JavaScript's meaning of an integer: beyond 2**53 it stands for the nearest double."""
    number = int(text)
    return number if abs(number) <= 2**53 else float(text)


def _given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


class NodeProcess:
    """One Node process with one TinyBase version. It outlives event loops, so that tests can take it in turns."""

    def __init__(self, version: str = NEWEST) -> None:
        self.version = version
        self.request_ids = itertools.count(1)
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [ensure_node(), str(NODE_FOLDER / "peer.mjs"), version]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno())

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Its output and input, for the event loop that runs."""
        return await asyncio.open_connection(sock=self._socket.dup(), limit=LINE_LIMIT)

    def end(self) -> None:
        """End it: by the end of its input, or by force after a while."""
        self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._socket.close()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()


class NodePeer:
    """A Node process with one TinyBase version, holding any number of stores, clients and servers.

    Attributes:
        process: it.
        version: the TinyBase version.
        features: what this version can do: clock, serverStore, serverSimple, nulls, objects, serverTimeout,
            fragments, channels.
        unhandled: errors that nobody caught in Node, as they came. The fixtures fail if any are left.
    """

    def __init__(self, process: NodeProcess, output: asyncio.StreamReader, input_: asyncio.StreamWriter) -> None:
        self.process = process
        self.version = ""
        self.features: dict[str, bool] = {}
        self.unhandled: list[str] = []
        self._input = input_
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read(output), name="NodePeer")

    @classmethod
    async def start(cls, version: str = NEWEST) -> Self:
        """Starts Node and loads a TinyBase version."""
        return await cls.attach(NodeProcess(version))

    @classmethod
    async def attach(cls, process: NodeProcess) -> Self:
        """Drives a process that nobody else drives now."""
        peer = cls(process, *await process.streams())
        try:
            about = await peer.do("version")
        except BaseException:
            await peer.close()
            raise
        peer.version = about["version"]
        peer.features = about["features"]
        return peer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def detach(self) -> None:
        """Ends all that is in the process, which somebody else may drive then."""
        try:
            await self.do("reset")
        except BaseException:
            await self.close()
            raise
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._let_go()

    async def close(self) -> None:
        """Ends the process."""
        self.process.end()
        await self._reader
        await self._let_go()

    async def kill(self) -> None:
        """Ends the process at once, as a crash would."""
        self.process.kill()
        await self.close()

    async def _let_go(self) -> None:
        self._input.close()
        with contextlib.suppress(ConnectionError):
            await self._input.wait_closed()

    async def do(self, verb: str, /, *, answer_seconds: float = ANSWER_SECONDS, **arguments: Any) -> Any:
        """One request and its answer.

        Raises:
            NodeError: what the other side said, or that it is gone.
            TimeoutError: no answer in time.
        """
        number = next(self.process.request_ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._reader.done():
            raise NodeError("the Node process has ended")
        self._pending[number] = answer
        try:
            self._input.write(json.dumps({"id": number, "do": verb, **arguments}).encode() + b"\n")
            await self._input.drain()
            return await asyncio.wait_for(answer, answer_seconds)
        except ConnectionError as error:
            raise NodeError(f"{verb}: the Node process has ended") from error
        except TimeoutError:
            raise TimeoutError(f"{verb}: no answer from Node in {answer_seconds} s") from None
        finally:
            self._pending.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def _read(self, output: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(ConnectionError):  # it was killed
                while line := await output.readline():
                    self._take(json.loads(line, parse_int=_parse_int))
        finally:
            self._fail("the Node process has ended")

    def _fail(self, error: str) -> None:
        for number in list(self._pending):
            self._settle(number, NodeError(error))

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"event": "failed", "error": str(error)}:
                self._fail(error)
            case {"event": "unhandled", "error": str(error)}:
                self.unhandled.append(error)
            case {"id": int(number), "error": str(error)}:
                self._settle(number, NodeError(error))
            case {"id": int(number), "ok": result}:
                self._settle(number, result)
            case _:
                self.unhandled.append(f"unexpected line: {message!r}")

    def _settle(self, number: int, result: Any) -> None:
        future = self._pending.get(number)
        if future is None or future.done():
            return
        if isinstance(result, NodeError):
            future.set_exception(result)
        else:
            future.set_result(result)

    # The process.

    def take_unhandled(self) -> list[str]:
        """The errors that nobody caught in Node, once."""
        taken, self.unhandled = self.unhandled, []
        return taken

    async def stringify(self, texts: Sequence[str]) -> list[Any]:
        """`JSON.stringify(JSON.parse(text))` of each; `{"error": ...}` where a text is not JSON."""
        result: list[Any] = await self.do("stringify", texts=list(texts))
        return result

    # Stores.

    async def store(
        self,
        name: str,
        unique_id: str | None = None,
        *,
        now: int | None = None,
        offset: int | None = None,
        ops: Sequence[Operation] = (),
    ) -> NodeStore:
        """A new mergeable store, perhaps with a clock that stands (`now`) or is ahead (`offset`), in ms."""
        await self.do("store", store=name, ops=list(ops), **_given(uniqueId=unique_id, now=now, offset=offset))
        return NodeStore(self, name)

    async def wait_same(self, *stores: NodeStore, timeout: float = WAIT_SECONDS) -> None:
        """Waits until stores of this process have the same content and hashes."""
        names = [store.name for store in stores]
        await self.do("waitSame", stores=names, timeout=timeout, answer_seconds=timeout + ANSWER_SECONDS)

    # Sockets and servers.

    async def socket(
        self,
        name: str,
        url: str,
        *,
        protocol: str | None = "tinybase",
        headers: Mapping[str, str] | None = None,
    ) -> NodeSocket:
        """A socket that clients with channels share."""
        await self.do("socket", socket=name, url=url, protocol=protocol, **_given(headers=headers))
        return NodeSocket(self, name)

    async def server(
        self,
        name: str,
        *,
        kind: str = "server",
        port: int = 0,
        persist: str | Path | None = None,
        paths: Sequence[str] | None = None,
        then: Sequence[Operation] | None = None,
        timeout: float | None = None,
        fragment_size: int | None = None,
        now: int | None = None,
        offset: int | None = None,
        file_names: str | None = None,
        database: Mapping[str, Any] | None = None,
    ) -> NodeServer:
        """A server on a loopback port, by default a free one.

        Args:
            name: of the server; the store of a path is `server.store(path)`.
            kind: `server` (createWsServer) or `simple` (createWsServerSimple).
            port: 0 is a free one.
            persist: a folder for JSON files, `memory` for server stores without a file, or None for no
                server stores.
            paths: where to have server stores, if not everywhere.
            then: operations on each server store once it is loaded (the callback of the pair).
            timeout: the server's request time-out in seconds (from 9.2.0).
            fragment_size: from 9.2.0.
            now: the clock of the server stores, standing.
            offset: the clock of the server stores, ahead by milliseconds.
            file_names: `documented` for those of TinyBase's documentation; by default percent-encoded path ids.
            database: instead of files: `contents` by path, and how many `factoryFailures` and `loadFailures` come
                first.
        """
        address = await self.do(
            "server",
            server=name,
            kind=kind,
            port=port,
            **_given(
                persist=None if persist is None else str(persist),
                paths=paths,
                then=then,
                timeout=timeout,
                fragmentSize=fragment_size,
                now=now,
                offset=offset,
                fileNames=file_names,
                database=database,
            ),
        )
        return NodeServer(self, name, address["port"], address["url"])


class _Named:
    def __init__(self, peer: NodePeer, name: str) -> None:
        self.peer = peer
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of tinybase {self.peer.version}>"


class NodeStore(_Named):
    """A MergeableStore on Node."""

    async def ops(self, *operations: Operation) -> list[Any]:
        """Runs operations; the results, None where it is the store itself."""
        result: list[Any] = await self.peer.do("ops", store=self.name, ops=operations)
        return result

    async def call(self, method: str, *arguments: Any) -> Any:
        """Calls any method of the store."""
        return await self.peer.do("call", store=self.name, method=method, args=arguments)

    async def content(self) -> list[Any]:
        """`[tables, values]`, what is visible."""
        result: list[Any] = await self.peer.do("content", store=self.name)
        return result

    async def mergeable(self) -> list[Any]:
        """Stamped content with hashes, as a file would have it."""
        result: list[Any] = await self.peer.do("mergeable", store=self.name)
        return result

    async def hashes(self) -> list[int]:
        """`[tables hash, values hash]`."""
        result: list[int] = await self.peer.do("hashes", store=self.name)
        return result

    async def json(self) -> str:
        """The text of `getJson()`."""
        result: str = await self.peer.do("json", store=self.name)
        return result

    async def wait(self, *, timeout: float = WAIT_SECONDS, **until: Any) -> None:
        """Waits until content, tables, values, hashes or mergeable are as given, whatever the order of keys.

        Raises:
            NodeError: they are not in time; the message tells what they are.
        """
        await self.peer.do(
            "wait", store=self.name, until=until, timeout=timeout, answer_seconds=timeout + ANSWER_SECONDS
        )

    async def connect(
        self,
        url: str | None = None,
        *,
        name: str | None = None,
        socket: NodeSocket | None = None,
        channel: str | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        fragment_size: int | None = None,
        reconnect: float | None = None,
        record: bool = False,
        start: bool = True,
        initial: Sequence[Any] | None = None,
        wrapped: bool | None = None,
    ) -> NodeClient:
        """Connects a synchronizer, and starts it.

        Args:
            url: where to; or else `socket`.
            name: of the client, by default that of the store.
            socket: a shared socket, for channels.
            channel: from 9.4.0.
            protocol: the WebSocket subprotocol, by default `tinybase` with a channel and none without.
            headers: of the WebSocket handshake.
            timeout: the request time-out in seconds.
            fragment_size: from 9.2.0.
            reconnect: seconds after which a closed socket is replaced, with a new synchronizer, as
                an application does it.
            record: whether stats tell all messages sent and received.
            start: whether to await `startSync`.
            initial: the initial content of `startSync`.
            wrapped: whether to put the reconnecting wrapper around the socket that TinyBase's documentation suggests.
        """
        client = name if name is not None else self.name
        await self.peer.do(
            "connect",
            client=client,
            store=self.name,
            start=start,
            **_given(
                url=url,
                socket=None if socket is None else socket.name,
                channel=channel,
                protocol=protocol,
                headers=headers,
                timeout=timeout,
                fragmentSize=fragment_size,
                reconnect=reconnect,
                record=record,
                initial=initial,
                wrapped=wrapped,
            ),
        )
        return NodeClient(self.peer, client)

    async def file_persister(self, file: str | Path, *, name: str | None = None) -> NodePersister:
        """A file persister, which does nothing yet."""
        persister = name if name is not None else self.name
        await self.peer.do("persister", persister=persister, store=self.name, file=str(file))
        return NodePersister(self.peer, persister)


class NodeClient(_Named):
    """A WsSynchronizer on Node."""

    async def start_sync(self, initial: Sequence[Any] | None = None) -> None:
        """Starts synchronizing, with optional initial content."""
        await self.peer.do("startSync", client=self.name, **_given(initial=initial))

    async def stop_sync(self) -> None:
        """Stops synchronizing; the socket stays."""
        await self.peer.do("stopSync", client=self.name)

    async def destroy(self) -> dict[str, Any]:
        """Destroys the synchronizer, waits for its socket to close; the last stats."""
        result: dict[str, Any] = await self.peer.do("destroy", client=self.name)
        return result

    async def terminate(self) -> None:
        """Drops the connection without a closing handshake."""
        await self.peer.do("terminate", client=self.name)

    async def wait_status(self, status: str, *, timeout: float = WAIT_SECONDS) -> None:
        """Waits for new, connecting, open, syncing, closed or destroyed."""
        await self.peer.do(
            "waitStatus",
            client=self.name,
            status=status,
            timeout=timeout,
            answer_seconds=timeout + ANSWER_SECONDS,
        )

    async def stats(self) -> dict[str, Any]:
        """Status, connects, errors, closes `[code, reason]`, sent, received, synchronizer, protocol."""
        result: dict[str, Any] = await self.peer.do("stats", client=self.name)
        return result


class NodeSocket(_Named):
    """A WebSocket on Node that several channels share."""

    async def stats(self) -> dict[str, Any]:
        """Whether it is open, its protocol, closes `[code, reason]` and errors."""
        result: dict[str, Any] = await self.peer.do("socketStats", socket=self.name)
        return result

    async def close(self) -> None:
        """Closes it."""
        await self.peer.do("closeSocket", socket=self.name)


class NodeServer(_Named):
    """A WsServer on Node.

    Attributes:
        port: where it listens.
        url: `ws://127.0.0.1:port`, to which a path is added.
    """

    def __init__(self, peer: NodePeer, name: str, port: int, url: str) -> None:
        super().__init__(peer, name)
        self.port = port
        self.url = url

    def store(self, path: str) -> NodeStore:
        """The server store of a path, once a client has been there."""
        return NodeStore(self.peer, f"{self.name}/{path}")

    async def stop(self) -> None:
        """Destroys the server."""
        await self.peer.do("stopServer", server=self.name)

    async def kill(self) -> None:
        """Drops all connections first, as a crash would."""
        await self.peer.do("stopServer", server=self.name, kill=True)

    async def stats(self) -> dict[str, Any]:
        """Stats, client ids by path, number of sockets, errors, and events of path and client listeners."""
        result: dict[str, Any] = await self.peer.do("serverStats", server=self.name)
        return result

    async def database(self) -> dict[str, Any]:
        """What its database holds, by path."""
        result: dict[str, Any] = await self.peer.do("database", server=self.name)
        return result

    async def wait_clients(self, path: str, count: int, *, timeout: float = WAIT_SECONDS) -> None:
        """Waits until a path has so many clients."""
        await self.peer.do(
            "waitClients",
            server=self.name,
            path=path,
            count=count,
            timeout=timeout,
            answer_seconds=timeout + ANSWER_SECONDS,
        )


class NodePersister(_Named):
    """A file persister on Node."""

    async def load(self, initial: Sequence[Any] | None = None) -> None:
        """Loads once."""
        await self.peer.do("load", persister=self.name, **_given(initial=initial))

    async def save(self) -> None:
        """Saves once."""
        await self.peer.do("save", persister=self.name)

    async def auto(self, initial: Sequence[Any] | None = None) -> None:
        """Starts auto-load, then auto-save."""
        await self.peer.do("auto", persister=self.name, **_given(initial=initial))

    async def stop_auto(self) -> None:
        """Stops both."""
        await self.peer.do("stopAuto", persister=self.name)

    async def stats(self) -> dict[str, Any]:
        """Stats and ignored errors."""
        result: dict[str, Any] = await self.peer.do("persisterStats", persister=self.name)
        return result

    async def destroy(self) -> list[str]:
        """Destroys the persister; the errors it ignored."""
        result: list[str] = (await self.peer.do("destroyPersister", persister=self.name))["errors"]
        return result


def unavailable(reason: str) -> str:
    """What to say of a skip or a failure; see conftest."""
    return f"TinyBase on Node: {reason}" + ("" if os.environ.get("CI") else " (would fail if CI were set)")
