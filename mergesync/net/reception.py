"""Who comes: asks the application who it is, and what it may do on which path."""

from __future__ import annotations

import asyncio
import base64
import binascii
import weakref
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from urllib.parse import parse_qsl

from mergesync.exceptions import RedirectError, RefusedConnectionError, RefusedError
from mergesync.net.bans import Bans
from mergesync.net.hooks import Hooks
from mergesync.net.presence import main_of
from mergesync.net.refusals import Refusals
from mergesync.net.reporting import note_place
from mergesync.net.turns import Turns, answer_of
from mergesync.rooms.access import Access, Client, ClientInfo, Identity
from mergesync.sync.server_connection import path_of
from mergesync.sync.subprotocols import Dialect, choose, dialect_of
from mergesync.system import new_id
from mergesync.types import GetNow

if TYPE_CHECKING:
    from mergesync.net.gateway import Gateway

__all__ = ["Admitted", "Gate", "Reception", "Visitor"]

_UNAUTHORIZED, _FORBIDDEN, _FAILED = 401, 403, 500
_NO_ACCESS = Access(read=False, write=False, presence=False, actions=False, overwrite=False)

Admitted: TypeAlias = Callable[["Client | RefusedConnectionError"], None]
"""Called with a client that is let onto a path, or with why it is not."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Visitor:
    """Who asks for a socket, or has one.

    Attributes:
        info: what it said.
        dialect: what it speaks.
        identity: who it is, if somebody has asked.
        client: itself on the path of its URL, if it is let onto that.
        logged_out: whether its identity was logged out since.
        gateway: what speaks with it, and what follows its prefix in the URL; None for mergesync itself.
    """

    info: ClientInfo
    dialect: Dialect
    identity: Identity | None = None
    client: Client | None = None
    logged_out: bool = False
    gateway: tuple[Gateway, str] | None = None

    def is_again(self, other: Visitor) -> bool:
        """Whether it is another one who comes again, as the application says."""
        return (
            self.identity is not None
            and other.identity is not None
            and (self.identity.name == other.identity.name and self.identity.client_id == other.info.client_id)
        )

    def set_info(self, info: ClientInfo) -> None:
        """Something is known otherwise of it."""
        self.info = info
        if self.client is not None:
            self.client.info = info

    def forget_what_it_said(self) -> None:
        """Nobody will want to know it, and it is some kilobytes."""
        self.set_info(replace(self.info, headers={}, query={}))


class Gate(Protocol):
    """Knows which paths nobody may come onto."""

    async def not_ready(self) -> RefusedConnectionError | None:
        """Why nobody may come onto any path now."""

    def refusal(self, path_id: str) -> RefusedConnectionError | None:
        """Why nobody may come onto a path, or None."""


class Reception:
    """Lets visitors in, if the application does.

    Args:
        hooks: of the server.
        report: hears of what goes wrong in hooks.
        refusals: hears of whom is refused.
        get_now: the wall clock.
        bans: who may not come onto which path.
        gate: onto which paths nobody may.
        presence: whether paths have companions that say who is there.
    """

    def __init__(
        self,
        hooks: Hooks,
        report: Callable[[Exception], None],
        refusals: Refusals,
        get_now: GetNow,
        bans: Bans,
        gate: Gate,
        *,
        presence: bool,
    ) -> None:
        self._hooks = hooks
        self._bans = bans
        self._gate = gate
        self._presence = presence
        self._report = report
        self._refusals = refusals
        self._get_now = get_now
        self._turns: weakref.WeakValueDictionary[str, Turns] = weakref.WeakValueDictionary()
        self._visitors: weakref.WeakSet[Visitor] = weakref.WeakSet()
        self._closed = False

    @property
    def asks(self) -> bool:
        """Whether the application is asked at all before there is a socket."""
        return self._hooks.authorize is not None or self._hooks.admit is not None

    @property
    def identifies(self) -> bool:
        """Whether it is asked who visitors are."""
        return self._hooks.authorize is not None

    def turns_of(self, path_id: str) -> Turns:
        """The application's callbacks about a path, and about its companion."""
        main_id = main_of(path_id) if self._presence else None
        path_id = path_id if main_id is None else main_id
        turns = self._turns.get(path_id)
        if turns is None:
            turns = self._turns[path_id] = Turns(self._hooks.timeout_seconds)
        return turns

    def visitor(
        self,
        target: str,
        headers: Mapping[str, str],
        remote_address: Any,
        offered: Iterable[str],
        taken: Container[str],
    ) -> Visitor:
        """Note who asks for a socket.

        Args:
            target: the request target, still percent-encoded, with its query.
            headers: of the request, by lower-case name.
            remote_address: the other end.
            offered: the subprotocols that it offers.
            taken: ids of other clients.
        """
        dialect = dialect_of(choose(offered))
        query = dict(parse_qsl(target.partition("?")[2], keep_blank_values=True))
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        token = credentials.strip() if scheme.lower() == "bearer" else query.get("token")
        client_id = _client_id(headers.get("sec-websocket-key", ""), taken)
        info = ClientInfo(client_id, path_of(target), remote_address, dict(headers), dialect.multiplexed, query, token)
        visitor = Visitor(info, dialect)
        self._visitors.add(visitor)
        return visitor

    def give_another_id(self, visitor: Visitor, taken: Container[str]) -> None:
        """Somebody else has the same."""
        visitor.set_info(replace(visitor.info, client_id=_client_id("", taken)))

    async def receive(self, visitor: Visitor) -> RefusedConnectionError | None:
        """Ask who it is, and what it may do on its path, unless it names that later; returns why not, if it may not."""
        not_ready = await self._gate.not_ready()
        if not_ready is not None:
            return not_ready
        try:
            if self._hooks.authorize is not None and not self._closed:
                visitor.identity = await self.identify(visitor.info)
                if visitor.identity.client_id is not None:
                    visitor.set_info(replace(visitor.info, client_id=visitor.identity.client_id))
            if not visitor.dialect.multiplexed and visitor.gateway is None:
                visitor.client = await self.admitted(visitor.info.path_id, visitor)
        except RefusedConnectionError as refusal:
            return refusal
        if visitor.logged_out:
            return RefusedConnectionError("logged out", status=_UNAUTHORIZED)
        return None

    async def identify(self, info: ClientInfo) -> Identity:
        """Ask who somebody is; raises RefusedConnectionError, which was reported."""
        authorize = self._hooks.authorize
        assert authorize is not None
        try:
            identity = await answer_of(authorize, info, timeout_seconds=self._hooks.timeout_seconds)
            if not isinstance(identity, Identity):
                raise TypeError(f"authorize must return an Identity, not {type(identity).__name__}")
            if identity.client_id is not None and (len(identity.client_id) < 2 or "\n" in identity.client_id):
                raise ValueError(f"a client cannot be called {identity.client_id!r:.80}")
            if identity.expires_at_seconds is not None and identity.expires_at_seconds * 1000 <= self._get_now():
                raise RefusedError("the identity has expired")
        except Exception as error:
            raise self._refusal(error, _UNAUTHORIZED, info.path_id, info.client_id) from None
        return identity

    async def admitted(self, path_id: str, visitor: Visitor) -> Client:
        """Let it onto a path; raises RefusedConnectionError, which was reported."""
        answer: asyncio.Future[Client | RefusedConnectionError] = asyncio.get_running_loop().create_future()

        def decided(outcome: Client | RefusedConnectionError) -> None:
            if not answer.done():  # it was not worth waiting for any more
                answer.set_result(outcome)

        self.admit(path_id, visitor, decided)
        outcome = await answer
        if isinstance(outcome, RefusedConnectionError):
            raise outcome
        return outcome

    def admit(self, path_id: str, visitor: Visitor, decided: Admitted) -> None:
        """Ask what a visitor may do on a path, when it is the path's turn; what is refused was reported.

        Args:
            path_id: the path, or the companion of the path of which is asked.
            visitor: of whom it is known who it is.
            decided: called now or later.
        """
        main_id = main_of(path_id) if self._presence else None
        if main_id is None:
            self._admit(path_id, visitor, decided)
            return

        def done(outcome: Client | RefusedConnectionError) -> None:
            if isinstance(outcome, Client):
                outcome = self._companion_client(path_id, outcome)
            decided(outcome)

        self._admit(main_id, visitor, done)

    def _companion_client(self, path_id: str, client: Client) -> Client | RefusedConnectionError:
        """Who may be on a path is on its companion what its access says."""
        if not client.access.presence:
            error = RefusedError("the client may not see who is there")
            return self._refusal(error, _FORBIDDEN, path_id, client.id)
        return Client(path_id, client.info, client.identity, Access(presence=False, actions=False))

    def _admit(self, path_id: str, visitor: Visitor, decided: Admitted) -> None:
        refusal = self._gate.refusal(path_id) or self._bans.refusal(
            path_id, visitor.identity, visitor.info.remote_address
        )
        if refusal is not None:
            self._report_refusal(refusal, path_id, visitor.info.client_id)
            decided(refusal)
            return
        admit = self._hooks.admit
        if admit is None or self._closed:
            decided(Client(path_id, visitor.info, visitor.identity, Access() if admit is None else _NO_ACCESS))
            return
        client = Client(path_id, visitor.info, visitor.identity, _NO_ACCESS)

        def done(access: Any, error: Exception | None) -> None:
            if error is None and not isinstance(access, Access):
                error = TypeError(f"admit must return an Access, not {type(access).__name__}")
            if error is not None:
                decided(self._refusal(error, _FORBIDDEN, path_id, client.id))
            else:
                client.access = access
                decided(client)

        self.turns_of(path_id).call(lambda: admit(path_id, client), done)

    def _refusal(self, error: Exception, status: int, path_id: str, client_id: str) -> RefusedConnectionError:
        """What a visitor is told; an error of the application is reported, and not told."""
        if isinstance(error, RedirectError):
            return RefusedConnectionError(error.message, status=error.status or status, location=error.location)
        if isinstance(error, RefusedError):
            refusal = RefusedConnectionError(error.message, status=error.status or status)
            self._report_refusal(refusal, path_id, client_id)
            return refusal
        note_place(error, path_id, client_id)
        self._report(error)
        return RefusedConnectionError("the application failed", status=_FAILED)

    def _report_refusal(self, refusal: RefusedConnectionError, path_id: str, client_id: str) -> None:
        refusal.path_id, refusal.client_id = path_id, client_id
        self._refusals.report(refusal)

    async def close(self) -> None:
        """Ask the application nothing any more, and return when it is through with all that it was asked about paths.

        Who comes nevertheless sees no path before it is told that the server has ended.
        """
        self._closed = True
        await asyncio.gather(*(turns.settled() for turns in list(self._turns.values())))

    def log_out(self, name: str) -> set[Visitor]:
        """Nobody with an identity of this name is let in any more who is about to be; returns who is."""
        visitors = {visitor for visitor in self._visitors if visitor.identity and visitor.identity.name == name}
        for visitor in visitors:
            visitor.logged_out = True
        return visitors


def _client_id(key: str, taken: Container[str]) -> str:
    """The client's WebSocket key, as in the peer, unless it is none or is taken."""
    try:
        usable = len(base64.b64decode(key, validate=True)) == 16 and key not in taken
    except (binascii.Error, ValueError):
        usable = False
    return key if usable else base64.b64encode(new_id(16).encode()).decode()
