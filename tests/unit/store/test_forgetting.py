"""Deleted rows that are forgotten: nothing is left of them, and all hashes are those of what is left."""

from __future__ import annotations

import pytest

from mergesync.store import MergeableStore


@pytest.mark.parametrize("hashed", [False, True])
def test_some_rows(hashed: bool) -> None:
    """Those that are there stay, tombstones of their cells included; other tables are not touched."""
    store = MergeableStore()
    for row_id in ("fido", "felix", "rex"):
        store.set_row("pets", row_id, {"species": "dog", "sold": False})
    store.set_row("staff", "ann", {"age": 1}).del_row("staff", "ann")
    store.del_row("pets", "felix").del_cell("pets", "rex", "sold")
    if hashed:
        store.get_mergeable_content_hashes()
    store.forget_deleted_rows("pets")
    assert list(store.get_stamped_rows("pets")) == ["fido", "rex"]
    assert store.get_stamp("pets", "rex", "sold") is not None
    assert list(store.get_stamped_rows("staff")) == ["ann"]
    assert store.get_table("pets") == {"fido": {"species": "dog", "sold": False}, "rex": {"species": "dog"}}
    store._check()
    store.set_row("pets", "felix", {"species": "cat"})
    store._check()


@pytest.mark.parametrize("hashed", [False, True])
def test_all_rows(hashed: bool) -> None:
    """The table is forgotten as well; the store is as if there never was one."""
    store = MergeableStore("s1")
    store.set_cell("pets", "fido", "species", "dog").del_table("pets")
    if hashed:
        store.get_mergeable_content_hashes()
    store.forget_deleted_rows("pets")
    assert store.get_mergeable_content() == MergeableStore().get_mergeable_content()
    store._check()


def test_a_table_with_a_stamp() -> None:
    """It stays, as its stamp does."""
    hlc = "Nn1JUF-----7JQY8"
    store = MergeableStore()
    store.apply_mergeable_changes([[{"pets": [{"fido": [{"species": ["\ufffc", hlc]}]}, hlc]}], [{}], 1])
    store.get_mergeable_content_hashes()
    store.forget_deleted_rows("pets")
    assert store.get_stamped_table_hlc("pets") == hlc
    assert list(store.get_stamped_rows("pets")) == []
    store._check()
