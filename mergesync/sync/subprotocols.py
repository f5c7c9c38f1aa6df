"""What a socket speaks, as both ends agree on it when it is opened (docs/protocol.md).

A TinyBase server takes the first subprotocol that a client offers, whatever it is. So a client offers a name first that
changes nothing there, and one of mergesync's after it, which only a mergesync server takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CHANNELS", "EXTENDED", "EXTENDED_CHANNELS", "PLAIN", "Dialect", "choose", "dialect_of", "offered"]

PLAIN = "plain"
"""One path, as without a subprotocol: for TinyBase any name but its own means that."""

CHANNELS = "tinybase"
"""Channels in a socket, as TinyBase has them."""

EXTENDED = "mergesync.v1"
"""One path, and operations."""

EXTENDED_CHANNELS = "mergesync.v1+tinybase"
"""Channels, and operations in each."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a socket speaks.

    Attributes:
        multiplexed: whether it carries channels.
        extended: whether it carries operations, which only mergesync knows.
    """

    multiplexed: bool
    extended: bool


def offered(*, multiplexed: bool) -> list[str]:
    """What a client offers, the name for a TinyBase server first."""
    return [CHANNELS, EXTENDED_CHANNELS] if multiplexed else [PLAIN, EXTENDED]


def choose(names: Iterable[str]) -> str | None:
    """What a server takes of what it is offered: mergesync's own, or else the first, as a TinyBase server does.

    Example:
        >>> choose(["plain", "mergesync.v1"]), choose(["tinybase", "other"]), choose([])
        ('mergesync.v1', 'tinybase', None)
    """
    names = list(names)
    extended = [name for name in names if dialect_of(name).extended]
    return next(iter([*extended, *names]), None)


def dialect_of(subprotocol: str | None) -> Dialect:
    """What a socket speaks on which this subprotocol was agreed."""
    return Dialect(
        multiplexed=subprotocol in (CHANNELS, EXTENDED_CHANNELS), extended=subprotocol in (EXTENDED, EXTENDED_CHANNELS)
    )
