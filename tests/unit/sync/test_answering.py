"""Large stores and TinyBase's clients: answers of bounded size, and who is reminded of the rest (in virtual time)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mergesync.limits import KEPT_ANSWER_SECONDS, MAX_FRUITLESS_REMINDERS, MAX_REMINDER_PAUSE_SECONDS
from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges
from mergesync.sync import answering, exchange, payloads, pulling
from mergesync.sync.answering import Answering
from mergesync.sync.messages import EncodedBody, MessageType, encode_message
from tests.network import Network, Peer, Socket

from .kit import heard, hlc, new_store

TABLES, ROWS, CELLS, VALUES = (
    MessageType.GET_TABLE_DIFF,
    MessageType.GET_ROW_DIFF,
    MessageType.GET_CELL_DIFF,
    MessageType.GET_VALUE_DIFF,
)
SECONDS = 60.0
BOUND = 4_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that some hundred rows pass."""
    monkeypatch.setattr(answering, "MAX_ANSWER_BYTES", BOUND)
    monkeypatch.setattr(answering, "MAX_PAGE_BYTES", BOUND // 4)
    monkeypatch.setattr(answering, "MIN_ANSWER_BYTES", BOUND // 16)
    monkeypatch.setattr(answering, "MAX_LISTED_ROWS", 1000)


def fill(store: MergeableStore, table_id: str, count: int, prefix: str = "r") -> None:
    """Rows of some 60 bytes."""
    with store.transaction():
        for number in range(count):
            store.set_row(table_id, f"{prefix}{number}", {"c": number, "d": "x"})


def fill_values(store: MergeableStore) -> None:
    """Values of some 60 bytes."""
    store.set_values({f"v{number}": "x" * 50 for number in range(300)})


def server_of(write: Callable[[MergeableStore], None]) -> tuple[Network, MergeableStore]:
    """A network with one path, and its store."""
    network = Network()
    store = network.new_store("server")
    write(store)
    network._store_for_path = lambda _: store
    return network, store


def join(network: Network, peer: Peer, seconds: float = SECONDS) -> Socket:
    """A peer connects, and time passes."""
    socket = network.connect(peer)
    peer.start_sync()
    network.pass_time(seconds)
    return socket


def is_equal(peer: Peer, store: MergeableStore) -> bool:
    """Whether they hold the same."""
    return peer.store.get_mergeable_content() == store.get_mergeable_content() or (
        peer.store.get_mergeable_content_hashes() == store.get_mergeable_content_hashes()
        and peer.store.get_content() == store.get_content()
    )


def largest(network: Network) -> int:
    """The size of the largest frame."""
    return max(len(logged.frame) for logged in network.log)


# --- the server has more ----------------------------------------------------------------------------------


def test_an_empty_client_joins() -> None:
    """It is given page after page, and never lists what it has got."""
    network, store = server_of(lambda store: fill(store, "t", 500))
    store.set_value("v", 1)
    peer = network.peer("client")
    join(network, peer)
    assert is_equal(peer, store)
    assert largest(network) < 2 * BOUND
    assert sum(logged.direction == "c2s" and f",{int(ROWS)},{{" in logged.frame for logged in network.log) == 0
    assert peer.errors == network.errors == []


def test_tables_large_and_small() -> None:
    """Many tables, one of them large and one without rows, and a client that has some of it."""
    network, store = server_of(lambda store: fill(store, "large", 300))
    for number in range(5):
        store.set_cell(f"small {number}", "r", "c", 1)
    store.apply_mergeable_changes([[{"bare": [{}, hlc(1)]}, hlc(2)], [{}], 1])
    peer = network.peer("client")
    peer.store.set_cell("small 1", "mine", "c", 1)
    peer.store.set_cell("own", "mine", "c", 1)
    join(network, peer)
    assert is_equal(peer, store)
    assert largest(network) < 2 * BOUND
    assert peer.errors == network.errors == []


def test_many_tables() -> None:
    """A page may end between two tables as well."""
    network = Network()
    store = network.new_store("server")
    network._store_for_path = lambda _: store
    for number in range(60):
        fill(store, f"t{number}", 4)
    peer = network.peer("client")
    join(network, peer)
    assert is_equal(peer, store)


def test_rows_of_a_table_that_both_have() -> None:
    """They are given in parts, each of which the client has listed when it asks for the next."""
    network, store = server_of(lambda store: fill(store, "t", 300))
    peer = network.peer("client")
    fill(peer.store, "t", 3, "mine")
    join(network, peer)
    assert is_equal(peer, store)
    assert len(peer.store.get_row_ids("t")) == 303
    assert peer.errors == network.errors == []


def test_cells_that_both_have_otherwise() -> None:
    """Neither the cells nor the question for them pass the bound."""
    network, store = server_of(lambda store: fill(store, "t", 300))
    peer = network.peer("client")
    peer.store.set_mergeable_content(store.get_mergeable_content())
    with store.transaction():
        for number in range(300):
            store.set_cell("t", f"r{number}", "c", -1)
    join(network, peer)
    assert is_equal(peer, store)
    assert peer.errors == network.errors == []


def test_values() -> None:
    """Values are given in parts, too."""
    network, store = server_of(fill_values)
    peer = network.peer("client")
    join(network, peer)
    assert is_equal(peer, store)
    assert largest(network) < 4 * BOUND  # the client lists the hashes of what it has
    assert peer.errors == network.errors == []


def test_a_table_too_long_to_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has a part of it is given all of it."""
    monkeypatch.setattr(answering, "MAX_LISTED_ROWS", 100)
    network, store = server_of(lambda store: fill(store, "t", 300))
    peer = network.peer("client")
    peer.store.set_mergeable_content(store.get_mergeable_content())
    store.set_cell("t", "r299", "c", -1)
    join(network, peer)
    assert is_equal(peer, store)
    assert not any(f",{int(ROWS)},{{" in logged.frame for logged in network.log)
    assert peer.errors == network.errors == []


def test_a_list_that_is_answered_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that lists many rows, and gives up waiting for the answer, is given the table."""
    monkeypatch.setattr(answering, "MAX_LISTED_ROWS", 100)
    answers = Answers(lambda store: fill(store, "t", 50))
    ask = {"t": 1}
    assert answers.ask(TABLES, ask)[1].keys() == {"t"}
    assert answers.remind(1.0)
    page = answers.ask(TABLES, ask, 1.0)
    assert page[0][0].keys() == {"t"}
    assert page[1] == {}


def test_changes_meanwhile() -> None:
    """What is written while a client gets its pages is there in the end."""
    network, store = server_of(lambda store: fill(store, "t", 300))
    peer = network.peer("client")
    join(network, peer, 0.15)
    assert not is_equal(peer, store)
    store.set_cell("t", "a new one", "c", 1)
    store.del_row("t", "r299")
    network.clock.now += 1
    peer.store.set_cell("t", "r299", "d", "from the client")
    network.pass_time(SECONDS)
    assert is_equal(peer, store)
    assert store.get_cell("t", "r299", "d") == "from the client"
    assert peer.errors == network.errors == []


def test_over_a_slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is sent unasked to who gives up waiting, but not a large store."""
    monkeypatch.setattr(pulling, "MAX_PAGE_BYTES", BOUND // 4)
    network, store = server_of(lambda store: fill(store, "t", 200))
    network.delay_seconds = 0.4
    peer = network.peer("client")
    peer.store.set_value("mine", 1)
    join(network, peer, 300.0)
    assert is_equal(peer, store)
    assert largest(network) < 2 * BOUND


# --- a client has more ------------------------------------------------------------------------------------


def test_a_client_with_a_large_table_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lists its rows, so that the server can ask for some of them at a time."""
    monkeypatch.setattr(exchange, "PULLED_ROWS", 5)
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", BOUND)
    network, store = server_of(lambda _: None)
    peer = network.peer("client")
    fill(peer.store, "own", 300)
    fill(peer.store, "other", 3)
    peer.store.set_value("v", 1)
    store.set_value("w", 1)
    join(network, peer)
    assert is_equal(peer, store)
    assert not any(len(logged.frame) > BOUND and f",{int(ROWS)}," not in logged.frame for logged in network.log)
    assert peer.errors == network.errors == []


def test_a_peer_goes_while_it_is_asked_for_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was got is kept, and the rest comes with the next connection."""
    monkeypatch.setattr(exchange, "PULLED_ROWS", 5)
    monkeypatch.setattr(exchange, "MAX_ANSWER_BYTES", BOUND)
    network, store = server_of(lambda _: None)
    peer = network.peer("client")
    fill(peer.store, "own", 100)
    socket = network.connect(peer)
    peer.start_sync()
    while not store.get_row_ids("own"):
        network.move(network.links()[0])
    socket.cut()
    got = len(store.get_row_ids("own"))
    assert 0 < got < 100
    join(network, peer)
    assert is_equal(peer, store)


def test_many_rows_that_differ_are_asked_for_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without knowing what a peer has, not all cells are listed at once; nor are more rows than fit a question."""
    monkeypatch.setattr(exchange, "MAX_LISTED_ROWS", 100)
    network = Network()
    store = network.new_store("server")
    fill(store, "t", 50)
    network._store_for_path = lambda _: network.new_store("replica").set_mergeable_content(
        store.get_mergeable_content()
    )
    peer = network.peer("client")
    peer.store.set_mergeable_content(store.get_mergeable_content())
    join(network, peer)
    replica = network.hubs["p"].store
    assert replica is not None
    with replica.transaction():
        for number in range(50):
            replica.set_cell("t", f"r{number}", "c", -2)
    network.pass_time(SECONDS)
    assert is_equal(peer, replica)


# --- answers one by one -----------------------------------------------------------------------------------


class Answers:
    """The answers of a store to a peer that is this test."""

    def __init__(self, write: Callable[[MergeableStore], None], *, learns: bool = False) -> None:
        self.store = new_store()
        write(self.store)
        self.answering = Answering(self.store, Ranges(self.store), learns=learns)

    def ask(self, kind: MessageType, body: Any, now: float = 0.0, peer: str = "A") -> Any:
        """What is answered."""
        return json.loads(json.dumps(self.answering.answer(peer, heard(kind, body), now).body))

    def remind(self, now: float) -> list[str]:
        """Who is reminded by then; that the answer was sent is noted first."""
        self.answering.due(now - 0.5)
        return self.answering.due(now)[0]


def test_pulling_twice_at_once() -> None:
    """Who asks the same again without having been reminded has the answer on its way; it is not made twice."""
    answers = Answers(lambda store: fill(store, "t", 300))
    first = answers.ask(TABLES, {})
    assert len(first[0][0]["t"][0]) > 1
    assert answers.ask(TABLES, {}) == [[{}], {}]
    assert answers.answering.will_remind("A")
    assert not answers.answering.will_remind("B")


def test_pages_of_the_right_size() -> None:
    """They grow as long as they are made quickly, and shrink when they take long or do not arrive."""
    answers = Answers(lambda store: fill(store, "t", 3000))
    sizes = []
    now = 0.0

    def page(claim: int, took: float) -> None:
        nonlocal now
        sizes.append(len(answers.ask(TABLES, {"t": claim} if claim else {}, now)[0][0]["t"][0]))
        answers.answering.due(now + took)
        now += took + MAX_REMINDER_PAUSE_SECONDS
        assert answers.answering.due(now) == (["A"], [])

    for claim, took in ((0, 0.0), (1, 0.0), (2, 0.15), (3, 0.3), (4, 0.0), (4, 0.0), (5, 0.0)):
        page(claim, took)
    assert sizes[0] < sizes[1]
    assert sizes[2] > sizes[1]
    assert sizes[3] == sizes[2]
    assert sizes[4] < sizes[3]
    assert sizes[5] < sizes[4]
    assert sizes[6] > sizes[5]


def test_newcomers_share_an_answer() -> None:
    """It is made once while nothing changes, kept for a while, and given to none but who has nothing."""
    made: list[Any] = []
    store = new_store()
    store.set_cell("t", "r", "c", 1)

    def encode(body: Any) -> EncodedBody:
        made.append(body)
        return EncodedBody(body)

    kept = Answering(store, Ranges(store), learns=True, encode=encode)

    def asked(peer: str, body: Any, now: float = 0.0) -> Any:
        return json.loads(encode_message(kept.answer(peer, heard(TABLES, body), now)))[2]

    def deadline() -> float | None:
        return kept.deadline

    first = asked("A", {})
    assert first == store.get_mergeable_table_diff({})
    assert asked("A", {}) == asked("B", {}) == first
    assert len(made) == 1
    assert asked("C", {"t": 1}) == [[{}], {"t": store.get_mergeable_table_hashes()["t"]}]
    assert deadline() == KEPT_ANSWER_SECONDS
    assert kept.due(0.5) == ([], [])
    asked("A", {}, 0.5)
    assert len(made) == 1
    assert kept.due(KEPT_ANSWER_SECONDS) == ([], [])
    assert deadline() is None
    asked("A", {}, 2.0)
    assert len(made) == 2
    store.set_cell("t", "r", "c", 2)
    kept.changed()
    assert asked("A", {}, 2.0) == store.get_mergeable_table_diff({}) != first
    assert len(made) == 3
    kept.clear()
    assert deadline() is None


def test_an_answer_that_is_not_all_is_not_kept() -> None:
    """Who gets pages gets its own."""
    store = new_store()
    fill(store, "t", 300)
    answering = Answering(store, Ranges(store), learns=True, encode=EncodedBody)
    pages = [answering.answer(peer, heard(TABLES, {}), 0.0).body for peer in "AB"]
    assert all(isinstance(page, list) for page in pages)
    assert pages[0] is not pages[1]


def test_reminded_when_it_is_quiet() -> None:
    """A tenth of a second after the answer, or twice as long as it took to ask on."""
    answers = Answers(lambda store: fill(store, "t", 300))
    answers.store.set_value("v", 1)
    answers.ask(TABLES, {})
    assert answers.answering.deadline == 0.0
    assert answers.answering.due(0.25) == ([], [])  # making the answer took so long
    assert answers.answering.deadline == 0.35
    assert answers.answering.due(0.3) == ([], [])
    answers.ask(VALUES, {}, 0.5)
    answers.answering.due(0.5)
    assert answers.answering.deadline == 1.0
    assert answers.answering.due(1.0) == (["A"], [])
    assert answers.answering.deadline is None


def test_two_that_never_agree() -> None:
    """Who says the same each time is reminded a few times, and then no more."""
    answers = Answers(fill_values)
    reminded = 0
    now = 0.0
    while True:
        answers.ask(VALUES, {}, now)
        now += 20.0
        if not answers.remind(now):
            break
        reminded += 1
    assert reminded == MAX_FRUITLESS_REMINDERS


def test_how_often_anybody_is_reminded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even who says something else each time."""
    monkeypatch.setattr(answering, "MAX_REMINDERS", 3)
    answers = Answers(lambda store: fill(store, "t", 300))
    reminded = 0
    answers.ask(TABLES, {})
    while answers.remind(20.0 * reminded + 19):
        reminded += 1
        answers.ask(TABLES, {"t": reminded}, 20.0 * reminded)
        answers.ask(ROWS, {"t": {}}, 20.0 * reminded)
    assert reminded == 3


def test_who_was_answered_everything() -> None:
    """It is not reminded, but asked once what it has meanwhile."""
    answers = Answers(lambda store: fill(store, "t", 100))
    answers.ask(ROWS, {"t": {}})
    assert answers.remind(1.0) == ["A"]
    answers.ask(TABLES, answers.store.get_mergeable_table_hashes(), 1.0)
    answers.answering.due(1.5)
    assert answers.answering.due(2.0) == ([], ["A"])


def test_streamed_three_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long table that goes on to differ is not given for ever."""
    monkeypatch.setattr(answering, "MAX_LISTED_ROWS", 1)
    answers = Answers(lambda store: fill(store, "t", 2))
    pages = 0
    while answers.ask(TABLES, {"t": pages}, 20.0 * pages)[0][0]:
        pages += 1
        assert answers.remind(20.0 * pages)
    assert pages == 3
    assert not answers.remind(20.0 * pages + 19)


def test_tables_that_are_not_here() -> None:
    """A server lets clients list their rows, with a hash that they do not have."""
    answers = Answers(lambda _: None, learns=True)
    assert answers.ask(TABLES, {"own": 6, "other": 7}) == [[{}], {"own": 7, "other": 6}]
    assert answers.ask(ROWS, {"own": {"r": 1}}) == [[{}], {}]


def test_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is reminded who is gone; and not too many are remembered."""
    monkeypatch.setattr(answering, "MAX_WAITING_CONVERSATIONS", 2)
    answers = Answers(lambda store: fill(store, "t", 100))
    for peer in "ABC":
        answers.ask(TABLES, {}, peer=peer)
    answers.answering.forget_peer("B")
    assert answers.remind(5.0) == ["C"]
    answers.answering.shrink("A")
    answers.answering.clear()
    assert answers.answering.deadline is None


def test_without_frames() -> None:
    """Answers are whole."""
    store = new_store()
    fill(store, "t", 300)
    fill_values(store)
    whole = Answering(store, Ranges(store), learns=False, bounded=False)
    for kind, ask in ((TABLES, {}), (ROWS, {"t": {}}), (VALUES, {}), (CELLS, {"t": {"r1": {}}})):
        answered = whole.answer("A", heard(kind, ask), 0.0).body
        count = {TABLES: 300, ROWS: 300, CELLS: 1, VALUES: 300}[kind]
        found = answered if kind in (VALUES, CELLS) else answered[0]
        assert len(found[0] if kind is VALUES else found[0]["t"][0]) == count
    assert whole.deadline is None


def test_small_or_not() -> None:
    """Sizes are counted only as far as needed."""
    answers = Answers(lambda store: fill(store, "t", 100))
    assert answers.answering.is_small(10_000)
    assert not answers.answering.is_small(1_000)


# --- changes that are too large for a message -------------------------------------------------------------


def test_large_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit a message is announced instead, by clients and by the server, and is got in parts."""
    monkeypatch.setattr(payloads, "MAX_MESSAGE_BYTES", 2 * BOUND)
    network, store = server_of(lambda _: None)
    one, two = network.joined("one"), network.joined("two")
    network.log.clear()
    fill(one.store, "t", 300)
    network.pass_time(SECONDS)
    assert is_equal(one, store)
    assert is_equal(two, store)
    fill(store, "u", 300)
    network.pass_time(SECONDS)
    assert is_equal(one, store)
    assert is_equal(two, store)
    assert one.errors == two.errors == network.errors == []


def test_a_frame_without_room_for_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes that do not fit a frame any more with the sender's id are announced to the others (surprise 14)."""
    network, store = server_of(lambda _: None)
    one, two = network.peer("one"), network.joined("two")
    network.connect(one, client_id="a client with a very long id " * 10)
    one.start_sync()
    network.settle()
    monkeypatch.setattr(payloads, "MAX_FRAME_BYTES", 400)
    one.store.set_cell("t", "r", "c", "x" * 200)
    network.pass_time(SECONDS)
    assert is_equal(one, store)
    assert is_equal(two, store)
    assert one.errors == two.errors == network.errors == []


def test_an_answer_that_can_never_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cell that is larger than a frame is reported, and the connection stays."""
    monkeypatch.setattr(payloads, "MAX_MESSAGE_BYTES", BOUND)
    network, _ = server_of(lambda store: fill(store, "t", 1, "x" * 2 * BOUND))
    peer = network.peer("client")
    socket = join(network, peer)
    assert "cannot be sent" in str(network.errors[0])
    assert socket.closed_by_server is None
