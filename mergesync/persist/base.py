"""The life of a persister: load, then save what changes, one save at a time, until destroyed.

It owns the rules that keep data safe, whatever the storage:

* Nothing is saved before a load has succeeded. Storage that is empty loads; storage that cannot be read does not.
* Changes are kept until a save of them has succeeded. A save that fails is reported, and tried again.
* What others store meanwhile is merged, leaf by leaf; before each save, what they have stored by then.
* `flush` returns only when all that was written to the store before it is stored.

A persister belongs to one event loop and one thread, as its store does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mergesync.exceptions import SaveError
from mergesync.persist.core import Stored, said
from mergesync.persist.saving import Saving
from mergesync.types import Content

__all__ = ["Persister", "Stored"]


class Persister(Saving):
    """Keeps a store in some storage. Subclasses say how; this class says when.

    A subclass implements `_load` and `_save`, and where it needs them `_close`, `_wait_for_edit`, `_load_edit` and
    `_keep_aside`; and `remove`, if what is stored can be removed (see `_end_by_removing`). Of `_load`, `_load_edit`,
    `_save` and `_close` only one runs at a time.

    Args:
        store: the store to keep.
        path_id: the path it belongs to, if any; for error messages.
        on_ignored_error: hears of failures that nobody waits for. None: they go to the logger `mergesync`.

    Attributes:
        incremental: whether `_save` wants the stamps that changed; otherwise it gets the whole content.
        debounce_seconds: how long after a change it is saved; unless this is 0, it is as long as the last save took if
            that was longer, so that saving takes no more than half of the time.
        debounce_max_seconds: how long saving is put off at most while changes go on; the same holds of it.
        is_told_of_edits: whether others bring what was edited, so that auto-load need not wait for it.
        stats: how often it did what.

    Example:
        class MemoryPersister(Persister):
            text = None

            async def _load(self):
                return None if self.text is None else json.loads(self.text)

            async def _save(self, body):
                self.text = json.dumps(body)
    """

    async def start_auto_persisting(self, initial_content: Content | None = None) -> None:
        """Start auto-load, then auto-save.

        Raises:
            LoadError: as `load`; neither is then started.
        """
        await self.start_auto_load(initial_content)
        await self.start_auto_save()

    def stop_auto_persisting(self) -> None:
        """Stop auto-load and auto-save."""
        self.stop_auto_load()
        self.stop_auto_save()

    # --- the end

    async def destroy(self) -> None:
        """Save what is unsaved if auto-save is on, and let go of everything. Calling it again changes nothing.

        Raises:
            SaveError: it could not be saved, after several attempts. All else was let go of.
        """
        await self._end(self._save_the_rest)

    async def _save_the_rest(self) -> None:
        if self.is_auto_saving:
            await self._flush()
            self._unlisten()
            await self._flush()  # what was written while the first one ran

    async def _end_by_removing(self, remove: Callable[[], Awaitable[None]]) -> None:
        """What `remove` of a subclass is made of: nothing is saved any more, and what is stored goes.

        Args:
            remove: removes it durably; that there is nothing is all right.

        Raises:
            SaveError: it could not be removed. All else was let go of.
        """

        async def last() -> None:
            await self._stop_saving()
            async with self._one_at_a_time:
                try:
                    await remove()
                except Exception as error:
                    message = f"what is stored could not be removed: {said(error)}"
                    raise SaveError(message, path_id=self.path_id) from error

        await self._end(last)

    async def _end(self, last: Callable[[], Awaitable[None]]) -> None:
        """Do one thing last, and let go of everything."""
        if self._destruction is None:
            self._destruction = asyncio.create_task(self._let_go_after(last))
        await asyncio.shield(self._destruction)

    async def _stop_saving(self) -> None:
        self._unlisten()
        self.stop_auto_save()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _let_go_after(self, last: Callable[[], Awaitable[None]]) -> None:
        self.stop_auto_load()
        try:
            await last()
        finally:
            await self._stop_saving()
            async with self._one_at_a_time:
                try:
                    await self._close()
                except Exception as error:
                    self._report(error)
