"""The rows of tables in the order of their ids, and fingerprints of any range of them.

Two stores that hold millions of rows find the few that differ by comparing fingerprints of ranges, then of ranges in
those that differ (range-based set reconciliation; docs/protocol.md). The order is that of Unicode code points. The
fingerprint of a range is the sum, modulo 2**64, of those of its rows, which are 64 bits of BLAKE2b.

Nothing of this is there until somebody asks, table by table. From then on a change costs O(log N), and the next
question about fingerprints one pass over N/64 sums.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from heapq import merge
from itertools import accumulate, chain, islice
from typing import Any, Final

from mergesync.store.diff import Room, row_size, row_stamp, stamped
from mergesync.store.jsjson import string_text
from mergesync.store.mergeable import MergeableStore
from mergesync.store.tree import Row

__all__ = ["Ranges", "RowRanges", "row_fingerprint"]

_BLOCK: Final = 64
_SORTED_AT_ONCE: Final = 10_000  # ids; some milliseconds each
_BLOCKS_AT_ONCE: Final = 40
_MODULUS: Final = 2**64

_cell_id_text = lru_cache(1000)(string_text)  # most rows have cells of the same few ids


def row_fingerprint(row_id: str, row: Row) -> int:
    """64 bits of a row: of its id, then its cells in the order of their ids, each with its stamp, then its own HLC."""
    parts = [string_text(row_id)]
    for cell_id in sorted(row.stamps):
        parts += (_cell_id_text(cell_id), row.stamps[cell_id])
    parts.append(row.hlc.encode())
    return int.from_bytes(blake2b(b"".join(parts), digest_size=8).digest())


class RowRanges:
    """The rows of one table in the order of their ids, in blocks of some 64.

    A range is from `low`, with it, to `high`, without it; None is beyond all ids.

    Args:
        rows: read whenever something is asked; `note` tells what has changed in them.

    Attributes:
        rows: see above.

    Example:
        >>> store = MergeableStore("s1").set_table("t", {"b": {"c": 1}, "a": {"c": 1}})
        >>> ranges = Ranges(store).of("t")
        >>> list(ranges.ids("", None)), ranges.count("a", "b"), ranges.fingerprint("c", None)
        (['a', 'b'], 1, 0)
    """

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.rows: Mapping[str, Row] = rows
        self._blocks_: list[list[str]] = []
        self._firsts: list[str] = []
        self._sums: list[int | None] = []
        self._unsummed = 0  # from which block on it is still to be looked
        self._size: int | None = None  # how many ids are in order
        self._ordering: Iterator[None] | None = self._put_in_order()  # until that is done
        self._late: set[str] = set()  # rows that were noted meanwhile
        self._counts_before: list[int] | None = None
        self._sums_before: list[int] | None = None

    # --- little by little

    def order_some(self) -> bool:
        """Put the ids in order, as far as that takes some milliseconds; returns whether it is done."""
        if self._ordering is not None and next(self._ordering, self) is self:
            self._ordering = None
            self._size = sum(map(len, self._blocks_))
            late, self._late = self._late, set()
            for row_id in late:
                self.note(row_id)
        return self._ordering is None

    def _put_in_order(self) -> Iterator[None]:
        """Sort parts, then merge them."""
        ids = list(self.rows)
        parts = []
        for start in range(0, len(ids), _SORTED_AT_ONCE):
            parts.append(sorted(ids[start : start + _SORTED_AT_ONCE]))
            if len(ids) > _SORTED_AT_ONCE:
                yield
        merged = iter(parts[0]) if len(parts) == 1 else merge(*parts)
        while block := list(islice(merged, _BLOCK)):
            self._blocks_.append(block)
            if not len(self._blocks_) % _BLOCKS_AT_ONCE:
                yield
        self._blocks_ = self._blocks_ or [[]]
        self._firsts = [block[0] if block else "" for block in self._blocks_]
        self._sums = [None] * len(self._blocks_)

    def sum_some(self) -> bool:
        """Add up the fingerprints of some rows; returns whether all are known, but for what has changed meanwhile."""
        if not self.order_some():
            return False
        left = _BLOCKS_AT_ONCE
        while self._unsummed < len(self._sums) and left:
            left -= self._sums[self._unsummed] is None
            self._block_sum(self._unsummed)
            self._unsummed += 1
        if self._unsummed < len(self._sums):
            return False
        self._unsummed = 0
        return True

    @property
    def _blocks(self) -> list[list[str]]:
        while not self.order_some():
            pass
        return self._blocks_

    # --- at once

    def __len__(self) -> int:
        """How many rows are known."""
        return len(self.rows) if self._size is None else self._size

    def note(self, row_id: str) -> None:
        """A row is new, or has changed."""
        if self._ordering is not None:
            self._late.add(row_id)
            return
        at = self._block_of(row_id)
        block = self._blocks[at]
        self._sums[at] = self._sums_before = None
        place = bisect_left(block, row_id)
        if place < len(block) and block[place] == row_id:
            return
        insort(block, row_id)
        self._size = len(self) + 1
        self._counts_before = None
        self._firsts[at] = block[0]
        if len(block) > 2 * _BLOCK:
            self._blocks[at : at + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._firsts[at : at + 1] = [block[0], block[_BLOCK]]
            self._sums[at : at + 1] = [None, None]

    def ids(self, low: str, high: str | None) -> Iterator[str]:
        """The ids of a range, in order."""
        blocks = self._blocks
        at = self._block_of(low)
        first = bisect_left(blocks[at], low)
        for block in islice(blocks, at, None):
            for row_id in block[first:]:
                if high is not None and row_id >= high:
                    return
                yield row_id
            first = 0

    def count(self, low: str, high: str | None) -> int:
        """How many rows are in a range."""
        return max(0, self._rank(high) - self._rank(low))

    def fingerprint(self, low: str, high: str | None) -> int:
        """The fingerprint of a range."""
        return (self._sum_before(high) - self._sum_before(low)) % _MODULUS

    def bounds(self, low: str, high: str | None, parts: int) -> list[str]:
        """Ids that cut a range into parts of as many rows each; the range has at least as many rows as parts."""
        first, count = self._rank(low), self.count(low, high)
        return [self._at(first + count * part // parts) for part in range(1, parts)]

    def _block_of(self, bound: str) -> int:
        return max(0, bisect_right(self._firsts, bound) - 1)

    def _counts(self) -> list[int]:
        if self._counts_before is None:
            self._counts_before = list(accumulate(map(len, self._blocks), initial=0))
        return self._counts_before

    def _rank(self, bound: str | None) -> int:
        """How many ids come before a bound."""
        counts = self._counts()
        if bound is None:
            return counts[-1]
        at = self._block_of(bound)
        return counts[at] + bisect_left(self._blocks[at], bound)

    def _at(self, rank: int) -> str:
        at = bisect_right(self._counts(), rank) - 1
        return self._blocks[at][rank - self._counts()[at]]

    def _sum_before(self, bound: str | None) -> int:
        if self._sums_before is None:
            self._sums_before = list(accumulate(map(self._block_sum, range(len(self._blocks))), initial=0))
        if bound is None:
            return self._sums_before[-1]
        at = self._block_of(bound)
        block = self._blocks[at]
        return self._sums_before[at] + self._sum_of(block[: bisect_left(block, bound)])

    def _block_sum(self, at: int) -> int:
        known = self._sums[at]
        if known is None:
            known = self._sums[at] = self._sum_of(self._blocks[at])
        return known

    def _sum_of(self, row_ids: list[str]) -> int:
        return sum(row_fingerprint(row_id, self.rows[row_id]) for row_id in row_ids)


class Ranges:
    """The `RowRanges` of a store, made as they are asked for.

    Args:
        store: only read. At the end of each of its transactions `note` must be called.
    """

    def __init__(self, store: MergeableStore) -> None:
        self._store = store
        self._tables: dict[str, RowRanges] = {}

    def of(self, table_id: str) -> RowRanges:
        """The rows of a table; none, if there is no such table."""
        rows = self._store.get_stamped_rows(table_id)
        known = self._tables.get(table_id)
        if known is None or known.rows is not rows or len(known) != len(rows):
            # content was loaded, or rows were forgotten
            known = self._tables[table_id] = RowRanges(rows)
        return known

    def note(self) -> None:
        """To be called in a listener: the running transaction may have changed rows."""
        if self._tables:
            for table_id, row_id in self._store.get_changed_rows():
                known = self._tables.get(table_id)
                if known is not None and known.rows is self._store.get_stamped_rows(table_id):
                    known.note(row_id)

    def prepare(self, summed: Iterable[str] | None) -> bool:
        """Do some milliseconds of what is needed to answer without delay; returns whether nothing is left.

        Args:
            summed: the tables of which fingerprints are needed; None for all that are not small.
        """
        table_ids = list(self._store.get_mergeable_table_hashes())
        wanted = set(table_ids if summed is None else summed)
        for table_id in table_ids:
            known = self.of(table_id)
            if not (known.sum_some() if table_id in wanted else known.order_some()):
                return False
        return True

    def hlc_of(self, table_id: str) -> str:
        """The HLC of a table of its own."""
        return self._store.get_stamped_table_hlc(table_id)

    def rows(self, table_id: str, row_ids: Iterator[str], room: Room) -> tuple[list[Any], Iterator[str] | None]:
        """Whole rows of a table, as many as there is room for.

        Returns:
            A stamp of the table, and the ids that had no room, if any.
        """
        known = self._store.get_stamped_rows(table_id)
        found: dict[str, Any] = {}
        for row_id in row_ids:
            row = known[row_id]
            if not room.take(row_size(row_id, row)):
                return stamped(found, self.hlc_of(table_id)), chain((row_id,), row_ids)
            found[row_id] = row_stamp(row)
        return stamped(found, self.hlc_of(table_id)), None
