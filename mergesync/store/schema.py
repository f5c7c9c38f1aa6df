"""Schemas for tables and values: which types a cell may have, and what it is when nobody says.

A schema is a view over the stamps, never a change to what peers agreed on (departure from surprise 24): a cell from a
peer that does not fit is stamped, hashed and passed on, and shows as its default, or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mergesync.exceptions import InvalidCellError, SchemaError
from mergesync.store.cells import ENCODED, TOMBSTONE, decode_cell, encode_cell
from mergesync.types import MISSING, CellOrMissing, Missing

__all__ = ["CellSchema", "Schema"]

_TYPES = frozenset(("string", "number", "boolean", "object", "array"))


def _is_mapping(said: object) -> bool:
    return isinstance(said, Mapping)


def _type_of(wire: Any) -> str | None:
    """The schema's word for the type of a wire form; None for null."""
    if wire is None:
        return None
    if isinstance(wire, bool):
        return "boolean"
    if isinstance(wire, int | float):
        return "number"
    if isinstance(wire, str) and not wire.startswith(ENCODED):
        return "string"
    return "array" if isinstance(decode_cell(wire), list) else "object"


@dataclass(frozen=True, slots=True)
class CellSchema:
    """What one cell or value may be.

    Attributes:
        type: string, number, boolean, object or array.
        default: the wire form it has when nobody says; `MISSING` for none.
        allow_null: whether null is allowed as well.
    """

    type: str
    default: Any = MISSING
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
        allow_null = bool(said.get("allowNull", said.get("allow_null", False)))
        plain = cls(said["type"], MISSING, allow_null)
        if "default" not in said:
            return plain
        try:
            default = encode_cell(said["default"])
        except InvalidCellError as error:
            raise SchemaError(f"{where}: the default is not a cell") from error
        if not plain.admits(default):
            raise SchemaError(f"{where}: the default is not a {plain.type}")
        return cls(plain.type, default, allow_null)

    def admits(self, wire: Any) -> bool:
        """Whether a live wire form has the right type."""
        kind = _type_of(wire)
        return self.allow_null if kind is None else kind == self.type


class Schema:
    """The schemas of one store, each of which may be absent; never changed once it is in use.

    Attributes:
        tables_said: the tables schema as the user gave it, or None.
        values_said: the values schema as the user gave it, or None.
    """

    def __init__(self) -> None:
        self.tables_said: dict[str, Any] | None = None
        self.values_said: dict[str, Any] | None = None
        self._tables: dict[str, dict[str, CellSchema]] | None = None
        self._values: dict[str, CellSchema] | None = None

    @property
    def is_set(self) -> bool:
        """Whether the tables or the values have a schema."""
        return self.tables_said is not None or self.values_said is not None

    def with_tables(self, said: Mapping[str, Mapping[str, Any]] | None) -> Schema:
        """The same with another schema for the tables, or with none; raises SchemaError."""
        changed = copy.copy(self)
        changed._set_tables(said)
        return changed

    def with_values(self, said: Mapping[str, Any] | None) -> Schema:
        """The same with another schema for the values, or with none; raises SchemaError."""
        changed = copy.copy(self)
        changed._set_values(said)
        return changed

    def _set_tables(self, said: Mapping[str, Mapping[str, Any]] | None) -> None:
        if said is None:
            self.tables_said = self._tables = None
            return
        if not _is_mapping(said) or not all(_is_mapping(table) for table in said.values()):
            raise SchemaError("a tables schema must map table ids to maps of cell ids")
        self._tables = {
            table_id: {cell_id: CellSchema.parse(cell, f"{table_id}.{cell_id}") for cell_id, cell in table.items()}
            for table_id, table in said.items()
        }
        self.tables_said = copy.deepcopy({table_id: dict(table) for table_id, table in said.items()})

    def _set_values(self, said: Mapping[str, Any] | None) -> None:
        if said is None:
            self.values_said = self._values = None
            return
        if not _is_mapping(said):
            raise SchemaError("a values schema must map value ids to their types")
        self._values = {value_id: CellSchema.parse(value, value_id) for value_id, value in said.items()}
        self.values_said = copy.deepcopy(dict(said))

    def rules(self, table_id: str | None) -> Mapping[str, CellSchema] | None:
        """What holds in a table, or for the values if the table id is None; None if anything goes."""
        if table_id is None:
            return self._values
        if self._tables is None:
            return None
        return self._tables.get(table_id, {})

    def fitted(self, table_id: str | None, leaf_id: str, wire: Any) -> Any:
        """The wire form that shows for a live one: itself, the default in its place, or `MISSING`."""
        rules = self.rules(table_id)
        if rules is None:
            return wire
        rule = rules.get(leaf_id)
        if rule is None:
            return MISSING
        return wire if rule.admits(wire) else rule.default

    def admits(self, table_id: str | None, leaf_id: str, wire: Any) -> bool:
        """Whether a live wire form, or a tombstone, may be written."""
        rules = self.rules(table_id)
        if rules is None or wire == TOMBSTONE:
            return True
        return leaf_id in rules and rules[leaf_id].admits(wire)

    def default(self, table_id: str | None, leaf_id: str) -> CellOrMissing:
        """The wire form of a default, or `MISSING`."""
        rules = self.rules(table_id)
        rule = rules.get(leaf_id) if rules else None
        return MISSING if rule is None else rule.default

    def defaults(self, table_id: str | None) -> Iterator[tuple[str, Any]]:
        """The ids and wire forms of all defaults of a table, or of the values if the table id is None."""
        for leaf_id, rule in (self.rules(table_id) or {}).items():
            if not isinstance(rule.default, Missing):
                yield leaf_id, rule.default
