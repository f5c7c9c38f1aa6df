"""The eight kinds of messages, what each may carry, and their text (protocol section 9)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from mergesync.exceptions import ContentError, RemoteProtocolError
from mergesync.store.bodies import WIRE, check_tables, check_values
from mergesync.store.jsjson import dumps, parse

__all__ = ["EncodedBody", "Message", "MessageType", "Shape", "decode_message", "encode_array", "encode_message"]

_MAX_HASH = 2**32 - 1


class MessageType(enum.IntEnum):
    """What a message is, by its number on the wire."""

    RESPONSE = 0
    GET_CONTENT_HASHES = 1
    CONTENT_HASHES = 2
    CONTENT_DIFF = 3
    GET_TABLE_DIFF = 4
    GET_ROW_DIFF = 5
    GET_CELL_DIFF = 6
    GET_VALUE_DIFF = 7


_TYPES: Final = tuple(MessageType)


class Shape(enum.Enum):
    """What the body of a response consists of; nothing on the wire says it."""

    HASHES = enum.auto()
    TABLES = enum.auto()
    VALUES = enum.auto()
    TABLE_DIFF = enum.auto()
    ROW_DIFF = enum.auto()


@dataclass(slots=True)  # frozen, it would take four times as long to make
class Message:
    """One message between two synchronizers. Nobody changes it.

    Attributes:
        request_id: an answer carries the id of what it answers; None is allowed.
        type: what it is.
        body: JSON of the form that the type asks for.
        newest: the greatest HLC in the body of a message that was decoded.
        shape: what a response that was decoded consists of.
    """

    request_id: str | None
    type: MessageType
    body: Any
    newest: str = field(default="", compare=False)
    shape: Shape | None = field(default=None, compare=False)


_Checked: TypeAlias = tuple[str, Shape | None]
_NOTHING_NOTED: _Checked = ("", None)


def encode_message(message: Message) -> str:
    """The text of a message.

    Example:
        >>> encode_message(Message("r", MessageType.GET_CONTENT_HASHES, ""))
        '["r",1,""]'
    """
    if message.body.__class__ is EncodedBody:
        return f"[{encode_array(message.request_id)},{int(message.type)},{message.body.text}]"
    return encode_array([message.request_id, int(message.type), message.body])


def encode_array(array: Any) -> str:
    """The text of what travels, to read which any JSON will do."""
    try:
        return orjson.dumps(array).decode()
    except TypeError:  # a lone surrogate
        return dumps(array)


class EncodedBody:
    """A body of which only the text was made, once however often it is sent.

    Args:
        text: its JSON.

    Attributes:
        text: see above.

    Example:
        >>> encode_message(Message("r", MessageType.RESPONSE, EncodedBody("[{}]")))
        '["r",0,[{}]]'
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: str = text


def decode_message(text: str) -> Message:
    """Read and check a message from a stranger.

    Raises:
        RemoteProtocolError: it is not one; its socket is to be closed with 1007.

    Example:
        >>> decode_message('["r",2,[0,1]]').body
        [0, 1]
    """
    try:
        array = parse(text)
    except ValueError as error:
        raise RemoteProtocolError("not JSON", excerpt=text) from error
    if not isinstance(array, list) or len(array) != 3:
        raise RemoteProtocolError("not an array of three", excerpt=text)
    request_id, number, body = array
    if request_id is not None and (not isinstance(request_id, str) or request_id == "\ufffc"):
        raise RemoteProtocolError("a request id must be a string or null", excerpt=text)
    if not _is_integer(number) or not 0 <= number < len(_TYPES):
        raise RemoteProtocolError("unknown type of message", excerpt=text)
    kind = _TYPES[int(number)]
    try:
        newest, shape = _CHECKS[kind](body)
    except ContentError as error:
        raise RemoteProtocolError(f"{kind.name.lower()}: {error}", excerpt=text) from error
    return Message(request_id, kind, body, newest, shape)


def _is_integer(number: Any) -> bool:
    return type(number) is int or (type(number) is float and number.is_integer())


def _is_hash(number: Any) -> bool:
    return _is_integer(number) and 0 <= number <= _MAX_HASH


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ContentError(what)


def _check_nothing(body: Any) -> _Checked:
    _require(body == "", "the body must be empty")
    return _NOTHING_NOTED


def _is_hash_pair(body: Any) -> bool:
    return isinstance(body, list) and len(body) == 2 and _is_hash(body[0]) and _is_hash(body[1])


def _check_hash_pair(body: Any) -> _Checked:
    _require(_is_hash_pair(body), "not two hashes")
    return _NOTHING_NOTED


def _hash_tree_check(depth: int) -> Callable[[Any], _Checked]:
    def check(body: Any) -> _Checked:
        _check_hash_tree(body, depth)
        return _NOTHING_NOTED

    return check


def _check_hash_tree(tree: Any, depth: int) -> None:
    _require(isinstance(tree, dict), f"not a tree of hashes of depth {depth}")
    for child in tree.values():
        if depth > 1:
            _check_hash_tree(child, depth - 1)
        elif type(child) is not int or not 0 <= child <= _MAX_HASH:
            _require(_is_hash(child), "not a hash")


def _check_changes(body: Any) -> _Checked:
    _require(isinstance(body, list) and len(body) in (2, 3), "not tables and values")
    _require(len(body) == 2 or (_is_integer(body[2]) and body[2] == 1), "the third element must be 1")
    return max(check_tables(body[0], WIRE), check_values(body[1], WIRE)), None


def _check_response(body: Any) -> _Checked:
    """Two hashes, or a stamp of tables or values, or a stamp of tables with hashes of tables or rows."""
    if _is_hash_pair(body):
        return "", Shape.HASHES
    _require(isinstance(body, list) and len(body) > 0, "not a response")
    if isinstance(body[0], list):
        _require(len(body) == 2, "not a diff")
        return check_tables(body[0], WIRE), _check_table_or_row_hashes(body[1])
    try:
        return check_tables(body, WIRE), Shape.TABLES
    except ContentError:
        return check_values(body, WIRE), Shape.VALUES


def _check_table_or_row_hashes(tree: Any) -> Shape:
    _require(isinstance(tree, dict), "not hashes")
    nested = any(isinstance(child, dict) for child in tree.values())
    _check_hash_tree(tree, 2 if nested else 1)
    return Shape.ROW_DIFF if nested else Shape.TABLE_DIFF


_CHECKS: dict[MessageType, Callable[[Any], _Checked]] = {
    MessageType.RESPONSE: _check_response,
    MessageType.GET_CONTENT_HASHES: _check_nothing,
    MessageType.CONTENT_HASHES: _check_hash_pair,
    MessageType.CONTENT_DIFF: _check_changes,
    MessageType.GET_TABLE_DIFF: _hash_tree_check(1),
    MessageType.GET_ROW_DIFF: _hash_tree_check(2),
    MessageType.GET_CELL_DIFF: _hash_tree_check(3),
    MessageType.GET_VALUE_DIFF: _hash_tree_check(1),
}
