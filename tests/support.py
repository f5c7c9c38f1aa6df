"""What tests of all storeys share: waiting for conditions, and looking for what was left behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["TIMEOUT_SECONDS", "Leftovers", "eventually", "same_content", "within"]

TIMEOUT_SECONDS = 20.0
"""How long tests wait for what must happen; no test passes or fails by being faster than this."""

_PAUSE_SECONDS = 0.002
_T = TypeVar("_T")


async def eventually(condition: Callable[[], object], timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Wait until a condition holds; whatever it raises meanwhile counts as no, and is raised if it never holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        looked_at = loop.time()
        last_look = looked_at > deadline
        try:
            if condition():
                return
            assert not last_look, f"never came true: {condition}"
        except Exception:
            if last_look:
                raise
        await asyncio.sleep(max(_PAUSE_SECONDS, loop.time() - looked_at))  # what is waited for needs time, too


async def within(awaitable: Awaitable[_T], timeout_seconds: float = TIMEOUT_SECONDS) -> _T:
    """What is awaited, which must come in time."""
    async with asyncio.timeout(timeout_seconds):
        return await awaitable


def same_content(*stores: object) -> bool:
    """Whether mergeable stores hold the same stamps and hashes; the latter are told sooner."""
    hashes = [store.get_mergeable_content_hashes() for store in stores]  # type: ignore[attr-defined]
    if any(each != hashes[0] for each in hashes):
        return False
    contents = [store.get_mergeable_content() for store in stores]  # type: ignore[attr-defined]
    return all(content == contents[0] for content in contents)


class Leftovers:
    """Tasks, timers and file descriptors that are there now and were not before."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._fds = _open_fds()

    def tasks(self) -> set[asyncio.Task[object]]:
        """New tasks."""
        return asyncio.all_tasks() - self._tasks - {asyncio.current_task()}

    def fds(self) -> set[str]:
        """New open files and sockets."""
        return _open_fds() - self._fds

    async def none(self) -> None:
        """Nothing is left, or goes in a turn of the loop or two."""
        await asyncio.sleep(0)
        if self.tasks() or self.fds():
            gc.collect()
        for look in (self.tasks, self.fds, _timers):
            try:
                await eventually(lambda look=look: not look(), 2)  # type: ignore[misc]
            except AssertionError:
                raise AssertionError(f"left behind: {look()}") from None


def _open_fds() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:  # the one that lists the others
            continue
    return found


def _timers() -> list[asyncio.TimerHandle]:
    """Timers that have not rung; that of `eventually` itself has when this is called."""
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [timer for timer in scheduled if not timer.cancelled()]
