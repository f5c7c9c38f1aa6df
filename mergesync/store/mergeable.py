"""`MergeableStore`, the class users hold."""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import Any, Self

from mergesync.exceptions import ContentError
from mergesync.store import diff, notify
from mergesync.store.bodies import CHANGES, CONTENT, check_body, hlc_of
from mergesync.store.bulk import collector_paused
from mergesync.store.cells import TOMBSTONE
from mergesync.store.changes import Change
from mergesync.store.hlc import CLIENT_PART_LENGTH, decode_hlc, encode_hlc
from mergesync.store.merging import Merging
from mergesync.store.stamps import NO_HLC, Stamp, hlc_in, is_live, text_in, unpack, unpacked, wire_in_text
from mergesync.store.texts import tables_text
from mergesync.store.tree import Row, Tree
from mergesync.store.views import TablesView, ValuesView
from mergesync.types import MISSING, MergeableChanges, MergeableContent

__all__ = ["MergeableStore"]

_NO_STAMP: tuple[dict[str, Any]] = ({},)
_NO_ROWS: Mapping[str, Row] = {}


class MergeableStore(Merging):
    """Tables of rows of cells, and values, each stamped, so that copies edited apart can be merged.

    The methods are those of TinyBase's MergeableStore in snake_case, with arguments in the same order. A store belongs
    to one thread, and everything it does is done when a call returns.

    Args:
        unique_id: signs the stamps made here; the same id must never be used by two stores at once. None: a random one.
        get_now: the wall clock in milliseconds since 1970. None: the system's.

    Example:
        >>> store = MergeableStore("s1", get_now=lambda: 1704067200000)
        >>> store.set_cell("pets", "fido", "species", "dog").get_tables()
        {'pets': {'fido': {'species': 'dog'}}}
        >>> other = MergeableStore("s2", get_now=lambda: 1704067200001).set_cell("pets", "felix", "species", "cat")
        >>> store.merge(other).get_row_ids("pets")
        ['fido', 'felix']
    """

    @property
    def tables(self) -> TablesView:
        """The tables as a mapping that can be written: `store.tables["pets"]["fido"]["species"] = "dog"`."""
        return TablesView(self)

    @property
    def values(self) -> ValuesView:
        """The values as a mapping that can be written: `store.values["open"] = True`."""
        return ValuesView(self)

    def is_mergeable(self) -> bool:
        """True; TinyBase's plain stores say False."""
        return True

    # --- content with stamps

    def get_mergeable_content(self) -> MergeableContent:
        """Everything with its stamps and hashes, as JSON-able lists and dicts; what a persister stores.

        Example:
            >>> MergeableStore("s1", get_now=lambda: 1704067200000).set_value("open", True).get_mergeable_content()
            [[{}, '', 0], [{'open': [True, 'Nn1JUF-----7JQY8', 3769148117]}, '', 3306535499]]
        """
        return diff.tree_content(self._ready_hashes())

    def set_mergeable_content(self, content: MergeableContent) -> Self:
        """Replace everything by content with stamps and hashes, which are believed.

        Raises:
            ContentError: it is malformed; nothing changed.
            ClockDriftError: a stamp is more than five minutes in the future; nothing changed.
            TransactionError: a transaction is running.
        """
        check_body(content, CONTENT, self.latest_allowed_hlc())
        self._load(content[0], content[1])
        return self

    def apply_mergeable_changes(self, changes: MergeableChanges) -> Self:
        """Merge changes, `[tables, values, 1]` with stamps, as a synchronizer does: newest stamp wins, leaf by leaf.

        Raises:
            ContentError: they are malformed; nothing changed.
            ClockDriftError: a stamp is more than five minutes in the future; nothing changed.
        """
        with collector_paused():
            check_body(changes, CHANGES, self.latest_allowed_hlc())
            self._merge(changes[0], changes[1])
        return self

    def merge(self, other: MergeableStore) -> Self:
        """Merge with another store in the same process; both end equal.

        Raises:
            ClockDriftError: a stamp of one is more than five minutes in the future of the other; nothing changed.
        """
        if not isinstance(other, MergeableStore):
            raise TypeError(f"can only merge with a MergeableStore, not {type(other).__name__}")
        ours, theirs = diff.tree_changes(self._tree), diff.tree_changes(other._tree)
        check_body(ours, CHANGES, other.latest_allowed_hlc())
        check_body(theirs, CHANGES, self.latest_allowed_hlc())
        other.merge_checked(ours)
        self.merge_checked(theirs)
        return self

    def latest_allowed_hlc(self) -> str:
        """The largest stamp that is not too far in the future for this store's clock."""
        return self._clock.latest_allowed()

    # --- the clock

    def get_next_hlc(self) -> str:
        """A stamp that is newer than all that this store has seen."""
        return self._clock.tick()

    def set_clock(self, now: int, *, tolerance_milliseconds: int = 0) -> Self:
        """Let the clock show this time and go on from there, whatever the wall clock says.

        A synchronizer sets it to the time of a mergesync server. If the clock was too far ahead, others would refuse
        what was stamped by it: those leaves get new stamps, in the same order.

        Args:
            now: milliseconds since 1970.
            tolerance_milliseconds: a clock that is off by no more is left alone.

        Example:
            >>> store = MergeableStore("s1", get_now=lambda: 2_000_000_000_000).set_value("open", True)
            >>> store.set_clock(1704067200000).get_mergeable_content()[1][0]
            {'open': [True, 'Nn1JUF-----7JQY8', 3769148117]}
        """
        behind = now - self._clock.now()
        if abs(behind) > tolerance_milliseconds:
            self._clock.offset += behind
            self._transaction.has_time = False
            if self.is_in_transaction():
                self._afterwards = self._restamp_what_is_ahead
            else:
                self._restamp_what_is_ahead()
        return self

    def _restamp_what_is_ahead(self) -> None:
        """Give leaves whose stamps only a clock that was ahead can have made new ones."""
        latest = self.latest_allowed_hlc()
        if self._clock.time <= decode_hlc(latest)[0]:
            return
        newest = ""
        ahead: list[tuple[str, tuple[str | None, str, str], Stamp]] = []
        for leaf, stamp in self._tree.leaves():
            hlc = hlc_in(stamp)
            if hlc > latest:
                ahead.append((hlc, leaf, stamp))
            else:
                newest = max(newest, hlc)
        self._clock.rewind(latest, newest)
        with self.transaction():
            for _, (table_id, row_id, leaf_id), stamp in sorted(ahead, key=itemgetter(0)):
                leaves = self._values() if table_id is None else self._row(table_id, row_id)
                new = NO_HLC.join((text_in(stamp), self._clock.tick().encode()))
                self._put(leaves, table_id, row_id, leaf_id, stamp, new, is_live(stamp))

    # --- hashes and differences (protocol section 8)

    def get_mergeable_content_hashes(self) -> list[int]:
        """`[tables hash, values hash]`: equal on two stores that hold the same."""
        return self._ready_hashes().content_hashes()

    def hash_some(self, count: int) -> bool:
        """Compute hashes of so many rows at most; returns whether all are known, so that nobody has to wait for them.

        Example:
            >>> store = MergeableStore("s1").set_table("t", {"a": {"c": 1}, "b": {"c": 1}})
            >>> store.hash_some(2), store.hash_some(2)
            (False, True)
        """
        return self._ready_hashes().hash_some(count)

    def get_mergeable_table_hashes(self) -> dict[str, int]:
        """The hash of each table."""
        return self._ready_hashes().tables.child_hashes()

    def get_mergeable_table_diff(self, other_table_hashes: diff.Hashes) -> list[Any]:
        """`[whole tables the other lacks, {table: our hash} where they differ]`."""
        return diff.table_diff(self._ready_hashes().tables, _hashes(other_table_hashes, 1))

    def get_mergeable_row_hashes(self, other_table_hashes: diff.Hashes) -> dict[str, dict[str, int]]:
        """The hashes of the rows of those tables whose hash is another than the other's."""
        return diff.row_hashes(self._ready_hashes().tables, _hashes(other_table_hashes, 1))

    def get_mergeable_row_diff(self, other_row_hashes: diff.Hashes) -> list[Any]:
        """`[whole rows the other lacks, {table: {row: our hash}} where they differ]`."""
        return diff.row_diff(self._ready_hashes().tables, _hashes(other_row_hashes, 2))

    def get_mergeable_cell_hashes(self, other_row_hashes: diff.Hashes) -> dict[str, dict[str, dict[str, int]]]:
        """The hashes of the cells of those rows whose hash is another than the other's."""
        return diff.cell_hashes(self._ready_hashes().tables, _hashes(other_row_hashes, 2))

    def get_mergeable_cell_diff(self, other_cell_hashes: diff.Hashes) -> list[Any]:
        """The cells that the other lacks or has otherwise, as a stamp of tables."""
        return diff.cell_diff(self._ready_hashes().tables, _hashes(other_cell_hashes, 3))

    def get_mergeable_value_hashes(self) -> dict[str, int]:
        """The hash of each value."""
        return self._ready_hashes().values.leaf_hashes()

    def get_mergeable_value_diff(self, other_value_hashes: diff.Hashes) -> list[Any]:
        """The values that the other lacks or has otherwise, as a stamp of values."""
        return diff.value_diff(self._ready_hashes().values, _hashes(other_value_hashes, 1))

    # --- the running transaction

    def get_transaction_mergeable_changes(self, with_hashes: bool = False) -> MergeableChanges:
        """The stamps that the running transaction has replaced, as they are now: what a synchronizer sends.

        To be called in a listener; outside a transaction there are no changes.

        Args:
            with_hashes: give every stamp its hash, as in content.
        """
        tree = self._ready_hashes() if with_hashes else self._tree
        tables: dict[str, Any] = {}
        for table_id, row_id, row, stamps in self._transaction.changed_stamps():
            if table_id not in tables:
                tables[table_id] = _container({}, tree.tables.children[table_id], with_hashes)
            tables[table_id][0][row_id] = _container(_leaves(row, stamps, with_hashes), row, with_hashes)
        changed = self._transaction.changed_values()
        values = _leaves(tree.values, changed, with_hashes) if changed else {}
        return [_container(tables, tree.tables, with_hashes), _container(values, tree.values, with_hashes), 1]

    def has_changed_stamps(self) -> bool:
        """Whether the running transaction has replaced any stamp."""
        return any(True for _ in self.get_changed_rows()) or bool(self._transaction.changed_values())

    def get_changed_rows(self) -> Iterator[tuple[str, str]]:
        """The `(table id, row id)` of the rows of which the running transaction has replaced stamps."""
        return ((table_id, row_id) for table_id, row_id, *_ in self._transaction.changed_stamps())

    def get_changes_beyond(self, body: MergeableChanges) -> MergeableChanges:
        """What of `get_transaction_mergeable_changes` is not in changes that were merged.

        Mutating listeners write it. Without it, one that answers a peer's change would be heard by nobody, and replicas
        would part. Of what came nothing is unpacked.
        """
        came_tables = body[0][0]
        tables: dict[str, Any] = {}
        for table_id, row_id, _, stamps in self._transaction.changed_stamps():
            came_rows = came_tables.get(table_id, _NO_STAMP)[0]
            leaves = _beyond(stamps, came_rows.get(row_id, _NO_STAMP)[0])
            if leaves:
                tables.setdefault(table_id, [{}])[0][row_id] = [leaves]
        return [[tables], [_beyond(self._transaction.changed_values(), body[1][0])], 1]

    def has_taken_all(self) -> bool:
        """Whether the running transaction has merged one body, taken each leaf of it, and written nothing itself.

        Then that body is what has changed, and it need not be gathered.
        """
        return self._transaction.took_one_body_whole()

    def get_transaction_changes(self) -> list[Any]:
        """The net changes of the running transaction: `[tables, values, 1]`, with `MISSING` for what is gone."""
        changes = self._net_changes()
        tables: dict[str, Any] = {}
        for table_id, rows in changes.rows.items():
            if not self.has_table(table_id):
                tables[table_id] = MISSING
                continue
            tables[table_id] = {
                row_id: _new(cells) if self.has_row(table_id, row_id) else MISSING for row_id, cells in rows.items()
            }
        return [tables, _new(changes.values), 1]

    def get_transaction_log(self) -> list[Any]:
        """The running transaction in detail.

        Returns:
            `[cells touched, values touched, changed cells, invalid cells, changed values, invalid values, changed table
            ids, changed row ids, changed cell ids, changed value ids]`; changes are `[old, new]`, an id is 1 if it came
            and -1 if it went.
        """
        changes = self._net_changes()
        transaction = self._transaction
        invalid_cells: dict[Any, Any] = {}
        for (table_id, row_id, cell_id), cells in transaction.invalid_cells.items():
            invalid_cells.setdefault(table_id, {}).setdefault(row_id, {})[cell_id] = list(cells)
        cell_ids = notify.changed_cell_ids(changes)
        row_ids = {table_id: notify.changed_row_ids(self, table_id, rows) for table_id, rows in cell_ids.items()}
        return [
            any(True for _ in transaction.changed_stamps()),
            bool(transaction.changed_values()),
            {t: {r: {c: list(change) for c, change in cells.items()} for r, cells in rows.items()}
             for t, rows in changes.rows.items()},
            invalid_cells,
            {value_id: list(change) for value_id, change in changes.values.items()},
            {value_id: list(values) for value_id, values in transaction.invalid_values.items()},
            notify.changed_table_ids(self, row_ids),
            {table_id: ids for table_id, ids in row_ids.items() if ids},
            {t: {r: ids for r, ids in rows.items() if ids} for t, rows in cell_ids.items() if any(rows.values())},
            notify.id_changes(changes.values),
        ]  # fmt: skip

    def apply_changes(self, changes: Any) -> Self:
        """Apply net changes, as `get_transaction_changes` gives them, as local writes.

        Raises:
            ContentError: they are malformed; nothing changed.
        """
        if not isinstance(changes, list | tuple) or len(changes) != 3:
            raise ContentError("not an array of tables, values and 1")
        with self.transaction():
            for table_id, rows in _children(changes[0]):
                self._apply_table(table_id, rows)
            for value_id, value in _children(changes[1]):
                if value is MISSING:
                    self.del_value(value_id)
                else:
                    self.set_value(value_id, value)
        return self

    def _apply_table(self, table_id: str, rows: Any) -> None:
        if rows is MISSING:
            self.del_table(table_id)
            return
        for row_id, cells in _children(rows):
            if cells is MISSING:
                self.del_row(table_id, row_id)
                continue
            for cell_id, cell in _children(cells):
                if cell is MISSING:
                    self.del_cell(table_id, row_id, cell_id, True)
                else:
                    self.set_cell(table_id, row_id, cell_id, cell)

    # --- for synchronizers and persisters

    def get_stamped_rows(self, table_id: str) -> Mapping[str, Row]:
        """The rows of a table as the tree has them, tombstones included; only to be read."""
        table = self._tree.tables.children.get(table_id)
        return _NO_ROWS if table is None else table.children

    def get_stamped_table_hlc(self, table_id: str | None) -> str:
        """The HLC of a table of its own, or that of the tables if the id is None; usually empty."""
        if table_id is None:
            return self._tree.tables.hlc
        table = self._tree.tables.children.get(table_id)
        return "" if table is None else table.hlc

    def bounded_table_size(self, table_id: str, enough: int) -> int:
        """About how many bytes of JSON a table takes; it is not counted on when it is enough."""
        return diff.table_size(self._tree.tables.children[table_id], enough)

    def get_tables_text(self, enough: int) -> bytes | None:
        """The JSON of all tables with their stamps; None if it takes more bytes than are enough."""
        return tables_text(self._tree.tables, enough)

    def bounded_row_diff(self, row_hashes: diff.Hashes, room: diff.Room, room_for_asker: diff.Room) -> list[Any]:
        """`get_mergeable_row_diff` of hashes that were checked, as far as there is room."""
        return diff.row_diff(self._ready_hashes().tables, row_hashes, room, room_for_asker)

    def bounded_cell_diff(self, cell_hashes: diff.Hashes, room: diff.Room) -> list[Any]:
        """`get_mergeable_cell_diff` of hashes that were checked, as far as there is room."""
        return diff.cell_diff(self._ready_hashes().tables, cell_hashes, room)

    def bounded_value_diff(self, value_hashes: diff.Hashes, room: diff.Room) -> list[Any]:
        """`get_mergeable_value_diff` of hashes that were checked, as far as there is room."""
        return diff.value_diff(self._ready_hashes().values, value_hashes, room)

    def merge_checked(self, changes: MergeableChanges) -> None:
        """Merge changes of which the form and the time were checked already, in `bodies`; nothing is checked here."""
        self._merge(changes[0], changes[1])

    def has_written(self) -> bool:
        """Whether the running transaction has written anything itself, beside what it took from elsewhere."""
        return self._transaction.has_writes

    def get_stamp(self, table_id: str | None, row_id: str, leaf_id: str) -> tuple[Any, str] | None:
        """The `(wire form, HLC)` of a cell, or of a value if the table id is None, tombstones included."""
        leaves = self._tree.values if table_id is None else self._find_row(table_id, row_id)
        stamp = None if leaves is None else self._find_stamp(leaves, leaf_id)
        return None if stamp is None else unpack(stamp)

    def get_latest_hlc(self) -> str:
        """No stamp that was made here, or came, is greater.

        Example:
            >>> MergeableStore("s1", get_now=lambda: 1704067200000).set_value("open", True).get_latest_hlc()
            'Nn1JUF-----zzzzz'
        """
        return encode_hlc(self._clock.time, max(self._clock.counter, 0), "z" * CLIENT_PART_LENGTH)

    def get_stamps_after(self, hlc: str) -> Iterator[tuple[tuple[str | None, str, str], tuple[Any, str]]]:
        """Later leaves and tombstones: `(table id or None, row id, leaf id)`, and `(wire form, HLC)`.

        Args:
            hlc: a stamp of the clock.

        Example:
            >>> store = MergeableStore("s1", get_now=lambda: 1704067200000).set_value("open", True)
            >>> list(store.get_stamps_after("Nn1JUF-----7JQY7"))
            [((None, '', 'open'), (True, 'Nn1JUF-----7JQY8'))]
        """
        if self.get_latest_hlc() > hlc:
            end, length = hlc.encode(), len(hlc)
            for table_id, row_id, leaves in chain(self._tree.rows(), [(None, "", self._tree.values)]):
                for leaf_id, stamp in leaves.stamps.items():
                    if stamp[-length:] > end and hlc_in(stamp) > hlc:  # most are seen not to be without more ado
                        yield (table_id, row_id, leaf_id), unpack(stamp)

    def get_news(self, table_id: str | None, row_id: str, leaves: Mapping[str, Any]) -> dict[str, Stamp | None]:
        """Which leaves would be taken if they were merged, with the packed stamps that they would replace, if any.

        Args:
            table_id: of the row; None for values.
            row_id: the row.
            leaves: stamps by id, checked.

        Example:
            >>> store = MergeableStore("s1", get_now=lambda: 1704067200000).set_value("open", True)
            >>> store.get_news(None, "", {"open": [False, "Nn1JUF----07JQY8"], "new": [1], "old": [1, ""]})
            {'open': b'true:Nn1JUF-----7JQY8', 'new': None, 'old': None}
        """
        known = self._tree.values if table_id is None else self._find_row(table_id, row_id)
        if known is None or not known.stamps:
            return dict.fromkeys(leaves)
        stamps = known.stamps
        news: dict[str, Stamp | None] = {}
        for leaf_id, leaf in leaves.items():
            old = stamps.get(leaf_id)
            if old is None or hlc_of(leaf) > hlc_in(old):
                news[leaf_id] = old
        return news

    def get_hlcs(self, table_id: str | None, row_id: str, leaf_ids: Collection[str]) -> dict[str, str]:
        """The HLCs of leaves of a row, or of values; empty ones of what is not here."""
        known = self._tree.values if table_id is None else self._find_row(table_id, row_id)
        stamps = {} if known is None else known.stamps
        present = [stamps.get(leaf_id, NO_HLC) for leaf_id in leaf_ids]
        return {leaf_id: hlc_in(stamp) for leaf_id, stamp in zip(leaf_ids, present, strict=True)}

    def get_kept(self, table_id: str | None, row_id: str, leaf_ids: Collection[str]) -> dict[str, Any]:
        """The wire forms that stay when a peer's leaves are refused: what is here, else defaults, else tombstones."""
        known = self._tree.values if table_id is None else self._find_row(table_id, row_id)
        stamps = {} if known is None else known.stamps
        present = unpacked({leaf_id: stamps[leaf_id] for leaf_id in leaf_ids if leaf_id in stamps})
        has_rules = self._schema.has_rules(table_id)
        if not has_rules and len(present) == len(leaf_ids):  # the common case
            return {leaf_id: leaf[0] for leaf_id, leaf in present.items()}
        kept = {}
        for leaf_id in leaf_ids:
            leaf = present.get(leaf_id)
            if leaf is None or (has_rules and not self.fits_schema(table_id, leaf_id, leaf[0])):
                # A row that does not show has no defaults.
                shows = table_id is None or self.has_row(table_id, row_id)
                kept[leaf_id] = wire_in_text(self._schema.default(table_id, leaf_id)) if shows else TOMBSTONE
            else:
                kept[leaf_id] = leaf[0]
        return kept

    def forget_deleted_rows(self, table_id: str) -> None:
        """Forget the stamps of the rows of a table that are deleted; there must be one, and no transaction.

        Whoever still has such a row can bring it back, so whoever calls this must refuse that.
        """
        tree = self._tree
        table = tree.tables.children[table_id]
        for row_id in [row_id for row_id, row in table.children.items() if not row.live]:
            tree.soil_row(table_id, row_id)
            del table.children[row_id]
        if not (table.children or table.hlc):
            tree.soil_table(table_id)
            del tree.tables.children[table_id]

    # --- for tests

    def _check(self) -> None:
        """Recompute every hash and count from the leaves; AssertionError on any difference."""
        tree = self._ready_hashes()
        content = diff.tree_content(tree)
        fresh = type(self)("fresh", get_now=lambda: 2**42 - 1)
        fresh.merge_checked(content)
        assert diff.tree_content(fresh._tree) == content, "hashes"
        counted = _counts(tree)
        tree.recount(self._shows)
        assert counted == _counts(tree), "counts"


def _counts(tree: Tree) -> Any:
    tables = {
        table_id: (table.live, {cell_id: count for cell_id, count in table.cells.items() if count})
        for table_id, table in tree.tables.children.items()
    }
    rows = {(table_id, row_id): row.live for table_id, row_id, row in tree.rows()}
    return tables, rows, tree.tables.live, tree.values.live


def _container(thing: Any, container: Any, with_hash: bool) -> list[Any]:
    return [thing, container.hlc, container.hash() or 0] if with_hash else diff.stamped(thing, container.hlc)


def _leaves(leaves: Any, stamps: dict[str, Any], with_hashes: bool) -> dict[str, Any]:
    return diff.hashed_leaves(leaves, stamps) if with_hashes else unpacked(stamps)


def _beyond(stamps: dict[str, Stamp], came: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that did not come with the stamp that they have now."""
    own = {
        leaf_id: stamp
        for leaf_id, stamp in stamps.items()
        if leaf_id not in came or hlc_of(came[leaf_id]) != hlc_in(stamp)
    }
    return unpacked(own) if own else own


def _new(changes: dict[str, Change]) -> dict[str, Any]:
    return {id_: new for id_, (_, new) in changes.items()}


def _hashes(tree: Any, depth: int) -> Any:
    """A tree of hashes of a given depth, checked."""
    if depth == 0:
        if isinstance(tree, bool) or not isinstance(tree, int | float):
            raise ContentError(f"a hash must be a number, not {tree!r:.40}")
    elif not isinstance(tree, dict):
        raise ContentError("hashes must be given as a dict")
    else:
        for child in tree.values():
            _hashes(child, depth - 1)
    return tree


def _children(changes: Any) -> ItemsView[str, Any]:
    if not isinstance(changes, dict):
        raise ContentError(f"changes of tables, rows, cells and values must be dicts, not {type(changes).__name__}")
    return changes.items()
