"""The comparison with TinyBase runs, and both sides come to the same results. Its times decide nothing."""

from __future__ import annotations

import pytest

from benchmarks import store_vs_tinybase


def test_benchmark_runs(node_installed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every work runs small on both sides, hashes agree, and the table has a line for each."""
    assert store_vs_tinybase.main(["--smoke"]) == 0
    printed = capsys.readouterr().out
    assert all(row.name in printed for row in store_vs_tinybase.TABLE)
