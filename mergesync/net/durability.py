"""What a server has confirmed to have stored of a store, and who waits for that.

One question at a time is under way, and one more if somebody is in a hurry; what is written meanwhile is asked about
with the next. So a burst of writes costs few questions, a slow disk even fewer, and who only reads costs none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from mergesync.exceptions import NotDurableError, NotSupportedError
from mergesync.limits import MAX_PAGE_BYTES
from mergesync.store import MergeableStore
from mergesync.store.unsaved import Unsaved
from mergesync.sync.admission import body_within, is_empty, leaves_of
from mergesync.sync.operations import OK, Operation
from mergesync.types import MergeableChanges
from mergesync.waiting import settle

__all__ = ["Durability", "PendingLeaf"]

PendingLeaf: TypeAlias = tuple[str, str, str] | tuple[str]
"""`(table id, row id, cell id)` or `(value id,)`."""


@dataclass(slots=True)
class _Question:
    """A question that the server has not answered: what it is about, and who waits for the answer."""

    unsaved: Unsaved
    is_first: bool  # and so about all that was there before
    waiters: list[asyncio.Future[None]]


class Durability:
    """What is pending, and who waits until it is not.

    Args:
        store: the store.
        ask: asks the server to tell when all that was sent is stored: `ask(hurry)`, returns the id of the request.
    """

    def __init__(self, store: MergeableStore, ask: Callable[[bool], str]) -> None:
        self._store = store
        self._ask = ask
        self._unsaved = Unsaved()
        self._knows_nothing = True  # nobody knows what the server has stored of what was there before
        self._has_told_all = False  # the server has got all that is not in `_unsaved` or asked about
        self._worth_asking = False  # something was written since the last question, or somebody wants to know
        self._has_failed = False  # and nothing was written since; it is asked again on the next connection
        self._waiters: list[asyncio.Future[None]] = []
        self._asked: dict[str, _Question] = {}
        self._supported: bool | None = None  # while a connection is live

    # --- what the application wants

    @property
    def pending(self) -> list[PendingLeaf]:
        """What was written here, and the server has not confirmed to have stored."""
        if self._knows_nothing or any(question.is_first for question in self._asked.values()):
            self._worth_asking = True
            self._ask_if_needed()
            changes = [self._store.get_mergeable_content()]
        else:
            changes = self._parts()
        leaves = dict.fromkeys(leaf for each in changes for leaf, _ in leaves_of(each))
        return [(leaf_id,) if table_id is None else (table_id, row_id, leaf_id) for table_id, row_id, leaf_id in leaves]

    def unconfirmed(self) -> MergeableChanges | None:
        """What the server may not have got; None if nobody knows, or it is more than a page."""
        if not self._has_told_all:
            return None
        return body_within(MAX_PAGE_BYTES, chain.from_iterable(map(leaves_of, self._parts())))

    def _parts(self) -> list[MergeableChanges]:
        return [*(question.unsaved.changes for question in self._asked.values()), self._unsaved.changes]

    async def durable(self) -> None:
        """Return when all that was written before is stored."""
        if self._supported is False:
            raise _unsupported()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._ask_if_needed()
        await waiter

    # --- what happens to the store and its connection

    def written(self, changes: MergeableChanges) -> None:
        """These stamps were written here, and sent if there is a live connection."""
        if self._supported is not False and not is_empty(changes):
            self._unsaved.add(changes)
            self._worth_asking = True
            self._ask_if_needed()

    def overwritten(self, changes: MergeableChanges) -> None:
        """These stamps came from the server."""
        for question in self._asked.values():
            question.unsaved.discard(changes)
        self._unsaved.discard(changes)

    def live(self, *, supported: bool) -> None:
        """The server has been told of all that it may lack.

        Args:
            supported: whether it knows what mergesync adds to TinyBase. If not, what was sent is not pending.
        """
        self._supported = self._has_told_all = supported
        if supported:
            self._ask_if_needed()
        else:
            self._unsaved = Unsaved()
            self._knows_nothing = False
            self._fail(_unsupported())

    def lost(self) -> None:
        """There is no live connection; what was not answered is asked again on the next."""
        self._supported = None
        self._worth_asking |= self._has_failed or bool(self._asked)
        for question in reversed(self._asked.values()):
            self._put_back(question)
            self._waiters = question.waiters + self._waiters
        self._asked.clear()

    def close(self, error: Exception) -> None:
        """There will be no connection any more."""
        self.lost()
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        waiters, self._waiters = self._waiters, []
        settle(waiters, error)

    # --- questions and answers

    def _ask_if_needed(self) -> None:
        hurry = any(not waiter.done() for waiter in self._waiters)
        if not self._supported or not (hurry or self._worth_asking):
            return
        if self._asked and not (hurry and not any(question.waiters for question in self._asked.values())):
            return
        question = _Question(self._unsaved, self._knows_nothing, self._waiters)
        self._unsaved, self._waiters, self._worth_asking, self._knows_nothing = Unsaved(), [], False, False
        self._has_failed = False
        self._asked[self._ask(hurry)] = question

    def answered(self, operation: Operation) -> None:
        """The server answers; what was asked before that question is answered with it."""
        if operation.request_id not in self._asked:
            return
        if operation.name == OK:
            confirmed = [self._asked.pop(request_id) for request_id in self._until(operation.request_id)]
            is_stored = isinstance(operation.body, dict) and operation.body.get("stored") is True
            for question in confirmed:
                settle(question.waiters, None if is_stored else NotDurableError("the path has no storage", "storage"))
        else:
            question = self._asked.pop(operation.request_id)
            self._put_back(question)
            settle(question.waiters, _not_durable(operation.body))
            self._has_failed = True
        self._ask_if_needed()

    def _put_back(self, question: _Question) -> None:
        """A question has no answer, or none that helps."""
        self._unsaved.put_back(question.unsaved)
        self._knows_nothing |= question.is_first

    def _until(self, request_id: str) -> list[str]:
        request_ids = list(self._asked)
        return request_ids[: request_ids.index(request_id) + 1]


def _not_durable(body: Any) -> NotDurableError:
    """What the server says of the failure, if it says it as it should."""
    match body:
        case [str(reason), str(text)]:
            return NotDurableError(text, reason)
        case _:
            return NotDurableError("the server could not do it", "unknown")


def _unsupported() -> NotSupportedError:
    return NotSupportedError("the server does not speak mergesync.v1, and does not tell what it has stored")
