"""Opening a path of a SQLite database: SQLite itself packs the stamps of many rows, and Python puts them into a tree.

A portion of cells is one row of SQL, so that SQLite packs it without Python's lock, while Python works on the portion
before it.

The leaves of which SQLite cannot make exactly the text that JavaScript would are read one by one: fractions and huge
numbers, objects, arrays, strings that might be mistaken for something else, and what has a lone surrogate in it; also
long strings.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from orjson import loads

from mergesync.exceptions import ContentError
from mergesync.limits import MAX_INTEGER
from mergesync.persist.sqlite_rows import READ, Snapshot
from mergesync.store.building import NOT_YET, Built, TreeBuilder
from mergesync.store.bulk import collector_paused
from mergesync.store.cells import TOMBSTONE
from mergesync.store.stamps import Stamp

__all__ = ["BEHIND", "BEYOND", "FIRST", "OPEN", "READ_THE_REST", "Key", "Opening", "Portion"]

_LONG: Final = 2_000
"""A string of so many characters is not packed, so that a portion is far from the most that SQLite has in one text."""

Key: TypeAlias = tuple[str | bytes, str | bytes, str | bytes]
"""Table id, row id and cell id, as SQLite has them."""

FIRST: Final[Key] = ("", "", "")
BEYOND: Final[Key] = (b"\xff" * 8, b"", b"")
"""Above all ids: those with a lone surrogate are blobs, which are above all texts, and UTF-8 has no such bytes."""

_KEY: Final = "(table_id, row_id, cell_id)"

_STAMP: Final = f"""CASE WHEN table_id < x'' AND row_id < x'' AND cell_id < x'' THEN CASE type
    WHEN 'string' THEN CASE WHEN value >= '' AND value < '{TOMBSTONE}' AND length(value) < {_LONG}
        THEN json_quote(value) END
    WHEN 'number' THEN CASE WHEN typeof(value) = 'integer' AND value BETWEEN -{MAX_INTEGER} AND {MAX_INTEGER}
        THEN value END
    WHEN 'deleted' THEN ''
    WHEN 'boolean' THEN CASE value WHEN 1 THEN 'true' WHEN 0 THEN 'false' END
    WHEN 'null' THEN 'null'
END || ':' || hlc END"""
"""The stamp of a leaf, or NULL for one that is read by itself. Only texts are at once above '' and below another."""


def _as_json(id_: str) -> str:
    return f"json_group_array(CASE WHEN {id_} < x'' THEN {id_} END)"


BEHIND: Final = (
    f"SELECT table_id, row_id, cell_id FROM mergesync_cells WHERE path = ?1 AND {_KEY} >= (?2, ?3, ?4) "
    "ORDER BY table_id, row_id, cell_id LIMIT 1 OFFSET ?5"
)
"""The query for the key that is so many cells behind another."""

OPEN: Final = (
    f"SELECT {_as_json('table_id')}, {_as_json('row_id')}, group_concat(cell_ids, '\n'), "
    "CAST(group_concat(stamps, '\n') AS BLOB) "
    f"FROM (SELECT table_id, row_id, {_as_json('cell_id')} AS cell_ids, group_concat(stamp, '\n') AS stamps "
    f"FROM (SELECT table_id, row_id, cell_id, ifnull({_STAMP}, '') AS stamp FROM mergesync_cells "
    f"WHERE path = ?1 AND {_KEY} >= (?2, ?3, ?4) AND {_KEY} < (?5, ?6, ?7) AND changed > 0) "
    "GROUP BY table_id, row_id ORDER BY table_id, row_id)"
)
"""The query for the portion from one key up to another: a `Portion`."""

READ_THE_REST: Final = READ["cells"].replace("WHERE", f"WHERE {_STAMP} IS NULL AND")
"""The query for the leaves that have no stamp there; otherwise as `READ`."""


class Portion(NamedTuple):
    """Cells of some rows. No JSON has a line feed in it.

    Attributes:
        table_ids: JSON, with one for each row; null for a blob.
        row_ids: the same.
        cell_ids: for each row a line of such JSON; None if there are no rows.
        stamps: for each cell a line, empty if it is read by itself; None if there are no rows.
    """

    table_ids: str
    row_ids: str
    cell_ids: str | None
    stamps: bytes | None


class Opening:
    """A tree in the making.

    Attributes:
        is_complete: whether there was a stamp for every leaf.
    """

    def __init__(self) -> None:
        self.is_complete: bool = True
        self._builder = TreeBuilder()
        self._cell_ids: dict[str, list[Any]] = {}  # by their JSON: the rows of a table are of few shapes

    def add(self, portion: Portion) -> None:
        """Add the next portion.

        Raises:
            ValueError: it is damaged.
        """
        if portion.cell_ids is None or portion.stamps is None:
            return
        with collector_paused():
            portion.stamps.decode()  # raises if it is not UTF-8
            packed = portion.stamps.split(b"\n")
            shapes = [self._parsed(cell_ids) for cell_ids in portion.cell_ids.split("\n")]
            if len(packed) != sum(map(len, shapes)):
                raise ContentError("a stamp with a line feed in it")
            add = self._add_plain if _are_plain(portion.stamps) else self._add_any
            table_ids, row_ids, stamps = loads(portion.table_ids), loads(portion.row_ids), iter(packed)
            for table_id, row_id, cell_ids in zip(table_ids, row_ids, shapes, strict=True):
                add(table_id, row_id, dict(zip(cell_ids, stamps, strict=False)))

    def _parsed(self, cell_ids: str) -> list[Any]:
        ids = self._cell_ids.get(cell_ids)
        if ids is None:
            ids = self._cell_ids[cell_ids] = loads(cell_ids)
        return ids

    def _add_plain(self, table_id: str, row_id: str, row: dict[str, Stamp]) -> None:
        self._builder.add_row(table_id, row_id, row, is_plain=True)

    def _add_any(self, table_id: str | None, row_id: str | None, row: dict[Any, Stamp]) -> None:
        if NOT_YET in row.values():
            self.is_complete = False
        if table_id is not None and row_id is not None:
            row.pop(None, None)
            self._builder.add_row(table_id, row_id, row, is_plain=False)

    def finish(self, rest: Snapshot) -> Built:
        """The tree.

        Args:
            rest: what is not in the portions.

        Raises:
            ValueError: something is damaged.
        """
        with collector_paused():
            self._builder.lay(rest.changes)
            return self._builder.finish()


def _are_plain(stamps: bytes) -> bool:
    """Whether none of these lines is empty or a tombstone."""
    lines = b"\n%b\n" % stamps
    return b"\n\n" not in lines and b"\n:" not in lines
