"""JSON text exactly as JavaScript prints it, JSON read as JavaScript reads it, and FNV-1a over UTF-8.

Leaf hashes and the text of object cells depend on every character (protocol sections 1, 2 and 4). orjson does the
common case; what it refuses but JavaScript accepts (lone surrogates, numbers too large) goes a slower way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import orjson
from fnv_hash_fast import fnv1a_32

from mergesync.limits import MAX_INTEGER
from mergesync.store.bulk import collector_paused_for

__all__ = [
    "canonical",
    "canonical_number",
    "dumps",
    "fnv1a",
    "joined",
    "js_ordered",
    "loads",
    "number_text",
    "parse",
    "quoted",
    "string_text",
    "utf8",
    "without_subclass",
]

quoted: Callable[[str], str] = json.encoder.encode_basestring
"""The JSON text of a string, in which lone surrogates stay as they are, so that it cannot be encoded.

What orjson makes of a string is cut down from a KiB, which costs much time and memory where many are kept."""

_MAX_ARRAY_INDEX = 2**32 - 2  # the largest key that JavaScript engines order numerically


def utf8(text: str) -> bytes:
    r"""The UTF-8 bytes of a text, a lone surrogate becoming U+FFFD as in JavaScript's TextEncoder.

    Example:
        >>> utf8("é"), utf8(chr(0xD800))
        (b'\xc3\xa9', b'\xef\xbf\xbd')
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash of a text's UTF-8 bytes.

    Example:
        >>> fnv1a("a")
        3826002220
    """
    return fnv1a_32(utf8(text))


def canonical_number(number: float) -> int | float:
    """The one Python form of a JavaScript number: int where it is integral and exact, else float.

    Args:
        number: finite; an int beyond 2**53 is rounded to the nearest double, as JavaScript would.

    Raises:
        OverflowError: the int is larger than any double.

    Example:
        >>> canonical_number(1.0), canonical_number(-0.0), canonical_number(0.5)
        (1, 0, 0.5)
    """
    if type(number) is int and -MAX_INTEGER <= number <= MAX_INTEGER:
        return number
    number = float(number)
    if number.is_integer() and -MAX_INTEGER <= number <= MAX_INTEGER:
        return int(number)
    return number


def number_text(number: float) -> str:
    """A finite number as ECMAScript prints it.

    Example:
        >>> number_text(1e21), number_text(1e-7), number_text(1e20), number_text(-0.0)
        ('1e+21', '1e-7', '100000000000000000000', '0')
    """
    if type(number) is int:
        return str(number)
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)  # digits before the point, counted from the first of `whole`
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        text = digits.ljust(point, "0")
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{tail}e{point - 1:+d}"
    return sign + text


def _is_array_index(key: str) -> bool:
    return key.isdecimal() and key.isascii() and (key == "0" or key[0] != "0") and int(key[:11]) <= _MAX_ARRAY_INDEX


def js_ordered(keys: Iterable[str]) -> list[str]:
    """Keys in the order in which a JavaScript object would give them: array indices ascending, then the rest.

    Example:
        >>> js_ordered(["b", "10", "9", "a"])
        ['9', '10', 'b', 'a']
    """
    keys = list(keys)
    for key in keys:
        if key[:1].isdecimal():
            break
    else:
        return keys
    indices = sorted((key for key in keys if _is_array_index(key)), key=int)
    return indices + [key for key in keys if not _is_array_index(key)]


def joined(text: str) -> str:
    """A text in which two surrogates that make a character are that character, as they are in JavaScript.

    Example:
        >>> joined(chr(0xD83D) + chr(0xDE00)) == chr(0x1F600), joined(chr(0xD83D)) == chr(0xD83D)
        (True, True)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def string_text(text: str) -> bytes:
    """The JSON text of a string, in UTF-8."""
    try:
        return quoted(text).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON.stringify escapes
        return "".join(
            f"\\u{ord(character):04x}" if "\ud800" <= character <= "\udfff" else character
            for character in quoted(joined(text))
        ).encode()


def dumps(value: Any, *, finite: bool = False) -> str:
    """The text that JSON.stringify gives, to the character.

    Args:
        value: JSON as Python has it; tuples count as arrays.
        finite: refuse infinite numbers. Else they are null, JSON.stringify's own word for what `1e400` is read as.

    Raises:
        ValueError: NaN, or an integer beyond 2**53, or infinite where that is refused.
        TypeError: not JSON at all.
        RecursionError: nested too deeply.

    Example:
        >>> dumps({"b": [1.0, 1e-7, None], "2": True})
        '{"2":true,"b":[1,1e-7,null]}'
    """
    kind = type(value)
    if kind is str:
        return string_text(value).decode()
    if value is None:
        return "null"
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return str(value)
        raise ValueError("an integer beyond 2**53 is not exact in JavaScript")
    if kind is float:
        if math.isfinite(value):
            return number_text(value)
        if finite or math.isnan(value):
            raise ValueError(f"{value} is not JSON")
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join([dumps(item, finite=finite) for item in value])}]"
    if isinstance(value, dict):
        return _object_text(value, finite)
    return dumps(without_subclass(value), finite=finite)


def _object_text(value: dict[Any, Any], finite: bool) -> str:
    if not all(isinstance(key, str) for key in value):
        raise TypeError("the keys of an object must be strings")
    said = {without_subclass(key): item for key, item in value.items()}
    pairs = [f"{string_text(key).decode()}:{dumps(said[key], finite=finite)}" for key in js_ordered(said)]
    return f"{{{','.join(pairs)}}}"


def without_subclass(value: Any) -> Any:
    """A scalar of a subclass (an enum member, a numpy scalar that is a float) as what it is underneath.

    Raises:
        TypeError: it is not JSON.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def loads(text: str) -> Any:
    """What JSON.parse gives: every number a double (in its canonical Python form), the last of duplicate keys.

    A number that overflows is infinite, as in JavaScript; the caller refuses it where only finite ones are allowed.

    Raises:
        ValueError: not JSON, or nested too deeply to read.

    Example:
        >>> loads('[9007199254740993, 1.0]')
        [9007199254740992, 1]
    """
    try:
        return canonical(parse(text))
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def parse(text: str) -> Any:
    """The same as `loads`, but numbers may still be in any form: for callers that look at each leaf anyway.

    Raises:
        ValueError: not JSON, or nested too deeply to read.
    """
    with collector_paused_for(text):
        try:
            return orjson.loads(text)
        except ValueError:
            return _parse_slowly(text)


def canonical(value: Any) -> Any:
    """Parsed JSON with its numbers in canonical form; arrays and objects are changed in place."""
    kind = type(value)
    if kind is float or kind is int:
        return canonical_number(value)
    if kind is list:
        for index, item in enumerate(value):
            if type(item) not in _UNCHANGED:
                value[index] = canonical(item)
    elif kind is dict:
        for key, item in value.items():
            if type(item) not in _UNCHANGED:
                value[key] = canonical(item)
    return value


_UNCHANGED = frozenset((str, bool, type(None)))


def _number(text: str) -> int | float:
    number = float(text)  # also bounds the work on a number of 5,000 digits
    return number if math.isinf(number) else canonical_number(number)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_slowly(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
