"""Changing a store: setters, deleters, default content.

A call stands or falls as a whole: what is not JSON, or an id that is not a string, raises before anything is written.
What a schema does not allow is left out or replaced by its default, and told to the invalid-cell listeners, as in the
peer; so is an empty table or row, which TinyBase ignores as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar, overload

from mergesync.exceptions import ContentError, InvalidCellError, InvalidIdError
from mergesync.store.cells import ENCODED, TOMBSTONE, check_id, decode_cell, encode_cell
from mergesync.store.jsjson import js_ordered, loads
from mergesync.store.reading import Reading
from mergesync.store.row_ids import RowIds
from mergesync.store.stamps import Leaves
from mergesync.types import MISSING, Cell, CellOrMissing

__all__ = ["Writing"]

Result = TypeVar("Result")

_Encoded = dict[str, Any]  # a row or the values, checked, in wire form, in JavaScript's key order


class Writing(Reading):
    """The methods of a store that change it. Setters return the store."""

    # --- transactions

    @overload
    def transaction(self) -> AbstractContextManager[None]: ...
    @overload
    def transaction(self, actions: Callable[[], Result], do_rollback: Callable[..., bool] | None = None) -> Result: ...
    def transaction(
        self, actions: Callable[[], Any] | None = None, do_rollback: Callable[..., bool] | None = None
    ) -> Any:
        """Group changes: listeners and peers hear of them together, and an exception takes them all back.

        A transaction may contain others; an exception caught around an inner one takes back the inner one alone.
        Do not `await` inside one.

        Args:
            actions: call this in a transaction and return what it returns; None makes a context manager.
            do_rollback: with `actions`: called with the store before the end; if true, all is taken back.

        Example:
            >>> store = MergeableStore()
            >>> with store.transaction():
            ...     _ = store.set_value("a", 1).set_value("b", 2)
        """
        if actions is None:
            return self._savepoint()
        self.start_transaction()
        try:
            result = actions()
        except BaseException:
            self._fail_level()
            raise
        self.finish_transaction(do_rollback)
        return result

    # --- content

    def set_content(self, content: Any) -> Self:
        """Replace everything: `(tables, values)`, or a callable that gives it."""
        tables, values = self._said(content)
        encoded_tables, encoded_values = self._encode_tables(tables), self._encode_leaves(values)
        with self._writing():
            self._replace_tables(encoded_tables)
            self._replace_leaves(self._values(), None, "", self._admitted(None, "", encoded_values))
            self._fill_defaults(None, "")
        return self

    def set_default_content(self, content: Any) -> Self:
        """Write content with the empty stamp: it fills what nobody has written, and never beats a real write.

        Args:
            content: `(tables, values)`, or a callable that gives it.

        Example:
            >>> store = MergeableStore().set_value("open", True)
            >>> store.set_default_content(({}, {"open": False, "name": "shop"})).get_values()
            {'open': True, 'name': 'shop'}
        """
        with self._writing():
            self._neutral = True
            try:
                self.set_content(content)
            finally:
                self._neutral = False
        return self

    def set_json(self, tables_and_values_json: str) -> Self:
        """Replace everything by JSON text of `[tables, values]`, or the tables by JSON text of an object.

        Objects and arrays may also come as TinyBase's `getJson` writes them: U+FFFD and JSON text.

        Raises:
            ContentError: not JSON, or neither of these.
        """
        content = _parsed(tables_and_values_json)
        if isinstance(content, dict):
            return self.set_tables(content)
        if not isinstance(content, list) or len(content) != 2:
            raise ContentError("neither an array of tables and values, nor an object of tables")
        return self.set_content(content)

    def set_tables_json(self, tables_json: str) -> Self:
        """Replace the tables by JSON text."""
        return self.set_tables(_parsed(tables_json))

    def set_values_json(self, values_json: str) -> Self:
        """Replace the values by JSON text."""
        return self.set_values(_parsed(values_json))

    # --- tables

    def set_tables(self, tables: Any) -> Self:
        """Replace all tables, given as `{table_id: {row_id: {cell_id: cell}}}` or a callable that gives that."""
        encoded = self._encode_tables(self._said(tables))
        with self._writing():
            if encoded:
                self._replace_tables(encoded)
            else:
                self._refuse_cell(None, None, None)
        return self

    def set_table(self, table_id: str, table: Any) -> Self:
        """Replace one table, given as `{row_id: {cell_id: cell}}` or a callable that gives that."""
        check_id(table_id)
        encoded = self._encode_table(self._said(table))
        with self._writing():
            self._replace_table(table_id, encoded)
        return self

    def set_row(self, table_id: str, row_id: str, row: Any) -> Self:
        """Replace one row, given as `{cell_id: cell}` or a callable that gives that.

        Example:
            >>> store = MergeableStore().set_row("pets", "fido", {"species": "dog", "age": 3})
            >>> store.set_row("pets", "fido", {"species": "wolf"}).get_row("pets", "fido")
            {'species': 'wolf'}
        """
        check_id(table_id), check_id(row_id)
        encoded = self._encode_leaves(self._said(row))
        with self._writing():
            self._replace_row(table_id, row_id, encoded)
        return self

    def add_row(self, table_id: str, row: Any, reuse_row_ids: bool = True) -> str | None:
        """Add a row under an id that the store finds: that of a deleted row, or else the next number.

        Stores that add rows apart find the same ids, and their rows become one when they meet. Where that may be, use
        `set_row` with an id of your own.

        Args:
            table_id: the table.
            row: `{cell_id: cell}` or a callable that gives that.
            reuse_row_ids: whether the id of a deleted row may come again.

        Returns:
            The row id, or None if the row was refused as empty or by the schema.
        """
        check_id(table_id)
        encoded = self._encode_leaves(self._said(row))
        with self._writing():
            if not self._admitted(table_id, "", encoded) and not self._has_defaults(table_id):
                return None
            row_ids = self._row_ids.setdefault(table_id, RowIds())
            row_id = row_ids.take(lambda row_id: self.has_row(table_id, row_id), reuse_row_ids)
            self._replace_row(table_id, row_id, encoded)
            return row_id

    def set_partial_row(self, table_id: str, row_id: str, partial_row: Any) -> Self:
        """Set some cells of a row and leave the others."""
        check_id(table_id), check_id(row_id)
        encoded = self._encode_leaves(self._said(partial_row))
        with self._writing():
            if not encoded:
                self._refuse_cell(table_id, row_id, None)
            for cell_id, wire in self._admitted(table_id, row_id, encoded).items():
                self._set_leaf(table_id, row_id, cell_id, wire)
        return self

    def set_cell(self, table_id: str, row_id: str, cell_id: str, cell: Cell | Callable[[Any], Cell]) -> Self:
        """Set one cell, given as such or as a callable that makes it from the present one (or `MISSING`).

        Raises:
            InvalidCellError: not JSON, or a string reserved by the wire format.
            InvalidIdError: an id is not a string.

        Example:
            >>> store = MergeableStore().set_cell("pets", "fido", "age", 3)
            >>> store.set_cell("pets", "fido", "age", lambda age: age + 1).get_cell("pets", "fido", "age")
            4
        """
        if callable(cell):
            cell = cell(self.get_cell(table_id, row_id, cell_id))
        wire = encode_cell(cell)
        self.start_transaction()
        try:
            if self._has_schema:
                for fitting in self._admitted(table_id, row_id, {check_id(cell_id): wire}).values():
                    self._set_leaf(table_id, row_id, cell_id, fitting)
            else:
                self._write(self._row(table_id, row_id), table_id, row_id, cell_id, wire)
        except BaseException:
            self._fail_level()
            for id_ in (table_id, row_id, cell_id):
                check_id(id_)  # an unhashable id failed in the look-up; say so
            raise
        self.finish_transaction()
        return self

    def del_tables(self) -> Self:
        """Delete all tables."""
        with self._writing():
            for table_id in self.get_table_ids():
                self._delete_table(table_id)
        return self

    def del_table(self, table_id: str) -> Self:
        """Delete a table with all its rows."""
        check_id(table_id)
        with self._writing():
            self._delete_table(table_id)
        return self

    def del_row(self, table_id: str, row_id: str) -> Self:
        """Delete a row with all its cells."""
        check_id(table_id), check_id(row_id)
        with self._writing():
            self._delete_row(table_id, row_id)
        return self

    def del_cell(self, table_id: str, row_id: str, cell_id: str, force_del: bool = False) -> Self:
        """Delete a cell. Where a schema has a default, the cell goes back to that, unless forced.

        Args:
            table_id: the table.
            row_id: the row.
            cell_id: the cell.
            force_del: where there is a default: delete the whole row, as the peer does.
        """
        check_id(table_id), check_id(row_id), check_id(cell_id)
        with self._writing():
            default = self._schema.default(table_id, cell_id)
            if self.has_cell(table_id, row_id, cell_id):
                if default is MISSING:
                    self._set_leaf(table_id, row_id, cell_id, TOMBSTONE)
                elif force_del:
                    self._delete_row(table_id, row_id)
                else:
                    self._set_leaf(table_id, row_id, cell_id, default)
        return self

    # --- values

    def set_values(self, values: Any) -> Self:
        """Replace all values, given as `{value_id: value}` or a callable that gives that."""
        encoded = self._encode_leaves(self._said(values))
        with self._writing():
            if encoded:
                self._replace_leaves(self._values(), None, "", self._admitted(None, "", encoded))
            else:
                self._refuse_value(None)
        return self

    def set_partial_values(self, partial_values: Any) -> Self:
        """Set some values and leave the others."""
        encoded = self._encode_leaves(self._said(partial_values))
        with self._writing():
            if not encoded:
                self._refuse_value(None)
            for value_id, wire in self._admitted(None, "", encoded).items():
                self._set_leaf(None, "", value_id, wire)
        return self

    def set_value(self, value_id: str, value: Cell | Callable[[Any], Cell]) -> Self:
        """Set one value, given as such or as a callable that makes it from the present one (or `MISSING`)."""
        if callable(value):
            value = value(self.get_value(value_id))
        wire = encode_cell(value)
        with self._writing():
            for fitting in self._admitted(None, "", {check_id(value_id): wire}).values():
                self._set_leaf(None, "", value_id, fitting)
        return self

    def del_values(self) -> Self:
        """Delete all values; those with a default go back to it."""
        with self._writing():
            for value_id in self.get_value_ids():
                self.del_value(value_id)
        return self

    def del_value(self, value_id: str) -> Self:
        """Delete a value; where a schema has a default, it goes back to that."""
        check_id(value_id)
        with self._writing():
            if self.has_value(value_id):
                default = self._schema.default(None, value_id)
                self._set_leaf(None, "", value_id, TOMBSTONE if default is MISSING else default)
        return self

    # --- helpers: reading what the caller gives

    def _writing(self) -> AbstractContextManager[None]:
        return _Level(self)

    def _fail_level(self) -> None:
        """An exception leaves a level of the transaction; whoever began the outermost takes everything back."""
        if self._depth == 1:
            self._abandon()
        elif self._depth:
            self._depth -= 1

    @staticmethod
    def _said(said: Any) -> Any:
        return said() if callable(said) else said

    def _encode_tables(self, tables: Any) -> dict[str, dict[str, _Encoded]]:
        return {table_id: self._encode_table(tables[table_id]) for table_id in _ordered(tables, "tables")}

    def _encode_table(self, table: Any) -> dict[str, _Encoded]:
        return {row_id: self._encode_leaves(table[row_id]) for row_id in _ordered(table, "a table")}

    def _encode_leaves(self, leaves: Any) -> _Encoded:
        return {leaf_id: encode_cell(leaves[leaf_id]) for leaf_id in _ordered(leaves, "a row or the values")}

    # --- helpers: what a schema says

    def _refuse_cell(self, table_id: str | None, row_id: str | None, cell_id: str | None, wire: Any = MISSING) -> None:
        refused = self._transaction.invalid_cells.setdefault((table_id, row_id, cell_id), [])  # type: ignore[arg-type]
        refused.append(_decoded(wire))

    def _refuse_value(self, value_id: str | None, wire: Any = MISSING) -> None:
        self._transaction.invalid_values.setdefault(value_id, []).append(_decoded(wire))

    def _admits(self, table_id: str | None, row_id: str, leaf_id: str, wire: Any) -> bool:
        if self._schema.admits(table_id, leaf_id, wire):
            return True
        if table_id is None:
            self._refuse_value(leaf_id, wire)
        else:
            self._refuse_cell(table_id, row_id, leaf_id, wire)
        return False

    def _admitted(self, table_id: str | None, row_id: str, encoded: _Encoded) -> _Encoded:
        """What of a row or of the values a schema allows, with its defaults where it does not."""
        if not self._has_schema:
            return encoded
        admitted = {}
        for leaf_id, wire in encoded.items():
            if self._admits(table_id, row_id, leaf_id, wire):
                admitted[leaf_id] = wire
            elif (default := self._schema.default(table_id, leaf_id)) is not MISSING:
                admitted[leaf_id] = default
        return admitted

    # --- helpers: writing checked wire forms

    def _set_leaf(self, table_id: str | None, row_id: str, leaf_id: str, wire: Any) -> None:
        leaves = self._values() if table_id is None else self._row(table_id, row_id)
        self._write(leaves, table_id, row_id, leaf_id, wire)
        if self._has_schema and table_id is not None and leaves.live:
            self._fill_defaults(table_id, row_id)

    def _fill_defaults(self, table_id: str | None, row_id: str) -> None:
        """Give a row, or the values, the defaults of what nobody has written, with the empty HLC; deletions stand."""
        for leaf_id, default in self._schema.defaults(table_id):
            leaves = self._values() if table_id is None else self._row(table_id, row_id)
            if leaf_id not in leaves.stamps:
                self._put(leaves, table_id, row_id, leaf_id, (default, ""))

    def _has_defaults(self, table_id: str | None) -> bool:
        return any(True for _ in self._schema.defaults(table_id))

    def _replace_tables(self, tables: dict[str, dict[str, _Encoded]]) -> None:
        kept = [table_id for table_id, table in tables.items() if self._replace_table(table_id, table)]
        if kept or not tables:
            for table_id in self.get_table_ids():
                if table_id not in kept:
                    self._delete_table(table_id)

    def _replace_table(self, table_id: str, table: dict[str, _Encoded]) -> bool:
        if not table:
            self._refuse_cell(table_id, None, None)
            return False
        kept = [row_id for row_id, row in table.items() if self._replace_row(table_id, row_id, row)]
        if kept:
            for row_id in self.get_row_ids(table_id):
                if row_id not in kept:
                    self._delete_row(table_id, row_id)
        return bool(kept)

    def _replace_row(self, table_id: str, row_id: str, row: _Encoded) -> bool:
        admitted = self._admitted(table_id, row_id, row)
        if not row and not self._has_defaults(table_id):
            self._refuse_cell(table_id, row_id, None)
        if not admitted and not self._has_defaults(table_id):
            return False
        self._replace_leaves(self._row(table_id, row_id), table_id, row_id, admitted)
        self._fill_defaults(table_id, row_id)
        return True

    def _replace_leaves(self, leaves: Leaves, table_id: str | None, row_id: str, said: _Encoded) -> None:
        for leaf_id, wire in said.items():
            self._write(leaves, table_id, row_id, leaf_id, wire)
        if leaves.live > len(said) or leaves.stamps.keys() - said.keys():
            for leaf_id in self._shown_ids(table_id, leaves):
                if leaf_id not in said:
                    default = self._schema.default(table_id, leaf_id)
                    self._write(leaves, table_id, row_id, leaf_id, TOMBSTONE if default is MISSING else default)

    def _delete_table(self, table_id: str) -> None:
        for row_id in self.get_row_ids(table_id):
            self._delete_row(table_id, row_id)

    def _delete_row(self, table_id: str, row_id: str) -> None:
        if self.has_row(table_id, row_id):
            row = self._row(table_id, row_id)
            for cell_id in self._shown_ids(table_id, row):
                self._write(row, table_id, row_id, cell_id, TOMBSTONE)
            self._row_ids.setdefault(table_id, RowIds()).give_back(row_id)
            if not self.has_table(table_id):
                del self._row_ids[table_id]


class _Level:
    """One level of a transaction around a setter; lighter than a generator."""

    __slots__ = ("_store",)

    def __init__(self, store: Writing) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._store.start_transaction()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None:
            self._store.finish_transaction()
        else:
            self._store._fail_level()


def _decoded(wire: Any) -> CellOrMissing:
    return MISSING if wire is MISSING else decode_cell(wire)


def _ordered(mapping: Any, what: str) -> Iterable[str]:
    """The keys of what the caller gave, checked, in JavaScript's order."""
    if not isinstance(mapping, Mapping):
        raise InvalidCellError(f"{what} must be given as a dict, not {type(mapping).__name__}")
    for key in mapping:
        if not isinstance(key, str):
            raise InvalidIdError(f"an id must be a string, not {type(key).__name__}: {key!r:.80}")
    return js_ordered(mapping)


def _parsed(text: str) -> Any:
    try:
        return _decoded_leaves(loads(text))
    except ValueError as error:
        raise ContentError(f"not JSON: {error}") from error


def _decoded_leaves(parsed: Any) -> Any:
    """Objects and arrays that TinyBase has written as prefixed text, as such."""
    if isinstance(parsed, dict):
        return {key: _decoded_leaves(value) for key, value in parsed.items()}
    if isinstance(parsed, list):
        return [_decoded_leaves(value) for value in parsed]
    if isinstance(parsed, str) and parsed.startswith(ENCODED):
        decoded = decode_cell(parsed)
        return parsed if decoded is MISSING else decoded
    return parsed
