"""Diffs: full sync, delta sync and a load give the same state, and a diff holds nothing that the asker had."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mergesync.store import MergeableStore
from mergesync.store.jsjson import utf8

from .strategies import agreeing_bodies, names_empties, operations, paths
from .support import apply, leaves, new_store, pull, stamps, store_of, sync

_BODY: Any = [[{"a": [{"a": [{"a": [0, "----------------"]}]}]}], [{}]]
"""Of one cell, whose containers have no HLC of their own."""


def _tell_apart(*stores: MergeableStore) -> bool:
    """Whether hashes can tell these stores apart (surprises 18, 19).

    Ids of brothers that differ in lone surrogates alone hash alike, and so do null and deleted with the same HLC.
    """
    brothers: dict[Any, set[str]] = {}
    nothings: dict[Any, set[Any]] = {}
    for store in stores:
        for path, where, leaf_id in paths(store.get_mergeable_content()):
            for depth, id_ in enumerate(path):
                brothers.setdefault((tuple(map(utf8, path[:depth])), utf8(id_)), set()).add(id_)
            wire, hlc, _ = where[leaf_id]
            if wire is None or wire == "\ufffc":
                nothings.setdefault((path, hlc), set()).add(wire)
    return all(len(ids) == 1 for ids in (*brothers.values(), *nothings.values()))


def _differ_in_an_hlc_alone(one: MergeableStore, two: MergeableStore) -> bool:
    """Whether a container has the same leaves in both, but another HLC.

    A diff tells the HLC of a container together with something in it, so that stays as it is. TinyBase sends no body
    from which it could come: a container's HLC is that of a leaf which is new, too.
    """
    (*of_tables, values_hlc, values), (*of_other_tables, other_values_hlc, other_values) = stamps(one), stamps(two)
    return _hlc_alone_differs(*of_tables, *of_other_tables) or (
        values == other_values and values_hlc != other_values_hlc
    )


def _hlc_alone_differs(hlc: str, children: Any, other_hlc: str, other_children: Any) -> bool:
    """The same of a container of containers; its children are `{id: (HLC, children)}`, down to the leaves of rows."""
    if _without_hlcs(children) == _without_hlcs(other_children) and hlc != other_hlc:
        return True
    return any(
        isinstance(child[1], dict) and _hlc_alone_differs(*child, *other_children[id_])
        for id_, child in children.items()
        if id_ in other_children
    )


def _without_hlcs(children: Any) -> Any:
    """The leaves of a container, without the HLCs of the containers between."""
    return {id_: _without_hlcs(child[1]) if isinstance(child[1], dict) else child for id_, child in children.items()}


@given(agreeing_bodies(2, 4), st.integers(1, 3))
@example([_BODY, [[{**_BODY[0][0], "a": [*_BODY[0][0]["a"], "----------------"]}], [{}]]], 1)
def test_full_sync_delta_sync_and_load_agree(given_bodies: list[Any], shared: int) -> None:
    """Two stores that share some bodies and then exchange what they lack are the store that merged all bodies."""
    common, mine, theirs = given_bodies[:shared], given_bodies[shared::2], given_bodies[shared + 1 :: 2]
    one, two = store_of(*common, *mine), store_of(*common, *theirs, unique_id="two")
    full = store_of(*common, *mine, *theirs, unique_id="three")
    if not _tell_apart(one, two):
        return
    told_all = not _differ_in_an_hlc_alone(one, two)
    sync(one, two)
    assert leaves(one) == leaves(two) == leaves(full)
    assert one.get_content() == two.get_content() == full.get_content()
    loaded = new_store("four").set_mergeable_content(one.get_mergeable_content())
    assert loaded.get_mergeable_content() == one.get_mergeable_content()
    assert loaded.get_content() == one.get_content()
    if not told_all or any(map(names_empties, given_bodies)):
        return  # TinyBase's traces are in the hashes (surprise 20)
    assert stamps(one) == stamps(two) == stamps(full)
    assert one.get_mergeable_content() == two.get_mergeable_content()
    for store in (one, two, loaded):
        store._check()
    assert pull(one, two) == pull(two, one) == [[{}], [{}], 1]


@given(agreeing_bodies(2, 4))
def test_a_diff_holds_nothing_that_the_asker_had(given_bodies: list[Any]) -> None:
    """No cell travels that the asker has with an equal stamp, and what does travel is the answerer's."""
    one, two = store_of(*given_bodies[:2]), store_of(*given_bodies[1:], unique_id="two")
    if not _tell_apart(one, two) or any(map(names_empties, given_bodies)):
        return
    had = {path: where[leaf_id] for path, where, leaf_id in paths(one.get_mergeable_content())}
    theirs = {path: where[leaf_id] for path, where, leaf_id in paths(two.get_mergeable_content())}
    for path, where, leaf_id in paths(pull(one, two)):
        leaf = where[leaf_id]
        assert [leaf[0], leaf[1] if len(leaf) > 1 else ""] == theirs[path][:2]
        assert had.get(path) != theirs[path]


@given(agreeing_bodies(2, 4))
def test_a_diff_applied_is_a_merge(given_bodies: list[Any]) -> None:
    """Merging what one lacks gives what merging everything gives."""
    one, two = store_of(*given_bodies[:2]), store_of(*given_bodies[1:], unique_id="two")
    if not _tell_apart(one, two) or any(map(names_empties, given_bodies)):
        return
    merged = store_of(*given_bodies[:2]).apply_mergeable_changes(two.get_mergeable_content())
    one.apply_mergeable_changes(pull(one, two))
    assert one.get_mergeable_content() == merged.get_mergeable_content()


@given(st.lists(operations(), max_size=5), st.lists(operations(), max_size=5), st.lists(operations(), max_size=5))
def test_writes_apart_then_sync(before: list[Any], mine: list[Any], theirs: list[Any]) -> None:
    """Two copies written apart are equal once they have exchanged what they lack."""
    one, two = new_store("one"), new_store("two")
    for operation in before:
        apply(one, operation)
    sync(one, two)
    for operation in mine:
        apply(one, operation)
    for operation in theirs:
        apply(two, operation)
    apart = _tell_apart(one, two) and not _initial_tie(one, two)
    full = store_of(one.get_mergeable_content(), two.get_mergeable_content(), unique_id="three")
    sync(one, two)
    for store in (one, two):
        store._check()
    if apart:
        assert one.get_mergeable_content() == two.get_mergeable_content() == full.get_mergeable_content()
        assert one.get_content() == two.get_content()


def _initial_tie(one: MergeableStore, two: MergeableStore) -> bool:
    """Whether both have a different value without an HLC at one path: then the later arrival wins (surprise 2)."""
    found = {p: w[i][0] for p, w, i in paths(one.get_mergeable_content()) if not w[i][1]}
    return any(
        path in found and found[path] != where[leaf_id][0]
        for path, where, leaf_id in paths(two.get_mergeable_content())
        if not where[leaf_id][1]
    )


@given(agreeing_bodies(1, 2), agreeing_bodies(1, 2))
def test_questions_about_unknown_things(one_said: list[Any], two_said: list[Any]) -> None:
    """Hashes of things that only the asker knows are skipped, at every level."""
    one, two = store_of(*one_said), store_of(*two_said, unique_id="two")
    before = copy.deepcopy(one.get_mergeable_content())
    tables = {**two.get_mergeable_table_hashes(), "unknown": 1}
    assert one.get_mergeable_table_diff(tables) is not None
    rows = {**two.get_mergeable_row_hashes(dict.fromkeys(tables, -1)), "unknown": {"r": 1}}
    one.get_mergeable_row_hashes(tables)
    one.get_mergeable_row_diff(rows)
    cells = {**two.get_mergeable_cell_hashes(rows), "unknown": {"r": {"c": 1}}}
    one.get_mergeable_cell_hashes(rows)
    one.get_mergeable_cell_diff(cells)
    one.get_mergeable_value_diff({**two.get_mergeable_value_hashes(), "unknown": 1})
    assert one.get_mergeable_content() == before
