"""What a client knows of what the server has stored: asked rarely, answered truthfully, exact to the cell."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import websockets

from mergesync import (
    ConnectionLostError,
    LimitExceededError,
    MergeableStore,
    NotDurableError,
    NotSupportedError,
    RemoteProtocolError,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.limits import MAX_UNANSWERED_OPERATIONS
from mergesync.net.durability import Durability
from mergesync.persist import json_file_persisters, sqlite_persisters
from mergesync.sync.operations import ERROR, OK, Operation
from mergesync.sync.subprotocols import EXTENDED, EXTENDED_CHANNELS
from tests.support import eventually, within

from .kit import Backend, closed_with, raw, synced, url_of

STORED = {"stored": True}


class Driven:
    """A `Durability` of which this test is the server."""

    def __init__(self) -> None:
        self.store = MergeableStore("s1", get_now=lambda: 1704067200000)
        self.asked: dict[str, bool] = {}
        self._ids = itertools.count()
        self.durability = Durability(self.store, self._ask)
        self.store.add_did_finish_transaction_listener(
            lambda store: self.durability.written(store.get_transaction_mergeable_changes())
        )

    def _ask(self, hurry: bool) -> str:
        request_id = str(next(self._ids))
        self.asked[request_id] = hurry
        return request_id

    def answer(self, request_id: str, name: str = OK, body: Any = STORED) -> None:
        """The server answers."""
        self.durability.answered(Operation(request_id, name, body))

    @classmethod
    def live(cls) -> Driven:
        """One to which everything was confirmed."""
        driven = cls()
        assert driven.pending == []
        driven.durability.live(supported=True)
        driven.answer("0")
        driven.asked.clear()
        return driven

    @property
    def pending(self) -> list[Any]:
        """What is pending."""
        return self.durability.pending


async def begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that has begun to wait."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def test_what_failed_is_asked_again_on_the_next_connection() -> None:
    """Not at once, as it may fail again; but without a write, and without anybody who looks.

    Found by schedule 304240 of the simulator.
    """
    driven = Driven.live()
    driven.store.set_value("v", 1)
    driven.answer("1", ERROR, ["incomplete", "the server could not get all"])
    assert driven.asked == {"1": False}
    driven.durability.lost()
    driven.durability.live(supported=True)
    assert driven.asked == {"1": False, "2": False}
    driven.answer("2")
    assert driven.pending == []


def test_before_the_first_confirmation_all_is_pending() -> None:
    """Nobody knows what the server has of it."""
    driven = Driven()
    driven.store.set_cell("t", "r", "c", 1).set_value("v", 1)
    driven.durability.live(supported=True)
    assert driven.asked == {"0": False}
    assert driven.pending == [("t", "r", "c"), ("v",)]
    driven.answer("0")
    assert driven.pending == []


def test_nobody_wants_to_know() -> None:
    """A store that is only read asks nothing, until somebody looks at what is pending."""
    driven = Driven()
    driven.durability.live(supported=True)
    assert driven.asked == {}
    assert driven.pending == []
    assert driven.asked == {"0": False}


def test_one_question_for_many_writes() -> None:
    """What is written while a question is under way is asked about with the next."""
    driven = Driven.live()
    for number in range(100):
        driven.store.set_value(f"v{number}", number)
    assert list(driven.asked) == ["1"]
    driven.answer("1")
    assert len(driven.pending) == 99
    driven.answer("2")
    assert driven.pending == []
    assert list(driven.asked) == ["1", "2"]


def test_a_cell_that_is_written_again() -> None:
    """It is pending once, until its last write is confirmed."""
    driven = Driven.live()
    driven.store.set_value("v", 1).set_value("v", 2)
    assert driven.pending == [("v",)]
    driven.answer("1")
    assert driven.pending == [("v",)]
    driven.answer("2")
    assert driven.pending == []


def test_what_others_overwrite_is_not_pending() -> None:
    """Whether it was asked about already or not."""
    driven = Driven.live()
    driven.store.set_value("v", 1).set_cell("t", "r", "a", 1).set_cell("t", "r", "b", 1)
    changes = [[{"t": [{"r": [{"a": [2, "x"]}], "q": [{"a": [2, "x"]}]}], "u": [{}]}], [{"v": [2, "x"]}], 1]
    driven.durability.overwritten(changes)
    assert driven.pending == [("t", "r", "b")]


def test_what_a_server_may_not_have_got(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was written since it was told all, and not confirmed; that is not known before, nor told if too much."""
    driven = Driven()
    driven.store.set_value("before", 1)
    assert driven.durability.unconfirmed() is None
    driven.durability.live(supported=True)
    assert driven.durability.unconfirmed() == [[{}], [{"before": [1, "Nn1JUF-----7JQY8"]}], 1]
    driven.store.set_cell("t", "r", "c", "text")
    driven.durability.lost()
    driven.store.set_value("before", 2)
    unconfirmed = driven.durability.unconfirmed()
    assert unconfirmed is not None
    assert unconfirmed[0][0]["t"][0]["r"][0].keys() == {"c"}
    assert unconfirmed[1][0]["before"][0] == 2
    assert driven.pending == [("t", "r", "c"), ("before",)]
    monkeypatch.setattr("mergesync.net.durability.MAX_PAGE_BYTES", 60)
    assert driven.durability.unconfirmed() is None
    driven.durability.live(supported=False)
    assert (driven.durability.unconfirmed(), driven.pending) == (None, [])


def test_a_cell_that_is_too_large_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not known to be unconfirmed: ranges are compared, where what does not fit a message is reported."""
    driven = Driven()
    driven.durability.live(supported=True)
    driven.store.set_value("v", "x" * 100)
    assert driven.durability.unconfirmed() is not None
    monkeypatch.setattr("mergesync.net.durability.MAX_PAGE_BYTES", 100)
    assert driven.durability.unconfirmed() is None


async def test_somebody_is_in_a_hurry() -> None:
    """One more question is asked at once, and its answer settles the earlier one, too; two hurries share one."""
    driven = Driven.live()
    driven.store.set_value("v", 1)
    tasks = [await begun(driven.durability.durable()) for _ in range(3)]
    assert driven.asked == {"1": False, "2": True}
    driven.answer("2")
    assert driven.asked == {"1": False, "2": True, "3": True}
    assert driven.pending == []
    driven.answer("1")  # too late to mean anything
    driven.answer("3")
    await asyncio.gather(*tasks)


async def test_a_connection_is_lost() -> None:
    """What was not answered is asked again on the next, and who waits goes on waiting."""
    driven = Driven.live()
    driven.store.set_value("v", 1)
    task = await begun(driven.durability.durable())
    driven.store.set_value("w", 1)
    driven.durability.lost()
    assert driven.pending == [("v",), ("w",)]
    driven.answer("1")
    driven.answer("2")
    assert driven.pending == [("v",), ("w",)]
    driven.durability.live(supported=True)
    assert driven.asked == {"1": False, "2": True, "3": True}
    driven.answer("3")
    await task
    assert driven.pending == []


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        (ERROR, ["save", "disk full"], "save"),
        (ERROR, None, "unknown"),
        (OK, {"stored": False}, "storage"),
        (OK, 1, "storage"),
    ],
)
async def test_it_is_not_stored(name: str, body: Any, reason: str) -> None:
    """Who waits is told; what failed is pending until a later question is answered well."""
    driven = Driven.live()
    driven.store.set_value("v", 1)
    task = await begun(driven.durability.durable())
    driven.answer("2", name, body)
    with pytest.raises(NotDurableError) as caught:
        await task
    assert caught.value.reason == reason
    assert driven.pending == ([("v",)] if name == ERROR else [])


async def test_a_server_that_does_not_tell() -> None:
    """What was sent to TinyBase's is not pending, and nobody waits in vain."""
    driven = Driven()
    driven.store.set_value("v", 1)
    task = await begun(driven.durability.durable())
    driven.durability.live(supported=False)
    driven.store.set_value("w", 1)
    assert driven.pending == []
    for waiting in (task, driven.durability.durable()):
        with pytest.raises(NotSupportedError):
            await waiting
    driven.durability.lost()
    driven.store.set_value("w", 2)
    assert driven.pending == [("w",)]
    driven.durability.close(ConnectionLostError("gone"))
    assert driven.asked == {}


# --- with a server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "json"])
@pytest.mark.parametrize("channel", [None, "c"])
async def test_durable(tmp_path: Path, kind: str, channel: str | None) -> None:
    """When it returns, another process that reads the storage finds all that was written before."""
    persisters = sqlite_persisters(tmp_path / "p.db") if kind == "sqlite" else json_file_persisters(tmp_path)
    store = MergeableStore().set_cell("t", "r", "before", 1)
    path_id = "p" if channel is None else "p/c"
    async with (
        create_ws_server("127.0.0.1", 0, persisters) as server,
        synced(store, url_of(server), channel) as synchronizer,
    ):
        await within(synchronizer.durable())
        for number in range(10):
            store.set_cell("t", "r", f"c{number}", number).set_value("last", number)
            await within(synchronizer.durable())
            assert synchronizer.pending == []
        assert server.get_path_ids() == [path_id]
        assert await _read(tmp_path, kind, path_id) == list(store.get_content())


async def _read(folder: Path, kind: str, path_id: str) -> Any:
    """What another process finds while the server runs."""
    place = f"sqlite:{folder / 'p.db'}" if kind == "sqlite" else f"json:{folder}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mergesync", "dump", "--plain", place, path_id), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return json.loads(out)


async def test_a_path_without_storage() -> None:
    """It confirms that it has received, and says that nothing is stored."""
    store = MergeableStore()
    async with create_ws_server("127.0.0.1", 0) as server, synced(store, url_of(server)) as synchronizer:
        store.set_value("v", 1)
        await eventually(lambda: not synchronizer.pending)
        with pytest.raises(NotDurableError, match="no storage"):
            await within(synchronizer.durable())


async def test_storage_that_fails() -> None:
    """Who waits is told; once it works again, what is pending is stored without anybody asking."""
    backend = Backend()
    store = MergeableStore()
    ignored: list[Exception] = []
    async with (
        create_ws_server("127.0.0.1", 0, backend, on_ignored_error=ignored.append) as server,
        synced(store, url_of(server)) as synchronizer,
    ):
        backend.flush_trouble = OSError("no space left")
        store.set_value("v", 1)
        with pytest.raises(NotDurableError, match="OSError: no space left"):
            await within(synchronizer.durable())
        assert synchronizer.pending == [("v",)]
        backend.flush_trouble = None
        await within(synchronizer.durable())
        assert synchronizer.pending == []


async def test_a_server_that_restarts(tmp_path: Path) -> None:
    """Who waits goes on waiting until the next server has stored it; it is another server."""
    store, errors = MergeableStore(), []  # type: ignore[var-annotated]
    persisters = json_file_persisters(tmp_path)
    async with create_ws_server("127.0.0.1", 0, persisters) as server:
        synchronizer = await create_ws_synchronizer(store, url_of(server), on_ignored_error=errors.append)
        await synchronizer.start_sync()
        await within(synchronizer.durable())
        first, port = synchronizer.server_id, server.port
    store.set_value("v", 1)
    waiting = asyncio.create_task(synchronizer.durable())
    await eventually(lambda: bool(synchronizer.pending))
    assert not waiting.done()
    async with create_ws_server("127.0.0.1", port, json_file_persisters(tmp_path)):
        await within(waiting)
        assert synchronizer.server_id != first
        assert await _read(tmp_path, "json", "p") == [{}, {"v": 1}]
        await synchronizer.destroy()
    with pytest.raises(ConnectionLostError):
        await synchronizer.durable()


async def test_destroyed_while_somebody_waits() -> None:
    """Who waits is told."""
    ignored: list[Exception] = []
    synchronizer = await create_ws_synchronizer(
        MergeableStore(), "ws://127.0.0.1:1/p", wait=False, on_ignored_error=ignored.append
    )
    waiting = await begun(synchronizer.durable())
    await synchronizer.destroy()
    with pytest.raises(ConnectionLostError):
        await waiting


async def test_the_server_tells_who_it_is() -> None:
    """On a plain socket and on a channel; what it does not know it says, and a request without an id has no answer."""
    async with create_ws_server("127.0.0.1", 0) as server:
        async with raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            await socket.send('X\n[null,"nope",1]')
            await socket.send('X\n["1","nope",1]')
            assert await within(socket.recv()) == 'X\n["1","error",["unknown","no operation \'nope\'"]]'
            await socket.send('X\n["2","hello",null]')
            [request_id, name, body] = json.loads(str(await within(socket.recv()))[2:])
            assert (request_id, name, body["client"]) == ("2", "ok", server.get_client_ids("p")[0])
            assert set(body) == {"server", "client", "now", "held"}
        async with raw(url_of(server, ""), subprotocols=[EXTENDED_CHANNELS]) as socket:
            for control in ('S\n["h",-1,[0,1]]', 'S\n["s",-1,[1,"c"]]'):
                await socket.send(control)
                assert await within(socket.recv()) == control
            await socket.send('M\nc\nX\n["3","hello",null]')
            assert str(await within(socket.recv())).startswith('M\nc\nX\n["3","ok",{')


async def test_a_client_that_asks_too_much() -> None:
    """At the bound all are answered in the end; one more, and its socket is closed."""
    backend = Backend()
    ignored: list[Exception] = []
    async with create_ws_server("127.0.0.1", 0, backend, on_ignored_error=ignored.append) as server:
        backend.flush_gate.clear()
        async with raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            for number in range(MAX_UNANSWERED_OPERATIONS):
                await socket.send(f'X\n["{number}","stored",true]')
            backend.flush_gate.set()
            for _ in range(MAX_UNANSWERED_OPERATIONS):
                assert '"ok"' in str(await within(socket.recv()))
            backend.flush_gate.clear()
            for number in range(MAX_UNANSWERED_OPERATIONS + 1):
                await socket.send(f'X\n["{number}","stored",true]')
            assert await closed_with(socket) == (1013, "tinybase:15:requests")
        backend.flush_gate.set()


async def test_a_client_that_asks_at_too_great_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not answered yet is held, and only so much of it."""
    asks = '["1","stored",true]'
    monkeypatch.setattr("mergesync.net.switchboard.MAX_UNANSWERED_BYTES", 2 * len(asks))
    backend = Backend()
    ignored: list[Exception] = []
    async with create_ws_server("127.0.0.1", 0, backend, on_ignored_error=ignored.append) as server:
        async with raw(url_of(server), subprotocols=[EXTENDED]) as socket:
            for _ in range(2):
                backend.flush_gate.clear()
                await socket.send(f"X\n{asks}")
                await socket.send(f"X\n{asks}")
                backend.flush_gate.set()
                for _ in range(2):
                    assert '"ok"' in str(await within(socket.recv()))
            backend.flush_gate.clear()
            await socket.send(f"X\n{asks}")
            await socket.send(f"X\n{asks[:-1]} ]")
            assert await closed_with(socket) == (1013, "tinybase:15:requests")
        backend.flush_gate.set()
    assert [type(error) for error in ignored] == [LimitExceededError]


async def test_what_was_asked_on_a_channel_that_is_left() -> None:
    """It counts no more, and has no answer, even if the client comes back."""
    backend = Backend()
    subscribe = 'S\n["s",-1,[1,"c"]]'
    async with create_ws_server("127.0.0.1", 0, backend) as server:
        backend.flush_gate.clear()
        async with raw(url_of(server, ""), subprotocols=[EXTENDED_CHANNELS]) as socket:
            await socket.send('S\n["h",-1,[0,1]]')
            await socket.recv()
            for visit in range(2):
                await socket.send(subscribe)
                assert await within(socket.recv()) == subscribe
                for number in range(MAX_UNANSWERED_OPERATIONS):
                    await socket.send(f'M\nc\nX\n["{visit}.{number}","stored",true]')
                if not visit:
                    await socket.send('S\n[null,-1,[2,"c"]]')
            backend.flush_gate.set()
            for number in range(MAX_UNANSWERED_OPERATIONS):
                assert str(await within(socket.recv())).startswith(f'M\nc\nX\n["1.{number}","ok"')


async def test_a_client_does_not_know_all() -> None:
    """It says so, and goes on; what is no operation closes the socket."""
    heard: list[str] = []

    async def serve(socket: Any) -> None:
        await socket.send('X\n[null,"news",1]')
        await socket.send('X\n["q","ask",1]')
        async for frame in socket:
            heard.append(frame)
            if len(heard) == 2:
                await socket.send("X\nnope")

    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=[EXTENDED]) as server:  # type: ignore[list-item]
        port = next(iter(server.sockets)).getsockname()[1]
        errors: list[Exception] = []
        synchronizer = await create_ws_synchronizer(
            MergeableStore(), f"ws://127.0.0.1:{port}/p", on_ignored_error=errors.append
        )
        await eventually(lambda: any(isinstance(error, RemoteProtocolError) for error in errors))
        assert 'X\n["q","error",["unknown","no operation \'ask\'"]]' in heard
        await synchronizer.destroy()
