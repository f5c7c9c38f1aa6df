"""The JSON of all tables, put together from the texts in their stamps: a stamp is not read to be written again."""

from __future__ import annotations

from mergesync.store.jsjson import string_text
from mergesync.store.stamps import COLON, Stamp
from mergesync.store.tree import Leaves, Tables

__all__ = ["tables_text"]

_TOMBSTONE_TEXT = b'"\xef\xbf\xbc"'


def tables_text(tables: Tables, enough: int) -> bytes | None:
    """The JSON of the stamp of all tables, as `table_diff` gives it to who has none; None if it takes more bytes."""
    size = 0
    cell_ids: dict[str, bytes] = {}
    table_texts = []
    for table_id, table in tables.children.items():
        row_texts = []
        for row_id, row in table.children.items():
            text = b"%b:%b" % (string_text(row_id), _row_text(row, cell_ids))
            size += len(text)
            if size > enough:
                return None
            row_texts.append(text)
        table_texts.append(b"%b:%b" % (string_text(table_id), _container_text(row_texts, table.hlc)))
    return _container_text(table_texts, tables.hlc)


def _row_text(row: Leaves, cell_ids: dict[str, bytes]) -> bytes:
    cells = []
    for cell_id, stamp in row.stamps.items():
        quoted = cell_ids.get(cell_id)
        if quoted is None:
            quoted = cell_ids[cell_id] = string_text(cell_id)
        if stamp[0] != COLON and stamp[-1] != COLON:  # the common case, a cell with an HLC
            cells.append(b'%b:[%b,"%b"]' % (quoted, stamp[:-17], stamp[-16:]))
        else:
            cells.append(b"%b:%b" % (quoted, _leaf_text(stamp)))
    return _container_text(cells, row.hlc)


def _leaf_text(stamp: Stamp) -> bytes:
    text, _, hlc = stamp.rpartition(b":")
    text = text or _TOMBSTONE_TEXT
    return b'[%b,"%b"]' % (text, hlc) if hlc else b"[%b]" % text


def _container_text(members: list[bytes], hlc: str) -> bytes:
    return b'[{%b},"%b"]' % (b",".join(members), hlc.encode()) if hlc else b"[{%b}]" % b",".join(members)
