"""One path of a server while it has clients: its hub, its persister, and what happens when either fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mergesync.deadlines import earliest
from mergesync.exceptions import (
    LoadError,
    NotDurableError,
    PathClosedError,
    PersisterError,
    RequestFailedError,
    SaveError,
    SyncError,
)
from mergesync.limits import (
    DESTROY_TIMEOUT_SECONDS,
    RETRY_LOAD_CAP_SECONDS,
    RETRY_LOAD_FIRST_SECONDS,
    SAVE_RETRY_CAP_SECONDS,
    SAVE_RETRY_FIRST_SECONDS,
)
from mergesync.net.actions import Actions
from mergesync.net.alarm import Alarm
from mergesync.net.bans import Bans, is_the_same
from mergesync.net.bell import Bell
from mergesync.net.farewells import Farewell, closed, ejected, removed
from mergesync.net.hooks import Hooks, LeaveReason
from mergesync.net.latecomers import Latecomers
from mergesync.net.lives import Life
from mergesync.net.members import Members
from mergesync.net.path_persister import CreatePersisterForPath, PathPersister, Then, awaited, made_persister
from mergesync.net.presence import Presence
from mergesync.net.reporting import note_place
from mergesync.net.reviewing import PathReviewer, judge_by
from mergesync.net.server_path import ServerPath
from mergesync.net.service import Answer, Service
from mergesync.net.turns import Done, Turns
from mergesync.rooms.access import Client
from mergesync.store import MergeableStore
from mergesync.sync.hub import Hub
from mergesync.sync.names import NamePolicy
from mergesync.sync.operations import ERROR, OK, Operation
from mergesync.sync.payloads import Payload
from mergesync.sync.review import Proposal, Reviewer, Verdict
from mergesync.sync.talk import Talk
from mergesync.types import GetNow, MergeableChanges, NewId
from mergesync.waiting import settle

__all__ = ["Path", "PathExit", "PathOptions"]

_THINGS_THAT_MAY_HANG = 3
"""A flush, then letting go, then what both do when they are cancelled."""


@dataclass(frozen=True, slots=True)
class PathOptions:
    """What all paths of a server have in common."""

    create_persister_for_path: CreatePersisterForPath | None
    relay: bool
    request_timeout_seconds: float
    fragment_size: float | None
    new_id: NewId
    get_now: GetNow
    hooks: Hooks
    actions: Actions
    names: NamePolicy
    presence: bool
    gateways: bool
    bans: Bans
    idle_grace_seconds: float


class PathExit(Protocol):
    """Where a path's texts, closings and complaints go."""

    def send(self, path_id: str, client_ids: Iterable[str], frame: str) -> None:
        """Send a frame to clients of the path."""

    def send_changes(self, path_id: str, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """Send a message to clients of the path but for its author; `catch_up` is called for those that miss it."""

    def tell(self, path_id: str, client_id: str, operation: Operation) -> bool:
        """Send an operation to a client of the path; False if it knows none, or does not read."""

    def close(self, path_id: str, client_id: str, error: SyncError) -> None:
        """Close the socket of a client."""

    def put_out(self, path_id: str, client_id: str, farewell: Farewell) -> None:
        """Remove a client from the path, and from no other."""

    def refuse(self, path_id: str, client_ids: Iterable[str], retry_after_seconds: float) -> None:
        """The path cannot be served for now: tell its clients."""

    def report(self, error: Exception) -> None:
        """Hear of an error that nobody called for."""

    def remove(self, path_id: str) -> None:
        """The application wants the path to go."""

    def path_done(self, path: Path) -> None:
        """The path has no clients and everything is stored: who comes next starts a new one."""

    def path_ended(self, path: Path) -> None:
        """The path has let go of its storage."""


class Path:
    """One path, from its first client to the moment when all is stored after its last.

    A single task takes it through its life: wait for the predecessor, load (again and again if that fails), serve until
    nobody is there and everything is stored, let go. A client that comes while the last changes are being stored finds
    the path as it is.

    Args:
        path_id: the path.
        options: of the server.
        exit: where everything goes.
        turns: the application's callbacks about it.
        presence: who is there, for all to see; None for nobody.
        past: which stamps are of before the path was removed; None if it never was.
        created_at_seconds: when it was made, since 1970.
        predecessor: the path of the same id that is still letting go of its storage.

    Attributes:
        turns: see above.
        handle: what the application has of it.
        talk: the messages of its clients.
        members: who is on it.
        is_loaded: whether it is in use.
        store: the replica while it is; None for a relay without one.
    """

    __slots__ = (
        "_alarm",
        "_bell",
        "_calls",
        "_confirming",
        "_decisions",
        "_destroyed",
        "_exit",
        "_failure",
        "_hub",
        "_keepers",
        "_life",
        "_options",
        "_past",
        "_persister",
        "_retry_at",
        "_reviewer",
        "_service",
        "_storing",
        "_waiting_to_open",
        "handle",
        "is_loaded",
        "members",
        "path_id",
        "store",
        "talk",
        "turns",
    )

    def __init__(
        self,
        path_id: str,
        options: PathOptions,
        exit: PathExit,
        turns: Turns,
        presence: Presence | None,
        predecessor: Path | None,
        *,
        past: Life | None = None,
        created_at_seconds: float = 0.0,
    ) -> None:
        self.path_id: str = path_id
        self.turns: Turns = turns
        self.handle: ServerPath = ServerPath(self)
        self.is_loaded: bool = False
        self.store: MergeableStore | None = None
        self._calls = 0  # callbacks that are not through
        self._keepers = 0
        self._waiting_to_open: set[asyncio.Future[None]] = set()
        self._failure: PersisterError | None = None  # while the path is refused
        self._options = options
        self._exit = exit
        self._persister: PathPersister | None = None
        self._retry_at: float | None = None  # while the path is refused: when it is tried again, by the loop's clock
        self._bell = Bell()
        self._storing = False  # saving is under way, and must not be interrupted
        self._destroyed = False
        self._confirming: set[asyncio.Task[None]] = set()
        self._past = past
        self._reviewer = self._make_reviewer()
        self._decisions: dict[Proposal, Callable[[Verdict], None]] = {}  # who waits for what the application decides
        self._hub = Hub(
            path_id,
            self,
            relay=options.relay,
            request_timeout_seconds=options.request_timeout_seconds,
            fragment_size=options.fragment_size,
            new_id=options.new_id,
            reviewer=self._reviewer,
        )
        self.talk: Talk = Talk(self, options.names, options.new_id)
        self.members: Members = Members(self, options.hooks, presence, self.talk.names.name_of, created_at_seconds)
        self._service = Service(self, self._hub, self.talk, options.actions, asyncio.get_running_loop().time)
        self._alarm = Alarm(self._deadline, self._wake)
        self._life = asyncio.create_task(self._live(predecessor), name=f"mergesync path {path_id!r:.80}")
        self._life.add_done_callback(self._has_ended)

    def _make_reviewer(self) -> Reviewer | None:
        hooks = self._options.hooks
        judge = None if hooks.rules is None else judge_by(hooks.rules, self)
        reviewer = PathReviewer(self, judge, hooks.on_changes) if hooks.review else None
        past = self._past
        return reviewer if past is None else Latecomers(past.is_past, self._put_out_latecomer, reviewer)

    def _put_out_latecomer(self, client_id: str) -> None:
        """A client brings what was removed; when its message is dealt with, it goes."""

        def put_out() -> None:
            client = self.members.find(client_id)
            if client is not None and client in self.members:
                self.put_out(client, removed("what it has is of before"))

        asyncio.get_running_loop().call_soon(put_out)

    # --- clients

    def client(self, client_id: str) -> Client | None:
        """Who is on the path, or was a while ago."""
        return self.members.find(client_id)

    def join(self, client: Client, *, syncs: bool = True) -> None:
        """A client comes; while the path cannot be loaded, it is refused at once.

        Args:
            client: the client.
            syncs: whether it speaks the protocol; else a gateway speaks for it.
        """
        client_id = client.id
        self.members.add(client)
        if syncs:
            self._hub.join(client_id, reads=client.access.read)
        self._somebody_came()
        if self.is_loaded:
            self.members.welcome(client)
        if self._retry_at is not None:
            wait_seconds = max(0.0, self._retry_at - asyncio.get_running_loop().time())
            self._exit.refuse(self.path_id, [client_id], wait_seconds)

    def access_changed(self, client: Client) -> None:
        """A client may do more, or less, than before."""
        self._hub.access_changed(client.id, asyncio.get_running_loop().time(), reads=client.access.read)
        if self.store is not None:
            self.members.show(client)

    def leave(self, client_id: str, reason: LeaveReason) -> None:
        """A client goes."""
        client = self.members.remove(client_id, held=self._hub.holds)
        self._hub.leave(client_id)
        self.talk.leave(client_id)
        self._alarm.set()
        self._somebody_went()
        self.members.miss(client, reason)

    def _somebody_came(self) -> None:
        if len(self.members) + self._keepers == 1:
            self._bell.ring()

    def _somebody_went(self) -> None:
        if self._is_empty():
            self._bell.ring()

    def _is_empty(self) -> bool:
        return not (self.members or self._keepers)

    def _is_occupied(self) -> bool:
        return not self._is_empty()

    def _is_quiet(self) -> bool:
        """Whether no callback of the application is under way, or waits for its turn."""
        return not self._calls

    def put_out(self, client: Client, farewell: Farewell) -> None:
        """A client must go."""
        self._exit.put_out(self.path_id, client.id, farewell)

    def end(self) -> None:
        """The application wants the path to go."""
        self._exit.remove(self.path_id)

    def announce(self, client_id: str, state: dict[str, Any], done: Done) -> None:
        """A client says something of itself to all who see who is there, if it may."""
        self.members.announce(client_id, state, done)

    def call(self, callback: Callable[[], Any], done: Done) -> None:
        """Call the application when it is its turn; the path stays until that is through."""
        self._calls += 1

        def through(result: Any, error: Exception | None) -> None:
            done(result, error)
            self._calls -= 1
            if self._is_quiet():
                self._bell.ring()

        self.turns.call(callback, through)

    def reviewed(self, proposal: Proposal, verdict: Verdict) -> None:
        """The application has decided of changes after some time."""
        decided = self._decisions.pop(proposal, None)
        if decided is not None:
            decided(verdict)
        else:
            self._hub.reviewed(proposal, verdict, asyncio.get_running_loop().time())
        self._alarm.set()

    def review(self, client_id: str, body: MergeableChanges, decided: Callable[[Verdict], None]) -> None:
        """Decide what of a client's changes may be made, where they do not come as a message; now or later."""
        if self._reviewer is None:
            decided(Verdict(body))
            return
        proposal = Proposal(client_id, body, pulled=False)
        verdict = self._reviewer.review(proposal)
        if verdict is None:
            self._decisions[proposal] = decided
        else:
            decided(verdict)

    # --- the application

    @property
    def has_storage(self) -> bool:
        """Whether it is stored anywhere, once it is loaded."""
        return self._persister is not None

    @property
    def is_used(self) -> bool:
        """Whether somebody is on it, or the application has it open."""
        return self._is_occupied()

    @property
    def is_removable(self) -> bool:
        """Whether what is stored can be removed, as far as that is known."""
        return self._persister is None or hasattr(self._persister, "remove")

    async def open(self) -> None:
        """Keep the path open until `release`.

        Raises:
            LoadError: it cannot be loaded for now.
            PathClosedError: the server is destroyed.
        """
        self._keepers += 1
        self._somebody_came()
        await self.loaded()

    async def loaded(self) -> None:
        """Return when the path is loaded; only for who is on it, or keeps it open.

        Raises:
            LoadError: it cannot be loaded for now.
            PathClosedError: the server is destroyed.
        """
        if self._failure is not None:
            raise self._failure
        if not self.is_loaded:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting_to_open.add(waiter)
            try:
                await waiter
            finally:
                self._waiting_to_open.discard(waiter)

    def release(self) -> None:
        """Somebody who had opened the path needs it no more."""
        self._keepers -= 1
        self._somebody_went()

    async def ask(self, to: Iterable[str] | None, message: Any, timeout_seconds: float) -> Any:
        """Send clients a message, and return `[name, answer]` of the first who answers.

        Raises:
            RequestFailedError: nobody does.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(name: str, body: Any) -> None:
            if answer.done():  # nobody waits for it any more
                return
            if name == OK:
                answer.set_result(body)
            else:
                answer.set_exception(RequestFailedError(body[1], body[0], path_id=self.path_id))

        self.talk.ask(None, to, message, timeout_seconds, asyncio.get_running_loop().time(), reply)
        self._alarm.set()
        return await answer

    def eject(self, client: Client, code: int, reason: str, ban_seconds: float) -> None:
        """Put a client out, and with a ban all that it is for."""
        members = [client] if client in self.members else []
        if ban_seconds:
            self._options.bans.ban(self.path_id, client, ban_seconds)
            members = [member for member in self.members if is_the_same(client, member)]
        for member in members:
            self.put_out(member, ejected(code, reason, ban_seconds))

    async def close_clients(self, code: int, reason: str) -> None:
        """Put all clients out, and return when all that they have written is stored."""
        for member in self.members:
            self.put_out(member, closed(code, reason))
        if self._persister is not None:
            await self._persister.flush()

    async def durable(self) -> None:
        """Return when all that was written is stored."""
        if self.store is None:
            raise PathClosedError("the path is not open", path_id=self.path_id)
        if self._persister is None:
            raise NotDurableError("the path has no storage", "storage", path_id=self.path_id)
        await self._persister.flush()

    def receive(self, client_id: str, address: str, payload: Payload) -> None:
        """A client says something."""
        self._hub.receive(client_id, address, payload, asyncio.get_running_loop().time())
        self._alarm.set()

    def operate(self, client_id: str, operation: Operation, answer: Answer) -> None:
        """A client asks for something; `answer` is called once, unless it leaves."""
        self._service.operate(client_id, operation, answer)
        self._alarm.set()

    def answered(self, client_id: str, operation: Operation) -> None:
        """A client answers something that it was asked; what is late, or was not asked, is no fault."""
        self.talk.answered(client_id, operation)
        self._alarm.set()

    def reviews(self, client_id: str) -> bool:
        """Whether the application has not decided yet of something that a client has said."""
        return self.turns.busy and self._hub.reviews(client_id)

    def confirm(self, client_id: str, *, hurry: bool, answer: Answer) -> None:
        """Answer a client when all that it has said so far is stored, or cannot be.

        Args:
            client_id: the client; if it goes, nobody is answered.
            hurry: whether to store it now, and not with the next save that comes by itself.
            answer: `answer(name, body)` of an operation.
        """

        def merged(is_complete: bool) -> None:
            if not is_complete:
                answer(ERROR, ["incomplete", "the server could not get all that the client has"])
            else:
                self.answer_when_stored(answer, {"stored": self._persister is not None}, hurry=hurry)

        self._hub.when_merged(client_id, merged)

    def answer_when_stored(self, answer: Answer, result: Any, *, hurry: bool = True) -> None:
        """Answer with a result when what is in the store now is on disk, or cannot be; at once where there is none."""
        if self._persister is None:
            answer(OK, result)
        else:
            task = asyncio.create_task(self._confirm(self._persister, hurry, answer, result))
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)

    async def _confirm(self, persister: PathPersister, hurry: bool, answer: Answer, result: Any) -> None:
        try:
            await (persister.flush() if hurry else persister.wait_saved())
        except Exception as error:  # the persister reports what it cannot save
            answer(ERROR, ["save", f"{type(error).__name__}: {error}"[:300]])
        else:
            answer(OK, result)

    def catch_up(self, client_id: str) -> None:
        """A client that missed changes reads again."""
        self._hub.remind(client_id)

    async def destroy(self) -> None:
        """Store what is unsaved and let go of everything, clients or not; storage that hangs is given up in the end."""
        self._destroyed = True
        if not self._storing:
            self._life.cancel()
        for _ in range(_THINGS_THAT_MAY_HANG):
            _, hanging = await asyncio.wait([self._life], timeout=DESTROY_TIMEOUT_SECONDS)
            if not hanging:
                break
            message = f"the storage did not finish in {DESTROY_TIMEOUT_SECONDS} s; what was last written may be lost"
            self._exit.report(SaveError(message, path_id=self.path_id))
            self._life.cancel()

    # --- life

    async def _live(self, predecessor: Path | None) -> None:
        try:
            if predecessor is not None:
                await asyncio.wait([predecessor._life])
            if await self._start():
                await self._serve()
            self._exit.path_done(self)
        finally:
            await self._bell.until(self._is_quiet)
            self._hub.destroy()
            self.store, self.is_loaded = None, False
            for task in self._confirming:
                task.cancel()
            await self._let_go()

    def _has_ended(self, life: asyncio.Task[None]) -> None:
        self._alarm.cancel()
        self.members.hide_all()  # there are none unless something unforeseen has ended it
        error = None if life.cancelled() else life.exception()
        if isinstance(error, Exception):
            self.report(error)
        settle(self._waiting_to_open, PathClosedError("the path was closed", path_id=self.path_id))
        self._exit.path_ended(self)

    async def _start(self) -> bool:
        """Load until it succeeds; False if nobody waits for that any more."""
        loop = asyncio.get_running_loop()
        began, wait_seconds, refused = loop.time(), RETRY_LOAD_FIRST_SECONDS, False
        while not await self._load(wait_seconds):
            if self._destroyed:
                return False
            refused = True
            await asyncio.sleep(wait_seconds)
            self._retry_at = self._failure = None
            self._hub.starting()
            wait_seconds = min(wait_seconds * 2, RETRY_LOAD_CAP_SECONDS)
            # Refused clients come back, and the waits go on growing until it loads.
            if not await self._somebody_comes(RETRY_LOAD_CAP_SECONDS):
                return False
        now = loop.time()
        # What they said was dropped, or they may have given up waiting for an answer.
        is_late = refused or now - began > self._options.request_timeout_seconds / 2
        self.store, self.is_loaded = self._replica(), True
        for client in self.members:
            self.members.welcome(client)
        self._hub.ready(self.store, now, is_late=is_late)
        settle(self._waiting_to_open)
        self._alarm.set()
        return True

    async def _somebody_comes(self, seconds: float) -> bool:
        """Whether somebody is there, or comes before so much time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.until(self._is_occupied)
        return self._is_occupied()

    async def _load(self, retry_after_seconds: float) -> bool:
        """Make the persister and load; on any failure let go of it, report, and refuse the clients."""
        try:
            then = await self._make_persister()
            if self._persister is not None:
                await self._persister.start_auto_load()
                if then is not None:
                    await awaited(then(self._persister.store))
                await self._persister.start_auto_save()
        except Exception as error:
            self._retry_at = asyncio.get_running_loop().time() + retry_after_seconds
            self._hub.fail()
            self._alarm.set()
            self._failure = self._report(error, LoadError, "the path could not be started")
            settle(self._waiting_to_open, self._failure)
            self._exit.refuse(self.path_id, [client.id for client in self.members], retry_after_seconds)
            await self._let_go()
            return False
        return True

    async def _make_persister(self) -> Then | None:
        create = self._options.create_persister_for_path
        self._persister, then = (None, None) if create is None else await made_persister(create, self.path_id)
        return then

    def _replica(self) -> MergeableStore | None:
        if self._persister is not None:
            return self._persister.store
        return None if self._options.relay else MergeableStore()

    async def _serve(self) -> None:
        """Return when nobody is there and everything is stored; what cannot be stored keeps the path alive."""
        wait_seconds = SAVE_RETRY_FIRST_SECONDS
        while True:
            await self._bell.until(self._is_empty)
            if self._options.idle_grace_seconds and await self._somebody_comes(self._options.idle_grace_seconds):
                continue
            await self._bell.until(self._is_quiet)
            with self._writes() as writes:
                flushed = await self._flush()
            if self._destroyed:
                return
            if flushed:
                wait_seconds = SAVE_RETRY_FIRST_SECONDS
                if self._is_empty() and self._is_quiet() and not writes:
                    return
            else:
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, SAVE_RETRY_CAP_SECONDS)

    @contextlib.contextmanager
    def _writes(self) -> Iterator[set[MergeableStore]]:
        """The store, once something is written to it meanwhile, by whoever came, or by the application that has it."""
        written: set[MergeableStore] = set()
        if (store := self.store) is None:
            yield written
            return
        listener_id = store.add_did_finish_transaction_listener(written.add)
        try:
            yield written
        finally:
            store.del_listener(listener_id)

    async def _flush(self) -> bool:
        if self._persister is None:
            return True
        self._storing = True
        try:
            await self._persister.flush()
        except Exception as error:
            self._report(error, SaveError, "the path could not be stored")
            return False
        finally:
            self._storing = False
        return True

    async def _let_go(self) -> None:
        """Let go of the persister, which stores what is unsaved."""
        persister, self._persister = self._persister, None
        if persister is None:
            return
        self._storing = True
        try:
            await persister.destroy()
        except Exception as error:
            self._report(error, SaveError, "the storage could not be closed")
        finally:
            self._storing = False

    def _report(self, error: Exception, kind: type[PersisterError], what: str) -> PersisterError:
        """Report a failure of the persister once, as the persister's own error or as one that names the path."""
        if not isinstance(error, kind):
            cause, error = error, kind(f"{what}: {type(error).__name__}: {error}", path_id=self.path_id)
            error.__cause__ = cause
        elif error.path_id is None:
            error.path_id = self.path_id
        self._exit.report(error)
        return error

    # --- time

    def _deadline(self) -> float | None:
        return earliest(self._hub.deadline, self.talk.deadline)

    def _wake(self, now: float) -> None:
        self._hub.wake(now)
        self.talk.wake(now)

    # --- what its messages say (TalkOutlet)

    def tell(self, client_id: str, operation: Operation) -> bool:
        """An operation for a client."""
        return self._exit.tell(self.path_id, client_id, operation)

    def renamed(self, client_id: str) -> None:
        """A client has another name, or none any more."""
        self.members.renamed(client_id)

    # --- what the hub says (Exit)

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        """A frame for clients."""
        self._exit.send(self.path_id, client_ids, frame)

    def send_changes(self, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """A message that clients may miss."""
        self._exit.send_changes(self.path_id, readers, frames, author)

    def close(self, client_id: str, error: SyncError) -> None:
        """A client has to go."""
        self._exit.close(self.path_id, client_id, error)

    def report(self, error: Exception, client_id: str | None = None) -> None:
        """An error."""
        note_place(error, self.path_id, client_id)
        self._exit.report(error)
