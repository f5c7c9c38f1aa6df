"""The scripts of this folder run; their figures decide nothing here."""

from __future__ import annotations

from .idle import idle


async def test_idle_connections() -> None:
    """Some connections are opened and weighed."""
    cost = await idle(50, watch_seconds=0.0)
    assert cost.connections == 50
    assert "50 idle connections on 5 paths" in str(cost)
