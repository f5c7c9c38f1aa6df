"""Messages that come to a client from others on its path, and its answers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from mergesync.limits import MAX_MESSAGES_BEING_ANSWERED
from mergesync.net.reporting import Reporter
from mergesync.net.requests import PostOperation
from mergesync.sync.operations import ERROR, OK, Operation

__all__ = ["Mailbox", "MessageListener"]

MessageListener: TypeAlias = Callable[[str | None, Any], Any]
"""`(name of the sender, or None for the server, message)`, plain or async; returns the answer, None if it has none."""


class Mailbox:
    """Who listens to messages.

    Args:
        post: sends an operation.
        report: hears what listeners raise.
    """

    def __init__(self, post: PostOperation, report: Reporter) -> None:
        self._post = post
        self._report = report
        self._listeners: dict[str, MessageListener] = {}
        self._next_id = 0
        self._answering: set[asyncio.Task[None]] = set()

    def add(self, listener: MessageListener) -> str:
        """Add a listener; returns an id that is unlike those of other listeners."""
        listener_id = f"message{self._next_id}"
        self._next_id += 1
        self._listeners[listener_id] = listener
        return listener_id

    def remove(self, listener_id: str) -> None:
        """Remove a listener, if it is one."""
        self._listeners.pop(listener_id, None)

    def received(self, operation: Operation) -> None:
        """A message comes; the first listener that has an answer gives it."""
        match operation.body:
            case [str() | None as sender, message]:
                pass
            case _:
                return self._answer(operation, None)
        if len(self._answering) >= MAX_MESSAGES_BEING_ANSWERED:
            return self._answer(operation, None)
        task = asyncio.create_task(self._hear(operation, sender, message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        return None

    async def _hear(self, operation: Operation, sender: str | None, message: Any) -> None:
        answer: Any = None
        for listener in list(self._listeners.values()):
            try:
                result = listener(sender, message)
                if inspect.isawaitable(result):
                    result = await result
            except Exception as error:
                self._report(error)
            else:
                answer = result if answer is None else answer
        self._answer(operation, answer)

    def _answer(self, operation: Operation, answer: Any) -> None:
        if operation.request_id is not None:
            name, body = (ERROR, ["no-answer", "no listener has an answer"]) if answer is None else (OK, answer)
            self._post(Operation(operation.request_id, name, body))

    def close(self) -> None:
        """Answer nothing any more."""
        for task in self._answering:
            task.cancel()
