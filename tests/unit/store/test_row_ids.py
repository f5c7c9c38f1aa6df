"""Ids for rows that are added without one."""

from __future__ import annotations

from mergesync.store.row_ids import RowIds


def test_released_ids_come_first() -> None:
    """Released ids of digits come first, in order, if reuse is wanted; taken ones are skipped and gone."""
    row_ids = RowIds()
    for row_id in ("7", "x", "007", "²", "3"):
        row_ids.release(row_id)
    assert row_ids.take(lambda _: False, False) == "0"
    assert row_ids.take(lambda row_id: row_id == "7", True) == "007"
    assert [row_ids.take(lambda row_id: row_id == "1", True) for _ in range(2)] == ["3", "2"]


def test_no_more_than_a_thousand_are_kept() -> None:
    """Of released ids, the first thousand are remembered."""
    row_ids = RowIds()
    for number in range(5000, 6001):
        row_ids.release(str(number))
    given = [row_ids.take(lambda _: False, True) for _ in range(1001)]
    assert given[:1000] == [str(number) for number in range(5000, 6000)]
    assert given[1000] == "0"
