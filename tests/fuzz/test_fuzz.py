"""The fuzzer as a test, over frames in memory and over bytes on real sockets; a failure says its seed."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

import pytest

from .sockets import run_sockets
from .world import FRAMES_PER_RUN, run

FRAMES: Final = int(os.environ.get("MERGESYNC_FUZZ_FRAMES", "50000"))
_BATCHES: Final = 10
_SOCKETS: Final = 300


@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(_BATCHES))
def test_frames(batch: int) -> None:
    """Nothing escapes, the honest stay and end equal, and nothing is kept of who is gone."""
    runs = FRAMES // FRAMES_PER_RUN // _BATCHES
    for seed in range(batch * runs, (batch + 1) * runs):
        try:
            run(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def test_what_the_fuzzer_sends() -> None:
    """It is not all refused at once, and not all harmless."""
    seen: Counter[str] = Counter()
    for seed in range(20):
        seen.update(run(seed))
    assert seen["closed 1007"] < 0.5 * seen["frames"]
    for name in ("closed 1007", "closed 1013", "RefusedChangesError", "merged"):
        assert seen[name], name


@pytest.mark.usefixtures("leftovers")
@pytest.mark.parametrize("seed", range(3))
async def test_bytes(seed: int) -> None:
    """Whoever sends bytes that are no handshakes, no frames or no text is cut off; others are served."""
    await run_sockets(seed, _SOCKETS)
