"""Nothing grows: tasks, file descriptors, timers, objects, through many connections and servers, good and bad."""

from __future__ import annotations

import asyncio
import sys

import pytest

from . import churn

CYCLES = "300"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", churn.KINDS)
async def test_many_times(kind: str) -> None:
    """What the first hundred times leave is not more after three hundred, in a process where nothing else goes on."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.churn", "--kind", kind, "--cycles", CYCLES),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
