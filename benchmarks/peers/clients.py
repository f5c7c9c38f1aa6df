"""What clients of any make are asked: stores by name, on the path of a URL."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, Final

from benchmarks.data import CELLS_IN_ROW
from benchmarks.worker import serve_tasks

__all__ = ["FILLED_ROWS", "Clients", "changed_rows", "there", "updates"]

FILLED_ROWS: Final = 10_000
"""Rows of a transaction of `fill`: with five cells, under the 16 MiB of a frame."""


_STEP: Final = 7919
"""A prime, so that updates come to all rows before they come to one again."""


def changed_rows(rows: int, count: int) -> list[str]:
    """So many rows, evenly spread, the first of all among them."""
    return [f"row{number * rows // count}" for number in range(count)]


def updates(rows: int, first: int, count: int) -> list[tuple[str, str]]:
    """A row id and a value for the first cell of it, all over the table; `benchmarks.durable` looks for the values."""
    return [(f"row{number * _STEP % rows}", f"changed{number:08d}") for number in range(first, first + count)]


def there(until: dict[str, Any], rows: int, value: object) -> bool:
    """Whether what is waited for is there: so many `rows`, and a `value` in the first cell of a `row`."""
    return rows >= until.get("rows", 0) and ("row" not in until or value == until["value"])


class Clients(ABC):
    """Clients of one make."""

    @abstractmethod
    def new(self, store: str) -> None:
        """Make an empty store."""

    @abstractmethod
    def fill(self, store: str, rows: int, cells: int = CELLS_IN_ROW) -> None:
        """Write the data: rows of so many cells."""

    @abstractmethod
    def copy(self, store: str, to: str) -> None:
        """Make a copy of a store that shares its history, but was never connected."""

    @abstractmethod
    async def connect(self, store: str, url: str) -> None:
        """Connect a store, and wait until both sides know each other's content."""

    @abstractmethod
    def arrival(self, store: str, until: dict[str, Any]) -> asyncio.Future[float]:
        """When what is waited for is there, by the monotonic clock; see `there`."""

    @abstractmethod
    async def change(self, store: str, rows: int, count: int, value: str) -> None:
        """Write so many of the `changed_rows` in one transaction."""

    @abstractmethod
    async def write_each(self, store: str, rows: int, first: int, count: int) -> None:
        """Write so many of the `updates`, each in a transaction of its own."""

    @abstractmethod
    async def disconnect(self, store: str) -> None:
        """End its connection, if there is one."""

    @abstractmethod
    def forget(self, store: str) -> None:
        """Drop a store."""

    @abstractmethod
    def digest(self, store: str) -> str:
        """The same for stores that are equal."""

    async def join(self, store: str, url: str, until: dict[str, Any]) -> dict[str, Any]:
        """A fresh store is connected; how long it takes until everything is there."""
        began = time.monotonic()
        self.new(store)
        arrived = self.arrival(store, until)
        await self.connect(store, url)
        return {"seconds": await arrived - began}

    def expect(self, store: str, until: dict[str, Any]) -> None:
        """Note when something will be there."""
        self._expected = self.arrival(store, until)

    async def arrived(self) -> dict[str, Any]:
        """When what was expected last was there."""
        return {"at": await self._expected}

    async def drop(self, store: str) -> None:
        """Disconnect and forget a store."""
        await self.disconnect(store)
        self.forget(store)

    def serve(self, versions: dict[str, str], **more: Any) -> None:
        """Answer these tasks."""

        async def wait(store: str, until: dict[str, Any]) -> None:
            await self.arrival(store, until)

        tasks = {
            **{name: getattr(self, name) for name in ("new", "fill", "copy", "connect", "change", "write_each")},
            **{name: getattr(self, name) for name in ("arrived", "disconnect", "drop", "expect", "join")},
            "digest": lambda store: {"digest": self.digest(store)},
            "wait": wait,
            **more,
        }
        serve_tasks(versions, tasks)
