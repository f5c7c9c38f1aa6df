"""Whole conversations: our server and our clients say what the peer's were recorded saying, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mergesync.exceptions import RequestTimeoutError
from mergesync.store import MergeableStore, jsjson
from mergesync.sync.synchronizer import SyncState
from tests.network import Network, Peer, Socket

from .vectors import Clock, load_vectors, run

TRANSCRIPTS: dict[str, dict[str, Any]] = {
    transcript["name"]: transcript for transcript in load_vectors()["transcripts"]
}

# Here the peer's path starts by waiting its whole time-out for answers that it holds back (surprise 9), and reports
# that; ours is ready at once. What is said differs, what comes of it does not.
COLD_STARTS = ("server store, cold", "server store loads its file; all leave; another comes")

# Done in the same moment as what was done before, so that nothing arrives in between.
AT_ONCE = ("open", "synchronizer", "startSync")

FAITHFUL = [name for name in TRANSCRIPTS if name not in COLD_STARTS]


class Replay:
    """Does what a transcript says was done, and lets everything else happen by itself."""

    def __init__(self, transcript: dict[str, Any], *, relay: bool) -> None:
        self.transcript = transcript
        self.relay = relay
        self.files: dict[str, Any] = {
            path_id: jsjson.loads(text) for path_id, text in transcript.get("files", {}).items()
        }
        self.server_stores: dict[str, MergeableStore] = {}
        self.stores: dict[str, MergeableStore] = {}
        self.peers: dict[str, Peer] = {}
        self.sockets: dict[str, Socket] = {}
        self.by_hand = {event["client"] for event in self.events("open")} - {
            event["client"] for event in self.events("synchronizer")
        }
        self.network = Network(
            relay=relay,
            store_for_path=self._store_for_path,
            request_timeout_seconds=transcript["requestTimeoutSeconds"],
        )

    def events(self, kind: str) -> Iterator[dict[str, Any]]:
        """The events of a kind."""
        return (event for event in self.transcript["events"] if event["event"] == kind)

    def run(self) -> None:
        """From the first event to the last."""
        for event in self.transcript["events"]:
            act = getattr(self, f"_{event['event']}", None)
            if act is not None:
                if event["ms"] / 1000 > self.network.now or event["event"] not in AT_ONCE:
                    self.network.pass_time(max(0.0, event["ms"] / 1000 - self.network.now))
                act(event)
        self.network.pass_time(0.1)

    def _store_for_path(self, path_id: str) -> MergeableStore | None:
        if self.relay and self.transcript["server"] != "file":
            return None
        store = self.server_stores[path_id] = self.network.new_store(f"server:{path_id}")
        if path_id in self.files:
            store.set_mergeable_content(self.files[path_id])
        store.add_did_finish_transaction_listener(lambda _: self._save(path_id))
        return store

    def _save(self, path_id: str) -> None:
        self.files[path_id] = self.server_stores[path_id].get_mergeable_content()

    # --- what was done

    def _clock(self, event: dict[str, Any]) -> None:
        self.network.clock.now = event["now"]

    def _store(self, event: dict[str, Any]) -> None:
        self._clock(event)
        store = self.stores[event["who"]] = self.network.new_store(event["uniqueId"])
        for operation in event["ops"]:
            run(store, Clock(), operation)

    def _open(self, event: dict[str, Any]) -> None:
        protocols = [event["subprotocol"]] if "subprotocol" in event else []
        self.sockets[event["client"]] = self.network.connect(
            target=event["url"], client_id=event["clientId"], subprotocols=protocols
        )

    def _synchronizer(self, event: dict[str, Any]) -> None:
        peer = self.peers[event["who"]] = Peer(
            self.network,
            self.stores[event["store"]],
            timeout_seconds=event["timeoutSeconds"],
            fragment_size=event.get("fragmentSize"),
        )
        self.network.attach(peer, self.sockets[event["client"]], event.get("channel"))

    def _startSync(self, event: dict[str, Any]) -> None:  # noqa: N802 - named as in the transcripts
        self.peers[event["who"]].start_sync(event.get("initialContent"))

    def _local(self, event: dict[str, Any]) -> None:
        name = event["who"]
        run(self.stores.get(name) or self.peers[name].store, Clock(), event["op"])

    def _frame(self, event: dict[str, Any]) -> None:
        if event["dir"] == "c2s" and event["client"] in self.by_hand:
            self.sockets[event["client"]].send(event["data"])

    def _clientCloses(self, event: dict[str, Any]) -> None:  # noqa: N802
        self.sockets[event["client"]].close()

    def _destroy(self, event: dict[str, Any]) -> None:
        peer = self.peers[event["who"]]
        peer.core.destroy()
        if peer.socket is not None and peer.channel_id is not None:
            socket = peer.socket
            socket.client.unsubscribe(peer.channel_id)
            del socket.peers[peer.channel_id]
            peer.socket = None
            if not socket.peers:
                socket.close()

    # --- what came of it

    def _startSyncDone(self, event: dict[str, Any]) -> None:  # noqa: N802
        assert self.peers[event["who"]].core.state is SyncState.LIVE

    def _state(self, event: dict[str, Any]) -> None:
        if event["who"] != "S":
            store = self.stores[event["who"]]
        elif self.server_stores:
            store = self.server_stores["shop"]
        assert store.get_mergeable_content() == event["mergeable"], event["who"]
        assert list(store.get_content()) == event["content"], event["who"]

    def _file(self, event: dict[str, Any]) -> None:
        assert self.files[event["pathId"]] == jsjson.loads(event["text"])

    def _closed(self, event: dict[str, Any]) -> None:
        assert self.sockets[event["client"]].closed_by_server == (event["code"], event["reason"])


class Names:
    """Which of our random ids stands for which recorded one."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}
        self._theirs: dict[str, str] = {}

    def same(self, ours: str | None, theirs: str | None) -> bool:
        """Whether these ids can stand for each other, part by part."""
        if ours is None or theirs is None:
            return ours is theirs
        mine, other = ours.split("."), theirs.split(".")
        return [*map(len, mine)] == [*map(len, other)] and all(map(self._same_part, mine, other))

    def _same_part(self, ours: str, theirs: str) -> bool:
        return self._ours.setdefault(ours, theirs) == theirs and self._theirs.setdefault(theirs, ours) == ours


class Reader:
    """Compares the frames of one connection and direction."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._fragments: list[tuple[str, str]] = []

    def same(self, ours: str, theirs: str) -> bool:
        """Whether two frames say the same, ids aside."""
        our_head, our_rest = self._parts(ours)
        their_head, their_rest = self._parts(theirs)
        if our_head != their_head or len(our_rest) != len(their_rest):
            return False
        if len(our_rest) == 4:
            return self._same_fragment(our_rest, their_rest)
        return self._same_message(our_rest[0], their_rest[0])

    def _parts(self, frame: str) -> tuple[list[str], list[str]]:
        """The address with its channel if there is one; the message, or the parts of a fragment."""
        parts = frame.split("\n", 3) if frame.startswith("M\n") else frame.split("\n", 1)
        remainder = parts.pop()
        is_fragment = len(remainder) > 16 and remainder[16] == "\n"
        return parts, remainder.split("\n", 3) if is_fragment else [remainder]

    def _same_fragment(self, ours: list[str], theirs: list[str]) -> bool:
        if ours[1:3] != theirs[1:3] or len(ours[3]) != len(theirs[3]) or not self.names.same(ours[0], theirs[0]):
            return False
        self._fragments.append((ours[3], theirs[3]))
        if int(ours[1]) < int(ours[2]) - 1:
            return True
        our_texts, their_texts = zip(*self._fragments, strict=True)
        self._fragments.clear()
        return self._same_message("".join(our_texts), "".join(their_texts))

    def _same_message(self, ours: str, theirs: str) -> bool:
        try:
            our_id, *our_body = jsjson.loads(ours)
            their_id, *their_body = jsjson.loads(theirs)
        except ValueError:  # sent by hand
            return ours == theirs
        return our_body == their_body and self.names.same(our_id, their_id)


def recorded_frames(replay: Replay, client: str, direction: str) -> list[str]:
    """The frames of a connection as the peer's server saw them."""
    return [event["data"] for event in replay.events("frame") if (event["client"], event["dir"]) == (client, direction)]


@pytest.mark.parametrize("name", FAITHFUL)
def test_our_relay_and_our_clients_say_the_same(name: str) -> None:
    """Every frame on every connection in its order, every state, file, close and path event; ids by appearance."""
    replay = Replay(TRANSCRIPTS[name], relay=True)
    replay.run()
    names = Names()
    for client, socket in replay.sockets.items():
        for direction in ("c2s", "s2c"):
            way = (socket.client_id, direction)
            ours = [each.frame for each in replay.network.log if (each.client_id, each.direction) == way]
            theirs = recorded_frames(replay, client, direction)
            reader = Reader(names)
            for index, (our_frame, their_frame) in enumerate(zip(ours, theirs, strict=False)):
                assert reader.same(our_frame, their_frame), (client, direction, index, our_frame, their_frame)
            assert len(ours) == len(theirs), (client, direction, ours[len(theirs) :], theirs[len(ours) :])
    if replay.transcript["server"] != "simple":  # which tells of no events
        assert replay.network.events == list(path_events(replay))
    for who, peer in replay.peers.items():
        recorded = [event for event in replay.events("ignoredError") if event["who"] == who]
        timed_out = [error for error in peer.errors if isinstance(error, RequestTimeoutError)]
        assert len(timed_out) == len(recorded), who


def path_events(replay: Replay) -> Iterator[tuple[str, str | None, int]]:
    """Who came onto which path, and left it."""
    for event in replay.transcript["events"]:
        if event["event"] == "pathIds":
            yield event["pathId"], None, event["change"]
        elif event["event"] == "clientIds":
            yield event["pathId"], replay.sockets[event["client"]].client_id, event["change"]


@pytest.mark.parametrize("name", COLD_STARTS)
def test_a_path_with_a_store_is_ready_at_once(name: str) -> None:
    """Where the peer waits a whole time-out (surprise 9), we do not; states and files are the same in the end.

    The peer's server reports a time-out at each start; ours has nothing to report. A client's start is over in the same
    moment, not after the server's time-out.
    """
    replay = Replay(TRANSCRIPTS[name], relay=True)
    began: dict[str, float] = {}
    original = replay._startSync

    def start(event: dict[str, Any]) -> None:
        began[event["who"]] = replay.network.now
        original(event)
        replay.network.settle()
        assert replay.peers[event["who"]].core.state is SyncState.LIVE

    replay._startSync = start  # type: ignore[method-assign]
    replay.run()
    assert began
    assert replay.network.errors == []
    assert all(peer.errors == [] for peer in replay.peers.values())


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_our_server_as_a_replica_comes_to_the_same_end(name: str) -> None:
    """With the server's replica alone answering, every store has the recorded content and hashes, the server's too.

    Nobody waits for a time-out: the replica always answers.
    """
    replay = Replay(TRANSCRIPTS[name], relay=False)
    replay.run()
    assert all(peer.errors == [] for peer in replay.peers.values())
    for path_id, clients in replay.network.on_path.items():
        content = replay.server_stores[path_id].get_mergeable_content()
        for socket in clients.values():
            for peer in socket.peers.values():
                if path_id.endswith(peer.channel_id or ""):
                    assert peer.store.get_mergeable_content() == content
                    assert peer.core.unanswered == 0
