"""Ranges of rows: what they say is what is there, and two ends that compare them end equal, however it is cut up."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.store import MergeableStore
from mergesync.store import ranges as ranges_module
from mergesync.store.ranges import Ranges, RowRanges, row_fingerprint
from mergesync.sync import comparison
from mergesync.sync.comparison import Comparing, changes_in, compare
from mergesync.sync.operations import OK, Operation, decode_operation, operation_remainder
from mergesync.types import MergeableChanges

from .strategies import agreeing_bodies, ids, names_empties, wire_ids
from .support import leaves, new_store, store_of, sync

bounds = st.sampled_from(("", "a", "b", "c", "r1", "r5", "\ud800", "\uffff")) | ids()
row_ids = st.lists(ids() | st.integers(0, 60).map("r{}".format), unique=True, max_size=60)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that few rows make many of them."""
    monkeypatch.setattr(ranges_module, "_BLOCK", 3)


def rows_of(store: MergeableStore, low: str, high: str | None) -> list[str]:
    """The ids of a range, found the plain way."""
    return sorted(id_ for id_ in store.get_stamped_rows("t") if low <= id_ and (high is None or id_ < high))


def look(store: MergeableStore, ranges: RowRanges, low: str, high: str | None) -> None:
    """What is said of a range is what is in it."""
    expected = rows_of(store, low, high)
    rows = store.get_stamped_rows("t")
    assert list(ranges.ids(low, high)) == expected
    assert ranges.count(low, high) == len(expected)
    assert ranges.fingerprint(low, high) == sum(row_fingerprint(id_, rows[id_]) for id_ in expected) % 2**64
    if len(expected) > 2:
        cuts = [low, *ranges.bounds(low, high, 3), high]
        sizes = [ranges.count(first or "", end) for first, end in pairwise(cuts)]
        assert sum(sizes) == len(expected)
        assert max(sizes) - min(sizes) <= 1


@given(row_ids, st.lists(st.tuples(ids(), bounds, st.none() | bounds), max_size=10))
def test_ranges_are_what_is_there(first: list[str], steps: list[tuple[str, str, str | None]]) -> None:
    """At first, and after each change that was noted."""
    store = new_store()
    store.set_table("t", {row_id: {"c": 1} for row_id in first})
    all_ranges = Ranges(store)
    store.add_did_finish_transaction_listener(lambda _: all_ranges.note())
    look(store, all_ranges.of("t"), "", None)
    for number, (row_id, low, high) in enumerate(steps):
        store.set_cell("t", row_id, "c", number + 2)
        look(store, all_ranges.of("t"), low, None if high is None or high <= low else high)
        look(store, all_ranges.of("t"), "", None)


@given(wire_ids(), st.dictionaries(wire_ids(), st.integers(0, 3), min_size=1, max_size=4))
def test_a_fingerprint_does_not_depend_on_the_order_of_cells(row_id: str, cells: dict[str, int]) -> None:
    """Two stores that hold the same row, written in another order, have the same fingerprint."""
    one = new_store()
    one.set_row("t", row_id, cells)
    changes = one.get_mergeable_content()
    (row,) = changes[0][0]["t"][0].values()
    row[0] = dict(reversed(row[0].items()))
    other = new_store("two").set_mergeable_content(changes)
    (mine,), (theirs,) = one.get_stamped_rows("t").items(), other.get_stamped_rows("t").items()
    assert row_fingerprint(*mine) == row_fingerprint(*theirs)


# --- two ends ---------------------------------------------------------------------------------------------


class End:
    """A store with its ranges, kept up to date."""

    def __init__(self, store: MergeableStore) -> None:
        self.store = store
        self.ranges = Ranges(store)
        store.add_did_finish_transaction_listener(lambda _: self.ranges.note())


def over_the_wire(body: Any) -> Any:
    """A body as the other end reads it."""
    return decode_operation(operation_remainder(Operation("r", OK, body))).body


def exchange(asker: End, answerer: End) -> Iterator[None]:
    """Compare, request after request; what is said in the end is so, unless something was written meanwhile."""

    def merge(changes: MergeableChanges, newest: str) -> None:
        assert newest <= asker.store.latest_allowed_hlc()
        asker.store.merge_checked(changes)

    run = Comparing(asker.store, asker.ranges, merge).run()
    result: Any = None
    while True:
        try:
            body = run.send(None if result is None else over_the_wire(result))
        except StopIteration as stop:
            is_equal = stop.value
            break
        asked = over_the_wire(body)
        if (given := changes_in(asked)) is not None:
            answerer.store.apply_mergeable_changes(given[0])
        result = compare(answerer.store, answerer.ranges, asked, None)
        hashes = answerer.store.get_mergeable_content_hashes()
        yield
    assert is_equal == (asker.store.get_mergeable_content_hashes() == hashes)


@given(
    agreeing_bodies(2, 5),
    st.integers(0, 4),
    st.dictionaries(st.integers(0, 90).map("r{}".format), st.integers(0, 2), max_size=90),
    st.sampled_from((2, 3, 48)),
    st.sampled_from((1, 200, 10**6)),
    st.sampled_from((4, 1000)),
    st.none() | st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, 90).map("r{}".format)), max_size=4),
)
def test_two_ends_become_equal(
    bodies: list[Any],
    shared: int,
    rows: dict[str, int],
    parts: int,
    page_bytes: int,
    at_once: int,
    cut_after: int | None,
    meanwhile: list[tuple[bool, str]],
) -> None:
    """Whatever each of them has, with pages of any size, after a cut in the middle, and with writes meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "_PARTS", parts)
        patch.setattr(comparison, "MAX_PAGE_BYTES", page_bytes)
        patch.setattr(comparison, "_REQUEST", at_once)
        common, mine, theirs = bodies[:shared], bodies[shared::2], bodies[shared + 1 :: 2]
        one, two = End(store_of(*common, *mine)), End(store_of(*common, *theirs, unique_id="two"))
        with one.store.transaction(), two.store.transaction():
            for row_id, who in rows.items():
                for end in ((one,), (two,), (one, two))[who]:
                    end.store.set_cell("rows", row_id, "c", 1)
        for _ in zip(range(cut_after or 0), exchange(one, two), strict=False):
            pass
        writes = iter(meanwhile)
        for _ in exchange(one, two):
            for here, row_id in writes:
                (one if here else two).store.set_cell("rows", row_id, "c", row_id)
                break
        for _ in exchange(two, one):
            pass
        assert leaves(one.store) == leaves(two.store)
        sync(one.store, two.store)  # what is left is said of containers alone
        hashes = [end.store.get_mergeable_content_hashes() for end in (one, two)]
        assert hashes[0] == hashes[1] or any(map(names_empties, bodies))


def _merge(store: MergeableStore, changes: MergeableChanges, _: str) -> None:
    store.merge_checked(changes)


@pytest.mark.parametrize("changed", [1, 10])
def test_what_is_found_costs_what_differs(changed: int) -> None:
    """Few rows among many: bytes grow with d log N, not with N."""
    sent = {}
    for count in (1_000, 30_000):
        one = new_store()
        with one.transaction():
            for number in range(count):
                one.set_row("t", f"r{number:06}", {"c": number, "d": "x" * 20})
        two = new_store("two").set_mergeable_content(one.get_mergeable_content())
        for number in range(changed):
            two.set_cell("t", f"r{number * (count // changed):06}", "c", -1)
        ends = End(one), End(two)
        run = Comparing(one, ends[0].ranges, partial(_merge, one)).run()
        size = 0
        body = next(run)
        with pytest.raises(StopIteration) as stop:
            while True:
                assert changes_in(body) is None, "the other end has all"
                result = compare(two, ends[1].ranges, body, None)
                size += len(operation_remainder(Operation("r", OK, body)))
                size += len(operation_remainder(Operation("r", OK, result)))
                body = run.send(result)
        assert stop.value.value
        sent[count] = size
    assert sent[1_000] < 4_000 * changed
    assert sent[30_000] < 2.5 * sent[1_000]
