"""Who is behind a proxy: what its headers say counts only if the proxy is trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["Proxies"]


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed.

    Args:
        networks: their addresses or networks, such as `["10.0.0.0/8", "::1"]`.

    Raises:
        ValueError: one of them is none.

    Example:
        >>> proxies, headers = Proxies(["10.0.0.0/8"]), {"x-forwarded-for": "6.6.6.6, 9.9.9.9, 10.1.1.1"}
        >>> proxies.address_of(headers, ("10.0.0.2", 5000)), proxies.address_of(headers, ("8.8.8.8", 5000))
        (('9.9.9.9', 0), ('8.8.8.8', 5000))
    """

    def __init__(self, networks: Collection[str]) -> None:
        if isinstance(networks, str):
            raise TypeError(f"several networks are wanted, such as [{networks!r}]")
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def _are_trusted(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def address_of(self, headers: Mapping[str, str], remote_address: Any) -> Any:
        """The other end of a request: the last in the chain of proxies that is not trusted, without its port.

        Args:
            headers: of the request, by lower-case name.
            remote_address: the other end of the socket.
        """
        if not self._networks or not isinstance(remote_address, tuple | list):
            return remote_address
        found: Any = remote_address
        chain = [host.strip() for host in headers.get("x-forwarded-for", "").split(",") if host.strip()]
        while chain and self._are_trusted(str(found[0])):
            found = (chain.pop(), 0)
        return found
