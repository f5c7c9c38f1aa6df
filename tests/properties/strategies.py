"""What stores are fed with in the properties: every kind of id, cell, stamp and body that may come.

Never narrow a strategy to make a property pass: write the failure down as a test in `tests/unit/store`, and mend it.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeAlias

from hypothesis import strategies as st

from mergesync.store.hlc import client_part, encode_hlc
from mergesync.store.jsjson import dumps

T0 = 1704067200000
"""2024-01-01T00:00:00Z."""

TOMBSTONE = "\ufffc"

Drawn: TypeAlias = st.SearchStrategy[Any]

# --- ids ------------------------------------------------------------------------------------------------------------

FEW_IDS = ("a", "b", "c")
"""Most ids are of these, so that things meet."""

AWKWARD_IDS = (
    "", "__proto__", "constructor", "hasOwnProperty", "0", "1", "10", "007", "-1", "4294967294", "4294967295", "1e3",
    "²", "٣", "\n", "\r\n", "\0", "é", "\u2028", "🦉", "\ud83e\udd89", "\ud800", "\udc00", "a\ud800", "a\udbff",
    TOMBSTONE, "\ufffd", "\ufffd{}", "\ufffe", "\uffff", "x" * 70,
)  # fmt: skip


@cache
def text(max_size: int = 6) -> st.SearchStrategy[str]:
    """Any text, lone surrogates included."""
    return st.text(alphabet=st.characters(), max_size=max_size)


@cache
def ids() -> st.SearchStrategy[str]:
    """An id as an application gives it."""
    return st.sampled_from(FEW_IDS) | st.sampled_from(FEW_IDS) | st.sampled_from(AWKWARD_IDS) | text()


@cache
def wire_ids() -> st.SearchStrategy[str]:
    """An id as it comes out of JSON: two surrogates that make a character have become it."""
    return ids().map(lambda id_: str(json.loads(json.dumps(id_))))


# --- cells ----------------------------------------------------------------------------------------------------------

ODD_NUMBERS = (
    0, -0.0, 1, 1.0, -1, 0.1, 1e20, 1e21, 123456789012345680000.0, 1e-6, 1e-7, 1.5e-9, 5e-324, 1.7976931348623157e308,
    2**53, 2**53 - 1, -(2**53), 9007199254740993.0, 1e17, -1e300, 4.35, 0.000001234, 2**31, 2**32, 100,
)  # fmt: skip

ODD_TEXTS = (
    "", "1", "true", "null", '"', "\\", "a\nb", "\x7f", "\u2028", "é", "🦉", "\ud800", "x\udfff", "\ufffcx", "x\ufffc",
    "x\ufffd", "\ufffe", "\uffff", "{}", "[1]", ":", "a:b", "Nn1JUF-----7JQY8", ":Nn1JUF-----7JQY8", "__proto__",
)  # fmt: skip


@cache
def numbers() -> Drawn:
    """Any number that a cell may be."""
    return (
        st.sampled_from(ODD_NUMBERS)
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-3, 3)
    )


@cache
def texts() -> st.SearchStrategy[str]:
    """Any text that a cell may be: not a reserved one."""
    return (st.sampled_from(ODD_TEXTS) | text()).filter(lambda t: t != TOMBSTONE and t[:1] != "\ufffd")


@cache
def scalars() -> Drawn:
    """Any cell that is not an object or array."""
    return st.none() | st.booleans() | numbers() | texts()


@cache
def json_values() -> Drawn:
    """Anything JSON can say; inside objects and arrays no text is reserved."""
    inner = scalars() | st.sampled_from((TOMBSTONE, "\ufffd[1]", "\ufffd"))
    return st.recursive(
        inner,
        lambda child: st.lists(child, max_size=3) | st.dictionaries(ids(), child, max_size=3),
        max_leaves=6,
    )


@cache
def containers() -> Drawn:
    """Any object or array."""
    return json_values().map(lambda value: value if isinstance(value, dict | list) else [value])


@cache
def cells() -> Drawn:
    """Any cell or value that an application may write."""
    return st.integers(0, 2) | scalars() | scalars() | containers()


@cache
def rows() -> Drawn:
    """A row, or the values; it may be empty."""
    return st.dictionaries(ids(), cells(), max_size=4)


@cache
def tables() -> Drawn:
    """A table."""
    return st.dictionaries(ids(), rows(), max_size=3)


@cache
def contents() -> Drawn:
    """`(tables, values)`."""
    return st.tuples(st.dictionaries(ids(), tables(), max_size=2), rows())


NOT_CELLS: tuple[Any, ...] = (
    float("nan"), float("inf"), float("-inf"), 2**53 + 1, -(2**53) - 1, 10**5000, TOMBSTONE, "\ufffd", "\ufffd[1]",
    b"x", object(), {1, 2}, 1j, [float("nan")], {"a": float("inf")}, {1: 2}, {"a": {None: 1}}, [object()], {"a": 2**60},
    ...,
)  # fmt: skip
"""What a cell may not be."""

# --- stamps and bodies ----------------------------------------------------------------------------------------------

CLIENTS = ("-----", "AAAAA", "zzzzz", client_part("one"), client_part("two"))


TIMES = (0, 1, T0 - 1, T0, T0 + 1, T0 + 2, T0 + 299_999)

HLCS = tuple(encode_hlc(t, counter, c) for t in TIMES for counter in (0, 1, 2, 2**24 - 1) for c in CLIENTS)
"""Few times, so that ties and all orders come up."""


@cache
def hlcs() -> st.SearchStrategy[str]:
    """A stamp's HLC; sometimes the empty one."""
    return st.sampled_from((*HLCS, *[""] * (len(HLCS) // 4)))


@cache
def wires() -> Drawn:
    """A leaf as it travels: cells, tombstones, encoded objects, text that does not decode, raw objects."""
    return (
        st.integers(0, 2)
        | scalars()
        | st.just(TOMBSTONE)
        | containers().map(lambda value: "\ufffd" + dumps(value))
        | st.sampled_from(("\ufffd", "\ufffdbroken", "\ufffd1", '\ufffd"a"', "\ufffdnull", "\ufffd{", "\ufffd[1e400]"))
        | st.sampled_from(("\ufffd[1, 2]", '\ufffd{"a":1.0}', '\ufffd{"a":1,"a":2}', '\ufffd{"b":1,"1":2}'))
        | containers()
    )


def _stamp(thing: Any, hlc: str, form: int) -> list[Any]:
    """A stamp of one, two or three elements."""
    if not hlc and form < 5:
        return [thing]
    return [thing, hlc, (0, 1, -1, 1.5, 2**32)[form % 5]] if form == 9 else [thing, hlc]


@cache
def stamped_leaves() -> Drawn:
    """A leaf with its stamp."""
    return st.builds(_stamp, wires(), hlcs(), st.integers(0, 9))


@cache
def _containers_said() -> Drawn:
    """Now and then a table or row that is named by itself, or has an HLC of its own."""
    said = st.tuples(st.sampled_from(("tables", "table", "row", "values")), wire_ids(), wire_ids(), hlcs())
    return st.just([]) | st.just([]) | st.lists(said, max_size=3)


def _body(
    cells_said: list[tuple[str, str, str, Any]], values_said: dict[str, Any], containers_said: list[Any], one: bool
) -> list[Any]:
    body: list[Any] = [[{}], [values_said]]
    for table_id, row_id, cell_id, leaf in cells_said:
        body[0][0].setdefault(table_id, [{}])[0].setdefault(row_id, [{}])[0][cell_id] = leaf
    for what, table_id, row_id, hlc in containers_said:
        container = body[1] if what == "values" else body[0]
        if what in ("table", "row"):
            container = container[0].setdefault(table_id, [{}])
        if what == "row":
            container = container[0].setdefault(row_id, [{}])
        container[1:] = [hlc]
    return [*body, 1] if one else body


@cache
def bodies() -> Drawn:
    """Changes as a peer may send them, `[tables, values, 1]`; rows and tables may be named without leaves."""
    cells_said = st.lists(st.tuples(wire_ids(), wire_ids(), wire_ids(), stamped_leaves()), max_size=6)
    values_said = st.dictionaries(wire_ids(), stamped_leaves(), max_size=3)
    return st.builds(_body, cells_said, values_said, _containers_said(), st.booleans())


def paths(body: list[Any]) -> list[tuple[tuple[str, ...], dict[str, Any], str]]:
    """Every leaf of a body: `(path, the dict it is in, its id there)`."""
    found: list[tuple[tuple[str, ...], dict[str, Any], str]] = []
    for table_id, table in body[0][0].items():
        for row_id, row in table[0].items():
            found += [((table_id, row_id, cell_id), row[0], cell_id) for cell_id in row[0]]
    return found + [((value_id,), body[1][0], value_id) for value_id in body[1][0]]


def agree(given: list[list[Any]]) -> list[list[Any]]:
    """Make bodies such as peers write: an HLC at a path stands for one value only, the one it was first seen with.

    This is the protocol's precondition (surprises 1, 2): no two clients make the same HLC. It covers the empty one too.
    """
    first: dict[tuple[tuple[str, ...], str], Any] = {}
    for body in given:
        for path, where, leaf_id in paths(body):
            leaf = where[leaf_id]
            leaf[0] = first.setdefault((path, leaf[1] if len(leaf) > 1 else ""), leaf[0])
    return given


def agreeing_bodies(fewest: int, most: int) -> Drawn:
    """Several bodies, such that an HLC at a path stands for one value only."""
    return st.lists(bodies(), min_size=fewest, max_size=most).map(agree)


def names_empties(body: list[Any]) -> bool:
    """Whether a body names a row or table without leaves, which leaves a trace in TinyBase's hashes (surprise 20)."""
    return any(not table[0] or any(not row[0] for row in table[0].values()) for table in body[0][0].values())


BROKEN_BODIES: tuple[Any, ...] = (
    None, 1, "x", [], {}, [[{}]], [[{}], [{}], 2], [[{}], [{}], True], [[{}], [{}], "1"], [[{}], [{}], 1, 1],
    [{}, {}, 1], [[[]], [{}], 1], [[{}, "bad"], [{}], 1], [[{}, 5], [{}], 1], [[{}, None], [{}], 1],
    [[{}], [{"v": 1}], 1], [[{}], [{"v": []}], 1], [[{}], [{"v": [1, "", 0, 0]}], 1],
    [[{}], [{"v": [1, "", float("nan")]}], 1], [[{}], [{"v": [1, "", "0"]}], 1], [[{}], [{"v": [float("inf"), ""]}], 1],
    [[{}], [{"v": [object()]}], 1], [[{}], [{"v": [10**400]}], 1], [[{}], [{1: [1]}], 1], [[{1: [{}]}], [{}], 1],
    [[{"t": {}}], [{}], 1], [[{"t": [{"r": {}}]}], [{}], 1], [[{"t": [{"r": [{"c": {}}]}]}], [{}], 1],
    [[{"t": [{1: [{}]}]}], [{}], 1], [[{"t": [{"r": [{1: [1]}]}]}], [{}], 1], [[{"t": [{"r": [[]]}]}], [{}], 1],
    [[{}], [{"v": [1, "Nn1JUF-----7JQ"]}], 1], [[{}], [{"v": [1, "Nn1JUF-----7JQY!"]}], 1],
    [[{}], [{"v": [1, "Nn1JUF-----7JQYé"]}], 1], [[{}], [{"v": [1, "zzzzzzz-----AAAA"]}], 1],
    [[{}], [{"v": [{"a": float("nan")}]}], 1],
)  # fmt: skip
"""Changes that are no changes: refused as a whole."""

# --- operations of an application -----------------------------------------------------------------------------------


@cache
def operations() -> Drawn:
    """One write of an application: `(method name, *arguments)`."""
    table, row, leaf = ids(), ids(), ids()
    return st.one_of(
        st.tuples(st.just("set_cell"), table, row, leaf, cells()),
        st.tuples(st.just("set_cell"), table, row, leaf, cells()),
        st.tuples(st.just("set_row"), table, row, rows()),
        st.tuples(st.just("set_partial_row"), table, row, rows()),
        st.tuples(st.just("set_table"), table, tables()),
        st.tuples(st.just("set_tables"), st.dictionaries(ids(), tables(), max_size=2)),
        st.tuples(st.just("set_content"), contents()),
        st.tuples(st.just("add_row"), table, rows(), st.booleans()),
        st.tuples(st.just("del_cell"), table, row, leaf, st.booleans()),
        st.tuples(st.just("del_row"), table, row),
        st.tuples(st.just("del_table"), table),
        st.tuples(st.just("del_tables")),
        st.tuples(st.just("set_value"), leaf, cells()),
        st.tuples(st.just("set_values"), rows()),
        st.tuples(st.just("set_partial_values"), rows()),
        st.tuples(st.just("del_value"), leaf),
        st.tuples(st.just("del_values")),
        st.tuples(st.just("set_default_content"), contents()),
    )


# --- schemas --------------------------------------------------------------------------------------------------------

OF_TYPE: dict[str, Drawn] = {
    "string": texts(),
    "number": numbers(),
    "boolean": st.booleans(),
    "object": st.dictionaries(ids(), scalars(), max_size=2),
    "array": st.lists(scalars(), max_size=2),
}


@cache
def cell_schemas() -> Drawn:
    """The schema of one cell or value."""
    schemas: list[Drawn] = [
        st.fixed_dictionaries({"type": st.just(kind)}, optional={"default": default, "allowNull": st.booleans()})
        for kind, default in OF_TYPE.items()
    ]
    return st.one_of(*schemas)


@cache
def values_schemas() -> Drawn:
    """A schema of values."""
    return st.dictionaries(ids(), cell_schemas(), min_size=1, max_size=3)


@cache
def tables_schemas() -> Drawn:
    """A schema of tables."""
    return st.dictionaries(ids(), values_schemas(), min_size=1, max_size=3)
