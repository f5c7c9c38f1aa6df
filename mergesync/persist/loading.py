"""Loading: what storage holds goes into the store, whatever its form, or nothing does."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from mergesync.exceptions import ContentError, LoadError
from mergesync.persist.core import PersisterCore, Stored, backoff_seconds, said
from mergesync.persist.status import PersisterStatus
from mergesync.persist.taking import is_mergeable_content, take
from mergesync.store import MergeableStore
from mergesync.store.building import Built
from mergesync.store.bulk import collector_paused
from mergesync.store.unsaved import difference, has_stamps, no_changes
from mergesync.types import Content, MergeableChanges

__all__ = ["Loading", "NoContentError"]


class NoContentError(LoadError):
    """What is stored could be read, but it is not content, or the store does not take it."""


class Loading(PersisterCore):
    """The methods that read storage, and the listener that notices what storage lacks."""

    async def load(self, initial_content: Content | None = None) -> None:
        """Load what is stored into the store.

        As in TinyBase, mergeable content replaces what the store holds; once loaded, loading again merges. Changes are
        merged, and plain content is set as local writes. What is written to the store while it loads is kept.

        Args:
            initial_content: default content for the store if nothing is stored.

        Raises:
            LoadError: what is stored could not be read. It is left as it is, and nothing is saved.
        """
        self._check_not_destroyed()
        if self._listener_id is None:
            self._had_content = self.store.get_mergeable_content() != [[{}, "", 0], [{}, "", 0]]
            self._listen()
        async with self._one_at_a_time:
            try:
                with self._doing(PersisterStatus.LOADING):
                    await self._load_into_store(initial_content)
            except LoadError:
                self._load_failed = True
                raise
            self._loaded, self._load_failed = True, False
            self.stats.loads += 1
        self._wake()

    async def _load_into_store(self, initial_content: Content | None) -> None:
        stored = await self._read(self._load)
        if isinstance(stored, Built):
            try:
                if self._adopt(stored):
                    await self._merge_edit()
                    return
            except ContentError as error:
                raise await self._refusal(error) from error
            stored = stored.body()
        if stored is None:
            if initial_content is not None:
                self._guard(self.store.set_default_content, initial_content)
        else:
            written_meanwhile = self._unsaved.changes
            await self._take(stored, replace=not self._loaded)
            if not self._loaded and has_stamps(written_meanwhile):
                self._guard(self.store.apply_mergeable_changes, written_meanwhile)
        if not self._loaded and self._had_content and not is_mergeable_content(stored):
            self._unsaved.add_everything()
        await self._merge_edit()

    def _adopt(self, built: Built) -> bool:
        """Let the store take a tree as it is; False if it has to merge it."""
        self._unlisten()  # all of it is stored
        try:
            return self.store.adopt(built)
        finally:
            self._listen()

    async def start_auto_load(self, initial_content: Content | None = None) -> None:
        """Load, and then merge what others store, as it comes.

        Raises:
            LoadError: as `load`; auto-load is then not started.
        """
        await self.load(initial_content)
        self._auto_loading = True
        if self._auto_loader is None and not self.is_told_of_edits:
            self._auto_loader = self._spawn(self._auto_load(), asyncio.get_running_loop())

    def stop_auto_load(self) -> None:
        """Stop merging what others store as it comes. Before each save it is merged still."""
        self._auto_loading = False
        if self._auto_loader is not None:
            self._auto_loader.cancel()
            self._auto_loader = None

    async def _auto_load(self) -> None:
        failures = 0
        while True:
            try:
                await self._wait_for_edit()
                async with self._one_at_a_time:
                    await self._merge_edit()
                self._wake()
                failures = 0
            except Exception as error:
                self._report(error)
                failures += 1
                await asyncio.sleep(backoff_seconds(failures))

    async def _merge_edit(self) -> None:
        stored = await self._read(self._load_edit)
        if stored is not None:
            await self._take(stored, replace=False)

    async def _read(self, read: Callable[[], Awaitable[Stored | None]]) -> Stored | None:
        try:
            return await read()
        except (ValueError, RecursionError) as error:
            raise await self._refusal(error) from error
        except Exception as error:
            self.stats.failed_loads += 1
            if isinstance(error, LoadError):
                error.path_id = self.path_id
                raise
            raise LoadError(f"cannot read what is stored: {said(error)}", path_id=self.path_id) from error

    async def _take(self, stored: Stored, *, replace: bool) -> MergeableChanges:
        """Put into the store what was read.

        Returns:
            What the store has changed beyond that: it is unsaved.
        """
        replace = replace and is_mergeable_content(stored)
        taken, error = self._try_to_put(stored, replace)
        if error is not None:
            if taken is None:
                raise await self._refusal(error) from error
            self._report(error)  # the store took it; a listener of the application failed
        if is_mergeable_content(stored):
            if not self._holds_just(stored, replace):
                self._unsaved.add_everything()
            return no_changes()
        beyond = difference(taken or no_changes(), stored)
        if has_stamps(beyond):
            self._note_change(beyond)
        return beyond

    def _try_to_put(self, stored: Stored, replace: bool) -> tuple[MergeableChanges | None, Exception | None]:
        """What the store has changed, if it did, and what went wrong, if anything did."""
        self._taking, self._taken = True, None
        failure = None
        try:
            with collector_paused():
                self._put(stored, replace)
        except Exception as error:
            failure = error
        finally:
            self._taking = False
        return self._taken, failure

    def _put(self, stored: Any, replace: bool) -> None:
        if replace:
            self.store.set_mergeable_content(stored)
        else:
            take(self.store, stored)

    def _holds_just(self, content: Any, replaced: bool) -> bool:
        if replaced:
            # Content that was put in whole is known by its hashes, which are believed, unless a listener added to it.
            return self.store.get_mergeable_content_hashes() == [stamp[2] for stamp in content]
        return self.store.get_mergeable_content() == list(content)

    async def _refusal(self, error: Exception) -> LoadError:
        self.stats.failed_loads += 1
        message = f"what is stored is not content: {said(error)}"
        try:
            await self._keep_aside()
        except Exception as failure:
            message += f"; no copy of it could be made: {said(failure)}"
        return NoContentError(message, path_id=self.path_id)

    # --- noticing changes

    def _listen(self) -> None:
        self._listener_id = self.store.add_did_finish_transaction_listener(self._on_transaction)

    def _unlisten(self) -> None:
        if self._listener_id is not None:
            self.store.del_listener(self._listener_id)
            self._listener_id = None

    def _on_transaction(self, store: MergeableStore) -> None:
        if self._unsaved.everything and not self._taking:
            self._wake()  # what changed in particular adds nothing
            return
        if self._taking and not store.has_written():
            self._taken = no_changes()  # all of it is what is being taken
            return
        changes = store.get_transaction_mergeable_changes()
        if self._taking:
            self._taken = changes
        elif has_stamps(changes):
            self._note_change(changes)
            self._wake()

    def _note_change(self, changes: MergeableChanges) -> None:
        if self.incremental or not self._loaded:
            self._unsaved.add(changes)
        else:
            self._unsaved.add_everything()

    @abstractmethod
    def _wake(self) -> None:
        """There may be something to save."""
