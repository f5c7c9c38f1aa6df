"""Killed at any moment under a thousand writes a second, a server loses nothing; `kill9` says how to kill it often."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from . import kill9

KILLS = 10
SEED = 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", kill9.STORAGES)
async def test_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    """Acknowledged cells are in the files before anybody comes back, all others once everybody has."""
    figures = await kill9.Harness(tmp_path, kind, SEED).run(KILLS)
    print(figures)
    assert figures.good, str(figures)
    assert figures.kills == KILLS
    assert figures.promised > 0
    assert figures.checked > 0


async def test_a_broken_promise_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server promised what it has not stored, the harness would see that it is not in the files."""

    async def promise_everything(client: kill9.Client) -> kill9.Cells:
        await asyncio.sleep(0.001)
        return dict(client.written)

    monkeypatch.setattr(kill9, "acknowledged", promise_everything)
    figures = await kill9.Harness(tmp_path, "json", SEED).run(2)
    assert figures.promised_lost > 0
    assert figures.lost == figures.refused == 0
