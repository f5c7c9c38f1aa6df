"""`python -m tests.reliability`: try what `docs/reliability.md` promises, and write there how far that went."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.faults import churn, kill9
from tests.faults.disks import ROOT

PAGE: Final = ROOT / "docs" / "reliability.md"
KILL_SEED: Final = 1
FAULTS: Final = {
    "damaged files, failing and full disks": [
        "tests/faults/test_disk_json.py",
        "tests/faults/test_disk_sqlite.py",
        "tests/faults/test_damage.py",
        "tests/faults/test_full_disk.py",
    ],
    "hooks, persisters and listeners that raise or hang": [
        "tests/faults/test_isolation.py",
        "tests/unit/net/test_path.py",
    ],
    "links that break, stall or are refused": ["tests/faults/test_net_links.py"],
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; what does not apply is None."""

    what: str
    survived: int | None = None
    tried: int | None = None
    inputs: int | None = None
    schedules: int | None = None
    acknowledged: int | None = None
    written: int | None = None
    lost: int | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether everything was survived, and nothing lost."""
        return self.survived == self.tried and not self.lost

    def __str__(self) -> str:
        survived = "" if self.tried is None else f"{self.survived:,} / {self.tried:,}"
        numbers = (self.inputs, self.schedules, self.acknowledged, self.written, self.lost)
        cells = ["" if number is None else f"{number:,}" for number in numbers]
        return f"| {self.what} | {survived} | {' | '.join(cells)} | {self.seconds:.0f} |"


HEAD: Final = (
    "| tried | faults survived / tried | inputs tried | schedules run | acknowledged writes checked | "
    "all writes checked | lost | seconds |\n|---|---|---|---|---|---|---|---|"
)


def run(*command: str) -> str:
    """The output of a Python module, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


def number(pattern: str, text: str) -> int:
    """The sum of the numbers that a pattern finds."""
    return sum(map(int, re.findall(pattern, text)))


def schedules(seeds: str) -> Row:
    """Real servers, clients and persisters in virtual time, with faults."""
    output = run("tests.simulator", "--seeds", seeds)
    passed, failed = number(r"(\d+) passed", output), number(r"passed, (\d+) failed", output)
    steps = number(r"(\d+) steps", output)
    return Row(
        f"schedules of faults in virtual time, seeds {seeds}, {steps:,} steps",
        survived=passed,
        tried=max(1, passed + failed),  # a simulator that says nothing has not passed
        schedules=passed + failed,
    )


def kills(kind: str, count: int) -> Row:
    """A server that is killed while clients write."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(kill9.Harness(Path(folder), kind, KILL_SEED).run(count))
    return Row(
        f"kill -9 under {figures.writes / figures.writing_seconds:.0f} writes a second, {kind}, seed {KILL_SEED}; "
        f"accepts again after {max(figures.restart_seconds):.1f} s at most",
        survived=figures.kills - figures.refused,
        tried=figures.kills,
        acknowledged=figures.promised,
        written=figures.checked,
        lost=figures.lost + figures.promised_lost,
    )


def faults(what: str, files: list[str]) -> Row:
    """Tests, each of which does something bad; some say how many inputs they tried."""
    output = run("pytest", "-q", "-rP", "-p", "no:cacheprovider", *files)
    passed, failed = number(r"(\d+) passed", output), number(r"(\d+) (?:failed|error)", output)
    inputs = number(r"(\d+) (?:flips|cuts|failing operations):", output)
    return Row(what, survived=passed, tried=max(1, passed + failed), inputs=inputs or None)


def cycles(kind: str, count: int) -> Row:
    """Servers that start and stop, clients that come and go; each cycle must leave nothing."""
    growth = asyncio.run(churn.churn(kind, count))
    return Row(
        f"{kind} that come and go; {growth.bytes_per_cycle:.0f} bytes a cycle",
        survived=count,
        tried=count,
    )


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Everything."""
    yield schedules(options.seeds)
    for kind in kill9.STORAGES:
        yield kills(kind, options.kills)
    for what, files in FAULTS.items():
        yield faults(what, files)
    for kind in churn.KINDS:
        yield cycles(kind, options.cycles)


def commit() -> str:
    """Which state of the code this is."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def put(section: str, text: str) -> None:
    """Write a section of the page."""
    page = PAGE.read_text()
    pattern = rf"(<!-- {section}: .* -->\n).*?(<!-- end of {section} -->)"
    PAGE.write_text(re.sub(pattern, lambda found: f"{found[1]}{text}\n{found[2]}", page, flags=re.DOTALL))


def main() -> int:
    """Try, print, and write; 1 if anything was lost or not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability")
    parser.add_argument("--seeds", default="0:200", help="of schedules, FIRST:LAST")
    parser.add_argument("--kills", type=int, default=20, help="of each kind of storage")
    parser.add_argument("--cycles", type=int, default=1000, help="of servers and clients that come and go")
    parser.add_argument("--no-pains", action="store_true", help="leave the table of pains as it is")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    state = commit()
    done: list[str] = []
    good = True
    print(HEAD)
    trying = rows(options)
    while True:
        began = time.monotonic()
        row = next(trying, None)
        if row is None:
            break
        line = str(replace(row, seconds=time.monotonic() - began))
        good = good and row.good
        done.append(line)
        print(line, flush=True)
    today = datetime.datetime.now(datetime.UTC).date()
    where = f"{os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"
    made = f"{today}, commit {state}, {where}, shared with other work."
    put("figures", "\n".join([made, "", HEAD, *done]))
    if not options.no_pains:
        table = run("tests.pains").strip()
        print(table)
        put("pains", f"{made}\n\n{table}")
        good = good and "BAD" not in "".join(line.split("|")[3] for line in table.splitlines()[2:])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
