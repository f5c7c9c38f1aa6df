"""What an application may decide about its clients, and hears of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergesync.net.farewells import LeaveReason
from mergesync.net.server_path import ServerPath
from mergesync.rooms.access import Client, ClientInfo
from mergesync.rooms.changes import Changes
from mergesync.rooms.rules import Rules

__all__ = ["Admit", "Authorize", "Hooks", "LeaveReason", "OnChanges", "OnJoin", "OnLeave", "OnPresence", "SelfDestruct"]

Authorize: TypeAlias = Callable[[ClientInfo], Any]
"""`(info) -> Identity`, or an awaitable of one."""

Admit: TypeAlias = Callable[[str, Client], Any]
"""`(path_id, client) -> Access`, or an awaitable of one."""

OnChanges: TypeAlias = Callable[[ServerPath, Client, Changes], Any]
"""`(path, client, changes)`; may be async."""

OnJoin: TypeAlias = Callable[[ServerPath, Client], Any]
"""`(path, client)`; may be async."""

OnLeave: TypeAlias = Callable[[ServerPath, Client, LeaveReason], Any]
"""`(path, client, reason)`; may be async."""

OnPresence: TypeAlias = Callable[[ServerPath, Client, dict[str, Any]], Any]
"""`(path, client, state)`, the state being what the client wants to say of itself, by cell id; may be async."""

SelfDestruct: TypeAlias = Callable[[ServerPath, int, float], Any]
"""`(path, clients left, when it was made, in seconds since 1970) -> bool`; may be async."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What a server asks its application; see `WsServer`."""

    authorize: Authorize | None = None
    admit: Admit | None = None
    rules: Rules | None = None
    on_changes: OnChanges | None = None
    on_join: OnJoin | None = None
    on_leave: OnLeave | None = None
    on_presence: OnPresence | None = None
    self_destruct: SelfDestruct | None = None
    timeout_seconds: float

    @property
    def any(self) -> bool:
        """Whether anything is asked, or told."""
        told = (self.authorize, self.on_join, self.on_leave, self.on_presence)
        return self.review or any(hook is not None for hook in told)

    @property
    def review(self) -> bool:
        """Whether clients may not write all that they want."""
        return self.admit is not None or self.rules is not None or self.on_changes is not None
