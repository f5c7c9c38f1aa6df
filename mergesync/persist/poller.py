"""Noticing that others have changed files: one look at all of them at a time, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from mergesync.limits import FILE_POLL_SECONDS
from mergesync.persist.files import FileSystem, Signature

__all__ = ["FilePoller"]


@dataclass(eq=False, slots=True)
class _Waiter:
    path: str
    get_known: Callable[[], Signature | None]
    changed: asyncio.Future[None]
    last_look: Signature | OSError | None = field(default_factory=OSError)


class FilePoller:
    """Looks at the files that somebody waits for; while nobody does, it does nothing.

    Args:
        files: the operations on files.
    """

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None

    async def wait_for_change(self, path: str, get_known: Callable[[], Signature | None]) -> None:
        """Return when a file is in another state than the known one, twice in a row: no longer being written.

        Args:
            path: the file.
            get_known: tells the state that needs no attention, whenever asked.

        Raises:
            OSError: one cannot look at it.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(path, get_known, loop.create_future())
        self._waiters.add(waiter)
        if self._task is None:
            self._task = loop.create_task(self._poll())
        try:
            await waiter.changed
        finally:
            self._waiters.discard(waiter)
            await self._rest()

    async def _rest(self) -> None:
        if not self._waiters and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(FILE_POLL_SECONDS)
            waiters = list(self._waiters)
            looks = await asyncio.to_thread(self._look, [waiter.path for waiter in waiters])
            for waiter, look in zip(waiters, looks, strict=True):
                _compare(waiter, look)

    def _look(self, paths: list[str]) -> list[Signature | OSError | None]:
        return [self._look_at(path) for path in paths]

    def _look_at(self, path: str) -> Signature | OSError | None:
        try:
            return self._files.signature(path)
        except OSError as error:
            return error


def _compare(waiter: _Waiter, look: Signature | OSError | None) -> None:
    if waiter.changed.done():
        return
    if isinstance(look, OSError):
        waiter.changed.set_exception(look)
    elif look != waiter.get_known() and look == waiter.last_look:
        waiter.changed.set_result(None)
    else:
        waiter.last_look = look
