"""What a client asks the server itself, and the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergesync.exceptions import (
    ConnectionLostError,
    NotSupportedError,
    RemoteProtocolError,
    RequestFailedError,
    RequestTimeoutError,
    StaleVersionError,
    SyncError,
)
from mergesync.limits import MAX_PENDING_REQUESTS
from mergesync.sync.operations import OK, Operation
from mergesync.sync.talk import SendResult
from mergesync.system import new_id
from mergesync.types import MISSING

__all__ = ["PostOperation", "Requests", "failure_of", "send_result"]

_ID_LENGTH = 11

PostOperation: TypeAlias = Callable[[Operation], None]
"""Sends an operation; only while connected to a server that knows them."""


def send_result(body: Any) -> SendResult:
    """What the server says of a message.

    Raises:
        RemoteProtocolError: it is no such thing.
    """
    match body:
        case {"delivered": list() as delivered, "unknown": list() as unknown, "unreachable": list() as unreachable}:
            return SendResult(tuple(delivered), tuple(unknown), tuple(unreachable))
        case _:
            raise RemoteProtocolError("not what became of a message", excerpt=repr(body))


@dataclass(slots=True, eq=False)
class _Request:
    """A request that is not answered.

    Attributes:
        operation: what was asked.
        repeated: whether it may be asked again on the next connection, as the server does it once all the same.
        answer: its future answer.
        sent: whether it went out on the present connection.
    """

    operation: Operation
    repeated: bool
    answer: asyncio.Future[Any]
    sent: bool = False


class Requests:
    """The requests of one store on one channel. Those made while there is no connection wait for one.

    Args:
        post: sends an operation.
    """

    def __init__(self, post: PostOperation) -> None:
        self._post = post
        self._requests: dict[str, _Request] = {}
        self._supported: bool | None = None  # while there is a connection
        self._places = asyncio.Semaphore(MAX_PENDING_REQUESTS)

    async def ask(self, name: str, body: Any, timeout_seconds: float, *, repeated: bool = False) -> Any:
        """Ask the server, and return the result.

        Args:
            name: of the operation.
            body: JSON.
            timeout_seconds: how long to wait, for a connection and for the answer.
            repeated: whether to ask again on the next connection when this one is lost.

        Raises:
            RequestFailedError: the server says no.
            RequestTimeoutError: there is no answer in time; it may have been done nevertheless.
            ConnectionLostError: the connection was lost meanwhile, likewise.
            NotSupportedError: the server does not speak `mergesync.v1`.
        """
        request = _Request(Operation(new_id(_ID_LENGTH), name, body), repeated, asyncio.Future())
        try:
            async with asyncio.timeout(timeout_seconds), self._places:
                self._requests[request.operation.request_id or ""] = request
                self._send(request)
                return await request.answer
        except TimeoutError as error:
            raise RequestTimeoutError(f"no answer to {name!r} in {timeout_seconds:g} s") from error
        finally:
            self._requests.pop(request.operation.request_id or "", None)

    def _send(self, request: _Request) -> None:
        if self._supported:
            request.sent = True
            self._post(request.operation)
        elif self._supported is False:
            _fail(request, NotSupportedError("the server does not speak mergesync.v1"))

    def opened(self, *, supported: bool) -> None:
        """There is a connection."""
        self._supported = supported
        for request in list(self._requests.values()):
            self._send(request)

    def closed(self) -> None:
        """There is none any more; what was sent and may not be repeated fails."""
        self._supported = None
        for request in self._requests.values():
            if request.sent and not request.repeated:
                _fail(request, ConnectionLostError("the connection was lost before the answer came"))
            request.sent = False

    def fail(self, error: SyncError) -> None:
        """There will be no connection any more."""
        for request in self._requests.values():
            _fail(request, error)

    def answered(self, operation: Operation) -> None:
        """The server answers something."""
        request = self._requests.get(operation.request_id or "")
        if request is None or request.answer.done():
            return
        if operation.name == OK:
            request.answer.set_result(operation.body)
        else:
            request.answer.set_exception(failure_of(operation.body))


def _fail(request: _Request, error: SyncError) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)


def failure_of(body: Any) -> RequestFailedError | StaleVersionError:
    """What the server says of the failure, if it says it as it should."""
    match body:
        case ["stale", str(text), {"version": str(version), "content": list(content)}]:
            return StaleVersionError(text, version=version, content=content[0] if content else MISSING)
        case [str(reason), str(text), *details]:
            return RequestFailedError(text, reason, details[0] if details else None)
        case _:
            return RequestFailedError("the server could not do it", "unknown", None)
