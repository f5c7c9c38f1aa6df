"""Pulling what a peer has, with as few questions as can be, and answering a peer that does so."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.store import MergeableStore
from mergesync.store.ranges import Ranges
from mergesync.sync.admission import leaves_of
from mergesync.sync.answering import Answering
from mergesync.sync.exchange import Heard, Pulled, everything, hashes_of, pull
from mergesync.sync.messages import Message, MessageType, decode_message, encode_message

from .kit import heard, hlc, new_store


def over_the_wire(message: Message) -> Message:
    """A message as the other end reads it."""
    return decode_message(encode_message(message))


def answer(store: MergeableStore, message: Message) -> Message:
    """What a store that does not pull itself answers."""
    return Answering(store, Ranges(store), learns=False).answer("peer", message, 0.0)


def run_pull(
    asker: MergeableStore, answerer: MergeableStore, told: Heard | None = None, listening: Heard | None = None
) -> tuple[Pulled, list[int]]:
    """A whole pull, and the types of its questions; the answerer may listen to what is asked."""
    pulling = pull(asker, answerer.get_mergeable_content_hashes(), told)
    asked = []
    try:
        kind, body = next(pulling)
        while True:
            question = over_the_wire(Message("r", kind, body))
            asked.append(int(kind))
            if listening is not None:
                listening.note(answerer, question.type, question.body)
            kind, body = pulling.send(over_the_wire(answer(answerer, question)))
    except StopIteration as stop:
        return stop.value, asked


def catch_up(asker: MergeableStore, answerer: MergeableStore, **options: Any) -> list[int]:
    """Pull and merge; returns the types of the questions."""
    pulled, asked = run_pull(asker, answerer, **options)
    asker.apply_mergeable_changes(pulled.changes)
    return asked


def two_stores() -> tuple[MergeableStore, MergeableStore]:
    """Stores that differ at every level: whole tables, whole rows, cells, values; some of it is equal."""
    one, other = new_store("one"), new_store("other")
    one.set_tables({"same": {"r": {"c": 1}}, "both": {"same": {"c": 1}, "r": {"c": 1, "d": 1}}}).set_value("v", 1)
    other.apply_mergeable_changes(everything(one))
    one.set_cell("both", "r", "c", 2).set_cell("both", "one", "c", 1).set_cell("one", "r", "c", 1).set_value("w", 1)
    other.set_cell("both", "r", "d", 2).set_cell("both", "other", "c", 1).set_cell("other", "r", "c", 1)
    other.set_value("x", 1)
    return one, other


def test_all_levels() -> None:
    """Four questions bring all that the other has; both ways make both equal."""
    one, other = two_stores()
    pulled, asked = run_pull(one, other)
    assert asked == [4, 5, 6, 7]
    assert pulled.newest == max(stamp[1] for _, stamp in leaves_of(everything(other)))
    one.apply_mergeable_changes(pulled.changes)
    catch_up(other, one)
    assert one.get_mergeable_content() == other.get_mergeable_content()


def test_equal_stores_ask_nothing() -> None:
    """Equal hashes, no question; and only the half that differs is asked for."""
    one, other = new_store("one"), new_store("other")
    assert run_pull(one, other)[1] == []
    other.set_value("v", 1)
    assert catch_up(one, other) == [7]
    other.set_cell("t", "r", "c", 1)
    assert catch_up(one, other) == [4]
    other.set_cell("t", "s", "c", 1)
    assert catch_up(one, other) == [4, 5]
    assert one.get_mergeable_content() == other.get_mergeable_content()


def test_stamps_of_containers_are_joined() -> None:
    """Several answers about one table are one body: the greater stamp of each container, the leaves of all."""
    one, other = new_store("one"), new_store("other")
    base = [[{"t": [{"r": [{"c": [1, hlc(1)]}]}]}], [{}], 1]
    one.apply_mergeable_changes(base)
    other.apply_mergeable_changes(base)
    stamped = [
        [{"t": [{"r": [{"d": [2, hlc(2)]}, hlc(3)], "s": [{"c": [1, hlc(4)]}, hlc(5)]}, hlc(6)]}, hlc(7)],
        [{}, hlc(8)],
        1,
    ]
    other.apply_mergeable_changes(stamped)
    catch_up(one, other)
    assert one.get_mergeable_content() == other.get_mergeable_content()


def test_rows_in_two_answers() -> None:
    """A row of which whole rows and single cells arrive in two answers keeps both."""
    store = new_store()
    pulling = pull(store.set_cell("t", "r", "c", 1), [1, 0])
    next(pulling)
    pulling.send(heard(MessageType.RESPONSE, [[{"t": [{"r": [{"a": [1, hlc(1)]}, hlc(1)]}, hlc(2)]}], {"t": 1}]))
    pulling.send(heard(MessageType.RESPONSE, [[{"t": [{"s": [{"a": [1, hlc(1)]}]}]}], {"t": {"r": 1}}]))
    with pytest.raises(StopIteration) as stop:
        pulling.send(heard(MessageType.RESPONSE, [{"t": [{"r": [{"a": [2, hlc(2)], "b": [3, hlc(1)]}]}, hlc(1)]}]))
    assert stop.value.value.changes[0] == [
        {"t": [{"r": [{"a": [2, hlc(2)], "b": [3, hlc(1)]}, hlc(1)], "s": [{"a": [1, hlc(1)]}]}, hlc(2)]}
    ]


# --- nonsense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "body"),
    [
        ([], [1, 2]),
        ([], [{}]),
        ([], [[{}], {"t": {"r": 1}}]),
        ([[[{}], {"t": 1}]], [[{}], {"t": 1}]),
        ([[[{}], {"t": 1}]], [{}]),
        ([[[{}], {"t": 1}], [[{}], {"t": {"r": 1}}]], [{"v": [1, hlc(1)]}]),
        ([[[{}], {"t": 1}], [[{}], {"t": {"r": 1}}]], [[{}], {}]),
        ([[[{}], {}]], [1, 2]),
    ],
)
def test_answers_that_were_not_asked_for(answers: list[Any], body: Any) -> None:
    """An answer of another form than was asked for ends the pull with an error, whatever the wire allows."""
    store = new_store().set_cell("t", "r", "c", 1).set_value("v", 1)
    pulling = pull(store, [1, 2])
    next(pulling)
    for each in answers:
        pulling.send(heard(MessageType.RESPONSE, each))
    with pytest.raises(RemoteProtocolError):
        pulling.send(heard(MessageType.RESPONSE, body))


def test_values_that_look_like_tables() -> None:
    """Values that are raw objects are taken for values where values were asked for, although they could be tables."""
    store = new_store()
    pulling = pull(store, [0, 1])
    next(pulling)
    raw = [{"v": [{"r": [{"c": [1, hlc(1)]}]}, hlc(2)]}]
    with pytest.raises(StopIteration) as stop:
        pulling.send(heard(MessageType.RESPONSE, raw))
    pulled = stop.value.value
    assert (pulled.changes, pulled.newest) == ([[{}], raw, 1], hlc(2))
    pulling = pull(store, [0, 1])
    next(pulling)
    with pytest.raises(StopIteration):
        pulling.send(heard(MessageType.RESPONSE, [{}]))


def test_hashes() -> None:
    """The answer to the first question must be two hashes."""
    assert hashes_of(heard(MessageType.RESPONSE, [1, 2])) == [1, 2]
    with pytest.raises(RemoteProtocolError) as caught:
        hashes_of(heard(MessageType.RESPONSE, [{}]))
    assert caught.value.excerpt == "[{}]"


def test_answers() -> None:
    """Every question is answered under its own id."""
    one, other = two_stores()
    content = answer(one, Message("q", MessageType.GET_CONTENT_HASHES, ""))
    assert (content.request_id, content.type) == ("q", MessageType.RESPONSE)
    assert content.body == one.get_mergeable_content_hashes()
    assert everything(other) == [other.get_mergeable_table_diff({})[0], other.get_mergeable_value_diff({}), 1]


# --- hearing ----------------------------------------------------------------------------------------------


def pulled_while_listening() -> tuple[MergeableStore, MergeableStore, Heard]:
    """A client has pulled from the server, which listened."""
    client, server = two_stores()
    told = Heard()
    assert catch_up(client, server, listening=told) == [4, 5, 6, 7]
    return client, server, told


def test_told_by_the_questions() -> None:
    """Who listened needs no question for tables, and none for rows but of tables that are new."""
    client, server, told = pulled_while_listening()
    assert told.shortens()
    assert catch_up(server, client, told=told) == [5, 6, 7]
    assert client.get_mergeable_content() == server.get_mergeable_content()


def test_told_that_nothing_is_lacking() -> None:
    """What is known not to differ is not asked for at all, even if hashes differ for another reason."""
    client, server = new_store("client"), new_store("server")
    server.set_cell("t", "r", "c", 1).set_value("v", 1)
    told = Heard()
    catch_up(client, server, listening=told)
    server.set_cell("t", "s", "c", 1).set_value("w", 1)
    assert told.shortens()
    assert catch_up(server, client, told=told) == []


def test_told_of_rows_only() -> None:
    """New rows of a known table need one question, changed cells the same one."""
    client, server = new_store("client"), new_store("server")
    server.set_table("t", {"r": {"c": 1}, "s": {"c": 1}})
    catch_up(client, server)
    client.set_cell("t", "r", "c", 2).set_cell("t", "new", "c", 3)
    server.set_cell("t", "s", "c", 4)
    told = Heard()
    catch_up(client, server, listening=told)
    assert catch_up(server, client, told=told) == [6]
    assert client.get_mergeable_content() == server.get_mergeable_content()


def test_a_table_that_came_meanwhile() -> None:
    """A table that was new when the client asked may have come from elsewhere before it is pulled."""
    client, server = new_store("client"), new_store("server")
    client.set_cell("t", "r", "c", 1)
    server.set_value("v", 1)
    told = Heard()
    told.note(server, MessageType.GET_TABLE_DIFF, client.get_mergeable_table_hashes())
    server.set_cell("t", "r", "d", 2)
    assert catch_up(server, client, told=told) == [5, 6, 7]
    assert server.get_tables() == {"t": {"r": {"c": 1, "d": 2}}}


def test_not_told_enough() -> None:
    """Questions for some of the tables only, or for none, do not do."""
    server = new_store().set_cell("t", "r", "c", 1)
    told = Heard()
    assert not told.shortens()
    told.note(server, MessageType.GET_TABLE_DIFF, {"t": 1})
    assert not told.shortens()
    told.note(server, MessageType.GET_CELL_DIFF, {"t": {"r": {"c": 1}}})
    assert not told.shortens()
    told.note(server, MessageType.GET_ROW_DIFF, {"t": {"r": 1, "s": 2}, "unknown": {"r": 1}})
    assert told.tells_tables()
    assert told.rows == {"t": ["r", "s"], "unknown": ["r"]}
    told = Heard()
    told.note(server, MessageType.GET_VALUE_DIFF, {"v": 1})
    assert told.values
    assert not told.shortens()
    told.note(server, MessageType.GET_VALUE_DIFF, {})
    assert told.shortens()
    assert not told.tells_tables()


def test_more_rows_than_can_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question for what a peer has beyond them would not fit a frame."""
    monkeypatch.setattr("mergesync.sync.exchange.MAX_LISTED_ROWS", 1)
    one, other = new_store(), new_store("other")
    one.set_table("t", {"r": {"c": 1}, "s": {"c": 1}})
    other.set_cell("t", "q", "c", 1)
    with pytest.raises(LimitExceededError):
        run_pull(one, other)
