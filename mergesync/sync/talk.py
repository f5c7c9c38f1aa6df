"""Messages between the clients of a path, and questions of which the first answer counts.

Nothing of it is state: nobody who comes later gets it, and nothing is kept beyond its time-out. Only who has a name is
sent messages, or sends them; the server itself needs none. An answer is taken from whom the question was put to, and
from nobody else (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from mergesync.deadlines import earliest
from mergesync.limits import MAX_ASK_SECONDS
from mergesync.sync.names import NamePolicy, Names
from mergesync.sync.operations import ERROR, MESSAGE, OK, UNNAMED, Operation
from mergesync.types import NewId

__all__ = ["Reply", "SendResult", "Talk", "TalkOutlet", "addressed"]

_ID_LENGTH = 11

Reply: TypeAlias = Callable[[str, Any], None]
"""`(name, body)` of the operation that answers: `ok` and the result, or `error` and `[reason, text]`."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a message.

    Attributes:
        delivered: the names of which at least one holder was sent it.
        unknown: the names that nobody has.
        unreachable: the names whose holders do not read, or do not speak `mergesync.v1`.
    """

    delivered: tuple[str, ...]
    unknown: tuple[str, ...]
    unreachable: tuple[str, ...]


class TalkOutlet(Protocol):
    """Where operations go."""

    def tell(self, client_id: str, operation: Operation) -> bool:
        """Send an operation to a client; False if it does not speak the extension, or does not read."""

    def renamed(self, client_id: str) -> None:
        """A client has another name, or none any more."""


def addressed(to: str | Iterable[str] | None) -> list[str] | None:
    """Whom an application wants a message to go to, as it travels: names, or None for everybody."""
    return None if to is None else [to] if isinstance(to, str) else list(to)


@dataclass(slots=True, eq=False)
class _Question:
    """A question that nobody has answered yet.

    Attributes:
        asker: the client that asks, None for the server.
        asked: the clients that may answer.
        reply: hears of the first answer.
        deadline: until when, in seconds.
    """

    asker: str | None
    asked: set[str]
    reply: Reply
    deadline: float


class Talk:
    """The messages of one path.

    Args:
        outlet: where operations go.
        policy: what happens when a second client wants a name.
        new_id: makes random ids.

    Attributes:
        names: who is called what.
    """

    def __init__(self, outlet: TalkOutlet, policy: NamePolicy, new_id: NewId) -> None:
        self.names: Names = Names(policy)
        self._outlet = outlet
        self._new_id = new_id
        self._questions: dict[str, _Question] = {}

    # --- clients

    def take_name(self, client_id: str, name: str, secret: str) -> None:
        """A client wants to be called so.

        Raises:
            NameTakenError: it is another's.
        """
        for loser in self.names.take(client_id, name, secret):
            self._outlet.tell(loser, Operation(None, UNNAMED, "replaced"))
            self._outlet.renamed(loser)
        self._outlet.renamed(client_id)

    def leave(self, client_id: str) -> None:
        """A client is gone: it gets no answers, and gives none."""
        self.names.give_up(client_id)
        for question_id, question in list(self._questions.items()):
            if question.asker == client_id:
                del self._questions[question_id]
            else:
                self._strike(question_id, question, client_id, "no-receiver", "everybody who was asked has left")

    # --- messages

    def send(self, sender: str | None, to: Iterable[str] | None, message: Any) -> SendResult:
        """Send a message once.

        Args:
            sender: the client it comes from, None for the server.
            to: names; None for everybody else who has one.
            message: JSON.
        """
        receivers = self._receivers(sender, to)
        reached = {
            name: [self._tell(client_id, None, sender, message) for client_id in client_ids]
            for name, client_ids in receivers.items()
        }
        return SendResult(
            delivered=tuple(name for name, those in reached.items() if any(those)),
            unknown=tuple(name for name, those in reached.items() if not those),
            unreachable=tuple(name for name, those in reached.items() if those and not any(those)),
        )

    def ask(
        self, sender: str | None, to: Iterable[str] | None, message: Any, seconds: float, now: float, reply: Reply
    ) -> None:
        """Send a message that wants an answer; the first one counts.

        Args:
            sender: the client it comes from, None for the server.
            to: names; None for everybody else who has one.
            message: JSON.
            seconds: how long to wait for an answer, at most `MAX_ASK_SECONDS`.
            now: seconds.
            reply: called once: with `ok` and `[name, answer]`, or with `error` and `[reason, text]`, where the reason
                is `no-receiver`, `no-answer` if all say that they have none, or `timeout`. Not if the asker leaves.
        """
        question_id = self._new_id(_ID_LENGTH)
        client_ids = [client_id for clients in self._receivers(sender, to).values() for client_id in clients]
        reached = {client_id for client_id in client_ids if self._tell(client_id, question_id, sender, message)}
        if not reached:
            reply(ERROR, ["no-receiver", "nobody of these names is there"])
            return
        deadline = now + min(max(seconds, 0.0), MAX_ASK_SECONDS)
        self._questions[question_id] = _Question(sender, reached, reply, deadline)

    def _receivers(self, sender: str | None, to: Iterable[str] | None) -> dict[str, list[str]]:
        """Whom a message goes to, by name; never to who sends it."""
        names = self.names.all() if to is None else dict.fromkeys(to)
        receivers = {name: [each for each in self.names.clients_of(name) if each != sender] for name in names}
        return {name: clients for name, clients in receivers.items() if clients or to is not None}

    def _tell(self, client_id: str, question_id: str | None, sender: str | None, message: Any) -> bool:
        name = None if sender is None else self.names.name_of(sender)
        return self._outlet.tell(client_id, Operation(question_id, MESSAGE, [name, message]))

    # --- answers

    def answered(self, client_id: str, operation: Operation) -> bool:
        """A client answers something; whether that was a question put to it that is still open."""
        question_id = operation.request_id or ""
        question = self._questions.get(question_id)
        if question is None or client_id not in question.asked:
            return False
        if operation.name == OK:
            del self._questions[question_id]
            question.reply(OK, [self.names.name_of(client_id), operation.body])
        else:
            self._strike(question_id, question, client_id, "no-answer", "nobody who was asked has an answer")
        return True

    def _strike(self, question_id: str, question: _Question, client_id: str, reason: str, text: str) -> None:
        """A client will not answer; if it was the last one, the asker hears why."""
        if client_id in question.asked:
            question.asked.remove(client_id)
            if not question.asked:
                del self._questions[question_id]
                question.reply(ERROR, [reason, text])

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None."""
        return earliest(*[question.deadline for question in self._questions.values()]) if self._questions else None

    def wake(self, now: float) -> None:
        """Give up on what was not answered in time."""
        for question_id, question in list(self._questions.items()):
            if question.deadline <= now:
                del self._questions[question_id]
                question.reply(ERROR, ["timeout", "nobody has answered in time"])
