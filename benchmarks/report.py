"""From `results.json`: the table, and what docs/performance.md has between its marks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from benchmarks.figures import OURS, Figure, Results, Target, shown

__all__ = ["WORKLOADS", "table", "write_page"]

WORKLOADS: Final = {
    "W1": "store writes",
    "W2": "decode and merge",
    "W3": "cold join",
    "W4": "reconnect",
    "W5": "fan-out",
    "W6": "memory",
    "W7": "durable updates",
    "W8": "storms",
}

_HEAD: Final = ("work", "unit", "mergesync", "peer", "its figure", "ratio", "target")
_MARKS: Final = ("<!-- figures: make bench -->\n", "<!-- end of figures -->\n")


def table(results: Results) -> str:
    """Everything as text: facts, then a table for each workload."""
    parts = ["\n".join(f"- {name}: {said}" for name, said in results.facts.items())]
    for workload, figures in groupby(results.figures, key=lambda figure: figure.workload):
        rows = [row for figure in _by_name(figures) for row in _rows(figure)]
        parts.append(f"### {workload}, {WORKLOADS[workload]}\n\n{_markdown(rows)}")
    return "\n\n".join(parts) + "\n"


def _by_name(figures: Iterable[Figure]) -> list[Figure]:
    """The sizes of one line below one another."""
    groups: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.line.name, figure.line.unit), []).append(figure)
    return [figure for group in groups.values() for figure in group]


def _rows(figure: Figure) -> Iterator[tuple[str, ...]]:
    """A row for each peer, and one for each target that is not about a peer; the first says what it is."""
    line = figure.line
    work = (f"{line.name}, {line.at}" if line.at else line.name, line.unit)
    ours = (_spread(figure.samples.get(OURS)),)
    peers = [
        (peer, _spread(figure.samples[peer]), _ratio(figure, peer), _target(figure, peer))
        for peer in figure.samples
        if peer != OURS
    ]
    bounds = [
        (_bound(target, more=line.more_is_better), "", "", _met(figure.meets(target)))
        for target in line.targets
        if target.peer is None
    ]
    for row in [*peers, *bounds] or [("", "", "", "")]:
        yield (*work, *ours, *row)
        work, ours = ("", ""), ("",)


def _spread(samples: Sequence[float] | None) -> str:
    if not samples:
        return "-"
    if len(samples) == 1 or min(samples) == max(samples):
        return shown(samples[0])
    return f"{shown(statistics.median(samples))} ({shown(min(samples))}-{shown(max(samples))})"


def _ratio(figure: Figure, peer: str) -> str:
    return f"{shown(figure.ratio(peer))}x" if OURS in figure.samples else ""


def _target(figure: Figure, peer: str) -> str:
    mine = [target for target in figure.line.targets if target.peer == peer]
    return ", ".join(f"{shown(target.ratio)}x: {_met(figure.meets(target))}" for target in mine)


def _bound(target: Target, *, more: bool) -> str:
    assert target.bound is not None
    return f"target: {'at least' if more else 'at most'} {shown(target.bound)}"


def _met(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[met]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines = (_HEAD, tuple("-" * width for width in widths), *rows)
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def write_page(results: Results, page: Path) -> None:
    """Put the figures between the marks of the page; the rest is written by hand."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    page.write_text(f"{before}{_MARKS[0]}\n{table(results)}\n{_MARKS[1]}{after}", encoding="utf-8")
