"""Rules that say who may write what; compiled to the point where changes are reviewed.

As soon as there is one rule, what no rule allows may not be written by clients. The server itself may always write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mergesync.rooms.access import Client
from mergesync.rooms.changes import news_in
from mergesync.store import MergeableStore
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import decode_cell
from mergesync.sync.admission import ByRow, Place
from mergesync.types import MISSING, MergeableChanges

__all__ = ["Rule", "Rules", "Writers", "allow_write", "allow_write_value"]

Writers: TypeAlias = Callable[[Client], bool] | Collection[str] | None
"""Whom a rule is for: those for whom a function is true, those whose identities have these names, or everybody."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; made by `allow_write` and `allow_write_value`.

    Attributes:
        of_values: whether it is about values, and not about cells.
        table_id: the table; None for any.
        row_id: the row; None for any.
        leaf_id: the cell or value; None for any.
        to: whom it is for.
        owner: the cell that must hold the name of the client's identity.
    """

    of_values: bool
    table_id: str | None
    row_id: str | None
    leaf_id: str | None
    to: Writers
    owner: str | None

    def is_for(self, client: Client) -> bool:
        """Whether it is for a client, owners aside."""
        if self.to is None:
            return True
        if callable(self.to):
            return bool(self.to(client))
        return client.identity is not None and client.identity.name in self.to


def allow_write(
    table_id: str | None = None,
    row_id: str | None = None,
    cell_id: str | None = None,
    *,
    to: Writers = None,
    owner: str | None = None,
) -> Rule:
    """Allow cells to be written.

    Args:
        table_id: the table; None for any.
        row_id: the row; None for any.
        cell_id: the cell; None for any.
        to: names of identities, or `to(client) -> bool`; None for everybody.
        owner: only in rows of which this cell holds the name of the client's identity, before and after. A new row is
            its whose name it brings along, and the owner may delete it.

    Example:
        >>> rules = [allow_write("messages", owner="author"), allow_write("rooms", cell_id="topic", to=["ann"])]
    """
    return Rule(False, table_id, row_id, cell_id, _checked(to), owner)


def allow_write_value(value_id: str | None = None, *, to: Writers = None) -> Rule:
    """Allow values to be written.

    Args:
        value_id: the value; None for any.
        to: names of identities, or `to(client) -> bool`; None for everybody.

    Example:
        >>> rule = allow_write_value("title", to=lambda client: client.identity.data == "admin")
    """
    return Rule(True, None, None, value_id, _checked(to), None)


def _checked(to: Writers) -> Writers:
    if isinstance(to, str):
        raise TypeError(f"several names are wanted, such as [{to!r}]")
    return to if to is None or callable(to) else frozenset(to)


class Rules:
    """Rules, compiled.

    Args:
        rules: what is allowed.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        rules = list(rules)
        self._of_values = [rule for rule in rules if rule.of_values]
        self._of_any_table = [rule for rule in rules if not rule.of_values and rule.table_id is None]
        self._of_tables: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.table_id is not None:
                self._of_tables.setdefault(rule.table_id, []).append(rule)

    def refused(self, store: MergeableStore, client: Client, body: MergeableChanges, *, pulled: bool) -> ByRow[str]:
        """What of a body its sender may not write, with the HLCs.

        What would not replace anything is never refused. Of one transaction, one refused leaf refuses all; of what was
        pulled, as it is what many transactions left, all of the row.

        Args:
            store: of the path; only read.
            client: who sent it.
            body: `[tables, values, 1]`.
            pulled: whether it is more than one transaction.
        """
        sitting = _Sitting(store, client)
        for table_id, table in body[0][0].items():
            rules = [*self._of_tables.get(table_id, ()), *self._of_any_table]
            sitting.judge_table(table_id, table[0], [rule for rule in rules if sitting.concerns(rule)])
        if body[1][0]:
            sitting.judge_values(body[1][0], [rule for rule in self._of_values if sitting.concerns(rule)])
        if not sitting.refused or pulled:
            return sitting.refused
        return news_in(store, body)


class _Sitting:
    """One body under judgement."""

    def __init__(self, store: MergeableStore, client: Client) -> None:
        self.refused: dict[Place, dict[str, str]] = {}
        self._store = store
        self._client = client
        self._concerns: dict[Rule, bool] = {}

    def concerns(self, rule: Rule) -> bool:
        """Whether a rule is for the client; asked once."""
        if rule not in self._concerns:
            self._concerns[rule] = rule.is_for(self._client)
        return self._concerns[rule]

    def judge_table(self, table_id: str, rows: dict[str, Any], rules: list[Rule]) -> None:
        """Judge rows, each of which falls as a whole."""
        if any(rule.row_id is None and rule.leaf_id is None and rule.owner is None for rule in rules):
            return
        for row_id, row in rows.items():
            cells = row[0]
            news = self._store.get_news(table_id, row_id, cells)
            if news:
                allowed = self._allowed_cells(table_id, row_id, cells, news, rules)
                if allowed is not None and not allowed.issuperset(news):
                    self._refuse(table_id, row_id, cells, news)

    def _refuse(self, table_id: str | None, row_id: str, leaves: dict[str, Any], refused: Iterable[str]) -> None:
        self.refused[table_id, row_id] = {leaf_id: hlc_of(leaves[leaf_id]) for leaf_id in refused}

    def _allowed_cells(
        self, table_id: str, row_id: str, cells: dict[str, Any], news: Container[str], rules: list[Rule]
    ) -> set[str] | None:
        """The cells of a row that may be written; None for all."""
        allowed: set[str] = set()
        for rule in rules:
            if rule.row_id in (None, row_id) and (
                rule.owner is None or self._owns(rule.owner, table_id, row_id, cells, news)
            ):
                if rule.leaf_id is None:
                    return None
                allowed.add(rule.leaf_id)
        return allowed

    def _owns(self, owner: str, table_id: str, row_id: str, cells: dict[str, Any], news: Container[str]) -> bool:
        if self._client.identity is None:
            return False
        name = self._client.identity.name
        is_new = owner in news
        after = decode_cell(cells[owner][0]) if is_new else self._store.get_cell(table_id, row_id, owner)
        if not self._store.has_row(table_id, row_id):
            return is_new and after == name
        return self._store.get_cell(table_id, row_id, owner) == name and after in (name, MISSING)

    def judge_values(self, values: dict[str, Any], rules: list[Rule]) -> None:
        """Judge values, each by itself."""
        allowed = {rule.leaf_id for rule in rules}
        if None not in allowed:
            news = self._store.get_news(None, "", values)
            refused = [value_id for value_id in news if value_id not in allowed]
            if refused:
                self._refuse(None, "", values, refused)
