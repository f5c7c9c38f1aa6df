"""Who is called what on a path."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mergesync.exceptions import NameTakenError

__all__ = ["NamePolicy", "Names"]


class NamePolicy(enum.StrEnum):
    """What happens when a second client wants a name; equal to its lower-case name as a string."""

    REFUSE = "refuse"
    """It does not get it."""
    REPLACE = "replace"
    """It gets it, and the other one has none any more; in between nobody is without it."""
    MANY = "many"
    """Both have it, and messages to the name go to both."""


@dataclass(frozen=True, slots=True)
class _Holder:
    """A client that has a name.

    Attributes:
        name: the name.
        secret: what only the program behind the client knows, so that it gets its name back on a new connection while
            the old one is not known to be dead.
    """

    name: str
    secret: str


class Names:
    """The names of one path.

    Args:
        policy: what happens when a second client wants a name.
    """

    def __init__(self, policy: NamePolicy) -> None:
        self._policy = policy
        self._holders: dict[str, _Holder] = {}  # by client, in the order of their coming
        self._clients: dict[str, dict[str, None]] = {}  # by name

    def take(self, client_id: str, name: str, secret: str) -> list[str]:
        """Give a client a name, instead of the one it has.

        Returns:
            The clients that have lost it thereby.

        Raises:
            NameTakenError: it is another's; the client keeps the name that it has.
        """
        others = {other: self._holders[other] for other in self._clients.get(name, ()) if other != client_id}
        stale = [other for other, holder in others.items() if secret and holder.secret == secret]
        if self._policy is NamePolicy.REFUSE and len(stale) < len(others):
            raise NameTakenError(f"the name {name!r:.80} is taken", client_id=client_id)
        losers = list(others) if self._policy is NamePolicy.REPLACE else stale
        for other in [*losers, client_id]:
            self.give_up(other)
        self._holders[client_id] = _Holder(name, secret)
        self._clients.setdefault(name, {})[client_id] = None
        return losers

    def give_up(self, client_id: str) -> None:
        """A client goes, or needs no name any more."""
        holder = self._holders.pop(client_id, None)
        if holder is not None:
            clients = self._clients[holder.name]
            del clients[client_id]
            if not clients:
                del self._clients[holder.name]

    def name_of(self, client_id: str) -> str | None:
        """What a client is called, if it has a name."""
        holder = self._holders.get(client_id)
        return None if holder is None else holder.name

    def clients_of(self, name: str) -> list[str]:
        """Who has a name, first come first."""
        return list(self._clients.get(name, ()))

    def all(self) -> list[str]:
        """All names that somebody has."""
        return list(self._clients)
