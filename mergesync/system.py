"""The outside world that a store needs when nobody injects one: a wall clock and randomness.

The only module below `persist` that touches either; tests and the simulator inject their own.
"""

from __future__ import annotations

import secrets
import time

from mergesync.types import GetNow, NewId

__all__ = ["get_now", "new_id"]

_ID_ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


def _random_id(length: int) -> str:
    return "".join(_ID_ALPHABET[byte & 63] for byte in secrets.token_bytes(length))


get_now: GetNow = _wall_clock
"""Milliseconds since 1970."""

new_id: NewId = _random_id
"""A random id of so many characters of the HLC alphabet (6 bits each)."""
