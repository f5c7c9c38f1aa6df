"""Who may not come onto a path for a while."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from mergesync.exceptions import RefusedConnectionError
from mergesync.limits import MAX_BANS
from mergesync.net.door import counted_address
from mergesync.rooms.access import Client, Identity
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps
from mergesync.types import GetNow

__all__ = ["Bans", "is_the_same"]

_FORBIDDEN = 403
_TABLE: Final = "bans"
_CELL: Final = "until"

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
    """Bans of one server, by path. Where lives of paths are kept, bans are as well.

    Args:
        get_now: the wall clock, in milliseconds; a ban ends when it says so, also after a restart.
    """

    def __init__(self, get_now: GetNow) -> None:
        self._get_now = get_now
        self._store = MergeableStore()
        self._until: dict[str, float] = {}  # in the order in which they were made; seconds since 1970
        self._forgotten = 0

    def use(self, store: MergeableStore) -> None:
        """Keep them in this store from now on, which has those of former times."""
        self._store = store
        for key, row in store.get_table(_TABLE).items():
            until: Any = row[_CELL]
            if until > self._now:
                self._until[key] = until
            else:
                self._forget(key)

    @property
    def _now(self) -> float:
        return self._get_now() / 1000

    def ban(self, path_id: str, client: Client, seconds: float) -> None:
        """Keep a client out of a path; who has neither an identity nor an address cannot be known again."""
        who = _who(client.identity, client.remote_address)
        if who is not None:
            key = dumps([path_id, *who])
            self._until.pop(key, None)
            self._until[key] = self._now + seconds
            self._store.set_cell(_TABLE, key, _CELL, self._until[key])
            if len(self._until) > MAX_BANS:
                self._forget(next(iter(self._until)))

    def refusal(self, path_id: str, identity: Identity | None, remote_address: Any) -> RefusedConnectionError | None:
        """Why somebody may not come onto a path, or None."""
        who = _who(identity, remote_address) if self._until else None
        if who is None:
            return None
        key = dumps([path_id, *who])
        until = self._until.get(key)
        if until is None:
            return None
        seconds = until - self._now
        if seconds <= 0:
            self._forget(key)
            return None
        return RefusedConnectionError("banned for now", status=_FORBIDDEN, retry_after_seconds=seconds)

    def _forget(self, key: str) -> None:
        self._until.pop(key, None)
        self._store.del_row(_TABLE, key)
        self._forgotten += 1
        if self._forgotten >= MAX_BANS:
            self._forgotten = 0
            self._store.forget_deleted_rows(_TABLE)
