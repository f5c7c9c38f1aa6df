"""Getting from a peer what it has and we lack (protocol sections 8 and 11).

`pull` is a generator that reads top to bottom: it yields what to ask and is sent the answers. It knows nothing of time,
ids or sockets; whoever drives it does.
"""

from __future__ import annotations

from collections.abc import Generator, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_ANSWER_BYTES, MAX_LISTED_ROWS, PULLED_ROWS
from mergesync.store import MergeableStore
from mergesync.store.bodies import WIRE, check_values, hlc_of
from mergesync.store.diff import stamped
from mergesync.sync.messages import Message, MessageType, Shape, encode_message
from mergesync.types import MergeableChanges

__all__ = ["Ask", "Heard", "Pull", "Pulled", "everything", "hashes_of", "pull"]

_NONE: Set[str] = frozenset()

_UNLIKE_ANY = -1
"""A hash that no table and no row has: asked with it, a store tells all of them."""

Ask: TypeAlias = tuple[MessageType, Any]
"""What to ask a peer: the type and body of a request."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull has brought.

    Attributes:
        changes: checked in form, not yet in time.
        newest: the greatest HLC in them.
        is_part: whether there was more than is asked for at once; pull again when this is merged.
    """

    changes: MergeableChanges
    newest: str
    is_part: bool


Pull: TypeAlias = Generator[Ask, Message, Pulled]
"""A pull under way: yields what to ask, is sent each answer, and returns the changes to merge."""


def pull(store: MergeableStore, their_hashes: list[int], heard: Heard | None = None) -> Pull:
    """Ask a peer for all that it has and the store lacks.

    Args:
        store: only read.
        their_hashes: the peer's `[tables hash, values hash]`.
        heard: what the peer's own questions have told; with it fewer need to be asked. The peer may have changed since,
            so compare hashes in the end. What is asked for is taken out of it.

    Raises:
        RemoteProtocolError: an answer is not of the form that was asked for.
        LimitExceededError: there are more rows than can be listed in a question.
    """
    answers = _Answers()
    values: list[Any] = [{}]
    our_hashes = store.get_mergeable_content_hashes()
    if their_hashes[0] != our_hashes[0]:
        if heard is not None and heard.tells_tables():
            yield from _pull_told_tables(store, heard, answers)
        else:
            yield from _pull_tables(store, answers)
    if their_hashes[1] != our_hashes[1] and (heard is None or heard.values is not False):
        values = answers.take_values((yield MessageType.GET_VALUE_DIFF, store.get_mergeable_value_hashes()))
        if heard is not None:
            heard.values = False
    return Pulled([answers.tables, values, 1], answers.newest, answers.is_part)


def _pull_tables(store: MergeableStore, answers: _Answers) -> Generator[Ask, Message, None]:
    """As the peer does it: whole tables, then whole rows of the others, then cells of the others."""
    answer_ = yield MessageType.GET_TABLE_DIFF, store.get_mergeable_table_hashes()
    tables = answers.take_diff(answer_, Shape.TABLE_DIFF)
    if tables:
        answer_ = yield MessageType.GET_ROW_DIFF, _row_hashes(store, tables)
        rows = answers.take_diff(answer_, Shape.ROW_DIFF)
        if rows:
            asked, rows = _parted(rows, MAX_LISTED_ROWS // 10)
            answers.is_part = bool(rows)
            answers.take_tables((yield MessageType.GET_CELL_DIFF, _cell_hashes(store, asked)))


def _row_hashes(store: MergeableStore, tables: dict[str, Any]) -> dict[str, Any]:
    """What we have of tables that differ; nothing, where we know a table without rows, which the peer leaves out."""
    count = sum(len(store.get_stamped_rows(table_id)) for table_id in tables)
    if count > MAX_LISTED_ROWS:
        raise LimitExceededError(f"{count} rows cannot be listed for a peer that has others", limit="requests")
    return {table_id: {} for table_id in tables} | store.get_mergeable_row_hashes(tables)


def _cell_hashes(store: MergeableStore, rows: dict[str, Any]) -> dict[str, Any]:
    """What we have of rows that differ; nothing, where we know a row without cells."""
    known = store.get_mergeable_cell_hashes(rows)
    return {t: {row_id: {} for row_id in row_ids} | known.get(t, {}) for t, row_ids in rows.items()}


def _pull_told_tables(store: MergeableStore, heard: Heard, answers: _Answers) -> Generator[Ask, Message, None]:
    """The same without the questions of which the answers are known; a part of the rows, if there are many."""
    rows = heard.take_rows()
    unlisted = [table_id for table_id in heard.tables or () if table_id not in heard.rows]
    if unlisted:
        heard.tables = []
        ask = _row_hashes(store, dict.fromkeys(unlisted, _UNLIKE_ANY))
        rows |= answers.take_diff((yield MessageType.GET_ROW_DIFF, ask), Shape.ROW_DIFF)
    if rows:
        message = yield MessageType.GET_CELL_DIFF, _cell_hashes(store, rows)
        answers.take_tables(message)
        answers.is_part = heard.has_rows
        if heard.has_rows:
            heard.measure(rows, message)


def _parted(rows: dict[str, Any], count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Some rows of tables, and the others."""
    some: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for table_id, row_ids in rows.items():
        ids = list(row_ids)
        for part, into in ((ids[:count], some), (ids[count:], others)):
            if part:
                into[table_id] = dict.fromkeys(part, _UNLIKE_ANY)
        count -= min(count, len(ids))
    return some, others


class _Answers:
    """The answers to a pull, joined: the greater HLC of each container, and of each leaf the later answer.

    Attributes:
        tables: a stamp of tables.
        newest: the greatest HLC.
        is_part: whether not everything was asked for.
    """

    def __init__(self) -> None:
        self.tables: list[Any] = [{}]
        self.newest = ""
        self.is_part = False

    def take_diff(self, message: Message, shape: Shape) -> dict[str, Any]:
        """Take whole tables or rows; returns the hashes of what differs."""
        if message.shape is not shape and not (message.shape is Shape.TABLE_DIFF and not message.body[1]):
            raise _unasked(message)
        self._join(message.body[0], message.newest)
        return dict(message.body[1])

    def take_tables(self, message: Message) -> None:
        """Take cells."""
        if message.shape is not Shape.TABLES:
            raise _unasked(message)
        self._join(message.body, message.newest)

    def take_values(self, message: Message) -> list[Any]:
        """Take values."""
        if message.shape is Shape.TABLES:  # values that are raw objects can look like tables
            self.newest = max(self.newest, check_values(message.body, WIRE))
        elif message.shape is Shape.VALUES:
            self.newest = max(self.newest, message.newest)
        else:
            raise _unasked(message)
        return list(message.body)

    def _join(self, stamp: list[Any], newest: str) -> None:
        self.newest = max(self.newest, newest)
        tables = self.tables[0]
        for table_id, table in stamp[0].items():
            tables[table_id] = _joined_table(tables[table_id], table) if table_id in tables else table
        self.tables = stamped(tables, max(hlc_of(self.tables), hlc_of(stamp)))


def _joined_table(one: list[Any], other: list[Any]) -> list[Any]:
    rows = dict(one[0])
    for row_id, row in other[0].items():
        if row_id in rows:
            known = rows[row_id]
            row = stamped({**known[0], **row[0]}, max(hlc_of(known), hlc_of(row)))
        rows[row_id] = row
    return stamped(rows, max(hlc_of(one), hlc_of(other)))


def hashes_of(message: Message) -> list[int]:
    """The hashes in an answer that must be two hashes; raises RemoteProtocolError."""
    if message.shape is not Shape.HASHES:
        raise _unasked(message)
    return list(message.body)


def _unasked(message: Message) -> RemoteProtocolError:
    return RemoteProtocolError("an answer of another form than was asked for", excerpt=repr(message.body)[:80])


def everything(store: MergeableStore) -> MergeableChanges:
    """All that a store has, as changes."""
    return [store.get_mergeable_table_diff({})[0], store.get_mergeable_value_diff({}), 1]


class Heard:
    """What a peer's questions tell of the peer: they carry its hashes.

    Attributes:
        tables: its tables that are not here; None if it has not asked for tables.
        differing: its tables that are otherwise here.
        rows: of the tables of which it has listed its rows, those rows that are not here or otherwise; only these ids
            are kept, not the hashes.
        values: whether a value of its is not here or otherwise; None if it has not asked for values.
    """

    __slots__ = ("_rows_at_once", "differing", "rows", "tables", "values")

    def __init__(self) -> None:
        self.tables: list[str] | None = None
        self.differing: Set[str] = _NONE
        self.rows: dict[str, list[str]] = {}
        self.values: bool | None = None
        self._rows_at_once = PULLED_ROWS

    def note(self, store: MergeableStore, kind: MessageType, body: Any) -> None:
        """Take note of a question, compared with the store as it is when it is answered."""
        if kind is MessageType.GET_TABLE_DIFF:
            ours = store.get_mergeable_table_hashes()
            self.tables = [table_id for table_id in body if table_id not in ours]
            self.differing = {table_id for table_id, hash_ in body.items() if ours.get(table_id, hash_) != hash_}
        elif kind is MessageType.GET_ROW_DIFF:
            rows = store.get_mergeable_row_hashes(dict.fromkeys(body, _UNLIKE_ANY))
            for table_id, hashes in body.items():
                known = rows.get(table_id, {})
                self.rows[table_id] = [row_id for row_id, hash_ in hashes.items() if known.get(row_id) != hash_]
        elif kind is MessageType.GET_VALUE_DIFF:
            values = store.get_mergeable_value_hashes()
            self.values = any(values.get(value_id) != hash_ for value_id, hash_ in body.items())

    @property
    def has_rows(self) -> bool:
        """Whether there are rows that were not taken out."""
        return any(self.rows.values())

    def take_rows(self) -> dict[str, Any]:
        """Take out as many rows as are to be asked for at once."""
        taken, left = _parted(self.rows, self._rows_at_once)
        self.rows = {table_id: list(left.get(table_id, ())) for table_id in self.rows}
        return taken

    def measure(self, rows: dict[str, Any], message: Message) -> None:
        """Ask for as many rows as fill a quarter of an answer, judging by the answer for these rows."""
        count = sum(map(len, rows.values()))
        size = len(encode_message(message))
        self._rows_at_once = max(1, min(4 * self._rows_at_once, count * MAX_ANSWER_BYTES // 4 // size))

    def tells_tables(self) -> bool:
        """Whether it is known of all tables which of them, or of their rows, are to be asked for."""
        return self.tables is not None and self.differing <= self.rows.keys()

    def shortens(self) -> bool:
        """Whether a pull can do with fewer questions."""
        return self.tells_tables() or self.values is False
