"""Who may not come onto a path for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from mergesync.exceptions import RefusedConnectionError
from mergesync.limits import MAX_BANS
from mergesync.net.door import counted_address
from mergesync.rooms.access import Client, Identity

__all__ = ["Bans", "is_the_same"]

_FORBIDDEN = 403

_Who: TypeAlias = tuple[str, str]


def _who(identity: Identity | None, remote_address: Any) -> _Who | None:
    """What somebody who comes back is known by: its identity, else its address."""
    if identity is not None:
        return "identity", identity.name
    if isinstance(remote_address, tuple | list) and remote_address:
        return "address", counted_address(remote_address) or str(remote_address[0])
    return None


def is_the_same(one: Client, other: Client) -> bool:
    """Whether a ban of one client is for the other as well."""
    who = _who(one.identity, one.remote_address)
    return one is other or (who is not None and who == _who(other.identity, other.remote_address))


class Bans:
    """Bans of one server, by path. They are forgotten when it ends.

    Args:
        now: the time of a steady clock, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._until: dict[tuple[str, _Who], float] = {}  # in the order in which they were made

    def ban(self, path_id: str, client: Client, seconds: float) -> None:
        """Keep a client out of a path; who has neither an identity nor an address cannot be known again."""
        who = _who(client.identity, client.remote_address)
        if who is not None:
            self._until.pop((path_id, who), None)
            self._until[path_id, who] = self._now() + seconds
            if len(self._until) > MAX_BANS:
                del self._until[next(iter(self._until))]

    def refusal(self, path_id: str, identity: Identity | None, remote_address: Any) -> RefusedConnectionError | None:
        """Why somebody may not come onto a path, or None."""
        who = _who(identity, remote_address) if self._until else None
        until = None if who is None else self._until.get((path_id, who))
        if who is None or until is None:
            return None
        seconds = until - self._now()
        if seconds <= 0:
            del self._until[path_id, who]
            return None
        return RefusedConnectionError("banned for now", status=_FORBIDDEN, retry_after_seconds=seconds)
