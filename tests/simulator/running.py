"""Running one schedule, of the kind that its seed says."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Collection

from .rooms import RoomSchedule
from .schedule import PEACE_SECONDS, Outcome, Schedule
from .world import World, simulated

__all__ = ["run_schedule"]


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


def _end_tasks(world: World) -> None:
    """What a failed schedule has left is ended here."""
    tasks = asyncio.all_tasks(world.loop)
    for task in tasks:
        task.cancel()
    if tasks:
        world.loop.run_until_complete(asyncio.wait(tasks, timeout=PEACE_SECONDS))
