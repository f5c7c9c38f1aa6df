"""Order of ids: what comes to life goes last, as in the peer, and yet leaves no trace where a transaction fails.

Python's dicts keep the order in which keys came. While a transaction runs they are left as they are, and what went last
is kept here; once it stands, the dicts follow. So there is no order to bring back if it is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

__all__ = ["Order"]

Children: TypeAlias = dict[str, Any]


class Order:
    """What went last in the running transaction.

    Attributes:
        moved: by identity of the dict, the ids that follow the others; empty if nothing is to be settled.
    """

    __slots__ = ("_log", "moved")

    def __init__(self) -> None:
        self._log: list[tuple[Children, str]] = []
        self.moved: dict[int, dict[str, None]] = {}

    def goes_last(self, children: Children, child_id: str) -> None:
        """A child of a dict has come to life, or is new."""
        if (self.moved and id(children) in self.moved) or next(reversed(children)) != child_id:
            self._log.append((children, child_id))
            self._move(children, child_id)

    def _move(self, children: Children, child_id: str) -> None:
        moved = self.moved.setdefault(id(children), {})
        moved.pop(child_id, None)
        moved[child_id] = None

    def ids(self, children: Children) -> Iterable[str]:
        """The ids of a dict in their present order."""
        moved = self.moved.get(id(children)) if self.moved else None
        if moved is None:
            return children
        return [*(id_ for id_ in children if id_ not in moved), *moved]

    def mark(self) -> int:
        """What to come back to."""
        return len(self._log)

    def back_to(self, mark: int) -> None:
        """Forget what went last since then."""
        if len(self._log) > mark:
            del self._log[mark:]
            self.moved.clear()
            for children, child_id in self._log:
                self._move(children, child_id)

    def settle(self) -> None:
        """The transaction stands: let the dicts follow. What went last is still there; only a rollback removes."""
        for children, child_id in self._log:
            children[child_id] = children.pop(child_id)
        self._log.clear()
        self.moved.clear()
