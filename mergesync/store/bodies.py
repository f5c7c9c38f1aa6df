"""What a body of stamps must look like before any of it is taken (protocol sections 5 and 9).

Two doors use the same checks: the store's own (changes to merge, content to load), and the wire's, which is stricter
about form and says nothing about time. Ids and cells are checked one by one; HLCs are gathered and checked together,
because most of what there is to check is them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mergesync.exceptions import ClockDriftError, ContentError
from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS, MAX_INTEGER
from mergesync.store.hlc import are_hlcs, is_hlc
from mergesync.store.jsjson import dumps
from mergesync.store.leaves import are_plain

__all__ = [
    "CHANGES",
    "CONTENT",
    "WIRE",
    "StampForm",
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
    check = _Check(form)
    fewest, size, hlcs = form.fewest, check.size, check.hlcs
    for table_id, table in check.container(stamp, "tables").items():
        check.id(table_id)
        for row_id, row in check.container(table, "a table").items():
            if row_id.__class__ is not str:
                check.id(row_id)
            # The common case, a row without an HLC of its own, is told without a call.
            if (
                row.__class__ is list
                and len(row) == fewest
                and row[0].__class__ is dict
                and (fewest == 1 or (row[1] == "" and row[2].__class__ is int))
            ):
                leaves = row[0]
            else:
                leaves = check.container(row, "a row")
            if not are_plain(leaves, size, hlcs):
                check.leaves(leaves)
    return check.newest()


def check_values(stamp: Any, form: StampForm) -> str:
    """Check a stamp of values; returns the greatest HLC in it, and raises ContentError."""
    if stamp == _NOTHING and form.fewest == 1:  # the common case
        return ""
    check = _Check(form)
    leaves = check.container(stamp, "values")
    if not are_plain(leaves, check.size, check.hlcs):
        check.leaves(leaves)
    return check.newest()


class _Check:
    """One pass over a body. It stops at the first fault, but for faulty HLCs, which are found at the end."""

    def __init__(self, form: StampForm) -> None:
        self.form = form
        self.size = max(2, form.fewest)  # of most leaves
        self.hlcs: list[str] = []

    def newest(self) -> str:
        """The greatest of the HLCs gathered, all of which are checked."""
        if not are_hlcs(self.hlcs):
            bad = next(hlc for hlc in self.hlcs if not is_hlc(hlc))
            raise ContentError(f"not a stamp of the clock: {bad!r:.40}")
        return max(self.hlcs, default="")

    def container(self, stamp: Any, what: str) -> dict[Any, Any]:
        """Check the stamp of a container; returns what is in it."""
        if stamp.__class__ is list and len(stamp) == self.form.fewest == 1 and stamp[0].__class__ is dict:
            return stamp[0]  # the common case
        self.stamp(stamp, what)
        if not isinstance(stamp[0], dict):
            raise ContentError(f"{what}: not an object")
        return stamp[0]

    def stamp(self, stamp: Any, what: str) -> None:
        """Check everything of a stamp but the thing stamped."""
        form = self.form
        if not isinstance(stamp, list | tuple) or not form.fewest <= len(stamp) <= form.most:
            raise ContentError(f"{what}: not a stamp of {form.fewest} to {form.most} elements")
        if len(stamp) > 2 and not _is_finite_number(stamp[2]):
            raise ContentError(f"{what}: a hash must be a finite number")
        if len(stamp) > 1:
            hlc = stamp[1]
            if hlc.__class__ is str:
                self.hlcs.append(hlc)
            elif not form.loose_hlc or not (hlc is False or hlc == [] or (_is_finite_number(hlc) and hlc == 0)):
                raise ContentError(f"{what}: not a stamp of the clock: {hlc!r:.40}")

    def leaves(self, leaves: dict[Any, Any]) -> None:
        """Check the cells of a row, or the values, one by one."""
        for leaf_id, stamp in leaves.items():
            self.id(leaf_id)
            self.stamp(stamp, "a leaf")
            _check_wire(stamp[0])

    def id(self, id_: Any) -> None:
        """Check an id: bodies are as a JSON parser gives them, so that nothing needs to be converted."""
        if id_.__class__ is not str:
            raise ContentError(f"an id must be a string, not {id_!r:.40}")


_NOTHING: list[dict[str, Any]] = [{}]


def _check_wire(wire: Any) -> None:
    if wire.__class__ is int and -MAX_INTEGER <= wire <= MAX_INTEGER:
        return
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
