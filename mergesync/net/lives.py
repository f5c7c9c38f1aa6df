"""Which paths the application has made, until when, and which were removed: one row each, in a path of the server.

Deadlines are wall-clock times, so that they survive a restart. A path that is removed leaves a row for a while, which
says what everything that was written before is older than: who comes back with that is late.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from heapq import heappop, heappush
from typing import Any, Final

from mergesync.deadlines import earliest
from mergesync.limits import (
    MAX_REMEMBERED_REMOVALS,
    MAX_STAMPS_AHEAD,
    REMOVAL_REMEMBERED_SECONDS,
    REMOVAL_RETRY_SECONDS,
)
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.hlc import TIME_PART_LENGTH
from mergesync.sync.admission import leaves_of
from mergesync.types import GetNow

__all__ = ["LIVES", "Life", "Lives"]

LIVES: Final = "~lives"
"""The path where they are kept; no client may come onto it."""

_TABLE: Final = "paths"
_CELL: Final = "life"
_UNSAID: Final[tuple[Any, ...]] = (None, False, "", [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is known of a path. Times are seconds since 1970.

    Attributes:
        created: when it was made, or removed.
        ends: when it is to be removed, or forgotten if it was; None for never.
        idle_ttl: how long it stays without clients; None for ever.
        idle_since: since when it has none; None while it has.
        keep: whether it stays loaded.
        removed: whether it was, and nobody has made it anew.
        pending: whether what was stored for it may still be there; until it is not, nobody may come onto it.
        born_after: a stamp, and what clients bring that is no newer was written before it was removed; empty if it
            never was.
        ahead: stamps that were newer than that, of clients with fast clocks, and were there when it was removed.
    """

    created: float = 0.0
    ends: float | None = None
    idle_ttl: float | None = None
    idle_since: float | None = None
    keep: bool = False
    removed: bool = False
    pending: bool = False
    born_after: str = ""
    ahead: list[str] = field(default_factory=list)

    def is_past(self, hlc: str) -> bool:
        """Whether something was written before the path was removed. Defaults, which have no stamp, are of any time."""
        return "" < hlc <= self.born_after or hlc in self.ahead

    @property
    def deadline(self) -> float | None:
        """When something is to be done about it."""
        idle = None if self.idle_ttl is None or self.idle_since is None else self.idle_since + self.idle_ttl
        return earliest(self.ends, idle)


class Lives:
    """The lives of the paths of one server.

    Args:
        get_now: the wall clock, in milliseconds.
    """

    def __init__(self, get_now: GetNow) -> None:
        self._get_now = get_now
        self._store = MergeableStore()
        self._lives: dict[str, Life] = {}
        self._deadlines: list[tuple[float, str]] = []  # a heap; what is no longer a path's deadline does not count
        self._removed: dict[str, None] = {}  # in the order in which they were
        self._forgotten = 0

    def use(self, store: MergeableStore) -> None:
        """Keep them in this store from now on, which has those of former times.

        A path that had clients when the server ended is without them since now.
        """
        self._store = store
        for path_id, row in store.get_table(_TABLE).items():
            said: Any = row[_CELL]
            life = Life(**said)
            if life.idle_ttl is not None and life.idle_since is None and not life.removed:
                life = replace(life, idle_since=self.now)
            self._set(path_id, life)

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._get_now() / 1000

    # --- what is there

    def get(self, path_id: str) -> Life | None:
        """What is known of a path."""
        return self._lives.get(path_id)

    def is_alive(self, path_id: str) -> bool:
        """Whether the application has made a path and it was not removed."""
        life = self._lives.get(path_id)
        return life is not None and not life.removed

    def path_ids(self) -> list[str]:
        """The paths that the application has made and that were not removed."""
        return [path_id for path_id, life in self._lives.items() if not life.removed]

    # --- what happens

    def make(
        self,
        path_id: str,
        *,
        ttl_seconds: float | None = None,
        idle_ttl_seconds: float | None = None,
        keep: bool = False,
    ) -> None:
        """A path is made, perhaps anew; it has no clients yet."""
        before, now = self._lives.get(path_id), self.now
        life = Life(
            created=now,
            ends=None if ttl_seconds is None else now + ttl_seconds,
            idle_ttl=idle_ttl_seconds,
            idle_since=None if idle_ttl_seconds is None else now,
            keep=keep,
            born_after="" if before is None else before.born_after,
            ahead=[] if before is None else before.ahead,
        )
        self._set(path_id, life)

    def unmake(self, path_id: str, before: Life | None) -> None:
        """It could not be made: all is as it was."""
        if before is None:
            self._forget(path_id)
        else:
            self._set(path_id, before)

    def occupied(self, path_id: str, occupied: bool) -> None:
        """A path has its first client, or none any more."""
        life = self._lives.get(path_id)
        if life is not None and life.idle_ttl is not None and not life.removed:
            self._set(path_id, replace(life, idle_since=None if occupied else self.now))

    def remove(self, path_id: str, store: MergeableStore | None = None) -> None:
        """A path is removed, perhaps again; what is stored of it is still there.

        Args:
            path_id: the path.
            store: what is there, if that is known.
        """
        now, before = self.now, self._lives.get(path_id) or Life()
        born_after, ahead = max(self._store.get_next_hlc(), before.born_after), before.ahead
        latest = "" if store is None else store.get_next_hlc()
        if latest[:TIME_PART_LENGTH] <= born_after[:TIME_PART_LENGTH]:
            born_after = max(born_after, latest)
        elif store is not None:
            stamps = (hlc_of(stamp) for _, stamp in leaves_of(store.get_mergeable_content()))
            ahead = sorted({*ahead, *(hlc for hlc in stamps if hlc > born_after)})
            if len(ahead) > MAX_STAMPS_AHEAD:  # what new clients write is too old as well, until their clocks show it
                born_after, ahead = ahead[-1], []
        life = Life(
            created=now,
            ends=now + REMOVAL_RETRY_SECONDS,
            removed=True,
            pending=True,
            born_after=born_after,
            ahead=ahead,
        )
        self._set(path_id, life)

    def removal_failed(self, path_id: str) -> None:
        """What is stored is still there; it is tried again."""
        life = self._lives[path_id]
        self._set(path_id, replace(life, ends=self.now + REMOVAL_RETRY_SECONDS))

    def removal_done(self, path_id: str) -> None:
        """What was stored is gone; that there was something is remembered for a while."""
        life = self._lives[path_id]
        self._set(path_id, replace(life, pending=False, ends=self.now + REMOVAL_REMEMBERED_SECONDS))
        if len(self._removed) > MAX_REMEMBERED_REMOVALS:
            self._forget(next(iter(self._removed)))

    def take_due(self) -> list[str]:
        """The paths whose deadlines have passed, each once; what is to be forgotten is."""
        due: dict[str, None] = {}
        while self._deadlines and self._deadlines[0][0] <= self.now:
            deadline, path_id = heappop(self._deadlines)
            life = self._lives.get(path_id)
            if life is None or life.deadline != deadline:
                continue
            if life.removed and not life.pending:
                self._forget(path_id)
            else:
                due[path_id] = None
        return list(due)

    @property
    def next_deadline(self) -> float | None:
        """When the next one may be due."""
        return self._deadlines[0][0] if self._deadlines else None

    def _set(self, path_id: str, life: Life) -> None:
        before = self._lives.get(path_id)
        self._lives[path_id] = life
        self._removed.pop(path_id, None)
        if life.removed and not life.pending:
            self._removed[path_id] = None
        if life.deadline is not None and (before is None or before.deadline != life.deadline):
            heappush(self._deadlines, (life.deadline, path_id))
        said: Any = {name: value for name, value in asdict(life).items() if value not in _UNSAID}
        if self._store.get_cell(_TABLE, path_id, _CELL) != said:
            self._store.set_cell(_TABLE, path_id, _CELL, said)

    def _forget(self, path_id: str) -> None:
        del self._lives[path_id]
        self._removed.pop(path_id, None)
        self._store.del_row(_TABLE, path_id)
        self._forgotten += 1
        if self._forgotten >= MAX_REMEMBERED_REMOVALS:
            self._forgotten = 0
            self._store.forget_deleted_rows(_TABLE)
