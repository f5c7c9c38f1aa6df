"""Who is on a path, as a store: a path in memory beside it, with a row for each client.

The companion of `petShop` is `petShop/~clients`. Whoever may be on the path may be on its companion, with a channel of
the same socket or with another socket, and needs nothing but a store to see who comes and goes. What the server vouches
for in a row nobody else can write; the other cells are its client's own.
"""

from __future__ import annotations

from typing import Any, Final

from mergesync.exceptions import RequestFailedError
from mergesync.limits import MAX_DEPARTED_CLIENTS, MAX_PRESENCE_BYTES, MAX_PRESENCE_CELLS
from mergesync.rooms.access import Client
from mergesync.rooms.changes import Changes
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE, check_id, encode_cell
from mergesync.store.jsjson import dumps
from mergesync.sync.admission import Place, rows_of
from mergesync.sync.review import Proposal, Verdict, without
from mergesync.types import MISSING, Cell, GetNow

__all__ = ["Presence", "companion_of", "main_of", "mistake"]

_COMPANION: Final = "~clients"
_TABLE: Final = "clients"
_VOUCHED: Final = ("name", "identity", "since", "write")
_NOT_ITS_OWN = ("a client may change only the cells of its own row that the server does not vouch for",)
_TOO_MUCH = (f"more than {MAX_PRESENCE_CELLS} cells or {MAX_PRESENCE_BYTES} bytes in the row of a client",)


def companion_of(path_id: str) -> str:
    """The path that says who is on a path.

    Example:
        >>> companion_of("petShop"), companion_of("")
        ('petShop/~clients', '~clients')
    """
    return f"{path_id}/{_COMPANION}" if path_id else _COMPANION


def main_of(path_id: str) -> str | None:
    """The path whose clients a path is about; None if it is no companion.

    Example:
        >>> main_of("petShop/~clients"), main_of("~clients"), main_of("petShop")
        ('petShop', '', None)
    """
    if path_id == _COMPANION:
        return ""
    return path_id.removesuffix(f"/{_COMPANION}") if path_id.endswith(f"/{_COMPANION}") else None


def mistake(error: Exception) -> Exception:
    """What is reported when `on_presence` has made of a state what cannot be said."""
    return ValueError(f"on_presence has left what a client cannot say of itself: {error}")


class Presence:
    """The clients of one path.

    Args:
        get_now: the wall clock, in milliseconds.

    Attributes:
        store: a row for each client that may be seen: `name` and `identity`, if it has them, `since` in milliseconds,
            `write` (whether it may), and what it says itself.
    """

    def __init__(self, get_now: GetNow) -> None:
        self.store: MergeableStore = MergeableStore()
        self._get_now = get_now
        self._departed = 0

    # --- what the server says

    def show(self, client: Client, name: str | None) -> None:
        """A client is there, or may do more or less than before."""
        vouched = {
            "name": name,
            "identity": None if client.identity is None else client.identity.name,
            "since": self.store.get_cell(_TABLE, client.id, "since") or self._get_now(),
            "write": client.access.write,
        }
        cells = {cell_id: cell for cell_id, cell in vouched.items() if cell is not None}
        with self.store.transaction():
            self.store.set_partial_row(_TABLE, client.id, cells)

    def rename(self, client_id: str, name: str | None) -> None:
        """A client is called otherwise, or is called nothing any more."""
        if not self.shows(client_id):
            return
        if name is None:
            self.store.del_cell(_TABLE, client_id, "name")
        else:
            self.store.set_cell(_TABLE, client_id, "name", name)

    def hide(self, client_id: str) -> None:
        """A client is gone, or may not be seen any more."""
        if not self.shows(client_id):
            return
        self.store.del_row(_TABLE, client_id)
        self._departed += 1
        if self._departed >= MAX_DEPARTED_CLIENTS and not self.store.is_in_transaction():
            self._departed = 0
            self.store.forget_deleted_rows(_TABLE)

    # --- what clients say

    def shows(self, client_id: str) -> bool:
        """Whether a client is there and may be seen."""
        return self.store.has_row(_TABLE, client_id)

    def said_by(self, client_id: str) -> dict[str, Cell]:
        """What a client says of itself."""
        row = self.store.get_row(_TABLE, client_id)
        return {cell_id: cell for cell_id, cell in row.items() if cell_id not in _VOUCHED}

    def check(self, client_id: str, state: dict[str, Any]) -> None:
        """See to it that a client may say something of itself.

        Raises:
            RequestFailedError: it may not be seen, or may not say that.
            InvalidCellError: something is no cell.
            InvalidIdError: likewise for an id.
        """
        if not self.shows(client_id):
            raise RequestFailedError("the client is not to be seen here", "refused")
        if any(cell_id in _VOUCHED for cell_id in state):
            raise RequestFailedError(_NOT_ITS_OWN[0], "refused")
        if not self._fits(client_id, {check_id(cell_id): encode_cell(cell) for cell_id, cell in state.items()}):
            raise RequestFailedError(_TOO_MUCH[0], "refused")

    def announce(self, client_id: str, state: dict[str, Any]) -> None:
        """A client says this of itself, in place of what it has said before; raises as `check` does."""
        self.check(client_id, state)
        with self.store.transaction():
            for cell_id in self.said_by(client_id):
                if cell_id not in state:
                    self.store.del_cell(_TABLE, client_id, cell_id)
            self.store.set_partial_row(_TABLE, client_id, state)

    def judge(self, client: Client, proposal: Proposal) -> Verdict:
        """Let through what a client of the companion writes to its own row.

        What it wants to delete that is not there is not merged, and not answered: it remembers clients that are
        forgotten here.
        """
        refused: dict[Place, dict[str, str]] = {}
        forgotten: dict[Place, list[str]] = {}
        own: dict[str, Any] = {}
        present = self.shows(client.id)
        for table_id, row_id, leaves in rows_of(proposal.body):
            place = table_id, row_id
            is_own = present and place == (_TABLE, client.id)
            for leaf_id in self.store.get_news(table_id, row_id, leaves):
                stamp = leaves[leaf_id]
                if is_own and leaf_id not in _VOUCHED:
                    own[leaf_id] = stamp
                elif stamp[0] == TOMBSTONE and self.store.get_stamp(*place, leaf_id) is None:
                    forgotten.setdefault(place, []).append(leaf_id)
                else:
                    refused.setdefault(place, {})[leaf_id] = hlc_of(stamp)
        reasons: tuple[str, ...] = _NOT_ITS_OWN if refused else ()
        if own and not self._fits(client.id, {leaf_id: stamp[0] for leaf_id, stamp in own.items()}):
            refused.setdefault((_TABLE, client.id), {}).update((leaf_id, hlc_of(own[leaf_id])) for leaf_id in own)
            reasons += _TOO_MUCH
        if not refused and not forgotten:
            return Verdict(proposal.body)
        left_out = {place: [*refused.get(place, ()), *forgotten.get(place, ())] for place in {**refused, **forgotten}}
        return Verdict(without(proposal.body, left_out), refused, {}, reasons)

    def wanted(self, client: Client, changes: Changes) -> dict[str, Any]:
        """What a client would say of itself after changes of its row that `judge` has let through."""
        state = {**self.said_by(client.id), **changes.tables[_TABLE][client.id]}
        return {cell_id: cell for cell_id, cell in state.items() if cell is not MISSING}

    def put_back(self, client: Client, changes: Changes, state: dict[str, Any]) -> None:
        """Edit changes such that a client says this of itself after them; raises as `check` does."""
        self.check(client.id, state)
        row, before = changes.tables[_TABLE][client.id], self.said_by(client.id)
        for cell_id in {**row, **before, **state}:
            cell = state.get(cell_id, MISSING)
            if cell_id in row or cell != before.get(cell_id, MISSING):
                row[cell_id] = cell

    def _fits(self, client_id: str, wires: dict[str, Any]) -> bool:
        """Whether a row is small enough with these cells; deleted ones leave their stamps, so they count."""
        stamps = self.store.get_stamped_rows(_TABLE)[client_id].stamps
        if len(stamps.keys() | wires.keys()) > MAX_PRESENCE_CELLS:
            return False
        row = self.store.get_kept(_TABLE, client_id, stamps)
        return len(dumps({**row, **wires})) <= MAX_PRESENCE_BYTES
