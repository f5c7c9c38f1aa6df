"""Each benchmark runs once, small, beside TinyBase. What it measures decides nothing."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import MEASURES, run
from benchmarks.bench import Scale
from benchmarks.figures import OURS
from benchmarks.report import table


@pytest.mark.parametrize("workload", MEASURES)
def test_benchmark_runs(workload: str, node_installed: str) -> None:
    """Both sides have figures, and the table has them all."""
    results = run([workload], Scale.SMOKE, only=frozenset({"tinybase"}))
    assert results.figures
    assert all(figure.samples.keys() == {OURS, "tinybase"} for figure in results.figures)
    assert all(figure.line.name in table(results) for figure in results.figures)
