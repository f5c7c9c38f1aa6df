"""W4: a client that was away comes back, and some cells were changed meanwhile: by others, or by itself."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Final

from benchmarks.bench import Bench
from benchmarks.figures import OURS, Line, Target, within
from benchmarks.peers import CLIENTS, SERVERS
from benchmarks.peers.clients import changed_rows
from benchmarks.processes import LOAD_CORE, PeerError, Worker

__all__ = ["measure"]

_QUIET_SECONDS: Final = 0.2
_LARGEST_OF_PEERS: Final = 100_000
_BOUND_ROWS: Final = 100_000
_ROUNDS: Final = 3

_DIRECTIONS: Final = {"behind": "changed by others", "ahead": "changed by the client"}


def measure(bench: Bench) -> None:
    """Everything of W4."""
    for rows in bench.pick([1_000, 10_000, 100_000, 1_000_000], [1_000, 10_000], [40]):
        with ExitStack() as stack:
            sides = {}
            for side in SERVERS:
                if bench.wants(side) and (side == OURS or rows <= _LARGEST_OF_PEERS):
                    try:
                        sides[side] = Away(bench, stack, side, rows)
                    except PeerError as error:
                        bench.skip(side, error)
            for changed in bench.pick([1, 10, 1_000], [1, 1_000], [1]):
                for direction in _DIRECTIONS:
                    _measure(bench, sides, rows, changed, direction)


def _measure(bench: Bench, sides: dict[str, Away], rows: int, changed: int, direction: str) -> None:
    runs = min(bench.runs, _ROUNDS)
    name = f"{_cells(changed)} {_DIRECTIONS[direction]}"
    targets = {"bytes": within(600), "messages": within(4), "ms": within(20)} if changed == 1 else {}
    bench.take(
        _lines(f"reconnect, {name}", rows, targets),
        {side: partial(away.back, direction, changed, keeps_link=side == OURS) for side, away in sides.items()},
        runs=runs,
    )
    targets = {"bytes": within(4096), "messages": within(6)} if changed == 1 and rows == _BOUND_ROWS else {}
    bench.take(
        _lines(f"reconnect without a cursor, {name}", rows, targets),
        {OURS: partial(sides[OURS].back, direction, changed, keeps_link=False)},
        runs=runs,
    )


def _cells(count: int) -> str:
    return "one cell" if count == 1 else f"{count:,} cells"


def _lines(name: str, rows: int, targets: dict[str, Target]) -> dict[str, Line]:
    def line(key: str, unit: str) -> Line:
        return Line(name, unit, (targets[key],) if key in targets else (), f"{rows:,} rows", rows)

    return {
        "bytes": line("bytes", "bytes both ways"),
        "messages": line("messages", "messages both ways"),
        "ms": line("ms", "ms from socket to equal"),
    }


class Away:
    """A server with a writer that stays, and a client behind a proxy that comes and goes."""

    def __init__(self, bench: Bench, stack: ExitStack, side: str, rows: int) -> None:
        folder = stack.enter_context(bench.folder())
        server = stack.enter_context(SERVERS[side]("memory", folder))
        self._clients = stack.enter_context(CLIENTS[side]())
        self._proxy = stack.enter_context(Worker.python("proxy", str(server.ready["port"]), core=LOAD_CORE))
        bench.versions.update(server.ready["versions"])
        self._rows = rows
        self._url = f"ws://127.0.0.1:{self._proxy.ask('start')['port']}/path"
        self._clients.ask("new", store="writer")
        self._clients.ask("fill", store="writer", rows=rows, cells=1)
        self._clients.ask("connect", store="writer", url=f"ws://127.0.0.1:{server.ready['port']}/path")
        self._clients.ask("join", store="away", url=self._url, until={"rows": rows})
        self._number = 0

    def back(self, direction: str, changed: int, *, keeps_link: bool) -> dict[str, float]:
        """Go, let cells be changed, come back.

        Args:
            direction: `behind`, if the writer changes them, or `ahead`.
            changed: how many.
            keeps_link: whether the client reconnects by itself; otherwise it is made anew on the same store.
        """
        self._number += 1
        value = f"changed{self._number}"
        until = {"row": changed_rows(self._rows, changed)[-1], "value": value}
        changes, watches = ("writer", "away") if direction == "behind" else ("away", "writer")
        if not keeps_link:
            self._clients.ask("disconnect", store="away")
        self._proxy.ask("cut")
        self._clients.ask("change", store=changes, rows=self._rows, count=changed, value=value)
        time.sleep(_QUIET_SECONDS)
        self._clients.ask("expect", store=watches, until=until)
        self._proxy.ask("start")
        if not keeps_link:
            self._clients.ask("connect", store="away", url=self._url)
        at = self._clients.ask("arrived")["at"]
        counts = self._quiet()
        self._check()
        return {
            "bytes": counts["up_bytes"] + counts["down_bytes"],
            "messages": counts["up_messages"] + counts["down_messages"],
            "ms": (at - counts["accepted_at"]) * 1e3,
        }

    def _quiet(self) -> dict[str, float]:
        """What has passed once nothing passes any more."""
        before: dict[str, float] = {}
        while (now := self._proxy.ask("counts")) != before:
            before = now
            time.sleep(_QUIET_SECONDS)
        return before

    def _check(self) -> None:
        if self._number == 1:
            away, writer = (self._clients.ask("digest", store=store)["digest"] for store in ("away", "writer"))
            if away != writer:
                raise RuntimeError("who has come back is not equal")
