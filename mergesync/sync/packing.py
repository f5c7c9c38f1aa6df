"""Pages as they travel between two mergesync ends: JSON as it is, or compressed where that pays.

Rows of a table have the same cells, and stamps of one transaction differ in their last characters, so a page of JSON
shrinks to a fifth. Compressing costs the server less than sending so much more (docs/protocol.md, `compare`).
"""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode, b64encode
from typing import Any, Final

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_MESSAGE_BYTES
from mergesync.store.jsjson import loads, parse

__all__ = ["packed", "unpacked_json"]

_WORTH_IT: Final = 1024
"""Bytes of JSON below which it is left as it is: it fits a network packet anyway."""

_LEVEL: Final = 1  # 4 MB of rows: 770 kB in 22 ms; with 6, the default, 640 kB in 74 ms


def packed(text: bytes) -> Any:
    """JSON text as it travels inside other JSON: what it says, or text if it is long.

    Raises:
        LimitExceededError: it is longer than a message may be.

    Example:
        >>> packed(b"[{}]"), packed(b"[" + b"0," * 1000 + b"0]")
        ([{}], 'eAGLNtAZhaMhMBoCoyEwGgKjITAaAkM+BGIBfG9oWA==')
    """
    if len(text) < _WORTH_IT:
        return loads(text.decode())
    if len(text) > MAX_MESSAGE_BYTES:
        raise LimitExceededError("a row is too large to be sent", limit="socket")
    return b64encode(zlib.compress(text, _LEVEL)).decode()


def unpacked_json(said: Any) -> Any:
    """What a page says.

    Raises:
        RemoteProtocolError: it is text, but not that of a page, or too large.
    """
    if not isinstance(said, str):
        return said
    try:
        inflating = zlib.decompressobj()
        text = inflating.decompress(b64decode(said, validate=True), MAX_MESSAGE_BYTES)
        if not inflating.eof or inflating.unused_data:
            raise RemoteProtocolError(f"a page of more than {MAX_MESSAGE_BYTES} bytes, or not whole")
        return parse(text.decode())
    except (binascii.Error, zlib.error, ValueError) as error:
        raise RemoteProtocolError("not a page") from error
