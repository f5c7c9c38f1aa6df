"""Work on a great many small objects at once."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Final

__all__ = ["collector_paused", "collector_paused_for"]

_LONG_TEXT: Final = 4096  # less has too few containers for the collector to matter


def collector_paused() -> AbstractContextManager[None]:
    """Keep Python's cycle collector from scanning, again and again, the millions of containers of a large body.

    What is done meanwhile is bounded, and leaves no cycles behind. The pause is one of the whole process: where two
    threads overlap, it ends with the first.

    A pause is best as long as the containers last: where it ends before, they are scanned once more. For the same
    reason nothing here makes an object that the collector would count, and so begin before the pause does.
    """
    return _PAUSE if gc.isenabled() else _NO_PAUSE


def collector_paused_for(text: str) -> AbstractContextManager[None]:
    """The same, if what is in a text is worth it."""
    return collector_paused() if len(text) >= _LONG_TEXT else _NO_PAUSE


class _Pause(AbstractContextManager[None]):
    __slots__ = ()
    __enter__ = staticmethod(gc.disable)

    @staticmethod
    def __exit__(*_: object) -> None:
        gc.enable()


_PAUSE: Final = _Pause()
_NO_PAUSE: Final = nullcontext()
