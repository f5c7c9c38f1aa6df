"""Merging what peers send: nothing raises, all that may be taken is, and the rest is said."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import ConnectionLostError, ContentError, RefusedChangesError
from mergesync.store import MergeableStore
from mergesync.sync.intake import Intake, blamed
from tests.network import Ids

from .kit import FUTURE, Outbox, hlc, new_store, value_changes


def taken(store: MergeableStore, changes: Any, newest: str, **options: Any) -> Outbox:
    """Merge, and return who heard what."""
    outbox = Outbox()
    Intake(store, outbox, authority=options.pop("authority", False), new_id=Ids()).merge(
        "C", changes, newest, **options
    )
    return outbox


def test_taken_as_it_is() -> None:
    """Changes with nothing wrong are merged; while that happens it is known whose they are."""
    store, outbox = new_store(), Outbox()
    intake = Intake(store, outbox, authority=True, new_id=Ids())
    origins: list[Any] = []
    store.add_did_finish_transaction_listener(lambda _: origins.append(intake.origin))
    changes = value_changes(v=[1, hlc(1)])
    intake.merge("C", changes, hlc(1))
    assert store.get_values() == {"v": 1}
    assert [(origin.sender, origin.body is changes) for origin in origins] == [("C", True)]
    assert intake.origin is None
    assert outbox.errors == []


@pytest.mark.parametrize("authority", [False, True])
def test_the_far_future_is_refused(authority: bool) -> None:
    """A stamp too far ahead is not merged, the others of its body are; it is reported with the client at fault."""
    store = new_store()
    changes = value_changes(v=[1, hlc(1)], w=[1, hlc(0, FUTURE)])
    outbox = taken(store, changes, hlc(0, FUTURE), authority=authority)
    assert store.get_values() == {"v": 1}
    assert outbox.refusals == [("C", value_changes(w=[1, hlc(0, FUTURE)]))]
    (error,) = outbox.errors
    assert isinstance(error, RefusedChangesError)
    assert (error.count, error.reasons, error.client_id) == (1, ("too far in the future",), "C")
    assert "too far in the future (client 'C')" in str(error)


def test_a_container_from_the_future_refuses_nothing() -> None:
    """A container's stamp too far ahead is left out, and was once an uncaught error."""
    store = new_store()
    outbox = taken(store, [[{}], [{"v": [1, hlc(1)]}, "z" * 16], 1], "z" * 16)
    assert store.get_mergeable_content()[1][:2] == [{"v": [1, hlc(1), store.get_mergeable_value_hashes()["v"]]}, ""]
    assert (outbox.errors, outbox.refusals) == ([], [])


def test_who_looks_at_each_leaf() -> None:
    """An authority refuses a second value of a stamp where it may turn up: without a stamp, and in what it pulled."""
    tie = value_changes(v=[2, hlc(1)])
    for options, kept in (
        ({"authority": True, "pulled": True}, True),
        ({"authority": False, "pulled": True}, False),
        ({"authority": True, "pulled": False}, False),
    ):
        store = new_store()
        store.merge_checked(value_changes(v=[1, hlc(1)]))
        outbox = taken(store, tie, hlc(1), **options)
        assert bool(outbox.refusals) is kept
        assert store.get_values() == {"v": 1}
    store = new_store().set_default_content(({}, {"v": 1}))
    assert taken(store, value_changes(v=[2]), "", authority=True).refusals == [("C", value_changes(v=[2]))]
    assert store.get_values() == {"v": 1}
    taken(store, value_changes(v=[2]), "", authority=False)
    assert store.get_values() == {"v": 2}


def test_the_schema_of_an_authority_decides() -> None:
    """What does not fit an authority's schema is refused; a peer among others takes it."""
    for authority in (True, False):
        store = new_store().set_values_schema({"v": {"type": "number"}})
        outbox = taken(store, value_changes(v=["x", hlc(1)]), hlc(1), authority=authority)
        assert (store.get_stamp(None, "", "v") is None) is authority
        assert bool(outbox.errors) is authority


def test_listeners_that_fail() -> None:
    """What a listener of the application raises is reported; the changes stand if it only looked, or are refused."""
    store = new_store()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    listener_id = store.add_value_listener("v", fail)
    outbox = taken(store, value_changes(v=[1, hlc(1)]), hlc(1))
    assert [type(error) for error in outbox.errors] == [ZeroDivisionError]
    assert store.get_values() == {"v": 1}
    store.del_listener(listener_id)
    store.add_value_listener("v", fail, True)
    outbox = taken(store, value_changes(v=[2, hlc(2)]), hlc(2))
    assert [type(error) for error in outbox.errors] == [ZeroDivisionError]
    assert store.get_values() == {"v": 1}
    assert outbox.refusals == [("C", value_changes(v=[2, hlc(2)]))]


def test_blame() -> None:
    """An error names its client once, unless nobody in particular, or the server, is at fault."""
    assert blamed(ConnectionLostError("gone"), "C").client_id == "C"
    assert blamed(ConnectionLostError("gone", client_id="D"), "C").client_id == "D"
    assert blamed(ConnectionLostError("gone"), "S").client_id is None
    assert blamed(ConnectionLostError("gone"), "").client_id is None
    assert not hasattr(blamed(ContentError("bad"), "C"), "client_id")


def test_listeners_that_fail_when_something_of_our_own_is_merged() -> None:
    """That is reported as well, and stands."""
    store, outbox = new_store(), Outbox()

    def fail(*_: Any) -> None:
        raise KeyError("a listener")

    store.add_value_listener("v", fail)
    Intake(store, outbox, authority=True, new_id=Ids()).merge_own(value_changes(v=[1, hlc(1)]))
    assert [type(error) for error in outbox.errors] == [KeyError]
    assert store.get_values() == {"v": 1}
