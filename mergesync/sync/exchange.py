"""Getting from a peer what it has and we lack, and answering a peer that does so (protocol sections 8 and 11).

`pull` is a generator that reads top to bottom: it yields what to ask and is sent the answers. It knows nothing of time,
ids or sockets; whoever drives it does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias

from mergesync.exceptions import RemoteProtocolError
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.diff import stamped
from mergesync.sync.messages import Message, MessageType
from mergesync.types import MergeableChanges

__all__ = ["Ask", "Pull", "answer", "pull"]

Ask: TypeAlias = tuple[MessageType, Any]
"""What to ask a peer: the type and body of a request."""

Pull: TypeAlias = Generator[Ask, Any, MergeableChanges]
"""A pull under way: yields what to ask, is sent the body of each answer, and returns the changes to merge."""


def pull(store: MergeableStore, their_hashes: list[int]) -> Pull:
    """Ask a peer for all that it has and the store lacks.

    Args:
        store: only read.
        their_hashes: the peer's `[tables hash, values hash]`.

    Raises:
        RemoteProtocolError: an answer is not of the form that was asked for.
    """
    tables: list[Any] = [{}]
    values: list[Any] = [{}]
    our_hashes = store.get_mergeable_content_hashes()
    if their_hashes[0] != our_hashes[0]:
        stamp, differing = _diff((yield MessageType.GET_TABLE_DIFF, store.get_mergeable_table_hashes()), 1)
        tables = _joined_tables(tables, stamp)
        if differing:
            answer_ = yield MessageType.GET_ROW_DIFF, store.get_mergeable_row_hashes(differing)
            stamp, differing = _diff(answer_, 2)
            tables = _joined_tables(tables, stamp)
            if differing:
                stamp = yield MessageType.GET_CELL_DIFF, store.get_mergeable_cell_hashes(differing)
                tables = _joined_tables(tables, _stamp(stamp))
    if their_hashes[1] != our_hashes[1]:
        values = _stamp((yield MessageType.GET_VALUE_DIFF, store.get_mergeable_value_hashes()))
    return [tables, values, 1]


def _stamp(body: Any) -> list[Any]:
    """An answer that must be a stamp."""
    if isinstance(body, list) and isinstance(body[0], dict):
        return body
    raise RemoteProtocolError("an answer of another form than was asked for", excerpt=str(body)[:80])


def _diff(body: Any, depth: int) -> tuple[list[Any], dict[str, Any]]:
    """An answer that must be a stamp of tables with hashes of what differs."""
    if isinstance(body, list) and len(body) == 2 and isinstance(body[0], list) and isinstance(body[1], dict):
        nested = any(isinstance(child, dict) for child in body[1].values())
        if not body[1] or nested is (depth == 2):
            return body[0], body[1]
    raise RemoteProtocolError("an answer of another form than was asked for", excerpt=str(body)[:80])


def _joined_tables(one: list[Any], other: list[Any]) -> list[Any]:
    """Two answers as one: the greater HLC of each container, and of each leaf the later answer."""
    tables = dict(one[0])
    for table_id, table in other[0].items():
        tables[table_id] = _joined_table(tables[table_id], table) if table_id in tables else table
    return stamped(tables, max(hlc_of(one), hlc_of(other)))


def _joined_table(one: list[Any], other: list[Any]) -> list[Any]:
    rows = dict(one[0])
    for row_id, row in other[0].items():
        if row_id in rows:
            known = rows[row_id]
            row = stamped({**known[0], **row[0]}, max(hlc_of(known), hlc_of(row)))
        rows[row_id] = row
    return stamped(rows, max(hlc_of(one), hlc_of(other)))


_ANSWERS = {
    MessageType.GET_TABLE_DIFF: MergeableStore.get_mergeable_table_diff,
    MessageType.GET_ROW_DIFF: MergeableStore.get_mergeable_row_diff,
    MessageType.GET_CELL_DIFF: MergeableStore.get_mergeable_cell_diff,
    MessageType.GET_VALUE_DIFF: MergeableStore.get_mergeable_value_diff,
}


def answer(store: MergeableStore, message: Message) -> Message | None:
    """The response to a request, or None if the message is not one."""
    if message.type is MessageType.GET_CONTENT_HASHES:
        body: Any = store.get_mergeable_content_hashes()
    elif message.type in _ANSWERS:
        body = _ANSWERS[message.type](store, message.body)
    else:
        return None
    return Message(message.request_id, MessageType.RESPONSE, body)
