"""Answers to the start's question: which are of use, and how many."""

from __future__ import annotations

import pytest

from mergesync.exceptions import LimitExceededError
from mergesync.sync import start_answers
from mergesync.sync.messages import MessageType
from mergesync.sync.start_answers import StartAnswers

from .kit import heard


def test_which_wait() -> None:
    """Answers to this question, with hashes that nobody else has told."""
    answers = StartAnswers("t")
    answers.know([0, 1])
    for sender, request_id, body in [
        ("A", "t.1", [0, 1]),
        ("B", "t.2", [0, 2]),
        ("C", "t.1", [0, 2]),
        ("D", "other.1", [0, 3]),
        ("E", "t", [0, 3]),
        ("F", None, [0, 3]),
        ("G", "t.1", [{}]),
        ("H", "t.1", [3, 0]),
    ]:
        answers.note(sender, heard(MessageType.RESPONSE, body, request_id))
    assert list(answers.waiting) == [("B", [0, 2]), ("H", [3, 0])]


def test_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on all that differ, whether they still wait or not."""
    monkeypatch.setattr(start_answers, "MAX_WAITING_CONVERSATIONS", 2)
    answers = StartAnswers("t")
    answers.know([0, 1])
    answers.note("A", heard(MessageType.RESPONSE, [0, 2], "t.1"))
    answers.waiting.clear()
    with pytest.raises(LimitExceededError):
        answers.note("B", heard(MessageType.RESPONSE, [0, 3], "t.1"))
    assert not answers.waiting
