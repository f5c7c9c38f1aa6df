"""Taking stamps from elsewhere: merging a peer's changes, and loading what a persister kept (protocol section 7).

Bodies were checked before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mergesync.exceptions import TransactionError
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import string_text
from mergesync.store.listening import Listening
from mergesync.store.stamps import COLON, Stamp, is_live, pack, shown_text, stamp_hash
from mergesync.store.transaction import NEW, Transaction
from mergesync.store.tree import Leaves, Row, Table, Tables, Tree

__all__ = ["Merging"]

_MODULUS: Final = 2**32


class Merging(Listening):
    """The two ways in for stamps that were made elsewhere."""

    # --- merging

    def _merge(self, tables: Any, values: Any) -> None:
        """Take what is newer; the clock then takes note of the greatest HLC that counts."""
        with self._writing():
            newest = max(
                self._merge_tables(tables),
                self._merge_hlc(self._tree.values, hlc_of(values), None, None),
                self._merge_leaves(self._tree.values, None, "", values[0]),
            )
            self._clock.observe(newest)

    def _merge_tables(self, tables: Any) -> str:
        newest = self._merge_hlc(self._tree.tables, hlc_of(tables), None, None)
        for table_id, table in tables[0].items():
            newest = max(newest, self._merge_table(table_id, table[0], hlc_of(table)))
        return newest

    def _merge_table(self, table_id: str, rows: Mapping[str, Any], hlc: str) -> str:
        table = self._tree.tables.children.get(table_id)
        if table is None:
            table = self._new_table(table_id)
        if not (rows or hlc or table.children or table.hlc):
            self._flip_trace(self._tree.tables, None, table_id)
        newest = self._merge_hlc(table, hlc, table_id, None)
        for row_id, said in rows.items():
            row = table.children.get(row_id)
            is_new = row is None
            if row is None:
                row = self._new_row(table, table_id, row_id)
            if not said[0]:
                found = ""
                if not (hlc_of(said) or row.stamps or row.hlc):
                    self._flip_trace(table, table_id, row_id)
            elif is_new:
                found = self._take_all(table, table_id, row_id, row, said[0])
            else:
                found = self._merge_leaves(row, table_id, row_id, said[0])
            if len(said) > 1:
                found = max(found, self._merge_hlc(row, hlc_of(said), table_id, row_id))
            if found > newest:
                newest = found
            if self._has_schema and row.live:
                self._fill_defaults(table_id, row_id)
        return newest

    def _take_all(self, table: Table | None, table_id: str | None, row_id: str, leaves: Leaves, said: Any) -> str:
        """Take all leaves of a row that is new, or values that are; returns the greatest HLC."""
        newest, live = "", 0
        stamps = leaves.stamps
        counts = {} if table is None else table.cells
        for leaf_id, leaf in said.items():
            wire = leaf[0]
            hlc = (leaf[1] or "") if len(leaf) > 1 else ""
            if hlc > newest:
                newest = hlc
            # The common case, a plain string, is told to show without a look at the stamp.
            if wire.__class__ is str and wire < TOMBSTONE:
                stamp: Stamp = b":".join((string_text(wire), hlc.encode()))
                shows = True
            else:
                stamp = pack(wire, hlc)
                shows = is_live(stamp)
            stamps[leaf_id] = stamp
            if self._has_schema:
                self._refuse_unfit(table_id, row_id, leaf_id, stamp)
                shows = shows and self._shows(table_id, leaf_id, stamp)
            if shows:
                live += 1
                self._tree.count_cell(counts, leaf_id)
        leaves.live = live
        if live and table is not None and table_id is not None:
            self._tree.count_row(table_id, table, row_id, 1)
        return newest

    def _merge_leaves(self, leaves: Leaves, table_id: str | None, row_id: str, said: Mapping[str, Any]) -> str:
        """Take what is newer; returns the greatest HLC taken."""
        stamps = leaves.stamps
        newest = ""
        for leaf_id, leaf in said.items():
            hlc = (leaf[1] or "") if len(leaf) > 1 else ""
            old = stamps.get(leaf_id)
            if old is not None and old[-1] != COLON and hlc <= old[-16:].decode():
                continue
            stamp = pack(leaf[0], hlc)
            if stamp == old:
                continue
            if leaves.before is None:
                if table_id is None:
                    self._values()
                else:
                    self._row(table_id, row_id)
            if hlc > newest:
                newest = hlc
            if self._has_schema:
                self._refuse_unfit(table_id, row_id, leaf_id, stamp)
            self._put(leaves, table_id, row_id, leaf_id, stamp, self._shows(table_id, leaf_id, stamp))
        return newest

    def _refuse_unfit(self, table_id: str | None, row_id: str, leaf_id: str, stamp: Stamp) -> None:
        """Tell what a schema keeps from showing; it is stamped and passed on all the same (surprise 24)."""
        text = shown_text(stamp)
        if text and not self._schema.admits(table_id, leaf_id, text):
            self._refuse(table_id, row_id, leaf_id, text)

    def _merge_hlc(self, container: Any, hlc: str, table_id: str | None, row_id: str | None) -> str:
        """A container's own stamp is replaced only by a greater one; it counts for the clock either way."""
        if hlc > container.hlc:
            old = container.hlc
            self._set_hlc(container, hlc, table_id, row_id)
            self._transaction.on_rollback(lambda: self._set_hlc(container, old, table_id, row_id))
        return hlc

    def _set_hlc(self, container: Any, hlc: str, table_id: str | None, row_id: str | None) -> None:
        if row_id is not None and table_id is not None:
            self._tree.soil_row(table_id, row_id)
        elif table_id is not None:
            self._tree.soil_table(table_id)
        container.set_hlc(hlc)

    def _flip_trace(self, parent: Tables | Table, table_id: str | None, child_id: str) -> None:
        """A body named a container in which there is nothing, and of which nothing was known (protocol section 4)."""

        def flip() -> None:
            if table_id is not None:
                self._tree.soil_table(table_id)
            parent.flip_trace(child_id)

        self._transaction.on_rollback(flip)
        flip()

    # --- loading

    def _load(self, tables: Any, values: Any, newest: str) -> None:
        """Replace everything; hashes are believed."""
        if self._depth:
            raise TransactionError("content cannot be replaced in the middle of a transaction")
        self.start_transaction()
        try:
            old = self._transaction
            self._tree = Tree()
            self._transaction = Transaction(self._tree, replaced=old)
            self._load_tables(tables)
            self._load_leaves(self._tree.values, None, None, "", values)
            if self._listeners:  # else nobody will ask what changed
                self._compare_with(old)
            self._transaction.hashes_are_settled()
            if self._has_schema:
                for table_id, row_id, row in list(self._tree.rows()):
                    if row.live:
                        self._fill_defaults(table_id, row_id)
                self._fill_defaults(None, "")
            self._clock.observe(newest)
        except BaseException:
            self._abandon()
            raise
        self.finish_transaction()

    def _load_tables(self, said: Any) -> None:
        tables = self._tree.tables
        tables.hlc = hlc_of(said)
        for table_id, table_said in said[0].items():
            table = tables.children[table_id] = Table()
            table.hlc = hlc_of(table_said)
            for row_id, row_said in table_said[0].items():
                row = table.children[row_id] = Row()
                self._load_leaves(row, table, table_id, row_id, row_said)
            table.believe(int(table_said[2]) % _MODULUS)
        tables.believe(int(said[2]) % _MODULUS)

    def _load_leaves(self, leaves: Leaves, table: Table | None, table_id: str | None, row_id: str, said: Any) -> None:
        leaves.hlc = hlc_of(said)
        self._take_all(table, table_id, row_id, leaves, said[0])
        wrong = {}
        for leaf_id, stamp in leaves.stamps.items():
            hash_ = said[0][leaf_id][2]
            if hash_ != stamp_hash(stamp):
                wrong[leaf_id] = stamp, int(hash_) % _MODULUS
        leaves.believe(int(said[2]) % _MODULUS, wrong)

    def _compare_with(self, old: Transaction) -> None:
        """Let the transaction know the stamps that were replaced, so that listeners hear what changed."""
        transaction, tree = self._transaction, self._tree
        for table_id, row_id, row in tree.rows():
            transaction.rows.append((table_id, row_id, row))
            row.before = NEW
        for table_id, row_id, old_row in old.tree.rows():
            table = tree.tables.children.get(table_id)
            row_now = None if table is None else table.children.get(row_id)
            if row_now is None:
                row_now = transaction.vanished[table_id, row_id] = Row()
                transaction.rows.append((table_id, row_id, row_now))
            row_now.before = {**dict.fromkeys(row_now.stamps), **old.original(old_row)}
        tree.values.before = {**dict.fromkeys(tree.values.stamps), **old.original(old.tree.values)}
