"""The callbacks of an application, which may fail, hang, or be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["Hooks", "InjectedError", "injected_only"]


class InjectedError(Exception):
    """What a callback raises here."""


def injected_only(error: BaseException) -> bool:
    """Whether an error consists of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(injected_only(one) for one in error.exceptions)
    return isinstance(error, InjectedError)


class Hooks:
    """Whether callbacks fail at present.

    Args:
        random: draws how.

    Attributes:
        failing: how often they do, from 0 to 1.
        failing_loads: how many persisters cannot be made from now on.
        load_seconds: how long it takes to make one.
    """

    def __init__(self, random: Random) -> None:
        self.failing = 0.0
        self.failing_loads = 0
        self.load_seconds = 0.0
        self._random = random

    def _fails(self) -> bool:
        return self.failing > 0 and self._random.random() < self.failing

    def may_raise(self, *_: object) -> None:
        """A plain callback."""
        if self._fails():
            raise InjectedError("a callback fails")

    async def may_do_anything(self, *_: object) -> None:
        """A callback that may be awaited."""
        if self._fails():
            kind = self._random.randrange(4)
            if kind == 0:
                raise InjectedError("an awaited callback fails")
            if kind == 1:
                raise asyncio.CancelledError
            await asyncio.sleep(self._random.choice((0.01, 0.7, 12.0, 40.0)))

    def around(self, make_persister: Callable[[str], Any] | None) -> Callable[[str], Any] | None:
        """A factory of persisters that comes with a callback for the loaded store; both may fail."""
        if make_persister is None:
            return None

        async def make(path_id: str) -> Any:
            if self.failing_loads > 0:
                self.failing_loads -= 1
                raise InjectedError("this persister cannot be made")
            if self.load_seconds:
                await asyncio.sleep(self.load_seconds)
            await self.may_do_anything()
            return make_persister(path_id), self.may_do_anything

        return make
