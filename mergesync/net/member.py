"""A client on a path that does not speak the protocol itself, as the gateway has it that speaks for it."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias

from mergesync.exceptions import LimitExceededError, PathClosedError
from mergesync.limits import DEFAULT_ACTION_TIMEOUT_SECONDS, MAX_ASK_SECONDS, MAX_UNANSWERED_OPERATIONS
from mergesync.net.carrying import carry_out, check_let_through
from mergesync.net.members import Members
from mergesync.net.requests import failure_of
from mergesync.net.server_path import ServerPath
from mergesync.net.service import Answer
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.sync.operations import (
    ACT,
    ASK,
    COMPARE_AND_SET,
    MESSAGE,
    NAME,
    OK,
    PRESENCE,
    SEND,
    UNNAMED,
    Operation,
)
from mergesync.sync.review import Verdict
from mergesync.sync.talk import SendResult, addressed
from mergesync.sync.versions import Edits, changes_of, decode_edits, encode_edits, version_of
from mergesync.types import Cell, MergeableChanges

__all__ = ["Member", "MemberPath", "OnMessage", "OnTransaction", "Wait"]

OnTransaction: TypeAlias = Callable[[bool], object]
"""`(own)`: a transaction on the store of the path is over, and whether the member itself has made it."""

OnMessage: TypeAlias = Callable[[str | None, Any, Callable[[Any], None] | None], object]
"""`(sender, message, answer)`: the sender is a name, None for the server; `answer(JSON)` is None if none is wanted."""


class MemberPath(Protocol):
    """The path that a member is on."""

    handle: ServerPath
    members: Members

    def operate(self, client_id: str, operation: Operation, answer: Answer) -> None:
        """A client asks for something."""

    def answered(self, client_id: str, operation: Operation) -> None:
        """A client answers what it was asked."""

    def review(self, client_id: str, body: MergeableChanges, decided: Callable[[Verdict], None]) -> None:
        """Decide what of a client's changes may be made, now or later."""

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """Hear of an error that nobody called for."""


Wait: TypeAlias = Callable[[Callable[[Callable[[Any], None]], None]], Awaitable[Any]]
"""Begins something that calls back, and returns with what it is called back; raises if the client goes first."""


class Member:
    """A client on a path; made by `GatewaySocket.join`, and gone when it leaves or its socket is closed.

    What it does is subject to all that other clients are: `admit`, `rules`, `on_changes`, the server's limits.

    Args:
        client: who it is.
        path: the path, loaded.
        wait: see there.
        guard: calls a listener; what that raises ends the socket.

    Attributes:
        client: as hooks and `ServerPath.clients` have it.
        path: as the application on the server has it; what is done there is not subject to anything.
        store: the path's store, to read and to listen to: change it by `change`. Of who may not read, an empty one.
        clients_store: who is on the path, only to read and to listen to: a table `clients` as on the companion of a
            path (docs/paths.md), whether or not there is one. Of who may not see others, an empty one.
        on_transaction: called after each transaction on the store, whoever has made it, and whether it has changed
            anything; `store.get_transaction_changes()` tells.
        on_message: called with messages of others.
        on_name_lost: called when somebody else has been given its name.
        on_left: called when it leaves, for whatever reason, before others hear of that.
    """

    def __init__(self, client: Client, path: MemberPath, wait: Wait, guard: Callable[..., None]) -> None:
        self.client = client
        self.path: ServerPath = path.handle
        self.store: MergeableStore = path.handle.store if client.access.read else MergeableStore()
        clients_store = path.members.store if client.access.presence else None
        self.clients_store: MergeableStore = MergeableStore() if clients_store is None else clients_store
        self.on_transaction: OnTransaction | None = None
        self.on_message: OnMessage | None = None
        self.on_name_lost: Callable[[], object] | None = None
        self.on_left: Callable[[], object] | None = None
        self._path = path
        self._wait = wait
        self._guard = guard
        self._own = False  # what happens to the store at this moment is of its making
        self._open_requests = 0
        self._gone = False
        self._listener_id = self.store.add_did_finish_transaction_listener(lambda _: self._heard())

    @property
    def name(self) -> str | None:
        """What it is called on the path, if it has taken a name."""
        return self.path.name_of(self.client)

    def _left(self) -> None:
        """It is on the path no more."""
        self._gone = True
        self.store.del_listener(self._listener_id)
        self._call(self.on_left)

    def _told(self, operation: Operation) -> None:
        """The server has something for it."""
        if operation.name == MESSAGE:
            sender, message = operation.body
            answer = None if operation.request_id is None else self._answers(operation.request_id)
            self._call(self.on_message, sender, message, answer)
        elif operation.name == UNNAMED:
            self._call(self.on_name_lost)

    def _answers(self, request_id: str) -> Callable[[Any], None]:
        def answer(result: Any) -> None:
            if not self._gone:
                self._path.answered(self.client.id, Operation(request_id, OK, result))

        return answer

    def _heard(self) -> None:
        self._call(self.on_transaction, self._own)

    def _call(self, listener: Callable[..., object] | None, *arguments: Any) -> None:
        if listener is not None:
            self._guard(listener, *arguments)

    def _check_there(self) -> None:
        if self._gone:
            raise PathClosedError("the client has left the path", path_id=self.client.path_id, client_id=self.client.id)

    # --- changes

    def version(
        self,
        table_id: str | None = None,
        row_id: str | None = None,
        cell_id: str | None = None,
        *,
        value_id: str | None = None,
    ) -> str:
        """The version of everything, of a table, a row, a cell or a value, for `compare_and_set`."""
        return version_of(self.store, table_id, row_id, cell_id, value_id=value_id)

    async def change(self, edits: Edits) -> None:
        """Make changes, as far as rules and hooks let them through; what is in the store then is what became of them.

        Args:
            edits: `(tables, values)`: the cells and values to set, with `MISSING` for what is to go.

        Raises:
            RefusedError: all of it was refused.
            ContentError: they are malformed; likewise InvalidIdError and InvalidCellError.
            ConnectionLostError: the client went before it was decided.
        """
        edits = decode_edits(encode_edits(edits))
        self._check_there()

        def begin(done: Callable[[Any], None]) -> None:
            body = changes_of(self.path.store, edits)
            self._path.review(self.client.id, body, lambda verdict: done(self._make(verdict)))

        failure = await self._wait(begin)
        if failure is not None:
            raise failure

    def _make(self, verdict: Verdict) -> Exception | None:
        """Make what was decided; returns why not, which may be what a listener raised that has taken it back."""
        self._own = True
        try:
            check_let_through(verdict, self.client)
            carry_out(self.path.store, verdict, lambda error: self._path.report(error, self.client.id))
        except Exception as error:
            return error
        finally:
            self._own = False
        return None

    async def compare_and_set(self, version: str, edits: Edits) -> str:
        """Make changes if something still has this version, as `WsSynchronizer.compare_and_set`.

        Raises:
            StaleVersionError: it has another version by now; it says which, and what is there.
            RequestFailedError: it is not let through (`reason` is "refused"), or it is malformed ("invalid").
            ConnectionLostError: the client went before it was decided.
        """
        return str(await self._ask(COMPARE_AND_SET, [version, encode_edits(edits)]))

    async def announce(self, cells: dict[str, Cell]) -> None:
        """Say this of itself, in place of what it has said before, to all who see who is on the path.

        Raises:
            RequestFailedError: the server does not say who is there (`reason` is "unknown"), or it may not ("refused").
        """
        await self._ask(PRESENCE, copy.deepcopy(cells))  # the application may edit it

    # --- actions and messages

    async def act(self, name: str, data: Any = None, *, key: str | None = None) -> Any:
        """Let the server do something that its application has defined, as `WsSynchronizer.act`.

        Raises:
            RequestFailedError: the application says no, or there is no such action (`reason` is "unknown").
            ConnectionLostError: the client went before it was done.
        """
        return await self._ask(ACT, [name, data, key, DEFAULT_ACTION_TIMEOUT_SECONDS])

    async def take_name(self, name: str, secret: str = "") -> None:
        """Be called so on the path, so that messages can be sent and got.

        Args:
            name: the name.
            secret: who comes with the same secret again gets the name, whoever has it.

        Raises:
            RequestFailedError: it is another's (`reason` is "name-taken"), or it may not talk here.
        """
        await self._ask(NAME, [name, secret])

    async def give_up_name(self) -> None:
        """Be called nothing any more."""
        await self._ask(NAME, [None, ""])

    async def send(self, to: str | Iterable[str] | None, message: Any) -> SendResult:
        """Send a message to others on the path, as `WsSynchronizer.send`.

        Raises:
            RequestFailedError: it has no name (`reason` is "no-name"), or may not.
        """
        return SendResult(**await self._ask(SEND, [addressed(to), message]))

    async def ask(
        self, to: str | Iterable[str] | None, message: Any, *, timeout_seconds: float = MAX_ASK_SECONDS
    ) -> tuple[str | None, Any]:
        """Send a message to others on the path, and return the first answer, with the name of who gave it.

        Raises:
            RequestFailedError: `reason` is "no-receiver", "no-answer", "timeout", or "no-name" if it has none itself.
            ConnectionLostError: the client went before there was one.
        """
        name, answer = await self._ask(ASK, [addressed(to), message, timeout_seconds])
        return name, answer

    async def _ask(self, name: str, body: Any) -> Any:
        """Ask the path for something, and return the result."""
        self._check_there()
        if self._open_requests >= MAX_UNANSWERED_OPERATIONS:
            raise LimitExceededError(f"more than {MAX_UNANSWERED_OPERATIONS} unanswered", limit="requests")

        def begin(done: Callable[[Any], None]) -> None:
            self._path.operate(self.client.id, Operation(None, name, body), lambda *answer: done(answer))

        self._open_requests += 1
        try:
            answered, result = await self._wait(begin)
        finally:
            self._open_requests -= 1
        if answered != OK:
            raise failure_of(result)
        return result
