"""Pages as they travel."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.sync import packing
from mergesync.sync.packing import packed, unpacked_json


@pytest.mark.parametrize("count", [0, 10, 5000])
def test_there_and_back(count: int) -> None:
    """Whether it is long or not."""
    page = [{f"r{number}": [{"c": [number, "é 😀"]}] for number in range(count)}]
    travels = packed(json.dumps(page, ensure_ascii=False).encode())
    assert isinstance(travels, str) == (count > 10)
    assert unpacked_json(travels) == page


def test_a_number_that_javascript_rounds() -> None:
    """It is one here, too, so that it can be written again."""
    assert packed(b"[9007199254740994]") == [9007199254740994.0]


def compressed(data: bytes) -> str:
    """As a stranger may send it."""
    return b64encode(data).decode()


@pytest.mark.parametrize(
    "said",
    [
        "not base64!",
        compressed(b"not compressed"),
        compressed(zlib.compress(b"not JSON")),
        compressed(zlib.compress(b"\xff")),
        compressed(zlib.compress(b"[{}]")[:-1]),
        compressed(zlib.compress(b"[{}]") + b"more"),
    ],
)
def test_nonsense(said: Any) -> None:
    """It is a mistake of the other end."""
    with pytest.raises(RemoteProtocolError):
        unpacked_json(said)


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not sent, and who sends it is not believed: a megabyte of zeros is a kilobyte."""
    zeros = b"[" + b"0," * 5000 + b"0]"
    travels = packed(zeros)
    monkeypatch.setattr(packing, "MAX_MESSAGE_BYTES", len(zeros))
    assert unpacked_json(packed(zeros)) == [0] * 5001
    monkeypatch.setattr(packing, "MAX_MESSAGE_BYTES", len(zeros) - 1)
    with pytest.raises(RemoteProtocolError):
        unpacked_json(travels)
    with pytest.raises(LimitExceededError):
        packed(zeros)
