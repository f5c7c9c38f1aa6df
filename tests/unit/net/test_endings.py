"""What is left of a connection that is over."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from mergesync import create_ws_server
from mergesync.net.heartbeat import HeartbeatConnection


@pytest.mark.parametrize("politely", [True, False])
async def test_a_connection_that_is_over_is_no_garbage(monkeypatch: pytest.MonkeyPatch, politely: bool) -> None:
    """It is freed at once, as nothing in it refers to itself: the collector has nothing to do."""
    made: list[weakref.ref[ServerConnection]] = []
    gone = asyncio.Event()

    class Watched(HeartbeatConnection):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(weakref.ref(self, lambda _: gone.set()))

    monkeypatch.setattr("mergesync.net.listening.HeartbeatConnection", Watched)
    async with create_ws_server("127.0.0.1", 0) as server:
        gc.disable()
        try:
            client = await connect(f"ws://127.0.0.1:{server.port}/path")
            if politely:
                await client.close()
            else:
                client.transport.abort()
            async with asyncio.timeout(30):
                await gone.wait()
            assert len(made) == 1
        finally:
            gc.enable()
