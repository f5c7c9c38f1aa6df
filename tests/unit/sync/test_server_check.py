"""Asking a server whether it has got what it was told."""

from __future__ import annotations

from mergesync.limits import SERVER_CHECK_FIRST_SECONDS as FIRST
from mergesync.limits import SERVER_CHECKS
from mergesync.sync.server_check import ServerCheck
from mergesync.sync.synchronizer import SyncState
from tests.unit.sync.kit import Driven, hlc, new_store
from tests.unit.sync.test_synchronizer import ASK_HASHES, HASHES


def test_further_and_further_apart() -> None:
    """Each check is twice as far from the one before as that from its own, and they end."""
    check = ServerCheck(100.0)
    times = []
    while check.deadline is not None:
        now = check.deadline
        assert not check.is_due(now - 0.1)
        assert check.is_due(now)
        times.append(now - 100.0)
    assert times == [FIRST * (2 ** (n + 1) - 1) for n in range(SERVER_CHECKS)]


def test_seen_equal() -> None:
    """Once is enough."""
    check = ServerCheck(0.0)
    check.succeeded()
    assert (check.deadline, check.is_due(1e9)) == (None, False)


def test_begin_again() -> None:
    """After the end there are as many checks as before, and the first of them is not postponed again and again."""
    check = ServerCheck(0.0)
    check.succeeded()
    check.begin_again(10.0)
    check.begin_again(11.0)
    assert check.deadline == 10.0 + FIRST


def checking(sender: str = "S") -> Driven:
    """A live synchronizer whose first check is due at `FIRST`; somebody has answered its start."""
    driven = Driven(new_store().set_value("v", 1))
    driven.core.start_sync(0.0, compares=False)
    driven.answer(driven.store.get_mergeable_content_hashes(), sender)
    assert (driven.core.state, driven.core.deadline) == (SyncState.LIVE, FIRST)
    driven.outbox.take()
    return driven


def test_a_server_that_has_all() -> None:
    """It is asked once."""
    driven = checking()
    driven.core.wake(FIRST)
    driven.answer(driven.store.get_mergeable_content_hashes(), "S")
    assert [each[:2] for each in driven.outbox.take()] == [("S", ASK_HASHES[1])]
    assert (driven.core.deadline, driven.core.unanswered) == (None, 0)


def test_a_server_that_gave_up() -> None:
    """It is told again, and looked at again; what it has beyond us is got."""
    driven = checking()
    driven.core.wake(FIRST)
    driven.answer([0, 5], "S")
    driven.answer([{"w": [2, hlc(0)]}], "S")
    assert driven.store.get_values() == {"v": 1, "w": 2}
    assert driven.outbox.take()[-1] == ("S", HASHES, driven.store.get_mergeable_content_hashes())
    assert driven.core.deadline == 3 * FIRST


def test_a_server_that_says_nothing_good() -> None:
    """What is no answer is reported; a stop ends the checks, whatever is answered after."""
    driven = checking()
    driven.core.wake(FIRST)
    driven.answer([{"w": [2, hlc(0)]}], "S")
    assert len(driven.outbox.errors) == 1
    driven.core.wake(3 * FIRST)
    driven.core.stop_sync()
    driven.answer([0, 0], "S")
    assert (driven.core.deadline, driven.core.unanswered) == (None, 0)


def test_no_server() -> None:
    """Where only other clients speak, nobody is asked."""
    driven = checking("A")
    driven.core.wake(FIRST)
    assert driven.outbox.take() == []
    assert driven.core.deadline == 3 * FIRST


def test_what_another_client_announces() -> None:
    """The server may give up on that, too, so it is looked at again."""
    driven = checking()
    driven.core.wake(FIRST)
    driven.answer(driven.store.get_mergeable_content_hashes(), "S")
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "A", now=100.0)
    assert driven.core.deadline == 100.0 + FIRST
    driven.core.wake(100.0 + FIRST)
    driven.answer(driven.store.get_mergeable_content_hashes(), "S")
    driven.hear(HASHES, driven.store.get_mergeable_content_hashes(), "S", now=200.0)
    assert driven.core.deadline is None
