"""mergesync's server on a free port, as `mergesync serve` runs it: `memory`, `file` or `sqlite`, and a folder."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.worker import collect_on_signal, loop_factory, say
from mergesync import Limits, create_ws_server
from mergesync.persist import json_file_persisters, sqlite_persisters
from mergesync.version import VERSION

LIMITS = Limits(connections=None, connections_per_address=None, messages_per_second=None, bytes_per_second=None)
"""One client sends what many would, and all come from one address."""


async def serve(storage: str, folder: Path) -> None:
    """Serve until the process is ended."""
    persisters: Mapping[str, Callable[[], Any]] = {
        "memory": lambda: None,
        "file": lambda: json_file_persisters(folder),
        "sqlite": lambda: sqlite_persisters(folder / "mergesync.db"),
    }
    collect_on_signal()
    async with create_ws_server("127.0.0.1", 0, persisters[storage](), limits=LIMITS) as server:
        say({"port": server.port, "versions": {"mergesync": VERSION}})
        await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(sys.argv[1], Path(sys.argv[2])))
