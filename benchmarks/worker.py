"""The other end of `processes.Worker`, for peers in Python: tasks by name, one line of JSON each."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

__all__ = ["LINE_LIMIT", "serve_tasks"]

LINE_LIMIT: Final = 1 << 26
"""Bytes of a line: figures are asked for and answered, and at most what a client says when it joins."""

_TICK_SECONDS: Final = 0.001


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve_tasks(
    versions: Mapping[str, str],
    tasks: Mapping[str, Callable[..., Any]],
    start: Callable[[AsyncExitStack], Awaitable[dict[str, Any]]] | None = None,
) -> None:
    """Do what is asked until nobody asks any more.

    Args:
        versions: of what runs here.
        tasks: by name; they return a dict or nothing, and may be coroutines.
        start: begins what runs while tasks are done, such as a server; returns what to say of it.
    """
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect())  # so that memory can be weighed from outside
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(dict(versions), {**tasks, **_Watch().tasks}, start))


class _Watch:
    """Tells for how long the event loop did nothing else."""

    def __init__(self) -> None:
        self._ticking: asyncio.Task[None] | None = None
        self._longest_seconds = 0.0
        self.tasks = {"watch": self.watch, "blocked": self.blocked}

    def watch(self) -> None:
        """Begin anew."""
        self._longest_seconds = 0.0
        self._ticking = asyncio.create_task(self._tick())

    def blocked(self) -> dict[str, float]:
        """End, and tell."""
        assert self._ticking is not None
        self._ticking.cancel()
        return {"seconds": self._longest_seconds}

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self._longest_seconds = max(self._longest_seconds, loop.time() - due)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop that is installed, as for `mergesync serve`."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


async def _serve(
    versions: dict[str, str],
    tasks: Mapping[str, Callable[..., Any]],
    start: Callable[[AsyncExitStack], Awaitable[dict[str, Any]]] | None,
) -> None:
    async with AsyncExitStack() as stack:
        started = {} if start is None else await start(stack)
        reader = asyncio.StreamReader(LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        _say({"versions": versions, **started})
        await _answer(reader, tasks)


async def _answer(reader: asyncio.StreamReader, tasks: Mapping[str, Callable[..., Any]]) -> None:
    while line := await reader.readline():
        request = json.loads(line)
        try:
            answer = tasks[request.pop("task")](**request)
            _say((await answer if inspect.isawaitable(answer) else answer) or {})
        except Exception as error:
            traceback.print_exc()
            _say({"error": repr(error)})
