"""Alarms, waits, reports: the small parts of the shells."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging

import pytest

from mergesync import ConnectionLostError, WsServer
from mergesync.limits import MAX_RETRY_AFTER_SECONDS
from mergesync.net.alarm import Alarm
from mergesync.net.backoff import full_jitter, retry_after_seconds
from mergesync.net.reporting import Reporter
from mergesync.net.server import ServerOptions
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("leftovers")


async def test_alarm_rings_when_due() -> None:
    """It looks at the deadline when it is set, and after it has rung."""
    loop = asyncio.get_running_loop()
    deadlines = [loop.time() + 0.02, loop.time() + 0.04]
    rung: list[float] = []

    def wake(now: float) -> None:
        rung.append(now)
        deadlines.pop(0)

    alarm = Alarm(lambda: deadlines[0] if deadlines else None, wake)
    alarm.set()
    alarm.set()
    await eventually(lambda: len(rung) == 2)
    assert rung[0] < rung[1]
    assert not deadlines


async def test_alarm_follows_its_deadline() -> None:
    """A deadline may come nearer, go away or be cancelled."""
    loop = asyncio.get_running_loop()
    deadline: list[float | None] = [loop.time() + 1000]
    rung: list[float] = []

    def wake(now: float) -> None:
        rung.append(now)
        deadline[0] = None

    alarm = Alarm(lambda: deadline[0], wake)
    alarm.set()
    deadline[0] = loop.time()
    alarm.set()
    await eventually(lambda: rung)
    deadline[0] = loop.time() + 1000
    alarm.set()
    deadline[0] = None
    alarm.set()
    deadline[0] = loop.time() + 1000
    alarm.set()
    alarm.cancel()
    alarm.cancel()
    assert len(rung) == 1


async def test_alarm_that_stays_due_does_not_spin() -> None:
    """What cannot be done yet is tried again after a rest, not in every turn of the loop."""
    rung: list[float] = []
    alarm = Alarm(lambda: 0.0, rung.append)
    alarm.set()
    turns = 0
    while len(rung) < 4:
        turns += 1
        await asyncio.sleep(0)
    alarm.cancel()
    assert all(after - before >= 0.009 for before, after in itertools.pairwise(rung))


async def test_alarm_whose_waking_fails() -> None:
    """It goes on ringing."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    rung: list[float] = []

    def wake(now: float) -> None:
        rung.append(now)
        raise KeyError("wake")

    alarm = Alarm(lambda: 0.0, wake)
    alarm.set()
    await eventually(lambda: len(rung) == 2)
    alarm.cancel()
    assert [type(failure) for failure in failures] == [KeyError] * 2


def test_full_jitter() -> None:
    """Bounds double up to the cap and stay; waits are spread over all of it."""
    runs = [list(itertools.islice(full_jitter(0.1, 1.0), 8)) for _ in range(500)]
    for number, bound in enumerate([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]):
        waits = [run[number] for run in runs]
        assert max(waits) <= bound
        assert max(waits) > 0.9 * bound
        assert min(waits) < 0.1 * bound


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("mergesync:load retry-after=0.500", 0.5),
        ("retry-after=7", 7),
        ("retry-after=999999", MAX_RETRY_AFTER_SECONDS),
        ("retry-after=99999999999", MAX_RETRY_AFTER_SECONDS),
        ("retry-after=-1", 0),
        ("retry-after=1e9", 1),
        ("retry-after=x", 0),
        ("retry-after=None", 0),
        ("", 0),
    ],
)
def test_retry_after(reason: str, seconds: float) -> None:
    """A server may ask for a wait in its close reason, up to a bound."""
    assert retry_after_seconds(reason) == seconds


def test_reporter_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Without a callback: our errors in a line, others with their traceback."""
    report = Reporter(None)
    report(ConnectionLostError("gone"))
    report.guard(lambda: 1 / 0)
    ours, other = caplog.records
    assert (ours.name, ours.levelno, ours.exc_info) == ("mergesync", logging.WARNING, None)
    assert ours.getMessage() == "ConnectionLostError: gone"
    assert other.exc_info


def test_reporter_whose_callback_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Both errors are seen: one by the callback, the other in the log."""
    heard: list[Exception] = []

    def fail(error: Exception) -> None:
        heard.append(error)
        raise ValueError("reporting")

    Reporter(fail).guard(lambda: 1 / 0)
    assert [type(error) for error in heard] == [ZeroDivisionError]
    [record] = caplog.records
    assert record.getMessage() == "on_ignored_error failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "reporting"


def test_options_of_servers() -> None:
    """`create_ws_server` takes what `WsServer` takes, under the same names and types."""
    parameters = inspect.signature(WsServer).parameters.values()
    keywords = {each.name: each.annotation for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {name: str(said.__forward_arg__) for name, said in ServerOptions.__annotations__.items()} == keywords
