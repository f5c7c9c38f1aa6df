"""Some rounds with each commit."""

from __future__ import annotations

from .racing_documents import race


async def test_race() -> None:
    """One winner in each."""
    result = await race(20, 20)
    assert (result.rounds, result.wrong) == (20, 0)
    assert "20 clients, 20 rounds: 0 without" in str(result)
