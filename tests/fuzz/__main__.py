"""`python -m tests.fuzz --frames 5000000 --seed 1`: run the fuzzer, print every seed that fails, and a summary."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections import Counter
from typing import Final

from .sockets import run_sockets
from .world import FRAMES_PER_RUN, run

_RUNS_PER_LINE: Final = 1000


def main() -> int:
    """Run as many frames as the command line asks for; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0, help="the first; each run of %(prog)s counts on from it")
    parser.add_argument("--stop-at", type=int, default=5, help="stop after so many failures")
    parser.add_argument("--sockets", type=int, help="bytes on so many real sockets, rather than frames in memory")
    options = parser.parse_args()
    if options.sockets is not None:
        logging.disable(logging.CRITICAL)
        asyncio.run(run_sockets(options.seed, options.sockets))
        return 0
    seen: Counter[str] = Counter()
    failed, seed, started = 0, options.seed, time.perf_counter()
    while seen["frames"] < options.frames and failed < options.stop_at:
        try:
            seen.update(run(seed))
        except Exception:
            failed += 1
            seen["frames"] += FRAMES_PER_RUN
            print(f"seed {seed} failed:\n{traceback.format_exc(limit=-8)}", flush=True)
        seed += 1
        if (seed - options.seed) % _RUNS_PER_LINE == 0:
            print(f"seeds {options.seed}:{seed}, {seen['frames']} frames, {failed} failed", flush=True)
    seconds = time.perf_counter() - started
    print(f"seeds {options.seed}:{seed}, {seen.pop('frames')} frames in {seconds:.0f} s, {failed} failed")
    print(", ".join(f"{name} {number}" for name, number in seen.most_common()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
