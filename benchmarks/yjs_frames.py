"""Frames of the protocols for Yjs, for clients in raw sockets."""

from __future__ import annotations

from typing import Final

__all__ = ["hocuspocus_prefix", "hocuspocus_token"]

_TOKEN: Final = b"\x02\x00\x00"
"""A message of the kind 2, a token (0) that is empty."""


def hocuspocus_prefix(path_id: str) -> bytes:
    """With the name of the document begins each message."""
    return bytes([len(path_id)]) + path_id.encode()


def hocuspocus_token(path_id: str) -> bytes:
    """What comes first."""
    return hocuspocus_prefix(path_id) + _TOKEN
