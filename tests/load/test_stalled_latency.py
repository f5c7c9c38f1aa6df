"""The script runs; its figures decide nothing here."""

from __future__ import annotations

from tests.load.stalled_latency import measure


def test_live_beside_stalled_readers() -> None:
    """Both kinds of rounds are measured, and nobody is cut."""
    latencies = measure(3, 2, rounds=2, round_seconds=0.1, fill_seconds=0.1, deliveries_per_second=200.0)
    assert len(latencies.alone) == len(latencies.beside) == 2
    assert "beside stalled readers" in str(latencies)
