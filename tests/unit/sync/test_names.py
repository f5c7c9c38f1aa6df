"""Who is called what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.exceptions import NameTakenError
from mergesync.sync.names import NamePolicy, Names


def test_refuse() -> None:
    """Who has a name keeps it; who is refused keeps the one that it has; a name given up is free."""
    names = Names(NamePolicy.REFUSE)
    assert names.take("A", "ann", "a") == names.take("B", "bob", "b") == []
    with pytest.raises(NameTakenError) as raised:
        names.take("B", "ann", "b")
    assert raised.value.client_id == "B"
    assert (names.name_of("A"), names.name_of("B"), names.name_of("C")) == ("ann", "bob", None)
    names.give_up("A")
    names.take("B", "ann", "b")
    assert (names.all(), names.clients_of("ann"), names.clients_of("bob")) == (["ann"], ["B"], [])


@pytest.mark.parametrize("policy", NamePolicy)
def test_a_connection_that_died_unnoticed(policy: NamePolicy) -> None:
    """The same program gets its name back at once, as it knows the secret; without one nobody does so."""
    names = Names(policy)
    names.take("old", "ann", "secret")
    assert names.take("new", "ann", "secret") == ["old"]
    assert names.clients_of("ann") == ["new"]
    if policy is NamePolicy.REFUSE:
        names.take("without", "bob", "")
        with pytest.raises(NameTakenError):
            names.take("another", "bob", "")


def test_replace() -> None:
    """The newer one has it, and nobody else."""
    names = Names(NamePolicy.REPLACE)
    names.take("A", "ann", "a")
    assert names.take("B", "ann", "b") == ["A"]
    assert (names.name_of("A"), names.clients_of("ann")) == (None, ["B"])


def test_many() -> None:
    """All have it."""
    names = Names(NamePolicy.MANY)
    assert names.take("A", "ann", "a") == names.take("B", "ann", "b") == []
    assert (names.clients_of("ann"), names.all()) == (["A", "B"], ["ann"])
    names.give_up("A")
    names.give_up("A")
    assert names.clients_of("ann") == ["B"]


CLIENTS, NAMES, SECRETS = st.sampled_from("ABC"), st.sampled_from("xy"), st.sampled_from(["", "s", "t"])
STEPS = st.lists(st.tuples(CLIENTS, st.none() | NAMES, SECRETS), max_size=20)


@given(st.sampled_from(NamePolicy), STEPS)
def test_both_ways_agree(policy: NamePolicy, steps: list[tuple[str, str | None, str]]) -> None:
    """Whatever happens, clients and names tell the same; only by `MANY` has a name several."""
    names = Names(policy)
    for client_id, name, secret in steps:
        if name is None:
            names.give_up(client_id)
        else:
            before = {each: names.name_of(each) for each in "ABC"}
            try:
                losers = names.take(client_id, name, secret)
            except NameTakenError:
                losers, name = [], before[client_id]
            assert {each: names.name_of(each) for each in "ABC"} == {
                **before, **dict.fromkeys(losers), client_id: name,
            }  # fmt: skip
        for each in "xy":
            assert set(names.clients_of(each)) == {one for one in "ABC" if names.name_of(one) == each}
            assert policy is NamePolicy.MANY or len(names.clients_of(each)) <= 1
        assert set(names.all()) == {names.name_of(each) for each in "ABC"} - {None}
