"""Schemas for tables and values: which types a cell may have, and what it is when nobody says.

A schema is a view over the stamps, never a change to what peers agreed on (departure from surprise 24): a cell from a
peer that does not fit is stamped, hashed and passed on, and shows as its default, or not at all.

Schemas are not changed once they are made; a store gets another one. All texts are JSON, as in stamps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from mergesync.exceptions import InvalidCellError, SchemaError
from mergesync.store.cells import check_id, encode_cell
from mergesync.store.stamps import cell_of, wire_text

__all__ = ["NO_SCHEMA", "CellSchema", "Schema"]

_TYPES = frozenset(("string", "number", "boolean", "object", "array"))

_SCALARS = {ord("t"): "boolean", ord("f"): "boolean", ord("n"): None}

Rules: TypeAlias = "dict[str, CellSchema]"


def _is_mapping(said: object) -> bool:
    return isinstance(said, Mapping)


def _type_of(text: bytes) -> str | None:
    """The schema's word for the type of a text that shows; None for null."""
    first = text[0]
    if first in _SCALARS:
        return _SCALARS[first]
    if first not in b'"{[':
        return "number"
    cell = cell_of(text)
    if isinstance(cell, str):
        return "string"
    return "array" if isinstance(cell, list) else "object"


@dataclass(frozen=True, slots=True)
class CellSchema:
    """What one cell or value may be.

    Attributes:
        type: string, number, boolean, object or array.
        default: the text it has when nobody says; empty for none.
        allow_null: whether null is allowed as well.
    """

    type: str
    default: bytes = b""
    allow_null: bool = False

    @classmethod
    def parse(cls, said: Any, where: str) -> CellSchema:
        """Read a schema as a user writes it: `{"type": "string", "default": "x", "allowNull": False}`.

        Raises:
            SchemaError: the type is not one of the five, or the default does not fit it.
        """
        if not isinstance(said, Mapping) or not isinstance(said.get("type"), str) or said["type"] not in _TYPES:
            raise SchemaError(f"{where}: 'type' must be one of {', '.join(sorted(_TYPES))}")
        unknown = set(said) - {"type", "default", "allowNull", "allow_null"}
        if unknown:
            raise SchemaError(f"{where}: unknown {', '.join(sorted(map(repr, unknown)))}")
        plain = cls(said["type"], allow_null=bool(said.get("allowNull", said.get("allow_null", False))))
        if "default" not in said:
            return plain
        try:
            default = wire_text(encode_cell(said["default"], finite=True))
        except InvalidCellError as error:
            raise SchemaError(f"{where}: the default is not a cell") from error
        if not plain.admits(default):
            raise SchemaError(f"{where}: the default is not a {plain.type}")
        return replace(plain, default=default)

    def admits(self, text: bytes) -> bool:
        """Whether a text that shows has the right type."""
        kind = _type_of(text)
        return self.allow_null if kind is None else kind == self.type


@dataclass(frozen=True, slots=True)
class Schema:
    """The schemas of one store, each of which may be absent.

    Attributes:
        tables_said: the tables schema as the user gave it, or None.
        values_said: the values schema as the user gave it, or None.
    """

    tables_said: dict[str, Any] | None = None
    values_said: dict[str, Any] | None = None
    _tables: dict[str, Rules] | None = None
    _values: Rules | None = None

    def __bool__(self) -> bool:
        return self.tables_said is not None or self.values_said is not None

    def with_tables(self, said: Mapping[str, Mapping[str, Any]] | None) -> Schema:
        """This with another tables schema, or with none."""
        if said is None:
            return replace(self, tables_said=None, _tables=None)
        if not _is_mapping(said) or not all(_is_mapping(table) for table in said.values()):
            raise SchemaError("a tables schema must map table ids to maps of cell ids")
        tables = {
            check_id(table_id): {
                check_id(cell_id): CellSchema.parse(cell, f"{table_id}.{cell_id}") for cell_id, cell in table.items()
            }
            for table_id, table in said.items()
        }
        kept = copy.deepcopy({table_id: dict(table) for table_id, table in said.items()})
        return replace(self, tables_said=kept, _tables=tables)

    def with_values(self, said: Mapping[str, Any] | None) -> Schema:
        """This with another values schema, or with none."""
        if said is None:
            return replace(self, values_said=None, _values=None)
        if not _is_mapping(said):
            raise SchemaError("a values schema must map value ids to their types")
        values = {check_id(value_id): CellSchema.parse(value, value_id) for value_id, value in said.items()}
        return replace(self, values_said=copy.deepcopy(dict(said)), _values=values)

    def _rules(self, table_id: str | None) -> Rules | None:
        """What holds in a table, or for the values if the table id is None; None if anything goes."""
        if table_id is None:
            return self._values
        return None if self._tables is None else self._tables.get(table_id, {})

    def has_rules(self, table_id: str | None) -> bool:
        """Whether a table, or the values if the table id is None, cannot hold just anything."""
        return self._rules(table_id) is not None

    def fitted(self, table_id: str | None, leaf_id: str, text: bytes) -> bytes:
        """The text that shows for one that would without a schema: itself, the default in its place, or nothing."""
        rules = self._rules(table_id)
        if rules is None:
            return text
        rule = rules.get(leaf_id)
        if rule is None:
            return b""
        return text if rule.admits(text) else rule.default

    def admits(self, table_id: str | None, leaf_id: str, text: bytes) -> bool:
        """Whether a text may be written."""
        rules = self._rules(table_id)
        if rules is None:
            return True
        return leaf_id in rules and rules[leaf_id].admits(text)

    def default(self, table_id: str | None, leaf_id: str) -> bytes:
        """The text of a default, empty if there is none."""
        rules = self._rules(table_id)
        rule = rules.get(leaf_id) if rules else None
        return b"" if rule is None else rule.default

    def rules(self, table_id: str | None) -> Iterator[tuple[str, bytes]]:
        """The ids that a table has in the schema, or the values if the table id is None, and their defaults."""
        for leaf_id, rule in (self._rules(table_id) or {}).items():
            yield leaf_id, rule.default


NO_SCHEMA = Schema()
"""Anything goes."""
