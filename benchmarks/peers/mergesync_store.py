"""mergesync's store, for W1, W2 and W6."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.data import TABLE, cells_of, rows_of
from benchmarks.worker import serve_tasks
from mergesync import MergeableStore
from mergesync.store import jsjson
from mergesync.version import VERSION


def timed(store: MergeableStore, work: Callable[[], object], *, hashed: bool = True) -> dict[str, Any]:
    """Seconds, and the hashes at the end; with the time for them if they are asked for."""
    gc.collect()
    began = time.perf_counter()
    work()
    if hashed:
        store.get_mergeable_content_hashes()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "hashes": store.get_mergeable_content_hashes()}


def together(rows: int, hashed: bool = False) -> dict[str, Any]:
    """All cells in one transaction."""
    store, cells = MergeableStore("benchmark"), cells_of(rows)

    def work() -> None:
        with store.transaction():
            for row_id, cell_id, value in cells:
                store.set_cell(TABLE, row_id, cell_id, value)

    return timed(store, work, hashed=hashed)


def singly(rows: int, count: int, full: bool = False, hashed: bool = False) -> dict[str, Any]:
    """One cell of each row, each in a transaction of its own; of a store that has them or not."""
    store = MergeableStore("benchmark")
    if full:
        with store.transaction():
            store.set_table(TABLE, rows_of(rows))
        store.get_mergeable_content_hashes()
    row_ids = list(rows_of(rows))[:count]

    def work() -> None:
        for row_id in row_ids:
            store.set_cell(TABLE, row_id, "cell0", "changed")
            if hashed:
                store.get_mergeable_content_hashes()

    return timed(store, work, hashed=False)


def merge(text: str, base: str | None = None, hashed: bool = False) -> dict[str, Any]:
    """Decode and merge what a peer sends, into an empty store or one that has merged the base."""
    store = MergeableStore("benchmark")
    if base is not None:
        store.apply_mergeable_changes(jsjson.parse(Path(base).read_text()))
        store.get_mergeable_content_hashes()
    changes = Path(text).read_text()
    return timed(store, lambda: store.apply_mergeable_changes(jsjson.parse(changes)), hashed=hashed)


def memory(text: str) -> dict[str, Any]:
    """Bytes of a store that has merged it, hashes included."""
    changes = Path(text).read_text()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    store = MergeableStore("benchmark")
    store.apply_mergeable_changes(jsjson.parse(changes))
    store.get_mergeable_content_hashes()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"bytes": after - before}


TASKS: Mapping[str, Callable[..., Any]] = {"together": together, "singly": singly, "merge": merge, "memory": memory}

if __name__ == "__main__":
    serve_tasks({"mergesync": VERSION}, TASKS)
