"""What a join and a change cost, counted: frames, bytes, statements and rows written. No clock decides anything.

Socket writes of a change are counted in `tests/unit/net/test_fanout.py`, and what a change and its hashes cost in a
store of any size in `tests/unit/store/test_costs.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.proxy import CountingProxy
from mergesync import MergeableStore, RequestFailedError, create_ws_server, create_ws_synchronizer
from mergesync.net.listening import ListeningWsServer
from mergesync.persist import sqlite_persisters
from tests.support import eventually, same_content

ROWS = 200
CELLS_IN_ROW = 5
CONTENT_BYTES = 46_000
"""Of 1,000 cells as TinyBase sends them: 46 each."""


@dataclass(frozen=True)
class Passed:
    """What passed between a client and the server."""

    up_messages: int
    down_messages: int
    up_bytes: int
    down_bytes: int


def filled(rows: int = ROWS) -> MergeableStore:
    """A store with rows of five cells."""
    store = MergeableStore()
    with store.transaction():
        for row in range(rows):
            for cell in range(CELLS_IN_ROW):
                store.set_cell("table", f"row{row}", f"cell{cell}", f"value{row * CELLS_IN_ROW + cell:07d}")
    return store


@asynccontextmanager
async def path_with(server: ListeningWsServer, store: MergeableStore, others: int) -> AsyncIterator[None]:
    """A path that has the content of a store, and so many other clients."""
    url = f"ws://127.0.0.1:{server.port}/path"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(create_ws_synchronizer(store, url))
        for _ in range(others):
            other = MergeableStore()
            await stack.enter_async_context(create_ws_synchronizer(other, url))
            await eventually(lambda other=other: same_content(store, other))  # type: ignore[misc]
        yield


async def joined(server: ListeningWsServer, store: MergeableStore, *, again: bool = False) -> Passed:
    """What a join takes: of an empty client, or of one that has all already."""
    joiner = MergeableStore()
    if again:
        joiner.set_mergeable_content(store.get_mergeable_content())
    proxy = CountingProxy(server.port)
    url = f"ws://127.0.0.1:{(await proxy.start())['port']}/path"
    async with create_ws_synchronizer(joiner, url) as synchronizer:
        await eventually(lambda: same_content(store, joiner))
        with pytest.raises(RequestFailedError):  # its answer comes after whatever else is on its way
            await synchronizer.act("nothing")
        counts = proxy.counts()
    await proxy.close()
    return Passed(counts["up_messages"], counts["down_messages"], counts["up_bytes"], counts["down_bytes"])


async def test_join() -> None:
    """A join takes a few frames and little more than the content, however many clients are there."""
    for others in (0, 10):
        store = filled()
        async with create_ws_server("127.0.0.1", 0) as server, path_with(server, store, others):
            passed = await joined(server, store)
        assert passed.up_messages + passed.down_messages <= 12
        assert passed.up_bytes < 1_000
        assert passed.down_bytes < CONTENT_BYTES * 1.1


async def test_join_with_everything() -> None:
    """Who has all already is sent none of it, however much it is."""
    for rows in (ROWS, 10 * ROWS):
        store = filled(rows)
        async with create_ws_server("127.0.0.1", 0) as server, path_with(server, store, 0):
            passed = await joined(server, store, again=True)
        assert passed.up_messages + passed.down_messages <= 12
        assert passed.up_bytes + passed.down_bytes < 2_000


@pytest.mark.parametrize("rows", [ROWS, 10 * ROWS])
@pytest.mark.parametrize("direction", ["behind", "ahead"])
async def test_coming_back(rows: int, direction: str) -> None:
    """One changed cell takes one round trip, and another one that it is stored where the client changed it."""
    store, away = filled(rows), MergeableStore()
    async with create_ws_server("127.0.0.1", 0) as server, path_with(server, store, 0):
        proxy = CountingProxy(server.port)
        url = f"ws://127.0.0.1:{(await proxy.start())['port']}/path"
        async with create_ws_synchronizer(away, url) as synchronizer:
            away.set_value("ready", True)
            await eventually(lambda: same_content(store, away) and not synchronizer.pending)
            proxy.cut()
            await eventually(lambda: synchronizer.status != "live")
            (store if direction == "behind" else away).set_cell("table", "row7", "cell0", "changed")
            await proxy.start()
            await eventually(lambda: synchronizer.status == "live" and same_content(store, away))
            with pytest.raises(RequestFailedError):  # its answer comes after whatever else is on its way
                await synchronizer.act("nothing")
            counts = proxy.counts()
        await proxy.close()
    assert counts["up_messages"] + counts["down_messages"] - 2 == (2 if direction == "behind" else 4)
    assert counts["up_bytes"] + counts["down_bytes"] < 600


@pytest.mark.parametrize(("direction", "messages"), [("behind", 6), ("ahead", 4)])
async def test_coming_back_without_a_cursor(direction: str, messages: int) -> None:
    """One changed cell is found among 2,000 rows with a few KB, and what the client wrote last comes with its first."""
    store, away = filled(10 * ROWS), MergeableStore()
    async with create_ws_server("127.0.0.1", 0) as server, path_with(server, store, 0):
        async with create_ws_synchronizer(away, f"ws://127.0.0.1:{server.port}/path"):
            await eventually(lambda: same_content(store, away))
        (store if direction == "behind" else away).set_cell("table", "row7", "cell0", "changed")
        proxy = CountingProxy(server.port)
        url = f"ws://127.0.0.1:{(await proxy.start())['port']}/path"
        async with create_ws_synchronizer(away, url) as synchronizer:
            await eventually(lambda: synchronizer.status == "live" and same_content(store, away))
            with pytest.raises(RequestFailedError):  # its answer comes after whatever else is on its way
                await synchronizer.act("nothing")
            counts = proxy.counts()
        await proxy.close()
    assert counts["up_messages"] + counts["down_messages"] - 2 <= messages
    assert counts["up_bytes"] + counts["down_bytes"] < 4_300


class Written:
    """Counts the rows of a database that are written, by triggers."""

    def __init__(self, database: Path) -> None:
        self._database = database
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE counted(name TEXT)")
            names = [
                name
                for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
                if name.startswith("mergesync_")
            ]
            for name in names:
                for kind in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(
                        f"CREATE TRIGGER counted_{name}_{kind} AFTER {kind} ON {name} "
                        f"BEGIN INSERT INTO counted VALUES('{name}'); END"
                    )

    def take(self) -> list[str]:
        """The tables of rows that were written since it was asked last, sorted."""
        with closing(sqlite3.connect(self._database, isolation_level=None, timeout=20)) as connection:
            names = sorted(name for (name,) in connection.execute("SELECT name FROM counted"))
            connection.execute("DELETE FROM counted")
        return names


CHANGES: dict[str, Callable[[MergeableStore], object]] = {
    "a cell": lambda store: store.set_cell("table", "row7", "cell0", "changed"),
    "a deleted cell": lambda store: store.del_cell("table", "row7", "cell1", force_del=True),
    "a value": lambda store: store.set_value("open", True),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_rows_written(name: str, tmp_path: Path) -> None:
    """A change writes its own row, and what says that there was a commit, into a small store and into a large one."""
    found = []
    for rows in (10, 1000):
        file, store = tmp_path / f"{rows}.db", filled(rows)
        async with (
            create_ws_server("127.0.0.1", 0, sqlite_persisters(file)) as server,
            create_ws_synchronizer(store, f"ws://127.0.0.1:{server.port}/path") as synchronizer,
        ):
            await synchronizer.durable()
            written = Written(file)
            CHANGES[name](store)
            await synchronizer.durable()
            found.append(written.take())
    assert found[0] == found[1]
    assert len(found[0]) <= 3
    assert len([table for table in found[0] if table in ("mergesync_cells", "mergesync_values")]) <= 1
