"""What clients of any make are asked: stores by name, on the path of a URL."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, Final

from benchmarks.worker import serve_tasks

__all__ = ["FILLED_ROWS", "Clients", "changed_rows", "there"]

FILLED_ROWS: Final = 10_000
"""Rows of a transaction of `fill`: with five cells, under the 16 MiB of a frame."""


def changed_rows(rows: int, count: int) -> list[str]:
    """So many rows, evenly spread, the first of all among them."""
    return [f"row{number * rows // count}" for number in range(count)]


def there(until: dict[str, Any], rows: int, value: object) -> bool:
    """Whether what is waited for is there: so many `rows`, and a `value` in the first cell of a `row`."""
    return rows >= until.get("rows", 0) and ("row" not in until or value == until["value"])


class Clients(ABC):
    """Clients of one make."""

    @abstractmethod
    def new(self, store: str) -> None:
        """Make an empty store."""

    @abstractmethod
    def fill(self, store: str, rows: int) -> None:
        """Write the data."""

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
        return await self._connected(store, url, store, until, began)

    async def reconnect(self, store: str, url: str, watched: str, until: dict[str, Any]) -> dict[str, Any]:
        """A store is connected again; how long it takes until something is there, perhaps in another one."""
        return await self._connected(store, url, watched, until, time.monotonic())

    async def _connected(
        self, store: str, url: str, watched: str, until: dict[str, Any], began: float
    ) -> dict[str, Any]:
        arrived = self.arrival(watched, until)
        await self.connect(store, url)
        return {"seconds": await arrived - began}

    async def drop(self, store: str) -> None:
        """Disconnect and forget a store."""
        await self.disconnect(store)
        self.forget(store)

    def serve(self, versions: dict[str, str], **more: Any) -> None:
        """Answer these tasks."""

        async def wait(store: str, until: dict[str, Any]) -> None:
            await self.arrival(store, until)

        tasks = {
            **{name: getattr(self, name) for name in ("new", "fill", "copy", "connect", "change", "disconnect")},
            **{name: getattr(self, name) for name in ("drop", "join", "reconnect")},
            "digest": lambda store: {"digest": self.digest(store)},
            "wait": wait,
            **more,
        }
        serve_tasks(versions, tasks)
