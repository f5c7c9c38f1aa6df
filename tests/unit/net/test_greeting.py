"""What a server tells of itself, and the clock that follows it."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync import MergeableStore, create_ws_server
from mergesync.exceptions import RefusedChangesError
from mergesync.net.greeting import Greeting
from mergesync.sync.operations import ERROR, OK, Operation
from tests.support import eventually

from .kit import synced, url_of

NOW = 1704067200000


def answered(body: Any, name: str = OK) -> tuple[Greeting, int]:
    """A greeting answered after 0.2 s, and how far the clock of the store was moved."""
    store = MergeableStore("s1", get_now=lambda: NOW)
    greeting = Greeting()
    request_id = greeting.ask(1.0)
    assert not greeting.take_answer(Operation("other", name, body), store, 1.1)
    assert greeting.take_answer(Operation(request_id, name, body), store, 1.2)
    return greeting, store._clock.now() - NOW


@pytest.mark.parametrize(("server_now", "moved"), [(NOW, 0), (NOW - 100, 0), (NOW + 1000, 1100), (NOW - 1000, -900)])
def test_the_clock_follows(server_now: int, moved: int) -> None:
    """The server read its clock half a round trip ago; what may be chance moves nothing."""
    greeting, found = answered({"server": "id", "client": "me", "now": server_now})
    assert (greeting.server_id, found) == ("id", moved)
    assert greeting.round_trip_seconds == pytest.approx(0.2)


def test_a_server_that_holds_the_question() -> None:
    """That time is no part of the round trip."""
    greeting, found = answered({"server": "id", "now": NOW + 1000, "held": 150})
    assert greeting.round_trip_seconds == pytest.approx(0.05)
    assert found == 1025


@pytest.mark.parametrize("body", [None, [], {}, {"server": 1, "now": "late"}])
def test_nonsense(body: Any) -> None:
    """What is not as it should be is not used."""
    greeting, moved = answered(body)
    assert (greeting.server_id, moved) == (None, 0)


def test_a_server_that_has_no_greeting() -> None:
    """Nor is an error."""
    greeting, moved = answered({"now": 0}, ERROR)
    assert (greeting.server_id, greeting.round_trip_seconds, moved) == (None, 0.0, 0)


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_clock_that_is_years_off(years: int) -> None:
    """Its writes count like everybody's, before the greeting and after, whoever wrote last; and nothing is refused."""
    ignored: list[Exception] = []
    milliseconds = years * 365 * 86_400_000
    right = MergeableStore()
    wrong = MergeableStore(get_now=lambda: int(right._clock.now()) + milliseconds)
    wrong.set_cell("t", "r", "written before", years)
    async with (
        create_ws_server("127.0.0.1", 0, on_ignored_error=ignored.append) as server,
        synced(right, url_of(server), on_ignored_error=ignored.append),
        synced(wrong, url_of(server), on_ignored_error=ignored.append),
    ):
        for number, store in enumerate([right, wrong] * 3):
            store.set_cell("t", "r", "c", number)
            await eventually(lambda: right.get_cell("t", "r", "c") == wrong.get_cell("t", "r", "c") == number)  # noqa: B023
        await eventually(lambda: right.get_mergeable_content() == wrong.get_mergeable_content())
        assert right.get_cell("t", "r", "written before") == years
    assert ignored == []


@pytest.mark.parametrize("behind_minutes", [6, 600])
async def test_a_clock_that_is_put_back(behind_minutes: int) -> None:
    """What others write meanwhile comes too early; so the time is asked for again, and nothing is missed.

    Found by schedule 77334 of the simulator.
    """
    ignored: list[Exception] = []
    right = MergeableStore()
    behind_milliseconds = 0
    wrong = MergeableStore(get_now=lambda: int(right._clock.now()) - behind_milliseconds)
    async with (
        create_ws_server("127.0.0.1", 0) as server,
        synced(right, url_of(server)),
        synced(wrong, url_of(server), on_ignored_error=ignored.append),
    ):
        wrong.set_cell("t", "r", "before", 1)
        await eventually(lambda: right.has_row("t", "r"))
        behind_milliseconds = behind_minutes * 60_000
        right.set_cell("t", "r", "during", 1)
        await eventually(lambda: wrong.has_cell("t", "r", "during"))
        wrong.set_cell("t", "r", "during", 2)
        await eventually(lambda: right.get_cell("t", "r", "during") == 2)
        await eventually(lambda: right.get_mergeable_content() == wrong.get_mergeable_content())
    assert {type(error) for error in ignored} == {RefusedChangesError}


async def test_a_stamp_that_is_too_early_for_the_server_as_well() -> None:
    """It is asked once what time it is, and nothing begins anew."""
    ignored: list[Exception] = []
    async with (
        create_ws_server("127.0.0.1", 0) as server,
        server.open_path("p") as path,
        synced(MergeableStore(), url_of(server), on_ignored_error=ignored.append) as synchronizer,
    ):
        session, greeting = synchronizer._session, synchronizer._session.greeting
        sends = session.stats.sends
        path.store._clock.offset += 600_000
        path.store.set_value("v", 1)
        await eventually(lambda: ignored)
        await eventually(lambda: greeting.too_early is None)
        assert (synchronizer.status, session.stats.sends) == ("live", sends)
    assert [type(error) for error in ignored] == [RefusedChangesError]
