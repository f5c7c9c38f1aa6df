"""Clients of wsss that all replace one document at once, round after round: one wins each, the others hear of it.

python -m tests.load.racing_documents --clients 100 --rounds 1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from mergesync import create_ws_server
from mergesync.gateways import wsss

__all__ = ["Race", "race"]


@dataclass(frozen=True)
class Race:
    """What came of it."""

    clients: int
    rounds: int
    wrong: int
    seconds: float

    def __str__(self) -> str:
        frames = 2 * self.clients * self.rounds / self.seconds
        return (
            f"{self.clients} clients, {self.rounds} rounds: {self.wrong} without exactly one winner and one document "
            f"for all; {frames:,.0f} frames a second"
        )


async def race(clients: int, rounds: int) -> Race:
    """Let clients race."""
    async with create_ws_server("127.0.0.1", 0, gateways={"/wsss": wsss()}) as server, AsyncExitStack() as stack:
        url = f"ws://127.0.0.1:{server.port}/wsss"
        sockets = [await stack.enter_async_context(connect(url, compression=None)) for _ in range(clients)]
        version = ""
        for socket in sockets:
            await socket.send('{"id":"x","roomName":"r"}')
            version = json.loads(await socket.recv())["data"]["version"]
        wrong, since = 0, time.monotonic()
        for number in range(rounds):
            about = {"id": "x", "roomName": "r", "version": version}
            updates = [json.dumps({**about, "update": [number, at]}) for at in range(clients)]
            await asyncio.gather(*map(ClientConnection.send, sockets, updates))
            # The winner's document twice, or that of another and then the refusal.
            heard = await asyncio.gather(*map(_two_frames, sockets))
            winners = [at for at, frames in enumerate(heard) if not any("error" in frame for frame in frames)]
            documents = [frame["data"] for frames in heard for frame in frames]
            version = documents[0]["version"]
            is_right = len(winners) == 1 and all(
                document["state"] == [number, winners[0]] and document["version"] == version for document in documents
            )
            wrong += not is_right
        return Race(clients, rounds, wrong, time.monotonic() - since)


async def _two_frames(socket: ClientConnection) -> list[Any]:
    return [json.loads(await socket.recv()) for _ in range(2)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1000)
    arguments = parser.parse_args()
    print(asyncio.run(race(arguments.clients, arguments.rounds)))
