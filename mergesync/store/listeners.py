"""Who listens to what: an index of listeners by kind and by ids with wildcards.

A listener is called with the store, the ids it listens to, and what its kind adds. As in JavaScript, it may declare
fewer arguments than there are; the surplus is left off. How many it takes is looked up once, when it is added.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from types import FunctionType, MethodType
from typing import Any, Final, TypeAlias

from mergesync.exceptions import InvalidIdError
from mergesync.store.cells import check_id

__all__ = ["KINDS", "Listener", "ListenerIndex", "Pattern"]

Listener: TypeAlias = Callable[..., object]

Pattern: TypeAlias = tuple[str | None, ...]
"""Ids, of which None stands for any."""

TRANSACTION_KINDS = ("start_transaction", "will_finish_transaction", "did_finish_transaction")

KINDS = (
    "has_tables", "tables", "table_ids", "has_table", "table", "table_cell_ids", "has_table_cell", "row_count",
    "row_ids", "sorted_row_ids", "has_row", "row", "cell_ids", "has_cell", "cell", "invalid_cell", "has_values",
    "values", "value_ids", "has_value", "value", "invalid_value", "transaction",
)  # fmt: skip
"""The kinds of listeners as statistics count them."""


def _arguments_taken(listener: Listener) -> int | None:
    """How many positional arguments a callable takes; None for any number."""
    if inspect.iscoroutinefunction(listener):
        raise TypeError("a store listener is called in the middle of a transaction; it cannot be a coroutine function")
    if not callable(listener):
        raise TypeError(f"a listener must be callable, not {type(listener).__name__}")
    function = listener.__func__ if isinstance(listener, MethodType) else listener
    if isinstance(function, FunctionType) and not function.__dict__:  # else it may be a wrapper of another
        code, bound = function.__code__, function is not listener
        if code.co_argcount >= bound and not code.co_flags & inspect.CO_VARARGS:
            return code.co_argcount - bound
    try:
        parameters = inspect.signature(listener).parameters.values()
    except ValueError:  # some built-in callables have no signature
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


class _Entry:
    """One listener as it was added."""

    __slots__ = ("arguments_taken", "extra", "kind", "listener", "mutator", "number", "pattern", "removed")

    def __init__(self, number: int, kind: str, pattern: Pattern, listener: Listener, mutator: bool, extra: Any) -> None:
        self.number = number
        self.kind = kind
        self.pattern = pattern
        self.listener = listener
        self.mutator = mutator
        self.extra = extra
        self.arguments_taken = _arguments_taken(listener)
        self.removed = False

    def call(self, *arguments: Any) -> None:
        self.listener(*arguments[: self.arguments_taken])


class ListenerIndex:
    """The listeners of one store.

    `extra` is whatever a kind needs beside the ids, such as the page of sorted rows.

    Attributes:
        entries: all of them by id; only to be looked at.
    """

    def __init__(self) -> None:
        self.entries: Final[dict[str, _Entry]] = {}
        self._index: dict[tuple[str, bool], dict[Pattern, dict[int, _Entry]]] = {}
        self._next_number = 0
        self._counts = [0, 0]  # lookers and mutators, not counting the kinds of transactions

    def add(self, kind: str, pattern: Pattern, listener: Listener, mutator: bool = False, extra: Any = None) -> str:
        """Add a listener; ids that are None in the pattern match any.

        Returns:
            The id to call or remove it by; it is never given again.

        Raises:
            InvalidIdError: an id is neither a string nor None.
            TypeError: the listener is not callable, or is a coroutine function.
        """
        try:
            pattern = tuple(None if id_ is None else check_id(id_) for id_ in pattern)
        except InvalidIdError as error:
            raise InvalidIdError(f"a listener listens to strings, or to None for any: {error}") from None
        entry = _Entry(self._next_number, kind, pattern, listener, bool(mutator), extra)
        self._next_number += 1
        self.entries[str(entry.number)] = entry
        self._index.setdefault((kind, entry.mutator), {}).setdefault(pattern, {})[entry.number] = entry
        self._count(entry, 1)
        return str(entry.number)

    def remove(self, listener_id: str) -> None:
        """Remove a listener; an unknown id does nothing, as in the peer."""
        entry = self.entries.pop(listener_id, None)
        if entry is None:
            return
        entry.removed = True
        patterns = self._index[entry.kind, entry.mutator]
        del patterns[entry.pattern][entry.number]
        if not patterns[entry.pattern]:
            del patterns[entry.pattern]
        if not patterns:
            del self._index[entry.kind, entry.mutator]
        self._count(entry, -1)

    def _count(self, entry: _Entry, change: int) -> None:
        if entry.kind not in TRANSACTION_KINDS:
            self._counts[entry.mutator] += change

    def get(self, listener_id: str) -> tuple[str, Pattern, Callable[..., None], Any] | None:
        """The kind, pattern, callable and extra of a listener."""
        entry = self.entries.get(listener_id)
        return None if entry is None else (entry.kind, entry.pattern, entry.call, entry.extra)

    def has_any(self, mutator: bool) -> bool:
        """Whether anybody listens to anything but transactions."""
        return self._counts[mutator] > 0

    def has(self, kind: str, mutator: bool) -> bool:
        """Whether there is a listener of this kind."""
        return (kind, mutator) in self._index

    def matching(self, kind: str, mutator: bool, ids: Pattern) -> Iterator[tuple[Callable[..., None], Any]]:
        """The listeners for a concrete thing, most specific pattern first: their callables and extras.

        Where an id is None, only wildcards match. Listeners may come and go meanwhile: one that was removed is not
        given out any more, one that was added to a pattern still under way is.
        """
        if (kind, mutator) not in self._index:
            return
        for pattern in product(*((id_, None) if id_ is not None else (None,) for id_ in ids)):
            if pattern not in self._index.get((kind, mutator), ()):
                continue
            told = 0
            while told < self._next_number:  # else no listener was added meanwhile
                first, told = told, self._next_number
                for entry in list(self._index.get((kind, mutator), {}).get(pattern, {}).values()):
                    if entry.number >= first and not entry.removed:
                        yield entry.call, entry.extra

    def counts(self) -> dict[str, int]:
        """How many listeners there are of each kind; those of transactions together."""
        counts = dict.fromkeys(KINDS, 0)
        for entry in self.entries.values():
            counts["transaction" if entry.kind in TRANSACTION_KINDS else entry.kind] += 1
        return counts
