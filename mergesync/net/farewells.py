"""What a client is told that is put out of a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mergesync.net.channel import close_reason

__all__ = [
    "CLOSE_EJECTED",
    "CLOSE_FORBIDDEN",
    "CLOSE_PATH_CLOSED",
    "CLOSE_REMOVED",
    "Farewell",
    "LeaveReason",
    "closed",
    "ejected",
    "forbidden",
    "removed",
]

LeaveReason: TypeAlias = Literal[
    "left", "lost", "idle", "fault", "refused", "unauthorized", "ejected", "closed", "removed", "shutdown"
]
"""Why a client is not on a path any more: it went; its connection broke; it has said nothing for too long; it, or the
path, was closed for an error; a hook refused it; it is logged out, or its identity has expired; the application has
ejected it, closed the path, or removed it; the server is going down."""

CLOSE_PATH_CLOSED: Final = 4001
CLOSE_EJECTED: Final = 4003
CLOSE_FORBIDDEN: Final = 4403
CLOSE_REMOVED: Final = 4410


@dataclass(frozen=True, slots=True)
class Farewell:
    """Why a client has to leave a path.

    Attributes:
        code: what its socket is closed with, if it has no channels.
        reason: likewise.
        kind: what it is told in the operation `refused`, if it has channels.
        text: likewise.
        why: what `on_leave` is told.
    """

    code: int
    reason: str
    kind: str
    text: str
    why: LeaveReason


def forbidden(text: str, retry_after_seconds: float | None = None) -> Farewell:
    """A hook has refused it, or it is banned."""
    text = _until(text, retry_after_seconds)
    return Farewell(CLOSE_FORBIDDEN, close_reason(f"mergesync:refused {text}"), "forbidden", text, "refused")


def removed(text: str = "") -> Farewell:
    """The path was removed."""
    return Farewell(CLOSE_REMOVED, close_reason(f"mergesync:removed {text}".strip()), "removed", text, "removed")


def closed(code: int, reason: str) -> Farewell:
    """The application has closed the path."""
    return Farewell(code, reason, "closed", reason, "closed")


def ejected(code: int, reason: str, ban_seconds: float) -> Farewell:
    """The application has put it out."""
    reason = _until(reason, ban_seconds)
    return Farewell(code, reason, "ejected", reason, "ejected")


def _until(reason: str, seconds: float | None) -> str:
    """A reason that says when to come again, if that is known."""
    return f"{reason} retry-after={seconds:.0f}".strip() if seconds else reason
