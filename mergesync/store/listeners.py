"""Who listens to what: an index of listeners by kind and by ids with wildcards.

A listener is called with the store, the ids it listens to, and what its kind adds. As in JavaScript, it may declare
fewer arguments than there are; the surplus is left off. How many it takes is looked up once, when it is added.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

from mergesync.exceptions import InvalidIdError

__all__ = ["Listener", "ListenerIndex"]

Listener: TypeAlias = Callable[..., object]

_Key: TypeAlias = tuple[Any, ...]


def _arguments_taken(listener: Listener) -> int | None:
    """How many positional arguments a callable takes; None for any number."""
    if inspect.iscoroutinefunction(listener):
        raise TypeError("a store listener is called in the middle of a transaction; it cannot be a coroutine function")
    if not callable(listener):
        raise TypeError(f"a listener must be callable, not {type(listener).__name__}")
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

    __slots__ = ("arguments_taken", "extra", "kind", "listener", "mutator", "pattern")

    def __init__(self, kind: str, pattern: _Key, listener: Listener, mutator: bool, extra: Any) -> None:
        self.kind = kind
        self.pattern = pattern
        self.listener = listener
        self.mutator = mutator
        self.extra = extra
        self.arguments_taken = _arguments_taken(listener)

    def call(self, *arguments: Any) -> None:
        self.listener(*arguments[: self.arguments_taken])


class ListenerIndex:
    """The listeners of one store.

    `extra` is whatever a kind needs beside the ids, such as the order of sorted rows.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._index: dict[tuple[str, bool], dict[_Key, dict[str, _Entry]]] = {}
        self._next_id = 0

    def add(self, kind: str, pattern: _Key, listener: Listener, mutator: bool = False, extra: Any = None) -> str:
        """Add a listener; ids that are None in the pattern match any.

        Returns:
            The id to call or remove it by.

        Raises:
            InvalidIdError: an id is neither a string nor None.
            TypeError: the listener is not callable, or is a coroutine function.
        """
        for id_ in pattern:
            if id_ is not None and not isinstance(id_, str):
                raise InvalidIdError(f"a listener's id must be a string or None, not {id_!r:.80}")
        entry = _Entry(kind, pattern, listener, bool(mutator), extra)
        listener_id = str(self._next_id)
        self._next_id += 1
        self._entries[listener_id] = entry
        self._index.setdefault((kind, entry.mutator), {}).setdefault(pattern, {})[listener_id] = entry
        return listener_id

    def remove(self, listener_id: str) -> None:
        """Remove a listener; an unknown id does nothing, as in the peer."""
        entry = self._entries.pop(listener_id, None)
        if entry is None:
            return
        patterns = self._index[entry.kind, entry.mutator]
        del patterns[entry.pattern][listener_id]
        if not patterns[entry.pattern]:
            del patterns[entry.pattern]
        if not patterns:
            del self._index[entry.kind, entry.mutator]

    def get(self, listener_id: str) -> tuple[str, _Key, Callable[..., None], Any] | None:
        """The kind, pattern, callable and extra of a listener."""
        entry = self._entries.get(listener_id)
        return None if entry is None else (entry.kind, entry.pattern, entry.call, entry.extra)

    def any(self, mutator: bool, kinds: frozenset[str]) -> bool:
        """Whether there is a listener of one of these kinds."""
        return any((kind, mutator) in self._index for kind in kinds) if self._index else False

    def has(self, kind: str, mutator: bool) -> bool:
        """Whether there is a listener of this kind."""
        return (kind, mutator) in self._index

    def matching(self, kind: str, mutator: bool, ids: _Key) -> Iterator[tuple[Callable[..., None], Any]]:
        """The listeners for a concrete thing, most specific pattern first: their callables and extras.

        They are collected before the first is handed out, so that a listener may add others; one that is removed
        meanwhile is left out.
        """
        patterns = self._index.get((kind, mutator))
        if not patterns:
            return
        found = [
            (listener_id, entry)
            for pattern in product(*((None,) if id_ is None else (id_, None) for id_ in ids))
            for listener_id, entry in patterns.get(pattern, {}).items()
        ]
        for listener_id, entry in found:
            if self._entries.get(listener_id) is entry:
                yield entry.call, entry.extra

    def counts(self) -> dict[str, int]:
        """How many listeners there are of each kind."""
        counts: dict[str, int] = {}
        for entry in self._entries.values():
            counts[entry.kind] = counts.get(entry.kind, 0) + 1
        return counts
