"""The gateway for wsmsgbroker, with its real client, put through the tests that come with it."""

from __future__ import annotations

import asyncio
import json

from mergesync import create_ws_server
from mergesync.gateways import message_broker

from .nodepeer import run_node

_OWN_TESTS = 6


async def test_its_own_tests(node_installed: str) -> None:
    """All of them pass, and a client that comes again keeps its id when its old socket is closed."""
    errors: list[Exception] = []
    async with create_ws_server(
        "localhost", 0, gateways={"/broker": message_broker()}, on_ignored_error=errors.append
    ) as server:
        output = await asyncio.to_thread(run_node, "broker_tests.cjs", str(server.port), "broker/kevoree")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["error"] for line in lines[:_OWN_TESTS]] == [None] * _OWN_TESTS, lines
    assert lines[_OWN_TESTS:] == [
        {"lost": "bob"},
        {"message": {"to": "bob"}, "wantsAnswer": False},
        {"toItself": ["ann", "me indeed"]},
        {"unregistered": "bob"},
    ]
    assert errors == []
