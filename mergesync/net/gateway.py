"""Sockets of clients that speak another protocol than TinyBase's, and the gateways that speak it with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from mergesync.exceptions import (
    ConnectionLostError,
    LimitExceededError,
    RefusedConnectionError,
    RefusedError,
    SyncError,
)
from mergesync.limits import MAX_CHANNELS
from mergesync.net.channel import ChannelClosed, TextChannel, check_close, close_reason, wait_while_open
from mergesync.net.member import Member
from mergesync.net.path import Path
from mergesync.rooms.access import Client, ClientInfo, Identity
from mergesync.sync.operations import Operation

__all__ = ["Entrance", "Gateway", "GatewayConnection", "GatewaySocket", "Gateways", "check_prefix"]

_Result = TypeVar("_Result")


class Entrance(Protocol):
    """What a gateway's socket needs of the server around it."""

    async def admit_member(self, path_id: str, connection: GatewayConnection, hello: Any) -> Client:
        """Let its client onto a path; raises RefusedConnectionError."""

    def join_member(self, path_id: str, connection: GatewayConnection, client: Client) -> Path:
        """The client comes onto a path."""

    def leave(self, path_id: str, connection: GatewayConnection) -> None:
        """The client leaves a path."""

    def exists(self, path_id: str) -> bool:
        """Whether there is a path."""

    def send_to(self, connection: GatewayConnection, frame: str) -> None:
        """Send a frame to the socket."""

    def close_socket(self, connection: GatewayConnection, code: int, reason: str) -> None:
        """Close the socket, because of what its client has done."""

    def blame(self, connection: GatewayConnection, error: Exception, *, closes: bool) -> None:
        """Report an error of the client, or of the gateway, and close its socket."""


class GatewayConnection:
    """Where the client of a gateway is: what `ServerConnection` is for the others.

    Attributes:
        client_id: what it is called on its paths.
        members: itself on each path; None while it is being let onto that.
    """

    multiplexed: bool = False
    extended: bool = False

    def __init__(self, client_id: str, entrance: Entrance) -> None:
        self.client_id = client_id
        self.members: dict[str, Member | None] = {}
        self._entrance = entrance

    def close(self) -> None:
        """The socket is closed: leave all paths. May be called more than once."""
        for path_id in list(self.members):
            self.leave(path_id)

    def leave(self, path_id: str) -> None:
        """Leave a path, if it is there."""
        if path_id in self.members:
            member = self.members.pop(path_id)
            if member is not None:
                member._left()
            self._entrance.leave(path_id, self)

    def tell(self, path_id: str, operation: Operation) -> bool:
        """An operation of the server; whether it comes to somebody."""
        member = self.members.get(path_id)
        if member is None:
            return False
        member._told(operation)
        return True


class GatewaySocket:
    """A socket of a client that speaks another protocol, as a `Gateway` has it.

    Iterate over it to get the client's frames, as text, until it is closed. Everything that a gateway does for its
    client it does in order, by awaiting it before the next frame is read. When the gateway returns, the socket is
    closed with 1000, if it is not yet; a `SyncError` that it raises is reported, and closes it with the error's code.

    Attributes:
        info: what the client said when it asked for the socket.
        identity: who it is, if the server has an `authorize`.
        path_id: what follows the gateway's prefix in the URL, as a path id.
    """

    def __init__(
        self,
        connection: GatewayConnection,
        entrance: Entrance,
        channel: TextChannel,
        receive: Callable[[], Awaitable[str]],
        info: ClientInfo,
        identity: Identity | None,
        path_id: str,
    ) -> None:
        self.info = info
        self.identity = identity
        self.path_id = path_id
        self._connection = connection
        self._entrance = entrance
        self._channel = channel
        self._receive = receive

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            return await self._receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def send(self, text: str) -> None:
        """Send a frame; never waits. Who does not read is closed with 1013 in the end."""
        self._entrance.send_to(self._connection, text)

    def close(self, code: int, reason: str = "") -> None:
        """Close the socket, and leave all paths; the reason is cut to what a close frame can carry.

        Raises:
            ValueError: a close frame cannot carry the code.
        """
        reason = close_reason(reason)
        check_close(code, reason)
        self._entrance.close_socket(self._connection, code, reason)

    def report(self, error: SyncError) -> None:
        """Tell the server's `on_ignored_error` of something that does not end the socket."""
        self._entrance.blame(self._connection, error, closes=False)

    def exists(self, path_id: str) -> bool:
        """Whether there is a path: the application has made it, or has it open, or somebody is on it."""
        return self._entrance.exists(path_id)

    async def join(self, path_id: str, hello: Any = None) -> Member:
        """Bring the client onto a path; returns once that is loaded, and `admit` and `on_join` have let it in.

        It leaves with `leave`, or when the socket is closed.

        Args:
            path_id: the path; not one that it is on.
            hello: what the client has said when it came; hooks find it as `client.info.hello`.

        Raises:
            RefusedError: it is not let in.
            LoadError: the path cannot be loaded for now; the socket is closed with 1013.
            LimitExceededError: it is on too many paths, or there are too many.
            ConnectionLostError: it went meanwhile.
        """
        connection = self._connection
        if path_id in connection.members:
            raise ValueError(f"the client is on the path {path_id!r} already")
        if len(connection.members) >= MAX_CHANNELS:
            raise LimitExceededError(f"more than {MAX_CHANNELS} paths on a socket", limit="channels", path_id=path_id)
        try:
            client = await self._while_open(self._entrance.admit_member(path_id, connection, hello))
            path = self._entrance.join_member(path_id, connection, client)
        except RefusedConnectionError as refusal:
            raise RefusedError(refusal.message, path_id=path_id, client_id=connection.client_id) from None
        await self._while_open(_loaded(path))
        if path_id not in connection.members:  # `on_join` has refused it, or it was sent away
            raise ConnectionLostError("the client is not on the path any more", path_id=path_id)
        member = connection.members[path_id] = Member(client, path, self._called_back, self._guard)
        return member

    def leave(self, path_id: str) -> None:
        """The client leaves a path, if it is there."""
        self._connection.leave(path_id)

    async def _called_back(self, begin: Callable[[Callable[[Any], None]], None]) -> Any:
        """Begin something, and return with what it is called back."""
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        begin(lambda outcome: None if result.done() else result.set_result(outcome))
        return result.result() if result.done() else await self._while_open(result)

    async def _while_open(self, awaitable: Awaitable[_Result]) -> _Result:
        """What is awaited, unless the client goes first; for what it has asked is gone with it."""
        waiting = asyncio.ensure_future(awaitable)
        try:
            if not await wait_while_open(self._channel, waiting):
                raise ConnectionLostError("the client has gone", client_id=self._connection.client_id)
            return waiting.result()
        finally:
            waiting.cancel()

    def _guard(self, listener: Callable[..., object], *arguments: Any) -> None:
        """Call a listener of the gateway; where that fails, the client would miss something."""
        try:
            listener(*arguments)
        except Exception as error:
            self._entrance.blame(self._connection, error, closes=True)


async def _loaded(path: Path) -> None:
    """Return when a path is loaded, and the application has been told of who has come."""
    await path.loaded()
    await path.turns.settled()


Gateway: TypeAlias = Callable[[GatewaySocket], Awaitable[None]]
"""Speaks with the client of one socket until that is closed."""


def check_prefix(prefix: str) -> None:
    """See to it that URLs can begin so.

    Raises:
        ValueError: they cannot.
    """
    if not prefix.startswith("/") or "?" in prefix:
        raise ValueError(f"a prefix such as '/wsss' is wanted, not {prefix!r}")


class Gateways:
    """Which gateway serves which URLs.

    Args:
        gateways: by prefix, such as `/wsss`, or `/` for all.

    Raises:
        ValueError: a prefix is none.

    Example:
        >>> async def gateway(socket: GatewaySocket) -> None: ...
        >>> Gateways({"/old": gateway}).find("/old/room?x") == (gateway, "room")
        True
    """

    def __init__(self, gateways: Mapping[str, Gateway]) -> None:
        for prefix in gateways:
            check_prefix(prefix)
        longest_first = sorted(gateways.items(), key=lambda item: -len(item[0]))
        self._gateways = {prefix.rstrip("/"): gateway for prefix, gateway in longest_first}

    def __bool__(self) -> bool:
        return bool(self._gateways)

    def find(self, target: str) -> tuple[Gateway, str] | None:
        """The gateway for a request target, and what follows its prefix, as a path id."""
        path, _, _ = target.partition("?")
        for prefix, gateway in self._gateways.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return gateway, path[len(prefix) :].removeprefix("/")
        return None
