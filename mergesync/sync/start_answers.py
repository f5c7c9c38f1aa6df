"""All answers to the question with which a synchronizer starts.

TinyBase uses the first one only, and so may never get what the one who gave it was lacking (surprise 16). Here the
others with other hashes wait until the first pull is over: most of what they have is the same.
"""

from __future__ import annotations

from collections import deque

from mergesync.exceptions import LimitExceededError
from mergesync.limits import MAX_WAITING_CONVERSATIONS
from mergesync.sync.messages import Message, Shape

__all__ = ["StartAnswers"]


class StartAnswers:
    """The answers to one question for hashes that went to everyone.

    Args:
        transaction_id: the first part of the ids of the question, however often it is asked.

    Attributes:
        waiting: who is still to be pulled from, with its hashes.
    """

    def __init__(self, transaction_id: str) -> None:
        self.waiting: deque[tuple[str, list[int]]] = deque()
        self._request_ids_begin = f"{transaction_id}."
        self._known: set[tuple[int, ...]] = set()

    def know(self, hashes: list[int]) -> None:
        """Somebody with these hashes is being pulled from; others who have the same need not be."""
        self._known.add(tuple(hashes))

    def note(self, sender: str, message: Message) -> None:
        """Take note of an answer, if it is one to this question and tells of something else.

        Raises:
            LimitExceededError: too many differ.
        """
        if message.shape is not Shape.HASHES or not (message.request_id or "").startswith(self._request_ids_begin):
            return
        hashes = message.body
        if tuple(hashes) in self._known:
            return
        if len(self._known) >= MAX_WAITING_CONVERSATIONS:
            raise LimitExceededError(f"more than {MAX_WAITING_CONVERSATIONS} answers that differ", limit="requests")
        self.know(hashes)
        self.waiting.append((sender, hashes))
