"""Frames made from the grammar of the protocol, and bent: all randomness is that of the `Random` they are given."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final, TypeVar

from mergesync import MergeableStore
from mergesync.store.hlc import ALPHABET, encode_hlc
from tests.network import T0

__all__ = ["CHANNELS", "Frames"]

_T = TypeVar("_T")

CHANNELS: Final = ["a", "b", "team/c", "名", "a", "..", "", "a?b", "/", "x" * 1024, "x" * 1025, "\ud800"]
_JUNK: Final[list[Any]] = [
    *(None, True, False, 0, 1, -1, 2**32, 2**53, 1e400, -0.0, 0.5, 1e21, 10**400),
    *("", "x", "\ufffc", "\ufffcx", "\ufffd{}", "\ufffd[", "\ud800", "\0", "__proto__", "constructor", "é", "x" * 5000),
    *([], {}, [[]], [{}], [[{}]], {"": {}}, {"a": {"b": {"c": 1}}}, [0, 0], [0, 0, 0], [[{}], [{}], 1]),
]
_IDS: Final = tuple("trcvwx1é")
_TEXTS: Final = [
    "",
    "\n",
    "\n\n",
    "S",
    "S\n",
    "M",
    "M\n",
    "M\n\n",
    "M\na",
    "bad",
    "\ud800\n[]",
    "\0",
    "\n[",
    "\n{}",
    "\n1",
]


class Frames:
    """Makes frames.

    Args:
        random: what decides.
        theirs: a store of the path that is attacked, to lie about.
    """

    def __init__(self, random: Random, theirs: MergeableStore) -> None:
        self._random = random
        self._theirs = theirs
        self._ours = MergeableStore("fuzz", get_now=lambda: T0)
        self._fragments: list[str] = []

    def frame(self, asked: list[str], others: list[str], *, multiplexed: bool) -> str:
        """A frame.

        Args:
            asked: ids of requests that the server has made, to be answered with lies.
            others: ids of other clients.
            multiplexed: whether the socket carries channels.
        """
        random = self._random
        if random.random() < 0.02:
            return self._bent_text(random.choice(_TEXTS))
        if multiplexed and random.random() < 0.2:
            return self._control()
        address = random.choice(["", "S", "S", ""] * 5 + [random.choice(others), "nobody", self._junk_text()])
        frame = f"{address}\n{self._remainder(asked)}"
        if multiplexed and random.random() < 0.98:
            frame = f"M\n{random.choice(['p', 'a', 'a', 'p', random.choice(CHANNELS)])}\n{frame}"
        return self._bent_text(frame) if random.random() < 0.03 else frame

    def _remainder(self, asked: list[str]) -> str:
        text = self._message(asked)
        if self._random.random() < 0.3:
            return self._fragment(text)
        return text

    # --- messages

    def _message(self, asked: list[str]) -> str:
        random = self._random
        kind = random.choice([0, 0, 1, 2, 2, 3, 3, 3, 4, 5, 6, 7])
        request_id: Any = random.choice(asked) if kind == 0 and asked else self._id()
        array = [request_id, kind, self._body(kind)]
        if random.random() < 0.1:
            array = self._bent(array)
        if random.random() < 0.01:
            return _deep(kind, random.choice(["[", '{"a":']), random.choice([10, 100, 900, 1000, 100_000]))
        return json.dumps(array, ensure_ascii=random.random() < 0.5)

    def _body(self, kind: int) -> Any:
        random, store = self._random, random_choice(self._random, self._theirs, self._ours)
        if kind == 0:
            return self._body(random.choice([2, 3, 3, 8, 9, 10]))
        if kind == 1:
            return ""
        if kind == 2:
            return random_choice(random, [self._hash(), self._hash()], list(store.get_mergeable_content_hashes()))
        if kind == 3:
            return random_choice(random, self._changes(), self._changes(), store.get_mergeable_content())
        if kind == 4:
            return {**store.get_mergeable_table_hashes(), self._id(): self._hash()}
        if kind == 5:
            tables = dict.fromkeys([*store.get_mergeable_table_hashes(), self._id()], -1)
            return {**store.get_mergeable_row_hashes(tables), self._id(): {self._id(): self._hash()}}
        if kind == 6:
            return {self._id(): {self._id(): {self._id(): self._hash()}}}
        if kind == 7:
            return {**store.get_mergeable_value_hashes(), self._id(): self._hash()}
        if kind == 8:
            return list(store.get_mergeable_table_diff({}))
        if kind == 9:
            return list(store.get_mergeable_value_diff({}))
        return [self._tables(), {self._id(): random_choice(random, self._hash(), {self._id(): self._hash()})}]

    def _changes(self) -> list[Any]:
        if self._random.random() < 0.3:
            with self._ours.transaction():
                self._ours.set_cell(self._id(), self._id(), self._id(), self._random.randrange(9))
                self._ours.set_value(self._id(), self._random.randrange(9))
                if self._random.random() < 0.3:
                    self._ours.del_table(self._id())
            return list(self._ours.get_transaction_mergeable_changes())
        changes: list[Any] = [self._tables(), [self._leaves(), *self._maybe_stamp()], 1]
        return changes[: self._random.choice([2, 3, 3, 3, 3])]

    def _tables(self) -> list[Any]:
        row = [self._leaves(), *self._maybe_stamp()]
        table = [{self._id(): row}, *self._maybe_stamp()]
        return [{self._id(): table} if self._random.random() < 0.9 else {}, *self._maybe_stamp()]

    def _leaves(self) -> dict[str, Any]:
        count = self._random.choice([0, 1, 1, 2, 5])
        return {self._id(): [self._value(), self._stamp()] for _ in range(count)}

    def _maybe_stamp(self) -> list[str]:
        return [self._stamp()] if self._random.random() < 0.5 else []

    def _value(self) -> Any:
        random = self._random
        return random.choice([1, 2, "x", "\ufffc", None, True, '\ufffd{"a":1}', "\ufffd", random.choice(_JUNK)])

    def _stamp(self) -> str:
        random = self._random
        if random.random() < 0.02:
            return self._junk_text()
        minutes = random.choice([-60, -1, 0, 0, 0, 4, 5, 6, 60, 10**6])
        time = T0 + minutes * 60_000 + random.randrange(2)
        return encode_hlc(time, random.randrange(3), random.choice(["AAAAA", "zzzzz", "-----"]))

    def _id(self) -> str:
        return self._random.choice([*_IDS * 4, *_IDS, "", "\ufffc", "\ud800", "__proto__", "x" * 7000])

    def _hash(self) -> int:
        return self._random.choice([0, 1, 2**32 - 1, self._random.getrandbits(32)])

    # --- fragments and channels

    def _fragment(self, text: str) -> str:
        """One of a message, or one of a message before again, or one that cannot be."""
        random = self._random
        if self._fragments and random.random() < 0.5:
            return self._fragments.pop(random.randrange(len(self._fragments)))
        total = random.choice([1, 2, 3, 5] * 5 + [999, 1000, 1001, 10**30])
        message_id = "".join(random.choices(ALPHABET, k=16))
        if total <= 5:
            size = -(-len(text) // total)
            pieces = [text[at * size : (at + 1) * size] for at in range(total)]
            self._fragments = [f"{message_id}\n{at}\n{total}\n{piece}" for at, piece in enumerate(pieces)]
            self._fragments += random.choices(self._fragments, k=random.choice([0, 0, 0, 1]))
            return self._fragments.pop(0)
        return f"{message_id}\n{random.choice([0, 1, total - 1, total, total + 1, '00', '-1'])}\n{total}\n{text}"

    def _control(self) -> str:
        random = self._random
        body: list[Any] = random.choice([[0, 1], [1, random.choice(CHANNELS)], [1, "a"], [2, random.choice(CHANNELS)]])
        request_id = None if body[0] == 2 else "q"
        control: Any = [request_id, -1, body]
        return f"S\n{json.dumps(self._bent(control) if random.random() < 0.2 else control)}"

    # --- bending

    def _bent(self, tree: Any) -> Any:
        """A tree with something else in one place."""
        random = self._random
        if random.random() < 0.2 or not isinstance(tree, list | dict) or not tree:
            return random.choice(_JUNK)
        if isinstance(tree, list):
            at = random.randrange(len(tree))
            return random.choice(
                [[*tree[:at], self._bent(tree[at]), *tree[at + 1 :]]] * 4 + [tree[:at], [*tree, tree[at]]]
            )
        key = random.choice(list(tree))
        return {**tree, random.choice([key, key, self._id()]): self._bent(tree[key])}

    def _bent_text(self, text: str) -> str:
        random = self._random
        at = random.randrange(len(text) + 1)
        return random_choice(random, text[:at], text[at:], text[:at] + self._junk_text() + text[at:], text + text)

    def _junk_text(self) -> str:
        return "".join(chr(self._random.choice([10, 34, 91, 93, 123, 44, 0, 0xD800, 0xFFFC, 65])) for _ in range(3))


def _deep(kind: int, opening: str, levels: int) -> str:
    """A message with a body of many levels, or a leaf of many."""
    body = opening * levels + "1" + ("]" if opening == "[" else "}") * levels
    if kind == 3:
        leaf = json.dumps(["\ufffd" + body, encode_hlc(T0, 1, "AAAAA")])
        body = f'[[{{}}],[{{"v":{leaf}}}],1]'
    return f'["r",{kind},{body}]'


def random_choice(random: Random, *choices: _T) -> _T:
    """One of the arguments."""
    return choices[random.randrange(len(choices))]
