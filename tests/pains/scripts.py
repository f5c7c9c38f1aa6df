"""The scripts: each does to a make what the pain's number says, and tells what became of the data."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.conformance.support import AnyStore, PythonStore, canonical, next_millisecond

from .benches import Bench
from .links import slow_link

__all__ = ["SCRIPTS", "Outcome", "Script"]

ROWS: Final = 100
PEERS: Final = 50
VISITORS: Final = 100
_SOON_SECONDS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a script found.

    Attributes:
        good: whether nobody lost anything.
        found: what became of the data, in a few words.
    """

    good: bool
    found: str


Script: TypeAlias = Callable[[Bench], Awaitable[Outcome]]


def _rows(count: int) -> list[list[Any]]:
    return [["setRow", "t", f"r{number}", {"c": number}] for number in range(count)]


async def _count(store: AnyStore) -> int:
    if isinstance(store, PythonStore):
        return len(store.store.get_row_ids("t"))
    return len(await store.call("getRowIds", "t"))


async def _same(*stores: AnyStore) -> bool:
    return len({canonical(await store.mergeable()) for store in stores}) == 1


async def fast_clock(bench: Bench) -> Outcome:
    """M1. One client's clock is 301 s ahead; both clients write the same cell."""
    server = await bench.serve()
    fast, right = await bench.store(offset=301_000), await bench.store()
    for store in (fast, right):
        await bench.connect(store, f"{server.url}/p")
    await fast.ops(["setCell", "t", "r", "c", "from the fast clock"])
    await next_millisecond()
    await right.ops(["setCell", "t", "r", "c", "from the right clock"])

    async def same_cell() -> bool:
        return await fast.content() == await right.content()

    if not await bench.comes_true(same_cell):
        told = [error for error in await bench.heard() + await server.errors() if "future" in error]
        said = "reported" if told else "no error handler heard of it"
        return Outcome(False, f"the cell holds different values for good; {said}")
    if (await right.content())[0] == {"t": {"r": {"c": "from the right clock"}}}:
        return Outcome(True, "both sides hold what was written last")
    return Outcome(False, "both sides hold what was written first")


async def restart(bench: Bench) -> Outcome:
    """M2. The server restarts under two clients; they write while it is away, and after."""
    server = await bench.serve()
    one, two = await bench.store(), await bench.store()
    for store in (one, two):
        await bench.connect(store, f"{server.url}/p")
    await one.ops(["setValue", "before", 1])
    assert await bench.comes_true(lambda: _same(one, two))
    await server.stop()
    await one.ops(["setValue", "one", 1])
    await two.ops(["setValue", "two", 2])
    await bench.serve(port=server.port)
    offline = await bench.comes_true(lambda: _has_values(one, two, "one", "two"))
    await one.ops(["setValue", "later", 1])
    later = await bench.comes_true(lambda: _has_values(one, two, "later"))
    return Outcome(
        offline and later,
        f"offline edits {'arrive' if offline else 'never arrive'}, later ones {'do' if later else 'do not'}, too; "
        f"{len(await bench.heard())} errors heard",
    )


async def _has_values(one: AnyStore, two: AnyStore, *names: str) -> bool:
    return set(names) <= {*(await one.content())[1]} & {*(await two.content())[1]}


async def torn_file(bench: Bench) -> Outcome:
    """M3. The file of a path lost its last tenth; a client comes and writes one row."""
    await _fill_file(bench)
    file = bench.file("p")
    whole = file.read_bytes()
    file.write_bytes(torn := whole[: len(whole) * 9 // 10])
    server = await bench.serve(files=True)
    store = await bench.store()
    await store.ops(["setRow", "t", "new", {"c": 1}])
    joining = asyncio.ensure_future(bench.connect(store, f"{server.url}/p"))

    async def server_said_so() -> bool:
        return bool(await server.errors())

    async def overwritten() -> bool:
        return file.read_bytes() != torn

    async def all_there() -> bool:
        return bench.rows_in_file("p") == ROWS + 1

    assert await bench.comes_true(server_said_so)
    became = "the file is overwritten"
    if not await bench.comes_true(overwritten, _SOON_SECONDS):
        became = "the file is refused and left as it is; repaired, it is opened"
        file.write_bytes(whole)
    good = await bench.comes_true(all_there)
    await joining
    return Outcome(good, f"{became}: {bench.rows_in_file('p')} of {ROWS + 1} rows")


async def _fill_file(bench: Bench) -> None:
    server = await bench.serve(files=True)
    store = await bench.store()
    await bench.connect(store, f"{server.url}/p")
    await store.ops(["transaction", _rows(ROWS)])

    async def saved() -> bool:
        with suppress(FileNotFoundError, ValueError):
            return bench.rows_in_file("p") == ROWS
        return False

    assert await bench.comes_true(saved)
    await bench.disconnect_all()
    await server.stop()


async def load_fails_once(bench: Bench) -> Outcome:
    """M4. The first load of a database fails ("timeout"); a client comes with one row."""
    database = {"contents": {"p": await _content(bench, ROWS)}, "factoryFailures": 0, "loadFailures": 1}
    server = await bench.serve(database=database)
    store = await bench.store()
    await store.ops(["setRow", "t", "new", {"c": 1}])
    await bench.connect(store, f"{server.url}/p")

    async def all_stored() -> bool:
        return _rows_stored(await server.contents()) == ROWS + 1

    good = await bench.comes_true(all_stored)
    return Outcome(good, f"{_rows_stored(await server.contents())} of {ROWS + 1} rows in the database")


async def _content(bench: Bench, rows: int) -> Any:
    store = await bench.store()
    await store.ops(["transaction", _rows(rows)])
    return await store.mergeable()


def _rows_stored(contents: dict[str, Any]) -> int:
    tables = contents["p"][0][0] if "p" in contents else {}
    return len(tables["t"][0]) if "t" in tables else 0


async def factory_fails_once(bench: Bench) -> Outcome:
    """M5. What makes the persister of a path rejects once ("db down"); a client is there, and edits."""
    server = await bench.serve(database={"factoryFailures": 1})
    store = await bench.store()
    await bench.connect(store, f"{server.url}/p")
    await store.ops(["setRow", "t", "r", {"c": 1}])

    async def stored() -> bool:
        return _rows_stored(await server.contents()) == 1

    good = await bench.comes_true(stored)
    listed = len(await server.path_ids())
    where = "is stored once the database is back" if good else "goes nowhere"
    return Outcome(good, f"the client's edit {where}; the server lists {listed} paths")


async def large_store(bench: Bench, rows: int = 17_000, text_bytes: int = 1_000) -> Outcome:
    """M10. A path of more than 16 MiB, which two clients have; a third one joins."""
    bench.patience_seconds = _PATIENCE_SECONDS
    server = await bench.serve()
    holder, other, joiner = [await bench.store() for _ in range(3)]
    for store in (holder, other):
        await bench.connect(store, f"{server.url}/p")
    for first in range(0, rows, _CHUNK):
        last = min(first + _CHUNK, rows)
        cells = {"text": "x" * text_bytes}
        wide = [["setRow", "t", f"r{number}", {"c": number, **cells}] for number in range(first, last)]
        await holder.ops(["transaction", wide])
        if not await bench.comes_true(lambda last=last: _has_rows(other, last)):  # type: ignore[misc]
            return Outcome(False, f"even a client that was there gets only {await _count(other):,} of {last:,} rows")
    await bench.connect(joiner, f"{server.url}/p")
    good = await bench.comes_true(lambda: _has_rows(joiner, rows))
    return Outcome(good, f"the joiner gets {await _count(joiner):,} of {rows:,} rows")


async def _has_rows(store: AnyStore, rows: int) -> bool:
    return await _count(store) == rows


_CHUNK: Final = 5_000
_PATIENCE_SECONDS: Final = 90.0


async def slow_round_trips(bench: Bench) -> Outcome:
    """M11. A client joins over a link with a round trip of 1.2 s, more than the time-out of requests, and writes."""
    server = await bench.serve()
    here, far = await bench.store(), await bench.store()
    await here.ops(["transaction", _rows(ROWS)])
    await far.ops(["setRow", "t", "from far", {"c": 1}])
    await bench.connect(here, f"{server.url}/p")
    bench.patience_seconds += 8 * 1.2
    async with slow_link(server.port, 0.6) as port:
        await bench.connect(far, f"ws://127.0.0.1:{port}/p")
        same = await bench.comes_true(lambda: _same(here, far))
        arrived = "arrives" if await _count(here) > ROWS else "reaches nobody"
        found = f"the far client gets {await _count(far)} of {ROWS + 1} rows, its own {arrived}"
    return Outcome(same, found)


async def similar_paths(bench: Bench) -> Outcome:
    """M12. Paths `team/a` and `team-a`, kept in files as the documentation suggests."""
    server = await bench.serve(files=True)
    first, second = await bench.store(), await bench.store()
    await first.ops(["setValue", "secret", "of team/a"])
    await bench.connect(first, f"{server.url}/team/a")

    async def stored() -> bool:
        return bench.file("team/a").exists() and "of team/a" in bench.file("team/a").read_text(encoding="utf-8")

    assert await bench.comes_true(stored)
    await second.ops(["setValue", "own", "of team-a"])
    await bench.connect(second, f"{server.url}/team-a")

    async def own_is_stored() -> bool:
        return any("of team-a" in (bench.folder / name).read_text(encoding="utf-8") for name in bench.files())

    assert await bench.comes_true(own_is_stored)
    leaked = "secret" in (await second.content())[1]
    served = "is served the first one's data" if leaked else "has a file of its own"
    return Outcome(not leaked and len(bench.files()) == 2, f"the second path {served}")


async def strangers(bench: Bench) -> Outcome:
    """M13. Sockets of anybody, each on a path of its own, that say nothing."""
    server = await bench.serve(files=True)

    async def all_there() -> bool:
        return len(await server.path_ids()) == VISITORS

    async def files_appear() -> bool:
        return len(bench.files()) == VISITORS

    async with AsyncExitStack() as sockets:
        for number in range(VISITORS):
            await sockets.enter_async_context(connect(f"{server.url}/random{number}", compression=None))
        assert await bench.comes_true(all_there)
        await bench.comes_true(files_appear, _SOON_SECONDS)
    await server.stop()
    return Outcome(not bench.files(), f"{len(bench.files())} files for {VISITORS} sockets that said nothing")


async def hash_frame(bench: Bench) -> Outcome:
    """M14. A stranger sends one frame of hashes to a path with 50 clients."""
    server = await bench.serve()
    stores = [await bench.store() for _ in range(PEERS)]
    await stores[0].ops(["setValue", "v", 1])
    for store in stores:
        await bench.connect(store, f"{server.url}/p")
    assert await bench.comes_true(lambda: _same(*stores))
    frame = '\n["x",2,[1,1]]'
    async with connect(f"{server.url}/p", compression=None) as socket:
        await socket.send(frame)
        asked: set[str] = set()
        with suppress(TimeoutError, ConnectionClosed):
            while len(asked) < PEERS:
                sender, _, message = str(await asyncio.wait_for(socket.recv(), 1.0)).partition("\n")
                if json.loads(message)[1] in _QUESTIONS:
                    asked.add(sender)
    return Outcome(len(asked) <= 1, f"{len(asked)} start a diff with the stranger for {len(frame)} bytes")


_QUESTIONS: Final = (1, 4, 5, 6, 7)
"""Requests for hashes and diffs."""


SCRIPTS: Final[dict[str, Script]] = {
    "M1 a clock 301 s fast": fast_clock,
    "M2 server restart": restart,
    "M3 torn file": torn_file,
    "M4 a load fails once": load_fails_once,
    "M5 no database at first": factory_fails_once,
    "M10 large store": large_store,
    "M11 round trip of 1.2 s": slow_round_trips,
    "M12 similar path names": similar_paths,
    "M13 silent strangers": strangers,
    "M14 one lying frame": hash_frame,
}
