"""Writing checked texts into the tree: what a schema makes of them, what is deleted for them, what stamps they get.

With a schema (protocol section 6, and what TinyBase does beyond it): a cell that does not fit is told to the listeners
of invalid cells, and its default is written instead, if it has one. A row that is set gets the defaults that nobody has
written; those have the empty HLC, so that they lose against what anybody wrote elsewhere.
"""

from __future__ import annotations

from mergesync.store.jsjson import js_ordered
from mergesync.store.reading import Reading
from mergesync.store.row_ids import RowIds
from mergesync.store.said import TableTexts, Texts
from mergesync.store.stamps import COLON, NO_HLC, cell_of
from mergesync.store.tree import Leaves

__all__ = ["Placing"]

_DELETED = b""  # the text of a tombstone


class Placing(Reading):
    """The helpers of setters. They run in a transaction, with ids and texts that were checked."""

    # --- what a schema says

    def _refuse_cell(self, table_id: str | None, row_id: str | None, cell_id: str | None, text: bytes = b"") -> None:
        self._transaction.invalid_cells.setdefault((table_id, row_id, cell_id), []).append(cell_of(text))

    def _refuse(self, table_id: str | None, row_id: str | None, leaf_id: str | None, text: bytes = b"") -> None:
        """Let the listeners know that a cell, or a value if the table id is None, was refused, or is missing."""
        if table_id is None:
            self._transaction.invalid_values.setdefault(leaf_id, []).append(cell_of(text))
        else:
            self._refuse_cell(table_id, row_id, leaf_id, text)

    def _fit(self, table_id: str | None, row_id: str | None, leaf_id: str, text: bytes) -> bytes:
        """The text to be written: itself, or the default in its place, or empty for none."""
        if not self._has_schema or self._schema.admits(table_id, leaf_id, text):
            return text
        self._refuse(table_id, row_id, leaf_id, text)
        return self._schema.default(table_id, leaf_id)

    def _fit_some(self, table_id: str | None, row_id: str | None, texts: Texts) -> Texts:
        """Those of a row or of the values that can be written."""
        if not self._has_schema:
            return texts
        fitted = {leaf_id: self._fit(table_id, row_id, leaf_id, text) for leaf_id, text in texts.items()}
        return {leaf_id: text for leaf_id, text in fitted.items() if text}

    def _fit_all(self, table_id: str | None, row_id: str | None, texts: Texts) -> tuple[Texts, Texts]:
        """A whole row, or all values: what can be written, defaults included, and which of it are added defaults."""
        if not self._has_schema:
            return texts, {}
        added = {}
        for leaf_id, default in self._schema.rules(table_id):
            if leaf_id not in texts:
                if default:
                    added[leaf_id] = default
                else:
                    self._refuse(table_id, row_id, leaf_id)
        fitted = {**self._fit_some(table_id, row_id, texts), **added}
        return {leaf_id: fitted[leaf_id] for leaf_id in js_ordered(fitted)}, added

    # --- rows and values

    def _set_leaf(self, table_id: str | None, row_id: str, leaf_id: str, text: bytes) -> None:
        """Write one cell or value; a cell that begins a row brings the row's defaults."""
        text = self._fit(table_id, row_id, leaf_id, text)
        if not text:
            return
        if table_id is None:
            self._write(self._values(), None, "", leaf_id, text)
        elif self._has_schema and not self.has_row(table_id, row_id):
            row, added = self._fit_all(table_id, row_id, {leaf_id: text})
            self._place(self._row(table_id, row_id), table_id, row_id, row, added)
        else:
            self._write(self._row(table_id, row_id), table_id, row_id, leaf_id, text)

    def _place(self, leaves: Leaves, table_id: str | None, row_id: str, texts: Texts, added: Texts) -> None:
        """Write some leaves; of these, added defaults get no stamp of their own."""
        for leaf_id, text in texts.items():
            if leaf_id in added:
                self._add_default(leaves, table_id, row_id, leaf_id, text)
            else:
                self._write(leaves, table_id, row_id, leaf_id, text)

    def _add_default(self, leaves: Leaves, table_id: str | None, row_id: str, leaf_id: str, default: bytes) -> None:
        """Write a default with the empty HLC where nobody has written; what shows there is replaced like by any write.

        Where somebody deleted it stays so (departure: TinyBase shows the default, and the stamps say it is deleted).
        """
        old = leaves.stamps.get(leaf_id)
        if old is None:
            self._put(leaves, table_id, row_id, leaf_id, None, default + NO_HLC, True)
        elif self._shows(table_id, leaf_id, old) or old[-1] == COLON:
            self._write(leaves, table_id, row_id, leaf_id, default)

    def _fill_defaults(self, table_id: str | None, row_id: str) -> None:
        """Add the defaults that nobody has written to a row, or to the values."""
        leaves = self._values() if table_id is None else self._row(table_id, row_id)
        for leaf_id, default in self._schema.rules(table_id):
            if default and leaf_id not in leaves.stamps:
                self._transaction.has_writes = True
                self._put(leaves, table_id, row_id, leaf_id, None, default + NO_HLC, True)

    def _replace_leaves(self, leaves: Leaves, table_id: str | None, row_id: str, texts: Texts, added: Texts) -> None:
        """Write the new ones, then delete the others in the order of the store."""
        self._place(leaves, table_id, row_id, texts, added)
        if leaves.live > len(texts) or leaves.stamps.keys() - texts.keys():
            for leaf_id in self._shown_ids(table_id, leaves):
                if leaf_id not in texts:
                    self._write(leaves, table_id, row_id, leaf_id, _DELETED)

    def _replace_row(self, table_id: str, row_id: str, texts: Texts) -> bool:
        """Replace a row; false if nothing is left of it, which changes nothing."""
        row, added = self._fit_all(table_id, row_id, texts)
        if row:
            self._replace_leaves(self._row(table_id, row_id), table_id, row_id, row, added)
        elif not texts:
            self._refuse_cell(table_id, row_id, None)
        return bool(row)

    def _add_row(self, table_id: str, texts: Texts, reuse: bool) -> str | None:
        """A row under a new id; its defaults are stamped like any write."""
        row, _ = self._fit_all(table_id, None, texts)
        if not row:
            if not texts:
                self._refuse_cell(table_id, None, None)
            return None
        table = self._tree.tables.children.get(table_id)
        row_ids = (table.row_ids if table is not None and table.live else None) or RowIds()
        row_id = row_ids.take(lambda row_id: self.has_row(table_id, row_id), reuse)
        self._place(self._row(table_id, row_id), table_id, row_id, row, {})
        self._tree.tables.children[table_id].row_ids = row_ids
        return row_id

    def _replace_values(self, texts: Texts) -> None:
        values, added = self._fit_all(None, None, texts)
        self._replace_leaves(self._values(), None, "", values, added)

    # --- tables

    def _replace_table(self, table_id: str, table: TableTexts) -> bool:
        """Replace a table; false if nothing is left of it, which changes nothing."""
        if not table:
            self._refuse_cell(table_id, None, None)
            return False
        kept = {row_id for row_id, row in table.items() if self._replace_row(table_id, row_id, row)}
        if kept:
            for row_id in self.get_row_ids(table_id):
                if row_id not in kept:
                    self._delete_row(table_id, row_id)
        return bool(kept)

    def _replace_tables(self, tables: dict[str, TableTexts]) -> None:
        kept = {table_id for table_id, table in tables.items() if self._replace_table(table_id, table)}
        if kept or not tables:
            for table_id in self.get_table_ids():
                if table_id not in kept:
                    self._delete_table(table_id)

    def _delete_table(self, table_id: str) -> None:
        for row_id in self.get_row_ids(table_id):
            self._delete_row(table_id, row_id)

    def _delete_row(self, table_id: str, row_id: str) -> None:
        if self.has_row(table_id, row_id):
            row = self._row(table_id, row_id)
            for cell_id in self._shown_ids(table_id, row):
                self._write(row, table_id, row_id, cell_id, _DELETED)
            table = self._tree.tables.children[table_id]
            if table.live:
                if table.row_ids is None:
                    table.row_ids = RowIds()
                table.row_ids.release(row_id)

    def _delete_leaf(self, table_id: str | None, row_id: str, leaf_id: str) -> None:
        """Delete a cell or value that shows; where a schema has a default, it goes back to that."""
        default = self._schema.default(table_id, leaf_id)
        leaves = self._values() if table_id is None else self._row(table_id, row_id)
        self._write(leaves, table_id, row_id, leaf_id, default or _DELETED)
