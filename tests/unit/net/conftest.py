"""What several tests of this storey need."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mergesync import create_ws_server
from mergesync.net.listening import ListeningWsServer


@pytest.fixture
async def server(errors: list[Exception]) -> AsyncIterator[ListeningWsServer]:
    """A server on a port of its own; what it reports is in `errors`."""
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=errors.append) as server:
        yield server
