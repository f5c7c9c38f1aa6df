"""`make bench`: everything that is measured, in one run.

    python -m benchmarks W1 W5 --quick

Figures go to benchmarks/results.json, raw, and from there into a table, charts and docs/performance.md. Workloads that
are measured by themselves replace the same ones there. A quick run is only printed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks import charts, durable, joining, memory, merging, peers, reconnecting, store_writes, storms
from benchmarks.bench import Bench, Scale
from benchmarks.figures import Figure, Results, merged
from benchmarks.report import WORKLOADS, table, write_page

__all__ = ["MEASURES", "main", "run"]

_RESULTS: Final = Path(__file__).parent / "results.json"
_PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
_RUNS: Final = {Scale.FULL: 5, Scale.QUICK: 3, Scale.SMOKE: 1}

MEASURES: Final[Mapping[str, Callable[[Bench], None]]] = {
    "W1": store_writes.measure,
    "W2": merging.measure,
    "W3": joining.measure,
    "W4": reconnecting.measure,
    "W6": memory.measure,
    "W7": durable.measure,
    "W8": storms.measure,
}


def run(workloads: Sequence[str], scale: Scale, runs: int | None = None, only: frozenset[str] | None = None) -> Results:
    """Measure some workloads.

    Args:
        workloads: which.
        scale: how large.
        runs: how often; by default as the scale has it.
        only: the peers that take part, by name; None for all.
    """
    load = os.getloadavg()[0]
    figures: list[Figure] = []
    versions: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for workload in workloads:
        bench = Bench(workload, scale, runs or _RUNS[scale], only)
        MEASURES[workload](bench)
        figures += bench.figures
        versions |= bench.versions
        skipped |= bench.skipped
    facts = {
        "taken": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}",
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {platform.system()}, load {load:.1f} at the start",
        "versions": ", ".join(f"{name} {said}" for name, said in (_our_versions() | versions).items()),
        "figures": "median (least-most) of the runs; ratios above 1 are in favour of mergesync",
    }
    if skipped:
        facts["missing"] = "; ".join(f"{side} ({why})" for side, why in skipped.items())
    return Results(facts, figures)


def _our_versions() -> dict[str, str]:
    names = ("websockets", "orjson", "fnv-hash-fast", "aiosqlite", "uvloop")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure mergesync beside its peers.")
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="W1..W8", help="all by default")
    parser.add_argument("--quick", action="store_true", help="smaller, three times, and only printed")
    parser.add_argument("--runs", type=int, help=f"runs that count (default {_RUNS[Scale.FULL]})")
    parser.add_argument("--peers", nargs="*", help="only these beside ours")
    parser.add_argument("--report", action="store_true", help="measure nothing; make everything again from the results")
    given = parser.parse_args(arguments)
    if given.report:
        results = Results.load(_RESULTS)
    else:
        _allow_many_sockets()
        peers.install()
        only = None if given.peers is None else frozenset(given.peers)
        results = run(given.workloads or list(MEASURES), Scale.QUICK if given.quick else Scale.FULL, given.runs, only)
    if not given.quick and not given.report:
        results = merged(Results.load(_RESULTS), results) if _RESULTS.exists() else results
        results.save(_RESULTS)
    if not given.quick:
        charts.draw(results, _PAGE.parent / "charts")
        write_page(results, _PAGE)
    print(table(results))
    return 0


def _allow_many_sockets() -> None:
    """Servers inherit it, as they need a descriptor for each client."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
