"""What the review of clients' changes costs: a hub that takes, corrects or refuses frames of many cells.

python -m tests.load.reviewing --cells 1000 --frames 30
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mergesync import Access, Changes, Client, Identity, MergeableStore, RefusedError, allow_write, allow_write_value
from mergesync.net.hooks import OnChanges
from mergesync.net.reviewing import PathReviewer, judge_by
from mergesync.net.turns import Done, Turns
from mergesync.rooms.access import ClientInfo
from mergesync.rooms.rules import Rules
from mergesync.sync.hub import Hub
from mergesync.sync.payloads import FragmentCollector
from mergesync.sync.review import Proposal, Verdict
from mergesync.system import new_id
from mergesync.types import MergeableChanges

__all__ = ["REVIEWS", "measure"]

_CELLS_IN_ROW = 10


class _Path:
    """A path with one client that writes, and another that reads; it keeps no bytes."""

    def __init__(self, rules: Rules | None, on_changes: OnChanges | None) -> None:
        self.handle: Any = self
        self.store = MergeableStore()
        self._turns = Turns(10)
        judge = None if rules is None else judge_by(rules, self)
        reviewer = None if judge is None and on_changes is None else PathReviewer(self, judge, on_changes)
        self.hub = Hub(
            "p", self, relay=False, request_timeout_seconds=1, fragment_size=None, new_id=new_id, reviewer=reviewer
        )
        self.hub.join("writer")
        self.hub.join("reader")
        info = ClientInfo("writer", "p", None, {}, False, {}, None)
        self._client = Client("p", info, Identity("ann"), Access())

    def client(self, client_id: str) -> Client | None:
        return self._client

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        self._turns.call(callback, done)

    def reviewed(self, proposal: Proposal, verdict: Verdict) -> None:
        raise AssertionError("nothing here takes time")

    def report(self, error: Exception, client_id: str | None = None) -> None:
        pass

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        pass

    def send_changes(self, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        pass

    def close(self, client_id: str, error: Exception) -> None:
        raise error


def _look(path: Any, client: Client, changes: Changes) -> None:
    """A hook that lets everything through."""


def _refuse(path: Any, client: Client, changes: Changes) -> None:
    raise RefusedError("no")


def _edit(path: Any, client: Client, changes: Changes) -> None:
    for table in changes.tables.values():
        for row in table.values():
            row.update(dict.fromkeys(row, 0))


_OF_CELLS = [allow_write("pets", cell_id=f"c{number}") for number in range(_CELLS_IN_ROW)]

REVIEWS: dict[str, tuple[list[Any], OnChanges | None]] = {
    "no review": ([], None),
    "rules that allow": (_OF_CELLS, None),
    "an owner that may": ([allow_write("pets", owner="author")], None),
    "a hook that only looks": ([], _look),
    "a hook that corrects": ([], _edit),
    "refused by rules": ([allow_write_value()], None),
    "refused by a hook": ([], _refuse),
}
"""What is measured: rules, and a hook."""


def measure(cells: int, frames: int) -> dict[str, list[float]]:
    """Microseconds of processor time for each cell, frame by frame and kind by kind in turn."""
    paths = {kind: _Path(Rules(rules) if rules else None, hook) for kind, (rules, hook) in REVIEWS.items()}
    writer = MergeableStore()
    said: list[MergeableChanges] = []
    rows = [f"r{number}" for number in range(cells // _CELLS_IN_ROW)]

    def write(number: int) -> None:
        with writer.transaction():
            for row_id in rows:
                writer.set_partial_row("pets", row_id, {f"c{cell}": number for cell in range(_CELLS_IN_ROW)})

    for row_id in rows:
        writer.set_cell("pets", row_id, "author", "ann")
    write(0)
    for path in paths.values():
        path.store.set_mergeable_content(writer.get_mergeable_content())
        path.hub.ready(path.store, 0.0)
    writer.add_did_finish_transaction_listener(lambda _: said.append(writer.get_transaction_mergeable_changes()))
    found: dict[str, list[float]] = {kind: [] for kind in paths}
    for number in range(1, frames + 1):
        write(number)
        text = json.dumps(["t", 3, said.pop()])
        for kind, path in paths.items():
            payload = FragmentCollector(1.0).receive("", "", text, 0.0)
            assert payload is not None
            gc.collect()
            began = time.process_time()
            path.hub.receive("writer", "", payload, 0.0)
            found[kind].append((time.process_time() - began) / cells * 1e6)
            now = path.store.get_cell("pets", "r0", "c1")
            assert now == (0 if kind.startswith("refused") or "corrects" in kind else number), kind
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=30)
    options = parser.parse_args()
    found = measure(options.cells, options.frames)
    plain = statistics.median(found["no review"])
    for kind, costs in found.items():
        cost = statistics.median(costs)
        print(f"{kind:24} {cost:6.2f} us a cell, {cost - plain:+6.2f} ({min(costs):.2f}-{max(costs):.2f})")


if __name__ == "__main__":
    main()
