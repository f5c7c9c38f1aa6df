"""Nothing grows: tasks, file descriptors, timers, objects, through many connections and servers, good and bad."""

from __future__ import annotations

import logging

import pytest

from . import churn

CYCLES = 300
OBJECTS_PER_CYCLE = 0.5
BYTES_PER_CYCLE = 5_000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", churn.KINDS)
async def test_many_times(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the first hundred times leave is not more after three hundred; `churn` repeats it longer."""
    caplog.set_level(logging.CRITICAL)
    growth = await churn.churn(kind, CYCLES)
    print(growth)
    assert growth.objects_per_cycle < OBJECTS_PER_CYCLE
    assert growth.bytes_per_cycle < BYTES_PER_CYCLE
