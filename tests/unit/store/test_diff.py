"""What a peer lacks, told by hashes."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import ContentError
from mergesync.store import MergeableStore
from mergesync.store.diff import row_stamp
from mergesync.store.jsjson import loads
from mergesync.store.texts import row_text

from .kit import TOMBSTONE, hlc, new_store


def one() -> MergeableStore:
    """A store."""
    return (
        new_store()
        .set_tables({"t": {"r": {"a": 1, "b": 1}, "q": {"a": 1}}, "u": {"r": {"a": 1}}})
        .set_values({"v": 1, "w": 1})
    )


def test_nothing_lacks() -> None:
    """Equal stores lack nothing, at any level."""
    store = one()
    rows = store.get_mergeable_row_hashes({"t": 0, "u": 0})
    cells = store.get_mergeable_cell_hashes({"t": {"r": 0, "q": 0}, "u": {"r": 0}})
    assert store.get_mergeable_table_diff(store.get_mergeable_table_hashes()) == [[{}], {}]
    assert store.get_mergeable_row_hashes(store.get_mergeable_table_hashes()) == {}
    assert store.get_mergeable_row_diff(rows) == [[{}], {}]
    assert store.get_mergeable_cell_hashes(rows) == {}
    assert store.get_mergeable_cell_diff(cells) == [{}]
    assert store.get_mergeable_value_diff(store.get_mergeable_value_hashes()) == [{}]


def test_everything_lacks() -> None:
    """To an empty store all is told, without hashes."""
    store = one().del_cell("t", "r", "b")
    tables, differing = store.get_mergeable_table_diff({})
    values = store.get_mergeable_value_diff({})
    assert differing == {}
    other = new_store("s2").apply_mergeable_changes([tables, values, 1])
    assert other.get_mergeable_content() == store.get_mergeable_content()
    assert tables[0]["t"][0]["r"][0]["b"][0] == TOMBSTONE
    assert list(store.get_mergeable_row_diff({"t": {}})[0][0]) == ["t"]
    assert list(store.get_mergeable_cell_diff({"t": {"q": {}}})[0]["t"][0]) == ["q"]


def test_what_differs() -> None:
    """What differs is told level by level, down to the leaves."""
    store, other = one(), one()
    store.set_cell("t", "r", "a", 2).set_value("v", 2)
    theirs = other.get_mergeable_table_hashes()
    assert store.get_mergeable_table_diff(theirs) == [[{}], {"t": store.get_mergeable_table_hashes()["t"]}]
    rows = other.get_mergeable_row_hashes({"t": store.get_mergeable_table_hashes()["t"]})
    assert list(store.get_mergeable_row_diff(rows)[1]["t"]) == ["r"]
    cells = other.get_mergeable_cell_hashes(store.get_mergeable_row_diff(rows)[1])
    found = store.get_mergeable_cell_diff(cells)
    assert [list(found[0]), found[0]["t"][0]["r"][0]["a"][0]] == [["t"], 2]
    found_values = store.get_mergeable_value_diff(other.get_mergeable_value_hashes())
    other.apply_mergeable_changes([found, found_values, 1])
    assert other.get_mergeable_content() == store.get_mergeable_content()


def test_ids_that_are_unknown_here() -> None:
    """What only the other has is skipped."""
    store = one()
    assert store.get_mergeable_row_hashes({"never": 1}) == {}
    assert store.get_mergeable_row_diff({"never": {"r": 1}}) == [[{}], {}]
    assert store.get_mergeable_cell_hashes({"never": {"r": 1}, "t": {"never": 1}}) == {}
    assert store.get_mergeable_cell_diff({"never": {"r": {}}, "t": {"never": {}}}) == [{}]


def test_container_hlcs_travel() -> None:
    """The HLCs of containers go with what is told."""
    store = one().apply_mergeable_changes([[{"t": [{"r": [{}, hlc(1)]}, hlc(2)]}, hlc(3)], [{}, hlc(4)], 1])
    tables, _ = store.get_mergeable_table_diff({})
    assert (tables[1], tables[0]["t"][1], tables[0]["t"][0]["r"][1]) == (hlc(3), hlc(2), hlc(1))
    assert store.get_mergeable_value_diff({})[1] == hlc(4)
    found = store.get_mergeable_cell_diff({"t": {"r": {}}})
    assert (found[1], found[0]["t"][1], found[0]["t"][0]["r"][1]) == (hlc(3), hlc(2), hlc(1))


NO_HASHES: list[Any] = [None, 1, "x", [], {"t": "1"}, {"t": None}, {"t": True}, {"t": [1]}]


@pytest.mark.parametrize("hashes", NO_HASHES, ids=repr)
def test_hashes_that_are_none(hashes: Any) -> None:
    """A malformed tree of hashes raises ContentError at every level."""
    store = one()
    for ask, deep in (
        (store.get_mergeable_table_diff, hashes),
        (store.get_mergeable_row_hashes, hashes),
        (store.get_mergeable_row_diff, {"t": hashes}),
        (store.get_mergeable_cell_hashes, {"t": hashes}),
        (store.get_mergeable_cell_diff, {"t": {"r": hashes}}),
        (store.get_mergeable_value_diff, hashes),
    ):
        with pytest.raises(ContentError):
            ask(deep)


@pytest.mark.parametrize("newest", ["", hlc(1)])
def test_the_text_of_a_row(newest: str) -> None:
    """It says what the stamp of the row says, whatever is in it."""
    store = new_store()
    wires = {"a": 'x"\n\ud800é', "b": 1.5, "c": TOMBSTONE, "d": None, "e": '\ufffd{"x":1}', "f": True}
    row = {cell_id: [wire, newest] for cell_id, wire in wires.items()}
    store.apply_mergeable_changes([[{"t": [{'r"é': [row, newest]}]}], [{}], 1])
    ((row_id, found),) = store.get_stamped_rows("t").items()
    assert loads("{" + row_text(row_id, found).decode() + "}") == {row_id: row_stamp(found)}
