"""Saving: one save at a time, of all that is unsaved when it begins, until it succeeds."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from mergesync.exceptions import SaveError
from mergesync.limits import SAVE_ATTEMPTS_ON_CLOSE, SAVE_DEBOUNCE_CAP_SECONDS
from mergesync.persist.core import backoff_seconds, said
from mergesync.persist.loading import Loading, NoContentError
from mergesync.persist.status import PersisterStatus
from mergesync.store.bulk import collector_paused
from mergesync.store.unsaved import Unsaved
from mergesync.waiting import settle

__all__ = ["Saving"]


class Saving(Loading):
    """The methods that write to storage."""

    async def save(self) -> None:
        """Save now: the whole content, or if `incremental` what is unsaved.

        Raises:
            SaveError: it failed, or no load has succeeded yet.
        """
        self._check_not_destroyed()
        if not self.incremental:
            self._unsaved.add_everything()
        await self._save_once()

    async def flush(self) -> None:
        """Return when all that was written to the store before this call is stored durably.

        Raises:
            SaveError: it is not, after several attempts, or no load has succeeded yet.
        """
        self._check_not_destroyed()
        await self._flush()

    async def wait_saved(self) -> None:
        """Return when all that was written to the store before this call is stored durably, without hurrying.

        Unlike `flush` it does not save by itself: it waits for the auto-save, however often that has to try.

        Raises:
            SaveError: there is no auto-save, or it ends first.
        """
        self._check_not_destroyed()
        if not self.is_auto_saving:
            raise SaveError("nothing is saved without auto-save", path_id=self.path_id)
        while not self._unsaved and self._one_at_a_time.locked():
            async with self._one_at_a_time:  # a save that has begun has it all, unless it fails
                pass
        if self._unsaved:
            waiter = asyncio.get_running_loop().create_future()
            self._save_waiters.append(waiter)
            await waiter

    async def _flush(self) -> None:
        failures = 0
        while True:
            try:
                return await self._save_once()
            except SaveError:
                failures += 1
                if failures == SAVE_ATTEMPTS_ON_CLOSE or not self._loaded:
                    raise
            await asyncio.sleep(backoff_seconds(failures))

    async def start_auto_save(self) -> None:
        """Save what is unsaved, and from now on each change. A save that fails is reported and tried again.

        Raises:
            SaveError: no load has succeeded yet.
        """
        self._check_not_destroyed()
        self._check_loaded()
        self._saving_loop = asyncio.get_running_loop()
        with suppress(SaveError):  # was reported, and is tried again
            await self._save_once()
        self._wake()

    def stop_auto_save(self) -> None:
        """Save nothing more by itself; `save` and `flush` still do."""
        self._saving_loop = None
        if self._auto_saver is not None:
            self._auto_saver.cancel()
            self._auto_saver = None
        settle(self._save_waiters, SaveError("auto-save was stopped", path_id=self.path_id))
        self._save_waiters = []

    def _wake(self) -> None:
        """There may be something to save."""
        if self._saving_loop is None or not self._unsaved:
            return
        self._changed_at = self._saving_loop.time()
        if self._auto_saver is None or self._auto_saver.done():
            self._auto_saver = self._spawn(self._auto_save(), self._saving_loop)

    async def _auto_save(self) -> None:
        failures = 0
        while self._unsaved:
            await self._wait_for_quiet()
            try:
                await self._save_once()
                failures = 0
            except SaveError:
                failures += 1
                await asyncio.sleep(backoff_seconds(failures))

    async def _wait_for_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        quiet_seconds, most_seconds = self.debounce_seconds, self.debounce_max_seconds
        if quiet_seconds:  # else a save costs what has changed, and not what there is
            save_seconds = min(self._save_seconds, SAVE_DEBOUNCE_CAP_SECONDS)
            quiet_seconds, most_seconds = max(quiet_seconds, save_seconds), max(most_seconds, save_seconds)
        latest = loop.time() + most_seconds
        while (wait := min(self._changed_at + quiet_seconds, latest) - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait)

    async def _save_once(self) -> None:
        """Save all that is unsaved now; whoever asks before that save begins shares it."""
        self._check_loaded()
        if self._next_save is None:
            self._next_save = self._spawn(self._save_unsaved(), asyncio.get_running_loop())
        # A caller that is cancelled must not tear a save, which others may wait for.
        await asyncio.shield(self._next_save)

    async def _save_unsaved(self) -> None:
        async with self._one_at_a_time:
            self._next_save = None
            if not self._unsaved:
                return
            with self._doing(PersisterStatus.SAVING):
                try:
                    await self._merge_edit_before_save()
                    await self._save_or_put_back()
                except Exception as error:
                    self._save_failed = True
                    self.stats.failed_saves += 1
                    failure = SaveError(f"cannot save: {said(error)}", path_id=self.path_id)
                    failure.__cause__ = error
                    self._report(failure)
                    raise failure from error
            self._save_failed = False
            self.stats.saves += 1

    async def _merge_edit_before_save(self) -> None:
        try:
            await self._merge_edit()
        except NoContentError as error:
            self._report(error)  # it was kept aside, and `_save` will not replace it

    async def _save_or_put_back(self) -> None:
        unsaved, self._unsaved = self._unsaved, Unsaved()
        waiters, self._save_waiters = self._save_waiters, []
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._save(self._body(unsaved))
            self._save_seconds = loop.time() - began
        except BaseException:
            self._unsaved.put_back(unsaved)
            self._save_waiters += waiters
            raise
        settle(waiters)

    def _body(self, unsaved: Unsaved) -> Any:
        if self.incremental and not unsaved.everything:
            return unsaved.changes
        with collector_paused():
            content = self.store.get_mergeable_content()
        return [*content, 1] if self.incremental else content

    def _check_loaded(self) -> None:
        if not self._loaded:
            raise SaveError("nothing is saved before a load has succeeded", path_id=self.path_id)
