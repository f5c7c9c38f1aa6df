"""The JSON of stamps of containers, put together from the texts in stamps: no stamp is read to be written again."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import string_text
from mergesync.store.stamps import COLON, NO_HLC, Stamp
from mergesync.store.tree import Leaves, Tables

__all__ = ["container_text", "row_text", "tables_text"]

_TOMBSTONE_TEXT: Final = string_text(TOMBSTONE)

_leaf_id_text = lru_cache(1000)(string_text)  # most rows have cells of the same few ids


def tables_text(tables: Tables, enough: int) -> bytes | None:
    """The JSON of the stamp of all tables, as `table_diff` gives it to who has none; None if it takes more bytes."""
    size = 0
    table_texts = []
    for table_id, table in tables.children.items():
        row_texts = []
        for row_id, row in table.children.items():
            text = row_text(row_id, row)
            size += len(text)
            if size > enough:
                return None
            row_texts.append(text)
        table_texts.append(b"%b:%b" % (string_text(table_id), container_text(row_texts, table.hlc)))
    return container_text(table_texts, tables.hlc)


def row_text(row_id: str, row: Leaves) -> bytes:
    """The JSON of a row with its id, `"id":stamp`, the stamp being that of `row_stamp`."""
    cells = []
    for cell_id, stamp in row.stamps.items():
        if stamp[0] != COLON and stamp[-1] != COLON:  # the common case, a cell with an HLC
            cells.append(b'%b:[%b,"%b"]' % (_leaf_id_text(cell_id), stamp[:-17], stamp[-16:]))
        else:
            cells.append(b"%b:%b" % (_leaf_id_text(cell_id), _leaf_text(stamp)))
    return b"%b:%b" % (string_text(row_id), container_text(cells, row.hlc))


def _leaf_text(stamp: Stamp) -> bytes:
    text, _, hlc = stamp.rpartition(NO_HLC)
    text = text or _TOMBSTONE_TEXT
    return b'[%b,"%b"]' % (text, hlc) if hlc else b"[%b]" % text


def container_text(members: Iterable[bytes], hlc: str) -> bytes:
    """The JSON of the stamp of a container in which there is this."""
    return b'[{%b},"%b"]' % (b",".join(members), hlc.encode()) if hlc else b"[{%b}]" % b",".join(members)
