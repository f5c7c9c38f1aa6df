"""When the next of several things is due."""

from __future__ import annotations

__all__ = ["earliest"]


def earliest(*deadlines: float | None) -> float | None:
    """The first of some deadlines, of which those that are None do not count; None if there is none.

    Example:
        >>> earliest(3.0, None, 2.0), earliest(None)
        (2.0, None)
    """
    first: float | None = None
    for deadline in deadlines:
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first
