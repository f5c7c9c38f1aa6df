"""Where a server may listen: all addresses of a host, on one port."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from mergesync.limits import MAX_UNACCEPTED_CONNECTIONS

__all__ = ["Host", "hold_more_connections", "usable_addresses"]

Host: TypeAlias = str | Sequence[str] | None
"""A name or an address, several of them, or None for all interfaces."""

_Address: TypeAlias = tuple[int, Any]  # family, socket address

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_ATTEMPTS = 10


async def usable_addresses(host: Host, port: int, *, reuse_port: bool = False) -> tuple[list[str], int]:
    """The addresses of a host on which this machine can listen, and a port that is free on all of them.

    Listening on "localhost" with asyncio alone fails where the name has an IPv6 address but the machine has not, as in
    many containers, and takes two different ports for the two addresses if any port will do.

    Args:
        host: where to listen.
        port: 0 for any.
        reuse_port: other processes may listen on the port as well.

    Raises:
        OSError: none of the addresses can be used, or the port is in use on one of them.
    """
    addresses = await _resolve(host, port)
    for _ in range(_ATTEMPTS - 1):
        try:
            return _probe(addresses, port, reuse_port)
        except OSError as error:
            if port != 0 or error.errno != errno.EADDRINUSE:
                raise
    return _probe(addresses, port, reuse_port)


async def _resolve(host: Host, port: int) -> list[_Address]:
    loop = asyncio.get_running_loop()
    addresses: dict[_Address, None] = {}
    for name in [host] if host is None or isinstance(host, str) else host:
        found = await loop.getaddrinfo(name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses.update(((family, address), None) for family, _, _, _, address in found)
    return list(addresses)


def _probe(addresses: list[_Address], port: int, reuse_port: bool) -> tuple[list[str], int]:
    """Bind all addresses at once, which shows that they can be, and let go of them."""
    sockets: list[socket.socket] = []
    usable = []
    missing: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sockets.append(_bound(family, (address[0], port, *address[2:]), reuse_port))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
            else:
                usable.append(str(address[0]))
                port = sockets[-1].getsockname()[1]
    finally:
        for each in sockets:
            each.close()
    if missing is not None and not usable:
        raise missing
    return usable, port


def _bound(family: int, address: Any, reuse_port: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from None
    return bound


def hold_more_connections(listening: Iterable[socket.socket]) -> None:
    """Let the system hold more connections than the event loop takes at once, which is bounded for the others' sake."""
    for each in listening:
        with socket.fromfd(each.fileno(), each.family, each.type) as same:
            same.listen(MAX_UNACCEPTED_CONNECTIONS)
