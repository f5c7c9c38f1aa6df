"""Fingerprints of ranges of rows, kept up to date."""

from __future__ import annotations

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
