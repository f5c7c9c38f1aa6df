"""What the gateways have in common: frames that are JSON, and names of rooms in them."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import quote

from mergesync import RemoteProtocolError
from mergesync.limits import MAX_INTEGER, MAX_NAME_BYTES

__all__ = ["as_text", "decode", "encode", "is_name", "path_id_of"]

_KEPT_IN_URLS = "/!$&'()*+,;=:@~[]|^"


def decode(frame: str) -> Any:
    """The JSON of a frame.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        return json.loads(frame, parse_int=_number, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("not JSON", excerpt=frame) from None


def _number(text: str) -> int | float:
    """A number as JavaScript has it, if it is one that can be sent on."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is no number in JSON")
    return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number


def encode(value: Any) -> str:
    """JSON as it stands in a frame."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def as_text(value: Any) -> str:
    """A value as a text: itself if it is one, and JSON if not."""
    return value if isinstance(value, str) else encode(value)


def is_name(value: Any) -> bool:
    """Whether something can be the name of a room or a client."""
    return isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES


def path_id_of(name: str) -> str:
    """The path that other clients find under a name in a URL, where it stands percent-encoded.

    Example:
        >>> path_id_of("room 101"), path_id_of("a/b")
        ('room%20101', 'a/b')
    """
    return quote(name, safe=_KEPT_IN_URLS, errors="replace")
