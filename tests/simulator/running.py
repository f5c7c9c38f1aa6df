"""Running one schedule, of the kind that its seed says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import traceback
from collections.abc import Collection

from .rooms import RoomSchedule
from .schedule import PEACE_SECONDS, Outcome, Schedule
from .world import World, simulated

__all__ = ["run_schedule", "traces_elsewhere"]

_PRINT_TRACES = """
import logging
from tests.simulator.running import run_schedule

logging.disable(logging.CRITICAL)
print(*(run_schedule(seed).trace_hash for seed in range({count})))
"""


def run_schedule(seed: int, skip: Collection[int] = ()) -> Outcome:
    """Run one schedule.

    Args:
        seed: which one.
        skip: the indexes of steps to leave out.
    """
    with simulated(seed) as world:
        kind = Schedule if world.application is None else RoomSchedule
        schedule = kind(world, seed, skip)
        try:
            failures = world.loop.run_until_complete(schedule.run())
        except Exception as error:
            failures = [*world.unexpected, f"raised: {type(error).__name__}: {error}\n{traceback.format_exc()}"]
        _end_tasks(world)
        return Outcome(seed, world.trace_hash, schedule.taken, failures)


def traces_elsewhere(count: int, hash_seed: int) -> list[str]:
    """The hashes of the traces of the first schedules in a process of its own.

    Args:
        count: how many.
        hash_seed: what Python draws the hashes of texts from there, and so the order in which sets have them.
    """
    environment = {**os.environ, "PYTHONHASHSEED": f"{hash_seed}"}
    command = [sys.executable, "-c", _PRINT_TRACES.format(count=count)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def _end_tasks(world: World) -> None:
    """What a failed schedule has left is ended here."""
    tasks = asyncio.all_tasks(world.loop)
    for task in tasks:
        task.cancel()
    if tasks:
        world.loop.run_until_complete(asyncio.wait(tasks, timeout=PEACE_SECONDS))
