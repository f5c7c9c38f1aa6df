"""Nobody who uses mergesync has these pains; `python -m tests.pains` shows by the same scripts that TinyBase has.

M15, a reader that stops reading, is `tests/faults/test_slow_readers.py::test_100_stalled_beside_10_live`. The command
prints what became of the data on both, and runs M10 with 250,000 rows.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .benches import MergesyncBench, StockClientsBench
from .scripts import SCRIPTS

NEEDS_A_CLIENT_THAT_COMES_BACK = ("M2", "M3", "M4", "M5")
"""TinyBase's client is connected again, but syncs no more, whatever the server does (M2)."""


def _named(*without: str) -> pytest.MarkDecorator:
    names = [name for name in SCRIPTS if name.split()[0] not in without]
    return pytest.mark.parametrize("name", names)


@_named()
async def test_mergesync(name: str, tmp_path: Path) -> None:
    """Nothing is lost, split, leaked, or kept from those who should hear of it."""
    async with MergesyncBench.open(tmp_path) as bench:
        outcome = await SCRIPTS[name](bench)
    assert outcome.good, outcome.found


@pytest.mark.usefixtures("node_installed")
@_named(*NEEDS_A_CLIENT_THAT_COMES_BACK)
async def test_tinybase_clients_on_mergesync(name: str, tmp_path: Path) -> None:
    """Where the server alone can see to it, they have none of these pains either."""
    async with StockClientsBench.open(tmp_path) as bench:
        outcome = await SCRIPTS[name](bench)
    assert outcome.good, outcome.found
