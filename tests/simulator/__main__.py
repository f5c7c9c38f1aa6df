"""`python -m tests.simulator --seeds 0:2000`: run schedules, print every seed that fails, and a summary."""

from __future__ import annotations

import argparse
import collections
import logging
import sys
import time

from .schedule import run_schedule


def main() -> int:
    """Run the schedules that the command line asks for; 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator")
    parser.add_argument("--seeds", default="0:200", help="FIRST:LAST, the last excluded")
    parser.add_argument("--stop-at", type=int, default=5, help="stop after so many failures")
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    logging.disable(logging.CRITICAL)
    steps: collections.Counter[str] = collections.Counter()
    failed = 0
    started = time.perf_counter()
    for seed in range(first, last):
        outcome = run_schedule(seed)
        steps.update(outcome.steps)
        if outcome.failures:
            failed += 1
            print(f"seed {seed} failed:", *outcome.failures, sep="\n  ", flush=True)
            if failed == options.stop_at:
                break
    seconds = time.perf_counter() - started
    count = seed + 1 - first
    print(f"{count} schedules, {sum(steps.values())} steps, {count / seconds * 60:.0f} schedules a minute")
    print(", ".join(f"{name} {number}" for name, number in steps.most_common()))
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
