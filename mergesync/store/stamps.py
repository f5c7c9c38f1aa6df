"""The stamped tree: tables of rows of cells, and values, each leaf a stamp `(wire form, hlc)`, with lazy hashes.

There is no second copy of the content: a deleted cell is a tombstone stamp, and counts of what is live tell whether a
row or table exists. Nothing here decides who wins, keeps a transaction or calls anybody.

Hashes are those of protocol section 4, computed when somebody asks. A container whose hash is known and is then changed
remembers what its changed children added before, so that the next hash costs what changed, not what is there.
`_bias` is XORed onto a hash and is 0 for all that was made here; it carries what the peer's rules leave behind: hashes
loaded from a file, which are believed, and the trace of containers named without leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import orjson
from fnv_hash_fast import fnv1a_32

from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import child_hash, dumps, fnv1a, utf8

__all__ = ["Leaves", "Row", "Stamp", "Table", "Tables", "Tree", "Values", "leaf_hash"]

Stamp: TypeAlias = tuple[Any, str]
"""`(wire form, hlc)` of a cell or value."""


def leaf_hash(stamp: Stamp) -> int:
    """The hash of a cell or value: of its JSON, a colon and its HLC; a tombstone counts as null."""
    wire, hlc = stamp
    if wire == TOMBSTONE:
        text = b"null"
    elif type(wire) is str:
        try:
            text = orjson.dumps(wire)
        except TypeError:
            text = utf8(dumps(wire))
    else:
        text = utf8(dumps(wire))
    return fnv1a_32(b"%b:%b" % (text, hlc.encode()))


def _leaf_share(leaf_id: str, hash_: int) -> int:
    return child_hash(leaf_id, hash_) ^ child_hash(leaf_id, 0)


def _hlc_share(hlc: str) -> int:
    return fnv1a(hlc) if hlc else 0


class Leaves:
    """The cells of a row, or the values of a store.

    Attributes:
        stamps: by cell or value id. Live ones are in the order in which they came to life, as the peer keeps them.
        hlc: the container's own stamp; empty unless a peer sent one.
        live: how many of the stamps show as cells.
        before: the stamps that the running transaction has replaced, None where there was none; None outside one.
        created: whether the running transaction made this row; then `before` stays empty.
    """

    __slots__ = ("_bias", "_given", "_hash", "_stale", "before", "created", "hlc", "live", "stamps")

    def __init__(self) -> None:
        self.stamps: dict[str, Stamp] = {}
        self.hlc = ""
        self.live = 0
        self.before: dict[str, Stamp | None] | None = None
        self.created = False
        self._hash: int | None = None
        self._stale: dict[str, Stamp | None] | None = None
        self._bias = 0
        self._given: dict[str, int] | None = None  # hashes of leaves that a file said, where they are wrong

    @property
    def known_hash(self) -> int | None:
        """The hash if it was computed and nothing changed since; None for an empty container, which adds nothing."""
        return None if self._stale else self._hash

    def hash_leaf(self, leaf_id: str) -> int:
        """The hash of one stamp."""
        if self._given and leaf_id in self._given:
            return self._given[leaf_id]
        return leaf_hash(self.stamps[leaf_id])

    def hash(self) -> int | None:
        """The hash of the container, or None if it is empty and so adds nothing to its parent."""
        if self._hash is None:
            if self.stamps or self.hlc or self._bias:
                self._hash = self._hash_all()
        elif self._stale:
            for leaf_id, old in self._stale.items():
                if old is not None:
                    self._hash ^= _leaf_share(leaf_id, leaf_hash(old))
                if leaf_id in self.stamps:
                    self._hash ^= _leaf_share(leaf_id, self.hash_leaf(leaf_id))
            self._stale = None
        return self._hash

    def _hash_all(self) -> int:
        hash_ = self._bias ^ _hlc_share(self.hlc)
        if self._given:
            for leaf_id in self.stamps:
                hash_ ^= _leaf_share(leaf_id, self.hash_leaf(leaf_id))
        else:
            for leaf_id, stamp in self.stamps.items():
                hash_ ^= child_hash(leaf_id, leaf_hash(stamp)) ^ child_hash(leaf_id, 0)
        return hash_

    def leaf_hashes(self) -> dict[str, int]:
        """The hash of each stamp."""
        return {leaf_id: self.hash_leaf(leaf_id) for leaf_id in self.stamps}

    def soil(self, before: dict[str, Stamp | None]) -> None:
        """Take note that these stamps were replaced, so that the hash can be brought up to date."""
        if self._given:
            for leaf_id in before:  # a leaf written anew has the hash it deserves; the others keep theirs
                self._given.pop(leaf_id, None)
            self._hash = None
        elif self._hash is not None:
            if self._stale is None:
                self._stale = {}
            for leaf_id, old in before.items():
                self._stale.setdefault(leaf_id, old)

    def forget_hash(self) -> None:
        """The next hash is computed from all stamps."""
        self._hash = self._stale = None

    def believe(self, given: dict[str, int], hash_: int) -> None:
        """Take hashes from a file as they are; what changes later is XORed onto them (protocol section 7)."""
        self._given = {leaf_id: said for leaf_id, said in given.items() if said != leaf_hash(self.stamps[leaf_id])}
        self._bias = hash_ ^ _hlc_share(self.hlc)
        for leaf_id, said in given.items():
            self._bias ^= _leaf_share(leaf_id, said)
        self._hash = hash_ if self.stamps or self.hlc or self._bias else None


class _Branch:
    """What tables and the tables have in common: children with hashes."""

    __slots__ = ("_bias", "_hash", "_stale", "children", "hlc", "live")

    def __init__(self) -> None:
        self.children: dict[str, Any] = {}
        self.hlc = ""
        self.live = 0
        self._hash: int | None = None
        self._stale: dict[str, int | None] = {}
        self._bias = 0

    @property
    def known_hash(self) -> int | None:
        """The hash if it was computed and nothing changed since; None for an empty container."""
        return None if self._stale else self._hash

    def hash(self) -> int | None:
        """The hash of the container, or None if it is empty and so adds nothing to its parent."""
        if self._hash is None:
            if self.children or self.hlc or self._bias:
                self._hash = self._hash_all()
        elif self._stale:
            for child_id, old in self._stale.items():
                child = self.children.get(child_id)
                new = None if child is None else child.hash()
                if old is not None:
                    self._hash ^= child_hash(child_id, old)
                if new is not None:
                    self._hash ^= child_hash(child_id, new)
        self._stale = {}
        return self._hash

    def _hash_all(self) -> int:
        hash_ = self._bias ^ _hlc_share(self.hlc)
        for child_id, child in self.children.items():
            child_said = child.hash()
            if child_said is not None:
                hash_ ^= child_hash(child_id, child_said)
        return hash_

    def child_hashes(self) -> dict[str, int]:
        """The hash of each child, 0 for an empty one."""
        return {child_id: child.hash() or 0 for child_id, child in self.children.items()}

    def soil(self, child_id: str, known: int | None) -> None:
        """Take note that a child is about to change, and what its hash was."""
        if self._hash is not None:
            self._stale.setdefault(child_id, known)

    def forget_hash(self) -> None:
        """The next hash is computed from all children."""
        self._hash = None
        self._stale = {}

    def believe(self, hash_: int) -> None:
        """Take a hash from a file as it is."""
        self._bias = 0
        self._bias = hash_ ^ self._hash_all()
        self._hash = hash_ if self.children or self.hlc or self._bias else None

    def flip_empty(self, child_id: str) -> None:
        """A change named an empty child: the peer leaves a trace in the hash, and takes it out the next time."""
        self._bias ^= child_hash(child_id, 0)


Row: TypeAlias = Leaves
Values: TypeAlias = Leaves


class Table(_Branch):
    """Rows by id. `live` counts the rows that show."""

    __slots__ = ()
    children: dict[str, Row]


class Tables(_Branch):
    """Tables by id. `live` counts the tables that show."""

    __slots__ = ()
    children: dict[str, Table]


class Tree:
    """All of a store: its tables and its values."""

    __slots__ = ("tables", "values")

    def __init__(self) -> None:
        self.tables = Tables()
        self.values: Values = Leaves()

    def content_hashes(self) -> list[int]:
        """`[tables hash, values hash]`."""
        return [self.tables.hash() or 0, self.values.hash() or 0]

    def soil_row(self, table_id: str, row_id: str, before: dict[str, Stamp | None] | None) -> None:
        """Take note that a row changed.

        Args:
            table_id: its table, which exists.
            row_id: its id; the row itself may be new.
            before: the stamps replaced, or None if anything may have changed.
        """
        table = self.tables.children[table_id]
        row = table.children[row_id]
        known = row.known_hash
        if before is None:
            row.forget_hash()
        else:
            row.soil(before)
        self.soil_table(table_id, table)
        table.soil(row_id, known)

    def soil_table(self, table_id: str, table: Table) -> None:
        """Take note that a table is about to change."""
        self.tables.soil(table_id, table.known_hash)

    def rows(self) -> Iterator[tuple[str, str, Row]]:
        """Every row with its table id and row id."""
        for table_id, table in self.tables.children.items():
            for row_id, row in table.children.items():
                yield table_id, row_id, row
