"""What a workload is given: how large and how often, the peers that are there, and where figures go."""

from __future__ import annotations

import enum
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from benchmarks.figures import OURS, Figure, Line, shown
from benchmarks.processes import PeerError, Worker

__all__ = ["Bench", "Scale", "Side"]

T = TypeVar("T")

Side = Callable[[], Mapping[str, float]]
"""One run of a side: what it measured, by the key of the line."""


class Scale(enum.IntEnum):
    """How large."""

    SMOKE = 0
    QUICK = 1
    FULL = 2


class Bench:
    """One run of a workload.

    Args:
        workload: its name.
        scale: how large.
        runs: how often each side is measured, after a first time that does not count.
        peers: the sides to measure beside ours; None for all.

    Attributes:
        figures: what was measured so far.
        versions: what the processes that took part said of themselves.
        skipped: sides that could not take part, and why.
    """

    def __init__(self, workload: str, scale: Scale, runs: int, peers: frozenset[str] | None = None) -> None:
        self.workload = workload
        self.scale = scale
        self.runs = runs
        self.figures: list[Figure] = []
        self.versions: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self._peers = peers

    def pick(self, full: T, quick: T, smoke: T) -> T:
        """What belongs to the scale."""
        return (smoke, quick, full)[self.scale]

    def wants(self, side: str) -> bool:
        """Whether a side takes part."""
        return side == OURS or ((self._peers is None or side in self._peers) and side not in self.skipped)

    def skip(self, side: str, error: Exception) -> None:
        """Go on without a side; never without ours."""
        if side == OURS:
            raise error
        self.skipped[side] = str(error)
        self._say(f"without {side}: {error}")

    @contextmanager
    def opened(self, starts: Mapping[str, Callable[[], Worker]]) -> Iterator[dict[str, Worker]]:
        """Processes for as long as it takes: of each side that takes part and can be started."""
        with ExitStack() as stack:
            workers = {}
            for side, start in starts.items():
                if self.wants(side):
                    try:
                        workers[side] = stack.enter_context(start())
                    except (PeerError, OSError) as error:
                        self.skip(side, error)
                    else:
                        self.versions.update(workers[side].ready.get("versions", {}))
            yield workers

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for as long as it takes."""
        with tempfile.TemporaryDirectory(prefix="mergesync-benchmark-") as name:
            yield Path(name)

    def take(
        self, lines: Mapping[str, Line], sides: Mapping[str, Side], *, warm: bool = True, runs: int | None = None
    ) -> None:
        """Measure the sides in turn, run by run.

        Args:
            lines: by the keys under which sides say what they measured; a side need not have all.
            sides: by name; those that do not take part are passed over.
            warm: whether there is a first run that does not count.
            runs: how many, if not as many as usual.
        """
        figures = {key: Figure(self.workload, line) for key, line in lines.items()}
        for number in range(-int(warm), self.runs if runs is None else runs):
            for side, run in sides.items():
                if not self.wants(side):
                    continue
                try:
                    measured = run()
                except PeerError as error:
                    self.skip(side, error)
                    continue
                if number >= 0:
                    for key, value in measured.items():
                        figures[key].samples.setdefault(side, []).append(value)
        for figure in figures.values():
            self._tell(figure)
        self.figures += [figure for figure in figures.values() if figure.samples]

    def _tell(self, figure: Figure) -> None:
        medians = ", ".join(f"{side} {shown(figure.median(side))}" for side in figure.samples)
        self._say(f"{figure.line.name} {figure.line.at}, {figure.line.unit}: {medians}")

    def _say(self, text: str) -> None:
        print(f"{self.workload}  {text}", file=sys.stderr, flush=True)
