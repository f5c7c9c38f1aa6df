"""The heart of a store: one stamped tree, one clock, and transactions around every change.

The other modules of this storey are its doors: `reading`, `writing`, `schemas`, `listening`, `merging` and `mergeable`
add the methods that users know. Everything that changes a stamp passes `_put`, or makes a whole row in `merging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from mergesync.exceptions import ClockError, TransactionError
from mergesync.store.cells import TOMBSTONE, check_id
from mergesync.store.changes import NetChanges, net_changes
from mergesync.store.hlc import HybridLogicalClock, client_part
from mergesync.store.listeners import ListenerIndex
from mergesync.store.notify import Round, call_all
from mergesync.store.schema import NO_SCHEMA, Schema
from mergesync.store.stamps import (
    COLON,
    NO_HLC,
    PLAIN,
    Stamp,
    cell_of,
    hlc_in,
    is_live,
    says,
    shown_text,
    text_in,
    wire_text,
)
from mergesync.store.transaction import NEW, Transaction
from mergesync.store.tree import Leaves, Row, Table, Tree
from mergesync.system import get_now as system_now
from mergesync.system import new_id as system_new_id
from mergesync.types import MISSING, CellOrMissing, GetNow

__all__ = ["StoreCore"]

_NO_STAMPS: Final[dict[str, Stamp]] = {}


class StoreCore:
    """State and transactions of a store; see `MergeableStore` for what is public."""

    def __init__(self, unique_id: str | None = None, *, get_now: GetNow | None = None) -> None:
        client = system_new_id(5) if unique_id is None else client_part(check_id(unique_id))
        self._tree = Tree()
        self._clock = HybridLogicalClock(client, get_now or system_now)
        self._schema = NO_SCHEMA
        self._old_schema = NO_SCHEMA  # that at the beginning of the transaction
        self._has_schema = False  # of the two above, either
        self._listeners = ListenerIndex()
        self._depth = 0
        self._transaction = Transaction(self._tree)
        self._may_write = True
        self._neutral = False  # writing default content, which has the empty HLC
        self._afterwards: Callable[[], None] | None = None  # what waits for the end of the transaction

    # --- transactions

    def is_in_transaction(self) -> bool:
        """Whether a transaction is running."""
        return self._depth > 0

    def start_transaction(self) -> None:
        """Begin a transaction, or a level of the running one; `finish_transaction` must follow.

        Raises:
            TransactionError: a listener that may only look tries to write.
        """
        if not self._may_write:
            raise TransactionError("a listener can only write if it was added with mutator=True")
        self._depth += 1
        if self._depth == 1 and self._listeners.entries and self._listeners.has("start_transaction", False):
            try:
                call_all(self, "start_transaction")
            except BaseException:
                self._abandon()
                raise

    def finish_transaction(self, do_rollback: Callable[..., bool] | None = None) -> None:
        """End the innermost level; at the outermost, tell the listeners.

        Args:
            do_rollback: called with the store at the outermost level; if it returns true, all is taken back.

        Raises:
            TransactionError: no transaction is running.
        """
        if self._depth > 1:
            self._depth -= 1
        elif self._depth == 0:
            raise TransactionError("no transaction is running")
        elif do_rollback is None and not self._listeners.entries:
            self._transaction.settle()
            self._end()
        else:
            self._finish_heard(do_rollback)

    def _finish_heard(self, do_rollback: Callable[..., bool] | None) -> None:
        """End the transaction in the hearing of listeners, in the peer's order."""
        listeners = self._listeners
        errors: list[Exception] = []
        try:
            if listeners.has_any(True):
                Round(self, None).tell()
            if do_rollback is not None and do_rollback(self):
                self._take_back()
            if listeners.has("will_finish_transaction", False):
                call_all(self, "will_finish_transaction", errors)
        except BaseException:
            self._abandon()
            raise
        outcome = "the changes stand"
        if errors:
            self._take_back()
            outcome = "everything is taken back"
        self._settle()
        try:
            if listeners.has_any(False) and not errors:
                Round(self, errors).tell()
            call_all(self, "did_finish_transaction", errors)
        finally:
            self._end()
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup(f"listeners failed; {outcome}", errors)

    def _settle(self) -> None:
        """From here on the transaction stands, and nobody may write."""
        self._may_write = False
        self._transaction.settle()

    def _take_back(self) -> None:
        """Bring back the exact old state; the transaction goes on as an empty one."""
        while self._transaction.replaced is not None:
            self._transaction = self._transaction.replaced
            self._tree = self._transaction.tree
        self._transaction.rollback(self._shows)
        self._transaction.close()

    def _abandon(self) -> None:
        """Take everything back and end the transaction without a word."""
        self._take_back()
        self._end()

    def _end(self) -> None:
        self._transaction.close()
        if self._old_schema is not self._schema:
            self._old_schema = self._schema
            self._has_schema = bool(self._schema)
        self._may_write = True
        self._depth = 0
        if self._afterwards is not None:
            afterwards, self._afterwards = self._afterwards, None
            afterwards()

    @contextmanager
    def _savepoint(self, do_rollback: Callable[..., bool] | None = None) -> Iterator[None]:
        """A transaction; inside another one, it can be taken back alone."""
        savepoint = self._transaction.savepoint() if self._depth else None
        self.start_transaction()
        try:
            yield
        except BaseException:
            self._fail_level()
            if savepoint is not None:
                self._transaction.rollback_to(savepoint, self._shows)
            raise
        self.finish_transaction(do_rollback)

    def _fail_level(self) -> None:
        """An exception leaves a level of the transaction; whoever began the outermost takes everything back."""
        if self._depth == 1:
            self._abandon()
        elif self._depth:
            self._depth -= 1

    def _net_changes(self) -> NetChanges:
        """What the running transaction amounts to until now."""
        return net_changes(self._transaction, self._old_text, self._text)

    def _cell_change(self, table_id: str, row_id: str, cell_id: str) -> tuple[bool, CellOrMissing, CellOrMissing]:
        """`(touched, old, new)` of a cell in the running transaction, as things are now."""
        row = self._find_row(table_id, row_id) or self._transaction.vanished.get((table_id, row_id))
        return (False, MISSING, MISSING) if row is None else self._leaf_change(table_id, row, cell_id)

    def _value_change(self, value_id: str) -> tuple[bool, CellOrMissing, CellOrMissing]:
        """`(touched, old, new)` of a value in the running transaction, as things are now."""
        return self._leaf_change(None, self._tree.values, value_id)

    def _leaf_change(
        self, table_id: str | None, leaves: Leaves, leaf_id: str
    ) -> tuple[bool, CellOrMissing, CellOrMissing]:
        stamp, before = leaves.stamps.get(leaf_id), leaves.before
        new = self._show(table_id, leaf_id, stamp)
        if before is NEW:
            return stamp is not None, MISSING, new
        if before is None or leaf_id not in before:
            return False, new, new
        return True, cell_of(self._old_text(table_id, leaf_id, before[leaf_id])), new

    # --- what shows

    def _text(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> bytes:
        """The JSON text that shows of a stamp of a row, or of a value if the table id is None; empty if none does."""
        text = shown_text(stamp)
        return self._schema.fitted(table_id, leaf_id, text) if text and self._has_schema else text

    def _old_text(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> bytes:
        """The same, as it was when the transaction began."""
        text = shown_text(stamp)
        return self._old_schema.fitted(table_id, leaf_id, text) if text and self._has_schema else text

    def _show(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> CellOrMissing:
        """What an application sees of a stamp."""
        if self._has_schema:
            return cell_of(self._text(table_id, leaf_id, stamp))
        return MISSING if stamp is None else cell_of(text_in(stamp))

    def _shows(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> bool:
        """Whether an application sees anything of a stamp."""
        if stamp is None:
            return False
        if self._has_schema:
            return self._text(table_id, leaf_id, stamp) != b""
        return stamp < PLAIN or is_live(stamp)

    def has_schema(self) -> bool:
        """Whether the tables or the values have a schema."""
        return bool(self._schema)

    def fits_schema(self, table_id: str | None, leaf_id: str, wire: Any) -> bool:
        """Whether the schema allows a wire form in a cell of a table, or in a value if the table id is None."""
        if wire == TOMBSTONE or not self._schema.has_rules(table_id):
            return True
        text = shown_text(wire_text(wire) + NO_HLC)
        return text != b"" and self._schema.admits(table_id, leaf_id, text)

    # --- finding: by ids as they are kept; what is not found so may be no id, or one that is kept in another form

    def _find_table(self, table_id: str) -> Table | None:
        tables = self._tree.tables.children
        try:
            table = tables.get(table_id)
        except TypeError:  # cannot be hashed
            table = None
        return table if table is not None else tables.get(check_id(table_id))

    def _find_row(self, table_id: str, row_id: str) -> Row | None:
        try:
            row = self._tree.tables.children[table_id].children[row_id]
        except (KeyError, TypeError):
            table, row_id = self._find_table(table_id), check_id(row_id)
            return None if table is None else table.children.get(row_id)
        return row

    def _find_stamp(self, leaves: Leaves | None, leaf_id: str) -> Stamp | None:
        stamps = _NO_STAMPS if leaves is None else leaves.stamps
        try:
            stamp = stamps.get(leaf_id)
        except TypeError:
            stamp = None
        return stamp if stamp is not None else stamps.get(check_id(leaf_id))

    def _live_rows(self, table: Table | None) -> list[tuple[str, Row]]:
        """The rows of a table that show, in order."""
        if table is None:
            return []
        rows = table.children
        return [(row_id, rows[row_id]) for row_id in self._tree.order.ids(rows) if rows[row_id].live]

    # --- changing stamps; ids are checked by whoever calls

    def _row(self, table_id: str, row_id: str) -> Row:
        """A row to be changed, made if there is none, and known to the transaction."""
        table = self._tree.tables.children.get(table_id)
        if table is None:
            table = self._new_table(table_id)
        row = table.children.get(row_id)
        if row is None:
            return self._new_row(table, table_id, row_id)
        if row.before is None:
            row.before = {}
            self._transaction.rows.append((table_id, row_id, row))
        return row

    def _new_table(self, table_id: str) -> Table:
        table = self._tree.tables.children[table_id] = Table()
        self._transaction.tables.append(table_id)
        return table

    def _new_row(self, table: Table, table_id: str, row_id: str) -> Row:
        transaction = self._transaction
        row = transaction.vanished.get((table_id, row_id)) if transaction.vanished else None
        if row is None:
            row = Row()
            row.before = NEW
            transaction.rows.append((table_id, row_id, row))
        table.children[row_id] = row
        return row

    def _values(self) -> Leaves:
        """The values, to be changed, and known to the transaction."""
        values = self._tree.values
        if values.before is None:
            values.before = {}
        return values

    def _put(
        self,
        leaves: Leaves,
        table_id: str | None,
        row_id: str,
        leaf_id: str,
        old: Stamp | None,
        stamp: Stamp,
        lives: bool,
    ) -> None:
        """Replace a stamp of a row or value that the transaction knows; keep the counts of what shows.

        Args:
            leaves: what `_row` or `_values` gave.
            table_id: the table, or None for a value.
            row_id: the row, or empty for a value.
            leaf_id: the cell or value.
            old: its stamp until now, if there was one.
            stamp: the new one.
            lives: whether the new one shows.
        """
        before = leaves.before
        first = before is not NEW and leaf_id not in before  # type: ignore[operator]
        if first:
            before[leaf_id] = old  # type: ignore[index]
        journal = self._transaction.journal
        if journal is not None:
            journal.append((table_id, row_id, leaves, leaf_id, old, first))
        leaves.stamps[leaf_id] = stamp
        if lives is not (old is not None and self._shows(table_id, leaf_id, old)):
            tree = self._tree
            if lives and (old is not None or tree.order.moved):  # else it is the last one now
                tree.order.goes_last(leaves.stamps, leaf_id)
            tree.count(table_id, row_id, leaves, leaf_id, 1 if lives else -1)

    def _write(self, leaves: Leaves, table_id: str | None, row_id: str, leaf_id: str, text: bytes) -> None:
        """A local write of a text that the schema admits, or of a tombstone (protocol section 6).

        All writes of a transaction have one time, that of the first; each has a stamp of its own, unless what shows is
        already so. Default content has the empty HLC, which never displaces a real one (departure from surprise 4).
        """
        old = leaves.stamps.get(leaf_id)
        if old is not None and (says(old, text) or (self._neutral and old[-1] != COLON)):
            return
        transaction = self._transaction
        transaction.has_writes = True
        if self._neutral:
            self._put(leaves, table_id, row_id, leaf_id, old, text + NO_HLC, text != b"")
            return
        if transaction.has_time:
            hlc = self._clock.tick_again()
        else:
            hlc = self._clock.tick()
            transaction.has_time = True
        if old is not None and old[-1] != COLON and hlc <= hlc_in(old):
            raise ClockError(f"the clock made {hlc!r}, which is not above {hlc_in(old)!r} in the store")
        self._put(leaves, table_id, row_id, leaf_id, old, text + f":{hlc}".encode(), text != b"")

    def _change_schema(self, schema: Schema) -> None:
        """Another schema, and so another view of the same stamps; the transaction hears of what shows otherwise."""
        old, had_schema = self._schema, self._has_schema

        def undo() -> None:
            self._schema, self._has_schema = old, had_schema
            self._tree.recount(self._shows)

        self._transaction.on_rollback(undo)
        for table_id, row_id, row in self._tree.rows():
            self._touch_where_otherwise(table_id, row_id, row, schema)
        self._touch_where_otherwise(None, "", self._tree.values, schema)
        self._schema, self._has_schema = schema, True  # until the end of the transaction, there are two views
        self._tree.recount(self._shows)

    def _touch_where_otherwise(self, table_id: str | None, row_id: str, leaves: Leaves, schema: Schema) -> None:
        transaction = self._transaction
        for leaf_id, stamp in leaves.stamps.items():
            text = shown_text(stamp)
            if text and self._schema.fitted(table_id, leaf_id, text) != schema.fitted(table_id, leaf_id, text):
                before = (self._values() if table_id is None else self._row(table_id, row_id)).before
                if before is not None and before is not NEW and leaf_id not in before:
                    before[leaf_id] = stamp
                    if transaction.journal is not None:
                        transaction.journal.append((table_id, row_id, leaves, leaf_id, stamp, True))

    # --- hashes

    def _ready_hashes(self) -> Tree:
        """The tree, with hashes right even in the middle of a transaction."""
        if self._depth and self._may_write:
            self._transaction.settle_hashes()
        self._tree.hashed = True
        return self._tree
