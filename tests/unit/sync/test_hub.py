"""One path on the server: what a join costs, who hears what, what is held, and how refused changes are answered."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from mergesync.exceptions import (
    LimitExceededError,
    RefusedChangesError,
    RemoteProtocolError,
    RequestTimeoutError,
)
from mergesync.limits import HELD_TIMEOUTS, MAX_HELD_BYTES, MAX_HELD_MESSAGES
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps
from mergesync.sync.hub import Hub, HubState
from mergesync.sync.messages import MessageType
from mergesync.sync.payloads import FragmentCollector, Payload
from tests.network import Ids, Logged, Network, Peer

from .kit import FUTURE, Exits, cell_changes, hlc, new_store, value_changes

ASK = '["r",1,""]'


def payload_of(*remainders: str) -> Payload:
    """A message, whole or in fragments, as it comes off the wire."""
    collector = FragmentCollector(1.0)
    found = [collector.receive("", "", remainder, 0.0) for remainder in remainders][-1]
    assert found is not None
    return found


def payload(kind: MessageType, body: Any, request_id: str = "r") -> Payload:
    """A message as it comes off the wire."""
    return payload_of(dumps([request_id, int(kind), body]))


class Path:
    """A hub with clients of which this test is all."""

    def __init__(self, *client_ids: str, relay: bool = False, fragment_size: float | None = None) -> None:
        self.exits = Exits()
        self.hub = Hub(
            "p", self.exits, relay=relay, request_timeout_seconds=1.0, fragment_size=fragment_size, new_id=Ids()
        )
        for client_id in client_ids:
            self.hub.join(client_id)

    def ready(self, store: MergeableStore | None = None, now: float = 0.0) -> Path:
        """The path is loaded."""
        self.hub.ready(store or new_store("server"), now)
        return self

    def hear(self, client_id: str, kind: MessageType, body: Any, address: str = "", now: float = 0.0) -> None:
        """A client says something."""
        self.hub.receive(client_id, address, payload(kind, body), now)

    def answer(self, client_id: str, body: Any, now: float = 0.0) -> None:
        """A client answers the last question."""
        request_id = heard_frame(self.exits.sent[-1][1])[0]
        self.hub.receive(client_id, "S", payload(MessageType.RESPONSE, body, request_id), now)

    def deadline(self) -> float | None:
        """When the hub is to be woken."""
        return self.hub.deadline

    def take(self) -> list[tuple[tuple[str, ...], str, int, Any]]:
        """What was sent since the last time: to whom, sender, type, body."""
        return [(to, frame.split("\n")[0], *heard_frame(frame)[1:]) for to, frame in self.exits.take()]


def heard_frame(frame: str) -> Any:
    """The message in a frame."""
    message = payload_of(frame.split("\n", 1)[1]).message
    return message.request_id, int(message.type), message.body


DIFF, HASHES = MessageType.CONTENT_DIFF, MessageType.CONTENT_HASHES

# --- what a join costs ------------------------------------------------------------------------------------

CLIENTS = 100


class Crowd:
    """A path with a hundred clients, all equal, and one more that joins."""

    def __init__(self) -> None:
        self.network = Network()
        self.peers = [self.network.joined(f"client {number}") for number in range(CLIENTS)]
        store = self.peers[0].store
        for table_id in "abc":
            store.set_table(table_id, {row_id: {"x": 1, "y": 2} for row_id in "rst"})
        store.set_values({"v": 1, "w": 2})
        self.network.settle()
        self.newcomer = self.network.peer("newcomer")

    def join(self) -> tuple[list[Logged], list[Logged]]:
        """The newcomer joins; what goes out to it, and to the others."""
        self.network.log.clear()
        socket = self.network.connect(self.newcomer)
        self.newcomer.start_sync()
        self.network.settle()
        content = self.newcomer.store.get_mergeable_content()
        assert all(peer.store.get_mergeable_content() == content for peer in self.peers)
        assert self.network.errors == []
        sent = [each for each in self.network.log if each.direction == "s2c"]
        own = [each for each in sent if each.client_id == socket.client_id]
        return own, [each for each in sent if each.client_id != socket.client_id]


def test_an_empty_client_joins() -> None:
    """Three frames: hashes, tables, values. The hundred others hear nothing."""
    own, others = Crowd().join()
    assert (len(own), len(others)) == (3, 0)


def test_an_equal_client_joins() -> None:
    """One frame: hashes."""
    crowd = Crowd()
    crowd.newcomer.store.merge(crowd.peers[0].store)
    own, others = crowd.join()
    assert (len(own), len(others)) == (1, 0)


def test_a_client_with_offline_edits_joins() -> None:
    """At most eight frames in the worst case, both having changed at every level; and one to each other client."""
    crowd = Crowd()
    crowd.newcomer.store.merge(crowd.peers[0].store)
    crowd.network.clock.now += 1000
    there, here = crowd.peers[0].store, crowd.newcomer.store
    for store, name in ((there, "there"), (here, "here")):
        store.set_cell("a", "r", name, 1).set_cell("a", "s", "x", name).set_cell("b", name, "x", 1)
        store.set_cell(name, "r", "x", 1).set_value("v", name).set_value(name, 1).del_row("c", "t")
    crowd.network.settle()
    own, others = crowd.join()
    assert len(own) <= 8
    assert len(others) == CLIENTS
    assert {heard_frame(each.frame)[1] for each in others} == {DIFF}


def test_a_client_that_lacks_what_others_do_just_now() -> None:
    """Changes that others make while somebody joins cost a few frames more, and nothing is lost."""
    crowd = Crowd()
    crowd.newcomer.store.set_cell("mine", "r", "x", 1)
    socket = crowd.network.connect(crowd.newcomer)
    crowd.newcomer.start_sync()
    crowd.network.log.clear()
    for number in range(20):
        crowd.peers[number].store.set_value(str(number), number)
        links = crowd.network.links()
        crowd.network.move(links[number % len(links)])
    crowd.network.settle()
    content = crowd.newcomer.store.get_mergeable_content()
    assert all(peer.store.get_mergeable_content() == content for peer in crowd.peers)
    own = [each for each in crowd.network.log if (each.client_id, each.direction) == (socket.client_id, "s2c")]
    assert len(own) <= 20 + 8 + 4


# --- who hears what ---------------------------------------------------------------------------------------


def test_questions_are_answered_by_the_replica() -> None:
    """Whoever asks, everyone or the server, is answered by the server and by nobody else."""
    path = Path("A", "B").ready()
    for address in ("", "S"):
        path.hear("A", MessageType.GET_CONTENT_HASHES, "", address)
        assert path.take() == [(("A",), "S", 0, [0, 0])]


def test_changes_go_on_as_they_came() -> None:
    """The others get the very text, under the writer's name, in fragments if it came so."""
    path = Path("A", "B", "C").ready()
    text = f'[ "r", 3, {dumps(value_changes(v=[1, hlc(1)]))} ]'
    path.hub.receive("A", "", payload_of(text), 0.0)
    assert path.exits.take() == [(("B", "C"), f"A\n{text}")]
    pieces = [f"AAAAAAAAAAAAAAAA\n{i}\n2\n{piece}" for i, piece in enumerate((text[:9], text[9:].replace("v", "w")))]
    path.hub.receive("A", "", payload_of(*pieces), 0.0)
    assert path.exits.take() == [(("B", "C"), f"A\n{piece}") for piece in pieces]
    assert path.hub.store is not None
    assert path.hub.store.get_values() == {"v": 1, "w": 1}


def test_nothing_new_goes_nowhere() -> None:
    """Changes that are known already are not passed on, nor are they where nobody else is."""
    path = Path("A", "B").ready()
    for _ in range(2):
        path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    assert len(path.take()) == 1
    path.hub.leave("B")
    path.hear("A", DIFF, value_changes(v=[1, hlc(2)]))
    assert path.take() == []


def test_what_is_said_of_containers_goes_on() -> None:
    """Stamps of containers, and containers without leaves, reach everybody, or hashes would part for ever."""
    path = Path("A", "B").ready()
    for body in ([[{"t": [{"r": [{}]}]}], [{}], 1], [[{}, hlc(1)], [{}], 1], [[{}], [{}, hlc(1)], 1]):
        path.hear("A", DIFF, body)
        assert path.take() == [(("B",), "A", 3, body)]
    body = [[{"t": [{"r": [{"c": [1, hlc(1)]}]}, "z" * 16]}, hlc(2)], [{}], 1]
    path.hear("A", DIFF, body)
    assert path.take() == [(("B",), "S", 3, [[{"t": [{"r": [{"c": [1, hlc(1)]}]}]}, hlc(2)], [{}], 1])]


def test_the_server_s_own_changes() -> None:
    """What the server's application writes goes to all clients, in fragments of the server's size."""
    path = Path("A", "B", fragment_size=30).ready()
    assert path.hub.store is not None
    path.hub.store.set_value("v", "some text")
    sent = path.exits.take()
    assert {to for to, _ in sent} == {("A", "B")}
    assert len(sent) > 1
    assert payload_of(*(frame[2:] for _, frame in sent)).message.type is DIFF
    for client_id in "AB":
        path.hub.leave(client_id)
    path.hub.store.set_value("v", "other text")
    assert path.exits.take() == []


def test_listeners_of_the_server() -> None:
    """What the server's application writes in answer to a client's change goes to all, that client included."""
    path = Path("A", "B").ready()
    assert path.hub.store is not None
    path.hub.store.add_value_listener("v", lambda store, *_: store.set_value("v", "server"), True)
    path.hear("A", DIFF, value_changes(v=["client", hlc(1)]))
    passed, told_others, told_writer = path.take()
    assert passed[:2] == (("B",), "A")
    assert (told_others[0], told_writer[0]) == (("B",), ("A",))
    assert told_others[3] == told_writer[3]
    assert told_others[3][1][0]["v"][0] == "server"


def test_a_listener_of_the_server_that_raises_once() -> None:
    """A change that it took back is taken back at its writer, too, and at nobody else; they all end equal."""
    path = Path("A", "B").ready()
    store = path.hub.store
    assert store is not None
    store.set_value("v", "kept")
    path.take()

    def refuse(_store: object, _value_id: object, value: object, *_: object) -> None:
        if value == "bad":
            raise ZeroDivisionError

    store.add_value_listener("v", refuse, True)
    path.hear("A", DIFF, value_changes(v=["bad", hlc(1)]))
    (told,) = path.take()
    stamp = store.get_stamp(None, "", "v")
    assert stamp is not None
    assert (set(told[0]), told[1], told[3]) == ({"A", "B"}, "S", value_changes(v=[*stamp]))
    assert (stamp[0], stamp[1] > hlc(1)) == ("kept", True)
    assert [type(error) for error in path.exits.errors] == [ZeroDivisionError]


def test_listeners_on_all_sides() -> None:
    """Applications on the server and on clients that answer one another's changes all end equal (issue 285)."""
    network = Network()
    peers = [network.joined(name) for name in "abc"]

    def listen(store: MergeableStore, name: str) -> None:
        store.add_cell_listener(None, None, "x", lambda s, t, r, c, *_: s.set_cell(t, r, "seen by", name), True)

    for peer, name in zip(peers, "abc", strict=True):
        listen(peer.store, name)
    server = network.hubs["p"].store
    assert server is not None
    listen(server, "server")
    peers[0].store.set_cell("t", "r", "x", 1)
    peers[1].store.set_cell("t", "r", "x", 2)
    network.settle()
    contents = [peer.store.get_mergeable_content() for peer in peers]
    assert contents == [server.get_mergeable_content()] * 3


def test_clients_cannot_address_one_another() -> None:
    """Messages to other clients are not passed on where the replica answers; that is reported."""
    path = Path("A", "B").ready()
    path.hear("A", MessageType.GET_CONTENT_HASHES, "", "B")
    assert path.take() == []
    (error,) = path.exits.errors
    assert isinstance(error, RemoteProtocolError)
    assert (error.path_id, error.client_id) == ("p", "A")


def test_announcements() -> None:
    """Whoever announces hashes is pulled from, and the others get what is new, from the server."""
    path = Path("A", "B").ready()
    other = new_store().set_value("v", 1)
    path.hear("A", HASHES, other.get_mergeable_content_hashes())
    path.answer("A", other.get_mergeable_value_diff({}))
    question, news = path.take()
    assert question[:3] == (("A",), "S", 7)
    assert news == (("B",), "S", 3, [[{}], other.get_mergeable_value_diff({}), 1])
    assert path.hub.unanswered == 0


def test_leaving_while_pulled_from() -> None:
    """A client that goes is not waited for, and what it did not say is no error."""
    path = Path("A", "B").ready()
    path.hear("A", HASHES, [1, 1])
    assert path.hub.unanswered == 1
    path.hub.leave("A")
    path.hub.leave("A")
    assert (path.hub.unanswered, path.hub.deadline, path.exits.errors) == (0, None, [])


def test_errors_name_path_and_client() -> None:
    """What goes wrong between the replica and a client is reported once, with both."""
    path = Path("A").ready()
    path.hear("A", HASHES, [1, 1])
    assert path.hub.deadline == 1.0
    path.hub.wake(1.0)
    path.hub.wake(2.0)
    (error,) = path.exits.errors
    assert isinstance(error, RequestTimeoutError)
    assert str(error) == "no answer to get_table_diff in 1 s (path 'p', client 'A')"
    path.hub.report(ZeroDivisionError())
    assert len(path.exits.errors) == 2


def test_resync() -> None:
    """A client that may have missed something compares hashes, and so does the server."""
    path = Path("A", "B")
    path.hub.resync("A", 0.0)
    assert path.take() == []
    path.ready()
    path.hub.resync("A", 0.0)
    assert [each[:3] for each in path.take()] == [(("A",), "S", 2), (("A",), "S", 1)]


def test_remind() -> None:
    """A client that was not sent some changes compares hashes; what it has, the server has already."""
    path = Path("A", "B")
    path.hub.remind("A")
    assert path.take() == []
    path.ready()
    path.hub.remind("A")
    path.hub.remind("gone")
    assert [each[:3] for each in path.take()] == [(("A",), "S", 2)]


def test_only_changes_that_the_replica_has_may_be_missed() -> None:
    """What a client sends to others, and what the server writes; all that is for one client must arrive."""
    path = Path("A", "B", fragment_size=20.0).ready()
    path.exits.sent.clear()
    path.hear("A", MessageType.CONTENT_DIFF, [[{}], [{"v": ["x" * 20, hlc(1)]}], 1])
    assert [(to, len(frames)) for to, frames in path.exits.may_be_missed] == [(("B",), 1)]
    assert path.hub.store is not None
    path.hub.store.set_value("w", "x" * 20)
    assert [(to, len(frames) > 1) for to, frames in path.exits.may_be_missed[1:]] == [(("A", "B"), True)]
    path.exits.may_be_missed.clear()
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    path.hub.remind("A")
    assert path.exits.may_be_missed == []
    relay = Path("A", "B", relay=True).ready()
    relay.hear("A", MessageType.CONTENT_DIFF, [[{}], [{"v": [1, hlc(1)]}], 1])
    assert relay.exits.may_be_missed == []


@pytest.mark.parametrize("relay", [False, True])
def test_alone(relay: bool) -> None:
    """What the only client says goes to nobody."""
    path = Path("A", relay=relay).ready()
    path.take()
    path.hear("A", MessageType.CONTENT_DIFF, [[{}], [{"v": [1, hlc(1)]}], 1])
    assert path.take() == []


def test_nobody_is_sent_what_is_for_somebody_gone() -> None:
    """An answer to a client that has just gone is dropped."""
    path = Path("A").ready()
    path.hub.leave("A")
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert path.take() == []


def test_destroyed() -> None:
    """A hub lets go of its store, ready or not."""
    path = Path("A")
    path.hub.destroy()
    path.ready().hub.destroy()
    assert path.hub.store is not None
    path.hub.store.set_value("v", 1)
    assert path.take() == []


# --- a path that is not ready -----------------------------------------------------------------------------


def test_held_until_ready() -> None:
    """What is said while the path starts is handled when it is ready, in order."""
    path = Path("A", "B")
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.hear("B", MessageType.GET_VALUE_DIFF, {})
    assert (path.take(), path.hub.state) == ([], HubState.STARTING)
    path.ready()
    assert [each[:3] for each in path.take()] == [(("B",), "A", 3), (("B",), "S", 0)]
    assert path.hub.state is HubState.READY


def test_changes_of_clients_that_have_gone() -> None:
    """A change counts even if its writer leaves before the path is ready (surprise 10); its questions do not."""
    path = Path("A", "B")
    path.hear("A", MessageType.GET_VALUE_DIFF, {})
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.hub.leave("A")
    path.ready()
    assert [each[:3] for each in path.take()] == [(("B",), "A", 3)]
    assert path.hub.store is not None
    assert path.hub.store.get_values() == {"v": 1}


def test_refused_changes_of_clients_that_have_gone() -> None:
    """What such a client wrote too far in the future is refused, and answered to nobody."""
    path = Path("A", "B")
    path.hear("A", DIFF, value_changes(v=[1, hlc(0, FUTURE)]))
    path.hub.leave("A")
    path.ready()
    assert path.take() == []
    assert [type(error) for error in path.exits.errors] == [RefusedChangesError]


def test_newer_hashes_replace_older_ones() -> None:
    """Of one client's hashes to one address the last are held, so that they never fill what may be held."""
    path = Path("A", "B")
    for number in range(MAX_HELD_MESSAGES):
        path.hear("A", HASHES, [0, number + 1])
        path.hear("A", HASHES, [0, number + 1], "S")
        path.hear("B", HASHES, [0, number + 1])
    assert path.exits.closed == []
    path.ready()
    assert [each[:3] for each in path.take()] == [(("A",), "S", 7), (("B",), "S", 7)]


def test_how_many_messages_are_held() -> None:
    """1000 messages are held; whoever sends one more loses what it had held and is closed, and only it."""
    path = Path("A", "B")
    path.hear("B", DIFF, value_changes(v=[1, hlc(1)]))
    for _ in range(MAX_HELD_MESSAGES - 1):
        path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert path.exits.closed == []
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    ((client_id, error),) = path.exits.closed
    assert isinstance(error, LimitExceededError)
    assert (client_id, error.close_reason, error.path_id, error.client_id) == ("A", "tinybase:15:server", "p", "A")
    path.ready()
    assert [each[:3] for each in path.take()] == [(("A",), "B", 3)]


def test_how_many_bytes_are_held() -> None:
    """16 MiB are held, in bytes of UTF-8, and not one more."""
    path = Path("A")
    unit = payload(MessageType.GET_CONTENT_HASHES, "", "").size_bytes
    half = MAX_HELD_BYTES // 2 - unit
    for size in (half, half):
        path.hub.receive(
            "A", "", payload(MessageType.GET_CONTENT_HASHES, "", "é" * (size // 2) + "x" * (size % 2)), 0.0
        )
    assert path.exits.closed == []
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert [client_id for client_id, _ in path.exits.closed] == ["A"]


def test_held_too_long() -> None:
    """After ten time-outs all that is held is dropped, and its senders are closed; others stay."""
    path = Path("A", "B", "C")
    path.hub.wake(0.0)
    for client_id, now in (("A", 1.0), ("A", 2.0), ("B", 2.0)):
        path.hear(client_id, MessageType.GET_CONTENT_HASHES, "", now=now)
    assert path.deadline() == 1.0 + HELD_TIMEOUTS
    path.hub.wake(HELD_TIMEOUTS)
    assert path.exits.closed == []
    path.hub.wake(1.0 + HELD_TIMEOUTS)
    assert [client_id for client_id, _ in path.exits.closed] == ["A", "B"]
    assert path.deadline() is None
    path.ready()
    assert path.take() == []


def test_failed() -> None:
    """A path that cannot be loaded drops what is said, until it is tried again."""
    path = Path("A")
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    path.hub.fail()
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert (path.hub.state, path.hub.deadline) == (HubState.FAILED, None)
    path.hub.starting()
    path.ready()
    assert path.take() == []


def test_a_client_that_gave_up_while_the_path_started() -> None:
    """A stock client goes live without the answer when that takes too long; it is told that there is more."""
    path = Path("A")
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    path.hear("A", HASHES, [0, 0], now=1.0)
    path.ready(new_store("server").set_value("v", 1), 5.0)
    path.exits.sent[:-1] = []
    path.answer("A", [{}], 5.0)
    assert path.take()[-1][:3] == (("A",), "S", 2)


def test_a_stock_client_over_a_slow_link() -> None:
    """With 1.2 s there and back a stock client gets no answer in time, ever; it gets everything unasked (M11)."""
    path = Path("A", "B").ready(new_store("server").set_value("v", 1))
    path.hear("A", MessageType.GET_CONTENT_HASHES, "", now=0.6)
    path.hear("A", HASHES, new_store().set_value("mine", 1).get_mergeable_content_hashes(), now=1.6)
    path.exits.sent[:-1] = []
    path.hub.wake(2.6)
    path.answer("A", [{"mine": [1, hlc(1)]}], 2.8)
    *_, delivered, pushed = path.take()
    assert delivered[:3] == (("B",), "S", 3)
    assert pushed[:3] == (("A",), "S", 3)
    assert set(pushed[3][1][0]) == {"v", "mine"}


def test_a_stock_client_over_a_slow_link_to_a_large_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not everything is sent unasked then: it is let ask again, and answered in small parts."""
    monkeypatch.setattr("mergesync.sync.pulling.MAX_PAGE_BYTES", 100)
    monkeypatch.setattr("mergesync.sync.answering.MIN_ANSWER_BYTES", 100)
    path = Path("A").ready(new_store("server").set_table("t", {f"r{number}": {"c": 1} for number in range(50)}))
    path.hear("A", MessageType.GET_CONTENT_HASHES, "", now=0.6)
    path.hear("A", HASHES, new_store().set_value("mine", 1).get_mergeable_content_hashes(), now=1.6)
    path.exits.sent[:-1] = []
    path.answer("A", [[{}], {}], 2.8)
    path.answer("A", [{"mine": [1, hlc(1)]}], 4.0)
    path.take()
    path.hear("A", MessageType.GET_TABLE_DIFF, {}, "S", 5.0)
    ((_, _, _, body),) = path.take()
    assert 0 < len(body[0][0]["t"][0]) < 5


def test_our_clients_over_slow_links() -> None:
    """With 1.2 s there and back, or 10 s, and a time-out of 1 s, all end equal in a dozen round trips (M11)."""
    for delay_seconds in (0.6, 5.0):
        network = Network(delay_seconds=delay_seconds)
        peers: list[Peer] = []
        for name in "ab":
            peer = network.peer(name)
            peer.store.set_value(name, 1).set_cell("t", name, "c", 1)
            network.connect(peer)
            peer.start_sync()
            peers.append(peer)
        network.pass_time(24 * delay_seconds)
        network.pass_time(1.0)
        one, other = (peer.store.get_mergeable_content() for peer in peers)
        assert one == other
        assert [peer.core.unanswered for peer in peers] == [0, 0]


def test_comparing() -> None:
    """Who compares is answered as soon as the path is ready, unless it has gone; a relay has nobody who could."""
    path = Path("A", "B")
    ready: list[str] = []
    for client_id in "AB":
        path.hub.when_ready(client_id, partial(ready.append, client_id))
    path.hub.leave("B")
    assert ready == []
    assert path.hub.compare("A", [[], None, []]) is None
    path.ready(new_store("server").set_value("v", 1))
    path.hub.when_ready("A", partial(ready.append, "again"))
    assert ready == ["A", "again"]
    result = path.hub.compare("A", [[], {}, []])
    assert result is not None
    assert result[3][0].keys() == {"v"}
    with pytest.raises(RemoteProtocolError):
        path.hub.compare("A", None)
    assert Path("A", relay=True).ready().hub.compare("A", [[], {}, []]) is None


# --- clients that come back -------------------------------------------------------------------------------


def resumed(path: Path, client_id: str, body: Any) -> dict[str, Any]:
    """What a client is answered that says where it has stopped."""
    results: list[dict[str, Any]] = []
    path.hub.resume(client_id, body, results.append, 0.0)
    (result,) = results
    return result


def test_who_comes_back_is_told_what_has_changed() -> None:
    """What others wrote, and the server; not what it has just brought itself, which goes on to the others."""
    path = Path("A", "B").ready(store := new_store("server").set_value("old", 1))
    first = resumed(path, "A", [None, None])
    hashes, latest = store.get_mergeable_content_hashes(), store.get_latest_hlc()
    assert first == {"cursor": first["cursor"], "changes": None, "hashes": hashes, "latest": latest}
    path.hear("B", DIFF, cell_changes("t", "r", c=[1, hlc(1)]))
    store.set_value("v", 2)
    brought = value_changes(mine=[3, hlc(3)])
    path.take()
    result = resumed(path, "A", [[first["cursor"], None], brought])
    assert result["changes"][0] == [{"t": [{"r": [{"c": [1, hlc(1)]}]}]}]
    assert result["changes"][1][0].keys() == {"v"}
    assert result["hashes"] == store.get_mergeable_content_hashes()
    assert [(to, kind, body) for to, _, kind, body in path.take()] == [(("B",), DIFF, brought)]
    again = resumed(path, "A", [[result["cursor"], None], None])
    assert again == {"cursor": result["cursor"], "changes": [[{}], [{}], 1], "hashes": result["hashes"]}


def test_who_begins_with_the_clock_of_yesterday() -> None:
    """What it brings with its first words is passed over where it is too far ahead; later that is judged."""
    path = Path("A").ready(store := new_store("server"))
    brought = value_changes(mine=[3, hlc(3, FUTURE)])
    results: list[dict[str, Any]] = []
    path.hub.resume("A", [None, brought], results.append, 0.0, begins=True)
    assert results[0]["hashes"] == [0, 0]
    assert (store.get_values(), path.take(), path.exits.errors) == ({}, [], [])
    path.hub.resume("A", [None, value_changes(mine=[3, hlc(3)])], results.append, 0.0, begins=True)
    assert store.get_values() == {"mine": 3}
    resumed(path, "A", [None, brought])
    assert [type(error) for error in path.exits.errors] == [RefusedChangesError]


def test_what_messages_tell_of_who_got_them() -> None:
    """Whoever wrote the changes, and whoever got them; of two messages of one transaction only the last tells all."""
    path = Path("A", "B").ready(store := new_store("server"))
    cursor = resumed(path, "A", [None, None])["cursor"]
    path.hear("B", DIFF, value_changes(v=[1, hlc(1)]))
    assert resumed(path, "A", [[cursor, "r"], None])["changes"][1] == [{}]
    store.set_value("w", 1)
    message_id = heard_frame(path.exits.take()[-1][1])[0]
    assert resumed(path, "A", [[cursor, message_id], None])["changes"][1] == [{}]
    store.add_value_listener("x", lambda *_: store.set_value("y", 1), True)
    path.hub.receive("B", "", payload(DIFF, value_changes(x=[1, hlc(2)]), "first"), 0.0)
    frames = [frame for to, frame in path.exits.take() if to == ("A",)]
    first, last = (heard_frame(frame)[0] for frame in frames)
    assert first == "first"
    assert resumed(path, "A", [[cursor, first], None])["changes"] is None
    assert resumed(path, "A", [[cursor, last], None])["changes"][1] == [{}]


def test_what_is_too_much_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a page is not told at once; nor is what is not there any more."""
    path = Path("A").ready(store := new_store("server"))
    cursor = resumed(path, "A", [None, None])["cursor"]
    store.set_row("t", "r", {"c": "x" * 50, "d": "x" * 50}).set_value("v", 1)
    assert resumed(path, "A", [[cursor, None], None])["changes"] is not None
    store.del_row("t", "r")
    store.forget_deleted_rows("t")
    assert resumed(path, "A", [[cursor, None], None])["changes"][0] == [{}]
    store.set_row("t", "r", {"c": "x" * 50, "d": "x" * 50})
    monkeypatch.setattr("mergesync.sync.window.MAX_PAGE_BYTES", 100)
    assert resumed(path, "A", [[cursor, None], None])["changes"] is None


def test_who_may_not_read_is_told_nothing() -> None:
    """What it brings is merged; and what it once was told of a cursor is worth nothing."""
    path = Path("A").ready(store := new_store("server").set_value("v", 1))
    cursor = resumed(path, "A", [None, None])["cursor"]
    path.hub.join("W", reads=False)
    nothing = {"cursor": None, "changes": None, "hashes": [0, 0]}
    assert resumed(path, "W", [[cursor, None], value_changes(w=[1, hlc(1)])]) == nothing
    assert store.get_values() == {"v": 1, "w": 1}
    assert path.hub.compare("W", [[], None, []]) == [[{}], {}, [], None, [], [0, 0], None]


def test_a_large_store_is_prepared_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hashes, and fingerprints if some are compared, little by little."""
    monkeypatch.setattr("mergesync.sync.synchronizer.HASHED_AT_ONCE", 10)
    monkeypatch.setattr("mergesync.store.ranges._SORTED_AT_ONCE", 10)
    monkeypatch.setattr("mergesync.store.ranges._BLOCKS_AT_ONCE", 1)
    rows = {f"r{number}": {"c": 1} for number in range(200)}
    path = Path("A").ready(new_store("server").set_table("t", rows))
    turns = {}
    for what, body in (("hashes", None), ("order", [[], {}, []]), ("sums", [None, None, [["t", "", "x", None]]])):
        turns[what] = 0
        while not path.hub.prepare(body):
            turns[what] += 1
    assert turns["hashes"] == 20
    assert turns["order"] > 20
    assert turns["sums"] == 3
    assert Path("A", relay=True).ready().hub.prepare(None)


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_for_an_operation_is_not_asked(fails: bool) -> None:
    """When a path is late, others are; but if it had failed, something that was said may be lost."""
    path = Path("A", "B")
    path.hub.when_ready("A", lambda: None)
    if fails:
        path.hub.fail()
        path.hub.starting()
    path.hub.ready(new_store("server").set_value("v", 1), 0.0, is_late=True)
    asked = {("A",), ("B",)} if fails else {("B",)}
    assert {to for to, *_ in path.take()} == asked


@pytest.mark.parametrize("body", [None, [], [None], [["e.1"], None], [[1, None], None], [["e.1", 1], None], [None, []]])
def test_what_is_no_place(body: Any) -> None:
    """It is refused."""
    path = Path("A").ready()
    with pytest.raises(RemoteProtocolError):
        resumed(path, "A", body)


def test_a_relay_numbers_nothing() -> None:
    """Nobody there has all of the path."""
    assert resumed(Path("A", relay=True).ready(), "A", [None, None]) == {}


# --- refused changes --------------------------------------------------------------------------------------


def test_the_future_is_answered_to_its_writer_only() -> None:
    """A stamp too far ahead is refused, and its writer given the value to keep; the others hear of the rest only."""
    path = Path("A", "B").ready(new_store("server").set_value("v", "kept"))
    path.exits.take()
    path.hear("A", DIFF, value_changes(v=["bad", hlc(0, FUTURE)], w=["good", hlc(1)]))
    rest, correction = path.take()
    assert rest == (("B",), "S", 3, value_changes(w=["good", hlc(1)]))
    assert correction[:3] == (("A",), "S", 3)
    wire, given = correction[3][1][0]["v"]
    assert wire == "kept"
    assert given > hlc(0, FUTURE)
    (error,) = path.exits.errors
    assert isinstance(error, RefusedChangesError)
    assert (error.path_id, error.client_id) == ("p", "A")


def test_one_frame_for_each_lie() -> None:
    """Two clients with clocks ahead do not drive each other on: one answer for each refused change, to its writer."""
    path = Path("A", "B").ready()
    for number in range(10):
        for client_id in "AB":
            path.hear(client_id, DIFF, value_changes(v=[f"{client_id}{number}", hlc(number, FUTURE, client_id * 5)]))
            ((to, _, _, _),) = path.take()
            assert to == (client_id,)


def test_the_value_is_here_already() -> None:
    """Where the refused value is what is kept anyway, nobody is told anything."""
    path = Path("A", "B").ready(new_store("server").set_value("v", 1))
    path.exits.take()
    path.hear("A", DIFF, value_changes(v=[1, hlc(0, FUTURE)]))
    assert path.take() == []


def test_who_is_ahead_follows_later_changes() -> None:
    """A leaf that a client holds under a stamp ahead of all others is given to it anew whenever it changes."""
    path = Path("A", "B").ready()
    path.hear("A", DIFF, value_changes(v=["bad", hlc(0, FUTURE)]))
    first = path.take()[-1][3][1][0]["v"][1]
    path.hear("B", DIFF, value_changes(v=["new", hlc(1)]))
    passed, given = path.take()
    assert passed == (("A",), "B", 3, value_changes(v=["new", hlc(1)]))
    assert given[0] == ("A",)
    wire, stamp = given[3][1][0]["v"]
    assert wire == "new"
    assert stamp > first
    path.hub.leave("A")
    path.hub.join("A")
    path.hear("B", DIFF, value_changes(v=["newer", hlc(2)]))
    assert len(path.take()) == 1


def test_the_schema_of_the_server() -> None:
    """What does not fit is answered to all with the value to keep under a newer stamp; what fits goes on as it came."""
    store = new_store("server").set_values_schema({"v": {"type": "number", "default": 7}})
    path = Path("A", "B").ready(store)
    path.hear("A", DIFF, value_changes(v=["text", hlc(1)]))
    ((to, sender, _, body),) = path.take()
    assert (to, sender) == (("A", "B"), "S")
    wire, given = body[1][0]["v"]
    assert wire == 7
    assert given > hlc(1)
    path.hear("A", DIFF, value_changes(v=[8, hlc(5)]))
    assert path.take() == [(("B",), "A", 3, value_changes(v=[8, hlc(5)]))]


def test_clients_end_equal_to_the_schema() -> None:
    """Clients that know no schema hold what the server holds, bit for bit, after all was refused or taken."""
    store = new_store("server").set_tables_schema(
        {"t": {"n": {"type": "number"}, "d": {"type": "string", "default": "x"}}}
    )
    network = Network(store_for_path=lambda _: store)
    peers = [network.joined(name) for name in "ab"]
    peers[0].store.set_row("t", "r", {"n": "no number", "other": 1}).set_row("t", "s", {"n": 1}).set_row(
        "u", "r", {"n": 1}
    )
    peers[1].store.set_row("t", "s", {"n": "no"}).del_cell("t", "s", "d", True)
    network.settle()
    content = store.get_mergeable_content()
    assert [peer.store.get_mergeable_content() for peer in peers] == [content, content]
    assert store.get_tables() == peers[0].store.get_tables()
    joiner = network.joined("c")
    assert joiner.store.get_mergeable_content() == content


def test_two_defaults() -> None:
    """Clients that start with different defaults at the same time, without a stamp, end with one of them."""
    network = Network()
    peers = [network.peer(name) for name in "ab"]
    for number, peer in enumerate(peers):
        network.connect(peer)
        peer.start_sync(({}, {"v": number}))
    network.settle()
    one, other = (peer.store.get_mergeable_content() for peer in peers)
    assert one == other
    assert one[1][0]["v"][1] != ""


def test_one_unique_id_for_two_stores() -> None:
    """Two stores that sign alike, with different values under one stamp, end equal at the next start (surprise 1)."""
    network = Network()
    peers = []
    for number in range(2):
        peer = network.peer("the same")
        peer.store.set_value("v", number)
        network.connect(peer)
        peer.start_sync()
        network.settle()
        peers.append(peer)
    one, other = (peer.store.get_mergeable_content() for peer in peers)
    assert one == other


# --- a relay ----------------------------------------------------------------------------------------------


def test_a_relay_passes_messages_on() -> None:
    """To everyone, to one client, to the server: as TinyBase's switchboard does, its replica being one of them."""
    path = Path("A", "B", "C", relay=True)
    path.hub.ready(None, 0.0)
    text = payload_of(ASK)
    path.hub.receive("A", "", text, 0.0)
    path.hub.receive("A", "C", text, 0.0)
    path.hub.receive("A", "A", text, 0.0)
    path.hub.receive("A", "nobody", text, 0.0)
    path.hub.receive("A", "S", text, 0.0)
    assert path.exits.take() == [(("B", "C"), f"A\n{ASK}"), (("C",), f"A\n{ASK}"), (("A",), f"A\n{ASK}")]
    path.hub.resync("A", 0.0)
    path.hub.leave("A")
    path.hub.wake(0.0)
    assert (path.hub.unanswered, path.hub.deadline, path.exits.take()) == (0, None, [])
    path.hub.destroy()


def test_the_replica_of_a_relay() -> None:
    """It asks who is there, answers what is addressed to it or to everyone, and tells what is written in it."""
    path = Path("A", "B", relay=True).ready()
    assert [each[:3] for each in path.take()] == [(("A", "B"), "S", 1)]
    path.hear("A", MessageType.GET_CONTENT_HASHES, "", "S")
    assert path.take() == [(("A",), "S", 0, [0, 0])]
    path.hub.wake(1.0)
    assert [each[:3] for each in path.take()] == [(("A", "B"), "S", 2)]
    assert path.hub.store is not None
    path.hub.store.set_value("v", 1)
    assert [each[:3] for each in path.take()] == [(("A", "B"), "S", 3)]


def test_listeners_of_a_relay_s_replica() -> None:
    """A client's change goes on once; what the server's application writes in answer goes to all."""
    path = Path("A", "B", relay=True).ready()
    path.hub.wake(1.0)
    path.take()
    path.hear("A", DIFF, value_changes(w=[1, hlc(1)]))
    assert [each[:2] for each in path.take()] == [(("B",), "A")]
    assert path.hub.store is not None
    path.hub.store.add_value_listener("v", lambda store, *_: store.set_value("seen", True), True)
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    assert [each[:2] for each in path.take()] == [(("A", "B"), "S"), (("B",), "A")]


def test_a_relay_corrects_nobody() -> None:
    """A relay's replica is one peer among others: what it refuses is reported, and passed on all the same."""
    path = Path("A", "B", relay=True).ready()
    path.take()
    path.hear("A", DIFF, value_changes(v=[1, hlc(0, FUTURE)]))
    assert [each[:2] for each in path.take()] == [(("B",), "A")]
    assert [type(error) for error in path.exits.errors] == [RefusedChangesError]


def test_who_answers_a_relay_s_replica_first_goes() -> None:
    """The replica's start survives the client it began to pull from."""
    path = Path("A", "B", relay=True).ready()
    path.answer("A", [0, 5])
    path.take()
    path.hub.leave("A")
    assert [each[:3] for each in path.take()] == [(("B",), "S", 2), (("B",), "S", 1)]


# --- lies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relay", [False, True])
def test_a_handful_of_frames_for_each_lie(relay: bool) -> None:
    """A client that announces false hashes and answers nonsense, for ever, costs a handful of frames each time."""
    path = Path("A", "B", relay=relay).ready()
    path.hub.wake(1.0)
    path.take()
    for number in range(50):
        path.hear("A", HASHES, [number, number + 1], "S")
        path.answer("A", [1, 2])
        path.hear("A", MessageType.RESPONSE, [{}], "S")
        assert len(path.take()) <= 5
    assert path.hub.unanswered == relay  # its own question who is there, which nobody has answered
    assert len(path.exits.errors) == 50 + relay


def test_cells_and_rows_of_one_body() -> None:
    """Refused cells of a row leave the others of the row, which go to the others as a message of the server."""
    path = Path("A", "B").ready()
    body = cell_changes("t", "r", a=[1, hlc(1)], b=[2, hlc(0, FUTURE)])
    path.hear("A", DIFF, body)
    rest, correction = path.take()
    assert rest == (("B",), "S", 3, cell_changes("t", "r", a=[1, hlc(1)]))
    assert list(correction[3][0][0]["t"][0]["r"][0]) == ["b"]


# --- what is merged ---------------------------------------------------------------------------------------


def test_what_a_client_has_said_is_merged() -> None:
    """At once, if nothing is to be got from it; of a relay without a store there is nothing to say."""
    told: list[bool] = []
    path = Path("A").ready()
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.hub.when_merged("A", told.append)
    relay = Path("A", relay=True)
    relay.hub.ready(None, 0.0)
    relay.hub.when_merged("A", told.append)
    assert told == [True, True]


def test_what_a_client_has_announced_is_merged() -> None:
    """When it has been got; if that failed, not until the client announces again."""
    told: list[bool] = []
    path = Path("A").ready()
    path.hear("A", HASHES, [0, 5])
    path.hub.when_merged("A", told.append)
    assert told == []
    path.answer("A", [1, 2])
    assert told == [False]
    path.hub.when_merged("A", told.append)
    path.hear("A", HASHES, [0, 5])
    path.hub.when_merged("A", told.append)
    path.answer("A", [{"v": [1, hlc(1)]}])
    assert told == [False, False, True]


def test_what_is_said_while_the_path_starts_is_merged_once_it_is_there() -> None:
    """Also if the path failed in between; who has left is not waited for."""
    told: list[bool] = []
    path = Path("A", "B")
    for client_id in "AB":
        path.hub.when_merged(client_id, told.append)
    path.hub.fail()
    path.hub.starting()
    path.hub.leave("B")
    assert told == []
    path.ready()
    assert told == [True]


def test_what_is_announced_while_the_path_starts_is_merged_before_that_is_told() -> None:
    """Though other messages were held before the announcement (simulator, seed 178 of rooms)."""
    told: list[bool] = []
    path = Path("A", "B")
    path.hear("B", DIFF, value_changes(w=[1, hlc(1)]))
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    path.hear("A", HASHES, [0, 5])
    path.hub.when_merged("A", told.append)
    path.ready()
    assert told == []
    path.answer("A", [{"v": [1, hlc(1)]}])
    assert told == [True]


def test_what_waits_for_a_transaction_is_not_merged_yet() -> None:
    """The application of the server has a transaction open, so the client's changes wait, and so does who asks."""
    told: list[bool] = []
    store = new_store("server")
    path = Path("A").ready(store)
    with store.transaction():
        path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
        path.hub.when_merged("A", told.append)
        assert told == []
    path.hub.wake(1.0)
    assert told == [True]
    assert store.get_values() == {"v": 1}


def test_a_relay_does_not_send_while_it_starts() -> None:
    """What is written to its replica meanwhile is announced when it has heard what there is."""
    path = Path("A", relay=True)
    store = new_store("server")
    path.hub.ready(store, 0.0)
    path.take()
    store.set_value("v", 1)
    assert path.take() == []
