"""Merging is commutative, associative and idempotent, and no body breaks a store.

The precondition is the protocol's: at a path, an HLC stands for one value (`strategies.agree`). Hashes follow the
stamps, but for bodies that name rows or tables without leaves, which leave a trace in TinyBase's hashes (surprise 20).
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.exceptions import ContentError
from mergesync.store import MergeableStore, jsjson
from mergesync.types import MISSING

from .strategies import BROKEN_BODIES, agreeing_bodies, bodies, names_empties, paths, wires
from .support import new_store, pull, stamps, store_of


def assert_equal(one: MergeableStore, other: MergeableStore, given_bodies: list[Any]) -> None:
    """Equal stamps and content; equal hashes, too, unless a trace may be in them."""
    assert stamps(one) == stamps(other)
    assert jsjson.dumps(one.get_content()[0]) is not None
    assert one.get_content() == other.get_content()
    if not any(map(names_empties, given_bodies)):
        assert one.get_mergeable_content() == other.get_mergeable_content()
        one._check()
        other._check()


@given(agreeing_bodies(2, 5), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_any_number_of_times(given_bodies: list[Any], random: Any) -> None:
    """Whatever the order and however often, the same bodies give the same store."""
    shuffled = given_bodies + random.sample(given_bodies, random.randint(0, len(given_bodies)))
    random.shuffle(shuffled)
    assert_equal(store_of(*given_bodies), store_of(*shuffled), given_bodies)


@given(agreeing_bodies(2, 2))
def test_merging_is_commutative(given_bodies: list[Any]) -> None:
    """A store with x then y is the store with y then x."""
    one, other = given_bodies
    assert_equal(store_of(one, other), store_of(other, one), given_bodies)


@given(agreeing_bodies(3, 3))
def test_merging_is_associative(given_bodies: list[Any]) -> None:
    """What x and y amount to, merged with z, is x merged with what y and z amount to."""
    one, two, three = given_bodies
    left = store_of(store_of(one, two).get_mergeable_content(), three)
    right = store_of(one, store_of(two, three).get_mergeable_content())
    assert_equal(left, right, given_bodies)


@given(bodies())
def test_merging_is_idempotent(body: list[Any]) -> None:
    """The same body again changes nothing, and is no news to anybody."""
    store = store_of(body)
    before = store.get_mergeable_content()
    sent: list[Any] = []
    store.add_did_finish_transaction_listener(lambda s: sent.append(s.get_transaction_mergeable_changes()))
    store.apply_mergeable_changes(copy.deepcopy(body))
    if not names_empties(body):
        assert store.get_mergeable_content() == before
    [(tables, values, _)] = sent
    assert (tables[0], values[0]) == ({}, {})


@given(agreeing_bodies(1, 4))
def test_the_greatest_stamp_wins(given_bodies: list[Any]) -> None:
    """At each path, the store has the greatest HLC of all bodies, with its value."""
    store = store_of(*given_bodies)
    highest: dict[tuple[str, ...], tuple[str, Any]] = {}
    for body in given_bodies:
        for path, where, leaf_id in paths(body):
            leaf = where[leaf_id]
            hlc = leaf[1] if len(leaf) > 1 else ""
            if path not in highest or hlc > highest[path][0]:
                highest[path] = (hlc, jsjson.dumps(leaf[0]))
    found = {
        path: (where[leaf_id][1], jsjson.dumps(where[leaf_id][0]))
        for path, where, leaf_id in paths(store.get_mergeable_content())
    }
    assert found == highest


@given(wires(), wires(), st.sampled_from(("Nn1JUF-----AAAAA", "Nn1JUF----0zzzzz")))
def test_equal_hlcs_keep_the_first(one: Any, other: Any, hlc: str) -> None:
    """The listed exception: with the same HLC, each side keeps what it had (surprise 1)."""
    store = store_of([[{}], [{"v": [one, hlc]}], 1])
    before = store.get_mergeable_content()
    store.apply_mergeable_changes([[{}], [{"v": [other, hlc]}], 1])
    assert store.get_mergeable_content() == before


@given(wires(), wires())
def test_of_empty_hlcs_the_later_wins(one: Any, other: Any) -> None:
    """The listed exception: of two values without an HLC, the one that comes later is shown (surprise 2)."""
    store = store_of([[{}], [{"v": [one]}], 1])
    store.apply_mergeable_changes([[{}], [{"v": [other]}], 1])
    expected = store_of([[{}], [{"v": [other]}], 1])
    assert store.get_content() == expected.get_content()
    store._check()


@given(bodies(), st.sampled_from(BROKEN_BODIES))
def test_a_broken_body_changes_nothing(body: list[Any], broken: Any) -> None:
    """What is not a body is refused as a whole, by merge and by load."""
    store = store_of(body)
    before = store.get_mergeable_content()
    for method in (store.apply_mergeable_changes, store.set_mergeable_content):
        with pytest.raises(ContentError):
            method(broken)
    assert store.get_mergeable_content() == before
    tables, values, _ = store.get_transaction_mergeable_changes()
    assert (tables[0], values[0]) == ({}, {})


@given(bodies(), bodies(), st.data())
def test_one_bad_leaf_refuses_the_whole_body(body: list[Any], bad: list[Any], data: st.DataObject) -> None:
    """One future or malformed stamp anywhere, and nothing of a body is taken (surprise 3)."""
    places = paths(bad)
    if not places:
        bad[1][0]["v"] = [1]
        places = paths(bad)
    _, where, leaf_id = data.draw(st.sampled_from(places))
    where[leaf_id] = data.draw(
        st.sampled_from(([1, "Nn1KcUW-----AAAAA"], [1, "nonsense"], [1, None], [], [{}, "", "x"]))
    )
    store = store_of(body)
    before = store.get_mergeable_content()
    with pytest.raises(ContentError):
        store.apply_mergeable_changes(bad)
    assert store.get_mergeable_content() == before


@given(agreeing_bodies(2, 2))
def test_the_method_merge_makes_both_equal(given_bodies: list[Any]) -> None:
    """`one.merge(other)` leaves both with what either had."""
    one, other = store_of(given_bodies[0]), store_of(given_bodies[1], unique_id="two")
    one.merge(other)
    assert stamps(one) == stamps(other)
    assert one.get_content() == other.get_content()
    assert_equal(one, store_of(*given_bodies), given_bodies)


@given(agreeing_bodies(1, 3))
def test_everything_survives_json(given_bodies: list[Any]) -> None:
    """Content goes through JSON text, either parser's, without a change."""
    content = store_of(*given_bodies).get_mergeable_content()
    for parsed in (json.loads(json.dumps(content)), jsjson.loads(jsjson.dumps(content))):
        assert parsed == content
        loaded = new_store("two").set_mergeable_content(parsed)
        assert loaded.get_mergeable_content() == content


@given(bodies())
def test_the_clock_is_above_everything_taken(body: list[Any]) -> None:
    """What is written after a merge beats what was merged."""
    store = store_of(body)
    for path, where, leaf_id in paths(copy.deepcopy(store.get_mergeable_content())):
        old = where[leaf_id][1]
        if len(path) == 1:
            store.set_value(path[0], "mine").set_value(path[0], "mine again")
            new = store.get_mergeable_content()[1][0][path[0]]
        else:
            table_id, row_id, cell_id = path
            store.set_cell(table_id, row_id, cell_id, "mine").set_cell(table_id, row_id, cell_id, "mine again")
            new = store.get_mergeable_content()[0][0][path[0]][0][path[1]][0][path[2]]
        assert new[0] == "mine again"
        assert new[1] > old
    assert store.get_value("no such", MISSING) is MISSING
    assert pull(store, store) == [[{}], [{}], 1]
