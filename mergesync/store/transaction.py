"""One transaction: what it touched, what that amounts to, and how to take it back.

The tree keeps, per row, the stamps that the transaction replaced (`Leaves.before`); this module keeps which rows, and
the rare things that are not stamps. From both follow the exact old state, and the net changes that listeners hear of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergesync.store.jsjson import dumps
from mergesync.store.stamps import Leaves, Row, Stamp, Table, Tree
from mergesync.types import CellOrMissing

__all__ = ["Change", "NetChanges", "Savepoint", "Show", "Shows", "Transaction"]

Change: TypeAlias = tuple[CellOrMissing, CellOrMissing]
"""`(old, new)` as an application sees them."""

Show: TypeAlias = Callable[[str | None, str, Stamp | None], CellOrMissing]
"""What an application sees of a stamp: `show(table id or None for values, leaf id, stamp)`."""

JournalEntry: TypeAlias = tuple[str | None, str, str, Stamp | None]
"""`(table id or None for values, row id, leaf id, old stamp)`."""

Shows: TypeAlias = Callable[[str | None, str, Stamp | None], bool]
"""Whether a stamp shows at all, with the arguments of `Show`."""

_NOTHING: dict[str, Stamp | None] = {}


@dataclass(slots=True)
class Savepoint:
    """Where a nested transaction began, so that it can be taken back alone."""

    rows: int
    tables: int
    undo: int
    outer_journal: list[JournalEntry] | None


class Transaction:
    """What the running transaction has touched.

    Attributes:
        rows: the rows touched, in order: `(table id, row id, row)`.
        tables: the tables it made: `(table id, table)`.
        hashed: whether a hash was asked for meanwhile, so that `before` no longer says what the hash lacks.
        invalid_cells, invalid_values: what was refused, by ids.
        journal: every stamp replaced since the innermost savepoint, None where there is no savepoint.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.rows: list[tuple[str, str, Row]] = []
        self.tables: list[tuple[str, Table]] = []
        self.hashed = False
        self.invalid_cells: dict[tuple[str, str | None, str | None], list[Any]] = {}
        self.invalid_values: dict[str | None, list[Any]] = {}
        self.journal: list[JournalEntry] | None = None
        self._loaded = False
        self._undo: list[Callable[[], None]] = []

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Remember how to take back something that is not a stamp."""
        self._undo.append(undo)

    # --- finishing

    def soil_hashes(self) -> None:
        """Tell the tree what was touched, so that the next hash is right."""
        if self._loaded:  # hashes came with the content; only what listeners have written since is news
            for table_id, row_id, leaf_id, old in self.journal or ():
                if table_id is None:
                    self._tree.values.soil({leaf_id: old})
                else:
                    self._tree.soil_row(table_id, row_id, {leaf_id: old})
            return
        for table_id, row_id, row in self.rows:
            self._tree.soil_row(table_id, row_id, None if row.created or self.hashed else row.before)
        values = self._tree.values
        if values.before:
            if self.hashed:
                values.forget_hash()
            else:
                values.soil(values.before)

    def content_loaded(self) -> None:
        """The tree was replaced by content with known hashes; from now on, keep a journal."""
        self._loaded = True
        self.journal = []

    def close(self) -> None:
        """Forget what was replaced."""
        for _, _, row in self.rows:
            row.before = None
            row.created = False
        self._tree.values.before = None

    def forget(self) -> None:
        """Know of no touched stamps any more: what they belong to is thrown away as a whole."""
        self.close()
        self.rows.clear()
        self.tables.clear()

    def rollback(self, shows: Shows) -> None:
        """Bring back the exact old state.

        Args:
            shows: whether a stamp shows.
        """
        if self.hashed:
            self.soil_hashes()
        self._undo_from(0)
        for table_id, row_id, row in reversed(self.rows):
            if not row.created:
                for leaf_id, old in (row.before or _NOTHING).items():
                    self._put_back(table_id, row_id, leaf_id, old, shows)
        for leaf_id, old in (self._tree.values.before or _NOTHING).items():
            self._put_back(None, "", leaf_id, old, shows)
        self._drop_created(0, 0)

    def savepoint(self) -> Savepoint:
        """Begin to keep a journal, so that what follows can be taken back alone."""
        savepoint = Savepoint(len(self.rows), len(self.tables), len(self._undo), self.journal)
        self.journal = []
        return savepoint

    def release(self, savepoint: Savepoint) -> None:
        """What followed the savepoint stands; it is now the business of the savepoint around it, if there is one."""
        inner, self.journal = self.journal, savepoint.outer_journal
        if self.journal is not None:
            self.journal.extend(inner or ())

    def rollback_to(self, savepoint: Savepoint, shows: Shows) -> None:
        """Take back what followed the savepoint."""
        if self.hashed:
            self.soil_hashes()
        self._undo_from(savepoint.undo)
        for table_id, row_id, leaf_id, old in reversed(self.journal or ()):
            self._put_back(table_id, row_id, leaf_id, old, shows)
        self.journal = savepoint.outer_journal
        self._drop_created(savepoint.rows, savepoint.tables)

    def _undo_from(self, first: int) -> None:
        for undo in reversed(self._undo[first:]):
            undo()
        del self._undo[first:]

    def _put_back(self, table_id: str | None, row_id: str, leaf_id: str, old: Stamp | None, shows: Shows) -> None:
        tables = self._tree.tables
        table = None if table_id is None else tables.children[table_id]
        leaves = self._tree.values if table is None else table.children[row_id]
        lived = bool(leaves.live)
        leaves.live += shows(table_id, leaf_id, old) - shows(table_id, leaf_id, leaves.stamps.get(leaf_id))
        if old is None:
            leaves.stamps.pop(leaf_id, None)
        else:
            leaves.stamps[leaf_id] = old
        if table is not None and lived != bool(leaves.live):
            table_lived = bool(table.live)
            table.live += 1 - 2 * lived
            tables.live += bool(table.live) - table_lived

    def _drop_created(self, first_row: int, first_table: int) -> None:
        tables = self._tree.tables
        for table_id, row_id, row in reversed(self.rows[first_row:]):
            if row.created:
                table = tables.children[table_id]
                del table.children[row_id]
                if row.live:
                    table.live -= 1
                    tables.live -= not table.live
        for table_id, _ in reversed(self.tables[first_table:]):
            del tables.children[table_id]
        for _, _, row in self.rows[first_row:]:
            row.before = None
            row.created = False
        del self.rows[first_row:], self.tables[first_table:]

    # --- what it amounts to

    def changed_stamps(self) -> Iterator[tuple[str, str, Row, dict[str, Stamp]]]:
        """The rows of which stamps are not what they were, with those stamps as they are now."""
        for table_id, row_id, row in self.rows:
            changed = _changed_leaves(row)
            if changed:
                yield table_id, row_id, row, changed

    def changed_values(self) -> dict[str, Stamp]:
        """The values whose stamps are not what they were, with those stamps as they are now."""
        return _changed_leaves(self._tree.values)

    def net_changes(self, showed: Show, shows: Show) -> NetChanges:
        """What an application sees changed from the beginning of the transaction to now.

        Args:
            showed: what a stamp was seen as at the beginning.
            shows: what a stamp is seen as now.
        """
        changes = NetChanges()
        for table_id, row_id, row in self.rows:
            cells = _net(table_id, row, showed, shows)
            if cells:
                changes.rows.setdefault(table_id, {})[row_id] = cells
        changes.values = _net(None, self._tree.values, showed, shows)
        return changes


def _before(leaves: Leaves) -> Iterator[tuple[str, Stamp | None]]:
    """The touched leaves with their old stamps."""
    if leaves.created:
        return ((leaf_id, None) for leaf_id in leaves.stamps)
    return iter((leaves.before or _NOTHING).items())


def _changed_leaves(leaves: Leaves) -> dict[str, Stamp]:
    if leaves.created:
        return leaves.stamps
    stamps = leaves.stamps
    return {
        leaf_id: stamps[leaf_id]
        for leaf_id, old in (leaves.before or _NOTHING).items()
        if leaf_id in stamps and stamps[leaf_id] is not old
    }


def _net(table_id: str | None, leaves: Leaves, showed: Show, shows: Show) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    for leaf_id, old_stamp in _before(leaves):
        old = showed(table_id, leaf_id, old_stamp)
        new = shows(table_id, leaf_id, leaves.stamps.get(leaf_id))
        if type(old) is not type(new) or (dumps(old) != dumps(new) if isinstance(old, dict | list) else old != new):
            changes[leaf_id] = (old, new)
    return changes


class NetChanges:
    """What an application sees changed.

    Attributes:
        rows: by table, row and cell id, the `(old, new)` of each cell that differs.
        values: by value id, the same.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Change]]] = {}
        self.values: dict[str, Change] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.values)
