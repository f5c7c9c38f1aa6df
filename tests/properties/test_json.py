"""JSON texts are those of JavaScript: compared with Node's for many values in one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergesync.store import jsjson
from mergesync.store.cells import decode_cell, encode_cell

from .strategies import cells, json_values, text

SCRIPT = """
const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter((line) => line);
const hash = (text) => {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  return value;
};
const out = lines.map((line) => {
  const value = JSON.parse(line);
  const text = JSON.stringify(value);
  return JSON.stringify([text, hash(text), typeof value === 'string' ? hash(value) : 0]);
});
process.stdout.write(out.join('\\n'));
"""

NUMBERS = (
    "1e400", "-1e400", "9007199254740993", "9" * 5000, "0." + "1" * 5000, "1E5", "-0", "-0.0", "1e-400", "1.0",
    "123456789012345678901234567890", "18446744073709551615", "18446744073709551616", "1e21", "1e20", "1.5e300",
)  # fmt: skip
"""Literals that Python's own JSON has no value for, or prints otherwise."""

OBJECTS = (
    '{"a":1,"a":2}', '{"b":1,"2":1,"10":1,"1":1,"-1":1,"01":1}', '{"4294967294":1,"4294967295":2,"a":0,"0":3}',
    '{"__proto__":{"a":1},"constructor":2}', '"\\ud83d\\ude00"', '"\\ud83d x \\ude00"', '{"\\ud800":"\\udfff"}',
    ' [ 1 , 2 ] ', '"\\u0000\\u001f\\u007f\\u2028\\ufffc"', "[[[[[]]]]]",
)  # fmt: skip


def node(lines: list[str]) -> list[Any]:
    """What Node makes of each JSON text: `[text, hash of the text, hash of the string]`."""
    executable = shutil.which("node")
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing, and CI is set")
        pytest.skip("node is missing")
    done = subprocess.run(
        [executable, "-e", SCRIPT], input="\n".join(lines).encode(), capture_output=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stdout.decode().split("\n")]


@pytest.mark.node
def test_texts_and_hashes_are_those_of_node() -> None:
    """`dumps(loads(text))` and its hash are Node's, to the byte."""
    lines = [*NUMBERS, *OBJECTS]

    @settings(max_examples=max(1000, settings().max_examples), database=None)
    @given(json_values())
    def collect(value: Any) -> None:
        lines.append(json.dumps(value))

    collect()
    assert len(lines) > 1000
    for line, (theirs, text_hash, string_hash) in zip(lines, node(lines), strict=True):
        value = jsjson.loads(line)
        ours = jsjson.dumps(value)
        assert ours == theirs, line[:200]
        assert jsjson.fnv1a(ours) == text_hash, line[:200]
        if isinstance(value, str):
            assert jsjson.fnv1a(value) == string_hash, line[:200]


@given(json_values())
def test_reading_what_was_written(value: Any) -> None:
    """`loads(dumps(value))` is the value, and writes the same text again."""
    written = jsjson.dumps(value)
    read = jsjson.loads(written)
    assert jsjson.dumps(read) == written
    assert json.loads(written, parse_int=float) == json.loads(json.dumps(value), parse_int=float)


@given(cells())
def test_cells_go_through_the_wire_form(cell: Any) -> None:
    """A cell decoded from its wire form is the cell, of the same JSON type."""
    shown = decode_cell(encode_cell(cell))
    assert jsjson.dumps(shown) == jsjson.dumps(cell)
    assert isinstance(shown, bool) == isinstance(cell, bool)


@given(st.lists(text()))
def test_order_of_keys(keys: list[str]) -> None:
    """Array indices come first, ascending; the others keep their order."""
    ordered = jsjson.js_ordered(dict.fromkeys(keys))
    assert sorted(ordered) == sorted(set(keys))
    indices = [k for k in ordered if k.isascii() and k.isdigit() and str(int(k)) == k and int(k) < 2**32 - 1]
    assert ordered[: len(indices)] == sorted(indices, key=int)
    assert ordered[len(indices) :] == [k for k in dict.fromkeys(keys) if k not in indices]


@given(text(30))
def test_any_text_is_json_or_refused(said: str) -> None:
    """Whatever comes, reading gives a value or ValueError."""
    try:
        value = jsjson.loads(said)
    except ValueError:
        return
    assert jsjson.loads(jsjson.dumps(value)) == value
