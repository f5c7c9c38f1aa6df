"""Taking stamps from elsewhere: merging a peer's changes, and loading what a persister kept (protocol section 7).

Bodies were checked before they come here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergesync.exceptions import ClockDriftError, TransactionError
from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS
from mergesync.store.bodies import hlc_of
from mergesync.store.building import Built, build
from mergesync.store.bulk import collector_paused
from mergesync.store.leaves import news_in, replace_shown, take
from mergesync.store.listening import Listening
from mergesync.store.stamps import Stamp, shown_text
from mergesync.store.transaction import NEW, Transaction
from mergesync.store.tree import Leaves, Row, Table, Tables

__all__ = ["Merging"]


class Merging(Listening):
    """The two ways in for stamps that were made elsewhere."""

    # --- merging

    def _merge(self, tables: Any, values: Any) -> None:
        """Take what is newer; the clock then takes note of the greatest HLC that counts."""
        with collector_paused(), self._writing():
            if self._depth == 1 and not self._has_schema and self._tree.is_blank:
                newest = self._replace_tree(tables, values, hashed=False)
            else:
                newest = self._merge_tables(tables)
                newest = max(newest, self._merge_hlc(self._tree.values, hlc_of(values), None, None))
                news, newest = news_in(values[0], self._tree.values.stamps, newest)
                if len(news) < len(values[0]):
                    self._transaction.left_out = True
                if news:
                    self._replace_some(self._tree.values, None, "", news)
            self._transaction.merges += 1
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
        children, has_schema = table.children, self._has_schema
        for row_id, said in rows.items():
            row = children.get(row_id)
            is_new = row is None
            if row is None:
                row = self._new_row(table, table_id, row_id)
            leaves = said[0]
            if not leaves:
                if not (hlc_of(said) or row.stamps or row.hlc):
                    self._flip_trace(table, table_id, row_id)
            elif is_new and row.before is NEW and not has_schema:
                newest = self._take_row(table, table_id, row_id, row, leaves, newest)
            else:
                news, newest = news_in(leaves, row.stamps, newest)
                if len(news) < len(leaves):
                    self._transaction.left_out = True
                if news:
                    self._replace_some(row, table_id, row_id, news)
            if len(said) > 1:
                newest = max(newest, self._merge_hlc(row, hlc_of(said), table_id, row_id))
            if has_schema and row.live:
                self._fill_defaults(table_id, row_id)
        return newest

    def _take_row(self, table: Table, table_id: str, row_id: str, row: Row, said: Any, newest: str) -> str:
        """Take all leaves of a row that is new; returns the greatest HLC so far."""
        begun: list[str] = []
        row.live, newest = take(said, row.stamps, table.cells, begun, newest)
        for cell_id in begun:
            self._tree.order.goes_last(table.cells, cell_id)
        if row.live:
            self._tree.count_row(table_id, table, row_id, 1)
        return newest

    def _replace_some(self, leaves: Leaves, table_id: str | None, row_id: str, news: dict[str, Stamp]) -> None:
        """Put stamps that win in their places."""
        if leaves.before is None:
            leaves = self._values() if table_id is None else self._row(table_id, row_id)
        before, has_schema = leaves.before, self._has_schema
        assert before is not None
        if (
            has_schema
            or before is NEW
            or self._transaction.journal is not None
            or not replace_shown(leaves.stamps, news, before)
        ):
            for leaf_id, stamp in news.items():
                if has_schema:
                    self._refuse_unfit(table_id, row_id, leaf_id, stamp)
                shows = self._shows(table_id, leaf_id, stamp)
                self._put(leaves, table_id, row_id, leaf_id, leaves.stamps.get(leaf_id), stamp, shows)

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

    def _load(self, tables: Any, values: Any) -> None:
        """Replace everything; hashes are believed."""
        if self._depth:
            raise TransactionError("content cannot be replaced in the middle of a transaction")
        self.start_transaction()
        try:
            newest = self._replace_tree(tables, values, hashed=True)
            if self._has_schema:
                self._judge()
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

    def adopt(self, built: Built) -> bool:
        """Take a tree that was made elsewhere as it is, if that comes to the same as loading or merging what is in it.

        So it is if the store is blank, and nobody listens and no schema is set: then it costs nothing.

        Returns:
            Whether it was taken.

        Raises:
            ClockDriftError: a stamp is more than five minutes in the future; nothing changed.
        """
        if self._depth or self._has_schema or self._listeners.entries or not self._tree.is_blank:
            return False
        if built.newest > self._clock.latest_allowed():
            raise ClockDriftError(built.newest, MAX_CLOCK_OFFSET_MILLISECONDS)
        self._tree = built.tree
        self._transaction = Transaction(self._tree)
        self._clock.observe(built.newest)
        return True

    def _replace_tree(self, tables: Any, values: Any, *, hashed: bool) -> str:
        """Another tree, in the running transaction; returns the greatest HLC in it."""
        old = self._transaction
        self._tree, newest = build(tables, values, hashed=hashed)
        self._transaction = Transaction(self._tree, replaced=old)
        if self._listeners.entries:  # else nobody will ask what changed
            self._compare_with(old)
        return newest

    def _judge(self) -> None:
        """Let the schema say what shows of a tree that was made without it."""
        for table_id, row_id, row in self._tree.rows():
            for cell_id, stamp in row.stamps.items():
                self._refuse_unfit(table_id, row_id, cell_id, stamp)
        for value_id, stamp in self._tree.values.stamps.items():
            self._refuse_unfit(None, "", value_id, stamp)
        for table in self._tree.tables.children.values():
            table.cells = {}
        self._tree.recount(self._shows)

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
