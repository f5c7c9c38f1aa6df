"""The heart of a store: one stamped tree, one clock, and transactions around every change.

The other modules of this storey are its doors: `reading`, `writing`, `listening` and `mergeable` add the methods that
users know. Everything that changes a stamp passes `_write`, `_merge_row` or `_load_row` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mergesync.exceptions import ClockError, TransactionError
from mergesync.store.bodies import canonical_wire, hlc_of
from mergesync.store.cells import TOMBSTONE, check_id, decode_cell, is_live, same_wire
from mergesync.store.hlc import HybridLogicalClock, client_part
from mergesync.store.listeners import ListenerIndex
from mergesync.store.notify import guarded, notify
from mergesync.store.row_ids import RowIds
from mergesync.store.schema import Schema
from mergesync.store.stamps import Leaves, Row, Stamp, Table, Tree
from mergesync.store.transaction import NetChanges, Transaction
from mergesync.system import get_now as system_now
from mergesync.system import new_id as system_new_id
from mergesync.types import MISSING, CellOrMissing, GetNow

__all__ = ["StoreCore"]


class StoreCore:
    """State and transactions of a store; see `MergeableStore` for what is public."""

    def __init__(self, unique_id: str | None = None, *, get_now: GetNow | None = None) -> None:
        client = system_new_id(5) if unique_id is None else client_part(check_id(unique_id))
        self._tree = Tree()
        self._clock = HybridLogicalClock(client, get_now or system_now)
        self._schema = Schema()
        self._schema_before: Schema | None = None  # what it was before the running transaction changed it
        self._has_schema = False
        self._listeners = ListenerIndex()
        self._depth = 0
        self._transaction = Transaction(self._tree)
        self._net_changes: NetChanges | None = None
        self._may_write = True
        self._neutral = False  # writing default content, which has the empty HLC
        self._row_ids: dict[str, RowIds] = {}  # by table, for add_row

    # --- transactions

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, or its listeners are being told."""
        return self._depth > 0

    def start_transaction(self) -> None:
        """Begin a transaction, or a level of the running one; `finish_transaction` must follow.

        Raises:
            TransactionError: a listener that may only look tries to write.
        """
        if not self._may_write:
            raise TransactionError("a listener can only write if it was added with mutator=True")
        self._depth += 1
        if self._depth == 1:
            try:
                self._call_listeners("start_transaction")
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
        if self._depth == 0:
            raise TransactionError("no transaction is running")
        if self._depth > 1:
            self._depth -= 1
            return
        try:
            notify(self, mutator=True, errors=None)
            if do_rollback is not None and do_rollback(self):
                self._transaction.rollback(self._shows)
            self._call_will_finish_listeners()
        except BaseException:
            self._abandon()
            raise
        self._commit()

    def _commit(self) -> None:
        transaction = self._transaction
        transaction.soil_hashes()
        self._may_write = False
        errors: list[Exception] = []
        try:
            notify(self, mutator=False, errors=errors)
            self._call_listeners("did_finish_transaction", errors)
        finally:
            self._end()
        _raise(errors, "listeners failed; the changes stand")

    def _abandon(self) -> None:
        """Take everything back and end the transaction without a word."""
        self._transaction.rollback(self._shows)
        self._end()

    def _end(self) -> None:
        self._transaction.close()
        self._transaction = Transaction(self._tree)
        self._net_changes = None
        self._schema_before = None
        self._may_write = True
        self._depth = 0

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self.start_transaction()
        inner = self._depth > 1
        savepoint = self._transaction.savepoint() if inner else None
        try:
            yield
        except BaseException:
            if savepoint is None:
                self._abandon()
            else:
                self._transaction.rollback_to(savepoint, self._shows)
                self._depth -= 1
            raise
        if savepoint is not None:
            self._transaction.release(savepoint)
        self.finish_transaction()

    def _call_will_finish_listeners(self) -> None:
        errors: list[Exception] = []
        self._call_listeners("will_finish_transaction", errors)
        _raise(errors, "listeners failed; everything is taken back")

    def _call_listeners(self, kind: str, errors: list[Exception] | None = None) -> None:
        for call, _ in self._listeners.matching(kind, False, ()):
            guarded(errors, call, self)

    # --- what shows

    def _show(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> CellOrMissing:
        """What an application sees of a stamp of a row, or of a value if the table id is None."""
        return _shown_by(self._schema if self._has_schema else None, table_id, leaf_id, stamp)

    def _showed(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> CellOrMissing:
        """What an application saw of a stamp before the running transaction, which may have changed the schema."""
        return _shown_by(self._schema_before or self._schema, table_id, leaf_id, stamp)

    def _shows(self, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> bool:
        if stamp is None or not is_live(stamp[0]):
            return False
        return not self._has_schema or self._schema.fitted(table_id, leaf_id, stamp[0]) is not MISSING

    def fits_schema(self, table_id: str | None, leaf_id: str, wire: Any) -> bool:
        """Whether the schema allows a wire form in a cell of a table, or in a value if the table id is None."""
        if not self._has_schema or wire == TOMBSTONE:
            return True
        return is_live(wire) and self._schema.admits(table_id, leaf_id, wire)

    def has_schema(self) -> bool:
        """Whether the tables or the values have a schema."""
        return self._has_schema

    # --- changing stamps

    def _row(self, table_id: str, row_id: str) -> Row:
        """A row to be changed, made if there is none, and known to the transaction."""
        tables = self._tree.tables
        table = tables.children.get(table_id)
        if table is None:
            table = tables.children[check_id(table_id)] = Table()
            self._transaction.tables.append((table_id, table))
        row = table.children.get(row_id)
        if row is None:
            row = table.children[check_id(row_id)] = Row()
            row.created = True
            self._transaction.rows.append((table_id, row_id, row))
        elif row.before is None and not row.created:
            row.before = {}
            self._transaction.rows.append((table_id, row_id, row))
        return row

    def _values(self) -> Leaves:
        """The values, to be changed, and known to the transaction."""
        values = self._tree.values
        if values.before is None:
            values.before = {}
        return values

    def _put(self, leaves: Leaves, table_id: str | None, row_id: str, leaf_id: str, stamp: Stamp) -> None:
        """Replace a stamp of a row or value that the transaction knows; keep the counts of what shows."""
        stamps = leaves.stamps
        old = stamps.get(leaf_id)
        if not leaves.created and leaf_id not in leaves.before:  # type: ignore[operator]
            leaves.before[leaf_id] = old  # type: ignore[index]
        if self._transaction.journal is not None:
            self._transaction.journal.append((table_id, row_id, leaf_id, old))
        lives = self._shows(table_id, leaf_id, stamp)
        if old is None:
            stamps[leaf_id] = stamp
            if lives:
                self._count(leaves, table_id, row_id, 1)
            return
        lived = self._shows(table_id, leaf_id, old)
        if lives and not lived:
            del stamps[leaf_id]  # what comes to life goes last, as in the peer
        stamps[leaf_id] = stamp
        if lives is not lived:
            self._count(leaves, table_id, row_id, 1 if lives else -1)

    def _count(self, leaves: Leaves, table_id: str | None, row_id: str, change: int) -> None:
        lived = leaves.live
        leaves.live += change
        if table_id is None or bool(lived) is bool(leaves.live):
            return
        tables = self._tree.tables
        table = tables.children[table_id]
        if leaves.live:
            _move_last(table.children, row_id)
            table.live += 1
            if table.live == 1:
                _move_last(tables.children, table_id)
                tables.live += 1
        else:
            table.live -= 1
            tables.live -= not table.live

    def _write(self, leaves: Leaves, table_id: str | None, row_id: str, leaf_id: str, wire: Any) -> None:
        """A local write, which takes the next stamp unless what shows is already so (protocol section 6)."""
        old = leaves.stamps.get(leaf_id)
        if old is None:
            check_id(leaf_id)
        elif same_wire(old[0], wire) or (self._neutral and old[1]):
            return  # an empty HLC never displaces a real one
        hlc = "" if self._neutral else self._clock.tick()
        if old is not None and not self._neutral and hlc <= old[1]:
            raise ClockError(f"the clock made {hlc!r}, which is not above {old[1]!r} in the store")
        self._put(leaves, table_id, row_id, leaf_id, (wire, hlc))

    def _merge_leaves(self, leaves: Leaves, table_id: str | None, row_id: str, incoming: Mapping[str, Any]) -> str:
        """Take what is newer of checked leaves (protocol section 7); returns the greatest HLC taken."""
        stamps = leaves.stamps
        newest = ""
        for leaf_id, leaf in incoming.items():
            hlc = hlc_of(leaf)
            old = stamps.get(leaf_id)
            if old is not None and old[1] and hlc <= old[1]:
                continue
            wire = leaf[0]
            if wire.__class__ is not str:
                wire = canonical_wire(wire)
            if old is not None and old[1] == hlc and same_wire(old[0], wire):
                continue
            if hlc > newest:
                newest = hlc
            self._put(leaves, table_id, row_id, leaf_id, (wire, hlc))
        return newest

    # --- what a transaction amounts to

    def _changes_so_far(self) -> NetChanges:
        """The net changes of the running transaction; kept once nobody can write any more."""
        if self._net_changes is not None:
            return self._net_changes
        changes = self._transaction.net_changes(self._showed, self._show)
        if not self._may_write:
            self._net_changes = changes
        return changes

    def _ready_hashes(self) -> Tree:
        """The tree, with hashes right even in the middle of a transaction."""
        if self._depth and self._may_write:
            self._transaction.hashed = True
            self._transaction.soil_hashes()
        return self._tree


def _raise(errors: list[Exception], message: str) -> None:
    if errors:
        raise errors[0] if len(errors) == 1 else ExceptionGroup(message, errors)


def _shown_by(schema: Schema | None, table_id: str | None, leaf_id: str, stamp: Stamp | None) -> CellOrMissing:
    if stamp is None:
        return MISSING
    wire = stamp[0]
    if schema is not None and (not is_live(wire) or (wire := schema.fitted(table_id, leaf_id, wire)) is MISSING):
        return MISSING
    return decode_cell(wire)


def _move_last(children: dict[str, Any], child_id: str) -> None:
    """What comes to life goes last, as in the peer."""
    if next(reversed(children)) != child_id:
        children[child_id] = children.pop(child_id)
