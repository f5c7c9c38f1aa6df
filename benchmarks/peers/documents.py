"""What the CRDTs in Rust are asked for W1, W2 and W6, whatever their API: a map of rows, each a map of cells."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.data import cells_of, rows_of
from benchmarks.worker import serve_tasks

__all__ = ["Document", "serve_documents"]


class Document(ABC):
    """A document of one of these libraries."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """What is written in it is one change."""

    @abstractmethod
    def add_row(self, row_id: str) -> Any:
        """A new row, for `set_cell`."""

    @abstractmethod
    def row(self, row_id: str) -> Any:
        """A row that is there."""

    @abstractmethod
    def set_cell(self, row: Any, cell_id: str, value: str) -> None:
        """Write a cell."""

    @abstractmethod
    def update(self) -> bytes:
        """Everything, as others are sent it."""

    @abstractmethod
    def apply(self, update: bytes) -> None:
        """Take what another has sent."""


def _timed(work: Callable[[], object]) -> dict[str, Any]:
    gc.collect()
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


def _resident_bytes() -> int:
    """What the process holds, after it has given back what it does not need."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve_documents(make: Callable[[], Document], versions: dict[str, str]) -> None:
    """Answer the tasks of a store."""

    def filled(rows: int) -> Document:
        document = make()
        with document.transaction():
            for row_id, cells in rows_of(rows).items():
                row = document.add_row(row_id)
                for cell_id, value in cells.items():
                    document.set_cell(row, cell_id, value)
        return document

    def together(rows: int) -> dict[str, Any]:
        document, table = make(), rows_of(rows)

        def work() -> None:
            with document.transaction():
                for row_id, cells in table.items():
                    row = document.add_row(row_id)
                    for cell_id, value in cells.items():
                        document.set_cell(row, cell_id, value)

        return _timed(work)

    def singly(rows: int, count: int, full: bool = False) -> dict[str, Any]:
        row_ids = list(rows_of(rows))[:count]
        document = filled(rows) if full else make()
        find = document.row if full else document.add_row

        def work() -> None:
            for row_id in row_ids:
                with document.transaction():
                    document.set_cell(find(row_id), "cell0", "changed")

        return _timed(work)

    @functools.cache
    def updates(rows: int) -> tuple[bytes, bytes]:
        remote = filled(rows)
        base = remote.update()
        with remote.transaction():
            for number, (row_id, cell_id, value) in enumerate(cells_of(rows)):
                if number % 2:
                    remote.set_cell(remote.row(row_id), cell_id, value.upper())
        return base, remote.update()

    def merge(rows: int, into: str) -> dict[str, Any]:
        base, conflicting = updates(rows)
        document = make()
        if into != "empty":
            document.apply(base)
        update = conflicting if into == "conflicting" else base
        return {**_timed(lambda: document.apply(update)), "bytes": len(base)}

    def memory(rows: int) -> dict[str, Any]:
        update = filled(rows).update()
        before = _resident_bytes()
        document = make()
        document.apply(update)
        grown = _resident_bytes() - before
        assert document.update()
        return {"bytes": grown}

    serve_tasks(versions, {"together": together, "singly": singly, "merge": merge, "memory": memory})
