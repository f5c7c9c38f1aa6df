"""The index of listeners: what is taken, who matches, in what order, with how many arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest

from mergesync.exceptions import InvalidIdError
from mergesync.store.listeners import ListenerIndex

from .kit import new_store


def names(index: ListenerIndex, kind: str, mutator: bool, *ids: str) -> list[Any]:
    """The extras of the listeners that match."""
    return [extra for _, extra in index.matching(kind, mutator, ids)]


def test_order_of_patterns() -> None:
    """The more special come first, decided from the left, and in order of registration within a pattern."""
    index = ListenerIndex()
    for pattern in ((None, None), (None, "b"), ("a", None), ("a", "b"), ("x", "b")):
        for number in (1, 2):
            index.add("row", pattern, print, extra=(*pattern, number))
    assert names(index, "row", False, "a", "b") == [
        (*pattern, number) for pattern in (("a", "b"), ("a", None), (None, "b"), (None, None)) for number in (1, 2)
    ]
    assert names(index, "row", True, "a", "b") == []
    assert names(index, "cell", False, "a", "b", "c") == []


def test_kinds() -> None:
    """The index knows whether it has listeners, of either sort and of which kinds."""
    index = ListenerIndex()
    assert not index.entries
    index.add("start_transaction", (), print)
    assert index.entries
    assert not index.has_any(False)
    first = index.add("row", (None, None), print)
    index.add("cell", (None, None, None), print, True)
    assert index.has_any(False)
    assert index.has_any(True)
    assert [index.has("cell", True), index.has("cell", False)] == [True, False]
    counts = index.counts()
    assert (counts["row"], counts["cell"], counts["transaction"], sum(counts.values())) == (1, 1, 1, 3)
    index.remove(first)
    assert not index.has_any(False)


def test_remove() -> None:
    """A removed listener is gone, its neighbours stay, and an unknown id does nothing."""
    index = ListenerIndex()
    ids = [index.add("row", ("t", None), print, extra=number) for number in range(3)]
    ids.append(index.add("row", (None, None), print, extra=3))
    index.remove(ids[1])
    index.remove(ids[1])
    index.remove("never")
    assert names(index, "row", False, "t", "r") == [0, 2, 3]
    for listener_id in ids:
        index.remove(listener_id)
    assert names(index, "row", False, "t", "r") == []
    assert index.get(ids[0]) is None
    assert not index.entries


def test_get() -> None:
    """A listener is found by its id."""
    index = ListenerIndex()
    found = index.get(index.add("row", ("t", None), print, extra=5))
    assert found is not None
    assert (found[0], found[1], found[3]) == ("row", ("t", None), 5)


@pytest.mark.parametrize("id_", [1, b"t", ["t"], True])
def test_ids_are_strings_or_none(id_: Any) -> None:
    """What is neither a string nor None is no id to listen to."""
    store = new_store()
    with pytest.raises(InvalidIdError):
        store.add_row_listener(id_, None, print)
    with pytest.raises(InvalidIdError):
        store.add_value_listener(id_, print)
    assert not any(store.get_listener_stats().values())


async def coroutine(*arguments: Any) -> None:
    pass


class Asynchronous:
    async def method(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize(
    "listener", [coroutine, Asynchronous().method, functools.partial(coroutine, 1), None, 1, "print"], ids=range(6)
)
def test_what_is_no_listener(listener: Any) -> None:
    """A coroutine function is refused, since nobody would await it, and so is what cannot be called."""
    with pytest.raises(TypeError):
        new_store().add_tables_listener(listener)


class Heard:
    """Listeners of all arities."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def none(self) -> None:
        self.heard.append(())

    def two(self, store: Any, table_id: Any, /) -> None:
        self.heard.append((table_id,))

    def optional(self, store: Any, table_id: Any = None, row_id: Any = None, *, more: Any = None) -> None:
        self.heard.append((table_id, row_id, more))

    def every(self, *arguments: Any, **more: Any) -> None:
        self.heard.append(arguments[1:6])

    def __call__(self, store: Any, table_id: Any, row_id: Any, cell_id: Any) -> None:
        self.heard.append((table_id, row_id, cell_id))


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (lambda heard: heard.none, ()),
        (lambda heard: heard.two, ("t",)),
        (lambda heard: heard.optional, ("t", "r", None)),
        (lambda heard: heard.every, ("t", "r", "c", 1)),
        (lambda heard: heard, ("t", "r", "c")),
        (lambda heard: functools.partial(heard.every, "first"), (None, "t", "r", "c", 1)),
        (lambda heard: lambda store, t, r, c, new, old: heard.heard.append((new,)), (1,)),
    ],
)
def test_arity(choose: Callable[[Heard], Any], expected: tuple[Any, ...]) -> None:
    """A listener may declare fewer arguments than there are."""
    heard = Heard()
    store = new_store()
    store.add_cell_listener(None, None, None, choose(heard))
    store.set_cell("t", "r", "c", 1)
    [arguments] = heard.heard
    if expected[:1] == (None,):
        assert arguments[1:] == expected[1:]
    else:
        assert arguments[: len(expected)] == expected


def test_a_callable_without_a_signature() -> None:
    """A built-in callable of which nobody knows the arguments gets them all."""
    heard: list[Any] = []

    class NoSignature:
        __signature__ = "none"

        def __call__(self, *arguments: Any) -> None:
            heard.append(len(arguments))

    store = new_store()
    store.add_value_listener(None, min)  # min has no signature; it compares the arguments, and fails
    with pytest.raises(TypeError, match="not supported"):
        store.set_value("v", 1)
    assert store.get_value("v") == 1
    assert heard == []


def test_listeners_added_and_removed_meanwhile() -> None:
    """A listener that is added while its kind is called is called at once; one that is removed is not any more."""
    store = new_store()
    heard: list[str] = []

    def first(store: Any) -> None:
        heard.append("first")
        store.del_listener(ids[1])
        store.add_values_listener(lambda: heard.append("added"))
        store.del_listener(ids[0])

    ids = [store.add_values_listener(first), store.add_values_listener(lambda: heard.append("second"))]
    store.set_value("v", 1)
    assert heard == ["first", "added"]
    store.set_value("v", 2)
    assert heard == ["first", "added", "added"]


def test_how_many_arguments_each_kind_of_callable_takes() -> None:
    """The rest are left off: of functions and methods as `inspect` counts them, wrapped or not."""

    def none() -> None: ...

    def two(store: Any, table_id: Any = None) -> None: ...

    def keyword_only(store: Any, *, named: int = 0) -> None: ...

    def any_number(*arguments: Any) -> None: ...

    @functools.wraps(two)
    def wrapper(*arguments: Any) -> None: ...

    class Things:
        def method(self, store: Any) -> None: ...

        def any_number(*arguments: Any) -> None: ...

        @staticmethod
        def static(store: Any) -> None: ...

        @classmethod
        def of_class(cls, store: Any, table_id: Any) -> None: ...

        def __call__(self, store: Any, table_id: Any, row_id: Any) -> None: ...

    things = Things()
    two_more: Any = MethodType(two, things)
    said = {
        none: 0,
        two: 2,
        keyword_only: 1,
        any_number: None,
        wrapper: 2,
        things.method: 1,
        things.any_number: None,
        things.static: 1,
        things.of_class: 2,
        things: 3,
        two_more: 1,
        functools.partial(two, 1): 1,
        print: None,
    }
    for listener, count in said.items():
        index = ListenerIndex()
        assert index.entries[index.add("tables", (), listener)].arguments_taken == count, listener
    nothing_to_bind: Any = MethodType(none, things)
    assert ListenerIndex().add("tables", (), nothing_to_bind) == "0"
