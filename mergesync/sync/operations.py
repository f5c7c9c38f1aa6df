"""Operations: what two mergesync ends say beyond TinyBase's messages (docs/protocol.md).

An operation is a frame `X`, newline, JSON `[request id or null, name, body]`, between a client and the server, once
both have agreed on a subprotocol of mergesync. `X` can be no client id, so no message is addressed like that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mergesync.exceptions import RemoteProtocolError
from mergesync.store.jsjson import parse
from mergesync.sync.messages import encode_array

__all__ = [
    "ACT", "ASK", "COMPARE", "COMPARE_AND_SET", "ERROR", "EXCHANGES", "HELLO", "MESSAGE", "NAME", "OK", "OPERATIONS",
    "PRESENCE", "REFUSED", "SEND", "SINCE", "STORED", "TOKEN", "UNNAMED", "Operation", "decode_operation",
    "operation_remainder",
]  # fmt: skip

OPERATIONS = "X"
"""The address of operations."""

HELLO = "hello"
"""Who are you, and what time is it? With a body, it asks what `SINCE` asks, too."""

SINCE = "since"
"""What has changed, and take this: `[[cursor, id of the last message since] or null, changes or null]`."""

STORED = "stored"
"""Tell me when all that I have said is stored; the body says whether to hurry."""

COMPARE_AND_SET = "cas"
"""Make changes if this is still the version: `[version, [tables, values]]`."""

NAME = "name"
"""Call me so on this path: `[name or null, secret]`."""

PRESENCE = "presence"
"""Say this of me to all who see who is here: `{cell id: cell}`, in place of what I had you say before."""

ACT = "act"
"""Do what the application defines: `[name of the action, data, key or null, seconds]`."""

SEND = "send"
"""Pass a message on: `[names or null, message]`."""

ASK = "ask"
"""Pass a message on, and bring me the first answer: `[names or null, message, seconds]`."""

MESSAGE = "message"
"""From the server: somebody sends this: `[name or null, message]`; with a request id an answer is wanted."""

UNNAMED = "unnamed"
"""From the server: another has your name now; the body says why."""

REFUSED = "refused"
"""From the server: you are not on the path of this channel, or no longer; the body is `[reason, text]`."""

TOKEN = "token"
"""Take this token, the body, in place of the one with which I came."""

COMPARE = "compare"
"""What do you have in these ranges of rows (see `comparison`)?"""

EXCHANGES = (HELLO, SINCE, COMPARE)
"""What the replica answers by itself; of an application only changes that come with it are asked."""

OK = "ok"
"""The answer to a request."""

ERROR = "error"
"""The answer to a request that failed: `[reason, text]`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        request_id: what the answer carries, or that of the request it answers; None if there is no answer.
        name: what it is.
        body: JSON, as its name says.
    """

    request_id: str | None
    name: str
    body: Any


def operation_remainder(operation: Operation) -> str:
    """An operation as it follows its address."""
    return encode_array([operation.request_id, operation.name, operation.body])


def decode_operation(remainder: str) -> Operation:
    """Read and check an operation.

    Raises:
        RemoteProtocolError: it is not one.

    Example:
        >>> decode_operation('["r1","stored",false]')
        Operation(request_id='r1', name='stored', body=False)
    """
    try:
        array = parse(remainder)
    except ValueError as error:
        raise RemoteProtocolError("not JSON", excerpt=remainder) from error
    if not isinstance(array, list) or len(array) != 3:
        raise RemoteProtocolError("not an operation", excerpt=remainder)
    request_id, name, body = array
    if not isinstance(name, str) or not isinstance(request_id, str | None):
        raise RemoteProtocolError("not an operation", excerpt=remainder)
    return Operation(request_id, name, body)
