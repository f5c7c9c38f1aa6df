"""Answering what peers ask of a store, however large it is (protocol section 8).

An answer that would not fit a frame holds a part. What is left out makes the hashes go on to differ, so the peer is
told them again as soon as it asks nothing more, and then asks for the rest; TinyBase's clients do so each time.

Tables that a peer lacks are streamed: it is given page after page, in the order of row ids, whatever it says it has. So
it need not list the rows that it has got already, and one that is empty can get any number of them. Otherwise it is
answered what it lacks of what it lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mergesync.deadlines import earliest
from mergesync.limits import (
    KEPT_ANSWER_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_FRUITLESS_REMINDERS,
    MAX_LISTED_ROWS,
    MAX_PAGE_BYTES,
    MAX_REMINDER_PAUSE_SECONDS,
    MAX_REMINDERS,
    MAX_WAITING_CONVERSATIONS,
    MIN_ANSWER_BYTES,
    PROMPT_ANSWER_SECONDS,
    REMINDER_PAUSE_SECONDS,
)
from mergesync.store import MergeableStore
from mergesync.store.diff import Room, stamped
from mergesync.store.ranges import Ranges
from mergesync.sync.messages import EncodedBody, Message, MessageType

__all__ = ["Answering"]

_STREAMS = 3
"""How often a peer is given a table that it cannot list: pages get lost where answers are late."""


_WHOLE = {
    MessageType.GET_TABLE_DIFF: MergeableStore.get_mergeable_table_diff,
    MessageType.GET_ROW_DIFF: MergeableStore.get_mergeable_row_diff,
    MessageType.GET_CELL_DIFF: MergeableStore.get_mergeable_cell_diff,
    MessageType.GET_VALUE_DIFF: MergeableStore.get_mergeable_value_diff,
}


class _Stream:
    """Whole tables, page by page."""

    def __init__(self, store: MergeableStore, ranges: Ranges, table_ids: list[str]) -> None:
        self._store = store
        self._ranges = ranges
        self._table_ids = table_ids
        self._place = (0, "")  # which of the tables, and from which row on

    @property
    def at_end(self) -> bool:
        """Whether all pages were given."""
        return self._place[0] == len(self._table_ids)

    def page(self, room: Room) -> list[Any]:
        """The next page, a stamp of tables."""
        tables: dict[str, Any] = {}
        while not self.at_end and not room.is_full:
            at, low = self._place
            table_id = self._table_ids[at]
            table, left = self._ranges.rows(table_id, self._ranges.of(table_id).ids(low, None), room)
            if table[0] or left is None:
                tables[table_id] = table
            self._place = (at + 1, "") if left is None else (at, next(left))
        return stamped(tables, self._store.get_stamped_table_hlc(None))


@dataclass(slots=True)
class _Reader:
    """A peer that gets what it asked for in parts."""

    room_bytes: int = field(default_factory=lambda: MAX_ANSWER_BYTES)
    stream: _Stream | None = None
    streamed: Counter[str] = field(default_factory=Counter)  # how often, by table
    asked: dict[MessageType, Any] = field(default_factory=dict)  # what it said it has, when it last began to ask
    fruitless: int = 0  # how often in a row it said the same as before
    reminders: int = 0
    reminded: bool = False  # and has asked nothing since
    lacks_more: bool = False  # something was left out in this round
    asked_at: float = 0.0
    answered_at: float | None = None  # when the last answer was on its way
    took_seconds: float = 0.0  # to make the last answer
    pause_seconds: float = REMINDER_PAUSE_SECONDS
    remind_at: float | None = None

    def hear(self, kind: MessageType, body: Any, now: float) -> bool:
        """It asks something: note whether it has got what was answered, and how long it takes to ask on.

        Returns:
            False if it has asked this already, and was not reminded since: it pulls twice at once.
        """
        begins = kind in (MessageType.GET_TABLE_DIFF, MessageType.GET_VALUE_DIFF)
        if self.answered_at is not None and not (self.reminded and begins):
            waited_seconds = 2 * (now - self.answered_at)
            self.pause_seconds = min(max(self.pause_seconds, waited_seconds), MAX_REMINDER_PAUSE_SECONDS)
        reminded, self.reminded = self.reminded, False
        if begins and self.asked.get(kind) == body:
            if not reminded:
                return False
            self.fruitless += self.stream is None  # a page may hold what it has already, and the last one comes
            self.room_bytes = max(self.room_bytes // 4, MIN_ANSWER_BYTES)
        elif begins:
            self.asked[kind] = body
            self.fruitless = 0
            if self.took_seconds < PROMPT_ANSWER_SECONDS:
                self.room_bytes = min(self.room_bytes * 2, MAX_ANSWER_BYTES)
            elif self.took_seconds > 2 * PROMPT_ANSWER_SECONDS:
                self.room_bytes = max(self.room_bytes // 2, MIN_ANSWER_BYTES)
        if reminded:
            self.lacks_more = False
        return True

    def answered(self, now: float) -> None:
        """It is being answered. As that takes time, the pause begins when it is next looked at, which is at once."""
        self.answered_at = None
        self.asked_at = self.remind_at = now

    def is_due(self, now: float) -> bool:
        """Whether it was quiet for long enough."""
        if self.remind_at is None or self.remind_at > now:
            return False
        if self.answered_at is None:
            self.answered_at = now
            self.took_seconds = now - self.asked_at
            self.remind_at = now + self.pause_seconds
            return False
        self.remind_at = None
        return True

    @property
    def is_hopeless(self) -> bool:
        """Whether it has been reminded in vain: it may refuse what it is given, and two stores may never agree."""
        return self.fruitless >= MAX_FRUITLESS_REMINDERS or self.reminders >= MAX_REMINDERS


class Answering:
    """Answers of one store, and who is to be told the hashes again because not all was answered.

    Args:
        store: only read.
        ranges: of the store.
        learns: whether to let peers list the rows of tables that are not here, so that they can be asked for in parts.
        bounded: whether answers must fit frames.
        encodes: whether answers are sent as text; then the one that gives newcomers all tables is kept for a while.
    """

    def __init__(
        self,
        store: MergeableStore,
        ranges: Ranges,
        *,
        learns: bool,
        bounded: bool = True,
        encodes: bool = False,
    ) -> None:
        self._store = store
        self._ranges = ranges
        self._bounded = bounded
        self._learns = learns
        self._encodes = encodes
        self._kept: EncodedBody | None = None  # all tables
        self._kept_until = 0.0
        self._readers: dict[str, _Reader] = {}

    def answer(self, peer: str, message: Message, now: float) -> Message:
        """The response to a request, of type GET_CONTENT_HASHES or GET_TABLE_DIFF to GET_VALUE_DIFF."""
        return Message(message.request_id, MessageType.RESPONSE, self._body(peer, message, now))

    def _body(self, peer: str, message: Message, now: float) -> Any:
        kind = message.type
        if kind is MessageType.GET_CONTENT_HASHES:
            return self._store.get_mergeable_content_hashes()
        if not self._bounded:
            return _WHOLE[kind](self._store, message.body)
        reader = self._readers.get(peer)
        if self._encodes and kind is MessageType.GET_TABLE_DIFF and not message.body and reader is None:
            everything = self._everything(now)
            if everything is not None:
                return everything
        if reader is not None and not reader.hear(kind, message.body, now):
            reader.answered(now)
            return [[{}], {}] if kind is MessageType.GET_TABLE_DIFF else [{}]
        room = Room(MAX_ANSWER_BYTES if reader is None else reader.room_bytes)
        body = self._diff(peer, kind, message.body, room)
        if room.is_full:
            reader = self._reader(peer)
            reader.asked.setdefault(kind, message.body)
            reader.lacks_more = True
        reader = self._readers.get(peer)
        if reader is not None:
            reader.answered(now)
        return body

    def _everything(self, now: float) -> EncodedBody | None:
        """All tables, for who has none; None if they do not fit an answer."""
        if self._kept is None and (text := self._store.get_tables_text(MAX_ANSWER_BYTES)) is not None:
            self._kept = EncodedBody(f"[{text.decode()},{{}}]")
            self._kept_until = now + KEPT_ANSWER_SECONDS
        return self._kept

    def changed(self) -> None:
        """The store has changed."""
        self._kept = None

    def _diff(self, peer: str, kind: MessageType, theirs: Any, room: Room) -> Any:
        if kind is MessageType.GET_TABLE_DIFF:
            return self._tables(peer, theirs, room)
        if kind is MessageType.GET_ROW_DIFF:
            room_for_asker = Room(MAX_ANSWER_BYTES)
            diff = self._store.bounded_row_diff(theirs, room, room_for_asker)
            room.is_full = room.is_full or room_for_asker.is_full
            return diff
        if kind is MessageType.GET_CELL_DIFF:
            return self._store.bounded_cell_diff(theirs, room)
        return self._store.bounded_value_diff(theirs, room)

    def _reader(self, peer: str, new: _Reader | None = None) -> _Reader:
        """What is known of a peer, which from now on is remembered."""
        if peer not in self._readers:
            if len(self._readers) >= MAX_WAITING_CONVERSATIONS:
                del self._readers[next(iter(self._readers))]
            self._readers[peer] = _Reader() if new is None else new
        return self._readers[peer]

    def _tables(self, peer: str, theirs: Mapping[str, int], room: Room) -> list[Any]:
        reader = self._readers.get(peer) or _Reader()
        if reader.stream is None:
            ours = self._store.get_mergeable_table_hashes()
            differing = {table_id: hash_ for table_id, hash_ in ours.items() if theirs.get(table_id, hash_) != hash_}
            streamed = [table_id for table_id in differing if self._is_too_long(table_id, reader)]
            reader.streamed.update(streamed)
            lacking = [table_id for table_id in ours if table_id not in theirs]
            if not self._fit(lacking, reader.room_bytes):
                streamed = lacking + streamed
            if not streamed:
                return self._list(peer, theirs, differing)
            reader = self._reader(peer, reader)
            reader.asked[MessageType.GET_TABLE_DIFF] = theirs
            reader.stream = _Stream(self._store, self._ranges, streamed)
            reader.room_bytes = min(reader.room_bytes, MAX_PAGE_BYTES)
            room = Room(reader.room_bytes)
        page = reader.stream.page(room)
        reader.lacks_more = True  # the last page is followed by a reminder, too, for what else differs
        if reader.stream.at_end:
            reader.stream = None
        return [page, {}]

    def _list(self, peer: str, theirs: Mapping[str, int], differing: dict[str, int]) -> list[Any]:
        """Whole tables that a peer lacks, and those of which it is to list its rows, with hashes it does not have."""
        diff = self._store.get_mergeable_table_diff(theirs)
        diff[1] = {table_id: hash_ for table_id, hash_ in differing.items() if not self._is_too_long(table_id, None)}
        if any(map(self._is_long, diff[1])):  # the peer may give up before it is answered
            reader = self._reader(peer)
            reader.asked[MessageType.GET_TABLE_DIFF] = theirs
            reader.lacks_more = True
        if self._learns:
            ours = self._store.get_mergeable_table_hashes()
            diff[1] |= {table_id: int(hash_) ^ 1 for table_id, hash_ in theirs.items() if table_id not in ours}
        return diff

    def _is_long(self, table_id: str) -> bool:
        return len(self._store.get_stamped_rows(table_id)) > MAX_LISTED_ROWS // 10

    def _is_too_long(self, table_id: str, reader: _Reader | None) -> bool:
        """Whether a table is to be streamed to a peer that has another one, or without one, to any."""
        listed_in_vain = reader is not None and reader.fruitless and self._is_long(table_id)
        if not listed_in_vain and len(self._store.get_stamped_rows(table_id)) <= MAX_LISTED_ROWS:
            return False
        return reader is None or reader.streamed[table_id] < _STREAMS

    def _fit(self, table_ids: Iterable[str], size_bytes: int) -> bool:
        """Whether tables take about so many bytes of JSON at most."""
        for table_id in table_ids:
            size_bytes -= self._store.bounded_table_size(table_id, size_bytes)
            if size_bytes < 0:
                return False
        return True

    def is_small(self, size_bytes: int) -> bool:
        """Whether all tables take about so many bytes of JSON at most."""
        return self._fit(self._store.get_mergeable_table_hashes(), size_bytes)

    def shrink(self, peer: str) -> None:
        """A peer may give up waiting for large answers: begin with small ones."""
        reader = self._reader(peer)
        reader.room_bytes = MIN_ANSWER_BYTES

    # --- reminders

    def will_remind(self, peer: str) -> bool:
        """Whether a peer is going to be told the hashes anyway."""
        reader = self._readers.get(peer)
        return reader is not None and reader.lacks_more and reader.remind_at is not None and not reader.is_hopeless

    @property
    def deadline(self) -> float | None:
        """When a reminder is due, in seconds, or None."""
        kept_until = None if self._kept is None else self._kept_until
        return earliest(kept_until, *[reader.remind_at for reader in self._readers.values()])

    def due(self, now: float) -> tuple[list[str], list[str]]:
        """The peers to which the hashes are to be told now, and those that have got all that they asked for."""
        if self._kept_until <= now:
            self._kept = None
        reminded, served = [], []
        for peer, reader in list(self._readers.items()):
            if not reader.is_due(now):
                continue
            if not reader.lacks_more or reader.is_hopeless:
                del self._readers[peer]
                served.append(peer)
            else:
                reader.reminded = True
                reader.reminders += 1
                reminded.append(peer)
        return reminded, served

    def forget_peer(self, peer: str) -> None:
        """A peer is gone."""
        self._readers.pop(peer, None)

    def clear(self) -> None:
        """All are gone."""
        self._readers.clear()
        self._kept = None
