"""Callbacks of the application: in order, one at a time, at once where they can be, and none for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mergesync.net.turns import Turns, answer_of, finish
from tests.support import Leftovers, eventually, within

LONG = 20.0
AT_ONCE = 0.0


class Calls:
    """Callbacks, and what came of them."""

    def __init__(self, timeout_seconds: float = LONG) -> None:
        self.turns = Turns(timeout_seconds)
        self.log: list[str] = []
        self.gate = asyncio.Event()

    def call(self, name: str, *, waits: bool = False, fails: bool = False) -> None:
        """Have something called."""

        def plain() -> str:
            self.log.append(name)
            if fails:
                raise KeyError(name)
            return name

        async def waiting() -> str:
            self.log.append(name)
            await self.gate.wait()
            if fails:
                raise KeyError(name)
            return name

        self.turns.call(waiting if waits else plain, self.note)

    def note(self, result: Any, error: Exception | None) -> None:
        """What came of it."""
        self.log.append(f"done {result}" if error is None else repr(error))


async def test_plain_callbacks_are_through_at_once() -> None:
    """Nothing is waited for, and nothing is left behind."""
    leftovers, calls = Leftovers(), Calls()
    calls.call("a")
    calls.call("b", fails=True)
    assert calls.log == ["a", "done a", "b", "KeyError('b')"]
    assert not calls.turns.busy
    await within(calls.turns.settled())
    await leftovers.none()


async def test_others_wait_for_one_that_is_async() -> None:
    """Plain ones, too; in the order in which they came."""
    calls = Calls()
    calls.call("a", waits=True)
    calls.call("b")
    calls.call("c", waits=True, fails=True)
    calls.call("d")
    assert calls.turns.busy
    settled = asyncio.create_task(calls.turns.settled())
    await asyncio.sleep(0)
    calls.call("e", waits=True)
    assert calls.log == []  # a task begins in the next turn of the loop
    calls.gate.set()
    await within(settled)
    assert calls.log[:8] == ["a", "done a", "b", "done b", "c", "KeyError('c')", "d", "done d"]
    await eventually(lambda: calls.log[8:] == ["e", "done e"])
    assert not calls.turns.busy


async def test_a_callback_that_leads_to_another() -> None:
    """That one comes after it."""
    calls = Calls()

    def nested() -> None:
        calls.call("inner")
        calls.log.append("outer")

    calls.turns.call(nested, calls.note)
    assert calls.log == ["outer", "done None", "inner", "done inner"]


async def test_one_that_hangs() -> None:
    """Is given up and cancelled; the next one has its turn."""
    calls = Calls(AT_ONCE)
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    calls.turns.call(hang, calls.note)
    calls.call("next")
    await within(calls.turns.settled())
    assert calls.log == ["TimeoutError('a hook took more than 0.0 s')", "next", "done next"]
    await within(ended.wait())


async def test_one_that_does_not_heed_being_cancelled() -> None:
    """Nobody waits for it, and what it raises in the end is nobody's business."""
    leftovers, calls = Leftovers(), Calls(0.001)
    gate, cancelled = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            await gate.wait()
            raise KeyError("late") from None

    calls.turns.call(stubborn, calls.note)
    await within(calls.turns.settled())
    assert len(calls.log) == 1
    await within(cancelled.wait())
    gate.set()
    await leftovers.none()


async def test_one_that_is_cancelled() -> None:
    """By the application itself: it has failed."""
    calls = Calls()

    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    calls.turns.call(cancel_itself, calls.note)
    await within(calls.turns.settled())
    assert calls.log == ["RuntimeError('a hook was cancelled')"]


async def test_answers() -> None:
    """Of plain and async hooks."""

    def fail() -> None:
        raise KeyError

    async def double(number: int) -> int:
        return 2 * number

    assert await answer_of(lambda number: number + 1, 1, timeout_seconds=LONG) == 2
    assert await answer_of(double, 2, timeout_seconds=LONG) == 4
    with pytest.raises(KeyError):
        await answer_of(fail, timeout_seconds=LONG)


async def test_who_waits_is_cancelled() -> None:
    """So is what is waited for."""
    ended = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(finish(hang(), LONG))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(waiting)
    await within(ended.wait())
