"""The README's table of TinyBase versions is true: each version is run against our server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer
from tests.conformance.conftest import NodeVersion
from tests.conformance.nodepeer import VERSIONS, NodeStore
from tests.support import TIMEOUT_SECONDS, eventually

from .blocks import ROOT

pytestmark = pytest.mark.node


def _row(version: str) -> dict[str, str]:
    """The row of the table that is about a version."""
    table = re.findall(r"^\|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    head = [cell.strip() for cell in table[0].split("|")]
    number = _number(version)
    for line in table:
        cells = [cell.strip() for cell in line.split("|")]
        if re.match(r"\d", cells[0]):
            first, _, last = cells[0].partition(" to ")
            if _number(first) <= number <= _number(last or first):
                return dict(zip(head, cells, strict=True))
    raise AssertionError(f"the README says nothing of {version}")


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


async def _agree(node_store: NodeStore, store: MergeableStore) -> None:
    """Both hold the same, by their hashes."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if await node_store.hashes() == store.get_mergeable_content_hashes():
            return
        await asyncio.sleep(0.02)
    assert await node_store.content() == list(store.get_content())


def _ignore(_: Exception) -> None:
    """What clients of old versions leave unanswered when they go is not looked at."""


@pytest.mark.parametrize("version", VERSIONS)
async def test_table_of_versions(version: str, node_version: NodeVersion) -> None:
    """It syncs with a Python client over our server; what it can do is what its row says."""
    row = _row(version)
    node = await node_version(version)
    ignored: Callable[[Exception], Any] = _ignore
    async with create_ws_server("127.0.0.1", 0, on_ignored_error=ignored) as server:
        url = f"ws://127.0.0.1:{server.port}/shop"
        store = MergeableStore().set_cell("pets", "fido", "weight", 1.5)
        node_store = await node.store("a", "s1", ops=[["setCell", "pets", "félix", "good", True]])
        async with create_ws_synchronizer(store, url, on_ignored_error=ignored):
            await node_store.connect(url)
            await eventually(lambda: store.has_row("pets", "félix"))
            await _agree(node_store, store)
            store.set_value("null", None).set_value("object", {"a": [1]}).del_row("pets", "félix")
            await _agree(node_store, store)
            await node_store.ops(["setCell", "pets", "rex", "n", 1e21])
            await eventually(lambda: store.get_cell("pets", "rex", "n") == 1e21)
            await _agree(node_store, store)
            _, values = await node_store.content()
    assert row["syncs"] == "yes"
    assert (row["null"] == "yes") is ("null" in values)
    assert (row["objects, arrays"] == "yes") is (values["object"] == {"a": [1]})
    assert (row["fragments"] != "cannot read them") is node.features.get("fragments", False)
    assert (row["channels"] == "yes") is node.features.get("channels", False)
