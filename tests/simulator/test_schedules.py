"""The simulator as a test: some schedules, and the same trace for the same seed."""

from __future__ import annotations

import os

import pytest

from .running import run_schedule

SCHEDULES = int(os.environ.get("MERGESYNC_SCHEDULES", "2000"))
BATCH = 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, SCHEDULES, BATCH))
def test_schedules(first: int) -> None:
    """Whatever happens to links, clocks, callbacks, processes and disks, everybody ends equal, and so does storage."""
    failures = {
        seed: outcome.failures
        for seed in range(first, min(first + BATCH, SCHEDULES))
        if (outcome := run_schedule(seed)).failures
    }
    assert not failures


@pytest.mark.parametrize("seed", range(20))
def test_same_seed_same_trace(seed: int) -> None:
    """A schedule can be run again exactly."""
    assert run_schedule(seed).trace_hash == run_schedule(seed).trace_hash
