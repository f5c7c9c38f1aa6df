"""`python -m tests.pains`: run every script on TinyBase and on mergesync, and print what became of the data."""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from .benches import Bench, MergesyncBench, StockClientsBench, TinyBaseBench
from .scripts import SCRIPTS, Outcome, Script, large_store

LARGE_ROWS: Final = 250_000
"""42 MB of JSON with stamps."""
CITED: Final = (
    "| M15 slow reader | pycrdt-websocket 0.16.5: 16,276 tasks and 122 MB for 16 MB of updates (not run here) "
    "| bounded: tests/faults/test_slow_readers.py::test_100_stalled_beside_10_live | the same |"
)

BENCHES: Final[list[type[Bench]]] = [TinyBaseBench, MergesyncBench, StockClientsBench]


async def run(script: Script, kind: type[Bench]) -> Outcome:
    """One script, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with kind.open(Path(folder)) as bench:
            if script is SCRIPTS["M10 large store"]:
                script = functools.partial(large_store, rows=LARGE_ROWS, text_bytes=40)
            return await script(bench)


def main() -> int:
    """Print the table; 1 if anything went wrong on mergesync."""
    parser = argparse.ArgumentParser(prog="python -m tests.pains")
    parser.add_argument("--only", metavar="M", help="such as M3")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(f"| pain | {' | '.join(kind.name for kind in BENCHES)} |\n|---|---|---|---|")
    wrong = 0
    for name, script in SCRIPTS.items():
        if options.only not in (None, name.split()[0]):
            continue
        cells = []
        for kind in BENCHES:
            began = time.monotonic()
            outcome = asyncio.run(run(script, kind))
            cells.append(f"{'good' if outcome.good else 'BAD'}: {outcome.found} ({time.monotonic() - began:.1f} s)")
            wrong += kind is MergesyncBench and not outcome.good
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(CITED)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
