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

__all__ = ["Admit", "Authorize", "Hooks", "LeaveReason", "OnChanges", "OnJoin", "OnLeave", "SelfDestruct"]

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
    self_destruct: SelfDestruct | None = None
    timeout_seconds: float

    @property
    def any(self) -> bool:
        """Whether anything is asked, or told."""
        return self.authorize is not None or self.review or self.on_join is not None or self.on_leave is not None

    @property
    def review(self) -> bool:
        """Whether clients may not write all that they want."""
        return self.admit is not None or self.rules is not None or self.on_changes is not None
