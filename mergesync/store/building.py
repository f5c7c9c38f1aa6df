"""A tree made of a checked body in one go, where there is nothing to merge with: much faster than leaf by leaf.

No schema has a say here: what shows is what would show without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fnv_hash_fast import fnv1a_32

from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE
from mergesync.store.stamps import COLON, is_live, pack, stamp_hash
from mergesync.store.tree import GivenHashes, Leaves, Row, Table, Tree

__all__ = ["build"]

_MODULUS: Final = 2**32


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
        stamps, live, newest, hashed = leaves.stamps, 0, self.newest, self._hashed
        wrong: GivenHashes | None = None
        for leaf_id, leaf in said.items():
            wire = leaf[0]
            hlc = (leaf[1] or "") if len(leaf) > 1 else ""
            if hlc > newest:
                newest = hlc
            stamp = stamps[leaf_id] = pack(wire, hlc)
            # The common cases, plain strings and numbers, are told to show without a look at the stamp.
            kind = wire.__class__
            if kind is int or (kind is str and wire < TOMBSTONE) or is_live(stamp):
                live += 1
                counts[leaf_id] = counts.get(leaf_id, 0) + 1
            if hashed and leaf[2] != (fnv1a_32(stamp) if stamp[0] != COLON else stamp_hash(stamp)):
                wrong = wrong or {}
                wrong[leaf_id] = stamp, int(leaf[2]) % _MODULUS
        leaves.live = live
        self.newest = newest
        return wrong
