"""What the ends of a socket agree on."""

from __future__ import annotations

import pytest

from mergesync.sync.subprotocols import Dialect, choose, dialect_of, offered


@pytest.mark.parametrize("multiplexed", [False, True])
def test_two_mergesync_ends(multiplexed: bool) -> None:
    """They agree on what only they speak, with channels or without."""
    names = offered(multiplexed=multiplexed)
    assert dialect_of(choose(names)) == Dialect(multiplexed=multiplexed, extended=True)
    # A TinyBase server takes the first that it is offered, whatever it is.
    assert dialect_of(names[0]) == Dialect(multiplexed=multiplexed, extended=False)


@pytest.mark.parametrize(
    ("names", "name", "multiplexed"),
    [([], None, False), (["tinybase"], "tinybase", True), (["x", "tinybase"], "x", False)],
)
def test_a_tinybase_client(names: list[str], name: str | None, multiplexed: bool) -> None:
    """It gets the first that it offers, as from TinyBase's server."""
    assert choose(names) == name
    assert dialect_of(name) == Dialect(multiplexed=multiplexed, extended=False)
