"""A tree made in one go, where there is nothing to merge with: much faster than leaf by leaf.

No schema has a say here: what shows is what would show without one. No store is needed either, so that a tree can be
made in another thread than that of the store which takes it in the end (`MergeableStore.adopt`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fnv_hash_fast import fnv1a_32

from mergesync.exceptions import ContentError
from mergesync.store.bodies import CHANGES, CONTENT, check_body, hlc_of
from mergesync.store.diff import tree_changes, tree_content
from mergesync.store.leaves import pack, take
from mergesync.store.stamps import Stamp, is_live, newest_hlc, stamp_hash
from mergesync.store.tree import GivenHashes, Leaves, Row, Table, Tree

__all__ = ["NOT_YET", "Built", "TreeBuilder", "build", "build_content"]

_MODULUS: Final = 2**32
_STAMPS_AT_A_TIME: Final = 10_000  # so that no single call keeps other threads from running

NOT_YET: Final[Stamp] = b""
"""Keeps the place of a stamp that `TreeBuilder.lay` brings later."""


@dataclass(frozen=True, slots=True)
class Built:
    """A tree that belongs to nobody yet.

    Attributes:
        tree: the tree; its hashes are known.
        newest: the greatest HLC in it.
        is_content: whether its hashes were said, and are believed.
    """

    tree: Tree
    newest: str
    is_content: bool

    def body(self) -> list[Any]:
        """The content, or the changes, that it was made of, for a store that cannot take it as it is."""
        return tree_content(self.tree) if self.is_content else tree_changes(self.tree)


def build_content(content: Any) -> Built:
    """Make a tree of content with stamps and hashes, which are believed.

    Raises:
        ContentError: it is malformed. Stamps of the future are for the store to refuse.
    """
    newest = check_body(content, CONTENT, _NEVER)
    return Built(build(content[0], content[1], hashed=True)[0], newest, is_content=True)


_NEVER: Final = "~"  # greater than any HLC


def build(tables: Any, values: Any, *, hashed: bool) -> tuple[Tree, str]:
    """Make a tree of a body.

    Args:
        tables: a checked stamp of tables.
        values: a checked stamp of values.
        hashed: whether every stamp has its hash, which is believed.

    Returns:
        The tree, and the greatest HLC in it.
    """
    building = _Building(hashed)
    building.add_tables(tables)
    building.add_values(values)
    return building.tree, building.newest


class _Building:
    def __init__(self, hashed: bool) -> None:
        self.tree = Tree()
        self.tree.hashed = hashed
        self.newest = ""
        self._hashed = hashed
        self._begun: list[str] = []  # not needed: the order in which ids come is theirs

    def add_tables(self, said: Any) -> None:
        tables = self.tree.tables
        for table_id, table_said in said[0].items():
            table = tables.children[table_id] = Table()
            self._add_rows(table, table_said[0])
            if table.live:
                tables.live += 1
            self._finish(table, table_said)
            if not (self._hashed or table_said[0] or table.hlc):
                tables.flip_trace(table_id)
        self._finish(tables, said)

    def _add_rows(self, table: Table, said: Mapping[str, Any]) -> None:
        children, counts, hashed = table.children, table.cells, self._hashed
        for row_id, row_said in said.items():
            row = children[row_id] = Row()
            cells = row_said[0]
            if len(row_said) > 1 and row_said[1]:
                row.hlc = self._noted(row_said[1])
            wrong = self._fill(row, cells, counts)
            if row.live:
                table.live += 1
            if hashed:
                row.believe(int(row_said[2]) % _MODULUS, wrong)
            elif not (cells or row.hlc):
                table.flip_trace(row_id)

    def add_values(self, said: Any) -> None:
        values = self.tree.values
        values.hlc = self._noted(hlc_of(said))
        wrong = self._fill(values, said[0], {})
        if self._hashed:
            values.believe(int(said[2]) % _MODULUS, wrong)

    def _finish(self, container: Any, said: Any) -> None:
        container.hlc = self._noted(hlc_of(said))
        if self._hashed:
            container.believe(int(said[2]) % _MODULUS)

    def _noted(self, hlc: str) -> str:
        if hlc > self.newest:
            self.newest = hlc
        return hlc

    def _fill(self, leaves: Leaves, said: Mapping[str, Any], counts: dict[str, int]) -> GivenHashes | None:
        """Take all leaves of a row, or the values; count what shows in `counts`.

        Returns:
            The leaves of which another hash is said than they have.
        """
        stamps = leaves.stamps
        leaves.live, self.newest = take(said, stamps, counts, self._begun, self.newest)
        if not self._hashed:
            return None
        if [*map(fnv1a_32, stamps.values())] == [leaf[2] for leaf in said.values()]:
            return None
        return {
            leaf_id: (stamp, int(leaf[2]) % _MODULUS)
            for (leaf_id, stamp), leaf in zip(stamps.items(), said.values(), strict=True)
            if leaf[2] != stamp_hash(stamp)
        }


class TreeBuilder:
    """Makes a tree of rows whose stamps are packed already.

    Example:
        >>> builder = TreeBuilder()
        >>> builder.add_row("pets", "fido", {"species": b'"dog":Nn1JUF-----7JQY8'}, is_plain=True)
        >>> builder.finish().newest
        'Nn1JUF-----7JQY8'
    """

    def __init__(self) -> None:
        self._tree = Tree()
        self._newest = ""
        self._unchecked: list[Stamp] = []
        self._not_plain: set[Row] = set()

    def add_row(self, table_id: str, row_id: str, stamps: dict[str, Stamp], *, is_plain: bool) -> None:
        """Add a row, or stamps to it.

        Args:
            table_id: the table.
            row_id: the row.
            stamps: by cell id; taken over.
            is_plain: whether all of them are there, and show.

        Raises:
            ContentError: what is in one of the stamps is no HLC. This may also be told later.
        """
        row = self._row(table_id, row_id)
        if row.stamps:
            row.lay(stamps)
            is_plain = False
        else:
            row.stamps = stamps
        if is_plain:
            self._unchecked += stamps.values()
            row.hash()
        else:
            self._not_plain.add(row)
            self._unchecked += [stamp for stamp in stamps.values() if stamp is not NOT_YET]
        if len(self._unchecked) > _STAMPS_AT_A_TIME:
            self._check()

    def lay(self, changes: Any) -> None:
        """Lay changes over what is there, whatever their stamps.

        Raises:
            ContentError: they are malformed.
        """
        self._newest = max(self._newest, check_body(changes, CHANGES, _NEVER))
        tree = self._tree
        tree.tables.hlc, tree.values.hlc = hlc_of(changes[0]), hlc_of(changes[1])
        for table_id, table in changes[0][0].items():
            self._table(table_id).hlc = hlc_of(table)
            for row_id, said in table[0].items():
                row = self._row(table_id, row_id)
                row.hlc = hlc_of(said)
                row.lay(_packed(said[0]))
                self._not_plain.add(row)
        tree.values.stamps.update(_packed(changes[1][0]))

    def finish(self) -> Built:
        """The tree, with its hashes.

        Raises:
            ContentError: what is in a stamp is no HLC, or something was never brought.
        """
        self._check()
        tree = self._tree
        for table_id, table in tree.tables.children.items():
            self._count(table)
            tree.tables.live += table.live > 0
            if not (table.children or table.hlc):
                tree.tables.flip_trace(table_id)
        tree.values.live = sum(map(is_live, tree.values.stamps.values()))
        tree.hashed = True
        tree.content_hashes()
        return Built(tree, self._newest, is_content=False)

    def _table(self, table_id: str) -> Table:
        tables = self._tree.tables.children
        table = tables.get(table_id)
        if table is None:
            table = tables[table_id] = Table()
        return table

    def _row(self, table_id: str, row_id: str) -> Row:
        rows = self._table(table_id).children
        row = rows.get(row_id)
        if row is None:
            row = rows[row_id] = Row()
        return row

    def _check(self) -> None:
        self._newest = max(self._newest, newest_hlc(self._unchecked))
        self._unchecked.clear()

    def _count(self, table: Table) -> None:
        """Count what shows, rows of one shape together."""
        not_plain = self._not_plain
        shapes: dict[tuple[str, ...], int] = {}
        for row_id, row in table.children.items():
            shape = (*row.stamps,)
            if row in not_plain:
                if NOT_YET in row.stamps.values():
                    raise ContentError(f"the row {row_id!r:.40} is incomplete")
                shape = tuple(cell_id for cell_id, stamp in row.stamps.items() if is_live(stamp))
                if not (row.stamps or row.hlc):
                    table.flip_trace(row_id)
            row.live = len(shape)
            shapes[shape] = shapes.get(shape, 0) + 1
        table.live = sum(count for shape, count in shapes.items() if shape)
        for shape, count in shapes.items():
            for cell_id in shape:
                table.cells[cell_id] = table.cells.get(cell_id, 0) + count


def _packed(leaves: Mapping[str, Any]) -> dict[str, Stamp]:
    return {leaf_id: pack(leaf[0], hlc_of(leaf)) for leaf_id, leaf in leaves.items()}
