"""Where a client has stopped with a server of ours, and how it goes on from there (docs/protocol.md, `since`).

Messages on a connection are in order. So who has everything that a cursor stands for, and has merged each message of
changes since, lacks what came after the last of them, and nothing else. What the server lacks is what it has not
confirmed. Whether both are equal in the end is checked nevertheless: a cursor is a short way, and never the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from mergesync.exceptions import ContentError, RemoteProtocolError
from mergesync.limits import HASHED_AT_ONCE
from mergesync.store import MergeableStore
from mergesync.store.bodies import WIRE, check_tables, check_values
from mergesync.store.hlc import is_hlc
from mergesync.sync.admission import is_empty
from mergesync.sync.conversations import PAUSE, Answer, Question, Step
from mergesync.sync.operations import HELLO, SINCE
from mergesync.sync.payloads import SERVER
from mergesync.types import MergeableChanges

__all__ = ["Resuming", "Unconfirmed", "checked_changes", "checked_place"]

_ROUNDS: Final = 4  # both may go on to be changed meanwhile

Unconfirmed: TypeAlias = Callable[[], "MergeableChanges | None"]
"""What was written here and a server has not confirmed; None if that is not known, or too much for a message."""


def checked_changes(changes: Any) -> str:
    """Check changes from another end; returns the greatest HLC in them, and raises RemoteProtocolError."""
    if not isinstance(changes, list) or len(changes) != 3:
        raise RemoteProtocolError("not changes")
    try:
        return max(check_tables(changes[0], WIRE), check_values(changes[1], WIRE))
    except ContentError as error:
        raise RemoteProtocolError(f"changes: {error}") from error


def checked_place(body: Any) -> tuple[tuple[str, str | None] | None, tuple[MergeableChanges, str] | None]:
    """Where a client says that it has stopped, and the changes that it brings with the greatest HLC in them."""
    match body:
        case [None, changes]:
            place = None
        case [[str(cursor), str() | None as message_id], changes]:
            place = cursor, message_id
        case _:
            raise RemoteProtocolError("not a place and changes")
    return place, None if changes is None else (changes, checked_changes(changes))


class Resuming:
    """Goes on with a server where it stopped.

    Args:
        store: is changed through `merge` alone.
        merge: merges changes of the server, checked in form, of which the greatest HLC is given.
        unconfirmed: what the server may lack.
        answered: called once the server has answered the first question, and what it told is merged.

    Attributes:
        cursor: where the server said that this store is; None if nobody knows.
        writes: how often something was written here.
        latest: a stamp that nothing on the server exceeded when it answered; None where that is not known.
        is_checked: whether both were equal at some moment since it was last asked.
    """

    def __init__(
        self,
        store: MergeableStore,
        merge: Callable[[MergeableChanges, str], object],
        unconfirmed: Unconfirmed,
        answered: Callable[[], None],
    ) -> None:
        self.cursor: str | None = None
        self.writes: int = 0
        self.latest: str | None = None
        self.is_checked: bool = False
        self._store = store
        self._merge = merge
        self._unconfirmed = unconfirmed
        self._answered = answered
        self._last: str | None = None  # the last message since the cursor
        self._settled = False  # whether there was nothing between the cursor and the messages that come

    def settle(self, cursor: str | None) -> None:
        """Everything that a cursor stands for is here, and what comes from now on follows it; None: there is none."""
        self.cursor, self._last, self._settled = cursor, None, cursor is not None

    def unsettle(self) -> None:
        """Something may be missed: what comes from now on does not follow what is here."""
        self._settled = False

    def heard(self, message_id: str | None) -> None:
        """The changes of a message of the server are merged; what has no id only adds to what is told again."""
        if self._settled and message_id is not None:
            self._last = message_id

    def run(self, transaction_id: str, *, greets: bool) -> Generator[Step, Answer, bool | None]:
        """Ask what has changed, take that, and send what the server has not confirmed.

        Who greets sends that at once. Should it be too far ahead for the server's clock, the server passes it over, and
        tells the time: then it is stamped anew, counts as written meanwhile, and is sent again.

        Args:
            transaction_id: the first part of the ids of what is asked.
            greets: whether this is the first that is said on a connection.

        Returns:
            Whether both are equal, as far as that can be told while this store is written to; None if the server does
            not number its changes.

        Raises:
            RemoteProtocolError: an answer is not of the form that was asked for.
        """
        self.unsettle()
        self.is_checked = False
        while not self._store.hash_some(HASHED_AT_ONCE):
            yield PAUSE
        kind, is_first = (HELLO if greets else SINCE), True
        changes = self._unconfirmed() if greets else None
        if changes is not None and is_empty(changes):
            changes = None
        for _ in range(_ROUNDS):
            writes = self.writes
            place = None if self.cursor is None else [self.cursor, self._last]
            answer_ = yield Question(SERVER, kind, [place, changes], transaction_id, repeated=greets and is_first)
            result = answer_.message.body
            if not isinstance(result, dict) or "hashes" not in result:
                return None
            cursor, news, hashes = result.get("cursor"), result.get("changes"), result["hashes"]
            if not isinstance(cursor, str | None):
                raise RemoteProtocolError("not a cursor")
            latest = result.get("latest")
            self.latest = latest if is_hlc(latest) else None
            if news is not None:
                self._merge(news, checked_changes(news))
            is_equal = self.is_checked = bool(hashes == self._store.get_mergeable_content_hashes())
            self.settle(cursor if is_equal or news is not None else None)
            if is_first:
                self._answered()
            if is_equal or news is None:
                return is_equal
            has_told, changes = changes is not None, self._unconfirmed()
            if changes is None or (writes == self.writes and (has_told or is_empty(changes))):
                self.settle(None)
                return False
            kind, is_first = SINCE, False
        return True
