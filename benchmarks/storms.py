"""W8: many clients join a path at once, or come back to it.

What one real client says is recorded, and then said by many raw sockets, each waiting for as many messages as the real
one had got. So clients cost little, and may speak any protocol in which the server alone answers; TinyBase's clients
answer one another, so for its server they are real ones.
"""

from __future__ import annotations

import base64
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from benchmarks.bench import Bench, Side
from benchmarks.data import CELLS_IN_ROW
from benchmarks.figures import OURS, Line, Target, times, within
from benchmarks.peers import CLIENTS, SERVERS
from benchmarks.processes import LOAD_CORE, PeerError, Worker
from benchmarks.proxy import FrameCounter

__all__ = ["Script", "measure", "record", "storm"]

_PATIENCE_SECONDS: Final = 120.0
_QUIET_SECONDS: Final = 0.5
_BUFFER_BYTES: Final = 1 << 18

Script = Sequence[tuple[int, bytes]]
"""What a client says, HTTP first, each after so many messages of the server."""


def measure(bench: Bench) -> None:
    """Everything of W8."""
    joiners, cells = bench.pick((1_000, 1_000), (200, 1_000), (10, 100))
    _measure_joins(bench, joiners, cells)
    joiners, rows = bench.pick((5_000, 10_000), (500, 2_000), (10, 40))
    _measure_returns(bench, joiners, rows)


def _measure_joins(bench: Bench, count: int, cells: int) -> None:
    at = f"{count:,} clients, {cells:,} cells"
    runs = min(bench.runs, 3)
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for side in SERVERS:
            if (path := _open_path(bench, stack, side, cells // CELLS_IN_ROW)) is not None:
                sides[side] = path.real_storm(count) if side == "tinybase" else path.storm(path.clients, count)
        bench.take(_lines("join at once", at, times(1, "y-websocket")), sides, warm=False, runs=runs)
        if "tinybase" in sides:
            tinybase = stack.enter_context(CLIENTS["tinybase"]())
            path = _open_path(bench, stack, OURS, cells // CELLS_IN_ROW)
            assert path is not None
            stock = {OURS: path.storm(tinybase, count), "tinybase": sides["tinybase"]}
            bench.take(_lines("join at once, TinyBase clients", at, times(1, "tinybase")), stock, warm=False, runs=runs)


def _measure_returns(bench: Bench, count: int, rows: int) -> None:
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for side in SERVERS:
            if side != "tinybase" and (path := _open_path(bench, stack, side, rows)) is not None:
                sides[side] = path.storm(path.clients, count, returning=True)
        lines = _lines("come back at once", f"{count:,} clients, {rows:,} rows")
        bench.take(lines, sides, warm=False, runs=min(bench.runs, 3))


def _lines(name: str, at: str, *targets: Target) -> dict[str, Line]:
    return {
        "seconds": Line(f"clients that {name}", "seconds until all have it", targets, at),
        "frames": Line(f"frames to each of the clients that {name}", "frames", (within(12),), at),
        "bytes": Line(f"bytes to each of the clients that {name}", "bytes", (), at),
        "blocked": Line(f"longest block of the server's event loop while clients {name}", "ms", (within(50),), at),
    }


def _open_path(bench: Bench, stack: ExitStack, side: str, rows: int) -> _Path | None:
    """A server with a client that has brought the content, and stays."""
    if not bench.wants(side):
        return None
    try:
        return _Path(bench, stack, side, rows)
    except PeerError as error:
        bench.skip(side, error)
        return None


class _Path:
    """A path of so many rows on a server of its own.

    Attributes:
        clients: of the server's make; the store `keeper` is one of them.
    """

    def __init__(self, bench: Bench, stack: ExitStack, side: str, rows: int) -> None:
        folder = stack.enter_context(bench.folder())
        self._server = stack.enter_context(SERVERS[side]("memory", folder))
        self.clients = stack.enter_context(CLIENTS[side]())
        bench.versions.update(self._server.ready["versions"])
        self._port: int = self._server.ready["port"]
        self._url = f"ws://127.0.0.1:{self._port}/path"
        self._until = {"rows": rows}
        self.clients.ask("new", store="keeper")
        self.clients.ask("fill", store="keeper", rows=rows)
        self.clients.ask("connect", store="keeper", url=self._url)
        self.clients.ask("join", store="joiner", url=self._url, until=self._until)  # the server has it all
        self.clients.ask("drop", store="joiner")

    def storm(self, clients: Worker, count: int, *, returning: bool = False) -> Side:
        """Say at once in many sockets what one of these clients says that joins, or that has all already."""
        with Worker.python("proxy", str(self._port), core=LOAD_CORE) as proxy:
            url = f"ws://127.0.0.1:{proxy.ask('start')['port']}/path"
            if returning:
                clients.ask("copy", store="keeper", to="recorded")
                clients.ask("connect", store="recorded", url=url)
            else:
                clients.ask("join", store="recorded", url=url, until=self._until)
            script, messages = record(proxy)
            clients.ask("drop", store="recorded")
        return partial(self._watched, lambda: storm(self._port, script, messages, count), count)

    def real_storm(self, count: int) -> Side:
        """The same with real clients."""
        return partial(
            self._watched, lambda: self.clients.ask("storm", url=self._url, count=count, until=self._until), count
        )

    def _watched(self, run: Any, count: int) -> dict[str, float]:
        self._server.ask("watch")
        stormed = run()
        return {
            "blocked": self._server.ask("blocked")["seconds"] * 1e3,
            "seconds": stormed["seconds"],
            "frames": stormed["frames"] / count,
            "bytes": stormed["bytes"] / count,
        }


def record(proxy: Worker) -> tuple[Script, int]:
    """What the client behind a proxy has said once it is quiet, and how many messages it got."""
    messages = -1
    while (now := proxy.ask("counts")["down_messages"]) != messages:
        messages = now
        time.sleep(_QUIET_SECONDS)
    return [(after, base64.b64decode(data)) for after, data in proxy.ask("script")["script"]], messages


def storm(port: int, script: Script, messages: int, count: int) -> dict[str, float]:
    """Let so many sockets say the script at once.

    Returns:
        `seconds` until each has got so many messages, `frames` and `bytes` that all together got.
    """
    epoll = select.epoll()
    began = time.perf_counter()
    sayers = {}
    for _ in range(count):
        sayer = _Sayer(port, script)
        sayers[sayer.fileno()] = sayer
        epoll.register(sayer.fileno(), select.EPOLLIN | select.EPOLLOUT)
    waiting = set(sayers)
    while waiting:
        ready = epoll.poll(_PATIENCE_SECONDS)
        if not ready:
            raise PeerError(f"{len(waiting)} of {count} clients are not answered")
        for number, events in ready:
            sayer = sayers[number]
            if events & ~select.EPOLLOUT:
                sayer.hear()
            epoll.modify(number, select.EPOLLIN | (0 if sayer.say() else select.EPOLLOUT))
            if sayer.heard.messages >= messages:
                waiting.discard(number)
    seconds = time.perf_counter() - began
    for sayer in sayers.values():
        sayer.close()
    epoll.close()
    return {
        "seconds": seconds,
        "frames": sum(sayer.heard.messages for sayer in sayers.values()),
        "bytes": sum(sayer.heard.frame_bytes for sayer in sayers.values()),
    }


class _Sayer:
    """A socket that says a script.

    Attributes:
        heard: what the server has sent.
    """

    _buffer = bytearray(_BUFFER_BYTES)

    def __init__(self, port: int, script: Script) -> None:
        self.heard = FrameCounter()
        self._script, self._next = script, 0
        self._unsent = memoryview(b"")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._socket.connect_ex(("127.0.0.1", port))

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def hear(self) -> None:
        """Take what has come."""
        size = self._socket.recv_into(self._buffer)
        self.heard.feed(memoryview(self._buffer)[:size])
        if not size or self.heard.closed:
            raise PeerError("the server has closed a socket")

    def say(self) -> bool:
        """Say what is due; whether nothing of it is left."""
        while True:
            if not self._unsent:
                if self._next == len(self._script) or not self._due():
                    return True
                self._unsent = memoryview(self._script[self._next][1])
                self._next += 1
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                return False

    def _due(self) -> bool:
        after, _ = self._script[self._next]
        return self._next == 0 or (not self.heard.in_http and self.heard.messages >= after)
