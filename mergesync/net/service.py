"""What clients ask a path itself: whether all is stored, to change something on a condition, to pass messages on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from mergesync.exceptions import MergesyncError, NameTakenError, RequestFailedError, StaleVersionError
from mergesync.limits import MAX_NAME_BYTES
from mergesync.sync.hub import Hub
from mergesync.sync.operations import ASK, COMPARE_AND_SET, ERROR, NAME, OK, SEND, STORED, Operation
from mergesync.sync.talk import Talk
from mergesync.sync.versions import compare_and_set, decode_edits
from mergesync.types import MISSING

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
        hub: of the path.
        talk: its messages.
        confirm: says when things are stored.
        report: hears what the application's listeners raise.
    """

    def __init__(self, hub: Hub, talk: Talk, confirm: Confirm, report: Callable[[Exception], None]) -> None:
        self._hub = hub
        self._talk = talk
        self._confirm = confirm
        self._report = report
        self._services = {
            STORED: self._stored,
            COMPARE_AND_SET: self._compare_and_set,
            NAME: self._name,
            SEND: self._send,
            ASK: self._ask,
        }

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

    def _compare_and_set(self, client_id: str, body: Any, _now: float, answer: Answer) -> None:
        match body:
            case [str(version), edits]:
                # What the client wrote before it asked counts, so that is merged first.
                self._hub.when_merged(client_id, lambda _: answer(*self._compared(version, edits)))
            case _:
                raise _invalid("a version, and [tables, values]")

    def _compared(self, version: str, edits: Any) -> tuple[str, Any]:
        store = self._hub.store
        if store is None:
            return ERROR, ["no-store", "the server only passes on what clients say, and has no store"]
        try:
            return OK, compare_and_set(store, version, decode_edits(edits))
        except StaleVersionError as error:
            present = {"version": error.version, "content": [error.content] if error.content is not MISSING else []}
            return ERROR, ["stale", error.args[0], present]
        except MergesyncError as error:
            return ERROR, ["invalid", str(error)]
        except Exception as error:
            self._report(error)
            return ERROR, ["failed", "the server could not do it"]

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
