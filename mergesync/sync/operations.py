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
    "COMPARE",
    "ERROR",
    "HELLO",
    "OK",
    "OPERATIONS",
    "STORED",
    "Operation",
    "decode_operation",
    "operation_remainder",
]

OPERATIONS = "X"
"""The address of operations."""

HELLO = "hello"
"""Who are you, and what time is it?"""

STORED = "stored"
"""Tell me when all that I have said is stored; the body says whether to hurry."""

COMPARE = "compare"
"""What do you have in these ranges of rows (see `comparison`)?"""

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
