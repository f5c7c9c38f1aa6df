"""What a client wants to be called on a path, and whether it is."""

from __future__ import annotations

from typing import Any

from mergesync.exceptions import NameTakenError
from mergesync.sync.operations import NAME, OK, UNNAMED, Operation
from mergesync.system import new_id

__all__ = ["Naming"]

_ID_LENGTH = 11
_SECRET_LENGTH = 21


class Naming:
    """The name of a client; it asks for it on each connection.

    Args:
        wanted: what it wants to be called; None for nothing.

    Attributes:
        name: what it is called; None while it is not.
    """

    def __init__(self, wanted: str | None) -> None:
        self.name: str | None = None
        self._wanted = wanted
        self._secret = new_id(_SECRET_LENGTH)  # a connection that died unnoticed does not keep the name from us
        self._request_id = ""

    def ask(self) -> Operation | None:
        """What to send on a new connection."""
        self.name = None
        if self._wanted is None:
            return None
        self._request_id = new_id(_ID_LENGTH)
        return Operation(self._request_id, NAME, [self._wanted, self._secret])

    def closed(self) -> None:
        """The connection is gone, and with it the name."""
        self.name = None

    def take(self, operation: Operation) -> bool:
        """Take an operation if it is about the name; whether it was.

        Raises:
            NameTakenError: it is another's.
        """
        if operation.name == UNNAMED:
            self.name = None
            raise NameTakenError(f"another client has taken the name {self._wanted!r:.80}")
        if operation.request_id != self._request_id:
            return False
        if operation.name == OK:
            self.name = self._wanted
            return True
        raise NameTakenError(_text(operation.body))


def _text(body: Any) -> str:
    """What the server says of the failure, if it says it as it should."""
    match body:
        case [str(), str(text), *_]:
            return text
        case _:
            return "the server does not give that name"
