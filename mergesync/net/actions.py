"""What the application lets clients ask the server to do, and what was done for requests that may come twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mergesync.limits import MAX_REMEMBERED_BYTES, MAX_REMEMBERED_RESULTS
from mergesync.net.server_path import ServerPath
from mergesync.rooms.access import Client
from mergesync.store.jsjson import dumps

__all__ = ["ActionHandler", "ActionKey", "Actions"]

ActionHandler: TypeAlias = Callable[[ServerPath, Client, Any], Any]
"""`(path, client, data)`; may be async; returns JSON."""

ActionKey: TypeAlias = tuple[str, str | None, str, str]
"""`(path id, name of the identity, name of the action, the client's key)`: one request, however often it comes."""

_Answer: TypeAlias = Callable[[str, Any], None]


@dataclass(slots=True)
class _Request:
    """A request that may come again.

    Attributes:
        waiting: who wants to know what came of it, while it is under way.
        outcome: `(name, body)` of the answer, then.
        size: bytes of that.
    """

    waiting: list[_Answer] = field(default_factory=list)
    outcome: tuple[str, Any] | None = None
    size: int = 0


class Actions:
    """The actions of a server. What came of requests is remembered over connections, but not over a restart."""

    def __init__(self) -> None:
        self.handlers: dict[str, ActionHandler] = {}
        self._requests: OrderedDict[ActionKey, _Request] = OrderedDict()
        self._size = 0

    def recall(self, key: ActionKey, answer: _Answer) -> bool:
        """Answer a request that came before, now or when it is done; whether it did. If not, it is under way now."""
        request = self._requests.get(key)
        if request is None:
            self._requests[key] = _Request([answer])
            return False
        if request.outcome is None:
            request.waiting.append(answer)
        else:
            answer(*request.outcome)
        return True

    def finish(self, key: ActionKey, name: str, body: Any) -> None:
        """A request is done: all who wait hear what came of it, and who comes again will."""
        request = self._requests[key]
        waiting, request.waiting = request.waiting, []
        request.outcome, request.size = (name, body), len(dumps(body))
        self._size += request.size
        self._requests.move_to_end(key)
        self._forget()
        for answer in waiting:
            answer(name, body)

    def _forget(self) -> None:
        """Forget what was done longest ago; what is under way is bounded by the requests that clients may have open."""
        for key in list(self._requests):
            if len(self._requests) <= MAX_REMEMBERED_RESULTS and self._size <= MAX_REMEMBERED_BYTES:
                return
            if self._requests[key].outcome is not None:
                self._size -= self._requests.pop(key).size
