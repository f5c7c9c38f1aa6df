"""`create_local_synchronizer`: stores of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mergesync import ConnectionLostError, LocalNetwork, MergeableStore, RequestTimeoutError, create_local_synchronizer
from mergesync.sync.messages import Message, MessageType
from tests.support import eventually, same_content, within
from tests.unit.net.kit import pet

pytestmark = pytest.mark.usefixtures("leftovers")

Errors = list[Exception]


async def test_stores_converge() -> None:
    """Each gets what the others have, and every change after that, whoever makes it."""
    network = LocalNetwork()
    stores = [pet("fido"), pet("felix"), pet("rex")]
    synchronizers = [create_local_synchronizer(store, network) for store in stores]
    await within(asyncio.gather(*(synchronizer.start_sync() for synchronizer in synchronizers)))
    await eventually(lambda: same_content(*stores) and len(stores[0].get_row_ids("pets")) == 3)
    for number, store in enumerate(stores):
        store.set_value(f"v{number}", {"a": [None]})
    stores[1].del_row("pets", "fido")
    await eventually(lambda: same_content(*stores) and len(stores[0].get_values()) == 3)
    assert synchronizers[0].get_stats().sends > 0
    for synchronizer in synchronizers:
        await synchronizer.destroy()


async def test_entering() -> None:
    """Entering starts to sync, leaving lets go."""
    one, two = pet("fido"), pet("felix")
    network = LocalNetwork()
    quiet = {"request_timeout_seconds": 0.05, "on_ignored_error": lambda _: None}
    async with create_local_synchronizer(one, network, **quiet) as first:  # type: ignore[arg-type]
        assert first.store is one
        async with create_local_synchronizer(two, network):
            await eventually(lambda: same_content(one, two))
        two.set_value("v", 1)
        await asyncio.sleep(0.01)
        assert not one.has_value("v")


async def test_nobody_there(errors: Errors) -> None:
    """The first one waits for an answer, then takes its initial content, and hears who comes later."""
    network = LocalNetwork()
    one, two = MergeableStore(), MergeableStore()
    first = create_local_synchronizer(one, network, request_timeout_seconds=0.05, on_ignored_error=errors.append)
    assert await within(first.start_sync(({}, {"v": 1}))) is first
    assert [type(error) for error in errors] == [RequestTimeoutError]
    assert one.get_value("v") == 1
    assert await within(first.start_sync()) is first
    async with create_local_synchronizer(two, network):
        assert two.get_value("v") == 1
    await first.destroy()


async def test_stopping() -> None:
    """Stopped, nothing goes either way; started again, both catch up."""
    network = LocalNetwork()
    one, two = MergeableStore(), MergeableStore()
    first, second = create_local_synchronizer(one, network), create_local_synchronizer(two, network)
    await within(asyncio.gather(first.start_sync(), second.start_sync()))
    assert first.stop_sync() is first
    one.set_value("one", 1)
    two.set_value("two", 2)
    await asyncio.sleep(0.01)
    assert not one.has_value("two")
    assert not two.has_value("one")
    await within(first.start_sync())
    await eventually(lambda: same_content(one, two) and len(one.get_values()) == 2)
    await first.destroy()
    await second.destroy()


async def test_who_waits_when_it_ends() -> None:
    """Stopped, `start_sync` returns; destroyed, it fails, and so does the next; destroying again changes nothing."""
    synchronizer = create_local_synchronizer(MergeableStore(), LocalNetwork(), on_ignored_error=lambda _: None)
    starting = asyncio.create_task(synchronizer.start_sync())
    await asyncio.sleep(0)
    synchronizer.stop_sync()
    assert await within(starting) is synchronizer
    starting = asyncio.create_task(synchronizer.start_sync())
    await asyncio.sleep(0)
    await synchronizer.destroy()
    with pytest.raises(ConnectionLostError, match="destroyed"):
        await within(starting)
    with pytest.raises(ConnectionLostError, match="destroyed"):
        await synchronizer.start_sync()
    await synchronizer.destroy()


async def test_networks_are_apart() -> None:
    """Only synchronizers of one network hear one another; without a network, all do."""
    one, two, three = pet("fido"), pet("felix"), pet("rex")
    quiet = {"request_timeout_seconds": 0.05, "on_ignored_error": lambda _: None}
    async with (
        create_local_synchronizer(one, **quiet),  # type: ignore[arg-type]
        create_local_synchronizer(two, **quiet),  # type: ignore[arg-type]
        create_local_synchronizer(three, LocalNetwork(), **quiet),  # type: ignore[arg-type]
    ):
        await eventually(lambda: same_content(one, two))
        assert three.get_row_ids("pets") == ["rex"]


async def test_message_under_way_when_its_receiver_goes() -> None:
    """It is dropped."""
    network = LocalNetwork()
    one, two = MergeableStore(), MergeableStore()
    first, second = create_local_synchronizer(one, network), create_local_synchronizer(two, network)
    await within(asyncio.gather(first.start_sync(), second.start_sync()))
    one.set_value("v", 1)
    await second.destroy()
    await asyncio.sleep(0.01)
    assert not two.has_value("v")
    await first.destroy()


async def test_listener_that_raises(errors: Errors) -> None:
    """It is reported, and the stores converge."""
    network = LocalNetwork()
    one, two = MergeableStore(), pet("felix")

    def fail(*_: object) -> None:
        raise KeyError("listener")

    one.add_tables_listener(fail)
    first = create_local_synchronizer(one, network, on_ignored_error=errors.append)
    second = create_local_synchronizer(two, network)
    await within(asyncio.gather(first.start_sync(), second.start_sync()))
    await eventually(lambda: same_content(one, two))
    assert [type(error) for error in errors] == [KeyError]
    await first.destroy()
    await second.destroy()


async def test_questions_before_the_start() -> None:
    """They are answered from the beginning, as by the peer; a start that overlaps another does not miss it."""
    network = LocalNetwork()
    one, two = pet("fido"), MergeableStore()
    first, second = (create_local_synchronizer(store, network, request_timeout_seconds=60.0) for store in (one, two))
    await within(asyncio.gather(first.start_sync(), second.start_sync()))
    first._send(second._address, Message("q", MessageType.GET_VALUE_DIFF, {}))
    await asyncio.sleep(0.01)
    await first.destroy()
    await second.destroy()


def test_store_written_when_the_loop_is_not_running() -> None:
    """What is written then goes out when it runs again."""
    loop = asyncio.new_event_loop()
    network = LocalNetwork()
    one, two = MergeableStore(), MergeableStore()
    first, second = create_local_synchronizer(one, network), create_local_synchronizer(two, network)

    async def together(*steps: Coroutine[Any, Any, object]) -> None:
        await within(asyncio.gather(*steps))

    loop.run_until_complete(together(first.start_sync(), second.start_sync()))
    one.set_value("v", 1)
    assert not two.has_value("v")
    loop.run_until_complete(asyncio.sleep(0.01))
    assert two.get_value("v") == 1
    loop.run_until_complete(together(first.destroy(), second.destroy()))
    loop.close()


async def test_more_than_a_frame_holds() -> None:
    """Where there are no frames a start brings everything, however large it is."""
    network = LocalNetwork()
    one, two = MergeableStore(), MergeableStore()
    one.set_table("t", {f"r{number}": {"c": "x" * 1000} for number in range(20_000)})
    synchronizers = [create_local_synchronizer(store, network) for store in (one, two)]
    for synchronizer in synchronizers:
        await synchronizer.start_sync()
    assert len(two.get_row_ids("t")) == 20_000
    for synchronizer in synchronizers:
        await synchronizer.destroy()
