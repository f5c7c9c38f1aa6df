"""Work on a great many small objects at once."""

from __future__ import annotations

import gc

__all__ = ["collector_paused"]


class collector_paused:  # noqa: N801  (a context manager, used like a function)
    """Keep Python's cycle collector from scanning, again and again, the millions of containers of a large body.

    What is done meanwhile is bounded, and leaves no cycles behind. The pause is one of the whole process: where two
    threads overlap, it ends with the first.
    """

    __slots__ = ("_was_enabled",)

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_enabled:
            gc.enable()
