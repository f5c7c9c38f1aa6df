"""Checking a tree of stamps: every stamp's form and time, and every hash against the formulas of protocol section 4.

Written apart from the store on purpose: the store must not be the witness for its own hashes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mergesync.cli.common import shown_id
from mergesync.exceptions import MergesyncError
from mergesync.store.cells import ENCODED, encode_cell
from mergesync.store.hlc import is_hlc
from mergesync.store.jsjson import dumps, fnv1a, loads
from mergesync.store.leaves import child_hash

__all__ = ["Checked", "check_plain", "check_tree"]

_ROWS_DEPTH = 3


@dataclass(slots=True)
class Checked:
    """What was found.

    Attributes:
        stamps: how many leaves there are, tombstones included.
        hashes: of tables and of values, as recomputed.
        problems: what is wrong, with its place.
        notes: what is unusual, but in order.
    """

    stamps: int = 0
    hashes: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_tree(content: Any, latest: str, *, with_hashes: bool) -> Checked:
    """Check `[tables, values]` of stamps.

    Args:
        content: what was read.
        latest: the largest stamp that is not too far in the future.
        with_hashes: whether every stamp must have its hash.
    """
    walk = _Walk(latest, with_hashes)
    tables = walk.container(content[0], ("tables",), _ROWS_DEPTH)
    values = walk.container(content[1], ("values",), 1)
    walk.found.hashes = (tables, values)
    return walk.found


class _Walk:
    def __init__(self, latest: str, with_hashes: bool) -> None:
        self.found = Checked()
        self._latest = latest
        self._with_hashes = with_hashes

    def container(self, stamp: Any, where: tuple[str, ...], depth: int) -> int:
        """Check a container and what is in it; returns its hash, recomputed."""
        hlc = self._check_stamp(stamp, where)
        if hlc is None:
            return 0
        if not isinstance(stamp[0], dict):
            return self._complain(where, "is not an object")
        hash_ = fnv1a(hlc) if hlc else 0
        for id_, child in stamp[0].items():
            if depth > 1:
                hash_ ^= child_hash(id_, self.container(child, (*where, id_), depth - 1))
            else:
                hash_ ^= child_hash(id_, self._leaf(child, (*where, id_))) ^ child_hash(id_, 0)
        return self._check_hash(stamp, hash_, where)

    def _leaf(self, stamp: Any, where: tuple[str, ...]) -> int:
        self.found.stamps += 1
        hlc = self._check_stamp(stamp, where)
        if hlc is None:
            return 0
        try:
            _check_wire(stamp[0])
            text = dumps(stamp[0])
        except (TypeError, ValueError, RecursionError) as error:
            return self._complain(where, f"is no cell: {error}")
        return self._check_hash(stamp, fnv1a(f"{'null' if stamp[0] == _TOMBSTONE else text}:{hlc}"), where)

    def _check_stamp(self, stamp: Any, where: tuple[str, ...]) -> str | None:
        """The HLC of a stamp, or None if it is no stamp."""
        sizes = (3,) if self._with_hashes else (1, 2)
        if not isinstance(stamp, list | tuple) or len(stamp) not in sizes:
            self._complain(where, "is not a stamp")
            return None
        hlc = stamp[1] if len(stamp) > 1 else ""
        if not is_hlc(hlc):
            self._complain(where, "has a malformed time stamp")
            return None
        if hlc > self._latest:
            self._complain(where, f"has a time stamp in the future: {hlc}")
        return str(hlc)

    def _check_hash(self, stamp: Any, hash_: int, where: tuple[str, ...]) -> int:
        if self._with_hashes and (isinstance(stamp[2], bool) or stamp[2] != hash_):
            self._complain(where, f"has the hash {stamp[2]!r:.40}, which should be {hash_}")
        return hash_

    def _complain(self, where: tuple[str, ...], what: str) -> int:
        self.found.problems.append(f"{' '.join(map(shown_id, where))} {what}")
        return 0


_TOMBSTONE = "\ufffc"


def _check_wire(wire: Any) -> None:
    """Raises ValueError if the wire form is no cell's."""
    if isinstance(wire, float) and not math.isfinite(wire):
        raise ValueError("not a finite number")
    if isinstance(wire, str) and wire.startswith(ENCODED) and not isinstance(loads(wire[1:]), dict | list):
        raise ValueError("neither an object nor an array")


def check_plain(content: Any) -> Checked:
    """Check `[tables, values]` without stamps, as a plain store has them."""
    found = Checked(notes=["content without stamps, which get fresh ones when it is loaded"])
    for where, cell in _plain_leaves(content, found.problems.append):
        found.stamps += 1
        try:
            encode_cell(cell)
        except MergesyncError as error:
            found.problems.append(f"{' '.join(map(shown_id, where))} is no cell: {error}")
    return found


def _plain_leaves(content: Any, complain: Callable[[str], None]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for value_id, value in content[1].items():
        yield ("values", value_id), value
    for table_id, table in content[0].items():
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            complain(f"tables {shown_id(table_id)} is not a table of rows")
            continue
        for row_id, row in table.items():
            for cell_id, cell in row.items():
                yield ("tables", table_id, row_id, cell_id), cell
