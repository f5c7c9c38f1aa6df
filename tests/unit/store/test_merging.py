"""Taking stamps from elsewhere: newest wins leaf by leaf, and content is loaded with its hashes believed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import ClockDriftError, ContentError, TransactionError
from mergesync.store import MergeableStore
from mergesync.store.jsjson import fnv1a
from mergesync.store.leaves import child_hash

from .kit import T0, TOMBSTONE, Log, ThrownError, hlc, new_store, refused, state


def of_value(wire: Any, *stamp_hlc: str) -> list[Any]:
    """Changes of the value v."""
    return [[{}], [{"v": [wire, *stamp_hlc]}], 1]


def test_newest_wins() -> None:
    """The greater HLC wins in any order; an equal one changes nothing; an empty one loses to any."""
    for order in ((1, 2), (2, 1)):
        store = new_store()
        for counter in order:
            store.apply_mergeable_changes(of_value(counter, hlc(counter)))
        assert store.get_value("v") == 2
        for changes in (of_value(9, hlc(2)), of_value(9)):
            with unchanged(store):
                store.apply_mergeable_changes(changes)


def unchanged(store: MergeableStore) -> Any:
    """What is done inside changes nothing."""

    class Unchanged:
        def __enter__(self) -> None:
            self.before = state(store)

        def __exit__(self, *_: object) -> None:
            assert state(store) == self.before

    return Unchanged()


def test_default_content_of_a_peer() -> None:
    """A leaf with the empty HLC fills what nobody has written, and is replaced by another one with the empty HLC."""
    store = new_store().apply_mergeable_changes(of_value(1))
    with unchanged(store):
        store.apply_mergeable_changes(of_value(1, ""))
    assert store.apply_mergeable_changes(of_value(2)).get_value("v") == 2
    assert store.apply_mergeable_changes(of_value(3, hlc(1))).get_stamp(None, "", "v") == (3, hlc(1))


def test_tombstones() -> None:
    """A tombstone deletes what is older, and is kept where nothing was."""
    store = new_store().apply_mergeable_changes([[{"t": [{"r": [{"c": [TOMBSTONE, hlc(2)]}]}]}], [{}], 1])
    assert not store.has_tables()
    store.apply_mergeable_changes([[{"t": [{"r": [{"c": [1, hlc(1)], "d": [1, hlc(1)]}]}]}], [{}], 1])
    assert store.get_tables() == {"t": {"r": {"d": 1}}}
    store._check()


def test_the_clock_takes_note() -> None:
    """After a merge, the next local write is above everything that was taken, containers' HLCs included."""
    for changes in (
        of_value(1, hlc(7)),
        [[{}, hlc(7)], [{}], 1],
        [[{"t": [{}, hlc(7)]}], [{}], 1],
        [[{"t": [{"r": [{}, hlc(7)]}]}], [{}], 1],
        [[{"t": [{"r": [{"c": ["x", hlc(7)]}]}]}], [{}], 1],
        [[{}], [{}, hlc(7)], 1],
    ):
        stamp = new_store().apply_mergeable_changes(changes).set_value("w", 1).get_stamp(None, "", "w")
        assert stamp == (1, hlc(8, client="7JQY8"))


def test_container_hlcs() -> None:
    """A container's own HLC is kept if it is greater, is part of its hash, and travels."""
    store = new_store().set_cell("t", "r", "c", 1).set_value("v", 1)
    store.get_mergeable_content_hashes()
    changes: list[Any] = [[{"t": [{"r": [{}, hlc(3)]}, hlc(4)]}, hlc(5)], [{}, hlc(6)], 1]
    store.apply_mergeable_changes(changes)
    store._check()
    tables, values = store.get_mergeable_content()
    assert (tables[1], tables[0]["t"][1], tables[0]["t"][0]["r"][1], values[1]) == (hlc(5), hlc(4), hlc(3), hlc(6))
    with unchanged(store):
        store.apply_mergeable_changes([[{"t": [{"r": [{}, hlc(2)]}, hlc(1)]}, hlc(5)], [{}, hlc(1)], 1])
    before = state(store)
    with pytest.raises(ThrownError), store.transaction():
        raise_after(store, [[{"t": [{"r": [{}, hlc(13)]}, hlc(14)]}, hlc(15)], [{}, hlc(16)], 1])
    assert state(store) == before
    store._check()


def raise_after(store: MergeableStore, changes: Any) -> None:
    """Merge, look at the hashes, and throw."""
    store.apply_mergeable_changes(changes)
    store.get_mergeable_content()
    raise ThrownError


def test_containers_named_without_leaves() -> None:
    """A row or table that is named and of which nothing is known leaves a trace in the hash above, and takes it out."""
    store = new_store()
    named: list[Any] = [[{"t": [{}]}], [{}], 1]
    assert store.apply_mergeable_changes(named).get_mergeable_content_hashes() == [child_hash("t", 0), 0]
    assert store.apply_mergeable_changes(named).get_mergeable_content_hashes() == [0, 0]
    assert store.get_content() == ({}, {})
    row: list[Any] = [[{"t": [{"r": [{}]}]}], [{}], 1]
    assert store.apply_mergeable_changes(row).get_mergeable_table_hashes() == {"t": child_hash("r", 0)}
    store.set_cell("t", "r", "c", 1)
    with unchanged(store):
        store.apply_mergeable_changes(row).apply_mergeable_changes(named)


@pytest.mark.parametrize("asked", [False, True])
def test_a_row_named_first_and_filled_later(asked: bool) -> None:
    """Its hash is that of its cells, whoever asked before they came; so it is if the transaction is not over."""
    store, empty, cells = new_store(), [[{"t": [{"r": [{}, hlc(1)]}]}], [{}], 1], {"c": [1, hlc(2)]}
    with store.transaction():
        store.apply_mergeable_changes(empty)
        if asked:
            store.get_mergeable_content_hashes()
        store.apply_mergeable_changes([[{"t": [{"r": [cells]}]}], [{}], 1])
    store._check()
    at_once = new_store().apply_mergeable_changes([[{"t": [{"r": [cells, hlc(1)]}]}], [{}], 1])
    assert store.get_mergeable_content() == at_once.get_mergeable_content()


def test_what_a_peer_writes_otherwise() -> None:
    """Numbers, raw objects and texts that do not decode are stamped; only what decodes shows."""
    store = new_store()
    store.apply_mergeable_changes(
        [
            [{}],
            [{"n": [1.0, hlc(1)], "o": [{"a": 1}, hlc(1)], "bad": ["\ufffd{", hlc(1)], "sp": ["\ufffd[1, 2]", hlc(1)]}],
            1,
        ]
    )
    assert store.get_values() == {"n": 1, "o": {"a": 1}, "sp": [1, 2]}
    with unchanged(store):
        store.set_value("o", {"a": 1})
    assert store.get_mergeable_content()[1][0]["o"][2] == fnv1a('{"a":1}:' + hlc(1))
    store._check()


def test_merge_of_stores() -> None:
    """Two stores that merge end equal; anything else cannot be merged with."""
    one, two = new_store("one"), new_store("two")
    one.set_cell("t", "r", "a", 1).set_value("v", 1).set_cell("t", "r", "gone", 1).del_cell("t", "r", "gone")
    two.set_cell("t", "r", "b", 2).set_value("v", 2).set_cell("u", "r", "c", [1])
    assert one.merge(two) is one
    assert one.get_mergeable_content() == two.get_mergeable_content()
    with refused_type(one):
        one.merge("two")  # type: ignore[arg-type]
    ahead = MergeableStore("three", get_now=lambda: T0 + 10**6).set_value("v", 3)
    with refused(one, ClockDriftError):
        one.merge(ahead)


def refused_type(store: MergeableStore) -> Any:
    """A TypeError."""
    return pytest.raises(TypeError)


# --- loading


def loaded(content: Any) -> MergeableStore:
    """A store that loaded this."""
    return new_store("loader").set_mergeable_content(content)


def content_of_all() -> Any:
    """Content with everything in it."""
    store = new_store().set_tables({"t": {"r": {"a": 1, "o": [1]}, "q": {"a": 1}}, "u": {"r": {"a": 1}}})
    store.set_values({"v": 1, "gone": 1}).del_value("gone").del_row("t", "q")
    store.apply_mergeable_changes([[{"t": [{"p": [{"a": [9, hlc(3)]}, hlc(4)]}, hlc(5)]}, hlc(6)], [{}, hlc(7)], 1])
    return json.loads(json.dumps(store.get_mergeable_content()))


def test_a_load_replaces_everything() -> None:
    """What was there is gone, stamps and all; what comes is there exactly, and the clock is past it."""
    content = content_of_all()
    store = new_store("other").set_cell("old", "r", "c", 1).set_cell("t", "r", "old", 1).set_value("old", 1)
    assert store.set_mergeable_content(content).get_mergeable_content() == content
    assert store.get_content() == ({"t": {"r": {"a": 1, "o": [1]}, "p": {"a": 9}}, "u": {"r": {"a": 1}}}, {"v": 1})
    store._check()
    assert store.set_value("v", 2).get_value("v") == 2
    store._check()


def test_wrong_hashes_are_believed() -> None:
    """Wrong hashes stay, at every level; what changes later changes them by as much as it should."""
    right = content_of_all()
    wrong = content_of_all()
    wrong[0][2], wrong[0][0]["t"][2], wrong[0][0]["t"][0]["r"][2] = 1, 2, 3
    wrong[0][0]["t"][0]["r"][0]["a"][2], wrong[1][2], wrong[1][0]["v"][2] = 4, 5, 6
    store, other = loaded(wrong), loaded(right)
    assert store.get_mergeable_content() == wrong
    assert store.get_mergeable_value_hashes()["v"] == 6
    for each in (store, other):
        each.set_cell("t", "r", "new", 1).set_value("new", 1)
    tables, values = store.get_mergeable_content()
    assert values[2] ^ 5 == other.get_mergeable_content()[1][2] ^ right[1][2]
    assert (
        tables[0]["t"][0]["r"][2] ^ 3
        == other.get_mergeable_content()[0][0]["t"][0]["r"][2] ^ right[0][0]["t"][0]["r"][2]
    )
    assert tables[0]["t"][0]["r"][0]["a"][2] == 4
    store.set_cell("t", "r", "a", 5).set_value("v", 5)
    other.set_cell("t", "r", "a", 5).set_value("v", 5)
    assert store.get_mergeable_value_hashes() == other.get_mergeable_value_hashes()
    assert store.get_mergeable_cell_hashes({"t": {"r": 0}}) == other.get_mergeable_cell_hashes({"t": {"r": 0}})


def test_wrong_hashes_and_a_rollback() -> None:
    """A transaction that is taken back leaves wrong hashes as they were."""
    wrong = content_of_all()
    wrong[1][0]["v"][2] = 6
    store = loaded(wrong)
    with pytest.raises(ThrownError), store.transaction():
        raise_after(store.set_value("v", 7), of_value(8, hlc(99)))
    assert store.get_mergeable_content() == wrong


def test_hashes_of_any_size() -> None:
    """Hashes are taken modulo 2**32; fractions are cut off."""
    store = loaded([[{}, "", 2**32 + 5], [{"v": [1, hlc(1), -1]}, "", 7.5]])
    assert store.get_mergeable_content() == [[{}, "", 5], [{"v": [1, hlc(1), 2**32 - 1]}, "", 7]]


def test_an_empty_load() -> None:
    """Empty content empties the store."""
    store = new_store().set_cell("t", "r", "c", 1).set_value("v", 1)
    store.get_mergeable_content()
    assert store.set_mergeable_content([[{}, "", 0], [{}, "", 0]]).get_content() == ({}, {})
    assert store.get_mergeable_content_hashes() == [0, 0]


def test_a_load_with_a_schema() -> None:
    """Loaded stamps show through the schema, and defaults that nobody has written are added."""
    store = new_store().set_schema(
        {"t": {"a": {"type": "string", "default": "x"}, "z": {"type": "number", "default": 7}}},
        {"v": {"type": "boolean"}, "z": {"type": "number", "default": 8}},
    )
    log = Log()
    store.add_invalid_value_listener("v", log)
    store.set_mergeable_content(content_of_all())
    assert store.get_content() == ({"t": {"r": {"a": "x", "z": 7}, "p": {"a": "x", "z": 7}}}, {"z": 8})
    assert log.take() == [("v", [1])]
    assert store.get_stamp("t", "r", "a") == (1, hlc(0, client="7JQY8"))


@pytest.mark.parametrize("content", [None, [], [[{}, "", 0]], [[{}], [{}]], [[{}, "", 0], [{}, "", 0], 1]])
def test_content_that_is_none(content: Any) -> None:
    """Malformed content raises and changes nothing, and so does a stamp from the future, or a load in a transaction."""
    store = new_store().set_value("v", 1)
    with refused(store, ContentError):
        store.set_mergeable_content(content)
    with refused(store, ClockDriftError):
        store.set_mergeable_content([[{}, "", 0], [{"v": [1, hlc(0, T0 + 300_001), 1]}, "", 0]])
    with store.transaction(), refused(store, TransactionError):
        store.set_mergeable_content([[{}, "", 0], [{}, "", 0]])


def test_a_load_with_listeners_that_write() -> None:
    """What mutators write on a load gets a local stamp on top of it, and is hashed."""
    store = new_store("writer").set_cell("old", "r", "c", 1)
    store.add_tables_listener(lambda s: s.set_cell("old", "r", "d", 2).set_value("v", 2), True)
    sent = Log()
    store.add_did_finish_transaction_listener(lambda s: sent(s, s.get_transaction_mergeable_changes()))
    store.set_mergeable_content(content_of_all())
    assert (store.get_row("old", "r"), store.get_value("v")) == ({"d": 2}, 2)
    store._check()
    [(changes,)] = sent.take()
    assert changes[1][0]["v"][0] == 2
    assert new_store("heard").apply_mergeable_changes(changes).get_content() == store.get_content()


@pytest.mark.parametrize("when", ["start", "mutator", "will", "rollback"])
def test_a_load_that_is_taken_back(when: str) -> None:
    """A load in which a listener that may write raises leaves no trace."""
    store = new_store("taker").set_cell("old", "r", "c", 1).set_cell("t", "r", "a", 5).set_value("v", 5)
    before = state(store)

    def throw(store: MergeableStore) -> None:
        store.set_cell("t", "r", "a", 6).set_cell("old", "r", "c", 6)
        store.get_mergeable_content()
        raise ThrownError

    match when:
        case "start":
            store.add_start_transaction_listener(throw)
        case "mutator":
            store.add_tables_listener(throw, True)
        case "will":
            store.add_will_finish_transaction_listener(throw)
        case _:
            store._clock._get_wall_clock = raising_later()
    with pytest.raises(ThrownError):
        store.set_mergeable_content(content_of_all())
    store._clock._get_wall_clock = lambda: T0
    assert state(store) == before
    store._check()


def raising_later() -> Any:
    """A clock that fails at the second look."""
    times = iter([T0])

    def get_now() -> int:
        try:
            return next(times)
        except StopIteration:
            raise ThrownError from None

    return get_now


def test_a_load_after_a_start_listener_has_written() -> None:
    """Listeners hear of a load what it changed since before the transaction, whatever was written at its start."""
    store = new_store("starter").set_cell("t", "r", "a", 5).set_value("v", 5)
    store.add_start_transaction_listener(
        lambda s: s.set_cell("t", "r", "a", 6).set_cell("new", "r", "a", 1).set_value("v", 6).set_value("new", 1)
    )
    log = Log()
    store.add_cell_listener("t", "r", "a", log)
    store.add_table_listener("new", log)
    store.add_value_listener(None, log)
    store.set_mergeable_content(content_of_all())
    assert sorted(call[:3] for call in log.take()) == [("t", "r", "a"), ("v", 1, 5)]


def _changes(tables: Any = None, values: Any = None) -> Any:
    return [[tables or {}], [values or {}], 1]


_ONE: Any = _changes({"t": [{"r": [{"c": [1, hlc(9)]}]}]})


@pytest.mark.parametrize(
    ("body", "in_another", "in_a_blank_one"),
    [
        (_ONE, True, True),
        (_changes({"t": [{"r": [{"c": [1, hlc(9)], "d": ["x", hlc(9)]}]}]}, {"v": [1, hlc(9)]}), True, True),
        (_changes({"t": [{"r": [{"old": [1, hlc(9)]}]}]}), True, True),
        (_changes(values={"v": [1, hlc(9)]}), True, True),
        (_changes({"new": [{"r": [{"c": [1]}]}]}), True, True),  # without an HLC
        (_changes({"t": [{"r": [{"c": [1, hlc(9)], "old": [2, hlc(1)]}]}]}), False, True),  # one of them is older
        (_changes({"t": [{"r": [{"old": [0, hlc(5)]}]}]}), False, True),  # the same again
        (_changes({"t": [{"r": [{"c": [1, hlc(9)], "bare": [0]}]}]}), False, True),  # the same, without an HLC
        (_changes(), False, False),
        (_changes({"t": [{"r": [{}], "q": [{}]}], "u": [{}]}), False, False),  # names without leaves
    ],
)
def test_what_was_merged_whole_is_what_changed(body: Any, in_another: bool, in_a_blank_one: bool) -> None:
    """A listener that is told so need not gather the changes: they would be the same."""
    another = new_store().apply_mergeable_changes(_changes({"t": [{"r": [{"old": [0, hlc(5)], "bare": [0]}]}]}))
    for store, whole in ((another, in_another), (new_store(), in_a_blank_one)):
        heard: list[Any] = []

        def listen(store: MergeableStore, heard: list[Any] = heard) -> None:
            gathered = store.get_transaction_mergeable_changes(), store.get_changes_beyond(body)
            heard.append((store.has_taken_all(), *gathered))

        store.add_did_finish_transaction_listener(listen)
        store.apply_mergeable_changes(body)
        assert heard[0][0] is whole
        assert not whole or heard[0][1:] == (body, _changes())
        store.set_cell("t", "r", "c", 3)
        assert heard[1][0] is False


def test_what_a_listener_adds_or_takes_back_is_not_what_was_merged() -> None:
    """Nor is what is merged twice, or not at all because a listener raised."""
    heard: list[bool] = []

    def merged(mutate: Callable[[MergeableStore], object]) -> bool:
        store = new_store()
        store.add_tables_listener(lambda store: mutate(store), mutator=True)
        store.add_did_finish_transaction_listener(lambda store: heard.append(store.has_taken_all()))
        store.apply_mergeable_changes(_ONE)
        return heard.pop()

    def throw(_: MergeableStore) -> None:
        raise ThrownError

    assert merged(lambda store: None)
    assert not merged(lambda store: store.set_cell("t", "r", "d", 1))
    assert not merged(lambda store: store.del_cell("t", "r", "c", True))
    assert not merged(lambda store: store.apply_mergeable_changes(_changes(values={"v": [1, hlc(10)]})))
    store = new_store()
    store.add_will_finish_transaction_listener(throw)
    store.add_did_finish_transaction_listener(lambda store: heard.append(store.has_taken_all()))
    with pytest.raises(ThrownError):
        store.apply_mergeable_changes(_ONE)
    assert heard == [False]
    schema = {"t": {"c": {"type": "number"}, "d": {"type": "number", "default": 1}}}
    defaults = new_store().set_tables_schema(schema)
    defaults.add_did_finish_transaction_listener(lambda store: heard.append(store.has_taken_all()))
    defaults.apply_mergeable_changes(_ONE)
    assert heard == [False, False]
