"""What a mergesync server tells of itself when a connection begins: who it is, and what time it is there."""

from __future__ import annotations

from mergesync.store import MergeableStore
from mergesync.sync.operations import OK, Operation
from mergesync.system import new_id

__all__ = ["Greeting"]

_ID_LENGTH = 11


class Greeting:
    """The answer to the last hello.

    Attributes:
        client_id: what the server calls this client on its paths.
        server_id: which server it was; another one after a restart. None before the first answer.
        round_trip_seconds: how long the answer took.
        too_early: the least HLC that was refused because it is too far ahead of the clock here, since the last answer.
    """

    def __init__(self) -> None:
        self.client_id: str | None = None
        self.server_id: str | None = None
        self.round_trip_seconds: float = 0.0
        self.too_early: str | None = None
        self._request_id = ""
        self._asked_at = 0.0

    def ask(self, now: float) -> str:
        """The id of a new request; only its answer counts from now on."""
        request_id = new_id(_ID_LENGTH)
        self.asked(request_id, now)
        return request_id

    def asked(self, request_id: str, now: float) -> None:
        """There is a new request; only its answer counts from now on."""
        self._request_id, self._asked_at = request_id, now

    def take_answer(self, operation: Operation, store: MergeableStore, now: float) -> bool:
        """Take an operation if it is the answer, and let the store stamp in the server's time; whether it was.

        The server's clock was read at some moment of the round trip, of which the time is no part for which the server
        held the question. A clock that agrees with that is left alone.
        """
        if operation.request_id != self._request_id:
            return False
        body = operation.body
        if operation.name == OK and isinstance(body, dict):
            held = body.get("held")
            held_seconds = held / 1000 if isinstance(held, int | float) else 0.0
            self.round_trip_seconds = max(0.0, now - self._asked_at - held_seconds)
            if isinstance(server_id := body.get("server"), str):
                self.server_id = server_id
            if isinstance(client_id := body.get("client"), str):
                self.client_id = client_id
            if isinstance(server_now := body.get("now"), int | float):
                half_milliseconds = self.round_trip_seconds * 500
                store.set_clock(int(server_now + half_milliseconds), tolerance_milliseconds=int(half_milliseconds) + 1)
        return True
