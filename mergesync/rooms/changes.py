"""What a client wants to change, as an application reads and edits it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE, check_id, decode_cell, encode_cell, same_wire
from mergesync.store.stamps import Stamp, cell_of, text_in
from mergesync.sync.admission import ByRow, Place, rows_of
from mergesync.sync.review import Verdict, without
from mergesync.types import MISSING, CellOrMissing, MergeableChanges

__all__ = ["Changes", "news_in", "refusal", "verdict_of"]

_NOTHING: MergeableChanges = [[{}], [{}], 1]
_MUTABLE = (dict, list)

_Given: TypeAlias = tuple[dict[str, CellOrMissing], dict[str, Any]]
"""What the application was given of a row, and the leaves it was made from."""

_NOT_GIVEN: _Given = ({}, {})


def news_in(store: MergeableStore, body: MergeableChanges) -> ByRow[str]:
    """The leaves of a body that would replace what is in the store, with their HLCs."""
    found = {}
    for table_id, row_id, leaves in rows_of(body):
        news = store.get_news(table_id, row_id, leaves)
        if news:
            found[table_id, row_id] = {leaf_id: hlc_of(leaves[leaf_id]) for leaf_id in news}
    return found


def refusal(store: MergeableStore, body: MergeableChanges, reasons: tuple[str, ...], *, corrects: bool) -> Verdict:
    """All that is new in a body is refused."""
    refused = news_in(store, body)
    if not refused:
        return Verdict(body if corrects else _NOTHING)
    return Verdict(without(body, refused) if corrects else _NOTHING, refused, {}, reasons, corrects, denied=True)


class Changes:
    """What a client wants to change; edit it to change that.

    Of what is new, whatever is still in `tables` and `values` after the hook is what is merged: give a cell another
    value to correct it, `del` it to refuse it, add cells that belong to it. `MISSING` is a deletion. To refuse all of
    it, raise `RefusedError`.

    Args:
        store: of the path, not changed yet.
        body: what is proposed.
        pulled: see below.

    Attributes:
        tables: the new cells, `{table_id: {row_id: {cell_id: cell or MISSING}}}`.
        values: the new values, `{value_id: value or MISSING}`.
        pulled: whether they are what the client has done while it was away. Else they are one transaction of its.
    """

    def __init__(self, store: MergeableStore, body: MergeableChanges, *, pulled: bool) -> None:
        self.tables: dict[str, dict[str, dict[str, CellOrMissing]]] = {}
        self.values: dict[str, CellOrMissing] = {}
        self.pulled: bool = pulled
        self._body = body
        self._given: dict[Place, _Given] = {}
        self._replaced: dict[Place, dict[str, Stamp | None]] = {}
        for table_id, row_id, leaves in rows_of(body):
            news = store.get_news(table_id, row_id, leaves)
            if news:
                given = {leaf_id: decode_cell(leaves[leaf_id][0]) for leaf_id in news}
                self._given[table_id, row_id] = given, leaves
                self._replaced[table_id, row_id] = news
                if table_id is None:
                    self.values = given.copy()
                else:
                    self.tables.setdefault(table_id, {})[row_id] = given.copy()

    @cached_property
    def old_tables(self) -> dict[str, dict[str, dict[str, CellOrMissing]]]:
        """What the cells of `tables` are at present, in the same form; nobody looks at changes of it."""
        tables: dict[str, dict[str, dict[str, CellOrMissing]]] = {}
        for (table_id, row_id), stamps in self._replaced.items():
            if table_id is not None:
                tables.setdefault(table_id, {})[row_id] = _cells(stamps)
        return tables

    @cached_property
    def old_values(self) -> dict[str, CellOrMissing]:
        """What the values of `values` are."""
        return _cells(self._replaced.get((None, ""), {}))

    def __bool__(self) -> bool:
        return bool(self._given)

    def _rows(self) -> Iterator[tuple[str | None, str, dict[str, CellOrMissing]]]:
        for table_id, table in self.tables.items():
            for row_id, row in table.items():
                yield table_id, row_id, row
        yield None, "", self.values


def verdict_of(changes: Changes, *, reasons: tuple[str, ...], corrects: bool) -> Verdict:
    """What an application has decided by what it has left of changes.

    Args:
        changes: as the hook has left them.
        reasons: said of what is refused.
        corrects: see `Verdict`.

    Raises:
        InvalidCellError: it has put there what is no cell.
        InvalidIdError: likewise for an id.
    """
    refused: dict[Place, dict[str, str]] = {}
    instead: dict[Place, dict[str, Any]] = {}
    left = changes._given.copy()
    takes_away = False
    for table_id, row_id, cells in changes._rows():
        given, leaves = left.pop((table_id, row_id), _NOT_GIVEN)
        wires = {}
        for leaf_id, cell in cells.items():
            if leaf_id not in given:
                wires[check_id(leaf_id)] = _wire(cell)
            elif cell is not given[leaf_id] or cell.__class__ in _MUTABLE:
                wire = _wire(cell)
                if not same_wire(wire, leaves[leaf_id][0]):
                    wires[leaf_id] = wire
        if wires:
            instead.setdefault((None if table_id is None else check_id(table_id), check_id(row_id)), {}).update(wires)
        gone = given.keys() - cells.keys()
        if wires or gone:
            takes_away = takes_away or bool(gone)
            not_taken = {leaf_id: hlc_of(leaves[leaf_id]) for leaf_id in given if leaf_id in wires or leaf_id in gone}
            if not_taken:
                refused[table_id, row_id] = not_taken
    for place, (given, leaves) in left.items():
        takes_away = True
        refused[place] = {leaf_id: hlc_of(leaves[leaf_id]) for leaf_id in given}
    if not refused:
        return Verdict(changes._body, instead=instead)
    return Verdict(without(changes._body, refused), refused, instead, reasons if takes_away else (), corrects)


def _cells(stamps: Mapping[str, Stamp | None]) -> dict[str, CellOrMissing]:
    return {leaf_id: MISSING if stamp is None else cell_of(text_in(stamp)) for leaf_id, stamp in stamps.items()}


def _wire(cell: CellOrMissing) -> Any:
    return TOMBSTONE if cell is MISSING else encode_cell(cell)
