"""One run of the fuzzer: real cores in memory; either clients or a server send what they like to honest others."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random
from typing import Final

from mergesync import MergeableStore, MergesyncError
from mergesync.limits import MAX_FRAME_BYTES, MAX_INCOMPLETE_MESSAGES
from tests.network import Close, Network, Peer, Socket
from tests.support import same_content

from .frames import Frames

__all__ = ["FRAMES_PER_RUN", "run", "run_against_clients", "run_against_server"]

FRAMES_PER_RUN: Final = 100
_ASKED = re.compile(r'(?:M\n[^\n]*\n)?S\n\["([^"]+)",[14567],')
_ASKED_OF_SERVER = re.compile(r'(?:M\n[^\n]*\n)?S?\n\["([^"]+)",(?:-1|[14567]),')
_CLOSED_WITH: Final = {1007: "tinybase:14", 1013: "tinybase:15:"}


def run(seed: int) -> Counter[str]:
    """Send `FRAMES_PER_RUN` frames, and check after each of them, and at the end.

    Returns:
        How many frames there were, and what became of them.

    Raises:
        Exception: whatever is let out, or an AssertionError.
    """
    random = Random(seed)
    return run_against_clients(random) if seed % 4 == 3 else run_against_server(random)


def run_against_server(random: Random) -> Counter[str]:
    """Two honest clients, and others that send what they like to the server."""
    network = Network(fragment_size=random.choice([None, None, 50.0]))
    honest = [network.joined("one"), network.joined("two")]
    honest[0].store.set_tables({"t": {"r": {"c": 1, "x": [1]}, "1": {"c": None}}}).set_values({"v": 1, "w": "x"})
    network.settle()
    attackers = _Attackers(random, network, Frames(random, honest[0].store))
    seen: Counter[str] = Counter()
    for number in range(FRAMES_PER_RUN):
        attackers.send()
        if random.random() < 0.1:
            random.choice(honest).store.set_cell("t", "r", "c", number)
        if random.random() < 0.05:
            network.pass_time(random.choice([0.1, 2.0, 100.0]))
        network.settle()
        _check(network, honest)
    attackers.leave(seen)
    network.pass_time(100.0)
    for peer in honest:  # whatever was said to them, they write on, and are heard
        peer.store.set_value("last", honest.index(peer))
    network.settle()
    hub = network.hubs["p"]
    assert hub.store is not None
    _check(network, honest)
    assert same_content(hub.store, *(peer.store for peer in honest)), "the honest ones are not equal"
    assert hub.unanswered == 0, "exchanges with clients that are gone"
    assert len(hub.clients) == len(honest)
    assert not hub._ahead, "stamps of clients that are gone are kept"
    seen["merged"] += str(honest[0].store.get_mergeable_content()).count("AAAAA'")
    seen.update(type(error).__name__ for error in network.errors)
    return seen


def _check(network: Network, honest: list[Peer]) -> None:
    for peer in honest:
        assert peer.socket is not None, "an honest client is closed"
        assert peer.socket.closed_by_server is None, "an honest client is closed"
        assert peer.socket.client_error is None
        assert all(isinstance(error, MergesyncError) for error in peer.errors), peer.errors
    assert all(isinstance(error, MergesyncError) for error in network.errors), network.errors


def run_against_clients(random: Random) -> Counter[str]:
    """An honest client whose servers say what they like, until it finds an honest one."""
    network, seen = Network(), Counter[str]()
    victim, witness = network.peer("victim"), network.joined("witness")
    victim.store.set_tables({"t": {"r": {"c": 1, "x": [1]}}}).set_values({"v": 1})
    victim.start_sync()
    frames, asked, multiplexed = Frames(random, victim.store), list[str](), random.random() < 0.5
    peer = {"a": victim} if multiplexed else victim

    def hear(frame: str | Close) -> None:
        if isinstance(frame, Close):
            assert frame.code == 1000 or frame.reason.startswith(_CLOSED_WITH[frame.code]), frame
            seen[f"client closed {frame.code}"] += 1
        elif (found := _ASKED_OF_SERVER.match(frame)) is not None:
            asked.append(found[1])

    def connect() -> Socket:
        asked.clear()
        socket = network.connect(peer, "/hostile")
        socket.up.deliver = hear
        network.settle()
        if multiplexed:
            for request_id in list(asked):  # hello, and one channel
                body = [0, 1] if request_id == asked[0] else [1, "a"]
                network.put(socket.down, f"S\n{json.dumps([request_id, -1, body])}")
                network.settle()
        return socket

    socket = connect()
    for number in range(FRAMES_PER_RUN):
        if socket.closed_by_client is not None:
            socket = connect()
        network.put(socket.down, frames.frame(asked[-20:], ["other"], multiplexed=multiplexed))
        if random.random() < 0.1:
            victim.store.set_cell("t", "r", "c", number)
        network.settle()
        if random.random() < 0.05:
            network.pass_time(random.choice([0.1, 2.0, 100.0]))
        assert all(isinstance(error, MergesyncError) for error in victim.errors), victim.errors
    socket.cut()
    network.connect(victim, "/p")
    network.pass_time(100.0)
    assert _leaves(victim.store) == _leaves(witness.store), "the client is not equal to an honest one"
    seen["frames"] += FRAMES_PER_RUN
    seen.update(f"client: {type(error).__name__}" for error in victim.errors)
    return seen


def _leaves(store: MergeableStore) -> object:
    """Every cell and value with its stamp.

    A container that a liar gave a stamp of its own, above those of its leaves, is told by no honest peer: asked for the
    rows of a table, TinyBase and we say nothing of the table if all its rows are equal (surprise 1).
    """
    tables, values = store.get_mergeable_content()
    cells = {
        (table_id, row_id, cell_id): cell[:2]
        for table_id, table in tables[0].items()
        for row_id, row in table[0].items()
        for cell_id, cell in row[0].items()
    }
    return cells, {value_id: value[:2] for value_id, value in values[0].items()}


class _Attackers:
    """One socket after another, each until it is closed."""

    def __init__(self, random: Random, network: Network, frames: Frames) -> None:
        self._random = random
        self._network = network
        self._frames = frames
        self._socket: Socket | None = None
        self._asked: list[str] = []
        self._closed: list[Close] = []
        self._sent = 0

    def send(self) -> None:
        """Send a frame, on a new socket if there is none."""
        socket = self._socket
        if socket is None or socket.closed_by_server is not None:
            socket = self._open()
        others = [client_id for client_id in self._network.on_path.get("p", {}) if client_id != socket.client_id]
        frame = self._frames.frame(self._asked, others, multiplexed=socket.multiplexed)
        self._sent += 1
        self._network.put(socket.up, frame)
        self._network.settle()
        collector = socket.server._fragments
        assert collector._held_bytes <= MAX_FRAME_BYTES
        assert len(collector._incomplete) <= MAX_INCOMPLETE_MESSAGES

    def leave(self, seen: Counter[str]) -> None:
        """Close the last one."""
        if self._socket is not None and self._socket.closed_by_server is None:
            self._socket.close(1000)
        self._network.settle()
        for close in self._closed:
            assert close.reason.startswith(_CLOSED_WITH[close.code]), close
            seen[f"closed {close.code}"] += 1
        seen["frames"] += self._sent

    def _open(self) -> Socket:
        multiplexed = self._random.random() < 0.4
        target = self._random.choice(["/p", "/", "/"]) if multiplexed else "/p"
        socket = self._network.connect(None, target, subprotocols=["tinybase"] if multiplexed else [])
        socket.down.deliver = self._hear
        self._socket, self._asked = socket, []
        if multiplexed:
            channel = "p" if target == "/" else "a"
            for control in (["h", -1, [0, 1]], ["s", -1, [1, channel]]):
                self._network.put(socket.up, f"S\n{json.dumps(control)}")
        self._network.settle()
        return socket

    def _hear(self, frame: str | Close) -> None:
        if isinstance(frame, Close):
            self._closed.append(frame)
        elif (asked := _ASKED.match(frame)) is not None:
            self._asked.append(asked[1])
