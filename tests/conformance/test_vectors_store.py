"""The store reproduces what the peer was recorded doing."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from mergesync.exceptions import MergesyncError
from mergesync.store import MergeableStore, jsjson
from mergesync.store.bodies import CHANGES, check_body
from mergesync.store.cells import encode_cell
from mergesync.store.hlc import HybridLogicalClock, client_part, decode_hlc, encode_hlc, latest_allowed
from mergesync.store.leaves import child_hash, leaf_hash

from .vectors import T0, Clock, load_vectors, recorded_changes, run

# Steps of scripts whose `changes` differ on purpose: the peer neither saves nor passes on a stamp that was taken but
# leaves the visible content as it was (surprise 17), nor text that does not decode (6); and it names in `changes`
# a default that was not taken (4).
DEPARTURES_IN_CHANGES = {
    ("default content", 2): [[{"t": [{"r": [{"c": [2]}]}]}], [{}], 1],
    ("same value, newer stamp", 1): [
        [{"t": [{"r": [{"c": [1, "Nn1JUF----2AAAAA"]}]}]}],
        [{"v": [1, "Nn1JUF----3AAAAA"]}],
        1,
    ],
    ("tombstone first, then the older write", 0): [
        [{"t": [{"r": [{"c": ["\ufffc", "Nn1JUF----3AAAAA"]}]}]}],
        [{"v": ["\ufffc", "Nn1JUF----3AAAAA"]}],
        1,
    ],
    ("load with tombstones", 0): [
        [{"t": [{"r": [{"c": ["\ufffc", "Nn1JUF----1AAAAA"]}]}]}],
        [{"v": ["\ufffc", "Nn1JUF----2AAAAA"]}],
        1,
    ],
}

# Steps after which the peer shows something else than its own stamps say (4).
DEPARTURES_IN_CONTENT = {("default content", 2): [{"t": {"r": {"c": 2}}}, {"v": "b"}]}


@pytest.mark.parametrize("vector", load_vectors()["fnv"], ids=lambda v: v["text"][:20])
def test_fnv(vector: dict[str, Any]) -> None:
    """FNV-1a over UTF-8."""
    assert jsjson.utf8(vector["text"]).hex() == vector["utf8"]
    assert jsjson.fnv1a(vector["text"]) == vector["hash"]


def test_numbers() -> None:
    """Every double is printed as JavaScript prints it."""
    for vector in load_vectors()["numbers"]:
        if "bits" in vector:
            number = struct.unpack(">d", bytes.fromhex(vector["bits"]))[0]
            assert jsjson.number_text(jsjson.canonical_number(number)) == vector["printed"]
            assert jsjson.number_text(number) == vector["printed"]
        elif vector.get("finite", True):
            assert jsjson.number_text(jsjson.loads(vector["literal"])) == vector["printed"]
        else:
            assert jsjson.loads(vector["literal"]) in (float("inf"), float("-inf"))


@pytest.mark.parametrize("vector", load_vectors()["values"], ids=lambda v: f"{v['literal'][:30]} {v['hlc']}")
def test_values(vector: dict[str, Any]) -> None:
    """A value as a user writes it: its wire form, its hashed text, its hash, and that of the values."""
    wire = encode_cell(jsjson.loads(vector["literal"]))
    assert jsjson.dumps(wire) == jsjson.dumps(vector["stored"])
    assert f"{jsjson.dumps(wire)}:{vector['hlc']}" == vector["hashed"]
    assert leaf_hash((wire, vector["hlc"])) == vector["hash"]
    store = MergeableStore()
    store.apply_mergeable_changes([[{}], [{"v": [wire, vector["hlc"]]}], 1])
    assert store.get_mergeable_content_hashes() == [0, vector["valuesHash"]]


def test_id_hashes() -> None:
    """What a child adds to its parent."""
    for vector in load_vectors()["idHashes"]:
        assert child_hash(vector["id"], vector["hash"]) == vector["result"]


def test_tree_hashes() -> None:
    """Hashes of containers from the hashes of their children."""
    for vector in load_vectors()["treeHashes"]:
        hash_ = 0
        for id_, child in vector["arg"].items():
            hash_ ^= child_hash(id_, child)
            if vector["fn"] in ("getRowHash", "getValuesHash"):
                hash_ ^= child_hash(id_, 0)
        assert hash_ == vector["out"], vector


def test_hlc_encoding() -> None:
    """Client parts, encoding and decoding of stamps."""
    hlc = load_vectors()["hlc"]
    for vector in hlc["clientIds"]:
        assert client_part(vector["uniqueId"]) == vector["client"]
    for vector in hlc["encode"]:
        client = client_part(vector["uniqueId"])
        assert encode_hlc(int(vector["time"]), int(vector["counter"]), client) == vector["hlc"]
    for vector in hlc["decode"]:
        assert decode_hlc(vector["hlc"]) == (vector["time"], vector["counter"], vector["client"])


@pytest.mark.parametrize("vector", load_vectors()["hlc"]["sequences"], ids=lambda v: v["about"])
def test_hlc_sequences(vector: dict[str, Any]) -> None:
    """The clock, step by step."""
    clock = Clock(0)
    hlc = HybridLogicalClock(client_part(vector["uniqueId"]), clock)
    for step in vector["steps"]:
        clock.now = step["now"]
        if step["op"] == "next":
            assert hlc.tick() == step["hlc"]
        else:
            hlc.observe(step["seen"])
        assert (hlc.time, hlc.counter) == (step["time"], step["counter"])


@pytest.mark.parametrize("vector", load_vectors()["hlc"]["validity"], ids=lambda v: v["about"])
def test_hlc_validity(vector: dict[str, Any]) -> None:
    """Which HLC of a leaf is accepted."""
    body = [[{}], [{"v": [1, vector["hlc"]]}], 1]
    if vector["accepted"]:
        check_body(body, CHANGES, latest_allowed(vector["now"]))
    else:
        with pytest.raises(MergesyncError):
            check_body(body, CHANGES, latest_allowed(vector["now"]))


@pytest.mark.parametrize("script", load_vectors()["scripts"], ids=lambda v: v["name"])
def test_scripts(script: dict[str, Any]) -> None:
    """Stamps, hashes, content and what would be sent, after each step."""
    clock = Clock(script["now"])
    store = MergeableStore(script["uniqueId"], get_now=clock)
    sent = recorded_changes(store)
    for index, step in enumerate(script["steps"]):
        sent.clear()
        run(store, clock, step["op"])
        assert store.get_mergeable_content() == step["mergeable"], (index, step["op"])
        content = DEPARTURES_IN_CONTENT.get((script["name"], index), step["content"])
        assert list(store.get_content()) == content, (index, step["op"])
        if script["name"] == "encoded JSON from a peer":
            assert sent == [step["op"][1]]  # everything taken is passed on (6, 17)
            continue
        expected = DEPARTURES_IN_CHANGES.get((script["name"], index), step["changes"])
        assert sent == ([] if expected is None else [expected]), (index, step["op"])


@pytest.mark.parametrize("soak", load_vectors()["soaks"], ids=lambda v: v["name"])
@pytest.mark.parametrize("hash_each_step", [False, True])
def test_soaks(soak: dict[str, Any], hash_each_step: bool) -> None:
    """Long random scripts; hashes agree whether they are asked for at each step or at the end."""
    clock = Clock(soak["now"])
    store = MergeableStore(soak["uniqueId"], get_now=clock)
    for index, step in enumerate(soak["steps"], start=1):
        run(store, clock, step)
        if hash_each_step:
            store.get_mergeable_content_hashes()
        hashes = soak["hashesAfter"].get(str(index)) if isinstance(soak["hashesAfter"], dict) else None
        if hashes is not None:
            assert store.get_mergeable_content_hashes() == hashes, index
    assert store.get_mergeable_content() == soak["mergeable"]
    assert list(store.get_content()) == soak["content"]


_DIFF_METHODS = {
    "contentHashes": "get_mergeable_content_hashes",
    "tableHashes": "get_mergeable_table_hashes",
    "tableDiff": "get_mergeable_table_diff",
    "rowHashes": "get_mergeable_row_hashes",
    "rowDiff": "get_mergeable_row_diff",
    "cellHashes": "get_mergeable_cell_hashes",
    "cellDiff": "get_mergeable_cell_diff",
    "valueHashes": "get_mergeable_value_hashes",
    "valueDiff": "get_mergeable_value_diff",
}


@pytest.mark.parametrize("vector", load_vectors()["diffs"], ids=lambda v: v["name"])
def test_diffs(vector: dict[str, Any]) -> None:
    """The diff functions at every level."""
    stores = {}
    for name in "xy":
        stores[name] = MergeableStore(name, get_now=Clock()).set_mergeable_content(vector[name])
    for call in vector["calls"]:
        arguments = [call["arg"]] if "arg" in call else []
        assert getattr(stores[call["on"]], _DIFF_METHODS[call["fn"]])(*arguments) == call["out"], call


@pytest.mark.parametrize("vector", load_vectors()["bodies"], ids=lambda v: v["about"])
@pytest.mark.parametrize("way", ["apply", "load"])
def test_bodies(vector: dict[str, Any], way: str) -> None:
    """A body is taken or refused as the peer does; a refused one raises and changes nothing."""
    store = MergeableStore("b", get_now=Clock(T0)).set_value("before", 1)
    method = store.apply_mergeable_changes if way == "apply" else store.set_mergeable_content
    expected = vector[way]
    if expected["changed"]:
        method(vector["body"])
    else:
        with pytest.raises(MergesyncError):
            method(vector["body"])
    assert store.get_mergeable_content() == expected["mergeable"]
    assert list(store.get_content()) == expected["content"]
