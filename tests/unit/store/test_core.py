"""The heart of a store: ids, clocks, who may write when, and listeners that raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import ClockError, InvalidIdError, TransactionError
from mergesync.store import MergeableStore
from mergesync.store.hlc import decode_hlc, encode_hlc, is_hlc

from .kit import T0, TOMBSTONE, Clock, Log, ThrownError, hlc, new_store, refused, state


def throw(*arguments: Any) -> None:
    """A listener that raises."""
    raise ThrownError


def test_a_store_of_its_own() -> None:
    """Without an id and a clock, a store signs with a random client part and the system's time."""
    one, two = (MergeableStore().set_value("v", 1).get_stamp(None, "", "v") for _ in range(2))
    assert one is not None
    assert two is not None
    assert is_hlc(one[1])
    assert decode_hlc(one[1])[0] > T0
    assert one[1][11:] != two[1][11:]


@pytest.mark.parametrize("unique_id", [1, b"s1", ["s1"]])
def test_the_id_of_a_store_is_a_string(unique_id: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidIdError):
        MergeableStore(unique_id)


def test_the_end_of_time() -> None:
    """When the 42 bits of time are used up, a write raises ClockError and changes nothing; reading goes on."""
    clock = Clock(2**42 - 1)
    store = MergeableStore("s1", get_now=clock).set_cell("t", "r", "c", 1).set_value("v", 1)
    clock.now += 1
    writes: list[Callable[[], object]] = [
        lambda: store.set_cell("t", "r", "c", 2),
        lambda: store.set_row("t", "q", {"a": 1, "b": 2}),
        lambda: store.del_tables(),
        lambda: store.set_value("v", 2),
        lambda: store.del_values(),
        lambda: store.transaction(lambda: store.set_value("w", 1)),
    ]
    for write in writes:
        with refused(store, ClockError, "does not fit"):
            write()
    assert store.set_value("v", 1).set_default_content(({}, {"d": 1})).get_values() == {"v": 1, "d": 1}


def test_a_stamp_that_no_write_can_beat() -> None:
    """A write over the greatest stamp of all raises ClockError and changes nothing."""
    clock = Clock(2**42 - 1)
    store = MergeableStore("s1", get_now=clock)
    store.apply_mergeable_changes([[{}], [{"v": [1, "z" * 16]}], 1])
    with refused(store, ClockError):
        store.set_value("v", 2)
    with refused(store, ClockError):
        store.del_value("v")


def test_a_clock_that_is_behind_the_store() -> None:
    """A stamp that is not above the one in the store is never written."""
    store = new_store()
    store.merge_checked([[{}], [{"v": [1, encode_hlc(T0 + 10**9, 0, "AAAAA")]}], 1])
    with refused(store, ClockError, "not above"):
        store.set_value("v", 2)


def test_a_cell_that_cannot_be_written_in_a_transaction() -> None:
    """The transaction goes on if the application catches that."""
    store = new_store()
    store.merge_checked([[{"t": [{"r": [{"c": [1, encode_hlc(T0 + 10**9, 0, "AAAAA")]}]}]}], [{}], 1])
    with store.transaction():
        with pytest.raises(ClockError, match="not above"):
            store.set_cell("t", "r", "c", 2)
        assert store.is_in_transaction()
        store.set_cell("t", "r", "d", 3)
    assert store.get_row("t", "r") == {"c": 1, "d": 3}
    assert not store.is_in_transaction()


def test_writing_the_same_again() -> None:
    """A write of what shows already takes no stamp; after a deletion it does."""
    store = new_store().set_value("v", 1)
    assert store.set_value("v", 1.0).get_stamp(None, "", "v") == (1, hlc(0, client="7JQY8"))
    assert store.set_value("v", True).get_stamp(None, "", "v") == (True, hlc(1, client="7JQY8"))
    store.del_value("v").del_value("v")
    assert store.get_stamp(None, "", "v") == (TOMBSTONE, hlc(2, client="7JQY8"))
    assert store.set_value("v", True).get_stamp(None, "", "v") == (True, hlc(3, client="7JQY8"))


def test_what_comes_to_life_goes_last() -> None:
    """A cell, row or table that was deleted and is set again is at the end."""
    store = new_store().set_tables({"t": {"r": {"a": 1, "b": 1}, "q": {"a": 1}}, "u": {"r": {"a": 1}}})
    store.set_values({"v": 1, "w": 1})
    store.del_cell("t", "r", "a").set_cell("t", "r", "a", 2).del_value("v").set_value("v", 2)
    assert store.get_cell_ids("t", "r") == ["b", "a"]
    assert store.get_value_ids() == ["w", "v"]
    store.del_row("t", "r").set_cell("t", "r", "a", 3)
    assert store.get_row_ids("t") == ["q", "r"]
    store.del_table("t").set_cell("t", "r", "a", 4)
    assert store.get_table_ids() == ["u", "t"]
    store._check()


# --- who may write when


def test_a_listener_that_only_looks_cannot_write() -> None:
    """A write in a listener without `mutator`, or in a did-finish listener, raises there and changes nothing."""
    refusals: list[str] = []

    def write(store: MergeableStore) -> None:
        before = state(store)
        for act in (
            lambda: store.set_cell("t", "r", "c", 2),
            lambda: store.add_row("t", {"c": 2}),
            lambda: store.del_values(),
            lambda: store.set_schema({}),
            lambda: store.transaction(lambda: None),
            lambda: store.start_transaction(),
            lambda: store.apply_mergeable_changes([[{}], [{"v": [2, hlc(99)]}], 1]),
            lambda: store.set_mergeable_content([[{}, "", 0], [{}, "", 0]]),
        ):
            with pytest.raises(TransactionError):
                act()
            refusals.append("refused")
        with pytest.raises(TransactionError), store.transaction():
            refusals.append("never")
        assert state(store) == before

    store = new_store()
    store.add_values_listener(write)
    store.add_did_finish_transaction_listener(write)
    store.set_value("v", 1)
    assert refusals == ["refused"] * 16
    assert store.get_content() == ({}, {"v": 1})
    store.set_cell("t", "r", "c", 1)
    store._check()


def test_start_mutators_and_will_finish_may_write() -> None:
    """What they write is part of the transaction; mutators do not hear of what will-finish listeners write."""
    store = new_store()
    log = Log()
    store.add_start_transaction_listener(lambda store: store.set_value("start", 1))
    store.add_value_listener("v", lambda store: store.set_value("mutator", 1), True)
    store.add_value_listener("will", log, True)
    store.add_will_finish_transaction_listener(lambda store: store.set_value("will", 1))
    sent = Log()
    store.add_did_finish_transaction_listener(lambda store: sent(store, store.get_transaction_changes()[1]))
    store.set_value("v", 1)
    assert log.take() == []
    assert sent.take() == [({"start": 1, "v": 1, "mutator": 1, "will": 1},)]
    store._check()


def test_order_of_the_listeners_of_a_transaction() -> None:
    """Start, mutators, rollback function, will-finish, the others, did-finish."""
    store = new_store()
    heard: list[str] = []
    store.add_did_finish_transaction_listener(lambda: heard.append("did"))
    store.add_values_listener(lambda: heard.append("looking"))
    store.add_will_finish_transaction_listener(lambda: heard.append("will"))
    store.add_values_listener(lambda: heard.append("mutator"), True)
    store.add_start_transaction_listener(lambda: heard.append("start"))

    def do_rollback(store: MergeableStore) -> bool:
        heard.append("rollback?")
        return False

    store.transaction(lambda: store.set_value("v", 1), do_rollback)
    assert heard == ["start", "mutator", "rollback?", "will", "looking", "did"]


# --- listeners that raise


@pytest.mark.parametrize("kind", ["start", "mutator", "invalid", "will"])
def test_a_listener_that_raises_before_the_end(kind: str) -> None:
    """A start, mutating or will-finish listener that raises takes everything back; the error reaches the caller."""
    store = new_store().set_values_schema({"v": {"type": "number"}, "w": {"type": "number"}}).set_value("v", 1)
    before = state(store)
    looking = Log()
    store.add_values_listener(looking)
    match kind:
        case "start":
            listener = store.add_start_transaction_listener(throw)
        case "mutator":
            listener = store.add_value_listener(None, throw, True)
        case "invalid":
            listener = store.add_invalid_value_listener(None, throw, True)
        case _:
            listener = store.add_will_finish_transaction_listener(throw)
    writes: list[Callable[[], object]] = [
        lambda: store.set_partial_values({"v": 2, "w": "x"}),
        lambda: store.transaction(lambda: store.set_partial_values({"v": 2, "w": "x"})),
    ]
    for write in writes:
        with pytest.raises(ThrownError):
            write()
        assert state(store) == before
    assert looking.take() == []
    store.del_listener(listener)
    assert store.set_value("v", 2).get_values() == {"v": 2}
    store._check()


def test_will_finish_listeners_that_raise() -> None:
    """The other will-finish listeners are called; then everything is taken back."""
    store = new_store()
    heard: list[str] = []
    first = store.add_will_finish_transaction_listener(throw)
    store.add_will_finish_transaction_listener(lambda: heard.append("other"))
    before = state(store)
    with pytest.raises(ThrownError):
        store.set_value("v", 1)
    assert heard == ["other"]
    store.add_will_finish_transaction_listener(throw)
    with pytest.raises(ExceptionGroup, match="taken back") as raised:
        store.set_value("v", 1)
    assert [type(error) for error in raised.value.exceptions] == [ThrownError, ThrownError]
    assert state(store) == before
    assert store.del_listener(first).get_values() == {}


def test_looking_listeners_that_raise() -> None:
    """The others are called all the same, and the change stands; one error is raised itself, several in a group."""
    store = new_store()
    heard: list[str] = []
    store.add_value_listener("v", throw)
    store.add_values_listener(lambda: heard.append("values"))
    store.add_did_finish_transaction_listener(lambda: heard.append("did"))
    with pytest.raises(ThrownError):
        store.set_value("v", 1)
    assert heard == ["values", "did"]
    store.add_did_finish_transaction_listener(throw)
    with pytest.raises(ExceptionGroup, match="the changes stand") as raised:
        store.set_value("v", 2)
    assert [type(error) for error in raised.value.exceptions] == [ThrownError, ThrownError]
    assert store.get_values() == {"v": 2}
    assert not store.is_in_transaction()
    store._check()


def test_keyboard_interrupt_in_a_listener() -> None:
    """What is no Exception goes through at once; the change stands and the transaction is over."""
    store = new_store()

    def interrupt() -> None:
        raise KeyboardInterrupt

    store.add_values_listener(interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.set_value("v", 1)
    assert not store.is_in_transaction()
    assert store.get_values() == {"v": 1}
    store._check()


def test_a_rollback_function_that_raises() -> None:
    """It takes everything back."""
    store = new_store()
    before = state(store)
    with pytest.raises(ThrownError):
        store.transaction(lambda: store.set_value("v", 1), throw)  # type: ignore[arg-type]
    assert state(store) == before
