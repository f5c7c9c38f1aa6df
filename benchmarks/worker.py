"""The other end of `processes.Worker`, for peers in Python: tasks by name, one line of JSON each."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

__all__ = ["LINE_LIMIT", "collect_on_signal", "loop_factory", "say", "serve_tasks"]

LINE_LIMIT: Final = 1 << 20
"""Characters of a line: figures are asked for and answered, not data."""


def say(answer: Mapping[str, Any]) -> None:
    """Write an answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def collect_on_signal() -> None:
    """Collect garbage on SIGUSR2, so that memory can be weighed from outside."""
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect())


def serve_tasks(versions: Mapping[str, str], tasks: Mapping[str, Callable[..., Any]]) -> None:
    """Do what is asked until nobody asks any more. Tasks return a dict, and may be coroutines."""
    collect_on_signal()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(dict(versions), tasks))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The fastest event loop that is installed, as `mergesync serve` has it."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


async def _serve(versions: dict[str, str], tasks: Mapping[str, Callable[..., Any]]) -> None:
    reader = asyncio.StreamReader(LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say({"versions": versions})
    while line := await reader.readline():
        request = json.loads(line)
        try:
            answer = tasks[request.pop("task")](**request)
            say((await answer if inspect.isawaitable(answer) else answer) or {})
        except Exception as error:
            traceback.print_exc()
            say({"error": repr(error)})
