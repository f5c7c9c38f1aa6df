"""How stamps are rows of a SQLite database, readable and writable with plain SQL.

One row for each stamp, in `mergesync_cells` and `mergesync_values`:

    SELECT row_id, value FROM mergesync_cells
    WHERE path = 'petShop' AND table_id = 'pets' AND cell_id = 'species' AND type <> 'deleted'

`type` is string, number, boolean (`value` 0 or 1), null, object or array (`value` is JSON text), deleted (a tombstone),
or raw (a raw object or array that a peer sent by mistake). Ids and strings are text; those with a lone surrogate, which
SQLite has no text for, are blobs: their UTF-8 with each surrogate as three bytes. `hlc` is the stamp.

`changed` is the number of the commit that wrote the row, and 0 for a row that somebody wrote with plain SQL (a trigger
sees to it), which gets a fresh stamp as soon as mergesync sees it: `UPDATE` and `INSERT` need not care about `type`,
`hlc` and `changed`, and `DELETE` leaves a tombstone (a second `DELETE` removes that, too). `mergesync_containers` has
the stamps that tables and rows may have of their own, which TinyBase never gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from mergesync.exceptions import ContentError
from mergesync.persist.taking import Edit
from mergesync.store.bulk import collector_paused
from mergesync.store.cells import ENCODED, TOMBSTONE, decode_cell, encode_cell
from mergesync.store.hlc import is_hlc
from mergesync.store.jsjson import dumps, loads
from mergesync.store.unsaved import has_stamps, no_changes
from mergesync.types import MISSING, MergeableChanges

__all__ = [
    "FORMAT",
    "READ",
    "READ_EDITS",
    "SCHEMA",
    "WRITE",
    "Row",
    "Snapshot",
    "from_sql_text",
    "rows_of",
    "sql_text",
    "without_surrogates",
]

Row: TypeAlias = tuple[Any, ...]

FORMAT: Final = 1
"""The version of this schema; a database with a higher one is left alone."""


def _leaf_table(name: str, ids: tuple[str, ...]) -> str:
    key = ", ".join(("path", *ids))
    columns = "".join(f"{id_} TEXT NOT NULL, " for id_ in ("path", *ids))
    this = " AND ".join(f"{id_} = NEW.{id_}" for id_ in ("path", *ids))
    old = ", ".join(f"OLD.{id_}" for id_ in ("path", *ids))
    return f"""
CREATE TABLE mergesync_{name}({columns}type TEXT, value, hlc TEXT NOT NULL DEFAULT '',
    changed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY({key})) WITHOUT ROWID;
CREATE INDEX mergesync_{name}_edited ON mergesync_{name}(path) WHERE changed = 0;
CREATE TRIGGER mergesync_{name}_update AFTER UPDATE ON mergesync_{name}
    WHEN NEW.changed = OLD.changed AND NEW.changed <> 0
    BEGIN UPDATE mergesync_{name} SET changed = 0 WHERE {this}; END;
CREATE TRIGGER mergesync_{name}_delete AFTER DELETE ON mergesync_{name} WHEN OLD.type IS NOT 'deleted'
    BEGIN INSERT INTO mergesync_{name}({key}, type, hlc) VALUES({old}, 'deleted', OLD.hlc); END;
"""


_CELL_IDS: Final = ("table_id", "row_id", "cell_id")
_VALUE_IDS: Final = ("value_id",)

SCHEMA: Final = (
    "CREATE TABLE mergesync_meta(key TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    f"INSERT INTO mergesync_meta VALUES('format', {FORMAT}), ('commits', 0);"
    "CREATE TABLE mergesync_paths(path TEXT NOT NULL PRIMARY KEY, changed INTEGER NOT NULL) WITHOUT ROWID;"
    + _leaf_table("cells", _CELL_IDS)
    + _leaf_table("values", _VALUE_IDS)
    + """
CREATE TABLE mergesync_containers(path TEXT NOT NULL, kind TEXT NOT NULL, table_id TEXT NOT NULL, row_id TEXT NOT NULL,
    hlc TEXT NOT NULL, changed INTEGER NOT NULL, PRIMARY KEY(path, kind, table_id, row_id)) WITHOUT ROWID;
"""
)
"""Makes a new database."""


def _upsert(name: str, key: tuple[str, ...], data: tuple[str, ...]) -> str:
    columns = (*key, *data, "hlc", "changed")
    sets = ", ".join(f"{column} = excluded.{column}" for column in columns[len(key) :])
    # A stamp is never replaced by an older one, whatever may have gone wrong. What was written by the same commit is
    # the same; to write it again would look like plain SQL to the trigger.
    return (
        f"INSERT INTO mergesync_{name}({', '.join(columns)}) VALUES({', '.join('?' * len(columns))}) "
        f"ON CONFLICT DO UPDATE SET {sets} WHERE excluded.hlc >= hlc AND excluded.changed <> changed"
    )


WRITE: Final = {
    "paths": "INSERT INTO mergesync_paths VALUES(?, ?) ON CONFLICT DO UPDATE SET changed = excluded.changed",
    "cells": _upsert("cells", ("path", *_CELL_IDS), ("type", "value")),
    "values": _upsert("values", ("path", *_VALUE_IDS), ("type", "value")),
    "containers": _upsert("containers", ("path", "kind", "table_id", "row_id"), ()),
}
"""By table, the statement that writes a row that `rows_of` makes."""


def _select(name: str, columns: str, key: str) -> str:
    return f"SELECT {columns} FROM mergesync_{name} WHERE path = ?1 AND changed > ?2 ORDER BY {key}"


READ: Final = {
    "cells": _select("cells", "table_id, row_id, cell_id, type, value, hlc", "table_id, row_id, cell_id"),
    "values": _select("values", "value_id, type, value, hlc", "value_id"),
    "containers": _select("containers", "kind, table_id, row_id, hlc", "kind, table_id, row_id"),
}
"""By table, the query for the rows of a path that were written after a commit."""

READ_EDITS: Final = (
    "SELECT table_id, row_id, cell_id, type, value, hlc FROM mergesync_cells WHERE path = ?1 AND changed = 0 UNION ALL "
    "SELECT NULL, '', value_id, type, value, hlc FROM mergesync_values WHERE path = ?1 AND changed = 0"
)
"""The query for the leaves of a path that somebody wrote with plain SQL."""


# --- writing


def sql_text(text: str) -> str | bytes:
    """A string as SQLite takes it: text, or a blob if it has a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql_text(text: str | bytes) -> str:
    """The string again."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


def without_surrogates(rows: list[Row]) -> list[Row]:
    """Rows for which SQLite has no text, with blobs where needed."""
    return [tuple(sql_text(value) if isinstance(value, str) else value for value in row) for row in rows]


def rows_of(path: str, changes: MergeableChanges, commit: int) -> dict[str, list[Row]]:
    """The rows that changes of a path are, by table; stamps may have a hash, which is not stored."""
    tables, values = changes[0], changes[1]
    cells: list[Row] = []
    for table_id, table in tables[0].items():
        for row_id, row in table[0].items():
            cells += [
                (path, table_id, row_id, cell_id, *_to_sql(stamp[0]), _hlc(stamp), commit)
                for cell_id, stamp in row[0].items()
            ]
    return {
        "paths": [(path, commit)],
        "cells": cells,
        "values": [(path, value_id, *_to_sql(stamp[0]), _hlc(stamp), commit) for value_id, stamp in values[0].items()],
        "containers": [(path, *container, commit) for container in _containers(tables, values)],
    }


def _hlc(stamp: list[Any]) -> str:
    return stamp[1] if len(stamp) > 1 else ""


def _containers(tables: list[Any], values: list[Any]) -> Iterator[tuple[str, str, str, str]]:
    """What the leaves do not say: containers with stamps of their own, and those without leaves."""
    for kind, stamp in (("tables", tables), ("values", values)):
        if _hlc(stamp):
            yield kind, "", "", stamp[1]
    for table_id, table in tables[0].items():
        if _hlc(table) or not table[0]:
            yield "table", table_id, "", _hlc(table)
        for row_id, row in table[0].items():
            if not row[0] or _hlc(row):
                yield "row", table_id, row_id, _hlc(row)


def _to_sql(wire: Any) -> tuple[str, Any]:
    """The type and value columns of a wire form."""
    kind = type(wire)
    if kind is str:
        if wire < TOMBSTONE:
            return "string", wire
        return _special_to_sql(wire)
    if kind is bool:
        return "boolean", int(wire)
    if kind is int:
        return "number", wire if -(2**63) <= wire < 2**63 else float(wire)
    if kind is float:
        return "number", wire
    if wire is None:
        return "null", None
    return "raw", dumps(wire)


def _special_to_sql(wire: str) -> tuple[str, Any]:
    if wire == TOMBSTONE:
        return "deleted", None
    if wire[:2] == ENCODED + "{":
        return "object", wire[1:]
    if wire[:2] == ENCODED + "[":
        return "array", wire[1:]
    return "string", wire


# --- reading


_FROM_SQL: Final[dict[str, Callable[[Any], Any]]] = {
    "string": from_sql_text,
    "number": lambda number: number,
    "boolean": bool,
    "null": lambda _: None,
    "object": lambda text: ENCODED + from_sql_text(text),
    "array": lambda text: ENCODED + from_sql_text(text),
    "deleted": lambda _: TOMBSTONE,
    "raw": loads,
}


def _from_sql(type_: str, value: Any) -> Any:
    """The wire form that mergesync wrote."""
    if type_ not in _FROM_SQL:
        raise ContentError(f"a row of the unknown type {type_!r:.40}")
    return _FROM_SQL[type_](value)


def _edited(type_: str | None, value: Any) -> Any:
    """The wire form of what somebody wrote with plain SQL: the type counts only where it fits the value."""
    if value is None:
        return TOMBSTONE if type_ == "deleted" else None
    if type_ == "boolean" and value in (0, 1):
        return bool(value)
    if type_ in ("object", "array") and isinstance(value, str | bytes):
        return ENCODED + from_sql_text(value)
    return from_sql_text(value) if isinstance(value, bytes) else value


class Snapshot:
    """What rows of a path say, put together.

    Attributes:
        commit: the last commit they contain.
        known: whether anything was ever stored for the path.
        changes: the stamps. A leaf that was edited has a placeholder with its old stamp, if it has one.
        edits: the leaves that somebody wrote with plain SQL.
        complaints: edits that are no cells, in words.
    """

    def __init__(self, commit: int, known: bool) -> None:
        self.commit = commit
        self.known = known
        self.changes: MergeableChanges = no_changes()
        self.edits: list[Edit] = []
        self.complaints: list[str] = []
        self._ids: dict[str | bytes, str] = {}  # equal ids are one string in memory
        self._at: tuple[Any, Any] | None = None
        self._cells: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return self.known or has_stamps(self.changes) or bool(self.edits)

    def add(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows of one of the tables, as the query for it gives them.

        Raises:
            ValueError: a row that mergesync wrote is damaged.
        """
        with collector_paused():
            {"cells": self._add_cells, "values": self._add_values, "containers": self._add_containers}[name](rows)

    def _add_cells(self, rows: Iterable[Row]) -> None:
        ids = self._ids
        at, cells = self._at, self._cells
        for table_id, row_id, cell_id, type_, value, hlc in rows:
            if (table_id, row_id) != at:
                at = table_id, row_id
                cells = self._row(table_id, row_id)[0]
            if cell_id not in ids:
                ids[cell_id] = from_sql_text(cell_id)
            if type_ == "number" or (type_ == "string" and value.__class__ is str):
                cells[ids[cell_id]] = [value, hlc] if hlc else [value]
            else:
                cells[ids[cell_id]] = _stamp(_from_sql(type_, value), hlc)
        self._at, self._cells = at, cells

    def _add_values(self, rows: Iterable[Row]) -> None:
        values = self.changes[1][0]
        for value_id, type_, value, hlc in rows:
            values[from_sql_text(value_id)] = _stamp(_from_sql(type_, value), hlc)

    def add_edits(self, rows: Iterable[Row]) -> None:
        """Add leaves that somebody wrote with plain SQL, as the query for them gives them."""
        for table_id, row_id, leaf_id, type_, value, hlc in rows:
            try:
                ids = table_id and from_sql_text(table_id), from_sql_text(row_id), from_sql_text(leaf_id)
                self._add_edit(ids, _edited(type_, value), hlc)
            except (ValueError, TypeError) as error:
                self.complaints.append(f"an edit of {leaf_id!r:.80} is no cell, and is left alone: {error}")

    def _add_edit(self, ids: tuple[str | None, str, str], wire: Any, hlc: str) -> None:
        table_id, row_id, leaf_id = ids
        if wire != TOMBSTONE:
            cell = decode_cell(wire)
            if cell is MISSING:
                raise ContentError("it is not JSON")
            encode_cell(cell)
        if not is_hlc(hlc):
            raise ContentError(f"{hlc!r:.40} is not a stamp of the clock")
        self.edits.append((table_id, row_id, leaf_id, wire))
        if hlc:
            # What the stamp stood for is gone. The store has to know of the stamp, so that the fresh one is above it,
            # and has to have something else than the edit there, so that the edit is a change.
            leaves = self.changes[1][0] if table_id is None else self._row(table_id, row_id)[0]
            leaves[leaf_id] = [None if wire == TOMBSTONE else TOMBSTONE, hlc]

    def _add_containers(self, rows: Iterable[Row]) -> None:
        for kind, table_id, row_id, hlc in rows:
            if kind == "row":
                container = self._row(table_id, row_id)
            elif kind == "table":
                container = self._table(table_id)
            else:
                container = self.changes[0 if kind == "tables" else 1]
            container[1:] = [hlc] if hlc else []

    def _table(self, table_id: str | bytes) -> list[Any]:
        return self.changes[0][0].setdefault(from_sql_text(table_id), [{}])  # type: ignore[no-any-return]

    def _row(self, table_id: str | bytes, row_id: str | bytes) -> list[Any]:
        return self._table(table_id)[0].setdefault(from_sql_text(row_id), [{}])  # type: ignore[no-any-return]


def _stamp(wire: Any, hlc: str) -> list[Any]:
    return [wire, hlc] if hlc else [wire]
