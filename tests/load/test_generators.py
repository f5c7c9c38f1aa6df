"""The load generators, small; what they count is checked, and what they time is not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.served import ROOT, environment


def printed(*arguments: str) -> Any:
    """What a benchmark prints."""
    command = [sys.executable, "-m", *arguments]
    return json.loads(subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True).stdout)


def test_fanout() -> None:
    """Every update reaches every reader, or the generator fails; beside the server, a bare one."""
    found = printed("benchmarks.fanout", "--readers=3", "--seconds=0.2", "--pace=100")
    assert found.keys() == {"mergesync", "ceiling"}
    for figures in found.values():
        assert all(value > 0 for name, value in figures.items() if not name.endswith("_us"))


@pytest.mark.parametrize(("arguments", "frames"), [((), 2), (("--knows",), 1)])
def test_a_join_costs_the_same_however_many_join(arguments: tuple[str, ...], frames: int) -> None:
    """A stock client that joins is sent the hashes and the tables, and one that knows all only the hashes."""
    found = printed("benchmarks.storm", "--clients=30", "--rows=20", *arguments)
    assert found["frames_to_a_client"] == frames
