"""A client that comes back with a cursor: whatever was lost, and whatever the cursor is worth, both end equal.

The hub and the synchronizers are the real ones; messages and operations go through queues, which are in order, and of
which any tail may be lost.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mergesync.exceptions import SyncError
from mergesync.store import MergeableStore
from mergesync.store.unsaved import Unsaved
from mergesync.sync import window as window_module
from mergesync.sync.admission import is_empty
from mergesync.sync.hub import Hub
from mergesync.sync.messages import Message, decode_message, encode_message
from mergesync.sync.operations import COMPARE, HELLO, OK, SINCE, Operation, decode_operation, operation_remainder
from mergesync.sync.payloads import Payload, split_frame
from mergesync.sync.synchronizer import EVERYONE, Origin, Synchronizer, SyncState
from mergesync.types import MergeableChanges
from tests.network import Clock, Ids

CLIENTS = ("A", "B")


class World:
    """A path on a server, which can be opened anew, and clients of ours."""

    def __init__(self) -> None:
        self.new_id = Ids()
        self.clock = Clock()
        self.down: dict[str, deque[str]] = {name: deque() for name in CLIENTS}
        self.deaf: set[str] = set()  # clients that miss changes
        self.store = MergeableStore("server", get_now=self.clock)
        self.hub = self.new_hub()
        self.clients = {name: Client(self, name) for name in CLIENTS}

    def new_hub(self) -> Hub:
        """Another hub for the store, as after the path was closed for a while."""
        hub = Hub("p", self, relay=False, request_timeout_seconds=1.0, fragment_size=None, new_id=self.new_id)
        hub.ready(self.store, 0.0)
        return hub

    def restart(self, kept: MergeableStore) -> None:
        """The server is another one, which has what another store holds."""
        for client in self.clients.values():
            client.cut(0, 0)
        self.hub.destroy()
        self.store = kept
        self.hub = self.new_hub()

    def hear(self, name: str, frame: str) -> None:
        """The server hears a client."""
        address, remainder = split_frame(frame)
        if address == "X":
            asked = decode_operation(remainder)

            def answer(result: dict[str, Any]) -> None:
                self.down[name].append("X\n" + operation_remainder(Operation(asked.request_id, OK, result)))

            if asked.name == COMPARE:
                self.hub.take_given(name, asked.body, 0.0)
                self.hub.when_merged(name, lambda _: answer(self.hub.compare(name, asked.body)))  # type: ignore[arg-type]
            else:
                assert asked.name in (HELLO, SINCE)
                self.hub.resume(name, asked.body, answer, 0.0)
        else:
            message = decode_message(remainder)
            self.hub.receive(name, address, Payload(message, (remainder,)), 0.0)

    def settle(self) -> None:
        """Everything arrives, and what waits for the clock is done."""
        for turn in range(40):
            for name, client in self.clients.items():
                for _ in range(1000):
                    if not (client.up or self.down[name]):
                        break
                    client.move()
                else:
                    raise AssertionError("no rest")
                client.core.wake(float(turn))
            self.hub.wake(float(turn))

    # --- Exit

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients."""
        for client_id in client_ids:
            self.down[client_id].append(frame)

    def send_changes(self, client_ids: Sequence[str], frames: Sequence[str], author: str | None) -> None:
        """Changes, which some miss."""
        for frame in frames:
            self.send([name for name in client_ids if name not in self.deaf and name != author], frame)

    def close(self, client_id: str, error: SyncError) -> None:
        """Nobody is closed."""
        raise AssertionError(client_id) from error

    def report(self, error: Exception) -> None:
        """Nothing goes wrong."""
        raise error


class Client:
    """A client: its store, its core, and what the server has not confirmed."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.up: deque[str] = deque()
        self.connected = False
        self.compared = 0
        self.unconfirmed = Unsaved(everything=True)
        self.store = MergeableStore(name, get_now=world.clock)
        self.core = Synchronizer(
            self.store,
            self,
            request_timeout_seconds=1.0,
            new_id=world.new_id,
            operate=self.operate,
            unconfirmed=lambda: (
                None if self.unconfirmed.everything else json.loads(json.dumps(self.unconfirmed.changes))
            ),
        )

    def connect(self) -> None:
        """Come, or come back."""
        if not self.connected:
            self.connected = True
            self.world.deaf.discard(self.name)
            self.world.hub.join(self.name)
            self.core.start_sync(0.0, compares=True)

    def cut(self, sent: int, received: int) -> None:
        """Lose the connection, with all that was under way but for some at the head of it."""
        if self.connected:
            for _ in range(min(sent, len(self.up))):
                self.world.hear(self.name, self.up.popleft())
            for _ in range(min(received, len(self.world.down[self.name]))):
                self.take()
            self.up.clear()
            self.world.down[self.name].clear()
            self.connected = False
            self.core.disconnect()
            self.world.hub.leave(self.name)

    def move(self) -> None:
        """One frame each way."""
        if self.up:
            self.world.hear(self.name, self.up.popleft())
        if self.world.down[self.name]:
            self.take()

    def take(self) -> None:
        """A frame of the server."""
        address, remainder = split_frame(self.world.down[self.name].popleft())
        if address == "X":
            self.core.receive_operation(decode_operation(remainder), 0.0)
        else:
            self.core.receive(address, decode_message(remainder), 0.0)

    def operate(self, operation: Operation) -> None:
        """A question to the server."""
        self.compared += operation.name == COMPARE
        self.up.append("X\n" + operation_remainder(operation))

    # --- Outlet

    def send(self, address: str, message: Message) -> None:
        """A message."""
        if self.connected:
            self.up.append(f"{address or EVERYONE}\n{encode_message(message)}")

    def report(self, error: Exception) -> None:
        """That the connection is lost is no news."""

    def pulled(self) -> None:
        """The server has everything, or will be told of it."""
        if self.core.state is SyncState.LIVE and not self.core.is_giving:
            self.unconfirmed = Unsaved()

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Nothing is."""
        raise AssertionError(changes)

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """Send what was written here."""
        if not is_empty(beyond):
            self.unconfirmed.add(json.loads(json.dumps(beyond)))
            if self.core.state is SyncState.LIVE:
                self.core.send_changes(beyond)


names = st.sampled_from(CLIENTS)
small = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(("server", *CLIENTS)), small, small),
        st.tuples(st.just("delete"), st.sampled_from(("server", *CLIENTS)), small),
        st.tuples(st.just("connect"), names),
        st.tuples(st.just("cut"), names, small, small),
        st.tuples(st.just("move"), names, small),
        st.tuples(st.just("settle")),
        st.tuples(st.just("deaf"), names),
        st.tuples(st.just("hears"), names),
        st.tuples(st.just("restart")),
        st.tuples(st.just("backup")),
        st.tuples(st.just("restore")),
        st.tuples(st.just("lie"), names, st.sampled_from((None, "x.1", "nonsense")), small),
    ),
    max_size=40,
)


@pytest.mark.parametrize("remembered", [2, 1000])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps)
def test_all_end_equal(monkeypatch: pytest.MonkeyPatch, remembered: int, taken: list[Any]) -> None:
    """Whatever is written, lost, missed, restored from a backup, or said wrongly of a cursor."""
    monkeypatch.setattr(window_module, "MAX_REMEMBERED_CHANGES", remembered)
    world = World()
    backup = MergeableStore("server-1", get_now=world.clock)
    restarts = 1
    for step, *arguments in taken:
        world.clock.now += 1
        match step, arguments:
            case "write", [who, at, value]:
                store = world.store if who == "server" else world.clients[who].store
                store.set_cell("t", f"r{at}", "c", value)
                store.set_value(f"v{at}", value)
            case "delete", [who, at]:
                store = world.store if who == "server" else world.clients[who].store
                store.del_row("t", f"r{at}")
            case "connect", [name]:
                world.clients[name].connect()
            case "cut", [name, sent, received]:
                world.clients[name].cut(sent, received)
            case "move", [name, count]:
                for _ in range(count):
                    world.clients[name].move()
            case "settle", []:
                world.settle()
            case "deaf", [name]:
                world.deaf.add(name)
            case "hears", [name]:
                if name in world.deaf:
                    world.deaf.discard(name)
                    if world.clients[name].connected:
                        world.hub.remind(name)
            case "restart", []:
                world.restart(world.store)
            case "backup", []:
                restarts += 1
                backup = MergeableStore(f"server-{restarts}", get_now=world.clock)
                backup.set_mergeable_content(world.store.get_mergeable_content())
            case "restore", []:
                restarts += 1
                kept = MergeableStore(f"server-{restarts}", get_now=world.clock)
                kept.set_mergeable_content(backup.get_mergeable_content())
                world.restart(kept)
            case "lie", [name, cursor, number]:
                resuming = world.clients[name].core._pulling.resuming
                epoch = (resuming.cursor or "none.0").rpartition(".")[0]
                resuming.cursor = cursor or f"{epoch}.{number}"
    for name, client in world.clients.items():
        if name in world.deaf and client.connected:
            world.deaf.discard(name)
            world.hub.remind(name)
        client.connect()
    world.settle()
    contents = [
        store.get_mergeable_content() for store in (world.store, *(each.store for each in world.clients.values()))
    ]
    assert contents[0] == contents[1] == contents[2]
    assert not any(client.core.is_pulling for client in world.clients.values())


@given(st.lists(st.tuples(st.sampled_from(("server", "B", "A")), small, small), max_size=10), small, small)
def test_what_comes_back_is_told_the_rest(written: list[Any], sent: int, received: int) -> None:
    """Whoever wrote, and whatever of it arrived before the link was lost: nothing is compared where all is numbered."""
    world = World()
    for client in world.clients.values():
        client.connect()
    world.settle()
    for who, at, value in written:
        world.clock.now += 1
        store = world.store if who == "server" else world.clients[who].store
        store.set_cell("t", f"r{at}", "c", value)
        world.clients["B"].move()
    client = world.clients["A"]
    client.cut(sent, received)
    for who, at, value in written:
        world.clock.now += 1
        store = world.store if who == "server" else world.clients[who].store
        store.set_cell("t", f"r{at}", "d", value)
    world.settle()
    compared = client.compared
    client.connect()
    world.settle()
    assert client.compared == compared
    assert client.store.get_mergeable_content() == world.store.get_mergeable_content()
