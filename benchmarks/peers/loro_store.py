"""Loro."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from loro import ExportMode, LoroDoc, LoroMap, VersionVector

from benchmarks.peers.documents import Document, serve_documents


class LoroDocument(Document):
    """Nested maps."""

    def __init__(self) -> None:
        self._doc = LoroDoc()
        self._table = self._doc.get_map("table")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Loro's are implicit; it ends with a commit."""
        yield
        self._doc.commit()

    def add_row(self, row_id: str) -> Any:
        """A new map."""
        return self._table.insert_container(row_id, LoroMap())

    def row(self, row_id: str) -> Any:
        """A map."""
        return self._table.get(row_id).container

    def set_cell(self, row: Any, cell_id: str, value: str) -> None:
        """An entry."""
        row.insert(cell_id, value)

    def update(self) -> bytes:
        """The history as updates: a snapshot is only looked into when it is read, and so takes no time to merge."""
        return self._doc.export(ExportMode.Updates(VersionVector()))

    def apply(self, update: bytes) -> None:
        """Merge."""
        self._doc.import_(update)


if __name__ == "__main__":
    serve_documents(LoroDocument, {"loro": version("loro")})
