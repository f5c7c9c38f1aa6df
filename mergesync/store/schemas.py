"""Giving a store a schema, and what becomes of what it holds already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import dumps
from mergesync.store.schema import Schema
from mergesync.store.stamps import Leaves
from mergesync.store.writing import Writing
from mergesync.types import MISSING

__all__ = ["Schemas"]


class Schemas(Writing):
    """The methods of a store that set, remove and show its schemas."""

    def set_schema(self, tables_schema: Any, values_schema: Any = None) -> Self:
        """Set the schema of the tables and, if given, that of the values."""
        with self.transaction():
            self.set_tables_schema(tables_schema)
            if values_schema is not None:
                self.set_values_schema(values_schema)
        return self

    def set_tables_schema(self, tables_schema: Mapping[str, Mapping[str, Any]]) -> Self:
        """Say which cells there are, and their types: `{table_id: {cell_id: {"type": ..., "default": ...}}}`.

        Types are string, number, boolean, object and array; `"allowNull": True` allows None as well. What is in the
        store and does not fit is replaced by its default or deleted, as a local change.

        Raises:
            SchemaError: a type is missing or unknown, or a default does not fit its type; the old schema stays.

        Example:
            >>> store = MergeableStore().set_tables_schema({"pets": {"age": {"type": "number", "default": 0}}})
            >>> store.set_row("pets", "fido", {"age": "old"}).get_tables()
            {'pets': {'fido': {'age': 0}}}
        """
        return self._change_schema(self._schema.with_tables(tables_schema))

    def set_values_schema(self, values_schema: Mapping[str, Any]) -> Self:
        """Say which values there are, and their types: `{value_id: {"type": ..., "default": ...}}`."""
        return self._change_schema(self._schema.with_values(values_schema))

    def del_tables_schema(self) -> Self:
        """Let tables hold anything again."""
        return self._change_schema(self._schema.with_tables(None))

    def del_values_schema(self) -> Self:
        """Let values be anything again."""
        return self._change_schema(self._schema.with_values(None))

    def del_schema(self) -> Self:
        """Remove both schemas."""
        return self._change_schema(Schema())

    def has_tables_schema(self) -> bool:
        """Whether the tables have a schema."""
        return self._schema.tables_said is not None

    def has_values_schema(self) -> bool:
        """Whether the values have a schema."""
        return self._schema.values_said is not None

    def get_tables_schema_json(self) -> str:
        """The schema of the tables as JSON text, `{}` if there is none."""
        return dumps(self._schema.tables_said or {})

    def get_values_schema_json(self) -> str:
        """The schema of the values as JSON text, `{}` if there is none."""
        return dumps(self._schema.values_said or {})

    def get_schema_json(self) -> str:
        """Both schemas as JSON text."""
        return dumps([self._schema.tables_said or {}, self._schema.values_said or {}])

    # --- helpers

    def _change_schema(self, schema: Schema) -> Self:
        with self._writing():
            if self._schema_before is None:
                self._schema_before = self._schema
            self._install(schema)
            for table_id, table in list(self._tree.tables.children.items()):
                for row_id, row in list(table.children.items()):
                    self._fit(table_id, row_id, row)
            self._fit(None, "", self._tree.values)
        return self

    def _install(self, schema: Schema) -> None:
        old = self._schema
        self._transaction.on_rollback(lambda: self._use(old))
        self._use(schema)

    def _use(self, schema: Schema) -> None:
        """What shows means something else from now on: count it again."""
        self._schema = schema
        self._has_schema = schema.is_set
        tables = self._tree.tables
        for table_id, table in tables.children.items():
            for row in table.children.values():
                row.live = len(self._shown_ids(table_id, row))
            table.live = sum(row.live > 0 for row in table.children.values())
        tables.live = sum(table.live > 0 for table in tables.children.values())
        self._tree.values.live = len(self._shown_ids(None, self._tree.values))

    def _fit(self, table_id: str | None, row_id: str, leaves: Leaves) -> None:
        """Write over what showed and does not fit; fill in defaults; let listeners hear of what shows otherwise."""
        was_there = table_id is None
        for leaf_id, stamp in list(leaves.stamps.items()):
            showed = self._showed(table_id, leaf_id, stamp)
            was_there = was_there or showed is not MISSING
            if showed is not MISSING and not self._admits(table_id, row_id, leaf_id, stamp[0]):
                default = self._schema.default(table_id, leaf_id)
                self._set_leaf(table_id, row_id, leaf_id, TOMBSTONE if default is MISSING else default)
            elif showed != self._show(table_id, leaf_id, stamp):
                self._touch(table_id, row_id, leaf_id, stamp)
        if was_there:
            self._fill_defaults(table_id, row_id)

    def _touch(self, table_id: str | None, row_id: str, leaf_id: str, stamp: Any) -> None:
        """A leaf shows otherwise although its stamp is as it was."""
        leaves = self._values() if table_id is None else self._row(table_id, row_id)
        if leaves.before is not None:
            leaves.before.setdefault(leaf_id, stamp)
