"""Who a client is, and what it may do on a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Access", "Client", "ClientInfo", "Identity"]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What is known of a client when it asks for a socket.

    Attributes:
        client_id: what the client is called on its paths.
        path_id: the path of its URL.
        remote_address: the other end of the socket, usually `(host, port, ...)`.
        headers: of the HTTP request, by lower-case name.
        multiplexed: whether the client opens channels.
        query: of the URL; of a name that comes more than once, the last.
        token: what the client proves with who it is: `Authorization: Bearer ...`, or else `?token=...` of the URL, as
            a browser cannot set headers.
        hello: what a client of a gateway has said when it came onto a path, as its protocol has it; None for others.
    """

    client_id: str
    path_id: str
    remote_address: Any
    headers: dict[str, str] = field(repr=False)
    multiplexed: bool
    query: dict[str, str] = field(repr=False)
    token: str | None = field(repr=False)
    hello: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as `authorize` says.

    Attributes:
        name: what `WsServer.log_out` and the owner columns of rules know it by; several sockets may have the same.
        expires_at_seconds: when its sockets are closed with 4401, since 1970, as the `exp` of a JWT; None for never.
        data: whatever the application wants to keep with it.
        client_id: what this client is called on its paths, and so its row in presence: two characters at least, without
            line breaks. Who comes later with the same name and id takes the place of who came before, whose socket is
            closed with 4409. None for an id of the server's.
    """

    name: str
    expires_at_seconds: float | None = None
    data: Any = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client may do on a path, as `admit` says.

    Attributes:
        read: hear of what is on the path. Who may not is told that there is nothing.
        write: change it.
        presence: be seen by others, and see them.
        actions: ask the server for actions, and talk to other clients.
        overwrite: whether the client's refused changes are answered with the values to keep, so that it ends equal to
            the server. Else they are only reported, and it keeps its own until somebody writes a newer one.
    """

    read: bool = True
    write: bool = True
    presence: bool = True
    actions: bool = True
    overwrite: bool = True


@dataclass(slots=True, eq=False)
class Client:
    """A client on a path, as hooks are given it. Only to be read.

    Attributes:
        path_id: the path.
        info: what it said when it asked for its socket; its headers and query only where there are hooks or actions.
        identity: who it is; None if nobody asked, as there is no `authorize`.
        access: what it may do here.
    """

    path_id: str
    info: ClientInfo
    identity: Identity | None
    access: Access

    @property
    def id(self) -> str:
        """What it is called on its paths."""
        return self.info.client_id

    @property
    def remote_address(self) -> Any:
        """The other end of its socket, usually `(host, port, ...)`."""
        return self.info.remote_address
