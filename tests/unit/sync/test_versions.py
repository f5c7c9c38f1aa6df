"""Versions, and changes that depend on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync import MISSING, ContentError, InvalidCellError, InvalidIdError, MergeableStore, StaleVersionError
from mergesync.sync.versions import compare_and_set, content_of, decode_edits, encode_edits, version_of

SCOPES: dict[str, dict[str, Any]] = {
    "everything": {},
    "table": {"table_id": "t"},
    "row": {"table_id": "t", "row_id": "r"},
    "cell": {"table_id": "t", "row_id": "r", "cell_id": "c"},
    "value": {"value_id": "v"},
}
CHANGES: dict[str, Callable[[MergeableStore, Any], object]] = {
    "cell": lambda store, cell: store.set_cell("t", "r", "c", cell),
    "row": lambda store, cell: store.set_cell("t", "r", "d", cell),
    "table": lambda store, cell: store.set_cell("t", "q", "c", cell),
    "everything": lambda store, cell: store.set_cell("s", "r", "c", cell),
    "value": lambda store, cell: store.set_value("v", cell),
}
COVERED = {
    "cell": {"cell", "row", "table", "everything"},
    "row": {"row", "table", "everything"},
    "table": {"table", "everything"},
    "everything": {"everything"},
    "value": {"value", "everything"},
}


def versions(store: MergeableStore) -> dict[str, str]:
    return {name: version_of(store, **scope) for name, scope in SCOPES.items()}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_version_covers(change: str) -> None:
    """A change makes new versions of what it is in, and of nothing else; so does setting an old value again."""
    store = MergeableStore()
    for name in CHANGES:
        CHANGES[name](store, 0)
    seen = [versions(store)]
    for cell in (1, 2, 1):
        CHANGES[change](store, cell)
        seen.append(versions(store))
    for name in SCOPES:
        assert len({version[name] for version in seen}) == (4 if name in COVERED[change] else 1)
    store.del_tables().del_values()
    assert set(versions(store).values()).isdisjoint(seen[-1].values())


def test_equal_replicas_tell_the_same_versions() -> None:
    """So nobody has to ask for one."""
    one, other = MergeableStore(), MergeableStore()
    for change in CHANGES.values():
        change(one, 1)
    one.merge(other)
    assert versions(one) == versions(other)


@pytest.mark.parametrize("scope", SCOPES)
def test_compare_and_set(scope: str) -> None:
    """With the present version the changes are made, and there is a new one; with any other nothing is."""
    store = MergeableStore().set_cell("t", "r", "c", "old").set_value("v", "old")
    version = version_of(store, **SCOPES[scope])
    edits = [{"t": {"r": {"c": "new"}}}, {"v": "new"}]
    newer = compare_and_set(store, version, edits)
    assert newer == version_of(store, **SCOPES[scope]) != version
    assert store.get_content() == ({"t": {"r": {"c": "new"}}}, {"v": "new"})
    with pytest.raises(StaleVersionError) as raised:
        compare_and_set(store, version, [{"t": {"r": {"c": "newest"}}}, {"v": "newest"}])
    assert raised.value.version == newer
    assert raised.value.content == content_of(store, newer)
    assert store.get_content() == ({"t": {"r": {"c": "new"}}}, {"v": "new"})


@pytest.mark.parametrize("scope", SCOPES)
def test_setting_what_is_there_already(scope: str) -> None:
    """Is a change, too: of two that want the same, one wins."""
    store = MergeableStore().set_cell("t", "r", "c", "same").set_value("v", "same")
    heard: list[Any] = []
    store.add_cell_listener(None, None, None, lambda *arguments: heard.append(arguments))
    version = version_of(store, **SCOPES[scope])
    edits = ({"t": {"r": {"c": "same"}, "q": MISSING}, "s": MISSING}, {"v": "same"})
    compare_and_set(store, version, edits)
    with pytest.raises(StaleVersionError):
        compare_and_set(store, version, edits)
    assert store.get_content() == ({"t": {"r": {"c": "same"}}}, {"v": "same"})
    assert heard == []


def test_content() -> None:
    """What is there of each part; `MISSING` or nothing where nothing is."""
    store = MergeableStore().set_cell("t", "r", "c", [1]).set_value("v", None)
    found = {name: content_of(store, version) for name, version in versions(store).items()}
    assert found == {
        "everything": ({"t": {"r": {"c": [1]}}}, {"v": None}),
        "table": {"r": {"c": [1]}},
        "row": {"c": [1]},
        "cell": [1],
        "value": None,
    }
    empty = MergeableStore()
    found = {name: content_of(empty, version) for name, version in versions(empty).items()}
    assert found == {"everything": ({}, {}), "table": {}, "row": {}, "cell": MISSING, "value": MISSING}


@pytest.mark.parametrize(
    "scope", [{"row_id": "r"}, {"table_id": "t", "cell_id": "c"}, {"cell_id": "c"}, {"table_id": "t", "value_id": "v"}]
)
def test_no_such_part(scope: Any) -> None:
    """A row needs its table, and a cell its row."""
    with pytest.raises(TypeError):
        version_of(MergeableStore(), **scope)
    with pytest.raises(InvalidIdError):
        version_of(MergeableStore(), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "version",
    ["", "x", "null", "[]", "[[]]", "[[1],0]", '[["t","r","c","d"],0]', "[[null],0]", "[[null,1],0]", 5, None],
)
def test_no_version(version: Any) -> None:
    """Raises, and changes nothing."""
    store = MergeableStore()
    with pytest.raises(ContentError):
        compare_and_set(store, version, [{}, {"v": 1}])
    assert store.get_values() == {}


def test_a_version_of_the_right_part_with_nonsense_is_stale() -> None:
    """Whatever it says, it is not the present one."""
    with pytest.raises(StaleVersionError):
        compare_and_set(MergeableStore(), '[["t"],{"a":[]}]', [{}, {}])


@pytest.mark.parametrize("edits", [None, [], [{}], [{}, {}, 1], [1, {}], [{"t": 1}, {}], [{"t": {"r": []}}, {}], "ab"])
def test_no_edits(edits: Any) -> None:
    """Raises on both sides, and changes nothing."""
    for code in (encode_edits, decode_edits):
        with pytest.raises(ContentError):
            code(edits)
    store = MergeableStore()
    with pytest.raises(ContentError):
        compare_and_set(store, version_of(store), edits)


@pytest.mark.parametrize(
    "edits", [[{"t": {"r": {"c": "\ufffd"}}}, {}], [{}, {"v": float("nan")}], [{}, {"v": "\ufffc"}]]
)
def test_no_cells(edits: Any) -> None:
    """Raises before anything is sent; and what a peer sends as one and is none, when it comes."""
    with pytest.raises(InvalidCellError):
        encode_edits(edits)
    with pytest.raises(ContentError):
        decode_edits([{"t": {"r": {"c": "\ufffd{"}}}, {}])


CELLS = st.none() | st.booleans() | st.integers(-9, 9) | st.text("aé😀", max_size=2) | st.lists(st.none(), max_size=2)
IDS = st.text("ab", max_size=2)


def edited(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(IDS, st.just(MISSING) | children)


@given(edited(edited(edited(CELLS))), edited(CELLS))
def test_there_and_back(tables: Any, values: Any) -> None:
    """What is decoded does what was to be encoded."""
    one, other = (MergeableStore("s", get_now=lambda: 0).set_cell("a", "a", "a", 1).set_value("a", 1) for _ in range(2))
    compare_and_set(one, version_of(one), [tables, values])
    compare_and_set(other, version_of(other), decode_edits(encode_edits((tables, values))))
    assert one.get_mergeable_content() == other.get_mergeable_content()
