"""What the server needs of what an application makes for a path to be stored by."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, cast

from mergesync.store import MergeableStore

__all__ = ["CreatePersisterForPath", "PathPersister", "Then", "awaited", "made_persister"]


class PathPersister(Protocol):
    """What the server needs of a persister; `mergesync.persist.Persister` has it all."""

    store: MergeableStore

    async def start_auto_load(self) -> object:
        """Read what is stored, and from now on what others store; raises LoadError."""

    async def start_auto_save(self) -> object:
        """Store what changes from now on."""

    async def flush(self) -> None:
        """Return when all that was written is stored; raises SaveError."""

    async def wait_saved(self) -> None:
        """The same without hurrying: wait until the auto-save has done it."""

    async def destroy(self) -> None:
        """Store what is unsaved, if auto-save was started, and let go of everything."""


Then: TypeAlias = Callable[[MergeableStore], object]
"""Called with the store once it is loaded, before any client sees it; may be async."""

CreatePersisterForPath: TypeAlias = Callable[[str], Any]
"""`(path_id) -> persister, (persister, then), None, or an awaitable of any of these`."""


async def made_persister(create: CreatePersisterForPath, path_id: str) -> tuple[PathPersister | None, Then | None]:
    """What the application makes for a path: its persister, and what to call once it is loaded."""
    made = await awaited(create(path_id))
    return cast(
        "tuple[PathPersister | None, Then | None]", tuple(made) if isinstance(made, tuple | list) else (made, None)
    )


async def awaited(result: Any) -> Any:
    """What may have to be awaited."""
    return await result if inspect.isawaitable(result) else result
