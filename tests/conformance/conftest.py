"""Fixtures with stock TinyBase on Node: `node` (10.0.1) and `node_version` (a factory)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from .nodepeer import NodePeer, NodeProcess, NodeUnavailableError, ensure_node, unavailable

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


@pytest.fixture(scope="session")
def idle_processes(node_installed: str) -> Iterator[dict[str, NodeProcess]]:
    """Node processes that nobody drives now, by version: starting one takes longer than most tests."""
    idle: dict[str, NodeProcess] = {}
    yield idle
    for process in idle.values():
        process.end()


@pytest.fixture
async def node_version(idle_processes: dict[str, NodeProcess]) -> AsyncIterator[NodeVersion]:
    """A factory of processes with any TinyBase version, with nothing in them.

    `peer = await node_version("9.4.0")`.
    An error that nobody caught in Node fails the test, unless it took it with `take_unhandled`.
    """
    peers: list[NodePeer] = []

    async def start(version: str) -> NodePeer:
        process = idle_processes.pop(version, None)
        peer = await (NodePeer.start(version) if process is None else NodePeer.attach(process))
        peers.append(peer)
        return peer

    yield start
    unhandled = []
    for peer in peers:
        if peer.version in idle_processes or peer.unhandled:
            await peer.close()
        else:
            await peer.detach()
            idle_processes[peer.version] = peer.process
        unhandled += peer.take_unhandled()
    assert not unhandled, "\n".join(unhandled)


@pytest.fixture
async def node(node_version: NodeVersion) -> NodePeer:
    """TinyBase 10.0.1 on Node."""
    return await node_version("10.0.1")
