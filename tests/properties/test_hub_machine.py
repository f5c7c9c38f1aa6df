"""Everything that can go on between a hub and its clients, in any order; at rest, all of them hold the same.

One hub, up to six clients, one link each way for each of them. What travels when, how long it takes, what breaks and
when, who writes what with which clock: all of it is drawn. Nothing runs by itself, so what is found can be replayed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mergesync.exceptions import InvalidCellError, RemoteProtocolError
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import dumps
from mergesync.sync.hub import HubState
from mergesync.sync.synchronizer import SyncState
from tests.network import Clock, Network, Peer, Socket

CLIENTS = 6
PATH = "p"
KEEPALIVE = 40.0  # seconds

FUTURE = 600_000  # milliseconds ahead: refused
OFFSETS = (0, 0, 0, 3, -140_000, 140_000, FUTURE)  # a client more than five minutes behind would refuse everybody

SCHEMA: dict[str, dict[str, Any]] = {
    "a": {"x": {"type": "number", "default": 7}, "y": {"type": "string"}},
    "b": {"z": {"type": "object"}},
}

tables = st.sampled_from("abc")
rows = st.sampled_from("rs")
leaves = st.sampled_from("xyz")
cells = st.integers(0, 3) | st.sampled_from(("", "text", True, None, {"a": 1}, [1, "é🦉"]))
indexes = st.integers(0, 2 * CLIENTS)
some_seconds = st.sampled_from((0.01, 0.3, 1.1, 3.0, 40.0))

LeafKey = tuple[str | None, str, str]


class OffsetClock(Clock):
    """A wall clock that is ahead of another, or behind."""

    def __init__(self, clock: Clock, offset: int) -> None:
        self._clock = clock
        self.offset = offset

    def __call__(self) -> int:
        return self._clock.now + self.offset


def write(store: MergeableStore, operation: tuple[Any, ...]) -> None:
    """Run an operation; a server's schema may refuse its own application's cell."""
    name, *arguments = operation
    with contextlib.suppress(InvalidCellError):
        getattr(store, name)(*arguments)


operations = st.one_of(
    st.tuples(st.just("set_cell"), tables, rows, leaves, cells),
    st.tuples(st.just("set_cell"), tables, rows, leaves, cells),
    st.tuples(st.just("set_row"), tables, rows, st.dictionaries(leaves, cells, min_size=1, max_size=3)),
    st.tuples(st.just("set_value"), leaves, cells),
    st.tuples(st.just("set_value"), leaves, cells),
    st.tuples(st.just("del_cell"), tables, rows, leaves, st.just(True)),
    st.tuples(st.just("del_row"), tables, rows),
    st.tuples(st.just("del_table"), tables),
    st.tuples(st.just("del_value"), leaves),
    st.tuples(st.just("del_tables")),
)

client_options = st.fixed_dictionaries({
    "offset": st.sampled_from(OFFSETS),
    "timeout_seconds": st.sampled_from((0.2, 1.0, 2.0)),
    "fragment_size": st.sampled_from((None, None, 25, 80)),
    "listens": st.sampled_from((False, False, True)),
    "offline": st.lists(operations, max_size=2),
})  # fmt: skip


def leaves_of(changes: Any) -> list[tuple[LeafKey, Any, str]]:
    """The leaves of changes or content: key, wire form, HLC."""
    found: list[tuple[LeafKey, Any, str]] = []
    for table_id, table in changes[0][0].items():
        for row_id, row in table[0].items():
            found += [((table_id, row_id, leaf_id), leaf[0], hlc_of(leaf)) for leaf_id, leaf in row[0].items()]
    return found + [((None, "", leaf_id), leaf[0], hlc_of(leaf)) for leaf_id, leaf in changes[1][0].items()]


class Client:
    """A peer, the socket it had last, and how its clock runs."""

    def __init__(self, peer: Peer, clock: OffsetClock) -> None:
        self.peer = peer
        self.clock = clock
        self.socket: Socket | None = None
        self.lies = False  # on its present socket
        self.has_lied = False

    @property
    def connected(self) -> bool:
        """Whether it has a socket that it believes in."""
        return self.peer.socket is not None


class HubMachine(RuleBasedStateMachine):
    """A hub whose replica alone answers."""

    relay = False

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.written: dict[LeafKey, dict[str, Any]] = {}
        self.ahead: set[tuple[LeafKey, str]] = set()  # what was written too far in the future

    @initialize(
        fragment_size=st.sampled_from((None, None, 30, 100)),
        has_schema=st.booleans(),
        listens=st.booleans(),
        ready=st.sampled_from((True, True, False)),
        content=st.lists(operations, max_size=3),
        clients=st.lists(client_options, min_size=2, max_size=4),
    )
    def begin(
        self,
        fragment_size: float | None,
        has_schema: bool,
        listens: bool,
        ready: bool,
        content: list[Any],
        clients: list[dict[str, Any]],
    ) -> None:
        """A server with its store, loaded before anybody comes, and the first clients."""
        self.network = Network(
            relay=self.relay, store_for_path=lambda _: self.server, fragment_size=fragment_size, ready=ready
        )
        self.server = self.network.new_store("server")
        self.has_schema = has_schema and not self.relay
        if self.has_schema:
            self.server.set_tables_schema(SCHEMA)
        if listens:
            self.add_mutating_listener(self.server)
        self.record(self.server, lambda: None)
        for operation in content:
            write(self.server, operation)
        for options in clients:
            self.add_client(**options)

    # --- who is there

    def record(self, store: MergeableStore, origin: Callable[[], Any]) -> None:
        """Note every stamp that is made, by whomever."""

        def note(store: MergeableStore) -> None:
            if origin() is None:
                for key, wire, hlc in leaves_of(store.get_transaction_mergeable_changes()):
                    self.written.setdefault(key, {}).setdefault(hlc, wire)
                    if hlc > self.server.latest_allowed_hlc():
                        self.ahead.add((key, hlc))

        store.add_did_finish_transaction_listener(note)

    @staticmethod
    def add_mutating_listener(store: MergeableStore) -> None:
        """An application that answers each change of a cell `x` by writing beside it."""

        def answer(store: MergeableStore, table_id: str, row_id: str, *_: Any) -> None:
            if store.has_cell(table_id, row_id, "x"):
                store.set_cell(table_id, row_id, "y", "seen")

        store.add_cell_listener(None, None, "x", answer, True)

    @precondition(lambda self: len(self.clients) < CLIENTS)
    @rule(options=client_options)
    def new_client(self, options: dict[str, Any]) -> None:
        """Another client comes."""
        self.add_client(**options)

    def add_client(
        self, offset: int, timeout_seconds: float, fragment_size: float | None, listens: bool, offline: list[Any]
    ) -> None:
        """A store with what was written before it ever connected, and its first connection."""
        clock = OffsetClock(self.network.clock, offset)
        store = MergeableStore(f"client {len(self.clients)}", get_now=clock)
        peer = Peer(self.network, store, timeout_seconds=timeout_seconds, fragment_size=fragment_size)
        if listens:
            self.add_mutating_listener(store)
        self.record(store, lambda: peer.core.origin)
        for operation in offline:
            write(store, operation)
        client = Client(peer, clock)
        self.clients.append(client)
        self.connect(client)

    def connect(self, client: Client) -> None:
        """Open a socket, and sync as soon as it is open."""
        client.lies = False
        client.socket = self.network.connect(client.peer, f"/{PATH}")
        client.peer.start_sync(client.peer.initial_content)

    def pick(self, index: int, fits: Callable[[Client], bool] = lambda client: True) -> Client | None:
        """A client for which something can be done."""
        fitting = [client for client in self.clients if fits(client)]
        return fitting[index % len(fitting)] if fitting else None

    # --- what they do

    def calm(self, first: bool) -> None:
        """Let all arrive first, so that what follows happens among clients that are live."""
        if first:
            self.path_is_ready()
            self.network.settle()

    @rule(index=indexes, operation=operations, calm=st.booleans())
    def write_on_client(self, index: int, operation: tuple[Any, ...], calm: bool) -> None:
        """A client writes, connected or not."""
        self.calm(calm)
        client = self.pick(index)
        if client is not None:
            write(client.peer.store, operation)

    @rule(operation=operations, calm=st.booleans())
    def write_on_server(self, operation: tuple[Any, ...], calm: bool) -> None:
        """The server's own application writes."""
        self.calm(calm)
        write(self.server, operation)

    @precondition(lambda self: not self.relay)  # where nobody decides, two defaults stay apart (surprise 2)
    @rule(index=indexes, value=st.integers(0, 2), start=st.booleans(), calm=st.booleans())
    def write_defaults(self, index: int, value: int, start: bool, calm: bool) -> None:
        """A client has defaults, others than somebody else has: at once, or when it starts and gets nothing."""
        self.calm(calm)
        client = self.pick(index)
        if client is not None:
            content = ({"a": {"r": {"x": value}}}, {"x": value})
            if start:
                client.peer.stop_sync()
                client.peer.start_sync(content)
            else:
                client.peer.store.set_default_content(content)

    @rule(milliseconds=st.sampled_from((1, 50, 1000)))
    def let_the_wall_clock_go_on(self, milliseconds: int) -> None:
        """New stamps get a new time."""
        self.network.clock.now += milliseconds

    @rule(
        index=indexes,
        operation=operations,
        moves=st.lists(indexes, max_size=8),
        seconds=st.sampled_from((0.0, 1.1)),
        abandon=st.booleans(),
        calm=st.booleans(),
    )
    def hold_a_transaction_open(
        self, index: int, operation: tuple[Any, ...], moves: list[int], seconds: float, abandon: bool, calm: bool
    ) -> None:
        """A client, or the server, has a transaction open while frames arrive and time passes; it may take it back."""
        self.calm(calm)
        client = self.pick(index)
        store = self.server if client is None or index == CLIENTS else client.peer.store
        store.start_transaction()
        write(store, operation)
        for move in moves:
            self.deliver(move, 1)
        self.wait(seconds)
        store.finish_transaction(lambda _: abandon)

    @rule(index=indexes)
    def stop_and_start(self, index: int) -> None:
        """A client stops syncing, and starts again."""
        client = self.pick(index)
        if client is not None:
            client.peer.stop_sync()
            client.peer.start_sync()

    # --- the links

    @rule(index=indexes, count=st.integers(1, 6))
    def deliver(self, index: int, count: int) -> None:
        """Some frames of one link arrive."""
        for _ in range(count):
            links = self.network.links()
            if links:
                self.network.move(links[index % len(links)])

    @rule()
    def deliver_all(self) -> None:
        """All that is under way arrives."""
        self.network.settle()

    @rule(seconds=some_seconds)
    def wait(self, seconds: float) -> None:
        """Time passes, and nothing arrives meanwhile; connections on which nothing moves for long are given up."""
        self.network.now += seconds
        self.network.wake()
        for socket in self.network.sockets:
            if any(link.frames and self.network.now - link.moved_at > KEEPALIVE for link in (socket.up, socket.down)):
                socket.cut()

    @rule(index=indexes, how=st.sampled_from(("broken", "half open", "closed")), again=st.booleans())
    def lose(self, index: int, how: str, again: bool) -> None:
        """A connection ends: with all that is under way on it, unnoticed by the server, or properly."""
        client = self.pick(index, lambda client: client.connected)
        if client is not None and client.socket is not None:
            if how == "closed":
                client.socket.close()
            else:
                client.socket.cut(server_notices=how == "broken")
            if again:
                self.connect(client)

    @rule(index=indexes)
    def reconnect(self, index: int) -> None:
        """A client without a connection makes a new one, whether or not the server has noticed the end of the old."""
        client = self.pick(index, lambda client: not client.connected)
        if client is not None:
            self.connect(client)

    @rule()
    def server_notices(self) -> None:
        """The server finds out which connections are dead."""
        for socket in self.network.sockets:
            if socket.closed_by_client is not None:
                socket.cut()

    # --- the server

    @rule()
    def path_is_ready(self) -> None:
        """The path is loaded at last."""
        for hub in self.network.hubs.values():
            if hub.state is HubState.STARTING:
                hub.ready(self.server, self.network.now)

    # --- lies

    @rule(
        index=indexes,
        frame=st.sampled_from((
            '\n["l",2,[1,2]]',
            'S\n[null,2,[0,5]]',
            '\n["l",0,[3,4]]',
            '\n["l",0,[[{}],{"a":1}]]',
            '\n["l",4,{"a":1,"q":2}]',
            '\n["l",5,{"a":{"r":1}}]',
            '\n["l",6,{"a":{"r":{"x":1}}}]',
            '\n["l",7,{"x":1}]',
            '\n["l",3,[[{}],[{"x":[9,"zzzzzzz-----AAAA"]}],1]]',
            '\n["l",3,[[{"a":[{"r":[{"x":[9,"zzzzzzz-----AAAA"],"y":["t","Nn1JUF----1AAAAA"]}]}]}],[{}],1]]',
            '\n["l",3,[[{}],[{"x":[9,"Nn1JUF----1AAAAA"]},"zzzzzzzzzzzzzzzz"],1]]',
            '\n["l",3,[[{}],[{"x":[9,"Nn1JUF----1AAAAA"]}]]]',
            'nobody\n["l",1,""]',
            '\nAAAAAAAAAAAAAAAA\n0\n2\n["l"',
            "\nhello",
        )),
    )  # fmt: skip
    def lie(self, index: int, frame: str) -> None:
        """A client says what is not so, or what is not even a message: that closes its socket, and no other."""
        client = self.pick(index, lambda client: client.connected)
        if client is not None and client.socket is not None:
            client.socket.send(frame)
            client.lies = client.has_lied = True

    # --- rest

    @invariant()
    def nobody_rejects_what_it_gets(self) -> None:
        """The server never sends what a client would close for, and blames only those who lied."""
        if not hasattr(self, "network"):
            return
        for socket in self.network.sockets:
            assert socket.client_error is None, (socket.client_id, socket.client_error, socket.received[-1])
        liars = {id(client.peer) for client in self.clients if client.has_lied}
        for error in self.network.errors:
            if isinstance(error, RemoteProtocolError):
                socket = next(each for each in self.network.sockets if each.client_id == error.client_id)
                assert id(socket.peers[None]) in liars, error

    def come_to_rest(self) -> None:
        """Frames arrive, and time passes until nobody waits for anything."""
        self.path_is_ready()
        self.server_notices()
        self.network.pass_time(100.0)
        assert not self.network.links()

    @rule()
    def rest(self) -> None:
        """At any rest, who is connected is equal to the server, with no help from a reconnect."""
        self.come_to_rest()
        if not self.relay:
            self.check()

    def check(self) -> None:
        """The oracles, for the server and all clients that are connected."""
        connected = [client for client in self.clients if client.connected and not client.lies]
        content = self.server.get_mergeable_content()
        self.check_store(self.server)
        for client in connected:
            peer = client.peer
            self.check_store(peer.store)
            assert peer.core.state is SyncState.LIVE
            assert peer.core.unanswered == 0
            assert not peer.core.is_pulling
            if client.clock.offset < FUTURE:
                assert peer.store.get_mergeable_content() == content, client.peer.store
            if not self.relay:
                assert self.server.get_content() == peer.store.get_content()
        for hub in self.network.hubs.values():
            assert hub.unanswered == 0
        self.check_winners(content)

    @staticmethod
    def check_store(store: MergeableStore) -> None:
        """Hashes and counts are those of the leaves."""
        store._check()

    def check_winners(self, content: Any) -> None:
        """Each leaf of the server is the greatest stamp that was made and admitted, or answers a refused one."""
        for key, wire, hlc in leaves_of(content):
            made = self.written.get(key, {})
            if hlc in made and hlc:
                assert dumps(made[hlc]) == dumps(wire), (key, hlc)
            refused = [
                each
                for each, value in made.items()
                if (key, each) in self.ahead
                or not self.server.fits_schema(key[0], key[2], value)
                or self.is_tied(key, each)
            ]
            if hlc not in made:
                assert any(each < hlc for each in refused) or self.was_told(key, hlc), (key, wire, hlc, made)

    def is_tied(self, key: LeafKey, hlc: str) -> bool:
        """Whether stores may have made different values with the same stamp: only without one."""
        return hlc == ""

    def was_told(self, key: LeafKey, hlc: str) -> bool:
        """Whether a liar made this stamp."""
        return hlc == "Nn1JUF----1AAAAA"

    def teardown(self) -> None:
        """In the end all come back, one after another, and hold the same; so do those with wrong clocks put right."""
        if not hasattr(self, "network"):
            return
        self.rest()
        self.reconnect_all()
        self.check()
        self.network.clock.now += 2 * FUTURE
        for client in self.clients:
            client.clock.offset = 0
        self.reconnect_all()
        self.check()
        for key, stamps in self.written.items():
            admitted = [hlc for hlc, wire in stamps.items() if self.server.fits_schema(key[0], key[2], wire)]
            stamp = self.server.get_stamp(*key)
            assert not admitted or (stamp is not None and stamp[1] >= max(admitted)), (key, admitted, stamp)

    def reconnect_all(self) -> None:
        """Each client gets a new connection, one after another, and nobody lies any more."""
        for client in self.clients:
            if client.connected and client.socket is not None:
                client.socket.cut()
            self.connect(client)
            self.come_to_rest()


class RelayMachine(HubMachine):
    """A hub that passes messages on, as TinyBase's server does, its replica being one more peer."""

    relay = True


def test_a_hub_whose_replica_alone_answers() -> None:
    """All come to hold the same, whatever happens."""
    run_state_machine_as_test(HubMachine)


def test_a_hub_that_passes_messages_on() -> None:
    """All come to hold the same once all have been back."""
    run_state_machine_as_test(RelayMachine)


def test_tombstones_are_what_the_machine_takes_them_for() -> None:
    """The oracle knows deletions by the wire's own sign."""
    store = MergeableStore("s", get_now=Clock()).set_value("v", 1).del_value("v")
    assert [wire for _, wire, _ in leaves_of(store.get_mergeable_content())] == [TOMBSTONE]
    with pytest.raises(AssertionError):
        HubMachine().check_winners([[{}], [{"v": [1, "Nn1JUF----2AAAAA"]}], 1])
