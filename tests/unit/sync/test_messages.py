"""The eight kinds of messages and what each may carry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergesync.exceptions import RemoteProtocolError
from mergesync.sync.messages import EncodedBody, Message, MessageType, Shape, decode_message, encode_message

from ..store.kit import hlc

MAX_HASH = 2**32 - 1
ONE, TWO = hlc(1), hlc(2)
TABLES = [{"t": [{"r": [{"c": [1, ONE]}]}]}]
VALUES = [{"v": [1, TWO]}]


def decoded(number: Any, body: Any, request_id: Any = "r") -> Message:
    """A message that came as text."""
    return decode_message(json.dumps([request_id, number, body]))


@pytest.mark.parametrize("request_id", ["r", "", None, "\ud800"])
@pytest.mark.parametrize("body", ["", [1, 2], {"t": "é"}, ["\udfff"]])
def test_a_message_is_read_as_it_was_written(request_id: str | None, body: Any) -> None:
    """The text is JSON of id, number and body, lone surrogates included."""
    text = encode_message(Message(request_id, MessageType.CONTENT_HASHES, body))
    assert encode_message(Message(request_id, MessageType.CONTENT_HASHES, EncodedBody(body))) == text
    assert json.loads(text) == [request_id, 2, body]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nope", "not JSON"),
        ("{}", "array of three"),
        ("[1,2]", "array of three"),
        ('["r",1,"",0]', "array of three"),
        ('[1,1,""]', "request id"),
        ('[false,1,""]', "request id"),
        ('["\ufffc",1,""]', "request id"),
        ('["r",8,""]', "unknown type"),
        ('["r",-1,""]', "unknown type"),
        ('["r",1.5,""]', "unknown type"),
        ('["r",true,""]', "unknown type"),
        ('["r","1",""]', "unknown type"),
        ('["r",null,""]', "unknown type"),
    ],
)
def test_what_is_no_message_is_refused(text: str, match: str) -> None:
    """The error shows what came."""
    with pytest.raises(RemoteProtocolError, match=match) as raised:
        decode_message(text)
    assert raised.value.excerpt == text


def test_a_number_may_be_written_as_a_float() -> None:
    """JavaScript does not tell 1 from 1.0."""
    assert decode_message('[null,1.0,""]').type is MessageType.GET_CONTENT_HASHES


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (1, ""),
        (2, [0, MAX_HASH]),
        (2, [1.0, 0]),
        (3, [[{}], [{}]]),
        (3, [[{}], [{}], 1]),
        (3, [[{}], [{}], 1.0]),
        (4, {}),
        (4, {"t": MAX_HASH, "u": 1.0}),
        (5, {"t": {"r": 0}, "u": {}}),
        (6, {"t": {"r": {"c": 1}, "q": {}}, "u": {}}),
        (7, {"v": 1}),
    ],
)
def test_bodies_of_questions_and_announcements(number: int, body: Any) -> None:
    """Each type takes the body of its own form, and keeps it."""
    message = decoded(number, body)
    assert (message.type, message.body, message.shape) == (number, body, None)


@pytest.mark.parametrize(
    ("number", "body"),
    [
        (1, " "),
        (1, None),
        (2, ""),
        (2, [0]),
        (2, [0, 0, 0]),
        (2, [-1, 0]),
        (2, [0, MAX_HASH + 1]),
        (2, [0, 0.5]),
        (2, [True, 0]),
        (3, {}),
        (3, [[{}]]),
        (3, [[{}], [{}], 2]),
        (3, [[{}], [{}], True]),
        (3, [[{}], [{}], 1, 1]),
        (3, [[{"t": 1}], [{}]]),
        (4, []),
        (4, {"t": -1}),
        (4, {"t": MAX_HASH + 1}),
        (4, {"t": 0.5}),
        (4, {"t": {}}),
        (5, {"t": 1}),
        (5, {"t": {"r": {}}}),
        (6, {"t": {"r": 1}}),
        (7, {"v": "1"}),
    ],
)
def test_bodies_of_another_form_are_refused(number: int, body: Any) -> None:
    """The error names the type of the message."""
    with pytest.raises(RemoteProtocolError, match=MessageType(number).name.lower()):
        decoded(number, body)


def test_the_greatest_hlc_of_changes_is_noted() -> None:
    """Whether it is in the tables or in the values."""
    assert decoded(3, [TABLES, VALUES, 1]).newest == TWO
    assert decoded(3, [[{}, hlc(3)], VALUES, 1]).newest == hlc(3)
    assert decoded(3, [[{}], [{}], 1]).newest == ""


@pytest.mark.parametrize(
    ("body", "shape", "newest"),
    [
        ([1, 2], Shape.HASHES, ""),
        (TABLES, Shape.TABLES, ONE),
        (VALUES, Shape.VALUES, TWO),
        ([{}], Shape.TABLES, ""),
        ([TABLES, {}], Shape.TABLE_DIFF, ONE),
        ([[{}], {"t": 1}], Shape.TABLE_DIFF, ""),
        ([TABLES, {"t": {"r": 1}}], Shape.ROW_DIFF, ONE),
        ([[{}], {"t": {}}], Shape.ROW_DIFF, ""),
    ],
)
def test_the_shape_of_a_response_is_noted(body: Any, shape: Shape, newest: str) -> None:
    """Nothing on the wire says it, the body shows it."""
    message = decoded(0, body)
    assert (message.shape, message.newest) == (shape, newest)


@pytest.mark.parametrize(
    "body",
    [
        "",
        {},
        [],
        [1, -2],
        [[{}]],
        [[{}], {}, 1],
        [[{}], []],
        [[{}], {"t": -1}],
        [[{}], {"t": {"r": 1}, "u": 1}],
        [[{"t": 1}], {}],
        [{"v": 1}],
        [{"v": [1, "bad"]}],
    ],
)
def test_responses_of_no_known_shape_are_refused(body: Any) -> None:
    """There is nothing that was asked for."""
    with pytest.raises(RemoteProtocolError, match="response"):
        decoded(0, body)


def test_what_is_noted_does_not_tell_messages_apart() -> None:
    """A message that came equals the one that was sent."""
    assert decoded(0, TABLES) == Message("r", MessageType.RESPONSE, TABLES)
