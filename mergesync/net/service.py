"""What clients ask a path itself: whether all is stored, to change something on a condition, to pass messages on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from mergesync.exceptions import (
    ContentError,
    InvalidCellError,
    InvalidIdError,
    LimitExceededError,
    NameTakenError,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    StaleVersionError,
)
from mergesync.limits import MAX_NAME_BYTES
from mergesync.net.actions import ActionKey, Actions
from mergesync.net.carrying import carry_out
from mergesync.net.server_path import ServerPath
from mergesync.net.turns import Done
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps
from mergesync.sync.admission import leaves_of
from mergesync.sync.hub import Hub
from mergesync.sync.operations import (
    ACT,
    ASK,
    COMPARE,
    COMPARE_AND_SET,
    ERROR,
    HELLO,
    NAME,
    OK,
    PRESENCE,
    SEND,
    SINCE,
    STORED,
    Operation,
)
from mergesync.sync.review import Verdict
from mergesync.sync.talk import Talk
from mergesync.sync.versions import Edits, changes_of, check_version, decode_edits, stamped_now, version_now
from mergesync.types import MISSING, MergeableChanges

__all__ = ["Answer", "Served", "Service"]

Answer: TypeAlias = Callable[[str, Any], None]
"""`(name, body)` of the operation that answers a request."""


class Served(Protocol):
    """The path whose clients ask."""

    handle: ServerPath

    def client(self, client_id: str) -> Client | None:
        """Who asks."""

    def confirm(self, client_id: str, *, hurry: bool, answer: Answer) -> None:
        """Answer a client when all that it has said so far is stored, or cannot be."""

    def answer_when_stored(self, answer: Answer, result: Any) -> None:
        """Answer with a result when what is in the store now is on disk, or cannot be."""

    def review(self, client_id: str, body: MergeableChanges, decided: Callable[[Verdict], None]) -> None:
        """Decide what of a client's changes may be made, now or later."""

    def announce(self, client_id: str, state: dict[str, Any], done: Done) -> None:
        """A client says something of itself to all who see who is there, if it may."""

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        """Call the application when it is its turn."""

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """Hear of an error that nobody called for."""


class Service:
    """The operations of one path.

    Args:
        path: the path.
        hub: its hub.
        talk: its messages.
        actions: what the application lets clients ask for.
        now: the time of a steady clock, in seconds.
    """

    def __init__(self, path: Served, hub: Hub, talk: Talk, actions: Actions, now: Callable[[], float]) -> None:
        self._path = path
        self._actions = actions
        self._now = now
        self._hub = hub
        self._talk = talk

    def operate(self, client_id: str, operation: Operation, answer: Answer) -> None:
        """A client asks for something.

        Args:
            client_id: the client.
            operation: what it asks for.
            answer: called once, unless the client leaves.
        """
        client = self._path.client(client_id)
        assert client is not None, "who asks is there"
        with self._answering(client, answer):
            service = _SERVICES.get(operation.name)
            if service is None:
                raise RequestFailedError(f"no operation {operation.name!r:.40}", "unknown")
            service(self, client, operation.body, answer)

    @contextmanager
    def _answering(self, client: Client, answer: Answer) -> Iterator[None]:
        """What goes wrong is the answer."""
        try:
            yield
        except Exception as error:
            answer(ERROR, self._failure(client, error))

    def _failure(self, client: Client, error: Exception) -> list[Any]:
        """What a client is told of an error; what is none of its business is reported."""
        match error:
            case RequestFailedError():
                return [error.reason, error.args[0], *([] if error.details is None else [error.details])]
            case RefusedError():
                return ["refused", error.args[0]]
            case NameTakenError():
                return ["name-taken", error.args[0]]
            case StaleVersionError() if not client.access.read:
                return ["refused", "the version is not the present one, which the client may not read any more"]
            case StaleVersionError():
                content = [] if error.content is MISSING else [error.content]
                return ["stale", error.args[0], {"version": error.version, "content": content}]
            case InvalidCellError() | InvalidIdError() | ContentError():
                return ["invalid", str(error)]
            case LimitExceededError():
                self._path.report(error, client.id)
                return ["limit", error.args[0]]
            case RemoteProtocolError():
                self._path.report(error, client.id)
                return ["invalid", error.args[0]]
            case _:
                self._path.report(error, client.id)
                return ["failed", "the server could not do it"]

    # --- storage

    def _stored(self, client: Client, body: Any, answer: Answer) -> None:
        self._path.confirm(client.id, hurry=body is True, answer=answer)

    # --- comparing

    def _compare(self, client: Client, body: Any, answer: Answer) -> None:
        def prepared() -> None:
            with self._answering(client, answer):
                result = self._hub.compare(client.id, body)
                if result is None:
                    raise RequestFailedError("nobody here has all of the path", "unknown")
                answer(OK, result)

        def ready() -> None:
            with self._answering(client, answer):
                self._hub.take_given(client.id, body, self._now())
                self._hub.when_merged(client.id, lambda _: self._prepare(body, prepared))

        self._hub.when_ready(client.id, ready)

    def _prepare(self, body: Any | None, act: Callable[[], None]) -> None:
        """Act as soon as what takes long is done, and let others do something meanwhile."""
        if self._hub.prepare(body):
            act()
        else:
            asyncio.get_running_loop().call_soon(self._prepare, body, act)

    def _begin(self, client: Client, body: Any, answer: Answer) -> None:
        self._resume(client, body, answer, begins=True)

    def _resume(self, client: Client, body: Any, answer: Answer, *, begins: bool = False) -> None:
        def prepared() -> None:
            with self._answering(client, answer):
                self._hub.resume(client.id, body, partial(answer, OK), self._now(), begins=begins)

        self._hub.when_ready(client.id, partial(self._prepare, None, prepared))

    # --- changes on a condition

    def _compare_and_set(self, client: Client, body: Any, answer: Answer) -> None:
        match body:
            case [str(version), edits]:
                edits = decode_edits(edits)
            case _:
                raise _invalid("a version, and [tables, values]")
        if not (client.access.read and client.access.write):
            raise _refused("a change on a condition needs that the client may read and write")

        def try_it(_: bool) -> None:
            with self._answering(client, answer):
                self._try_change(client, version, edits, answer)

        self._hub.when_merged(client.id, try_it)  # what the client wrote before it asked counts

    def _try_change(self, client: Client, version: str, edits: Edits, answer: Answer) -> None:
        store = self._hub.store
        if store is None:
            raise RequestFailedError("the server only passes on what clients say, and has no store", "no-store")
        check_version(store, version)

        def decided(verdict: Verdict) -> None:
            with self._answering(client, answer):
                newer = self._change(client, store, version, verdict)
                self._path.answer_when_stored(answer, newer)  # else another may win with the same version after a crash

        self._path.review(client.id, changes_of(store, edits), decided)

    def _change(self, client: Client, store: MergeableStore, version: str, verdict: Verdict) -> str:
        """Make a change that was decided of, if the version is still the present one; returns the version after it."""
        if verdict.dropped:
            raise _refused("; ".join(verdict.reasons) or "the change is not let through")
        check_version(store, version)  # the application may have taken its time; so it is now that it is made
        taken = stamped_now(store, {leaf: stamp[0] for leaf, stamp in leaves_of(verdict.taken)})
        carry_out(store, replace(verdict, taken=taken), lambda error: self._path.report(error, client.id))
        return version_now(store, version)

    # --- actions

    def _act(self, client: Client, body: Any, answer: Answer) -> None:
        match body:
            case [str(name), data, (str() | None) as key, (int() | float()) as seconds]:
                _check_talks(client)
            case _:
                raise _invalid("the name of an action, data, a key or null, and seconds")
        handler = self._actions.handlers.get(name)
        if handler is None:
            raise RequestFailedError(f"no action {name!r:.40}", "unknown")
        deadline = self._now() + seconds

        def act() -> Any:
            if self._now() > deadline:
                raise RequestFailedError("it was not its turn in time", "timeout")
            return handler(self._path.handle, client, data)

        def begin(_: bool) -> None:
            if key is None:
                self._call(client, act, answer)
                return
            identity = None if client.identity is None else client.identity.name
            request: ActionKey = (client.path_id, identity, name, key)
            if not self._actions.recall(request, answer):
                self._call(client, act, partial(self._actions.finish, request))

        self._hub.when_merged(client.id, begin)  # what the client wrote before it asked counts

    def _call(self, client: Client, act: Callable[[], Any], answer: Answer) -> None:
        """Call an action when it is its turn, and answer with what it returns or raises."""

        def done(result: Any, error: Exception | None) -> None:
            with self._answering(client, answer):
                if error is not None:
                    raise error
                dumps(result)  # it must be JSON
                answer(OK, result)

        self._path.call(act, done)

    # --- presence

    def _announce(self, client: Client, body: Any, answer: Answer) -> None:
        if not isinstance(body, dict):
            raise _invalid("an object of cells")

        def announced(_: Any, error: Exception | None) -> None:
            with self._answering(client, answer):
                if error is not None:
                    raise error
                answer(OK, None)

        self._hub.when_merged(client.id, lambda _: self._path.announce(client.id, body, announced))

    # --- messages

    def _name(self, client: Client, body: Any, answer: Answer) -> None:
        match body:
            case [None, _]:
                self._talk.names.give_up(client.id)
                answer(OK, None)
            case [str(name), str(secret)] if 0 < len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES:
                _check_talks(client)
                self._talk.take_name(client.id, name, secret)
                answer(OK, name)
            case _:
                raise _invalid(f"a name of 1 to {MAX_NAME_BYTES} bytes, and a secret")

    def _send(self, client: Client, body: Any, answer: Answer) -> None:
        match body:
            case [to, message] if _are_names(to):
                self._check_name(client)
                answer(OK, asdict(self._talk.send(client.id, to, message)))
            case _:
                raise _invalid("names or null, and a message")

    def _ask(self, client: Client, body: Any, answer: Answer) -> None:
        match body:
            case [to, message, (int() | float()) as seconds] if _are_names(to):
                self._check_name(client)
                self._talk.ask(client.id, to, message, seconds, self._now(), answer)
            case _:
                raise _invalid("names or null, a message, and seconds")

    def _check_name(self, client: Client) -> None:
        _check_talks(client)
        if self._talk.names.name_of(client.id) is None:
            raise RequestFailedError("who has no name cannot send messages", "no-name")


def _check_talks(client: Client) -> None:
    if not client.access.actions:
        raise _refused("the client may neither ask for actions nor talk to others here")


def _are_names(to: Any) -> bool:
    return to is None or (isinstance(to, list) and all(isinstance(name, str) for name in to))


def _invalid(wanted: str) -> RequestFailedError:
    return RequestFailedError(f"the body must be: {wanted}", "invalid")


def _refused(text: str) -> RequestFailedError:
    return RequestFailedError(text, "refused")


_SERVICES: Final[Mapping[str, Callable[[Service, Client, Any, Answer], None]]] = {
    STORED: Service._stored,
    COMPARE: Service._compare,
    HELLO: Service._begin,
    SINCE: Service._resume,
    COMPARE_AND_SET: Service._compare_and_set,
    ACT: Service._act,
    NAME: Service._name,
    SEND: Service._send,
    ASK: Service._ask,
    PRESENCE: Service._announce,
}
