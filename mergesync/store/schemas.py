"""Setting, removing and telling the schemas of a store; `schema` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from mergesync.store.jsjson import dumps
from mergesync.store.said import Texts
from mergesync.store.schema import Schema
from mergesync.store.writing import Writing

__all__ = ["Schemas"]


class Schemas(Writing):
    """The methods of a store that are about schemas."""

    def set_schema(self, tables_schema: Any, values_schema: Any = None) -> Self:
        """Set the schema of the tables and, if given, that of the values."""
        schema = self._schema.with_tables(tables_schema)
        return self._adopt(schema if values_schema is None else schema.with_values(values_schema))

    def set_tables_schema(self, tables_schema: Mapping[str, Mapping[str, Any]]) -> Self:
        """Say which cells there are, and their types: `{table_id: {cell_id: {"type": ..., "default": ...}}}`.

        What is in the store and does not fit is replaced by its default or deleted, as a local change.

        Raises:
            SchemaError: a type is missing or unknown, or a default does not fit its type; the old schema stays.
        """
        return self._adopt(self._schema.with_tables(tables_schema))

    def set_values_schema(self, values_schema: Mapping[str, Any]) -> Self:
        """Say which values there are, and their types: `{value_id: {"type": ..., "default": ...}}`."""
        return self._adopt(self._schema.with_values(values_schema))

    def del_tables_schema(self) -> Self:
        """Let tables hold anything again; what the schema kept from showing shows."""
        return self._drop(self._schema.with_tables(None))

    def del_values_schema(self) -> Self:
        """Let values be anything again; what the schema kept from showing shows."""
        return self._drop(self._schema.with_values(None))

    def del_schema(self) -> Self:
        """Remove both schemas."""
        return self._drop(Schema())

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

    def _drop(self, schema: Schema) -> Self:
        with self._writing():
            self._change_schema(schema)
        return self

    def _adopt(self, schema: Schema) -> Self:
        """See the store with this schema; write over what showed and does not fit, and add defaults."""
        with self._writing():
            tables = {
                table_id: {
                    row_id: self._shown_texts(table_id, row) for row_id, row in table.children.items() if row.live
                }
                for table_id, table in self._tree.tables.children.items()
            }
            values = self._shown_texts(None, self._tree.values)
            self._change_schema(schema)
            for table_id, rows in tables.items():
                for row_id, row in rows.items():
                    self._write_over(table_id, row_id, row)
                    self._fill_defaults(table_id, row_id)
            self._write_over(None, "", values)
            self._fill_defaults(None, "")
        return self

    def _write_over(self, table_id: str | None, row_id: str, texts: Texts) -> None:
        """Write over what does not fit the new schema."""
        leaves = self._values() if table_id is None else self._row(table_id, row_id)
        for leaf_id, text in texts.items():
            if not self._schema.admits(table_id, leaf_id, text):
                self._refuse(table_id, row_id, leaf_id, text)
                self._write(leaves, table_id, row_id, leaf_id, self._schema.default(table_id, leaf_id))
