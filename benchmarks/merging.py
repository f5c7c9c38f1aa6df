"""W2: what a peer sends is decoded and merged."""

from __future__ import annotations

from pathlib import Path

from benchmarks.bench import Bench, Side
from benchmarks.data import CELLS_IN_ROW, changes_text
from benchmarks.figures import OURS, Line, times
from benchmarks.peers import STORES
from benchmarks.processes import Worker

__all__ = ["measure"]

_TEXTS = (OURS, "tinybase")
"""Those that merge the same text, and must come to the same hashes."""

_KINDS = {
    "empty": "into an empty store",
    "same": "the same again",
    "conflicting": "half of it newer",
}


def measure(bench: Bench) -> None:
    """Everything of W2."""
    rows = bench.pick(20_000, 4_000, 40)
    cells = rows * CELLS_IN_ROW
    at = f"{cells:,} cells"
    with bench.folder() as folder, bench.opened(STORES) as stores:
        texts = _texts(folder, rows)

        def side_of(side: str, kind: str, **more: bool) -> Side:
            if side in _TEXTS:
                return lambda: _per_cell(stores[side], cells, **texts[kind], **more)
            return lambda: _per_cell(stores[side], cells, rows=rows, into=kind)

        ahead = (times(6, "tinybase"), times(1, "loro"))
        for kind, name in _KINDS.items():
            _check_hashes(stores, texts[kind])
            bench.take(
                {"us": Line(f"decode and merge, {name}", "us/cell", ahead, at)},
                {side: side_of(side, kind) for side in stores},
            )
            bench.take(
                {"us": Line("the same, and the hashes asked for", "us/cell", (times(6, "tinybase"),), at)},
                {
                    side: side_of(side, kind, **({"hashed": True} if side == OURS else {}))
                    for side in _TEXTS
                    if side in stores
                },
            )
        bench.take(
            {"bytes": Line("bytes of all cells, as they are sent", "bytes", at=at)},
            {side: _sent_bytes(side, stores[side], texts["empty"]["text"], rows) for side in stores},
            warm=False,
            runs=1,
        )


def _texts(folder: Path, rows: int) -> dict[str, dict[str, str]]:
    """What to merge, and into what, of each kind."""
    base, conflicting = folder / "base.json", folder / "conflicting.json"
    base.write_text(changes_text(rows))
    conflicting.write_text(changes_text(rows, conflicting=True))
    return {
        "empty": {"text": str(base)},
        "same": {"text": str(base), "base": str(base)},
        "conflicting": {"text": str(conflicting), "base": str(base)},
    }


def _per_cell(store: Worker, cells: int, **arguments: object) -> dict[str, float]:
    return {"us": store.ask("merge", **arguments)["seconds"] / cells * 1e6}


def _check_hashes(stores: dict[str, Worker], texts: dict[str, str]) -> None:
    hashes = {side: stores[side].ask("merge", **texts)["hashes"] for side in _TEXTS if side in stores}
    if len({str(each) for each in hashes.values()}) > 1:
        raise RuntimeError(f"the same text, and different hashes: {hashes}")


def _sent_bytes(side: str, store: Worker, text: str, rows: int) -> Side:
    if side in _TEXTS:
        return lambda: {"bytes": Path(text).stat().st_size}
    return lambda: {"bytes": store.ask("merge", rows=rows, into="empty")["bytes"]}
