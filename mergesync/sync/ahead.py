"""What clients hold under stamps too far in the future, so that they end equal nevertheless.

A client whose clock is ahead is given the value to keep under a stamp that beats its own, which is as far ahead. Nobody
else's later write beats that, so whenever such a leaf changes, the client is given the new value in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mergesync.limits import MAX_LEAVES_AHEAD
from mergesync.store.bodies import hlc_of
from mergesync.store.hlc import successor
from mergesync.sync.admission import Leaf, body_of, leaves_of
from mergesync.types import MergeableChanges

__all__ = ["Ahead"]


class Ahead:
    """The stamps under which clients hold leaves, where those are ahead of the path's; the latest of each client."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Leaf, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def note(self, client_id: str, changes: MergeableChanges) -> None:
        """A client holds these leaves."""
        held = self._held.setdefault(client_id, {})
        for leaf, stamp in leaves_of(changes):
            held[leaf] = max(held.pop(leaf, ""), hlc_of(stamp))
            if len(held) > MAX_LEAVES_AHEAD:
                del held[next(iter(held))]

    def forget(self, client_id: str) -> None:
        """A client is gone."""
        self._held.pop(client_id, None)

    def corrections(self, changes: MergeableChanges, client: str) -> Iterator[tuple[str, MergeableChanges]]:
        """What is to be given to whom, so that they hold what has just changed.

        Args:
            changes: the stamps that changed.
            client: the client part to sign with.
        """
        for client_id, held in list(self._held.items()):
            given: dict[Leaf, Any] = {}
            for leaf, stamp in leaves_of(changes):
                if leaf in held:
                    hlc = None if held[leaf] < hlc_of(stamp) else successor(held[leaf], client)
                    if hlc is None:
                        del held[leaf]  # the change itself is newer, or nothing is newer any more
                    else:
                        given[leaf] = [stamp[0], hlc]
            if given:
                body = body_of(given)
                self.note(client_id, body)
                yield client_id, body
