"""How a store takes what storage holds: as content, as changes, or as plain tables and values (protocol section 14)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mergesync.exceptions import ContentError
from mergesync.store import MergeableStore
from mergesync.store.cells import decode_cell, same_wire
from mergesync.store.jsjson import canonical
from mergesync.types import MISSING, MergeableContent

__all__ = ["Edit", "is_mergeable_content", "take", "write_edits"]

Edit = tuple[str | None, str, str, Any]
"""A leaf that somebody edited by hand: table id or None for values, row id, leaf id, new wire form."""


def is_mergeable_content(stored: Any) -> bool:
    """Whether this looks like mergeable content; the store has the last word."""
    return isinstance(stored, list) and len(stored) == 2 and isinstance(stored[0], list)


def take(store: MergeableStore, stored: Any) -> None:
    """Merge content or changes; set plain content as local writes.

    What is missing in mergeable content is not deleted: it may just not have been there yet. A leaf of content that
    differs from the store's under the same stamp was edited by hand, and is written as a local write.

    Raises:
        ContentError: it is none of these.
    """
    if is_mergeable_content(stored):
        stored = canonical(stored)  # as it is compared
        edits = list(_hand_edits(store, stored))
        with store.transaction():
            store.apply_mergeable_changes([*stored, 1])
            write_edits(store, edits)
    elif isinstance(stored, list) and len(stored) == 3:
        store.apply_mergeable_changes(stored)
    elif isinstance(stored, list | tuple) and [type(part) for part in stored] == [dict, dict]:
        store.set_content(tuple(stored))
    else:
        raise ContentError("neither mergeable content, nor changes, nor the tables and values of a plain store")


def write_edits(store: MergeableStore, edits: list[Edit]) -> None:
    """Write leaves that were edited by hand, each with a fresh stamp."""
    for table_id, row_id, leaf_id, wire in edits:
        cell = decode_cell(wire)
        if table_id is None:
            store.del_value(leaf_id) if cell is MISSING else store.set_value(leaf_id, cell)
        elif cell is MISSING:
            store.del_cell(table_id, row_id, leaf_id, True)
        else:
            store.set_cell(table_id, row_id, leaf_id, cell)


def _hand_edits(store: MergeableStore, theirs: MergeableContent) -> Iterator[Edit]:
    """The leaves that differ under the same stamp; content that is malformed is left for the store to refuse."""
    mine = store.get_mergeable_content()
    try:
        for table_id, row_id, row in _rows(theirs):
            my_row = _child(_child(mine[0], table_id), row_id)
            for cell_id, wire in _edited_leaves(row, my_row):
                yield table_id, row_id, cell_id, wire
        for value_id, wire in _edited_leaves(theirs[1], mine[1]):
            yield None, "", value_id, wire
    except (TypeError, IndexError, KeyError, AttributeError) as error:
        raise ContentError(f"malformed content: {error}") from error


def _rows(content: MergeableContent) -> Iterator[tuple[str, str, list[Any]]]:
    for table_id, table in content[0][0].items():
        for row_id, row in table[0].items():
            yield table_id, row_id, row


def _child(stamp: list[Any], id_: str) -> list[Any]:
    return stamp[0].get(id_, [{}])  # type: ignore[no-any-return]


def _edited_leaves(theirs: list[Any], mine: list[Any]) -> Iterator[tuple[str, Any]]:
    if theirs == mine:
        return
    for leaf_id, (wire, hlc, *_) in theirs[0].items():
        my_stamp = mine[0].get(leaf_id)
        if hlc and my_stamp is not None and my_stamp[1] == hlc and not same_wire(wire, my_stamp[0]):
            yield leaf_id, wire
