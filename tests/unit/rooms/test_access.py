"""Who a client is."""

from __future__ import annotations

from mergesync.rooms.access import ClientInfo

from .kit import client


def test_what_is_known_of_a_client() -> None:
    """Its id and address are those of its socket."""
    assert (client().id, client().remote_address) == ("C", ("127.0.0.1", 1))


def test_secrets_are_not_shown() -> None:
    """What is printed of a client, in a log for example, does not have its token or cookies."""
    info = ClientInfo("C", "p", None, {"cookie": "secret"}, False, {"token": "secret"}, "secret")
    assert "secret" not in repr(info)
