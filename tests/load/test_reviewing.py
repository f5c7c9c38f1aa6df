"""The script runs, and each kind of review does what it is called."""

from __future__ import annotations

from .reviewing import REVIEWS, measure


def test_reviewing() -> None:
    """All kinds are measured; figures decide nothing here."""
    found = measure(cells=20, frames=2)
    assert {kind: len(costs) for kind, costs in found.items()} == dict.fromkeys(REVIEWS, 2)
