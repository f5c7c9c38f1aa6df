"""Fingerprints of ranges of rows, kept up to date."""

from __future__ import annotations

import pytest

from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges, RowRanges, row_fingerprint


def test_what_has_changed_is_summed_anew() -> None:
    """And nothing else is; the sums are those of ranges made afresh."""
    store = MergeableStore()
    ids = [f"r{number:03}" for number in range(300)]
    for row_id in ids:
        store.set_cell("t", row_id, "c", 1)
    rows = store.get_stamped_rows("t")
    kept = RowRanges(rows)
    before = kept.fingerprint("", None)
    assert before == sum(row_fingerprint(row_id, rows[row_id]) for row_id in ids) % 2**64
    for row_id in ("r150", "r299x"):
        store.set_cell("t", row_id, "c", 2)
        kept.note(row_id)
        for low, high in (("", None), ("r100", "r200"), ("r299", None)):
            assert kept.fingerprint(low, high) == RowRanges(rows).fingerprint(low, high)
    assert kept.fingerprint("", None) != before
    assert kept.count("", None) == 301


def test_of_no_such_table() -> None:
    """There is nothing in it."""
    ranges = Ranges(MergeableStore()).of("t")
    assert (list(ranges.ids("", None)), ranges.count("", None), ranges.fingerprint("", None)) == ([], 0, 0)


def test_rows_that_are_forgotten() -> None:
    """Nobody tells of them, but what is asked then is answered without them."""
    store = MergeableStore().set_table("t", {"a": {"c": 1}, "b": {"c": 1}})
    ranges = Ranges(store)
    assert list(ranges.of("t").ids("", None)) == ["a", "b"]
    store.del_row("t", "a").forget_deleted_rows("t")
    assert list(ranges.of("t").ids("", None)) == ["b"]


def many(count: int) -> MergeableStore:
    """A store with a table of so many rows, which came in no order."""
    store = MergeableStore()
    with store.transaction():
        for number in range(count):
            store.set_cell("t", f"r{number * 7919 % count:06}", "c", number)
    return store


def test_a_large_table_is_prepared_little_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes meanwhile counts, and what is asked meanwhile is answered."""
    monkeypatch.setattr("mergesync.store.ranges._SORTED_AT_ONCE", 100)
    monkeypatch.setattr("mergesync.store.ranges._BLOCKS_AT_ONCE", 2)
    store = many(1000)
    ranges = Ranges(store)
    store.add_did_finish_transaction_listener(lambda _: ranges.note())
    steps = 0
    while not ranges.prepare(None):
        store.set_cell("t", f"new{steps}", "c", steps).set_cell("t", "r000000", "c", -steps)
        steps += 1
    assert steps > 10 + 8
    rows = store.get_stamped_rows("t")
    known = ranges.of("t")
    assert list(known.ids("", None)) == sorted(rows)
    assert known.fingerprint("", None) == RowRanges(rows).fingerprint("", None)
    assert ranges.prepare(None)
    store.set_cell("t", "r000500", "c", "other")
    known.note("r000500")
    ranges.prepare(None)
    assert known.fingerprint("", None) == RowRanges(rows).fingerprint("", None)


def test_only_the_order_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no fingerprints are asked for."""
    monkeypatch.setattr("mergesync.store.ranges._SORTED_AT_ONCE", 100)
    store = many(200)
    ranges = Ranges(store)
    steps = 0
    while not ranges.prepare(()):
        steps += 1
    assert steps == 2
    assert ranges.of("t")._sums == [None] * 4


def test_what_is_asked_while_it_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered at once."""
    monkeypatch.setattr("mergesync.store.ranges._SORTED_AT_ONCE", 100)
    known = Ranges(many(500)).of("t")
    assert not known.order_some()
    assert (len(known), known.count("r000100", "r000200")) == (500, 100)
