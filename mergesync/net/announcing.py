"""What a client says of itself to all who see who is on its path."""

from __future__ import annotations

from typing import Any

from mergesync.exceptions import RequestFailedError
from mergesync.sync.operations import OK, PRESENCE, Operation
from mergesync.system import new_id

__all__ = ["Announcing"]

_ID_LENGTH = 11


class Announcing:
    """Says on each new connection what was said before.

    Attributes:
        cells: what it says; None for nothing.
    """

    def __init__(self) -> None:
        self.cells: dict[str, Any] | None = None
        self._request_id = ""

    def repeat(self) -> Operation | None:
        """What to send on a new connection."""
        if self.cells is None:
            return None
        self._request_id = new_id(_ID_LENGTH)
        return Operation(self._request_id, PRESENCE, self.cells)

    def take(self, operation: Operation) -> bool:
        """Take an operation if it answers that; whether it does.

        Raises:
            RequestFailedError: the server does not take any more what it took before.
        """
        if operation.request_id != self._request_id:
            return False
        if operation.name != OK:
            raise RequestFailedError(
                f"the server no longer says of the client what it did: {operation.body!s:.200}", "refused"
            )
        return True
