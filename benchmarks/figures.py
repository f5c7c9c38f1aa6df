"""What is measured, as plain data: from `results.json` come the table, the charts and the page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["OURS", "Figure", "Line", "Results", "Target", "merged", "shown", "times", "within"]

OURS: Final = "mergesync"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of ours has to reach.

    Attributes:
        peer: whose figure of the same run it is compared with; None for `bound` alone.
        ratio: how many times better than the peer it has to be at least.
        bound: the worst figure that will do, in the unit of the line.
    """

    peer: str | None = None
    ratio: float = 1.0
    bound: float | None = None


def times(ratio: float, peer: str) -> Target:
    """At least so many times better than the peer is in the same run."""
    return Target(peer, ratio)


def within(bound: float) -> Target:
    """Never mind the peers: this figure or a better one."""
    return Target(bound=bound)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table, before it is measured.

    Attributes:
        name: what is done.
        unit: of its figures.
        targets: what ours has to reach.
        at: the size at which it is done, such as "10,000 cells"; the lines of one name at several sizes are a chart.
        size: the same as a number.
        more_is_better: for rates.
    """

    name: str
    unit: str
    targets: tuple[Target, ...] = ()
    at: str = ""
    size: float | None = None
    more_is_better: bool = False


@dataclass(slots=True)
class Figure:
    """A line with what was measured: for each side the samples of all runs, raw."""

    workload: str
    line: Line
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, side: str) -> float:
        """Of the runs of a side."""
        return statistics.median(self.samples[side])

    def ratio(self, peer: str) -> float:
        """How many times better ours is than a peer's."""
        ours, theirs = self.median(OURS), self.median(peer)
        better, worse = (theirs, ours) if self.line.more_is_better else (ours, theirs)
        return worse / better if better else float("inf")

    def meets(self, target: Target) -> bool | None:
        """Whether ours reaches a target; None if one of the two was not measured."""
        if OURS not in self.samples or (target.peer is not None and target.peer not in self.samples):
            return None
        if target.peer is not None:
            return self.ratio(target.peer) >= target.ratio
        assert target.bound is not None
        ours = self.median(OURS)
        return ours >= target.bound if self.line.more_is_better else ours <= target.bound


@dataclass(slots=True)
class Results:
    """A whole run: where, of what, and the figures."""

    facts: dict[str, str]
    figures: list[Figure]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` has written."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(document["facts"], [_figure(each) for each in document["figures"]])


def _figure(document: dict[str, Any]) -> Figure:
    line = document["line"]
    targets = tuple(Target(**each) for each in line.pop("targets"))
    return Figure(document["workload"], Line(**line, targets=targets), document["samples"])


def merged(earlier: Results, later: Results) -> Results:
    """The later run, and of the earlier one what the later did not measure."""
    measured = {figure.workload for figure in later.figures}
    kept = [figure for figure in earlier.figures if figure.workload not in measured]
    return Results(later.facts, sorted([*kept, *later.figures], key=lambda figure: figure.workload))


def shown(number: float) -> str:
    """A number with three digits that count, and no more zeros than needed."""
    if number == 0 or abs(number) >= 100:
        return f"{number:,.0f}"
    digits = 1 if abs(number) >= 10 else 2 if abs(number) >= 1 else 3
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def sides(figures: Iterable[Figure]) -> list[str]:
    """All sides of some figures, ours first."""
    names = dict.fromkeys(side for figure in figures for side in figure.samples)
    return sorted(names, key=lambda side: side != OURS)
