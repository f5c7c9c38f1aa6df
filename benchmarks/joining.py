"""W3: a fresh client joins a path that has content, and W2 over a wire."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.bench import Bench
from benchmarks.data import CELLS_IN_ROW
from benchmarks.figures import OURS, Line, times, within
from benchmarks.peers import CLIENTS, SERVERS
from benchmarks.processes import LOAD_CORE, Worker

__all__ = ["measure"]


def measure(bench: Bench) -> None:
    """Everything of W3."""
    for cells in bench.pick([1_000, 10_000, 100_000], [1_000, 10_000], [100]):
        _measure_at(bench, cells)


def _measure_at(bench: Bench, cells: int) -> None:
    largest = cells == 100_000
    with ExitStack() as stack:
        folder = stack.enter_context(bench.folder())
        servers = stack.enter_context(
            bench.opened({side: partial(start, "memory", folder) for side, start in SERVERS.items()})
        )
        clients = stack.enter_context(bench.opened(CLIENTS))
        sides = {side: Join(servers[side], clients[side], cells // CELLS_IN_ROW) for side in servers if side in clients}
        lines = _lines(cells, "join by a fresh client of the same make", largest=largest)
        bench.take(lines, {side: join.timed for side, join in sides.items()})
        bench.take(
            {
                "bytes": _line(cells, "bytes to a fresh client of the same make", "bytes", *([within(2e6)] * largest)),
                "messages": _line(cells, "messages to and from it", "messages"),
            },
            {side: join.counted for side, join in sides.items()},
            warm=False,
            runs=1,
        )
        if "tinybase" in sides:
            stock = Join(servers[OURS], clients["tinybase"], cells // CELLS_IN_ROW, fill=False)
            bench.take(
                {
                    "ms": _line(cells, "join by a fresh TinyBase client", "ms"),
                    "cpu_ms": _line(
                        cells, "server's time for a join by a TinyBase client", "ms of CPU", times(5, "tinybase")
                    ),
                },
                {OURS: stock.timed, "tinybase": sides["tinybase"].timed},
            )


def _line(cells: int, name: str, unit: str, *targets: Any) -> Line:
    return Line(name, unit, tuple(targets), f"{cells:,} cells", cells)


def _lines(cells: int, name: str, *, largest: bool) -> dict[str, Line]:
    return {
        "ms": _line(cells, name, "ms", *([times(1, "pycrdt-websocket")] * largest)),
        "cpu_ms": _line(cells, "server's time for that", "ms of CPU"),
    }


class Join:
    """Joins by clients of one make.

    Args:
        server: where to.
        clients: who.
        rows: that are there.
        fill: whether one of these clients brings them; otherwise another has.
    """

    def __init__(self, server: Worker, clients: Worker, rows: int, *, fill: bool = True) -> None:
        self._server, self._clients = server, clients
        self._url = f"ws://127.0.0.1:{server.ready['port']}/path"
        self._until = {"rows": rows}
        self._keeper = f"keeper at {self._url}"
        clients.ask("new", store=self._keeper)
        if fill:
            clients.ask("fill", store=self._keeper, rows=rows)
        clients.ask("connect", store=self._keeper, url=self._url)  # it stays, so that the path does
        clients.ask("wait", store=self._keeper, until=self._until)
        clients.ask("join", store="joiner", url=self._url, until=self._until)  # the server has got it all
        self._leave()

    def timed(self) -> dict[str, float]:
        """One join, and what it cost the server until the client had gone."""
        before = self._server.cpu_seconds()
        seconds = self._clients.ask("join", store="joiner", url=self._url, until=self._until)["seconds"]
        self._leave()
        return {"ms": seconds * 1e3, "cpu_ms": (self._server.cpu_seconds() - before) * 1e3}

    def counted(self) -> dict[str, float]:
        """One join through a proxy."""
        with Worker.python("proxy", str(self._server.ready["port"]), core=LOAD_CORE) as proxy:
            url = f"ws://127.0.0.1:{proxy.ask('start')['port']}/path"
            self._clients.ask("join", store="joiner", url=url, until=self._until)
            counts = proxy.ask("counts")
            self._leave()
        return {"bytes": counts["down_bytes"], "messages": counts["up_messages"] + counts["down_messages"]}

    def _leave(self) -> None:
        joined, kept = (self._clients.ask("digest", store=store)["digest"] for store in ("joiner", self._keeper))
        if joined != kept:
            raise RuntimeError("who has joined is not equal")
        self._clients.ask("drop", store="joiner")
