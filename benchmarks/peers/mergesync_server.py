"""mergesync's server on a free port, as `mergesync serve` runs it: `memory`, `file` or `sqlite`, and a folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.worker import serve_tasks
from mergesync import Limits, create_ws_server
from mergesync.persist import json_file_persisters, sqlite_persisters
from mergesync.version import VERSION

LIMITS = Limits(connections=None, connections_per_address=None, messages_per_second=None, bytes_per_second=None)
"""One client sends what many would, and all come from one address."""


async def start(stack: AsyncExitStack) -> dict[str, Any]:
    """Begin to serve."""
    storage, folder = sys.argv[1], Path(sys.argv[2])
    persisters: Mapping[str, Callable[[], Any]] = {
        "memory": lambda: None,
        "file": lambda: json_file_persisters(folder),
        "sqlite": lambda: sqlite_persisters(folder / "mergesync.db"),
    }
    server = create_ws_server("127.0.0.1", 0, persisters[storage](), limits=LIMITS)
    return {"port": (await stack.enter_async_context(server)).port}


if __name__ == "__main__":
    serve_tasks({"mergesync": VERSION}, {}, start)
