"""What the tests of this storey share: stamps, messages as they come off the wire, and peers driven by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mergesync.exceptions import SyncError
from mergesync.store import MergeableStore, jsjson
from mergesync.store.hlc import encode_hlc
from mergesync.sync.messages import Message, MessageType, decode_message
from mergesync.sync.synchronizer import Origin, Synchronizer
from mergesync.types import MergeableChanges
from tests.network import T0, Clock, Ids

FUTURE = 600_000
"""Milliseconds; twice what a stamp may be ahead."""


def hlc(counter: int, milliseconds: int = 0, client: str = "AAAAA") -> str:
    """Another store's stamp."""
    return encode_hlc(T0 + milliseconds, counter, client)


def new_store(unique_id: str = "s") -> MergeableStore:
    """An empty store whose clock stands."""
    return MergeableStore(unique_id, get_now=Clock())


def value_changes(**leaves: Any) -> MergeableChanges:
    """Changes of values: `name=[wire, hlc]`."""
    return [[{}], [leaves], 1]


def cell_changes(table_id: str, row_id: str, **leaves: Any) -> MergeableChanges:
    """Changes of the cells of one row."""
    return [[{table_id: [{row_id: [leaves]}]}], [{}], 1]


def heard(kind: MessageType, body: Any, request_id: str | None = "r") -> Message:
    """A message as it comes off the wire, checked."""
    return decode_message(jsjson.dumps([request_id, int(kind), body]))


class Outbox:
    """An `Outlet` that keeps what it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.errors: list[Exception] = []
        self.ended = 0
        self.refusals: list[tuple[str, MergeableChanges]] = []
        self.changes: list[tuple[MergeableChanges, Origin | None, MergeableChanges]] = []
        self.failing: Exception | None = None

    def send(self, address: str, message: Message) -> None:
        """A message goes out."""
        if self.failing is not None:
            raise self.failing
        self.sent.append((address, message))

    def report(self, error: Exception) -> None:
        """An error."""
        self.errors.append(error)

    def pulled(self) -> None:
        """An exchange has ended."""
        self.ended += 1

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Leaves were refused."""
        self.refusals.append((sender, changes))

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """A transaction has ended."""
        if self.failing is not None:
            raise self.failing
        self.changes.append((changes, origin, beyond))

    def take(self) -> list[tuple[str, MessageType, Any]]:
        """What went out since the last time: address, type, body."""
        taken = [(address, message.type, message.body) for address, message in self.sent]
        self.sent.clear()
        return taken


class Driven:
    """A synchronizer of which this test is all peers."""

    def __init__(self, store: MergeableStore | None = None, **options: Any) -> None:
        self.store = store or new_store()
        self.outbox = Outbox()
        self.core = Synchronizer(
            self.store, self.outbox, **{"request_timeout_seconds": 1.0, "new_id": Ids(), **options}
        )

    def hear(
        self, kind: MessageType, body: Any, sender: str = "S", now: float = 0.0, request_id: str | None = "r"
    ) -> None:
        """A peer says something."""
        self.core.receive(sender, heard(kind, body, request_id), now)

    def answer(self, body: Any, sender: str = "S", now: float = 0.0, index: int = -1) -> None:
        """A peer answers the last question, or another one of those sent and not taken yet."""
        request_id = self.outbox.sent[index][1].request_id
        self.hear(MessageType.RESPONSE, body, sender, now, request_id)

    def make_live(self) -> None:
        """Let it sync without asking anybody."""
        self.core.start_live()
        self.outbox.take()


class Exits:
    """An `Exit` that keeps what it is told."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[str, ...], str]] = []
        self.may_be_missed: list[tuple[tuple[str, ...], list[str]]] = []
        self.closed: list[tuple[str, SyncError]] = []
        self.errors: list[Exception] = []

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients."""
        self.sent.append((tuple(client_ids), frame))

    def send_changes(self, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """Changes for clients."""
        client_ids = tuple(reader for reader in readers if reader != author)
        self.may_be_missed.append((client_ids, list(frames)))
        for frame in frames:
            self.send(client_ids, frame)

    def close(self, client_id: str, error: SyncError) -> None:
        """A client has to go."""
        self.closed.append((client_id, error))

    def report(self, error: Exception) -> None:
        """An error."""
        self.errors.append(error)

    def take(self) -> list[tuple[tuple[str, ...], str]]:
        """What was sent since the last time."""
        taken, self.sent = self.sent, []
        return taken
