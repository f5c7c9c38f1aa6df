"""The stamped tree: tables of rows of cells, and values, each leaf a stamp, with lazy hashes.

There is no second copy of the content: a deleted cell is a tombstone stamp, and counts of what is live tell whether a
row or table exists. Nothing here decides who wins, keeps a transaction or calls anybody.

Hashes are those of protocol section 4, computed when somebody asks. A container whose hash is known and is then changed
remembers what its changed children added before, so that the next hash costs what changed, not what is there. This also
carries what the peer's rules leave behind: hashes loaded from a file, which are believed, and the trace of containers
named without leaves. A container without anything in it has no hash, and adds nothing to its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from mergesync.store.jsjson import fnv1a
from mergesync.store.leaves import child_hash, hash_change, hash_share
from mergesync.store.order import Order
from mergesync.store.row_ids import RowIds
from mergesync.store.stamps import Stamp, stamp_hash

__all__ = ["Before", "GivenHashes", "Leaves", "Row", "Table", "Tables", "Tree", "Values"]

Before: TypeAlias = dict[str, Stamp | None]
"""By leaf id, the stamp that was there, None where there was none."""

GivenHashes: TypeAlias = dict[str, tuple[Stamp, int]]
"""By leaf id, a stamp and the hash that a file said of it, where that is not its hash."""


def _hlc_share(hlc: str) -> int:
    return fnv1a(hlc) if hlc else 0


class Leaves:
    """The cells of a row, or the values of a store.

    Attributes:
        stamps: by cell or value id. Live ones are in the order in which they came to life, as the peer keeps them.
        live: how many of the stamps show as cells.
        hlc: the container's own stamp; empty unless a peer sent one. Changed by `set_hlc` alone.
        before: the stamps that the running transaction has replaced; None outside one. See `Transaction`.
    """

    __slots__ = ("_given", "_hash", "_stale", "before", "hlc", "live", "stamps")

    def __init__(self) -> None:
        self.stamps: dict[str, Stamp] = {}
        self.live: int = 0
        self.hlc: str = ""
        self.before: Before | None = None
        self._hash: int | None = None
        self._stale: Before | None = None
        self._given: GivenHashes | None = None

    @property
    def has_given_hashes(self) -> bool:
        """Whether a file said hashes of leaves that are not right, which are believed until the leaf changes."""
        return self._given is not None

    def hash_leaf(self, leaf_id: str) -> int:
        """The hash of one stamp."""
        return self._hash_of(leaf_id, self.stamps[leaf_id])

    def _hash_of(self, leaf_id: str, stamp: Stamp) -> int:
        said = self._given.get(leaf_id) if self._given is not None else None
        return said[1] if said is not None and said[0] is stamp else stamp_hash(stamp)

    def leaf_hashes(self) -> dict[str, int]:
        """The hash of each stamp."""
        if self._given is not None:
            return {leaf_id: self._hash_of(leaf_id, stamp) for leaf_id, stamp in self.stamps.items()}
        return {leaf_id: stamp_hash(stamp) for leaf_id, stamp in self.stamps.items()}

    def hash(self) -> int | None:
        """The hash of the container, or None if there is nothing in it."""
        stamps, stale, given = self.stamps, self._stale, self._given
        if self._hash is None:
            if stamps or self.hlc:
                self._hash = _hlc_share(self.hlc) ^ hash_share(stamps)
        elif stale is not None:
            change = hash_change(stale, stamps) if given is None else self._change_of_given(stale)
            self._hash = self._hash ^ change if stamps or self.hlc else None
        self._stale = None
        return self._hash

    def _change_of_given(self, before: Before) -> int:
        """What `hash_change` tells, where some of the hashes are believed."""
        change = 0
        for leaf_id, old in before.items():
            for stamp in (old, self.stamps.get(leaf_id)):
                change ^= child_hash(leaf_id, 0 if stamp is None else self._hash_of(leaf_id, stamp))
        return change

    def soil(self, before: Before) -> None:
        """Take note that these stamps were replaced; the dict is taken over.

        A stamp that is not among those noted since the last hash is in that hash.
        """
        if self._hash is None:
            return
        if self._stale is None:
            self._stale = before
        else:
            for leaf_id, old in before.items():
                self._stale.setdefault(leaf_id, old)

    def lay(self, stamps: Mapping[str, Stamp]) -> None:
        """Put stamps over what is there while the tree is made, when no other has the hash."""
        self.stamps.update(stamps)
        self._hash = None

    def set_hlc(self, hlc: str) -> None:
        """Change the container's own stamp."""
        if self._hash is not None:
            self._hash ^= _hlc_share(self.hlc) ^ _hlc_share(hlc)
        self.hlc = hlc
        if not self.stamps and not hlc:
            self._hash = None

    def believe(self, hash_: int, given: GivenHashes | None) -> None:
        """Take hashes from a file as they are; what changes later is XORed onto them (protocol section 7)."""
        self._hash = hash_ if self.stamps or self.hlc or hash_ else None
        self._given = given or None


class _Branch:
    """What tables and the tables have in common: children with hashes.

    Attributes:
        children: by id.
        live: how many of the children show.
        hlc: as in `Leaves`.
    """

    __slots__ = ("_bias", "_hash", "_stale", "children", "hlc", "live")

    def __init__(self) -> None:
        self.children: dict[str, Any] = {}
        self.live: int = 0
        self.hlc: str = ""
        self._hash: int | None = None
        self._stale: dict[str, int | None] = {}
        self._bias = 0  # traces of empty children

    def hash(self) -> int | None:
        """The hash of the container, or None if there is nothing in it."""
        if self._hash is None:
            if self.children or self.hlc or self._bias:
                hash_ = self._bias ^ _hlc_share(self.hlc)
                for child_id, child in self.children.items():
                    new = child.hash()
                    if new is not None:
                        hash_ ^= child_hash(child_id, new)
                self._hash = hash_
        elif self._stale:
            self.hash_some(len(self._stale))
            if not (self.children or self.hlc or self._bias):
                self._hash = None
        self._stale = {}
        return self._hash

    def hash_some(self, count: int) -> int:
        """Bring the hash closer to what is there, by so many children at most; returns how many those were."""
        if self._hash is None:
            if not self.children:
                return 0
            self._hash = self._bias ^ _hlc_share(self.hlc)
            self._stale = dict.fromkeys(self.children)
        stale, children, hash_ = self._stale, self.children, self._hash
        done = min(count, len(stale))
        for _ in range(done):
            child_id, old = stale.popitem()
            child = children.get(child_id)
            new = None if child is None else child.hash()
            if old is not None:
                hash_ ^= child_hash(child_id, old)
            if new is not None:
                hash_ ^= child_hash(child_id, new)
        self._hash = hash_
        return done

    def child_hashes(self) -> dict[str, int]:
        """The hash of each child, 0 for an empty one."""
        return {child_id: child.hash() or 0 for child_id, child in self.children.items()}

    def soil(self, child_id: str, known: int | None) -> None:
        """Take note that a child's hash is not what it was; `known` is what it was if this is the first we hear."""
        if self._hash is not None and child_id not in self._stale:
            self._stale[child_id] = known

    def set_hlc(self, hlc: str) -> None:
        """Change the container's own stamp."""
        if self._hash is not None:
            self._hash ^= _hlc_share(self.hlc) ^ _hlc_share(hlc)
        self.hlc = hlc
        if not (self.children or hlc or self._bias):
            self._hash = None

    def believe(self, hash_: int) -> None:
        """Take a hash from a file as it is."""
        self._hash = hash_ if self.children or self.hlc or hash_ else None

    def flip_trace(self, child_id: str) -> None:
        """A change named an empty child: the peer leaves a trace in the hash, and takes it out the next time."""
        trace = child_hash(child_id, 0)
        self._bias ^= trace
        if self._hash is not None:
            self._hash ^= trace


Row: TypeAlias = Leaves
Values: TypeAlias = Leaves


class Table(_Branch):
    """Rows by id.

    Attributes:
        cells: in how many rows each cell id shows, in the order in which they came to the table; 0 for those that left.
        row_ids: what `add_row` gives next; forgotten when a table begins anew.
    """

    __slots__ = ("cells", "row_ids")
    children: dict[str, Row]

    def __init__(self) -> None:
        super().__init__()
        self.cells: dict[str, int] = {}
        self.row_ids: RowIds | None = None


class Tables(_Branch):
    """Tables by id."""

    __slots__ = ()
    children: dict[str, Table]


class Tree:
    """All of a store: its tables and its values.

    Attributes:
        hashed: whether any hash was ever asked for or believed; if not, nobody needs to be told what changes.
        order: the order of all ids in it, as far as the running transaction has changed it.
    """

    __slots__ = ("hashed", "order", "tables", "values")

    def __init__(self) -> None:
        self.tables: Tables = Tables()
        self.values: Values = Leaves()
        self.hashed: bool = False
        self.order: Order = Order()

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever in it, nor left a trace."""
        tables, values = self.tables, self.values
        kept = tables.children or values.stamps or tables.hlc or values.hlc
        return not kept and tables.hash() is None and values.hash() is None

    def hash_some(self, count: int) -> bool:
        """Hash so many rows at most; returns whether none is left, so that all hashes are told without much work."""
        for table in self.tables.children.values():
            count -= table.hash_some(count)
            if not count:
                return False
        return True

    def content_hashes(self) -> list[int]:
        """`[tables hash, values hash]`."""
        return [self.tables.hash() or 0, self.values.hash() or 0]

    def soil_table(self, table_id: str) -> None:
        """Take note that the hash of a table is about to change, or just did so without having been computed."""
        table = self.tables.children[table_id]
        self.tables.soil(table_id, table._hash)

    def soil_row(self, table_id: str, row_id: str) -> None:
        """Take note that the hash of a row is about to change, or just did so without having been computed."""
        tables = self.tables
        table = tables.children[table_id]
        if table_id not in tables._stale:
            tables.soil(table_id, table._hash)
        if table._hash is not None and row_id not in table._stale:
            table._stale[row_id] = table.children[row_id]._hash

    def rows(self) -> Iterator[tuple[str, str, Row]]:
        """Every row with its table id and row id."""
        for table_id, table in self.tables.children.items():
            for row_id, row in table.children.items():
                yield table_id, row_id, row

    def leaves(self) -> Iterator[tuple[tuple[str | None, str, str], Stamp]]:
        """Every cell and value: `(table id or None for values, row id, leaf id)` and its stamp."""
        for table_id, row_id, row in self.rows():
            for cell_id, stamp in row.stamps.items():
                yield (table_id, row_id, cell_id), stamp
        for value_id, stamp in self.values.stamps.items():
            yield (None, "", value_id), stamp

    # --- what shows

    def count(self, table_id: str | None, row_id: str, leaves: Leaves, leaf_id: str, change: int) -> None:
        """A cell of a row, or a value if the table id is None, came to show (1) or ceased to (-1)."""
        live = leaves.live = leaves.live + change
        if table_id is None:
            return
        table = self.tables.children[table_id]
        count = table.cells.get(leaf_id)
        if count:
            table.cells[leaf_id] = count + change
        else:
            self.begin_cell(table.cells, leaf_id)
        if live == (change > 0):
            self.count_row(table_id, table, row_id, change)

    def begin_cell(self, cells: dict[str, int], cell_id: str) -> None:
        """The first row of a table shows a cell of this id."""
        cells[cell_id] = 1
        self.order.goes_last(cells, cell_id)

    def count_row(self, table_id: str, table: Table, row_id: str, change: int) -> None:
        """A row came to show (1) or ceased to (-1)."""
        table.live += change
        if change > 0:
            self.order.goes_last(table.children, row_id)
            if table.live > 1:
                return
        if table.live == (change > 0):
            self.tables.live += change
            if change > 0:
                table.row_ids = None
                self.order.goes_last(self.tables.children, table_id)

    def recount(self, shows: Callable[[str | None, str, Stamp], bool]) -> None:
        """Count again what shows, because what shows means something else now."""
        tables = self.tables
        for table_id, table in tables.children.items():
            cells = table.cells = dict.fromkeys(table.cells, 0)
            for row in table.children.values():
                live = [cell_id for cell_id, stamp in row.stamps.items() if shows(table_id, cell_id, stamp)]
                row.live = len(live)
                for cell_id in live:
                    cells[cell_id] = cells.get(cell_id, 0) + 1
            table.live = sum(row.live > 0 for row in table.children.values())
        tables.live = sum(table.live > 0 for table in tables.children.values())
        values = self.values
        values.live = sum(shows(None, value_id, stamp) for value_id, stamp in values.stamps.items())
