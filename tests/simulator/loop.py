"""An asyncio event loop in virtual time: deterministic, and as fast as the work in it.

When nothing is ready, time jumps to the next timer. What asyncio would do in a thread is done at once, in order; its
result arrives after a delay that the simulation draws.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

__all__ = ["DeadlockError", "LivelockError", "SimulatedLoop"]

_MOST_ROUNDS = 40_000  # an ordinary schedule takes 1,000 to 5,000


class DeadlockError(RuntimeError):
    """Everything waits for something that will never come."""


class LivelockError(RuntimeError):
    """It goes on and on."""


class _VirtualSelector(selectors.BaseSelector):
    """Has no files; waiting moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.rounds += 1
        if self.rounds > _MOST_ROUNDS:
            self.rounds = 0
            raise LivelockError(f"more than {_MOST_ROUNDS} rounds of the loop")
        if timeout is None:
            raise DeadlockError("no timer is set and nothing is ready")
        if timeout > 0:
            self.now += timeout
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Any:
        return {}


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop.

    Args:
        draw_delay: how long, in seconds, the next piece of work in a thread takes.
    """

    def __init__(self, draw_delay: Callable[[], float]) -> None:
        self._virtual = _VirtualSelector()
        self._draw_delay = draw_delay
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._virtual.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Do the work now; tell of it later."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            result = function(*arguments)
        except Exception as error:
            self.call_later(self._draw_delay(), _set_exception, future, error)
        else:
            self.call_later(self._draw_delay(), _set_result, future, result)
        return future


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
