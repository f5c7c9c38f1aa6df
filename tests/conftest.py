"""Fixtures that tests of several storeys share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support import Leftovers


@pytest.fixture
def errors() -> list[Exception]:
    """Give its `append` as `on_ignored_error`."""
    return []


@pytest.fixture
async def leftovers() -> AsyncIterator[Leftovers]:
    """The test leaves no task, timer or file descriptor behind."""
    left = Leftovers()
    yield left
    await left.none()
