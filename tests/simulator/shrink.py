"""Making a failing schedule small: steps are left out as long as it still fails in the same way."""

from __future__ import annotations

from collections.abc import Callable

from .running import run_schedule
from .schedule import STEPS, Outcome

__all__ = ["shrink"]


def shrink(seed: int, run: Callable[..., Outcome] = run_schedule) -> tuple[Outcome, set[int]]:
    """Find few steps with which a schedule still fails (Zeller's ddmin).

    Each step is drawn by its own index, so the others stay what they are when some are left out.

    Args:
        seed: of a schedule that fails.
        run: runs it: `run(seed, skip)`.

    Returns:
        The last outcome that failed, and the indexes of its steps.
    """
    outcome = run(seed, ())
    oracle = _oracle(outcome)
    if oracle is None:
        return outcome, set(range(STEPS))
    kept = sorted(range(STEPS))
    size = len(kept) // 2
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            smaller = run(seed, set(range(STEPS)).difference(fewer))
            if _oracle(smaller) == oracle:
                kept, outcome = fewer, smaller
            else:
                at += size
        size //= 2
    return outcome, set(kept)


def _oracle(outcome: Outcome) -> str | None:
    return outcome.failures[0].partition(":")[0] if outcome.failures else None
