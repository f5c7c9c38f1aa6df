"""Transactions: what is taken back leaves no trace, what stands is hashed right, net changes are net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import InvalidCellError, TransactionError
from mergesync.store import MergeableStore
from mergesync.store.hlc import decode_hlc
from mergesync.types import MISSING

from .kit import T0, TOMBSTONE, Log, ThrownError, hlc, new_store, state


def filled() -> MergeableStore:
    """A store with a past: deletions, a peer's stamps, containers with HLCs."""
    store = new_store().set_tables({"t": {"r": {"a": 1, "b": [1]}, "q": {"a": 2}}, "u": {"r": {"a": 3}}})
    store.set_values({"v": 1, "w": 2}).del_cell("t", "r", "b").del_row("t", "q").del_value("w")
    store.apply_mergeable_changes([[{"t": [{"p": [{"a": [9, hlc(3)]}, hlc(4)]}, hlc(5)]}, hlc(6)], [{}, hlc(7)], 1])
    return store


def rewrite(store: MergeableStore) -> None:
    """Set, delete, bring back, create and empty a bit of everything."""
    store.set_cell("t", "r", "a", 5).set_cell("t", "r", "b", 6).set_cell("t", "q", "a", 7)
    store.set_cell("t", "new", "a", 1).set_cell("new", "r", "a", 1).del_row("new", "r")
    store.del_table("u").set_values({"w": 3, "x": 4}).set_cell("t", "r", "a", 8).del_row("t", "p")


def merge(store: MergeableStore) -> None:
    """A peer's changes, which name containers with and without leaves."""
    store.apply_mergeable_changes(
        [
            [
                {
                    "t": [{"r": [{"a": ["peer", hlc(9)]}, hlc(9)]}, hlc(9)],
                    "merged": [{"r": [{"a": ["peer", hlc(9)], "b": [TOMBSTONE, hlc(9)]}]}],
                },
                hlc(10),
            ],
            [{"v": [[1], hlc(9)], "y": [1, hlc(9)]}, hlc(9)],
            1,
        ]
    )


def name(store: MergeableStore) -> None:
    """A peer names containers without leaves, known ones and others."""
    store.apply_mergeable_changes(
        [[{"bare": [{}], "u": [{"r": [{}], "new": [{}]}], "with": [{"hlc": [{}, hlc(8)]}, hlc(8)]}], [{}], 1]
    )


def hash_(store: MergeableStore) -> None:
    """Ask for hashes in the middle."""
    store.get_mergeable_content()


def schema(store: MergeableStore) -> None:
    """Set a schema."""
    store.set_schema({"t": {"a": {"type": "string", "default": "x"}}}, {"v": {"type": "string"}})


def default(store: MergeableStore) -> None:
    """Write default content."""
    store.set_default_content(({"t": {"r": {"a": 0, "z": 0}}, "d": {"r": {"a": 0}}}, {"v": 0, "z": 0}))


Steps = tuple[Callable[[MergeableStore], None], ...]

STEPS: list[Steps] = [
    (),
    (rewrite,),
    (merge,),
    (schema,),
    (default,),
    (name, hash_, name, name),
    (rewrite, hash_, rewrite),
    (merge, hash_, rewrite, merge),
    (hash_, merge, rewrite, hash_),
    (rewrite, merge, schema, hash_, default, rewrite),
]


def run(store: MergeableStore, steps: Steps) -> None:
    """Run the steps in order."""
    for step in steps:
        step(store)


def fail(store: MergeableStore, steps: Steps) -> None:
    """Run the steps in a transaction that fails at its end."""
    with store.transaction():
        run(store, steps)
        raise ThrownError


def check(store: MergeableStore, steps: Steps) -> None:
    """Hashes and counts are right; traces of containers named without leaves cannot be told from the leaves."""
    if name not in steps:
        store._check()


steps_of_all_kinds = pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "-".join(s.__name__ for s in steps))


@steps_of_all_kinds
@pytest.mark.parametrize("hashed", [False, True])
def test_an_exception_takes_everything_back(steps: Steps, hashed: bool) -> None:
    """An exception out of a transaction brings the exact old state back, hashes known before or not."""
    store = filled()
    before = state(store if hashed else filled())
    with pytest.raises(ThrownError):
        fail(store, steps)
    assert state(store) == before
    check(store, steps)
    run(store, steps)
    again = filled()
    run(again, steps)
    assert store.get_content() == again.get_content()


@steps_of_all_kinds
def test_do_rollback(steps: Steps) -> None:
    """`do_rollback` that says true takes everything back; the did-finish listeners hear of no changes."""
    store = filled()
    before = state(store)
    heard: list[Any] = []
    store.add_did_finish_transaction_listener(lambda store: heard.append(store.get_transaction_mergeable_changes()))
    store.add_tables_listener(lambda: heard.append("tables"))
    store.add_values_listener(lambda: heard.append("values"))
    store.transaction(lambda: run(store, steps), lambda _store: True)
    assert state(store) == before
    assert len(heard) == 1
    assert [heard[0][0][0], heard[0][1][0]] == [{}, {}]


@steps_of_all_kinds
@pytest.mark.parametrize("outer", STEPS[:6:2], ids=lambda steps: "-".join(s.__name__ for s in steps))
def test_an_exception_caught_inside(steps: Steps, outer: Steps) -> None:
    """An exception caught around an inner transaction takes back the inner one alone."""
    store, other = filled(), filled()
    with store.transaction():
        run(store, outer)
        before = state(store)
        changes = store.get_transaction_mergeable_changes()
        with pytest.raises(ThrownError):
            fail(store, steps)
        assert state(store) == before
        assert store.get_transaction_mergeable_changes() == changes
    other.transaction(lambda: run(other, outer))
    assert store.get_content() == other.get_content()
    check(store, steps)


def fail_around(store: MergeableStore, steps: Steps) -> None:
    """Run the steps in a transaction that ends well, and again in one that does not, within one that does not."""
    with store.transaction():
        with store.transaction():
            run(store, steps)
        fail(store, steps)


@steps_of_all_kinds
def test_savepoints_in_savepoints(steps: Steps) -> None:
    """What an inner transaction released is taken back with the one around it."""
    store, other = filled(), filled()
    with store.transaction():
        before = state(store)
        with pytest.raises(ThrownError):
            fail_around(store, steps)
        assert state(store) == before
        with store.transaction(), store.transaction():
            run(store, steps)
    run(other, steps)
    assert store.get_content() == other.get_content()
    check(store, steps)


def test_hashes_in_the_middle() -> None:
    """Hashes asked for in the middle of a transaction are those of the present state, and stay right."""
    store = filled()
    for step in (rewrite, merge, schema, default):
        with store.transaction():
            step(store)
            store.get_mergeable_content()
            store._check()
            store.set_cell("t", "r", "late", 1).set_value("late", 1)
            store.del_cell("t", "r", "late").del_value("late")
            store._check()
        store._check()


def create(store: MergeableStore) -> None:
    """Make a row and a table, and empty the row again."""
    store.set_cell("t", "q", "c", 1).set_cell("u", "r", "c", 1).del_row("t", "q")


def test_creations_are_taken_back() -> None:
    """Tables and rows that a failed part of a transaction made are gone, stamps and all."""
    store = new_store()
    with store.transaction():
        store.set_cell("t", "r", "c", 1)
        with pytest.raises(ThrownError):
            fail(store, (create,))
    assert list(store.get_mergeable_content()[0][0]) == ["t"]
    assert list(store.get_mergeable_content()[0][0]["t"][0]) == ["r"]
    store._check()


def test_net_changes() -> None:
    """What ends as it began is no change; 1 is not True, and an object with the same text is the same."""
    store = new_store().set_row("t", "r", {"a": 1, "o": {"x": 1}, "gone": 1})
    store.set_values({"a": 1, "o": [1]})
    changes = Log()
    store.add_did_finish_transaction_listener(lambda store: changes(store, store.get_transaction_changes()))
    with store.transaction():
        store.set_cell("t", "r", "a", 2).set_cell("t", "r", "a", 1).set_cell("t", "r", "o", 0)
        store.set_cell("t", "r", "o", {"x": 1}).set_cell("t", "q", "c", 1).del_row("t", "q")
        store.set_value("a", 2).set_value("a", 1).set_value("n", 1).del_value("n").set_value("o", 0).set_value("o", [1])
    assert changes.take() == [([{}, {}, 1],)]
    with store.transaction():
        store.set_cell("t", "r", "a", True).del_cell("t", "r", "gone").set_cell("t", "r", "o", {"x": 2})
        store.set_value("a", True).del_value("o")
    assert changes.take() == [
        ([{"t": {"r": {"a": True, "gone": MISSING, "o": {"x": 2}}}}, {"a": True, "o": MISSING}, 1],)
    ]
    assert store.get_transaction_changes() == [{}, {}, 1]


def test_transaction_returns_what_actions_return() -> None:
    """`transaction(actions)` gives what the actions give, and takes everything back when they raise."""
    store = new_store()
    assert store.transaction(lambda: store.set_value("a", 1).get_value("a")) == 1
    assert store.transaction(lambda: 5, lambda _store: False) == 5
    before = state(store)

    def actions() -> None:
        store.set_value("a", 2)
        raise ThrownError

    for act in (actions, lambda: store.transaction(actions)):
        with pytest.raises(ThrownError):
            store.transaction(act)
        assert state(store) == before


def test_an_exception_in_a_setter_inside() -> None:
    """A refused write that is caught in a transaction leaves the rest of it alone."""
    store = new_store()
    with store.transaction():
        store.set_value("a", 1)
        with pytest.raises(InvalidCellError):
            store.set_cell("t", "r", "c", float("nan"))
        with pytest.raises(InvalidCellError):
            store.set_values({"a": object()})
        assert store.is_in_transaction()
    assert store.get_content() == ({}, {"a": 1})
    assert not store.is_in_transaction()


def test_start_and_finish_by_hand() -> None:
    """`start_transaction` and `finish_transaction` nest; a surplus finish raises."""
    store = new_store()
    log = Log()
    store.add_values_listener(log)
    store.start_transaction()
    store.start_transaction()
    store.set_value("a", 1).finish_transaction()
    assert log.take() == []
    store.finish_transaction()
    assert log.take() == [("f",)]
    with pytest.raises(TransactionError):
        store.finish_transaction()


def test_a_clock_that_goes_wrong_in_a_transaction() -> None:
    """An exception out of `get_now` takes the transaction back, too."""
    times = iter([1704067200000, 1704067200001])
    store = MergeableStore("s1", get_now=lambda: next(times))
    with pytest.raises(StopIteration), store.transaction():
        store.set_value("a", 1).set_value("b", 1)
        store.apply_mergeable_changes([[{}], [{"c": [1, hlc(0)]}], 1])  # looks at the clock twice
    assert store.get_values() == {}
    assert not store.is_in_transaction()


def test_all_of_a_transaction_has_one_time() -> None:
    """The wall clock is looked at by the first write; what others have seen meanwhile still counts."""
    times = iter(range(T0, T0 + 100))
    store = MergeableStore("s1", get_now=lambda: next(times))

    def time_and_counter(value_id: str) -> tuple[int, int]:
        stamp = store.get_stamp(None, "", value_id)
        assert stamp is not None
        return decode_hlc(stamp[1])[:2]

    with store.transaction():
        store.set_value("a", 1).set_value("b", 1)
    assert [time_and_counter("a"), time_and_counter("b")] == [(T0, 0), (T0, 1)]
    with store.transaction():
        store.set_value("c", 1).apply_mergeable_changes([[{}], [{"z": [1, hlc(7, T0 + 50)]}], 1])
        store.set_value("d", 1)
    assert [time_and_counter("c"), time_and_counter("d")] == [(T0 + 1, 0), (T0 + 50, 8)]
    with store.transaction():
        store.set_value("a", 2).set_clock(T0 + 10_000).set_value("b", 2)
    assert T0 + 10_000 <= time_and_counter("b")[0] < T0 + 10_010


def finish_too_early(store: MergeableStore) -> None:
    """End the transaction by hand inside of its block, and raise."""
    with store.transaction():
        store.set_value("a", 1).finish_transaction()
        raise ThrownError


def test_a_transaction_that_was_ended_by_hand() -> None:
    """An exception after that finds nothing to take back: what was committed stands."""
    store = new_store()
    with pytest.raises(ThrownError):
        finish_too_early(store)
    assert store.get_values() == {"a": 1}
    assert not store.is_in_transaction()


def bring_back(store: MergeableStore) -> None:
    """Delete and bring back rows and tables, which then go last."""
    store.del_row("t", "a").set_cell("t", "a", "c", 2).del_table("t").set_cell("t", "b", "c", 3).set_cell(
        "x", "r", "c", 1
    )


def test_order_of_ids_in_savepoints() -> None:
    """What an inner transaction brought to life is where it was once that is taken back."""
    store = new_store().set_tables({"t": {"a": {"c": 1}, "b": {"c": 1}, "d": {"c": 1}}, "u": {"r": {"c": 1}}})
    with store.transaction():
        store.del_row("t", "b").set_cell("t", "b", "c", 2)
        assert store.get_row_ids("t") == ["a", "d", "b"]
        with pytest.raises(ThrownError):
            fail(store, (bring_back,))
        assert (store.get_table_ids(), store.get_row_ids("t")) == (["t", "u"], ["a", "d", "b"])
    assert store.get_row_ids("t") == ["a", "d", "b"]
    before = store.get_table_ids(), store.get_row_ids("t"), store.get_json()
    with pytest.raises(ThrownError):
        fail(store, (bring_back,))
    assert (store.get_table_ids(), store.get_row_ids("t"), store.get_json()) == before
    bring_back(store)
    assert (store.get_table_ids(), store.get_row_ids("t")) == (["u", "t", "x"], ["b"])
    store._check()
