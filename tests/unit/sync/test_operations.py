"""The text of operations."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import RemoteProtocolError
from mergesync.sync.operations import Operation, decode_operation, operation_remainder


@pytest.mark.parametrize("request_id", ["r", None])
@pytest.mark.parametrize("body", [None, True, {"now": 1}, ["save", "é😀"]])
def test_round_trip(request_id: str | None, body: Any) -> None:
    """What is written is read."""
    operation = Operation(request_id, "ok", body)
    assert decode_operation(operation_remainder(operation)) == operation


@pytest.mark.parametrize("text", ["", "{}", "[]", '["r","ok"]', '["r","ok",1,2]', '[1,"ok",1]', '["r",2,1]', "[nope"])
def test_nonsense(text: str) -> None:
    """Anything else is the peer's fault."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_operation(text)
    assert caught.value.excerpt == text
