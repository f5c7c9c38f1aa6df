"""Which web pages may open sockets: a browser says whose page it is in the header `Origin`, other programs say none."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["ANY_ORIGIN", "check_origins", "origin_is_allowed"]

ANY_ORIGIN = "*"

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
_UNLIKE_URLS = (ANY_ORIGIN, "null", "file://")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_origins(origins: Collection[str]) -> frozenset[str]:
    """The origins that are allowed beside the server's own, each spelled as browsers do, since they must be equal.

    Raises:
        TypeError: a text instead of a collection of texts.
        ValueError: no browser sends one of them.

    Example:
        >>> sorted(check_origins(["https://example.org", "http://localhost:5173"]))
        ['http://localhost:5173', 'https://example.org']
    """
    if isinstance(origins, str):
        raise TypeError(f"origins must be a collection, such as [{origins!r}]")
    for origin in origins:
        parts = _ORIGIN.fullmatch(origin)
        if origin not in _UNLIKE_URLS and (parts is None or parts[3] == _DEFAULT_PORTS.get(parts[1], "")):
            raise ValueError(
                f"{origin!r} is not an origin as a browser says it, which is a scheme, a host in lower case and with "
                "xn-- for other letters, and a port unless it is the usual one: 'https://example.org'"
            )
    return frozenset(origins)


def origin_is_allowed(origin: str | None, host: str | None, *, secure: bool, allowed: Collection[str]) -> bool:
    """Whether who asks to open a socket may do so.

    A page may if it comes from the very host and port that it asks. Which scheme it must come by is known only where
    the socket is encrypted: a socket that is not may have been, up to a proxy.

    Args:
        origin: of the header `Origin`; None if there is none.
        host: of the header `Host`.
        secure: whether the browser is known to have asked by wss.
        allowed: what may besides, checked by `check_origins`.

    Example:
        >>> origin_is_allowed("https://example.org", "example.org", secure=True, allowed=())
        True
    """
    if origin is None or origin in allowed or ANY_ORIGIN in allowed:
        return True
    parts = _ORIGIN.fullmatch(origin)
    if parts is None or host is None or parts[1] not in _DEFAULT_PORTS or (secure and parts[1] != "https"):
        return False
    default_port = _DEFAULT_PORTS[parts[1]]
    return parts[2] + (parts[3] or default_port) == _with_port(host.lower(), default_port)


def _with_port(host: str, default_port: str) -> str:
    return host if re.search(r":[0-9]+$", host, re.ASCII) else host + default_port
