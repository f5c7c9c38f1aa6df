"""Opening a path of a SQLite database: SQLite itself packs the stamps of a row, and Python puts whole rows into a tree.

The leaves of which it cannot make exactly the text that JavaScript would are read one by one: fractions and huge
numbers, objects, arrays, strings that might be mistaken for something else, and what has a lone surrogate in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from orjson import loads

from mergesync.limits import MAX_INTEGER
from mergesync.persist.sqlite_rows import READ, Row, Snapshot, from_sql_text
from mergesync.store.building import NOT_YET, Built, TreeBuilder
from mergesync.store.bulk import collector_paused
from mergesync.store.cells import TOMBSTONE

__all__ = ["OPEN", "READ_THE_REST", "Opening"]

_STAMP: Final = f"""CASE type
    WHEN 'string' THEN CASE WHEN value >= '' AND value < '{TOMBSTONE}' THEN json_quote(value) END
    WHEN 'number' THEN CASE WHEN typeof(value) = 'integer' AND value BETWEEN -{MAX_INTEGER} AND {MAX_INTEGER}
        THEN value END
    WHEN 'deleted' THEN ''
    WHEN 'boolean' THEN CASE value WHEN 1 THEN 'true' WHEN 0 THEN 'false' END
    WHEN 'null' THEN 'null'
END || ':' || hlc"""
"""The stamp of a leaf, or NULL for one that is read by itself. Only texts are at once above '' and below another."""

_ID: Final = "CASE WHEN cell_id < x'' THEN cell_id END"
"""A cell id, or NULL if it is a blob; those are above all texts."""

OPEN: Final = (
    "SELECT CAST(table_id AS BLOB), CAST(row_id AS BLOB), CAST(json_group_array(cell_id) AS BLOB), "
    "CAST(json_group_array(stamp) AS BLOB) "
    f"FROM (SELECT table_id, row_id, {_ID} AS cell_id, {_STAMP} AS stamp FROM mergesync_cells "
    "WHERE path = ?1 AND changed > 0) GROUP BY table_id, row_id ORDER BY table_id, row_id"
)
"""The query for all rows of a path: table id, row id, and the ids and stamps of the cells as JSON."""

READ_THE_REST: Final = READ["cells"].replace("WHERE", f"WHERE ({_ID} IS NULL OR {_STAMP} IS NULL) AND")
"""The query for the leaves that have no stamp there; otherwise as `READ`."""

_AT_ONCE_BYTES: Final = 500_000
"""How much JSON is read by one call, which keeps all other threads waiting."""


def _is_plain(stamps: bytes) -> bool:
    """Whether neither NULL nor a tombstone is in the JSON of stamps; it may say no of some others."""
    return not (b"null" in stamps or b',":' in stamps or b'[":' in stamps)  # in a string, quotes are escaped


class Opening:
    """A tree in the making.

    Attributes:
        is_complete: whether there was a stamp for every leaf.
    """

    def __init__(self) -> None:
        self.is_complete: bool = True
        self._builder = TreeBuilder()
        self._cell_ids: dict[bytes, list[Any]] = {}  # by their JSON: the rows of a table are of few shapes

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows, as the query gives them.

        Raises:
            ValueError: they are damaged.
        """
        with collector_paused():
            together = b",".join([text for *_, text in rows])
            if len(together) > _AT_ONCE_BYTES and len(rows) > 1:
                self.add(rows[: len(rows) // 2])
                self.add(rows[len(rows) // 2 :])
                return
            all_plain = _is_plain(together)
            for (table_id, row_id, cell_ids, text), stamps in zip(rows, loads(b"[%b]" % together), strict=True):
                ids = self._cell_ids.get(cell_ids)
                if ids is None:
                    ids = self._cell_ids[cell_ids] = loads(cell_ids)
                if (all_plain or _is_plain(text)) and ids[-1] is not None:  # blobs come last
                    row = dict(zip(ids, [stamp.encode() for stamp in stamps], strict=True))
                    self._builder.add_row(from_sql_text(table_id), from_sql_text(row_id), row, is_plain=True)
                else:
                    self._add_one_by_one(from_sql_text(table_id), from_sql_text(row_id), ids, stamps)

    def _add_one_by_one(self, table_id: str, row_id: str, ids: list[Any], stamps: list[Any]) -> None:
        if None in stamps or None in ids:
            self.is_complete = False
        row = {
            cell_id: NOT_YET if stamp is None else stamp.encode()
            for cell_id, stamp in zip(ids, stamps, strict=True)
            if cell_id is not None
        }
        self._builder.add_row(table_id, row_id, row, is_plain=False)

    def finish(self, rest: Snapshot) -> Built:
        """The tree.

        Args:
            rest: what is not in the rows.

        Raises:
            ValueError: something is damaged.
        """
        with collector_paused():
            self._builder.lay(rest.changes)
            return self._builder.finish()
