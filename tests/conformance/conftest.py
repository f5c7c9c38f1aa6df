"""Fixtures with stock TinyBase on Node: `node` (10.0.1) and `node_version` (a factory)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from .nodepeer import NodePeer, NodeUnavailableError, ensure_node, unavailable

NodeVersion = Callable[[str], Awaitable[NodePeer]]

FIXTURES = {"node_installed", "node_version", "node"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs Node."""
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="session")
def node_installed() -> str:
    """The node executable, with the npm packages installed; skips without (but fails where CI is set)."""
    try:
        return ensure_node()
    except NodeUnavailableError as error:
        reason = unavailable(str(error))
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
async def node_version(node_installed: str) -> AsyncIterator[NodeVersion]:
    """A factory of processes with any TinyBase version, ended with the test.

    `peer = await node_version("9.4.0")`.
    An error that nobody caught in Node fails the test, unless it took it with `take_unhandled`.
    """
    peers: list[NodePeer] = []

    async def start(version: str) -> NodePeer:
        peer = await NodePeer.start(version)
        peers.append(peer)
        return peer

    yield start
    unhandled = []
    for peer in peers:
        await peer.close()
        unhandled += peer.take_unhandled()
    assert not unhandled, "\n".join(unhandled)


@pytest.fixture
async def node(node_version: NodeVersion) -> NodePeer:
    """TinyBase 10.0.1 on Node."""
    return await node_version("10.0.1")
