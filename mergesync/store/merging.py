"""Taking stamps from elsewhere: merging a peer's changes, and loading what a persister kept (protocol section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergesync.exceptions import TransactionError
from mergesync.store.bodies import canonical_wire, hlc_of
from mergesync.store.cells import TOMBSTONE
from mergesync.store.listening import Listening
from mergesync.store.stamps import Leaves, Row, Stamp, Table, Tables

__all__ = ["Merging"]

_MODULUS = 2**32


class Merging(Listening):
    """The two ways in for stamps that were made elsewhere. Bodies were checked before they come here."""

    # --- merging

    def _merge(self, tables: Any, values: Any) -> None:
        """Take what is newer; the clock then takes note of the greatest HLC that counts."""
        with self._writing():
            newest = max(
                self._merge_tables(tables),
                self._merge_hlc(self._tree.values, hlc_of(values), None),
                self._merge_newer(self._tree.values, None, "", values[0]),
            )
            self._clock.observe(newest)

    def _merge_tables(self, tables: Any) -> str:
        newest = self._merge_hlc(self._tree.tables, hlc_of(tables), None)
        for table_id, table in tables[0].items():
            newest = max(newest, self._merge_table(table_id, table[0], hlc_of(table)))
        return newest

    def _merge_table(self, table_id: str, rows: Mapping[str, Any], hlc: str) -> str:
        table = self._tree.tables.children.get(table_id)
        if table is None:
            table = self._tree.tables.children[table_id] = Table()
            self._transaction.tables.append((table_id, table))
        if not (rows or hlc or table.children or table.hlc):
            self._flip_empty(self._tree.tables, table_id, None)
        newest = self._merge_hlc(table, hlc, table_id)
        for row_id, row in rows.items():
            found = self._merge_row(table, table_id, row_id, row[0], hlc_of(row))
            if found > newest:
                newest = found
        return newest

    def _merge_row(self, table: Table, table_id: str, row_id: str, cells: Mapping[str, Any], hlc: str) -> str:
        row = table.children.get(row_id)
        newest = ""
        if row is None:
            row = self._row(table_id, row_id)
            if cells:
                row.stamps = _stamps(cells)
                self._count(row, table_id, row_id, self._live(table_id, row))
                newest = max([stamp[1] for stamp in row.stamps.values()])
        elif cells:
            newest = self._merge_newer(row, table_id, row_id, cells)
        if not (hlc or row.stamps or row.hlc):
            self._flip_empty(table, row_id, table_id)
        if hlc:
            newest = max(newest, self._merge_hlc(row, hlc, table_id))
        if self._has_schema and row.live:
            self._fill_defaults(table_id, row_id)
        return newest

    def _merge_newer(self, leaves: Leaves, table_id: str | None, row_id: str, incoming: Mapping[str, Any]) -> str:
        """Take what is newer of a row or of the values; if nothing is, the transaction never hears of it."""
        stamps = leaves.stamps
        newer = {
            leaf_id: leaf
            for leaf_id, leaf in incoming.items()
            if (old := stamps.get(leaf_id)) is None or not old[1] or hlc_of(leaf) > old[1]
        }
        if not newer:
            return ""
        return self._merge_leaves(
            self._values() if table_id is None else self._row(table_id, row_id), table_id, row_id, newer
        )

    def _live(self, table_id: str | None, leaves: Leaves) -> int:
        """How many stamps show; the usual ones are told without a call."""
        live = 0
        for leaf_id, stamp in leaves.stamps.items():
            wire = stamp[0]
            if self._has_schema or (wire.__class__ is str and wire >= TOMBSTONE):
                live += self._shows(table_id, leaf_id, stamp)
            else:
                live += 1
        return live

    def _merge_hlc(self, container: Any, hlc: str, table_id: str | None) -> str:
        """A container's own stamp is replaced only by a greater one; it counts for the clock either way."""
        if hlc > container.hlc:
            old = container.hlc

            def undo() -> None:
                container.hlc = old
                self._forget_hash(container, table_id)

            self._transaction.on_rollback(undo)
            container.hlc = hlc
            self._forget_hash(container, table_id)
        return hlc

    def _flip_empty(self, parent: Tables | Table, child_id: str, table_id: str | None) -> None:
        """A body named an empty container that is not known to be more (protocol section 4)."""

        def flip() -> None:
            parent.flip_empty(child_id)
            self._forget_hash(parent, table_id)

        self._transaction.on_rollback(flip)
        flip()

    def _forget_hash(self, container: Any, table_id: str | None) -> None:
        """A container's hash is to be computed anew; those above it have to know before it is gone."""
        if table_id is not None:
            table = self._tree.tables.children[table_id]
            self._tree.soil_table(table_id, table)
            if container is not table:
                table.forget_hash()
        container.forget_hash()

    # --- loading

    def _load(self, tables: Any, values: Any, newest: str) -> None:
        """Replace everything; hashes are believed."""
        if self._depth:
            raise TransactionError("content cannot be replaced in the middle of a transaction")
        self.start_transaction()
        tree, transaction = self._tree, self._transaction
        old_tables, old_values = tree.tables, tree.values

        def undo() -> None:
            transaction.forget()
            tree.tables, tree.values = old_tables, old_values

        transaction.on_rollback(undo)
        tree.tables, tree.values = Tables(), Leaves()
        try:
            self._load_tables(tables)
            self._load_leaves(tree.values, None, values)
            vanished = self._compare_with(old_tables, old_values)
            transaction.content_loaded()
            self._clock.observe(newest)
        except BaseException:
            self._abandon()
            raise
        try:
            self.finish_transaction()
        finally:
            for table_id, row_id in vanished:
                _remove_empty(tree.tables, table_id, row_id)

    def _load_tables(self, tables: Any) -> None:
        target = self._tree.tables
        target.hlc = hlc_of(tables)
        for table_id, said in tables[0].items():
            table = target.children[table_id] = Table()
            table.hlc = hlc_of(said)
            for row_id, row_said in said[0].items():
                row = table.children[row_id] = Row()
                self._load_leaves(row, table_id, row_said)
                table.live += row.live > 0
            target.live += table.live > 0
            table.believe(int(said[2]) % _MODULUS)
        target.believe(int(tables[2]) % _MODULUS)

    def _load_leaves(self, leaves: Leaves, table_id: str | None, said: Any) -> None:
        leaves.hlc = hlc_of(said)
        leaves.stamps = _stamps(said[0])
        leaves.live = self._live(table_id, leaves)
        leaves.believe(
            {leaf_id: int(stamp[2]) % _MODULUS for leaf_id, stamp in said[0].items()}, int(said[2]) % _MODULUS
        )

    def _compare_with(self, old_tables: Tables, old_values: Leaves) -> list[tuple[str, str]]:
        """Let the transaction see the replaced stamps; returns the rows that are only there for that."""
        rows, tables = self._transaction.rows, self._tree.tables.children
        vanished = []
        for table_id, old_table in old_tables.children.items():
            for row_id, old_row in old_table.children.items():
                table = tables.setdefault(table_id, Table())
                if row_id not in table.children:
                    table.children[row_id] = Row()
                    vanished.append((table_id, row_id))
                table.children[row_id].before = _replaced(old_row, table.children[row_id])
        for table_id, table in tables.items():
            for row_id, row in table.children.items():
                row.created = row.before is None
                rows.append((table_id, row_id, row))
        self._tree.values.before = _replaced(old_values, self._tree.values)
        return vanished


def _stamps(leaves: Mapping[str, Any]) -> dict[str, Stamp]:
    """Checked leaves as the tree keeps them."""
    stamps = dict(zip(leaves, map(tuple, leaves.values()), strict=True))
    for leaf_id, stamp in stamps.items():
        if len(stamp) != 2 or stamp[0].__class__ is not str or stamp[1].__class__ is not str:
            stamps[leaf_id] = (canonical_wire(stamp[0]), hlc_of(stamp))
    return stamps


def _replaced(old: Leaves, new: Leaves) -> dict[str, Stamp | None]:
    before: dict[str, Stamp | None] = dict.fromkeys(new.stamps)
    before.update(old.stamps)
    return before


def _remove_empty(tables: Tables, table_id: str, row_id: str) -> None:
    table = tables.children.get(table_id)
    if table is not None:
        table.children.pop(row_id, None)
        if not table.children and not table.hlc:
            del tables.children[table_id]
