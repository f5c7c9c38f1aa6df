"""Messages between clients, and questions of which the first answer counts."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import NameTakenError
from mergesync.limits import MAX_ASK_SECONDS
from mergesync.sync.names import NamePolicy
from mergesync.sync.operations import ERROR, MESSAGE, OK, UNNAMED, Operation
from mergesync.sync.talk import SendResult, Talk
from tests.network import Ids


class Room:
    """A path of which this test is all clients; those whose ids are in small letters cannot be told anything."""

    def __init__(self, *client_ids: str, policy: NamePolicy = NamePolicy.MANY) -> None:
        self.talk = Talk(self, policy, Ids())
        self.told: list[tuple[str, Operation]] = []
        self.replies: list[tuple[str, Any]] = []
        self.called: list[tuple[str, str | None]] = []
        for client_id in client_ids:
            self.talk.take_name(client_id, f"name of {client_id}", client_id)

    def tell(self, client_id: str, operation: Operation) -> bool:
        if client_id.islower():
            return False
        self.told.append((client_id, operation))
        return True

    def renamed(self, client_id: str) -> None:
        self.called.append((client_id, self.talk.names.name_of(client_id)))

    def ask(self, sender: str | None, to: list[str] | None, seconds: float = 10.0) -> None:
        self.talk.ask(sender, to, "why?", seconds, 100.0, lambda name, body: self.replies.append((name, body)))

    def answer(self, client_id: str, body: Any, name: str = OK, index: int = -1) -> bool:
        """Answer the last question."""
        return self.talk.answered(client_id, Operation(self.told[index][1].request_id, name, body))

    def reasons(self) -> list[str]:
        """Why questions failed."""
        return [body[0] for name, body in self.replies if name == ERROR]


def test_send() -> None:
    """A message goes to who has the name, once; what became of it is told name by name."""
    room = Room("A", "B", "c")
    room.talk.take_name("D", "name of B", "")
    result = room.talk.send("A", ["name of B", "name of c", "nobody", "name of B"], {"m": 1})
    assert result == SendResult(("name of B",), ("nobody",), ("name of c",))
    message = Operation(None, MESSAGE, ["name of A", {"m": 1}])
    assert room.told == [("B", message), ("D", message)]


def test_send_to_all() -> None:
    """That is everybody who has a name, but not who sends it."""
    room = Room("A", "B")
    assert room.talk.send("A", None, 1).delivered == ("name of B",)
    assert room.talk.send(None, None, 1).delivered == ("name of A", "name of B")
    assert [(client_id, told.body[0]) for client_id, told in room.told] == [
        ("B", "name of A"),
        ("A", None),
        ("B", None),
    ]
    assert room.talk.send("A", ["name of A"], 1).unknown == ("name of A",)


def test_the_first_answer_counts() -> None:
    """Later ones are none, nor are those of who was not asked, nor a second one."""
    room = Room("A", "B", "C", "D")
    room.ask("A", ["name of B", "name of C"])
    assert [(client_id, told.body) for client_id, told in room.told] == [
        ("B", ["name of A", "why?"]),
        ("C", ["name of A", "why?"]),
    ]
    assert not room.answer("D", "not mine to answer")
    assert not room.answer("A", "I ask myself")
    assert room.replies == []
    assert room.answer("C", 42)
    assert not room.answer("C", 43)
    assert not room.answer("B", 44)
    assert room.replies == [(OK, ["name of C", 42])]
    assert room.talk.deadline is None


def test_nobody_to_ask() -> None:
    """The asker hears that at once."""
    room = Room("A", "b")
    room.ask("A", ["nobody"])
    room.ask("A", ["name of b"])
    room.ask("A", [])
    room.ask("A", None)
    assert room.reasons() == ["no-receiver"] * 4


def test_no_answer() -> None:
    """Once all have said so, or the last of those who have not is gone."""
    room = Room("A", "B", "C")
    room.ask("A", None)
    assert room.answer("B", None, ERROR)
    assert room.replies == []
    assert room.answer("C", None, ERROR)
    room.ask("A", None)
    room.talk.leave("B")
    assert len(room.replies) == 1
    room.talk.leave("C")
    assert room.reasons() == ["no-answer", "no-receiver"]


def test_who_asks_and_leaves() -> None:
    """Nobody is told, and the answer is none."""
    room = Room("A", "B")
    room.ask("A", None)
    room.ask(None, ["name of B"])
    room.talk.leave("A")
    assert not room.answer("B", 1, index=0)
    assert room.answer("B", 2, index=-1)
    assert room.replies == [(OK, ["name of B", 2])]


@pytest.mark.parametrize(("seconds", "until"), [(10.0, 110.0), (1e9, 100.0 + MAX_ASK_SECONDS), (-1.0, 100.0)])
def test_time_is_over(seconds: float, until: float) -> None:
    """A question that nobody answers in time is over, and a later answer is none."""
    room = Room("A", "B")
    room.ask("A", None, seconds)
    assert room.talk.deadline == until
    room.talk.wake(until - 0.1)
    assert room.replies == []
    room.talk.wake(until)
    assert room.reasons() == ["timeout"]
    assert not room.answer("B", 1)


def test_names() -> None:
    """Who loses its name is told; who does not get one is not."""
    room = Room("A", policy=NamePolicy.REPLACE)
    room.talk.take_name("B", "name of A", "")
    assert room.told == [("A", Operation(None, UNNAMED, "replaced"))]
    assert room.called == [("A", "name of A"), ("A", None), ("B", "name of A")]
    room = Room("A", policy=NamePolicy.REFUSE)
    with pytest.raises(NameTakenError):
        room.talk.take_name("B", "name of A", "")
    assert room.told == []


def test_a_sender_without_a_name() -> None:
    """The path decides whether it may send; if so, nobody is named."""
    room = Room("A")
    room.talk.send("B", None, 1)
    assert room.told[0][1].body == [None, 1]
