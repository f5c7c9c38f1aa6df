"""Stock TinyBase at the limits of a server: it is slowed down rather than cut off, and converges when it has lagged."""

from __future__ import annotations

from mergesync import Limits, MergeableStore, create_ws_server, create_ws_synchronizer
from tests.faults.test_slow_readers import narrow_server, write_until_missed
from tests.support import eventually
from tests.unit.net.kit import Proxy, url_of

from .nodepeer import NodePeer

# ruff: noqa: SIM117 - what is inside the server stands inside it


async def test_many_transactions_in_a_loop(node: NodePeer, errors: list[Exception]) -> None:
    """More than it may send: TinyBase and a client of ours get through all the same, on the one socket each has."""
    limits = Limits(messages_per_second=1000.0, burst_seconds=1.0)
    count, mirror, own = 3000, MergeableStore(), MergeableStore()
    async with create_ws_server("127.0.0.1", 0, limits=limits, on_ignored_error=errors.append) as server:
        async with create_ws_synchronizer(mirror, url_of(server)), create_ws_synchronizer(own, url_of(server)):
            theirs = await node.store("theirs")
            client = await theirs.connect(url_of(server))
            for number in range(count):
                own.set_cell("own", str(number % 50), "c", number)
            await theirs.ops(*(["setCell", "theirs", str(number % 50), "c", number] for number in range(count)))
            last = str((count - 1) % 50)
            await eventually(
                lambda: mirror.get_cell("own", last, "c") == mirror.get_cell("theirs", last, "c") == count - 1
            )
            await theirs.wait(hashes=list(mirror.get_mergeable_content_hashes()))
            assert server.get_stats().connections == 3
            await client.destroy()
    assert errors == []


async def test_slow_reader(node: NodePeer, errors: list[Exception]) -> None:
    """A client that stopped reading is told that it lacks something when it reads again, and gets it."""
    live = MergeableStore()
    async with narrow_server(errors) as server, Proxy(lambda: server.port) as proxy:
        async with create_ws_synchronizer(live, url_of(server)):
            stalled = await node.store("stalled")
            client = await stalled.connect(proxy.url)
            proxy.stalled = True
            await write_until_missed(server, live)
            await stalled.call("setValue", "mine", 1)
            proxy.stalled = False
            await eventually(lambda: live.get_value("mine") == 1)
            await stalled.wait(hashes=list(live.get_mergeable_content_hashes()), timeout=20)
            await client.destroy()
    assert errors == []
