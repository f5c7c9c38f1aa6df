"""The simulator by hand.

python -m tests.simulator --seeds 0:2000     run schedules, and print every one that fails
python -m tests.simulator --replay 100       run schedules in three processes, and compare their traces
python -m tests.simulator --mutants 500      plant each bug, and look for it in so many schedules
python -m tests.simulator --shrink 23        leave out steps of a failing schedule
"""

from __future__ import annotations

import argparse
import collections
import gc
import logging
import multiprocessing
import os
import sys
import time

from .mutants import MUTANTS, SEEDS, record
from .mutation import find
from .running import run_schedule, traces_elsewhere
from .shrink import shrink

_SEEDS_AT_A_TIME = 4


def _collect_seldom() -> None:
    """Schedules leave little garbage behind in cycles: looking for it less often makes them 8 % faster."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _run_seeds(first: int, last: int, stop_at: int, processes: int) -> bool:
    steps: collections.Counter[str] = collections.Counter()
    count = failed = 0
    started = time.perf_counter()
    with multiprocessing.Pool(processes, _collect_seldom) as pool:
        for outcome in pool.imap(run_schedule, range(first, last), _SEEDS_AT_A_TIME):
            count += 1
            steps.update(outcome.steps.values())
            if outcome.failures:
                failed += 1
                print(f"seed {outcome.seed} failed:", *outcome.failures, sep="\n  ", flush=True)
                if failed == stop_at:
                    break
            if (outcome.seed + 1) % 500 == 0:
                print(f"up to {outcome.seed}: {failed} failed", flush=True)
    seconds = time.perf_counter() - started
    print(f"{count} schedules, {sum(steps.values())} steps, {count / seconds * 60:.0f} schedules a minute")
    print(", ".join(f"{name} {number}" for name, number in steps.most_common()))
    print(f"{count - failed} passed, {failed} failed")
    return not failed


def _replay(count: int) -> bool:
    here = [run_schedule(seed).trace_hash for seed in range(count)]
    elsewhere = [traces_elsewhere(count, hash_seed) for hash_seed in (1, 2)]
    differing = [seed for seed, traces in enumerate(zip(here, *elsewhere, strict=True)) if len({*traces}) > 1]
    print(f"{count - len(differing)} of {count} schedules have the same trace again", *differing)
    return not differing


def _plant(count: int, name: str) -> bool:
    """Look for each bug, first where it was found before; remember where it was."""
    surviving = []
    for mutant in (mutant for mutant in MUTANTS if name in mutant.name):
        outcome = find(mutant, [*SEEDS.get(mutant.name, [])[:1], *range(count)])
        if outcome is None:
            surviving.append(mutant.name)
            print(f"{mutant.name:48} SURVIVES", flush=True)
        else:
            SEEDS[mutant.name] = [outcome.seed, outcome.failures[0].partition(":")[0]]
            print(f"{mutant.name:48} {SEEDS[mutant.name][1]:10} {outcome.seed:6}", flush=True)
    record(SEEDS)
    print(f"{len(surviving)} survive", *surviving, sep="\n  ")
    return not surviving


def _shrink(seed: int) -> bool:
    outcome, kept = shrink(seed)
    if not outcome.failures:
        print(f"seed {seed} does not fail")
        return False
    print(f"seed {seed} still fails with {len(kept)} steps:", *outcome.failures, sep="\n  ")
    for index, name in outcome.steps.items():
        print(f"{index:4} {name}")
    return True


def main() -> int:
    """Do what the command line asks for; 1 if anything was found that should not be."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:200", help="FIRST:LAST, the last excluded")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="that share them; all by default")
    parser.add_argument("--stop-at", type=int, default=5, help="stop after so many failures")
    parser.add_argument("--replay", type=int, metavar="COUNT")
    parser.add_argument("--mutants", type=int, metavar="COUNT", nargs="?", const=1000)
    parser.add_argument("--only", default="", metavar="NAME", help="of the bugs, those with this in their name")
    parser.add_argument("--shrink", type=int, metavar="SEED")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.replay is not None:
        return not _replay(options.replay)
    if options.mutants is not None:
        return not _plant(options.mutants, options.only)
    if options.shrink is not None:
        return not _shrink(options.shrink)
    first, last = map(int, options.seeds.split(":"))
    return not _run_seeds(first, last, options.stop_at, options.processes)


if __name__ == "__main__":
    sys.exit(main())
