"""What a store must hold, kept by the tests: a dict of stamps in which the highest ever written wins.

Nothing of this shares code with the store's merging. `Model` is told of stamps; `Shadow` hears listener events only.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps
from mergesync.types import MISSING

from .strategies import TOMBSTONE, paths

Path: TypeAlias = tuple[str, ...]


def wire_key(wire: Any) -> str:
    """Any JSON as something that compares: `1` is `1.0`, but not `True`; the order of keys does not matter."""
    return json.dumps(json.loads(dumps(wire), parse_int=float), sort_keys=True)


class Model:
    """By path, the stamp that must be there: `(HLC, wire form)`."""

    def __init__(self) -> None:
        self.stamps: dict[Path, tuple[str, Any]] = {}

    def merge(self, body: list[Any]) -> None:
        """The highest HLC wins; of two without one, the later arrival (surprise 2)."""
        for path, where, leaf_id in paths(body):
            leaf = where[leaf_id]
            hlc = leaf[1] if len(leaf) > 1 else ""
            if path not in self.stamps or not self.stamps[path][0] or hlc > self.stamps[path][0]:
                self.stamps[path] = (hlc, leaf[0])

    def fill(self, schema: list[Any]) -> None:
        """The defaults of a schema, for rows that show and for the values: without an HLC, where nobody has written."""
        for table_id, table in self.shown(schema)[0].items():
            for row_id in table:
                for cell_id, rule in (schema[0] or {}).get(table_id, {}).items():
                    self._fill((table_id, row_id, cell_id), rule)
        for value_id, rule in (schema[1] or {}).items():
            self._fill((value_id,), rule)

    def _fill(self, path: Path, rule: dict[str, Any]) -> None:
        if "default" in rule and path not in self.stamps:
            default = rule["default"]
            self.stamps[path] = ("", "\ufffd" + dumps(default) if isinstance(default, dict | list) else default)

    def assert_is(self, store: MergeableStore) -> None:
        """The store holds these very stamps."""
        found = {
            path: (where[leaf_id][1], wire_key(where[leaf_id][0]))
            for path, where, leaf_id in paths(store.get_mergeable_content())
        }
        assert found == {path: (hlc, wire_key(wire)) for path, (hlc, wire) in self.stamps.items()}

    def shown(self, schema: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What an application must see of these stamps under a schema, `[tables, values]`, each None for none."""
        tables: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for path, (_, wire) in self.stamps.items():
            said = schema[1] if len(path) == 1 else schema[0]
            rules = said if said is None or len(path) == 1 else said.get(path[0], {})
            cell = _shown(wire, None if rules is None else rules.get(path[-1]), said is not None)
            if cell is MISSING:
                continue
            if len(path) == 1:
                values[path[0]] = cell
            else:
                tables.setdefault(path[0], {}).setdefault(path[1], {})[path[2]] = cell
        return tables, values


def _shown(wire: Any, rule: dict[str, Any] | None, has_schema: bool) -> Any:
    cell = wire
    if wire == TOMBSTONE:
        return MISSING
    if isinstance(wire, str) and wire.startswith("\ufffd"):
        try:
            cell = json.loads(wire[1:], parse_int=float)
        except ValueError:
            return MISSING
        if not isinstance(cell, dict | list):
            return MISSING
    if not has_schema:
        return cell
    if rule is None:
        return MISSING
    return cell if _fits(cell, rule) else rule.get("default", MISSING)


def _fits(cell: Any, rule: dict[str, Any]) -> bool:
    if cell is None:
        return bool(rule.get("allowNull"))
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", dict: "object", list: "array"}
    return kinds[type(cell)] == str(rule["type"])


class Shadow:
    """A copy of what a store shows, fed by listener events alone, at every level that has them."""

    def __init__(self, store: MergeableStore) -> None:
        self.tables: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.present: set[tuple[str, ...]] = set()  # by has-listeners
        self.ids: dict[tuple[str, ...], set[str]] = {}  # by id-listeners
        self.pages: dict[str, list[str]] = {}
        store.add_cell_listener(None, None, None, self._cell)
        store.add_value_listener(None, self._value)
        store.add_row_count_listener(None, lambda _, table_id, count: self.counts.update({table_id: count}))
        store.add_has_tables_listener(lambda _, has: self._has(has, "tables"))
        store.add_has_values_listener(lambda _, has: self._has(has, "values"))
        store.add_has_table_listener(None, lambda _, t, has: self._has(has, "table", t))
        store.add_has_row_listener(None, None, lambda _, t, r, has: self._has(has, "row", t, r))
        store.add_has_cell_listener(None, None, None, lambda _, t, r, c, has: self._has(has, "cell", t, r, c))
        store.add_has_table_cell_listener(None, None, lambda _, t, c, has: self._has(has, "table cell", t, c))
        store.add_has_value_listener(None, lambda _, v, has: self._has(has, "value", v))
        store.add_table_ids_listener(lambda _, changes: self._ids(changes(), "tables"))
        store.add_row_ids_listener(None, lambda _, t, changes: self._ids(changes(), "rows", t))
        store.add_cell_ids_listener(None, None, lambda _, t, r, changes: self._ids(changes(), "cells", t, r))
        store.add_table_cell_ids_listener(None, lambda _, t, changes: self._ids(changes(), "table cells", t))
        store.add_value_ids_listener(lambda _, changes: self._ids(changes(), "values"))
        store.add_sorted_row_ids_listener("a", "a", False, 0, 3, self._page)

    def _cell(self, _: Any, table_id: str, row_id: str, cell_id: str, new: Any, old: Any) -> None:
        row = self.tables.setdefault(table_id, {}).setdefault(row_id, {})
        assert wire_key(row.get(cell_id, "none")) == wire_key("none" if old is MISSING else old)
        if new is MISSING:
            del row[cell_id]
        else:
            row[cell_id] = new

    def _value(self, _: Any, value_id: str, new: Any, old: Any) -> None:
        assert wire_key(self.values.get(value_id, "none")) == wire_key("none" if old is MISSING else old)
        if new is MISSING:
            del self.values[value_id]
        else:
            self.values[value_id] = new

    def _has(self, has: bool, *what: str) -> None:
        assert has is not (what in self.present)
        (self.present.add if has else self.present.discard)(what)

    def _ids(self, changes: dict[str, int], *what: str) -> None:
        ids = self.ids.setdefault(what, set())
        for id_, change in changes.items():
            assert (id_ in ids) is (change < 0)
            (ids.add if change > 0 else ids.discard)(id_)

    def _page(self, _: Any, table_id: str, *said: Any) -> None:
        assert self.pages.get(table_id, []) != said[-1]
        self.pages[table_id] = said[-1]

    def assert_is(self, store: MergeableStore) -> None:
        """The store shows what was heard, at every level."""
        tables, values = store.get_content()
        heard = {t: {r: row for r, row in rows.items() if row} for t, rows in self.tables.items()}
        heard = {t: rows for t, rows in heard.items() if rows}
        assert wire_key(heard) == wire_key(tables)
        assert wire_key(self.values) == wire_key(values)
        assert {t: count for t, count in self.counts.items() if count} == {t: len(rows) for t, rows in tables.items()}
        assert self.present == {
            *[("tables",)] * bool(tables),
            *[("values",)] * bool(values),
            *(("value", v) for v in values),
            *(("table", t) for t in tables),
            *(("row", t, r) for t, rows in tables.items() for r in rows),
            *(("cell", t, r, c) for t, rows in tables.items() for r, row in rows.items() for c in row),
            *(("table cell", t, c) for t, rows in tables.items() for row in rows.values() for c in row),
        }
        assert self.ids.get(("tables",), set()) == set(store.get_table_ids())
        assert self.ids.get(("values",), set()) == set(store.get_value_ids())
        for table_id in {*tables, *self.tables}:
            assert self.ids.get(("rows", table_id), set()) == set(store.get_row_ids(table_id))
            assert self.ids.get(("table cells", table_id), set()) == set(store.get_table_cell_ids(table_id))
            for row_id in store.get_row_ids(table_id):
                assert self.ids[("cells", table_id, row_id)] == set(store.get_cell_ids(table_id, row_id))
        assert self.pages.get("a", []) == store.get_sorted_row_ids("a", "a", False, 0, 3)
