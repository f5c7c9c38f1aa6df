"""Charts of results, as PNG: how cost grows with size, and rates beside one another."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.figures import OURS, Figure, Results, sides

__all__ = ["draw"]

_COLOURS: Final = {OURS: "#d62728"}
_NOT_DRAWN: Final = ("messages", "messages both ways")


def draw(results: Results, folder: Path) -> dict[str, list[Path]]:
    """Make a chart for each line that was measured at several sizes; the charts by workload.

    How many messages there were is easier to read in the table.
    """
    groups: dict[tuple[str, str, str], list[Figure]] = defaultdict(list)
    for figure in results.figures:
        if figure.line.size is not None and figure.line.unit not in _NOT_DRAWN:
            groups[figure.workload, figure.line.name, figure.line.unit].append(figure)
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.png"):
        stale.unlink()
    drawn: dict[str, list[Path]] = defaultdict(list)
    for (workload, name, unit), figures in groups.items():
        if len(figures) > 1:
            path = folder / _file_name(workload, name, unit)
            _growth(figures, f"{workload}: {name}", unit, path)
            drawn[workload].append(path)
    return drawn


def _file_name(workload: str, name: str, unit: str) -> str:
    words = "".join(character if character.isalnum() else " " for character in f"{workload} {name} {unit}").split()
    return "-".join(words).lower() + ".png"


def _growth(figures: list[Figure], title: str, unit: str, path: Path) -> None:
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(7, 4.5), layout="constrained")
    axes = drawing.add_subplot()
    for side in sides(figures):
        points = [(figure.line.size, figure.median(side)) for figure in figures if side in figure.samples]
        xs, ys = zip(*sorted(points), strict=True)
        axes.plot(xs, ys, marker="o", label=side, color=_COLOURS.get(side), linewidth=2.5 if side == OURS else 1.2)
    axes.set(xscale="log", yscale="log", title=title, xlabel=figures[0].line.at.split(" ", 1)[-1], ylabel=unit)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    drawing.savefig(path, dpi=110, metadata={"Software": None})
