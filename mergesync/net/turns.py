"""An application's callbacks about one path: one at a time, in order."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Done", "Turns", "answer_of", "finish"]

_caller: ContextVar[Turns | None] = ContextVar("mergesync_turns", default=None)

Done: TypeAlias = Callable[[Any, Exception | None], None]
"""`(result, error)`: what a callback has returned, or raised."""


class Turns:
    """Calls callbacks, each once those before are through.

    As long as none of them is async, all is done when `call` returns.

    Args:
        timeout_seconds: how long each may take.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._waiting: list[tuple[Callable[[], Any], Done]] = []
        self._busy = False
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a callback is not through."""
        return self._busy

    @property
    def is_caller(self) -> bool:
        """Whether it is one of these callbacks that asks."""
        return _caller.get() is self

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        """Call a callback when it is its turn.

        Args:
            callback: plain or async.
            done: called with what has come of it, before the next one is called; must not raise.
        """
        self._waiting.append((callback, done))
        if not self._busy:
            self._go_on()

    async def settled(self) -> None:
        """Return when all that were to be called up to now are through."""
        if self._busy:
            through = asyncio.Event()
            self._waiting.append((through.set, _pass))
            await through.wait()

    def _go_on(self) -> None:
        self._busy = True
        before = _caller.set(self)
        try:
            self._call_waiting()
        finally:
            _caller.reset(before)

    def _call_waiting(self) -> None:
        while self._waiting:
            callback, done = self._waiting.pop(0)
            try:
                result = callback()
            except Exception as error:
                done(None, error)
                continue
            if inspect.isawaitable(result):
                self._task = asyncio.create_task(self._await(result, done))
                return
            done(result, None)
        self._busy = False
        self._task = None

    async def _await(self, awaitable: Awaitable[Any], done: Done) -> None:
        try:
            result = await finish(awaitable, self._timeout_seconds)
        except Exception as error:
            done(None, error)
        else:
            done(result, None)
        self._go_on()


def _pass(result: Any, error: Exception | None) -> None:
    """Nothing depends on it."""


async def answer_of(hook: Callable[..., Any], *arguments: Any, timeout_seconds: float) -> Any:
    """What a hook returns, async or not.

    Raises:
        TimeoutError: it takes too long; it is cancelled, but nobody waits for its end.
        Exception: what it raises.
    """
    result = hook(*arguments)
    return await finish(result, timeout_seconds) if inspect.isawaitable(result) else result


async def finish(awaitable: Awaitable[Any], timeout_seconds: float) -> Any:
    """What is awaited, which gets only so much time.

    Raises:
        TimeoutError: it takes longer; it is cancelled, but as it may not heed that, nobody waits for its end.
        Exception: what it raises.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout_seconds)
    finally:
        if not task.done():
            task.cancel()
            task.add_done_callback(_forget)
    if not done:
        raise TimeoutError(f"a hook took more than {timeout_seconds} s")
    if task.cancelled():
        raise RuntimeError("a hook was cancelled")
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    """Nobody wants to know what became of it."""
    if not task.cancelled():
        task.exception()
