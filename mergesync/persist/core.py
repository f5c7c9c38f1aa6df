"""What the parts of a persister share: what a subclass says, its state, and its tasks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeAlias

from mergesync.exceptions import PersisterError
from mergesync.limits import (
    SAVE_DEBOUNCE_MAX_SECONDS,
    SAVE_DEBOUNCE_SECONDS,
    SAVE_RETRY_CAP_SECONDS,
    SAVE_RETRY_FIRST_SECONDS,
)
from mergesync.persist.status import OnIgnoredError, PersisterStats, PersisterStatus, log_error
from mergesync.store import MergeableStore
from mergesync.store.building import Built
from mergesync.store.unsaved import Unsaved
from mergesync.types import Content, MergeableChanges, MergeableContent

__all__ = ["PersisterCore", "Stored", "backoff_seconds", "said"]

Stored: TypeAlias = MergeableContent | MergeableChanges | Content | Built
"""What storage may hold: mergeable content, changes, or the `[tables, values]` of a plain store.

Mergeable content or changes of which a tree was made off the event loop are `Built`."""


class PersisterCore(ABC):
    """State and tasks of a persister; see `Persister` for what is public."""

    incremental: ClassVar[bool] = False
    debounce_seconds: ClassVar[float] = SAVE_DEBOUNCE_SECONDS
    debounce_max_seconds: ClassVar[float] = SAVE_DEBOUNCE_MAX_SECONDS
    is_told_of_edits: ClassVar[bool] = False

    def __init__(
        self, store: MergeableStore, *, path_id: str | None = None, on_ignored_error: OnIgnoredError | None = None
    ) -> None:
        self.store = store
        self.path_id = path_id
        self.on_ignored_error: OnIgnoredError = on_ignored_error or log_error
        self.stats: PersisterStats = PersisterStats()
        self._unsaved = Unsaved()
        self._one_at_a_time = asyncio.Lock()
        self._activity: PersisterStatus | None = None
        self._loaded = False
        self._load_failed = False
        self._save_failed = False
        self._listener_id: str | None = None
        self._had_content = False  # before this persister first looked at the store
        self._taking = False
        self._taken: MergeableChanges | None = None
        self._saving_loop: asyncio.AbstractEventLoop | None = None
        self._changed_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._auto_loading = False
        self._auto_loader: asyncio.Task[None] | None = None
        self._auto_saver: asyncio.Task[None] | None = None
        self._next_save: asyncio.Task[None] | None = None
        self._save_waiters: list[asyncio.Future[None]] = []
        self._destruction: asyncio.Task[None] | None = None

    # --- what a subclass says

    @abstractmethod
    async def _load(self) -> Stored | None:
        """What is stored, or None if there is nothing yet.

        Raises:
            ValueError: something is stored, but it is not content. Anything else raised is taken for passing trouble.
        """

    @abstractmethod
    async def _save(self, body: Any) -> None:
        """Store durably: when this returns, the data survives the loss of power.

        Args:
            body: mergeable content as of now, or if `incremental` the changes since the last save that succeeded.
        """

    async def _close(self) -> None:  # noqa: B027 - optional
        """Let go of what is held; called once, after the last save."""

    async def _wait_for_edit(self) -> None:
        """Return when others may have changed what is stored. The default waits for ever."""
        await asyncio.Event().wait()

    async def _load_edit(self) -> Stored | None:
        """What others have stored since the last load or save, or None. Raises as `_load` does."""
        return None

    async def _keep_aside(self) -> None:  # noqa: B027 - optional
        """What is stored is not content: see to it that it survives, and that `_save` never replaces it."""

    # --- state

    @property
    def status(self) -> PersisterStatus:
        """What it is doing now."""
        if self._destruction is not None and self._destruction.done():
            return PersisterStatus.DESTROYED
        if self._activity is not None:
            return self._activity
        if not self._loaded:
            return PersisterStatus.LOAD_FAILED if self._load_failed else PersisterStatus.NEW
        if self._unsaved:
            return PersisterStatus.SAVE_FAILED if self._save_failed else PersisterStatus.UNSAVED
        return PersisterStatus.IDLE

    @property
    def is_auto_loading(self) -> bool:
        """Whether what others store is merged as it comes."""
        return self._auto_loading

    @property
    def is_auto_saving(self) -> bool:
        """Whether each change is saved by itself."""
        return self._saving_loop is not None

    # --- helpers

    def _spawn(self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        task = loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget_task)
        return task

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it, and it was reported; nobody may have waited to the end

    @contextmanager
    def _doing(self, activity: PersisterStatus) -> Iterator[None]:
        self._activity = activity
        try:
            yield
        finally:
            self._activity = None

    def _guard(self, change: Callable[[Any], object], content: Any) -> None:
        """Change the store; a listener of the application that fails is reported, and does not fail the load."""
        try:
            change(content)
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        try:
            self.on_ignored_error(error)
        except Exception as failure:
            log_error(failure)

    def _check_not_destroyed(self) -> None:
        if self._destruction is not None:
            raise PersisterError("the persister is destroyed", path_id=self.path_id)


def backoff_seconds(failures: int) -> float:
    """How long to wait before another attempt."""
    return min(SAVE_RETRY_FIRST_SECONDS * 2.0 ** (failures - 1), SAVE_RETRY_CAP_SECONDS)


def said(error: Exception) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {error}"[:300]
