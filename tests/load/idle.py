"""Many clients that say nothing: how much memory and time each costs a server in another process.

python -m tests.load.idle --connections 10000
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from websockets.asyncio.client import connect

from tests.served import Served, busy_seconds

__all__ = ["Cost", "idle"]

CLIENTS_PER_PATH: Final = 10
AT_ONCE: Final = 100
HEARTBEATS_SECONDS: Final = 40.0
"""Two of the heartbeats of `websockets`, so that each client has been asked whether it lives."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What idle connections cost the server.

    Attributes:
        connections: how many there were, all of them to the end.
        bytes_each: of memory.
        opening_seconds: until all were there.
        heartbeat_share: of one processor, while nothing happens but heartbeats.
    """

    connections: int
    bytes_each: float
    opening_seconds: float
    heartbeat_share: float

    def __str__(self) -> str:
        return (
            f"{self.connections} idle connections on {-(-self.connections // CLIENTS_PER_PATH)} paths: "
            f"{self.bytes_each / 1000:.1f} kB each, all open after {self.opening_seconds:.1f} s, "
            f"heartbeats take {self.heartbeat_share:.1%} of a processor"
        )


async def idle(connections: int, watch_seconds: float = HEARTBEATS_SECONDS) -> Cost:
    """Open so many connections, and watch them."""
    with tempfile.TemporaryDirectory() as folder:
        served = await asyncio.to_thread(
            Served, Path(folder), "--persist", "none", "--limit", "connections=none", development=False
        )
        try:
            async with AsyncExitStack() as sockets:
                await _open(sockets, served, 1, 0)  # what the first one costs is not what each one costs
                before = _memory_bytes(served.process.pid)
                began = time.monotonic()
                await _open(sockets, served, connections, 1)
                opening_seconds = time.monotonic() - began
                busy = busy_seconds(served.process.pid)
                await asyncio.sleep(watch_seconds)
                share = (busy_seconds(served.process.pid) - busy) / watch_seconds if watch_seconds else 0.0
                grown = _memory_bytes(served.process.pid) - before
            return Cost(connections, grown / connections, opening_seconds, share)
        finally:
            await asyncio.to_thread(served.kill)


async def _open(sockets: AsyncExitStack, served: Served, count: int, first: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one(number: int) -> None:
        async with gate:
            url = f"{served.url}/p{number // CLIENTS_PER_PATH}"
            socket = await sockets.enter_async_context(connect(url, compression=None, open_timeout=60))
            await socket.send('S\n["q",1,""]')
            await socket.recv()  # it is on its path

    await asyncio.gather(*(open_one(number) for number in range(first, first + count)))


def _memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Print what they cost."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.idle")
    parser.add_argument("--connections", type=int, default=10_000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the server inherits it
    print(asyncio.run(idle(options.connections)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
