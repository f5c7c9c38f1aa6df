"""What clients ask a path itself: whether all is stored, what they are called, and to pass messages on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from mergesync.exceptions import NameTakenError, RequestFailedError
from mergesync.limits import MAX_NAME_BYTES
from mergesync.sync.operations import ASK, ERROR, NAME, OK, SEND, STORED, Operation
from mergesync.sync.talk import Talk

__all__ = ["Answer", "Confirm", "Service"]

Answer: TypeAlias = Callable[[str, Any], None]
"""`(name, body)` of the operation that answers a request."""


class Confirm(Protocol):
    """Says when things are stored."""

    def __call__(self, client_id: str, *, hurry: bool, answer: Answer) -> None:
        """Answer a client when all that it has said so far is stored, or cannot be."""


class Service:
    """The operations of one path.

    Args:
        talk: the messages of the path.
        confirm: says when things are stored.
    """

    def __init__(self, talk: Talk, confirm: Confirm) -> None:
        self._talk = talk
        self._confirm = confirm
        self._services = {STORED: self._stored, NAME: self._name, SEND: self._send, ASK: self._ask}

    def operate(self, client_id: str, operation: Operation, now: float, answer: Answer) -> None:
        """A client asks for something.

        Args:
            client_id: the client.
            operation: what it asks for.
            now: seconds.
            answer: called once, unless the client leaves.
        """
        try:
            service = self._services.get(operation.name)
            if service is None:
                raise RequestFailedError(f"no operation {operation.name!r:.40}", "unknown")
            service(client_id, operation.body, now, answer)
        except RequestFailedError as error:
            answer(ERROR, [error.reason, error.args[0]])

    def _stored(self, client_id: str, body: Any, _now: float, answer: Answer) -> None:
        self._confirm(client_id, hurry=body is True, answer=answer)

    def _name(self, client_id: str, body: Any, _now: float, answer: Answer) -> None:
        match body:
            case [str(name), str(secret)] if 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES:
                try:
                    self._talk.take_name(client_id, name, secret)
                except NameTakenError as error:
                    raise RequestFailedError(error.args[0], "name-taken") from error
                answer(OK, name)
            case _:
                raise _invalid(f"a name of 1 to {MAX_NAME_BYTES} bytes, and a secret")

    def _send(self, client_id: str, body: Any, _now: float, answer: Answer) -> None:
        match body:
            case [to, message] if _are_names(to):
                self._check_name(client_id)
                answer(OK, self._talk.send(client_id, to, message))
            case _:
                raise _invalid("names or null, and a message")

    def _ask(self, client_id: str, body: Any, now: float, answer: Answer) -> None:
        match body:
            case [to, message, (int() | float()) as seconds] if _are_names(to):
                self._check_name(client_id)
                self._talk.ask(client_id, to, message, seconds, now, answer)
            case _:
                raise _invalid("names or null, a message, and seconds")

    def _check_name(self, client_id: str) -> None:
        if self._talk.names.name_of(client_id) is None:
            raise RequestFailedError("who has no name cannot send messages", "no-name")


def _are_names(to: Any) -> bool:
    return to is None or (isinstance(to, list) and all(isinstance(name, str) for name in to))


def _invalid(wanted: str) -> RequestFailedError:
    return RequestFailedError(f"the body must be: {wanted}", "invalid")
