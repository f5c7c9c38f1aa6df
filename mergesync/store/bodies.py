"""What a body of stamps must look like before any of it is taken (protocol sections 5 and 9).

Two doors use the same checks: the store's own (changes to merge, content to load), and the wire's, which is stricter
about form and says nothing about time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mergesync.exceptions import ClockDriftError, ContentError
from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS
from mergesync.store.hlc import ALPHABET, is_hlc
from mergesync.store.jsjson import canonical_number, dumps

_LIST: frozenset[type] = frozenset((list,))
_DICT: frozenset[type] = frozenset((dict,))
_STR: frozenset[type] = frozenset((str,))
_USUAL_WIRES: frozenset[type] = frozenset((str, bool, type(None)))
_HLC_DIGITS = ALPHABET.encode()

__all__ = [
    "CHANGES",
    "CONTENT",
    "WIRE",
    "StampForm",
    "canonical_wire",
    "check_body",
    "check_tables",
    "check_values",
    "hlc_of",
]


@dataclass(frozen=True, slots=True)
class StampForm:
    """What is asked of every stamp of a body.

    Attributes:
        fewest: elements of a stamp at the least.
        most: elements at the most; a third is a hash.
        loose_hlc: whether 0, false and [] pass as the empty HLC (surprise 22).
    """

    fewest: int
    most: int
    loose_hlc: bool


CHANGES = StampForm(1, 3, loose_hlc=True)
"""What a store merges."""

CONTENT = StampForm(3, 3, loose_hlc=True)
"""What a store loads: everything with its hash."""

WIRE = StampForm(1, 2, loose_hlc=False)
"""What travels: never a hash."""


def hlc_of(stamp: Any) -> str:
    """The HLC of a checked stamp; what is missing or loosely empty is the empty one."""
    return (stamp[1] or "") if len(stamp) > 1 else ""


def canonical_wire(wire: Any) -> Any:
    """A checked leaf's wire form with its number, if it is one, in canonical form."""
    kind = type(wire)
    return canonical_number(wire) if kind is float or kind is int else wire


def check_body(body: Any, form: StampForm, latest: str) -> str:
    """Check changes or content as a store takes them.

    Args:
        body: `[tables, values]`, or `[tables, values, 1]` where the form is that of changes.
        form: `CHANGES` or `CONTENT`.
        latest: the largest stamp that is not too far in the future.

    Returns:
        The greatest HLC in the body.

    Raises:
        ContentError: it is malformed.
        ClockDriftError: a stamp is too far in the future.
    """
    sizes = (2,) if form is CONTENT else (2, 3)
    if not isinstance(body, list | tuple) or len(body) not in sizes:
        raise ContentError("not an array of tables and values")
    if len(body) == 3 and (type(body[2]) not in (int, float) or body[2] != 1):
        raise ContentError("the third element of changes must be the number 1")
    newest = max(check_tables(body[0], form), check_values(body[1], form))
    if newest > latest:
        raise ClockDriftError(newest, MAX_CLOCK_OFFSET_MILLISECONDS)
    return newest


def check_tables(stamp: Any, form: StampForm) -> str:
    """Check a stamp of tables; returns the greatest HLC in it, and raises ContentError."""
    newest = _check_container(stamp, form, "tables")
    for table_id, table in stamp[0].items():
        hlc = _check_container(table, form, "a table")
        usual = _newest_of_usual_rows(table[0], form)
        newest = max(newest, hlc, _check_row_stamps(table[0], form) if usual is None else usual)
        _check_key(table_id)
    return newest


def _newest_of_usual_rows(rows: dict[str, Any], form: StampForm) -> str | None:
    """The greatest HLC of rows in the usual form, or None to have a closer look.

    Usual are lists of two for leaves and of one for rows, of texts, booleans and nulls. All of them are
    looked at in a few passes that run in C, instead of one by one.
    """
    if not form.fewest <= 1 < 2 <= form.most:
        return None
    row_stamps = list(rows.values())
    if not _all_of(row_stamps, _LIST) or set(map(len, row_stamps)) != {1}:
        return None
    cells = [stamp[0] for stamp in row_stamps]
    if not _all_of(cells, _DICT):
        return None
    leaves = [leaf for row in cells for leaf in row.values()]
    if not _all_of(leaves, _LIST) or set(map(len, leaves)) != {2}:
        return None
    hlcs = [leaf[1] for leaf in leaves]
    usual = (
        _all_of(hlcs, _STR)
        and set(map(len, hlcs)) == {16}
        and _only_hlc_digits("".join(hlcs))
        and _all_of([leaf[0] for leaf in leaves], _USUAL_WIRES)
        and _all_of(rows, _STR)
        and _all_of(chain.from_iterable(cells), _STR)
    )
    return max(hlcs) if usual else None


def _all_of(things: Iterable[Any], types: frozenset[type]) -> bool:
    return types.issuperset(map(type, things))


def _only_hlc_digits(text: str) -> bool:
    return text.isascii() and not text.encode().translate(None, _HLC_DIGITS)


def _check_row_stamps(rows: dict[str, Any], form: StampForm) -> str:
    newest = ""
    for row_id, row in rows.items():
        hlc = _check_container(row, form, "a row")
        if hlc > newest:
            newest = hlc
        hlc = _check_leaves(row[0], form)
        if hlc > newest:
            newest = hlc
        if row_id.__class__ is not str:
            _check_key(row_id)
    return newest


def check_values(stamp: Any, form: StampForm) -> str:
    """Check a stamp of values; returns the greatest HLC in it, and raises ContentError."""
    return max(_check_container(stamp, form, "values"), _check_leaves(stamp[0], form))


def _check_container(stamp: Any, form: StampForm, what: str) -> str:
    hlc = _check_stamp(stamp, form, what)
    if not isinstance(stamp[0], dict):
        raise ContentError(f"{what}: not an object")
    return hlc


def _check_stamp(stamp: Any, form: StampForm, what: str) -> str:
    if not isinstance(stamp, list | tuple) or not form.fewest <= len(stamp) <= form.most:
        raise ContentError(f"{what}: not a stamp of {form.fewest} to {form.most} elements")
    if len(stamp) > 2 and not _is_finite_number(stamp[2]):
        raise ContentError(f"{what}: a hash must be a finite number")
    if len(stamp) == 1:
        return ""
    hlc = stamp[1]
    if is_hlc(hlc):
        return str(hlc)
    if form.loose_hlc and (hlc is False or hlc == [] or (_is_finite_number(hlc) and hlc == 0)):
        return ""
    raise ContentError(f"{what}: not a stamp of the clock: {hlc!r:.40}")


def _check_leaves(leaves: dict[str, Any], form: StampForm) -> str:
    newest = ""
    pair = form.fewest <= 2 <= form.most
    for leaf_id, stamp in leaves.items():
        # The common case, a list of two, is checked here without a call.
        if pair and stamp.__class__ is list and len(stamp) == 2 and is_hlc(stamp[1]):
            wire, hlc = stamp
        else:
            hlc = _check_stamp(stamp, form, "a leaf")
            wire = stamp[0]
        if hlc > newest:
            newest = hlc
        if wire.__class__ is not str:
            _check_wire(wire)
        if leaf_id.__class__ is not str:
            _check_key(leaf_id)
    return newest


def _check_wire(wire: Any) -> None:
    if isinstance(wire, dict | list):
        try:
            dumps(wire)
        except (TypeError, ValueError, RecursionError) as error:
            raise ContentError(f"a leaf must be JSON: {error}") from error
    elif wire is not None and not isinstance(wire, str | bool) and not _is_finite_number(wire):
        raise ContentError(f"a leaf must be JSON, not {wire!r:.40}")


def _is_finite_number(number: Any) -> bool:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer larger than any double
        return False


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise ContentError(f"an id must be a string, not {key!r:.40}")
