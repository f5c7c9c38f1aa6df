"""JSON text as JavaScript prints and reads it, and hashes of text."""

from __future__ import annotations

import enum
import math
from typing import Any

import pytest

from mergesync.store.jsjson import (
    canonical_number,
    dumps,
    fnv1a,
    js_ordered,
    loads,
    number_text,
    parse,
    utf8,
)

HIGH, LOW = chr(0xD83E), chr(0xDD89)
"""The two halves of an owl."""


class Text(str):
    __slots__ = ()


class Number(float):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("é", b"\xc3\xa9"),
        (HIGH, b"\xef\xbf\xbd"),
        (f"a{LOW}b", b"a\xef\xbf\xbdb"),
        (HIGH + LOW, "🦉".encode()),
        (LOW + HIGH, b"\xef\xbf\xbd\xef\xbf\xbd"),
    ],
)
def test_utf8(text: str, expected: bytes) -> None:
    """A lone surrogate becomes U+FFFD, two that make a character become it."""
    assert utf8(text) == expected


def test_fnv1a_of_lone_surrogates() -> None:
    """Lone surrogates hash as U+FFFD, as TextEncoder gives them."""
    assert fnv1a(HIGH) == fnv1a("\ufffd") == fnv1a(LOW)
    assert fnv1a("") == 2166136261


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1.0, 1),
        (-0.0, 0),
        (0.5, 0.5),
        (2.0**53, 2**53),
        (2**53 + 1, 2**53),
        (2**54, 2.0**54),
        (-(2**53), -(2**53)),
        (1e300, 1e300),
        (True, 1),
    ],
)
def test_canonical_number(number: float, expected: float) -> None:
    """A number is an int where it is integral and exact, else a float."""
    assert canonical_number(number) == expected
    assert type(canonical_number(number)) is type(expected)


def test_canonical_number_too_large() -> None:
    """An int larger than any double has no canonical form."""
    with pytest.raises(OverflowError):
        canonical_number(10**400)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7, "7"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (123.456, "123.456"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e21, "1.5e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-1.25e-9, "-1.25e-9"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_number_text(number: float, text: str) -> None:
    """A number is printed as ECMAScript prints it."""
    assert number_text(number) == text
    assert dumps(number) == text


def test_js_ordered() -> None:
    """Array indices come first and ascending; what only looks like one keeps its place."""
    assert js_ordered(["b", "a"]) == ["b", "a"]
    keys = ["x", "4294967295", "10", "007", "²", "9", "٣", "4294967294", "0", "-1", "1" * 5000]
    assert js_ordered(keys) == ["0", "9", "10", "4294967294", "x", "4294967295", "007", "²", "٣", "-1", "1" * 5000]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ('\u2028/\x7f\x1f"\\', '"\u2028/\x7f\\u001f\\"\\\\"'),
        (f"é{HIGH}", '"é\\ud83e"'),
        (f'{LOW}"🦉', '"\\udd89\\"🦉"'),
        ((1, [2.0]), "[1,[2]]"),
        ({"b": 1, "1": 2, HIGH: 3}, '{"1":2,"b":1,"\\ud83e":3}'),
        (math.inf, "null"),
        (-math.inf, "null"),
        (Text("a"), '"a"'),
        (Colour.RED, "3"),
        (Number(0.5), "0.5"),
        ({"__proto__": {"__proto__": 1}}, '{"__proto__":{"__proto__":1}}'),
        ({Text("k"): 1}, '{"k":1}'),
    ],
)
def test_dumps(value: Any, text: str) -> None:
    """The text is that of JSON.stringify."""
    assert dumps(value) == text


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, ValueError),
        (2**53 + 1, ValueError),
        (-(2**53) - 1, ValueError),
        (b"x", TypeError),
        ({1: 2}, TypeError),
        ([{None: 1}], TypeError),
        (object(), TypeError),
    ],
)
def test_dumps_of_what_is_not_json(value: Any, error: type[Exception]) -> None:
    """What is not JSON has no text."""
    with pytest.raises(error):
        dumps(value)


def test_dumps_of_what_is_too_deep() -> None:
    """A value that contains itself, or is nested too deeply, raises RecursionError."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        dumps(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.0", 1),
        ("-0", 0),
        ("9007199254740993", 2**53),
        ("123456789012345678901", 123456789012345680000.0),
        ('{"a":1,"a":2}', {"a": 2}),
        ('{"__proto__":{"x":1.0}}', {"__proto__": {"x": 1}}),
        ('[null,true,"x",{"a":null,"b":[2.0]}]', [None, True, "x", {"a": None, "b": [2]}]),
        ('"\\ud83e"', HIGH),
        ('["\\ud83e",1.0,9007199254740993]', [HIGH, 1, 2**53]),
        ('"\\ud83e\\udd89"', "🦉"),
        ("1e400", math.inf),
        ("[-1e400]", [-math.inf]),
        ("9" * 5000, math.inf),
        ("-" + "9" * 5000, -math.inf),
        ("0." + "1" * 5000, 0.1111111111111111),
    ],
)
def test_loads(text: str, value: Any) -> None:
    """Numbers become doubles in canonical form; the last of duplicate keys counts; lone surrogates survive."""
    loaded = loads(text)
    assert loaded == value
    assert type(loaded) is type(value)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[Infinity]", "-Infinity", "undefined", "01", "'a'", "[1,]", "\ufeff1"]
)
def test_loads_of_what_is_not_json(text: str) -> None:
    """What JSON.parse refuses raises ValueError, also what Python's json would take."""
    with pytest.raises(ValueError):  # noqa: PT011
        loads(text)


@pytest.mark.parametrize("read", [loads, parse])
def test_depth(read: Any) -> None:
    """Text of depth 10,000 and 100,000 raises ValueError, and never RecursionError or a crash."""
    for depth in (10_000, 100_000):
        for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "[" * depth):
            with pytest.raises(ValueError):  # noqa: PT011
                read(text)


def test_depth_that_only_the_parser_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parser takes and is too deep to bring into canonical form raises ValueError, too."""
    value: list[Any] = []
    value.append(value)
    monkeypatch.setattr("mergesync.store.jsjson.parse", lambda text: value)
    with pytest.raises(ValueError, match="too deeply"):
        loads("[...]")


def test_parse() -> None:
    """Numbers may keep the form in which they were read."""
    assert parse("[1.0,2]") == [1.0, 2]
    assert parse('"\\ud800"') == "\ud800"
