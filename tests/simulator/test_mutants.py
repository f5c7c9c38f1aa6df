"""The simulator is tested itself: it finds every bug that is planted, and makes a failing schedule small."""

from __future__ import annotations

import pytest

from .mutants import MUTANTS, SEEDS
from .mutation import Mutant, find, planted
from .shrink import shrink

ELSEWHERE = range(300)
"""Where to look if a bug is not found any more where it was, because schedules have become others since."""


@pytest.mark.filterwarnings("ignore")  # a bug leaves things behind
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_finds(mutant: Mutant) -> None:
    """The bug is found; usually by the schedule that found it before."""
    assert find(mutant, [SEEDS[mutant.name][0], *ELSEWHERE])


@pytest.mark.filterwarnings("ignore")
def test_shrinks() -> None:
    """Of a schedule that fails, few steps remain, and it fails in the same way."""
    [mutant] = [mutant for mutant in MUTANTS if mutant.name == "a rollback keeps values"]
    with planted(mutant):
        outcome, kept = shrink(SEEDS[mutant.name][0])
    assert outcome.failures[0].startswith("rollback")
    assert len(kept) <= 10
