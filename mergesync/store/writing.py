"""Changing a store: setters, deleters, default content.

A call stands or falls as a whole: what is not JSON, or an id that is not a string, raises before anything is written.
What a schema does not allow is left out or replaced by its default, and told to the invalid-cell listeners, as in the
peer; so is an empty table or row, which TinyBase ignores as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self, TypeVar, overload

from mergesync.exceptions import ContentError
from mergesync.store.cells import check_id
from mergesync.store.placing import Placing
from mergesync.store.said import called, cell_text, decoded, leaf_texts, parsed, table_texts, tables_texts
from mergesync.types import Cell

__all__ = ["Writing"]

Result = TypeVar("Result")


class Writing(Placing):
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
            do_rollback: with `actions`: called with the store at the end; if it returns true, all is taken back. Only
                that of the outermost transaction is asked, as in TinyBase.

        Example:
            >>> store = MergeableStore()
            >>> with store.transaction():
            ...     _ = store.set_value("a", 1).set_value("b", 2)
        """
        if actions is None:
            return self._savepoint()
        with self._savepoint(do_rollback):
            return actions()

    # --- content

    def set_content(self, content: Any) -> Self:
        """Replace everything: `(tables, values)`, or a callable that gives it."""
        said = called(content)
        if not isinstance(said, list | tuple) or len(said) != 2:
            raise ContentError("content must be given as (tables, values)")
        tables, values = tables_texts(said[0]), leaf_texts(said[1])
        with self._writing():
            self._replace_tables(tables)
            self._replace_values(values)
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
        """Replace everything by JSON text of `[tables, values]`, as `get_json` gives it; or the tables, by an object.

        Raises:
            ContentError: not JSON, or not one or two objects.
        """
        content = parsed(tables_and_values_json)
        if isinstance(content, dict):
            return self.set_tables_json(tables_and_values_json)
        if not isinstance(content, list) or len(content) != 2:
            raise ContentError("not an array of tables and values")
        return self.set_content((decoded(content[0], 3), decoded(content[1], 1)))

    def set_tables_json(self, tables_json: str) -> Self:
        """Replace the tables by JSON text, as `get_tables_json` gives it; an empty object deletes them."""
        tables = decoded(parsed(tables_json), 3)
        return self.set_tables(tables) if tables else self.del_tables()

    def set_values_json(self, values_json: str) -> Self:
        """Replace the values by JSON text, as `get_values_json` gives it; an empty object deletes them."""
        values = decoded(parsed(values_json), 1)
        return self.set_values(values) if values else self.del_values()

    # --- tables

    def set_tables(self, tables: Any) -> Self:
        """Replace all tables, given as `{table_id: {row_id: {cell_id: cell}}}` or a callable that gives that."""
        texts = tables_texts(called(tables))
        with self._writing():
            if texts:
                self._replace_tables(texts)
            else:
                self._refuse_cell(None, None, None)
        return self

    def set_table(self, table_id: str, table: Any) -> Self:
        """Replace one table, given as `{row_id: {cell_id: cell}}` or a callable that gives that."""
        table_id = check_id(table_id)
        texts = table_texts(called(table))
        with self._writing():
            self._replace_table(table_id, texts)
        return self

    def set_row(self, table_id: str, row_id: str, row: Any) -> Self:
        """Replace one row, given as `{cell_id: cell}` or a callable that gives that.

        Example:
            >>> store = MergeableStore().set_row("pets", "fido", {"species": "dog", "age": 3})
            >>> store.set_row("pets", "fido", {"species": "wolf"}).get_row("pets", "fido")
            {'species': 'wolf'}
        """
        table_id, row_id = check_id(table_id), check_id(row_id)
        texts = leaf_texts(called(row))
        with self._writing():
            self._replace_row(table_id, row_id, texts)
        return self

    def add_row(self, table_id: str, row: Any, reuse_row_ids: bool = True) -> str | None:
        """Add a row under an id that the store finds: that of a deleted row, or the next number.

        Stores that add rows apart find the same ids, and their rows become one when they meet. Where that may be, use
        `set_row` with an id of your own.

        Args:
            table_id: the table.
            row: `{cell_id: cell}` or a callable that gives that.
            reuse_row_ids: whether the id of a deleted row may come again.

        Returns:
            The row id, or None if the row was refused as empty or by the schema.
        """
        table_id = check_id(table_id)
        texts = leaf_texts(called(row))
        with self._writing():
            return self._add_row(table_id, texts, bool(reuse_row_ids))

    def set_partial_row(self, table_id: str, row_id: str, partial_row: Any) -> Self:
        """Set some cells of a row and leave the others."""
        table_id, row_id = check_id(table_id), check_id(row_id)
        texts = leaf_texts(called(partial_row))
        with self._writing():
            if not texts:
                self._refuse_cell(table_id, row_id, None)
            for cell_id, text in self._fit_some(table_id, row_id, texts).items():
                self._set_leaf(table_id, row_id, cell_id, text)
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
        if not (  # the common case, written out
            table_id.__class__ is row_id.__class__ is cell_id.__class__ is str
            and table_id.isascii()
            and row_id.isascii()
            and cell_id.isascii()
        ):
            table_id, row_id, cell_id = check_id(table_id), check_id(row_id), check_id(cell_id)
        if callable(cell):
            cell = cell(self.get_cell(table_id, row_id, cell_id))
        text = cell_text(cell)
        begins = not (self._depth and self._may_write)  # inside a transaction, one more level would do nothing
        if begins:
            self.start_transaction()
        try:
            if self._has_schema:
                self._set_leaf(table_id, row_id, cell_id, text)
            else:
                self._write(self._row(table_id, row_id), table_id, row_id, cell_id, text)
        except BaseException:
            if begins:
                self._fail_level()
            raise
        if begins:
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
        table_id = check_id(table_id)
        with self._writing():
            self._delete_table(table_id)
        return self

    def del_row(self, table_id: str, row_id: str) -> Self:
        """Delete a row with all its cells."""
        table_id, row_id = check_id(table_id), check_id(row_id)
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
        table_id, row_id, cell_id = check_id(table_id), check_id(row_id), check_id(cell_id)
        with self._writing():
            if self.has_cell(table_id, row_id, cell_id):
                if force_del and self._schema.default(table_id, cell_id):
                    self._delete_row(table_id, row_id)
                else:
                    self._delete_leaf(table_id, row_id, cell_id)
        return self

    # --- values

    def set_values(self, values: Any) -> Self:
        """Replace all values, given as `{value_id: value}` or a callable that gives that."""
        texts = leaf_texts(called(values))
        with self._writing():
            if texts:
                self._replace_values(texts)
            else:
                self._refuse(None, None, None)
        return self

    def set_partial_values(self, partial_values: Any) -> Self:
        """Set some values and leave the others."""
        texts = leaf_texts(called(partial_values))
        with self._writing():
            if not texts:
                self._refuse(None, None, None)
            for value_id, text in texts.items():
                self._set_leaf(None, "", value_id, text)
        return self

    def set_value(self, value_id: str, value: Cell | Callable[[Any], Cell]) -> Self:
        """Set one value, given as such or as a callable that makes it from the present one (or `MISSING`)."""
        value_id = check_id(value_id)
        if callable(value):
            value = value(self.get_value(value_id))
        text = cell_text(value)
        with self._writing():
            self._set_leaf(None, "", value_id, text)
        return self

    def del_values(self) -> Self:
        """Delete all values; those with a default go back to it."""
        with self._writing():
            for value_id in self.get_value_ids():
                self._delete_leaf(None, "", value_id)
        return self

    def del_value(self, value_id: str) -> Self:
        """Delete a value; where a schema has a default, it goes back to that."""
        value_id = check_id(value_id)
        with self._writing():
            if self.has_value(value_id):
                self._delete_leaf(None, "", value_id)
        return self

    def _writing(self) -> AbstractContextManager[None]:
        """One level of a transaction around a setter."""
        return _Level(self)


class _Level:
    """What `Writing._writing` gives: lighter than a generator, and no savepoint: setters fail before they write."""

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
