"""How two mergesync ends find out what each of them lacks, and exchange it in pages (docs/protocol.md, `compare`).

The one that asks tells fingerprints of ranges of row ids; the other answers those that differ with fingerprints of
their parts. Where few rows are left they are listed, each with its own fingerprint, and answered with the rows that are
lacking or otherwise. So d rows among N are found with O(d log N) bytes, and a table that one of them lacks is a list of
nothing, answered with page after page. (Range-based set reconciliation: Aljoscha Meyer, arXiv:2212.13567.)

`Comparing` asks, `compare` answers, and keeps nothing between two requests.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeAlias

from mergesync.exceptions import ContentError, RemoteProtocolError
from mergesync.limits import MAX_COMPARED_RANGES, MAX_PAGE_BYTES
from mergesync.store import MergeableStore
from mergesync.store.bodies import WIRE, check_tables, check_values, hlc_of
from mergesync.store.diff import Room, row_stamp, stamped
from mergesync.store.jsjson import string_text
from mergesync.store.ranges import Ranges, RowRanges, row_fingerprint
from mergesync.store.texts import container_text, row_text
from mergesync.sync.admission import body_within, is_empty
from mergesync.sync.packing import packed, unpacked_json
from mergesync.sync.resuming import checked_changes
from mergesync.types import MergeableChanges

__all__ = ["Comparing", "changes_in", "compare", "summed_tables"]

_PARTS: Final = 48
"""Into how many parts a range is cut, and how many rows are listed rather than cut: the bytes of a search are about
(log N / log parts) x parts x 20, which is least for few parts, and its round trips for many."""

_RANGE_BYTES: Final = 40  # of a part in an answer
_ROUNDS: Final = 4  # both may go on to be changed meanwhile
_REQUEST: Final = MAX_COMPARED_RANGES // 2  # ranges and listed rows in a request

_Claim: TypeAlias = "str | dict[str, str] | None"
"""What somebody has in a range: a fingerprint (empty for nothing), its rows with theirs, or nothing said."""

_Range: TypeAlias = tuple[str, str, "str | None", _Claim]
"""`(table id, first id, id after the last or None, what is claimed of it)`."""


def _text(fingerprint: int) -> str:
    return b64encode(fingerprint.to_bytes(8))[:11].decode()


def _fingerprint(rows: RowRanges, low: str, high: str | None) -> str:
    return _text(rows.fingerprint(low, high)) if rows.count(low, high) else ""


def _listing(rows: RowRanges, low: str, high: str | None) -> dict[str, str]:
    return {row_id: _text(row_fingerprint(row_id, rows.rows[row_id])) for row_id in rows.ids(low, high)}


def _parts(table_id: str, rows: RowRanges, low: str, high: str | None) -> Iterator[_Range]:
    """A range cut into parts of as many rows each, with their fingerprints."""
    for first, end in pairwise([low, *rows.bounds(low, high, _PARTS), high]):
        assert first is not None
        yield table_id, first, end, _fingerprint(rows, first, end)


# --- on the wire ------------------------------------------------------------------------------------------


def _encoded(ranges: Iterable[_Range]) -> list[list[Any]]:
    """Ranges as they travel: `[table id, first id, claim, next id, claim, ..., last id or null]` where they adjoin."""
    stretches: list[list[Any]] = []
    for table_id, low, high, claim in ranges:
        if stretches and stretches[-1][0] == table_id and stretches[-1][-1] == low:
            stretches[-1] += (claim, high)
        else:
            stretches.append([table_id, low, claim, high])
    return stretches


def _decoded(stretches: Any) -> Iterator[_Range]:
    """Ranges from a stranger; raises RemoteProtocolError."""
    _require(isinstance(stretches, list))
    for stretch in stretches:
        _require(isinstance(stretch, list) and len(stretch) >= 4 and len(stretch) % 2 == 0)
        table_id = stretch[0]
        _require(isinstance(table_id, str))
        for at in range(1, len(stretch) - 1, 2):
            low, claim, high = stretch[at : at + 3]
            _require(isinstance(low, str) and (high is None or (isinstance(high, str) and low < high)))
            _require(isinstance(claim, str | None) or _is_dict_of(str, claim))
            yield table_id, low, high, claim


def _is_dict_of(kind: type, dict_: Any) -> bool:
    return isinstance(dict_, dict) and all(isinstance(value, kind) for value in dict_.values())


def _is_list_of_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(isinstance(id_, str) for id_ in ids)


def _require(condition: bool) -> None:
    if not condition:
        raise RemoteProtocolError("not a comparison of ranges")


# --- answering --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """An answer in the making."""

    room: Room = field(default_factory=lambda: Room(MAX_PAGE_BYTES))
    tables: dict[str, list[bytes]] = field(default_factory=dict)  # the JSON of rows
    wanted: dict[str, list[str]] = field(default_factory=dict)
    open: list[_Range] = field(default_factory=list)


def changes_in(body: Any) -> tuple[MergeableChanges, str] | None:
    """The changes that come with a request, with the greatest HLC in them; raises RemoteProtocolError."""
    match body:
        case [_, _, _, changes]:
            return changes, checked_changes(changes)
        case _:
            return None


def summed_tables(body: Any) -> list[str]:
    """The tables of which fingerprints are needed to answer a request, if it is one."""
    match body:
        case [_, _, [*stretches], *_]:
            lists = [stretch for stretch in stretches if isinstance(stretch, list)]
            return [
                stretch[0] for stretch in lists if all(map(_is_text, stretch[:1])) and any(map(_is_text, stretch[2::2]))
            ]
        case _:
            return []


def _is_text(claim: Any) -> bool:
    return isinstance(claim, str)


def compare(store: MergeableStore, ranges: Ranges, body: Any, cursor: str | None) -> list[Any]:
    """Answer a request `compare`.

    Args:
        store: only read.
        ranges: of the store.
        body: `[ids of all tables or null, hashes of all values or null, ranges]`, and what `changes_in` reads.
        cursor: where who has everything is, if that has a name.

    Returns:
        `[stamp of tables, {table: ids of wanted rows}, ranges that are open, stamp of values or null, ids of wanted
        values, content hashes or null, cursor or null]`.

    Raises:
        RemoteProtocolError: it is not such a request.
    """
    _require(isinstance(body, list) and len(body) in (3, 4))
    table_ids, value_hashes, stretches, *_ = body
    _require(table_ids is None or _is_list_of_ids(table_ids))
    _require(value_hashes is None or _is_dict_of(int, value_hashes))
    claims = list(_decoded(stretches))
    _require(len(claims) <= MAX_COMPARED_RANGES)
    found = _Found()
    for claim in claims:
        _answer_claim(ranges, found, *claim)
    if table_ids is not None:
        known = set(table_ids)
        for table_id in store.get_mergeable_table_hashes():
            if table_id not in known:
                _answer_listing(ranges, found, table_id, "", None, {})
    values, wanted_values = None, []
    if value_hashes is not None:
        values = store.get_mergeable_value_diff(value_hashes)
        ours = store.get_mergeable_value_hashes()
        wanted_values = [value_id for value_id, hash_ in value_hashes.items() if ours.get(value_id) != hash_]
    hashes = None if found.open else store.get_mergeable_content_hashes()
    tables = packed(_tables_text(ranges, found.tables, store.get_stamped_table_hlc(None)))
    return [tables, found.wanted, _encoded(found.open), values, wanted_values, hashes, cursor]


def _answer_claim(ranges: Ranges, found: _Found, table_id: str, low: str, high: str | None, claim: _Claim) -> None:
    if isinstance(claim, dict):
        _answer_listing(ranges, found, table_id, low, high, claim)
        return
    rows = ranges.of(table_id)
    ours = _fingerprint(rows, low, high)
    if ours == claim:
        return
    if rows.count(low, high) <= _PARTS:
        found.open.append((table_id, low, high, ours))
    elif found.room.take(_PARTS * _RANGE_BYTES):
        found.open += _parts(table_id, rows, low, high)
    else:
        found.open.append((table_id, low, high, None))


def _answer_listing(
    ranges: Ranges, found: _Found, table_id: str, low: str, high: str | None, listed: dict[str, str]
) -> None:
    """Give the rows that the asker lacks or has otherwise, as far as there is room; want those that are not here."""
    rows = ranges.of(table_id)
    texts: list[bytes] = []
    for row_id in rows.ids(low, high):
        row = rows.rows[row_id]
        if row_id in listed and listed[row_id] == _text(row_fingerprint(row_id, row)):
            continue
        text = row_text(row_id, row)
        if not found.room.take(len(text)):
            found.open.append((table_id, row_id, high, None))
            high = row_id
            break
        texts.append(text)
    wanted = [
        row_id for row_id in listed if row_id not in rows.rows and low <= row_id and (high is None or row_id < high)
    ]
    if wanted:
        found.wanted.setdefault(table_id, []).extend(wanted)
    if texts:
        found.tables.setdefault(table_id, []).extend(texts)


def _tables_text(ranges: Ranges, tables: dict[str, list[bytes]], hlc: str) -> bytes:
    """The JSON of a stamp of tables."""
    texts = [
        b"%b:%b" % (string_text(table_id), container_text(rows, ranges.hlc_of(table_id)))
        for table_id, rows in tables.items()
    ]
    return container_text(texts, hlc)


# --- asking -----------------------------------------------------------------------------------------------


Merge: TypeAlias = Callable[[MergeableChanges, str], object]
"""Merges changes, checked in form, of which the greatest HLC is given."""


class Comparing:
    """Makes a store equal to that of the other end.

    Args:
        store: is changed through `merge` alone.
        ranges: of the store.
        merge: merges what the other end gives.
        their_hashes: its content hashes, as far as known.
        their_latest: a stamp that nothing there exceeds, as far as known: what is later here is given at once.

    Attributes:
        cursor: where the other end says that this store is, now that both are equal (see `window`).
    """

    def __init__(
        self,
        store: MergeableStore,
        ranges: Ranges,
        merge: Merge,
        their_hashes: list[int] | None = None,
        their_latest: str | None = None,
    ) -> None:
        self._store = store
        self._ranges = ranges
        self._merge = merge
        self._todo: list[tuple[str, str, str | None]] = []
        self._giving: deque[tuple[str, Iterator[str]]] = deque()  # rows by table
        self._newer: dict[str, Any] = {}  # cells by table and row, and values, that are newer here
        self._newer_values: dict[str, Any] = {}
        self._listed: dict[str, set[str]] = {}  # in the last request, by table
        self._hashes: Any = their_hashes
        self._their_latest = their_latest
        self._unmerged: tuple[MergeableChanges, str] | None = None  # what came last
        self.cursor: str | None = None

    def run(self) -> Generator[list[Any], Any, bool]:
        """Yields the bodies of requests and is sent their results; returns whether the hashes are equal in the end.

        Raises:
            RemoteProtocolError: a result is not of the form that was asked for.
        """
        for _ in range(_ROUNDS):
            before = (self._store.get_mergeable_content_hashes(), self._hashes)
            self._hashes = None
            table_ids = list(self._store.get_mergeable_table_hashes())
            self._todo = [(table_id, "", None) for table_id in reversed(table_ids)]
            ranges = self._next_ranges()
            self._take((yield [table_ids, self._store.get_mergeable_value_hashes(), ranges, *self._later()]))
            while self._todo or self._gives or self._hashes is None:
                gives = self._gives and (not self._todo or sum(map(len, self._newer.values())) >= _REQUEST)
                page = self._next_page() if gives else []  # little is given at once
                self._take((yield [None, None, self._next_ranges(), *page]))
            self.absorb()
            ours = self._store.get_mergeable_content_hashes()
            if self._hashes == ours:
                return True
            if before == (ours, self._hashes):  # one of them does not take what it is given
                return False
        return False

    def _next_ranges(self) -> list[list[Any]]:
        """As many of the ranges to be compared as one request holds, with what is here."""
        asked: list[_Range] = []
        size = 0
        self._listed = {}
        while self._todo and size < _REQUEST:
            table_id, low, high = self._todo.pop()
            rows = self._ranges.of(table_id)
            if rows.count(low, high) > _PARTS:
                asked += _parts(table_id, rows, low, high)
                size += _PARTS
            else:
                listed = _listing(rows, low, high)
                self._listed.setdefault(table_id, set()).update(listed)
                asked.append((table_id, low, high, listed))
                size += 1 + len(listed)
        return _encoded(asked)

    # --- what the other end answers

    def absorb(self) -> None:
        """Merge what came last; that can be done while the other end makes what comes next."""
        unmerged, self._unmerged = self._unmerged, None
        if unmerged is not None:
            self._merge(*unmerged)
            self._store.get_mergeable_content_hashes()  # page by page, rather than of everything in the end

    def _take(self, result: Any) -> None:
        self.absorb()
        _require(isinstance(result, list) and len(result) == 7)
        tables, wanted, open_, values, wanted_values, self._hashes, self.cursor = result
        _require(isinstance(self.cursor, str | None))
        tables = unpacked_json(tables)
        try:
            newest = check_tables(tables, WIRE)
            if values is not None:
                newest = max(newest, check_values(values, WIRE))
        except ContentError as error:
            raise RemoteProtocolError(f"a comparison: {error}") from error
        _require(isinstance(wanted, dict) and all(map(_is_list_of_ids, wanted.values())))
        _require(_is_list_of_ids(wanted_values))
        still_open = list(_decoded(open_))
        if tables[0] or (values is not None and values[0]):
            self._unmerged = [tables, [{}] if values is None else values, 1], newest
        self._note_newer(tables)
        self._note_newer_values(wanted_values, {} if values is None else values[0])
        for table_id, row_ids in wanted.items():
            known = self._store.get_stamped_rows(table_id)
            self._giving.append((table_id, iter([row_id for row_id in row_ids if row_id in known])))
        for table_id, low, high, claim in reversed(still_open):
            rows = self._ranges.of(table_id)
            if claim == "":
                self._giving.append((table_id, rows.ids(low, high)))
            elif claim is None or claim != _fingerprint(rows, low, high):
                self._todo.append((table_id, low, high))

    # --- what the other end lacks

    @property
    def _gives(self) -> bool:
        return bool(self._giving or self._newer or self._newer_values)

    def _note_newer(self, theirs: list[Any]) -> None:
        """Of the rows that both have otherwise, the cells that are newer here are to be given."""
        for table_id, table in theirs[0].items():
            rows = self._store.get_stamped_rows(table_id)
            listed = self._listed.get(table_id, set())
            for row_id in (row_id for row_id in table[0] if row_id in listed):
                cells = _beyond(row_stamp(rows[row_id])[0], table[0][row_id][0])
                if cells:
                    self._newer.setdefault(table_id, {})[row_id] = [cells]

    def _note_newer_values(self, value_ids: list[str], theirs: dict[str, Any]) -> None:
        if value_ids:
            values = self._store.get_mergeable_value_diff({})[0]
            ours = {value_id: values[value_id] for value_id in value_ids if value_id in values}
            self._newer_values |= _beyond(ours, theirs)

    def _later(self) -> list[MergeableChanges]:
        """What is later than anything there, if that is something, and fits a page: that need not be found first."""
        latest, self._their_latest = self._their_latest, None
        if latest is None:
            return []
        later = ((leaf, stamped(wire, hlc)) for leaf, (wire, hlc) in self._store.get_stamps_after(latest))
        found = body_within(MAX_PAGE_BYTES, later)
        return [] if found is None or is_empty(found) else [found]

    def _next_page(self) -> list[MergeableChanges]:
        """What is newer here, and as many of the rows that are wanted as one page holds; empty if there are none."""
        room = Room(MAX_PAGE_BYTES)
        tables, self._newer = {table_id: [rows] for table_id, rows in self._newer.items()}, {}
        values, self._newer_values = self._newer_values, {}
        while self._giving and not room.is_full:
            table_id, row_ids = self._giving[0]
            table, left = self._ranges.rows(table_id, row_ids, room)
            if table[0]:
                tables[table_id] = stamped(tables.get(table_id, [{}])[0] | table[0], hlc_of(table))
            if left is None:
                self._giving.popleft()
            else:
                self._giving[0] = (table_id, left)
        if not (tables or values):
            return []
        self._hashes = None  # those that were told are of before
        return [[stamped(tables, self._store.get_stamped_table_hlc(None)), [values], 1]]


def _beyond(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The leaves that are newer than another's, or that it lacks."""
    return {
        leaf_id: stamp
        for leaf_id, stamp in ours.items()
        if leaf_id not in theirs or hlc_of(stamp) > hlc_of(theirs[leaf_id])
    }
