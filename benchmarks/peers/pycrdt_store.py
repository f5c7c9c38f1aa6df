"""pycrdt, the Yjs CRDT in Rust."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

from pycrdt import Doc, Map

from benchmarks.peers.documents import Document, serve_documents


class PycrdtDocument(Document):
    """Nested maps."""

    def __init__(self) -> None:
        self._doc = Doc()
        self._table = self._doc.get("table", type=Map)

    def transaction(self) -> AbstractContextManager[object]:
        """One transaction."""
        return self._doc.transaction()

    def add_row(self, row_id: str) -> Any:
        """A new map."""
        row = self._table[row_id] = Map()
        return row

    def row(self, row_id: str) -> Any:
        """A map."""
        return self._table[row_id]

    def set_cell(self, row: Any, cell_id: str, value: str) -> None:
        """An entry."""
        row[cell_id] = value

    def update(self) -> bytes:
        """The state as an update."""
        return self._doc.get_update()

    def apply(self, update: bytes) -> None:
        """Merge."""
        self._doc.apply_update(update)


if __name__ == "__main__":
    serve_documents(PycrdtDocument, {"pycrdt": version("pycrdt")})
