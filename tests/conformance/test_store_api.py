"""The golden scripts of the Store API, recorded from TinyBase 10.0.1, replayed on `mergesync.store.MergeableStore`.

`golden/README.md` explains the format and lists what TinyBase does where its documentation is vague. A script or
step with `departs` is one where mergesync does something else on purpose; each such script has a test here of what it
does instead.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mergesync.exceptions import (
    ContentError,
    InvalidCellError,
    InvalidIdError,
    MergesyncError,
    SchemaError,
    TransactionError,
)
from mergesync.store import MergeableStore
from mergesync.types import MISSING

from .nodepeer import run_node

GOLDEN = Path(__file__).parent / "golden" / "store_api.json"
UNDEFINED = "\ufffc"
T0 = 1704067200000

ERRORS: dict[str, type[MergesyncError]] = {
    "InvalidCellError": InvalidCellError,
    "InvalidIdError": InvalidIdError,
    "TransactionError": TransactionError,
}

ID_CHANGES = {"TableIds", "RowIds", "CellIds", "TableCellIds", "ValueIds"}
NONE_IS_UNDEFINED = {"SortedRowIds", "InvalidCell", "InvalidValue"}  # absent ids and arguments are None here
CHANGES = {"Cell", "Row", "Table", "Tables", "Value", "Values"}


def _cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["cycle"] = cycle
    return cycle


SPECIALS: dict[str, Callable[[], Any]] = {
    "undefined": lambda: MISSING,
    "NaN": lambda: math.nan,
    "Infinity": lambda: math.inf,
    "-Infinity": lambda: -math.inf,
    "-0": lambda: -0.0,
    "bigint": lambda: 2**53 + 1,
    "symbol": object,
    "date": lambda: datetime(1970, 1, 1, tzinfo=UTC),
    "cycle": _cycle,
    "increment": lambda: lambda old: old + 1,
    "orOne": lambda: lambda old: 1 if old is MISSING else old + 1,
    "exclaim": lambda: lambda old: f"{old}!",
    "keep": lambda: lambda old: old,
    "toUndefined": lambda: lambda _old: MISSING,
    "byLength": lambda: lambda a, b: len(str(a)) - len(str(b)),
}


def snake(name: str) -> str:
    """A name of TinyBase, as it is in Python."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def decode(argument: Any) -> Any:
    """An argument of an operation, with its special values."""
    if isinstance(argument, dict):
        if len(argument) == 1 and "$" in argument and argument["$"] in SPECIALS:
            return SPECIALS[argument["$"]]()
        return {key: decode(value) for key, value in argument.items()}
    return [decode(each) for each in argument] if isinstance(argument, list) else argument


def plain(thing: Any) -> Any:
    """What a store gave, as the golden file has it."""
    if thing is MISSING:
        return UNDEFINED
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    return [plain(each) for each in thing] if isinstance(thing, list | tuple) else thing


def same(name: str, result: Any) -> Any:
    """A result, apart from what may be another one in Python."""
    result = plain(result)
    match name:
        case "on":
            return None  # an opaque id
        case "hasTablesSchema" | "hasValuesSchema":
            return bool(result) and result != UNDEFINED  # undefined where there was never one
        case "getListenerStats":
            return {snake(kind): count for kind, count in result.items()}
        case "getTransactionLog":
            return _decoded(result)  # TinyBase gives objects in encoded form
        case _:
            return result


def _decoded(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _decoded(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_decoded(each) for each in thing]
    return json.loads(thing[1:]) if isinstance(thing, str) and thing.startswith("\ufffd") else thing


class ThrownError(Exception):
    """What a listener or a transaction of a script throws."""


class Run:
    """One script on one store."""

    def __init__(self, script: dict[str, Any]) -> None:
        self.now: int = script["now"]
        self.store = MergeableStore(script["uniqueId"], get_now=lambda: self.now)
        self.log: list[Any] = []
        self.listeners: dict[str, str] = {}

    def state(self) -> dict[str, Any]:
        return {
            "content": plain(self.store.get_content()),
            "mergeable": plain(self.store.get_mergeable_content()),
        }

    def listen(self, label: str, kind: str, ids: list[Any], options: dict[str, Any]) -> str:
        left = options.get("times", math.inf)

        def listener(_store: MergeableStore, *arguments: Any) -> None:
            nonlocal left
            self.log.append(["call", label, *self.describe(kind, arguments, options.get("probe"))])
            if left <= 0:
                return
            left -= 1
            for operation in options.get("do", ()):
                self.did(label, operation, arguments)
            if "throw" in options:
                raise ThrownError(options["throw"])

        mutator = [options["mutator"]] if "mutator" in options and not kind.endswith("Transaction") else []
        # What is undefined among the arguments of TinyBase's sorted row ids is None here.
        decoded = [None if each is MISSING else each for each in map(decode, ids)]
        add: Callable[..., str] = getattr(self.store, f"add_{snake(kind)}_listener")
        self.listeners[label] = add(*decoded, listener, *mutator)
        return self.listeners[label]

    def describe(self, kind: str, arguments: tuple[Any, ...], probe: list[Any] | None) -> list[Any]:
        described: list[Any] = []
        for argument in arguments:
            if argument is None and kind in NONE_IS_UNDEFINED:
                described.append(UNDEFINED)
            elif not callable(argument):
                described.append(plain(argument))
            elif kind in ID_CHANGES:
                described.append({"ids": plain(argument())})
            else:
                assert kind in CHANGES, kind
                own = {"Cell": [arguments[:3]], "Value": [arguments[:1]]}.get(kind, [])
                paths = own if probe is None else probe
                described.append({"changes": [plain(argument(*path)) for path in paths]})
        return described

    def did(self, label: str, operation: list[Any], arguments: tuple[Any, ...]) -> None:
        filled = [arguments[part["$arg"]] if isinstance(part, dict) and "$arg" in part else part for part in operation]
        try:
            result = self.run(filled)
        except MergesyncError as error:
            result = {"error": type(error).__name__}
        self.log.append(["did", label, plain(filled), same(operation[0], result)])

    def run(self, operation: list[Any]) -> Any:
        """One operation; None for the store itself."""
        name, *arguments = operation
        match name:
            case "now":
                self.now = arguments[0]
            case "advance":
                self.now += arguments[0]
            case "on":
                return self.listen(*arguments)
            case "off":
                self.store.del_listener(self.listeners[arguments[0]])
            case "callListener":
                [which] = arguments
                self.store.call_listener(self.listeners[which["$listener"]] if isinstance(which, dict) else which)
            case "apply":
                self.store.apply_mergeable_changes(arguments[0])
            case "load":
                self.store.set_mergeable_content(arguments[0])
            case "default":
                self.store.set_default_content(arguments[0])
            case "throw":
                raise ThrownError(arguments[0])
            case "transaction":
                return self.store.transaction(lambda: [self.run(each) for each in arguments[0]])
            case "rollback":
                return self.store.transaction(lambda: [self.run(each) for each in arguments[0]], lambda _store: True)
            case _:
                decoded = [decode(each) for each in arguments]
                if name == "getSortedRowIds":
                    decoded = [None if each is MISSING else each for each in decoded]
                result = getattr(self.store, snake(name))(*decoded)
                if name == "addRow" and result is None:
                    return MISSING
                return None if result is self.store else result
        return None


with GOLDEN.open(encoding="utf-8") as file:
    SCRIPTS: list[dict[str, Any]] = json.load(file)["scripts"]
BY_NAME = {script["name"]: script for script in SCRIPTS}

# What a script that departs is replaced by: the names of tests in this file.
INSTEAD: dict[str, str] = {}

# Where mergesync differs from TinyBase and nobody has decided yet: to be mended, or to become a departure with a test.
# A script that begins to pass fails the run until its line is taken out here.
OPEN: dict[str, str] = {
    "listeners: one that throws stops the rest, and the change stays": "a listener that fails keeps nothing from the "
    "others: they are called, and then its error is raised",
}


def instead(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Marks a test as that of the better behaviour, where a script departs."""
    assert BY_NAME[name].get("departs"), name

    def mark(test: Callable[[], None]) -> Callable[[], None]:
        INSTEAD[name] = test.__name__
        return test

    return mark


def _replayed() -> Iterator[Any]:
    for script in SCRIPTS:
        name = script["name"]
        marks = [pytest.mark.xfail(reason=OPEN[name])] if name in OPEN else []
        if "departs" not in script:
            yield pytest.param(script, id=name, marks=marks)


@pytest.mark.parametrize("script", list(_replayed()))
def test_as_tinybase(script: dict[str, Any]) -> None:
    run = Run(script)
    expected = run.state()
    together = True  # False once TinyBase has changed what mergesync refused
    for number, step in enumerate(script["steps"]):
        where = f"step {number}: {json.dumps(step['op'])}"
        before = run.state()
        run.log = []
        departs = step.get("departs")
        changed = {key: step[key] for key in ("content", "mergeable") if key in step}
        if departs is not None:
            with pytest.raises(ERRORS[departs]):
                run.run(step["op"])
            assert run.state() == before, where
            together = together and not changed
            continue
        error: str | None = None
        result: Any = None
        try:
            result = run.run(step["op"])
        except ThrownError as thrown:
            error = str(thrown)
        except ContentError:
            # A body that TinyBase ignores raises here, and changes nothing.
            if changed or step["op"][0] not in {"apply", "load"}:
                raise
        expected.update(changed)
        assert error == step.get("error"), where
        assert same(step["op"][0], result) == same(step["op"][0], step.get("result")), where
        logged = [
            [*entry[:3], same(entry[2][0], entry[3])] if entry[0] == "did" else entry for entry in step.get("log", [])
        ]
        if step["op"][0] == "callListener":
            # TinyBase leaves out arguments that it has only in a transaction.
            assert len(run.log) == len(logged), where
            for mine, theirs in zip(run.log, logged, strict=True):
                assert mine[: len(theirs)] == theirs, where
        else:
            assert run.log == logged, where
        if together:
            assert run.state() == expected, where


def test_the_lists_name_scripts() -> None:
    assert {script["name"] for script in SCRIPTS if "departs" in script} == set(INSTEAD)
    assert set(OPEN) <= set(BY_NAME) - set(INSTEAD)


@pytest.mark.usefixtures("node_installed")
def test_the_golden_file_is_what_tinybase_does() -> None:
    assert json.loads(run_node("record_store.mjs")) == json.loads(GOLDEN.read_text(encoding="utf-8"))


# --- departures


def _runs(name: str) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Runs a script, and gives the run and each step after it; errors of mergesync go into the step."""
    run = Run(BY_NAME[name])
    for step in BY_NAME[name]["steps"]:
        run.log = []
        raised: MergesyncError | None = None
        try:
            run.run(step["op"])
        except MergesyncError as error:
            raised = error
        yield run, {**step, "raised": raised}


def _agrees(store: MergeableStore, *schema: Any) -> None:
    """What is visible is what the stamps say: a store that merges the stamps shows the same."""
    other = MergeableStore("other", get_now=lambda: T0 + 1000)
    if schema:
        other.set_schema(*schema)
    tables, values = store.get_mergeable_content()

    def bare(stamp: list[Any], depth: int) -> list[Any]:
        things = {key: bare(each, depth - 1) for key, each in stamp[0].items()} if depth else stamp[0]
        return [things, stamp[1]]

    other.apply_mergeable_changes([bare(tables, 3), bare(values, 1), 1])
    assert other.get_content() == store.get_content()


@instead("looking: a write in a listener that is no mutator")
def test_a_write_in_a_looking_listener_raises() -> None:
    *_, (run, _) = _runs("looking: a write in a listener that is no mutator")
    assert [entry[3] for entry in run.log if entry[0] == "did"] == [
        {"error": "TransactionError"},
        UNDEFINED,
        {"error": "TransactionError"},
    ]
    assert run.store.get_content() == ({"t": {"r": {"c": 1}}}, {})


@instead("looking: a write in a did-finish listener")
def test_a_write_in_a_did_finish_listener_raises() -> None:
    *_, (run, _) = _runs("looking: a write in a did-finish listener")
    assert [entry[3] for entry in run.log if entry[0] == "did"] == [
        {"error": "TransactionError"},
        UNDEFINED,
        {"error": "TransactionError"},
    ]
    assert run.store.get_content() == ({"t": {"r": {"c": 1}}}, {})


@instead("listeners: ids are numbers that are given again")
def test_a_listener_id_is_never_given_again() -> None:
    store = MergeableStore()
    ids = []
    for _ in range(5):
        ids.append(store.add_tables_listener(lambda _store: None))
        store.del_listener(ids[0])
    assert len(set(ids)) == 5


@instead("json: what is not JSON is ignored")
def test_what_is_not_json_raises() -> None:
    (run, _), *others = _runs("json: what is not JSON is ignored")
    for _, step in others:
        assert isinstance(step["raised"], ContentError), step["op"]
    assert run.store.get_content() == ({"t": {"r": {"a": 1}}}, {"v": 1})


@instead("schema: a default where the cell was deleted before")
def test_a_default_does_not_hide_a_deletion() -> None:
    *_, (run, step) = _runs("schema: a default where the cell was deleted before")
    assert run.state()["mergeable"] == step["mergeable"]
    assert run.store.get_row("pets", "fido") == {"species": "dog"}
    _agrees(run.store, BY_NAME["schema: a default where the cell was deleted before"]["steps"][0]["op"][1])


@instead("schema: a default that is an object or an array")
def test_a_default_is_not_told_as_invalid() -> None:
    expected: dict[str, Any] = {}
    for run, step in _runs("schema: a default that is an object or an array"):
        expected.update({key: step[key] for key in ("content", "mergeable") if key in step})
        assert run.log == [], step["op"]
        assert run.state()["content"] == expected.get("content", [{}, {}])
        assert run.state()["mergeable"] == expected.get("mergeable", run.state()["mergeable"])


@instead("schema: set on a store that has content")
def test_a_schema_set_later_keeps_the_stamps_of_what_fits() -> None:
    for run, step in _runs("schema: set on a store that has content"):
        if step["op"][0] == "setTablesSchema":
            assert plain(run.store.get_row("pets", "fido")) == step["content"][0]["pets"]["fido"]
            fido = run.store.get_mergeable_content()[0][0]["pets"][0]["fido"][0]
            assert fido["species"][:2] == ["dog", "Nn1JUF-----7JQY8"]
            assert fido["sold"][0] is False
            assert fido["other"][0] == UNDEFINED
            _agrees(run.store, step["op"][1])


@instead("schema: of values, set on a store that has some")
def test_a_schema_of_values_set_later_keeps_the_stamps_of_what_fits() -> None:
    *_, (run, step) = _runs("schema: of values, set on a store that has some")
    assert plain(run.store.get_values()) == step["content"][1]
    values = run.store.get_mergeable_content()[1][0]
    assert values["n"][:2] == [1, "Nn1JUF----07JQY8"]
    assert values["m"][:2] == [3, ""]
    _agrees(run.store, {}, step["op"][1])


def test_a_schema_set_later_is_heard() -> None:
    for name in ("schema: set on a store that has content", "schema: of values, set on a store that has some"):
        for run, step in _runs(name):
            kinds = {"Cell", "Value"}
            heard = [entry[:-1] for entry in run.log if entry[1] in kinds]
            told = [entry[:-1] for entry in step.get("log", []) if entry[1] in kinds]
            assert sorted(map(json.dumps, heard)) == sorted(map(json.dumps, told)), step["op"]


@instead("schema: defaults that are of the wrong type are dropped")
def test_a_bad_schema_raises() -> None:
    for run, step in _runs("schema: defaults that are of the wrong type are dropped"):
        if step["op"][0].startswith("set") and step["op"][1] != {"t": {}}:
            assert isinstance(step["raised"], SchemaError), step["op"]
            assert run.store.get_values_schema_json() == "{}"


@instead("schema: unions, enums and required")
def test_unions_and_enums_are_refused() -> None:
    (run, step), *_ = _runs("schema: unions, enums and required")
    assert isinstance(step["raised"], SchemaError)
    assert not run.store.has_tables_schema()


@instead("schema: what a peer sends against it")
def test_what_a_schema_refuses_is_stamped_and_not_shown() -> None:
    name = "schema: what a peer sends against it"
    schema = BY_NAME[name]["steps"][0]["op"][1]
    for run, step in _runs(name):
        if step["op"][0] != "apply":
            continue
        _agrees(run.store, schema)
        # Whatever is sent is kept and passed on as it is, so that all replicas have the same stamps.
        for table_id, table in step["op"][1][0][0].items():
            for row_id, row in table[0].items():
                for cell_id, stamp in row[0].items():
                    mine = run.store.get_mergeable_content()[0][0][table_id][0][row_id][0][cell_id]
                    assert mine[:2] == stamp, (table_id, row_id, cell_id)
        content = run.store.get_tables()
        for row in content.get("pets", {}).values():
            assert isinstance(row.get("species", ""), str)
        assert "other" not in content


@instead("merge: what leaves the visible content as it was")
def test_what_is_merged_is_among_the_changes() -> None:
    *_, (run, step) = _runs("merge: what leaves the visible content as it was")
    [changes] = [entry[3] for entry in run.log if entry[0] == "did"]
    assert changes == step["op"][1]
    assert run.state()["mergeable"] == step["mergeable"]
    assert not [entry for entry in run.log if entry[1] == "Cell"]


@instead("merge: default content over what is there")
def test_default_content_fills_only_what_nobody_has_written() -> None:
    *_, (run, step) = _runs("merge: default content over what is there")
    assert run.state()["mergeable"] == step["mergeable"]
    assert run.store.get_content() == ({"t": {"r": {"a": 1, "b": 1, "c": 2}}}, {"v": 1, "w": 2})
    _agrees(run.store)


def test_objects_through_the_public_merge_hash_as_if_written_here() -> None:
    """Surprise 7: TinyBase keeps raw objects in the stamps of a store merged by hand, with another hash."""
    one, two = MergeableStore("one", get_now=lambda: T0), MergeableStore("two", get_now=lambda: T0)
    one.set_cell("t", "r", "c", {"a": [1]}).set_value("v", [{}])
    two.merge(one)
    assert two.get_mergeable_content() == one.get_mergeable_content()
    assert one.get_mergeable_content()[1][0]["v"][0] == "\ufffd[{}]"
    assert two.get_cell("t", "r", "c") == {"a": [1]}


def test_rollback_restores_the_exact_old_state() -> None:
    """TinyBase restores the stamps, and leaves the order of ids changed."""
    *_, (run, step) = _runs("transaction: rolled back, to the old stamps")
    assert run.state()["mergeable"] == step["mergeable"]
    store = MergeableStore("s", get_now=lambda: T0).set_tables({"t": {"r": {"a": 1, "b": 2}, "q": {"a": 1}}})
    before = json.dumps(store.get_mergeable_content())
    visible = json.dumps(store.get_content())
    store.transaction(lambda: store.del_cell("t", "r", "a").del_row("t", "q").set_value("v", 1), lambda _store: True)
    assert json.dumps(store.get_mergeable_content()) == before
    assert json.dumps(store.get_content()) == visible
