"""What the tests of the store share: a clock that stands, the whole state of a store, and a log of calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mergesync.exceptions import MergesyncError
from mergesync.store import MergeableStore
from mergesync.store.hlc import encode_hlc

T0 = 1704067200000
"""2024-01-01T00:00:00Z."""

TOMBSTONE = "\ufffc"


class Clock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: int = T0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class ThrownError(Exception):
    """What the tests throw."""


def new_store(unique_id: str = "s1") -> MergeableStore:
    """An empty store whose clock stands."""
    return MergeableStore(unique_id, get_now=Clock())


def hlc(counter: int, time: int = T0, client: str = "AAAAA") -> str:
    """Another client's stamp."""
    return encode_hlc(time, counter, client)


def state(store: MergeableStore) -> str:
    """All that a refused or taken-back change must leave as it was, orders included."""
    return json.dumps(
        [
            store.get_mergeable_content(),
            store.get_content(),
            store.get_schema_json(),
            {table_id: store.get_row_count(table_id) for table_id in store.get_table_ids()},
            store.is_in_transaction(),
        ]
    )


@contextmanager
def refused(store: MergeableStore, error: type[MergesyncError], match: str | None = None) -> Iterator[None]:
    """What is done inside raises this very error and leaves the store as it was."""
    before = state(store)
    with pytest.raises(error, match=match) as raised:
        yield
    assert type(raised.value) is error
    assert state(store) == before


class Log:
    """A listener that keeps what it was called with, without the store."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, store: MergeableStore, *arguments: Any) -> None:
        self.calls.append(tuple(_said(argument) for argument in arguments))

    def take(self) -> list[tuple[Any, ...]]:
        """The calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


def _said(argument: Any) -> Any:
    """Functions that tell changes of ids are given as what they tell, other functions as "f"."""
    if not callable(argument):
        return argument
    try:
        return argument()
    except TypeError:
        return "f"
