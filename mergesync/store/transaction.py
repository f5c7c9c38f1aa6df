"""One transaction: what it touched, and how to take it back.

The tree keeps, per row, the stamps that the transaction replaced (`Leaves.before`); this module keeps which rows, and
the rare things that are not stamps. From both follow the exact old state, and what changed.

A row that the transaction made has no stamps to go back to: its `before` is `NEW`, and the row itself goes. So a merge
of many rows into an empty store remembers one thing per row.

In two cases the order of writes matters, and each one is written to a journal: where there is a savepoint to go back
to, and after somebody asked for hashes in the middle, since `before` then no longer says what those hashes lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from mergesync.store.stamps import Stamp
from mergesync.store.tree import Before, Leaves, Row, Tree

__all__ = ["NEW", "Savepoint", "Shows", "Transaction"]

NEW: Final[Before] = {}
"""The `before` of a row that the transaction made. Told by identity; never written to."""

_UNTOUCHED: Final[Before] = {}

Shows: TypeAlias = Callable[[str | None, str, Stamp | None], bool]
"""Whether a stamp shows: `shows(table id or None for values, leaf id, stamp)`."""

JournalEntry: TypeAlias = tuple[str | None, str, Leaves, str, Stamp | None, bool]
"""`(table id or None for values, row id, row or values, leaf id, old stamp, touched for the first time)`."""


@dataclass(slots=True)
class Savepoint:
    """Where a nested transaction began, so that it can be taken back alone."""

    rows: int
    tables: int
    undo: int
    journal: int
    order: int


class Transaction:
    """What the running transaction of a store has touched; empty outside one.

    Attributes:
        tree: the store's.
        replaced: the transaction on the tree that was there before content was loaded, if any was.
        rows: the rows touched, in order: `(table id, row id, row)`.
        tables: the ids of the tables it made.
        vanished: rows that a load has removed; in `rows`, too, so that their cells can be told as gone.
        has_writes: whether anything was written here, beside what was taken from elsewhere.
        merges: how many bodies were merged.
        left_out: whether a leaf of them was not taken, as what is here is as new.
        has_time: whether a stamp was made, and so the time read that all stamps of the transaction have.
        journal: every stamp replaced, in order, once there is a need for it; else None.
        invalid_cells, invalid_values: what the schema refused, by ids.
    """

    __slots__ = (
        "_hashed_rows",
        "_hashed_to",
        "_undo",
        "has_time",
        "has_writes",
        "invalid_cells",
        "invalid_values",
        "journal",
        "left_out",
        "merges",
        "replaced",
        "rows",
        "tables",
        "tree",
        "vanished",
    )

    def __init__(self, tree: Tree, replaced: Transaction | None = None) -> None:
        self.tree: Tree = tree
        self._reset(replaced)

    def _reset(self, replaced: Transaction | None) -> None:
        self.replaced: Transaction | None = replaced
        self.rows: list[tuple[str, str, Row]] = []
        self.tables: list[str] = []
        self.vanished: dict[tuple[str, str], Row] = {}
        self.has_writes: bool = False
        self.merges: int = 0
        self.left_out: bool = False
        self.has_time: bool = False
        self.journal: list[JournalEntry] | None = None
        self.invalid_cells: dict[tuple[str | None, str | None, str | None], list[object]] = {}
        self.invalid_values: dict[str | None, list[object]] = {}
        self._undo: list[Callable[[], None]] = []
        # Up to here hashes know of the journal and of new rows; -1: of nothing that this transaction did.
        self._hashed_to = -1
        self._hashed_rows = 0

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Remember how to take back something that is not a stamp."""
        self._undo.append(undo)

    def close(self) -> None:
        """Forget everything; the transaction is over."""
        for _, _, row in self.rows:
            row.before = None
        self.tree.values.before = None
        if (
            self.tables
            or self._undo
            or self.journal is not None
            or self.replaced is not None
            or self.invalid_cells
            or self.invalid_values
        ):
            self._reset(None)
        else:
            self.rows.clear()
            self.has_writes = self.has_time = self.left_out = False
            self.merges = 0

    def original(self, leaves: Leaves) -> dict[str, Stamp]:
        """The stamps of a row or of the values as they were when the transaction began."""
        if leaves.before is None:
            return leaves.stamps
        if leaves.before is NEW:
            return {}
        stamps = {**leaves.stamps, **leaves.before}
        return {leaf_id: stamp for leaf_id, stamp in stamps.items() if stamp is not None}

    # --- standing

    def settle(self) -> None:
        """The transaction stands and touches nothing more."""
        tree = self.tree
        if tree.order.moved:
            tree.order.settle()
        if tree.hashed:
            self._soil(final=True)

    def settle_hashes(self) -> None:
        """Tell the tree what was touched since it last heard, so that the next hash is right."""
        if self.tree.hashed:
            self._soil(final=False)
        self.hashes_are_settled()

    def _soil(self, *, final: bool) -> None:
        if self._hashed_to < 0:
            self._soil_all(final)
        else:
            assert self.journal is not None
            self._soil_journaled(self.journal)

    def _soil_all(self, final: bool) -> None:
        tree = self.tree
        for table_id, row_id, row in self.rows:
            tree.soil_row(table_id, row_id)
            if row.before:
                row.soil(row.before if final else dict(row.before))
        if tree.values.before:
            tree.values.soil(tree.values.before if final else dict(tree.values.before))

    def _soil_journaled(self, journal: list[JournalEntry]) -> None:
        for table_id, row_id, _ in self.rows[self._hashed_rows :]:
            self.tree.soil_row(table_id, row_id)
        for entry in journal[self._hashed_to :]:
            table, row, leaves, leaf_id, old, _ = entry
            if table is not None:
                self.tree.soil_row(table, row)
            leaves.soil({leaf_id: old})

    def hashes_are_settled(self) -> None:
        """From now on, hashes are told what is touched by the journal."""
        self.tree.hashed = True
        if self.journal is None:
            self.journal = []
        self._hashed_to = len(self.journal)
        self._hashed_rows = len(self.rows)

    # --- taking back

    def rollback(self, shows: Shows) -> None:
        """Bring back the exact old state.

        Args:
            shows: whether a stamp shows.
        """
        if self._hashed_to >= 0:
            self.settle_hashes()
        self._undo_from(0)
        for table_id, row_id, row in reversed(self.rows):
            if row.before is not NEW:
                for leaf_id, old in (row.before or _UNTOUCHED).items():
                    self._put_back(table_id, row_id, row, leaf_id, old, shows)
        for value_id, old in (self.tree.values.before or _UNTOUCHED).items():
            self._put_back(None, "", self.tree.values, value_id, old, shows)
        self._drop_new(0, 0, shows)
        self.tree.order.back_to(0)

    def savepoint(self) -> Savepoint:
        """Begin to keep a journal, so that what follows can be taken back alone."""
        if self.journal is None:
            self.journal = []
        return Savepoint(len(self.rows), len(self.tables), len(self._undo), len(self.journal), self.tree.order.mark())

    def rollback_to(self, savepoint: Savepoint, shows: Shows) -> None:
        """Take back what followed the savepoint."""
        if self._hashed_to >= 0:
            self.settle_hashes()
        self._undo_from(savepoint.undo)
        assert self.journal is not None
        for entry in reversed(self.journal[savepoint.journal :]):
            table_id, row_id, leaves, leaf_id, old, first = entry
            self._put_back(table_id, row_id, leaves, leaf_id, old, shows)
            if first and leaves.before is not None:
                del leaves.before[leaf_id]
        del self.journal[savepoint.journal :]
        self._drop_new(savepoint.rows, savepoint.tables, shows)
        self.tree.order.back_to(savepoint.order)
        if self._hashed_to >= 0:
            self.hashes_are_settled()

    def _undo_from(self, first: int) -> None:
        for undo in reversed(self._undo[first:]):
            undo()
        del self._undo[first:]

    def _put_back(
        self, table_id: str | None, row_id: str, leaves: Leaves, leaf_id: str, old: Stamp | None, shows: Shows
    ) -> None:
        now = leaves.stamps.get(leaf_id)
        if self._hashed_to >= 0:
            if table_id is not None:
                self.tree.soil_row(table_id, row_id)
            leaves.soil({leaf_id: now})
        if old is None:
            leaves.stamps.pop(leaf_id, None)
        else:
            leaves.stamps[leaf_id] = old
        change = shows(table_id, leaf_id, old) - shows(table_id, leaf_id, now)
        if change:
            self.tree.count(table_id, row_id, leaves, leaf_id, change)

    def _drop_new(self, first_row: int, first_table: int, shows: Shows) -> None:
        tree = self.tree
        for table_id, row_id, row in reversed(self.rows[first_row:]):
            if row.before is NEW:
                for cell_id, stamp in row.stamps.items():
                    if shows(table_id, cell_id, stamp):
                        tree.count(table_id, row_id, row, cell_id, -1)
                if self._hashed_to >= 0:
                    tree.soil_row(table_id, row_id)
                del tree.tables.children[table_id].children[row_id]
            row.before = None
        for table_id in reversed(self.tables[first_table:]):
            if self._hashed_to >= 0:
                tree.soil_table(table_id)
            del tree.tables.children[table_id]
        del self.rows[first_row:], self.tables[first_table:]

    # --- what it amounts to

    def took_one_body_whole(self) -> bool:
        """Whether all that it has changed is all of one body that was merged; one without leaves changes nothing."""
        if self.merges != 1 or self.left_out or self.has_writes:
            return False
        has_new = any(row.before or (row.before is NEW and row.stamps) for _, _, row in self.rows)
        return has_new or bool(self.tree.values.before)

    def changed_stamps(self) -> Iterator[tuple[str, str, Row, dict[str, Stamp]]]:
        """The rows of which stamps are not what they were, with those stamps as they are now."""
        for table_id, row_id, row in self.rows:
            changed = _changed(row)
            if changed:
                yield table_id, row_id, row, changed

    def changed_values(self) -> dict[str, Stamp]:
        """The values whose stamps are not what they were, with those stamps as they are now."""
        return _changed(self.tree.values)


def _changed(leaves: Leaves) -> dict[str, Stamp]:
    before = leaves.before
    if before is NEW:
        return leaves.stamps
    stamps = leaves.stamps
    changed = {}
    for leaf_id, old in (before or _UNTOUCHED).items():
        new = stamps.get(leaf_id)
        if new is not None and new != old:
            changed[leaf_id] = new
    return changed
