"""A server process is killed with SIGKILL, again and again, while clients write: nothing is lost.

    python -m tests.faults.kill9 --kills 500 --storage sqlite --seed 1

Twenty clients write about a thousand cells a second to ten paths. After each kill, before anybody reconnects, the files
are read with `mergesync dump`: what the server had acknowledged must be in them. After the restart everything that was
written before the kill must come back to a client that was not there, since those who wrote it stay and send it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias
from unittest import mock

from websockets.asyncio.client import connect

from mergesync import MergeableStore, WsSynchronizer, create_ws_synchronizer
from mergesync.cli import main as mergesync_command
from mergesync.cli.storage import Storage
from tests.served import Served, busy_seconds
from tests.support import eventually

__all__ = ["Client", "Figures", "Harness", "acknowledged", "ready_seconds"]

CLIENTS: Final = 20
PATHS: Final = 10
WRITES_PER_SECOND: Final = 1000
ROWS_PER_CLIENT: Final = 200
LONGEST_LIFE_SECONDS: Final = 0.5
RESYNC_SECONDS: Final = 30.0
STORAGES: Final = {"sqlite": "data.db", "json": "data"}

Cells: TypeAlias = dict[str, int]
"""What was written to each row. Numbers only grow, so a row holds a write if it holds its number or a greater one."""


@dataclass
class Client:
    """Somebody who writes, and stays.

    Attributes:
        path_id: where.
        store: its store.
        written: what it wrote last.
        promised: what the server has promised to hold.
    """

    name: str
    path_id: str
    store: MergeableStore = field(default_factory=MergeableStore)
    written: Cells = field(default_factory=dict)
    promised: Cells = field(default_factory=dict)
    synchronizer: WsSynchronizer | None = None

    def write(self, number: int) -> None:
        """Write one cell."""
        row_id = f"{self.name}-{number % ROWS_PER_CLIENT}"
        self.store.set_cell("t", row_id, "number", number)
        self.written[row_id] = number


async def acknowledged(client: Client) -> Cells:
    """What of a client's writes the server has promised to hold, whatever happens to it."""
    assert client.synchronizer is not None
    written = dict(client.written)
    await client.synchronizer.durable()
    return written


@dataclass
class Figures:
    """What a run came to.

    Attributes:
        kills: how often the server was killed.
        writes: cells written.
        writing_seconds: for how long.
        promised: acknowledged cells looked for in files.
        promised_lost: those that were not there.
        checked: cells looked for after a restart.
        lost: those that were not there.
        refused: files that could not be read after a kill.
        restart_seconds: from the start of each process until it accepted connections.
    """

    kills: int = 0
    writes: int = 0
    writing_seconds: float = 0.0
    promised: int = 0
    promised_lost: int = 0
    checked: int = 0
    lost: int = 0
    refused: int = 0
    restart_seconds: list[float] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost."""
        return not (self.promised_lost or self.lost or self.refused)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.writes} writes ({self.writes / self.writing_seconds:.0f}/s): "
            f"{self.promised} acknowledged cells looked for in files, {self.promised_lost} lost; "
            f"{self.checked} cells looked for after restarts, {self.lost} lost; {self.refused} files refused; "
            f"accepting again after {median(self.restart_seconds):.2f} s (median), "
            f"{max(self.restart_seconds):.2f} s (worst)"
        )


def storage_in(folder: Path, kind: str) -> str:
    """Where data is, as the command line says it."""
    return f"{kind}:{folder / STORAGES[kind]}"


class Harness:
    """One run.

    Args:
        folder: for the files.
        kind: sqlite or json.
        seed: of the moments of the kills.
    """

    def __init__(self, folder: Path, kind: str, seed: int) -> None:
        self.figures = Figures()
        self._folder = folder
        self._storage = storage_in(folder, kind)
        self._chance = random.Random(seed)
        self._clients = [Client(f"c{number}", f"p{number % PATHS}") for number in range(CLIENTS)]
        self._number = 0
        self._port = 0

    async def run(self, kills: int) -> Figures:
        """Start, write, and kill so often; in the end everything must be there, and in order."""
        # A server that is away for a second need not be waited for by half a minute of back-off.
        with mock.patch("mergesync.net.link.RECONNECT_CAP_SECONDS", 0.1):
            served = await self._start()
            async with contextlib.AsyncExitStack() as stack:
                for client in self._clients:
                    url = f"{served.url}/{client.path_id}"
                    client.synchronizer = await stack.enter_async_context(
                        create_ws_synchronizer(client.store, url, on_ignored_error=lambda _: None)
                    )
                tasks = [asyncio.create_task(self._write())]
                tasks += [asyncio.create_task(self._collect_promises(client)) for client in self._clients]
                for _ in range(kills):
                    served = await self._kill_and_restart(served)
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                await self._expect(served, self._written())
            code = await asyncio.to_thread(served.stop)
        with contextlib.redirect_stdout(io.StringIO()):
            wrong = await asyncio.to_thread(mergesync_command, ["verify", self._storage])
        self.figures.refused += bool(code or wrong)
        return self.figures

    async def _start(self) -> Served:
        began = time.monotonic()
        arguments = ("--persist", self._storage, "--port", str(self._port))
        served = await asyncio.to_thread(Served, self._folder, *arguments, development=False)
        self._port = served.port
        self.figures.restart_seconds.append(time.monotonic() - began)
        return served

    async def _kill_and_restart(self, served: Served) -> Served:
        await asyncio.sleep(self._chance.random() * LONGEST_LIFE_SECONDS)
        promised: dict[str, Cells] = {client.path_id: {} for client in self._clients}
        for client in self._clients:
            promised[client.path_id] |= client.promised
        due = self._written()
        await asyncio.to_thread(served.kill)
        self.figures.kills += 1
        await self._expect_in_files(promised)
        served = await self._start()
        if self._chance.random() < 0.5:  # otherwise it may die again while clients are still sending what it lacks
            await self._expect(served, due)
            await eventually(lambda: any(client.promised for client in self._clients), RESYNC_SECONDS)
        return served

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            for client in self._clients:
                client.write(self._number)
            self._number += 1
            self.figures.writes += CLIENTS
            self.figures.writing_seconds = loop.time() - began
            await asyncio.sleep(began + self._number * CLIENTS / WRITES_PER_SECOND - loop.time())

    async def _collect_promises(self, client: Client) -> None:
        while True:
            client.promised |= await acknowledged(client)

    # --- what must be there

    def _written(self) -> dict[str, Cells]:
        written: dict[str, Cells] = {client.path_id: {} for client in self._clients}
        for client in self._clients:
            written[client.path_id] |= client.written
        return written

    async def _expect_in_files(self, promised: dict[str, Cells]) -> None:
        output = self._folder / "dump.json"
        command = ["dump", "--plain", self._storage, "--output", str(output)]
        if await asyncio.to_thread(mergesync_command, command):
            self.figures.refused += 1
            return
        stored = json.loads(output.read_bytes())
        for path_id, cells in promised.items():
            rows = stored.get(path_id, [{}])[0].get("t", {})
            self.figures.promised += len(cells)
            self.figures.promised_lost += len(_missing(rows, cells))

    async def _expect(self, served: Served, due: dict[str, Cells]) -> None:
        """A client that was not there gets at least so much of each path."""
        await asyncio.gather(*(self._expect_on_path(f"{served.url}/{path_id}", due[path_id]) for path_id in due))

    async def _expect_on_path(self, url: str, due: Cells) -> None:
        store = MergeableStore()
        missing = list(due)

        def has_all() -> bool:
            while missing:
                number: Any = store.get_cell("t", missing[-1], "number", -1)
                if number < due[missing[-1]]:
                    return False
                missing.pop()  # numbers only grow
            return True

        async with create_ws_synchronizer(store, url, on_ignored_error=lambda _: None):
            with contextlib.suppress(AssertionError):
                await eventually(has_all, RESYNC_SECONDS)
        self.figures.checked += len(due)
        self.figures.lost += len(_missing(store.get_table("t"), due))


def _missing(rows: Any, cells: Cells) -> list[str]:
    return [row_id for row_id, number in cells.items() if rows.get(row_id, {}).get("number", -1) < number]


async def ready_seconds(folder: Path, kind: str, cells: int) -> tuple[float, float, float]:
    """How long a server that was killed takes until it accepts again, and until it answers for a path of so many cells.

    Returns:
        Also for how long it had a processor until then, which says more on a busy machine.
    """
    storage = storage_in(folder, kind)
    persisters = Storage.parse(storage).persisters()
    assert persisters is not None
    persister = persisters("p")
    await persister.start_auto_persisting()
    rows = {f"r{row}": {f"c{cell}": f"value {row:06}" for cell in range(5)} for row in range(cells // 5)}
    persister.store.set_table("t", rows)
    await persister.destroy()
    store = MergeableStore()
    served = await asyncio.to_thread(Served, folder, "--persist", storage, development=False)
    async with create_ws_synchronizer(store, f"{served.url}/p", on_ignored_error=lambda _: None) as synchronizer:
        await eventually(lambda: store.get_row_count("t") == len(rows), RESYNC_SECONDS)
        for number in range(5):
            store.set_cell("t", f"r{number}", "c0", "another value")
            await synchronizer.durable()
        await asyncio.to_thread(served.kill)
    began = time.monotonic()
    served = await asyncio.to_thread(Served, folder, "--persist", storage, development=False)
    accepts = time.monotonic() - began
    async with connect(f"{served.url}/p", compression=None) as socket:
        await socket.send('\n["q",1,""]')
        answer: list[Any] = []
        while answer[:2] != ["q", 0]:  # one that takes long to load has questions of its own
            answer = json.loads(str(await socket.recv()).partition("\n")[2])
        answers = time.monotonic() - began
        worked = busy_seconds(served.process.pid)
    assert answer == ["q", 0, store.get_mergeable_content_hashes()]
    await asyncio.to_thread(served.kill)
    return accepts, answers, worked


def main() -> int:
    """Kill as often as asked; 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kill9")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--storage", choices=STORAGES, action="append", help="both by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ready", type=int, metavar="CELLS", help="measure a start with so many cells")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    good = True
    for kind in options.storage or STORAGES:
        with tempfile.TemporaryDirectory() as folder:
            if options.ready:
                accepts, answers, worked = asyncio.run(ready_seconds(Path(folder), kind, options.ready))
                print(
                    f"{kind}, {options.ready} cells: accepts after {accepts:.2f} s, answers after {answers:.2f} s, "
                    f"for {worked:.2f} s of which it had a processor"
                )
                continue
            figures = asyncio.run(Harness(Path(folder), kind, options.seed).run(options.kills))
        print(f"{kind}, seed {options.seed}: {figures}", flush=True)
        good = good and figures.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
