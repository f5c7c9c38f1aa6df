"""Texts that say who has written them: where one turns up, it is known whether it may be there."""

from __future__ import annotations

import re
from typing import Any

from mergesync.sync.admission import Leaf

__all__ = ["COPIED", "Tokens", "kind_of", "token_in", "tokens_in"]

COPIED = "seen"
"""A cell that listeners fill with what others have written; so several write the same."""

_TOKEN = re.compile(r"~[a-z]+~[a-z]+[0-9]*\.[0-9]+~")  # so that a part of one, in a fragment, is none


def token_in(wire: Any) -> str | None:
    """The token that a cell is, if it is one."""
    return wire if isinstance(wire, str) and _TOKEN.fullmatch(wire) else None


def tokens_in(text: str) -> list[str]:
    """The tokens in a text."""
    return _TOKEN.findall(text) if "~" in text else []


def kind_of(cell: Any) -> str:
    """What an application is to do with a cell: `ok`, `bad`, `drop` or `edit`."""
    return cell.split("~")[1] if token_in(cell) else "ok"


class Tokens:
    """The tokens of a simulation.

    Attributes:
        allowed: those that an application has let through, or written itself: nobody but their writers may have others.
        told: those that a client has got from others.
        dead: those that were written to a path before it was removed: nobody may have them any more.
        stamped: with which stamp a leaf was given one by a client.
        together: by leaf and token, the stamps of all leaves of the transaction.
        latest: the greatest stamp of each, as its writer has made it, or a server has given it a newer one.
        copies: the greatest stamp with which listeners of clients have written each once more.
        paths: the path of each.
    """

    def __init__(self) -> None:
        self.allowed: set[str] = set()
        self.told: set[str] = set()
        self.dead: set[str] = set()
        self.stamped: dict[tuple[Leaf, str], str] = {}
        self.together: dict[tuple[Leaf, str], dict[Leaf, str]] = {}
        self.latest: dict[str, str] = {}
        self.copies: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self._count = 0

    def make(self, kind: str, writer: str, path_id: str) -> str:
        """One that was never before."""
        self._count += 1
        token = f"~{kind}~{writer}.{self._count}~"
        self.paths[token] = path_id
        return token

    def note_transaction(self, leaves: dict[Leaf, tuple[Any, str]]) -> None:
        """A client has written these: wire forms and stamps."""
        stamps = {leaf: hlc for leaf, (_, hlc) in leaves.items()}
        for leaf, (wire, hlc) in leaves.items():
            if (token := token_in(wire)) is not None and leaf[2] == COPIED:
                self.copies[token] = max(hlc, self.copies.get(token, ""))
                self.dead.discard(token)
            elif token is not None:
                self.stamped[leaf, token] = hlc
                self.latest[token] = max(hlc, self.latest.get(token, ""))
                self.together[leaf, token] = stamps
