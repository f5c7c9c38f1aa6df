"""What a client wants to change, as an application reads and edits it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE, check_id, decode_cell, encode_cell, same_wire
from mergesync.sync.admission import Leaf, leaves_of
from mergesync.sync.review import Verdict, without
from mergesync.types import MISSING, CellOrMissing, MergeableChanges

__all__ = ["Changes", "news_in", "refusal", "verdict_of"]

_NOTHING: MergeableChanges = [[{}], [{}], 1]


def news_in(store: MergeableStore, body: MergeableChanges) -> Iterator[tuple[Leaf, Any]]:
    """The leaves of a body that would replace what is in the store, with their stamps."""
    for leaf, stamp in leaves_of(body):
        present = store.get_stamp(*leaf)
        if present is None or hlc_of(stamp) > present[1]:
            yield leaf, stamp


def refusal(store: MergeableStore, body: MergeableChanges, reasons: tuple[str, ...], *, corrects: bool) -> Verdict:
    """All that is new in a body is refused."""
    refused = {leaf: hlc_of(stamp) for leaf, stamp in news_in(store, body)}
    if not refused:
        return Verdict(body if corrects else _NOTHING)
    return Verdict(without(body, refused) if corrects else _NOTHING, refused, {}, reasons, corrects)


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
        old_tables: what the cells of `tables` are at present, in the same form; nobody looks at changes of it.
        old_values: what the values of `values` are.
        pulled: whether they are what the client has done while it was away. Else they are one transaction of its.
    """

    def __init__(self, store: MergeableStore, body: MergeableChanges, *, pulled: bool) -> None:
        self.tables: dict[str, dict[str, dict[str, CellOrMissing]]] = {}
        self.values: dict[str, CellOrMissing] = {}
        self.old_tables: dict[str, dict[str, dict[str, CellOrMissing]]] = {}
        self.old_values: dict[str, CellOrMissing] = {}
        self.pulled: bool = pulled
        self._body = body
        self._news: dict[Leaf, Any] = {}
        new, old = self.values, self.old_values
        place: tuple[str, str] | None = None
        for leaf, stamp in leaves_of(body):
            table_id, row_id, leaf_id = leaf
            present = store.get_stamp(table_id, row_id, leaf_id)
            if present is not None and hlc_of(stamp) <= present[1]:
                continue
            self._news[leaf] = stamp
            if table_id is None:
                new, old = self.values, self.old_values
            elif (table_id, row_id) != place:
                place = table_id, row_id
                new = self.tables.setdefault(table_id, {}).setdefault(row_id, {})
                old = self.old_tables.setdefault(table_id, {}).setdefault(row_id, {})
            new[leaf_id] = decode_cell(stamp[0])
            old[leaf_id] = MISSING if present is None else decode_cell(present[0])

    def __bool__(self) -> bool:
        return bool(self._news)

    def _leaves(self) -> Iterator[tuple[Leaf, CellOrMissing]]:
        for table_id, table in self.tables.items():
            for row_id, row in table.items():
                for cell_id, cell in row.items():
                    yield (table_id, row_id, cell_id), cell
        for value_id, value in self.values.items():
            yield (None, "", value_id), value


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
    left = dict(changes._news)
    refused: dict[Leaf, str] = {}
    instead: dict[Leaf, Any] = {}
    for leaf, cell in changes._leaves():
        stamp = left.pop(leaf, None)
        wire = TOMBSTONE if cell is MISSING else encode_cell(cell)
        if stamp is None:
            table_id, row_id, leaf_id = leaf
            instead[table_id and check_id(table_id), check_id(row_id), check_id(leaf_id)] = wire
        elif not same_wire(wire, stamp[0]):
            refused[leaf] = hlc_of(stamp)
            instead[leaf] = wire
    refused.update((leaf, hlc_of(stamp)) for leaf, stamp in left.items())
    if not refused:
        return Verdict(changes._body, instead=instead)
    return Verdict(without(changes._body, refused), refused, instead, reasons if left else (), corrects)
