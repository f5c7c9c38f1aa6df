"""What the tests of rooms share."""

from __future__ import annotations

from typing import Any

from mergesync.rooms.access import Access, Client, ClientInfo, Identity

__all__ = ["client"]


def client(name: str | None = "ann", path_id: str = "p", data: Any = None, **access: bool) -> Client:
    """A client with an identity of this name, or none."""
    info = ClientInfo("C", path_id, ("127.0.0.1", 1), {}, False, {}, None)
    identity = None if name is None else Identity(name, data=data)
    return Client(path_id, info, identity, Access(**access))
