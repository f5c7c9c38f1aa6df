"""Who may open a socket; said before it is one, so that a refusal costs next to nothing."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mergesync.exceptions import RefusedConnectionError
from mergesync.limits import QUOTA_RETRY_SECONDS, Limits
from mergesync.net.channel import AsgiScope, AsgiSend
from mergesync.net.origins import check_origins, origin_is_allowed

__all__ = ["Door", "counted_address", "headers_of_refusal", "refuse_websocket"]

_FORBIDDEN, _TOO_MANY = 403, 429
_SECURE = ("https", "wss")


def counted_address(remote_address: Any) -> str | None:
    """What sockets are counted by: an address, or an IPv6 network, as one machine may have all of its addresses.

    None for what is not global: a proxy, with everybody behind it, or this very machine.

    Example:
        >>> [counted_address((host, 50000)) for host in ("9.9.9.9", "2620:fe::9", "127.0.0.1")]
        ['9.9.9.9', '2620:fe::/64', None]
    """
    try:
        address = ipaddress.ip_address(str(remote_address[0]).partition("%")[0])
    except (ValueError, TypeError, LookupError):  # a Unix socket
        return None
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if not address.is_global:
        return None
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


class Door:
    """Decides who may open a socket, and counts who has one.

    Args:
        origins: see `WsServer`.
        limits: of the server.
    """

    def __init__(self, origins: Collection[str], limits: Limits) -> None:
        self._origins = check_origins(origins)
        self._limits = limits
        self._inside = 0
        self._by_address: Counter[str] = Counter()

    @contextmanager
    def inside(self, remote_address: Any) -> Iterator[None]:
        """Count a socket while it is open."""
        address = counted_address(remote_address)
        self._inside += 1
        if address is not None:
            self._by_address[address] += 1
        try:
            yield
        finally:
            self._inside -= 1
            if address is not None:
                self._by_address[address] -= 1
                if not self._by_address[address]:
                    del self._by_address[address]

    def refusal(
        self, headers: Mapping[str, str], remote_address: Any, *, secure: bool
    ) -> RefusedConnectionError | None:
        """Why a request for a socket is refused, or None.

        Args:
            headers: of the request, by lower-case name.
            remote_address: who asks.
            secure: whether it came by wss. What a proxy says of that counts as well: it can only make us stricter.
        """
        return self._strange_origin(headers, secure=secure) or self._too_many(remote_address)

    def _strange_origin(self, headers: Mapping[str, str], *, secure: bool) -> RefusedConnectionError | None:
        origin = headers.get("origin")
        secure = secure or headers.get("x-forwarded-proto") in _SECURE
        if not origin_is_allowed(origin, headers.get("host"), secure=secure, allowed=self._origins):
            message = f"pages of the origin {origin!r:.100} may not open sockets"
            return RefusedConnectionError(message, status=_FORBIDDEN)
        return None

    def _too_many(self, remote_address: Any) -> RefusedConnectionError | None:
        limits, address = self._limits, counted_address(remote_address)
        if limits.connections is not None and self._inside >= limits.connections:
            message = f"more than {limits.connections} sockets"
        elif (
            limits.connections_per_address is not None
            and address is not None
            and self._by_address[address] >= limits.connections_per_address
        ):
            message = f"more than {limits.connections_per_address} sockets of {address}"
        else:
            return None
        return RefusedConnectionError(message, status=_TOO_MANY, retry_after_seconds=QUOTA_RETRY_SECONDS)


def headers_of_refusal(refusal: RefusedConnectionError) -> dict[str, str]:
    """When to come again, and where to go instead, as far as a refusal says."""
    headers = {}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = f"{refusal.retry_after_seconds:.0f}"
    if refusal.location is not None:
        headers["Location"] = refusal.location
    return headers


async def refuse_websocket(scope: AsgiScope, send: AsgiSend, refusal: RefusedConnectionError) -> None:
    """Answer an ASGI WebSocket that is not accepted; a server that cannot say more says 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = f"{refusal.message}\n".encode()
    about = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    said = {**about, **headers_of_refusal(refusal)}
    headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
