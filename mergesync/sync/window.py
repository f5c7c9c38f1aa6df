"""What changed last on a path, so that a client that comes back is told that alone (docs/protocol.md, `since`).

The changes of a path are numbered. Where a client has stopped is known from two things that it says: a number that it
was told, and the id of the last message of changes that it got since. So no message needs to carry a number, and all
clients go on to get the very same frames.

Remembered are addresses, not cells: what is sent is what is there when it is asked for. An address that changes often
is remembered once. This is the state vector of Yjs for a replica that all changes pass: one number instead of one for
each client that ever wrote.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice, takewhile
from typing import Any

from mergesync.limits import MAX_PAGE_BYTES, MAX_REMEMBERED_CHANGES
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.diff import Room, stamped
from mergesync.sync.admission import Leaf, body_of, leaf_size, leaves_of
from mergesync.types import MergeableChanges

__all__ = ["Window", "page_of"]

_MAX_DIGITS = 15


class Window:
    """The last changes of one path, since it was opened.

    Args:
        epoch: an id that no other window has, of whatever server, so that numbers of others mean nothing here.

    Example:
        >>> window = Window("e")
        >>> window.note([[{"pets": [{"fido": [{"species": ["dog", "Nn1JUF-----7JQY8"]}]}]}], [{}], 1])
        >>> window.cursor, window.since("e.0", None), window.since("e.1", None), window.since("f.0", None)
        ('e.1', [('pets', 'fido', 'species')], [], None)
    """

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._number = 0
        self._floor = 0  # what changed after this number is all remembered
        self._changed: OrderedDict[Leaf, int] = OrderedDict()  # in the order of their last changes
        self._sent: OrderedDict[str, int] = OrderedDict()  # what who got a message has got with it, by its id

    @property
    def cursor(self) -> str:
        """Where who has everything is."""
        return f"{self._epoch}.{self._number}"

    def note(self, changes: MergeableChanges) -> None:
        """These leaves were changed."""
        self._number += 1
        leaves = [leaf for leaf, _ in islice(leaves_of(changes), MAX_REMEMBERED_CHANGES + 1)]
        if len(leaves) > MAX_REMEMBERED_CHANGES:
            self._changed.clear()
            self._floor = self._number
            return
        for leaf in leaves:
            self._changed[leaf] = self._number
            self._changed.move_to_end(leaf)
        while len(self._changed) > MAX_REMEMBERED_CHANGES:
            self._floor = self._changed.popitem(last=False)[1]

    def sent(self, message_id: str | None) -> None:
        """Who gets this message, after those before it, has everything."""
        if message_id is not None:
            self._sent[message_id] = self._number
            self._sent.move_to_end(message_id)
            if len(self._sent) > MAX_REMEMBERED_CHANGES:
                self._sent.popitem(last=False)

    def since(self, cursor: str, message_id: str | None) -> list[Leaf] | None:
        """What has changed since, the last first; None if that is not known.

        Args:
            cursor: what somebody says was the cursor.
            message_id: the last message that it has got since; None for none.
        """
        number = self._number_of(cursor)
        if number is not None and message_id is not None:
            later = self._sent.get(message_id)
            number = None if later is None else max(number, later)
        if number is None or not self._floor <= number <= self._number:
            return None
        known = number
        return [leaf for leaf, _ in takewhile(lambda item: item[1] > known, reversed(self._changed.items()))]

    def _number_of(self, cursor: str) -> int | None:
        epoch, _, digits = cursor.rpartition(".")
        is_ours = epoch == self._epoch and digits.isdecimal() and len(digits) <= _MAX_DIGITS
        return int(digits) if is_ours else None


def page_of(store: MergeableStore, leaves: list[Leaf], theirs: MergeableChanges) -> MergeableChanges | None:
    """What is in these leaves now, without what is in other changes; None if it is more than a page."""
    room = Room(MAX_PAGE_BYTES)
    said = dict(leaves_of(theirs))
    news: dict[Leaf, Any] = {}
    for leaf in leaves:
        found = store.get_stamp(*leaf)
        if found is None or (leaf in said and hlc_of(said[leaf]) == found[1]):
            continue
        wire, hlc = found
        if not room.take(leaf_size(leaf, wire)):
            return None
        news[leaf] = stamped(wire, hlc)
    return body_of(news)
