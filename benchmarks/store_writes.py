"""W1: local writes into a store."""

from __future__ import annotations

from benchmarks.bench import Bench, Side
from benchmarks.data import CELLS_IN_ROW
from benchmarks.figures import OURS, Line, times
from benchmarks.peers import STORES

__all__ = ["measure"]

_MOST_SLOW = 50
"""Automerge takes up to 13 ms for a transaction of one cell."""


def measure(bench: Bench) -> None:
    """Everything of W1."""
    rows = bench.pick(20_000, 4_000, 40)
    cells = rows * CELLS_IN_ROW
    at, singles = f"{cells:,} cells", f"{rows:,} transactions"
    with bench.opened(STORES) as stores:

        def together(side: str, **more: bool) -> Side:
            return lambda: {"us": stores[side].ask("together", rows=rows, **more)["seconds"] / cells * 1e6}

        def singly(side: str, **more: bool) -> Side:
            count = min(rows, _MOST_SLOW) if side == "automerge" else rows
            return lambda: {"us": stores[side].ask("singly", rows=rows, count=count, **more)["seconds"] / count * 1e6}

        ahead = (times(8, "tinybase"), times(1, "loro"))
        hashing = [side for side in stores if side in (OURS, "tinybase")]
        bench.take(
            {"us": Line("cells set in one transaction", "us/cell", ahead, at)},
            {side: together(side) for side in stores},
        )
        bench.take(
            {"us": Line("the same, and the hashes asked for", "us/cell", (times(8, "tinybase"),), at)},
            {side: together(side, **({"hashed": True} if side == OURS else {})) for side in hashing},
        )
        bench.take(
            {"us": Line("single-cell transactions, each a new row", "us", ahead, singles)},
            {side: singly(side) for side in stores},
        )
        bench.take(
            {"us": Line(f"single-cell transactions in a store of {at}", "us", ahead, singles)},
            {side: singly(side, full=True) for side in stores},
        )
        bench.take(
            {"us": Line("the same, and the hashes asked for after each", "us", (times(8, "tinybase"),), singles)},
            {side: singly(side, full=True, **({"hashed": True} if side == OURS else {})) for side in hashing},
        )
