"""`create_ws_synchronizer`: its status, its end, its callbacks, its channels, and what a bad server gets."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mergesync import (
    ConnectionLostError,
    LimitExceededError,
    MergeableStore,
    RemoteProtocolError,
    RequestTimeoutError,
    SyncStatus,
    WsClient,
    create_ws_server,
    create_ws_synchronizer,
)
from mergesync.limits import MAX_CHANNELS, MAX_FRAME_BYTES
from mergesync.net.listening import ListeningWsServer
from tests.support import Leftovers, eventually, same_content, within
from tests.unit.net.kit import Backend, Proxy, diff_frame, pet, synced, url_of

pytestmark = pytest.mark.usefixtures("leftovers")

Errors = list[Exception]
Talk = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture
async def server() -> AsyncIterator[ListeningWsServer]:
    """A server."""
    async with create_ws_server("127.0.0.1", 0) as listening:
        yield listening


@asynccontextmanager
async def fake_server(talk: Talk, **options: Any) -> AsyncIterator[str]:
    """A server that says what a test makes it say."""
    async with serve(talk, "127.0.0.1", 0, max_size=None, **options) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/p"


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Hashes:
    """Answers every question for hashes as an empty store would, and nothing else."""

    async def __call__(self, connection: ServerConnection) -> None:
        """Talk."""
        with suppress(ConnectionClosed):
            async for frame in connection:
                await self.answer(connection, str(frame))

    async def answer(self, connection: ServerConnection, frame: str) -> None:
        """Answer a frame."""
        request_id, kind, _ = json.loads(frame.partition("\n")[2])
        if kind == 1:
            await connection.send("S\n" + json.dumps([request_id, 0, [0, 0]]))


# --- beginning


async def test_tinybase_order(server: ListeningWsServer) -> None:
    """Awaited, it is connected but does not sync; `start_sync` returns when the first exchange is over."""
    fido, felix = pet("fido"), pet("felix")
    async with synced(fido, url_of(server)):
        synchronizer = await create_ws_synchronizer(felix, url_of(server))
        assert str(synchronizer.status) == "connected"
        assert synchronizer.store is felix
        assert not felix.has_row("pets", "fido")
        assert await synchronizer.start_sync() is synchronizer
        assert synchronizer.status == "live"
        assert felix.has_row("pets", "fido")
        assert await synchronizer.start_sync() is synchronizer
        await eventually(lambda: same_content(fido, felix))
        await synchronizer.destroy()
        assert synchronizer.status == "destroyed"


async def test_entering_an_awaited_one(server: ListeningWsServer) -> None:
    """Entering what was awaited only sees to its end."""
    async with await create_ws_synchronizer(MergeableStore(), url_of(server)) as synchronizer:
        assert synchronizer.status == "connected"
    assert synchronizer.status == "destroyed"


async def test_initial_content(server: ListeningWsServer) -> None:
    """It fills a store to which nobody gave anything, and only that."""
    content: Any = ({"pets": {"fido": {"species": "dog"}}}, {"open": True})
    one, two = MergeableStore(), MergeableStore()
    async with synced(one, url_of(server), initial_content=content):
        assert one.get_content() == content
        one.set_value("open", False)
        await eventually(lambda: server.get_stats().receives >= 3)
        async with synced(two, url_of(server), initial_content=({}, {"open": "initial"})):
            assert two.get_value("open") is False
            await eventually(lambda: same_content(one, two))


async def test_initial_content_is_for_the_first_start(server: ListeningWsServer) -> None:
    """After a reconnect, what was deleted meanwhile does not come back."""
    store = MergeableStore()
    options: Any = {"initial_content": ({}, {"a": 1, "b": 2}), "on_ignored_error": lambda _: None}
    async with Proxy(lambda: server.port) as proxy, synced(store, proxy.url, **options) as synchronizer:
        store.del_value("a")
        proxy.cut()
        await eventually(lambda: synchronizer.client.connections == 2 and synchronizer.status == "live")
        assert store.get_values() == {"b": 2}


async def test_connection_refused(errors: Errors) -> None:
    """Waiting for the connection, it fails at once; it is told once, and nothing is tried any more."""
    left = Leftovers()
    url = f"ws://127.0.0.1:{unused_port()}/p"
    store = MergeableStore()
    with pytest.raises(ConnectionLostError, match="cannot connect") as raised:
        await create_ws_synchronizer(store, url, on_ignored_error=errors.append)
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(ConnectionLostError):
        async with create_ws_synchronizer(store, url, on_ignored_error=errors.append):
            pass
    assert errors == []
    await left.none()


async def test_starting_offline(errors: Errors) -> None:
    """`wait=False` starts without a server, and is live when there is one."""
    port = unused_port()
    store, other = pet("fido"), pet("felix")
    options: Any = {"on_ignored_error": errors.append, "wait": False}
    async with synced(store, f"ws://127.0.0.1:{port}/p", **options) as synchronizer:
        assert synchronizer.status in ("offline", "connecting")
        await eventually(lambda: len(errors) >= 2)
        assert synchronizer.client.connections == 0
        store.set_value("v", 1)
        async with create_ws_server("127.0.0.1", port) as server:
            await eventually(lambda: synchronizer.status == "live")
            async with synced(other, url_of(server)):
                await eventually(lambda: same_content(store, other))
            assert synchronizer.client.connected
            assert all(isinstance(error, ConnectionLostError) for error in errors)
            await synchronizer.destroy()


async def test_what_is_not_a_url_or_channel() -> None:
    """It is refused at the call."""
    store = MergeableStore()
    for url in ("http://localhost/p", "localhost", ""):
        with pytest.raises(ValueError, match="isn't a valid URI"):
            create_ws_synchronizer(store, url)
    for channel in ("", "a//b", "a?b", "x" * 1025):
        with pytest.raises(ValueError, match="channel id"):
            create_ws_synchronizer(store, "ws://localhost/p", channel)
    with pytest.raises(ValueError, match="WsClient"):
        create_ws_synchronizer(store, WsClient("ws://localhost/p"), connect_options={})


async def test_options_that_are_wrong(errors: Errors) -> None:
    """A mistake in `connect_options` is raised as it is."""
    with pytest.raises(TypeError):
        await create_ws_synchronizer(MergeableStore(), "ws://127.0.0.1:1/p", connect_options={"nonsense": 1})
    options: Any = {"wait": False, "connect_options": {"nonsense": 1}, "on_ignored_error": errors.append}
    async with synced(MergeableStore(), "ws://127.0.0.1:1/p", **options):
        await eventually(lambda: any(isinstance(error, TypeError) for error in errors))


async def test_coroutine_functions_are_refused(server: ListeningWsServer) -> None:
    """Nobody would await them."""

    async def listen(*_: object) -> None: ...

    for name in ("on_send", "on_receive", "on_ignored_error"):
        with pytest.raises(TypeError, match=name):
            await create_ws_synchronizer(MergeableStore(), url_of(server), **{name: listen})  # type: ignore[arg-type]
    async with synced(MergeableStore(), url_of(server)) as synchronizer:
        with pytest.raises(TypeError, match="status listener"):
            synchronizer.add_status_listener(listen)


# --- status


async def test_status_is_told(server: ListeningWsServer) -> None:
    """Every change of it, in order, to every listener, also if one of them changes it again."""
    told: list[Any] = []
    synchronizer = await create_ws_synchronizer(MergeableStore(), url_of(server))

    def stop_when_live(same: Any, status: SyncStatus) -> None:
        told.append(("first", str(status), same.status == status))
        if status == "live":
            same.stop_sync()

    synchronizer.add_status_listener(stop_when_live)
    last = synchronizer.add_status_listener(lambda _, status: told.append(("last", str(status))))
    await synchronizer.start_sync()
    expected = ["syncing", "live", "connected"]
    assert [status for name, status, *_ in told if name == "first"] == expected
    assert [status for name, status, *_ in told if name == "last"] == expected
    assert all(each[2] for each in told if each[0] == "first")
    synchronizer.del_listener(last).del_listener("none")
    await synchronizer.destroy()
    assert told[-1] == ("first", "destroyed", True)
    assert ("last", "destroyed") not in told


async def test_status_listener_that_raises(server: ListeningWsServer, errors: Errors) -> None:
    """It is reported, and stops nothing."""

    def fail(*_: object) -> None:
        raise KeyError("listener")

    synchronizer = await create_ws_synchronizer(MergeableStore(), url_of(server), on_ignored_error=errors.append)
    synchronizer.add_status_listener(fail)
    await synchronizer.start_sync()
    assert synchronizer.status == "live"
    await synchronizer.destroy()
    assert errors
    assert all(isinstance(error, KeyError) for error in errors)


async def test_status_while_a_channel_is_not_there() -> None:
    """A socket whose server has not accepted the channel is still connecting."""
    greet = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        async for frame in connection:
            await greet.wait()
            await connection.send(frame)

    async with fake_server(talk, subprotocols=["tinybase"]) as url:
        options: Any = {"request_timeout_seconds": 5, "wait": True}
        synchronizer = await create_ws_synchronizer(MergeableStore(), url, "c", **options)
        assert synchronizer.status == "connecting"
        greet.set()
        await eventually(lambda: synchronizer.status == "connected")
        await synchronizer.destroy()


async def test_status_while_pulling() -> None:
    """While a peer has something that is missing here, it is syncing, not live."""
    answer = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        async for frame in connection:
            request_id, kind, _ = json.loads(str(frame).partition("\n")[2])
            if kind == 1:
                await connection.send("S\n" + json.dumps([request_id, 0, [0, 1]]))
            elif kind == 7:
                await answer.wait()
                await connection.send("S\n" + json.dumps([request_id, 0, [{"v": [1, "Nn1JUF-----7JQY8"]}]]))

    store = MergeableStore()
    async with fake_server(talk) as url:
        options: Any = {"request_timeout_seconds": 0.5, "on_ignored_error": lambda _: None}
        synchronizer = await create_ws_synchronizer(store, url, **options)
        starting = asyncio.create_task(synchronizer.start_sync())
        await eventually(lambda: synchronizer.status == "syncing")
        assert not starting.done()
        answer.set()
        await within(starting)
        assert synchronizer.status == "live"
        assert store.get_value("v") == 1
        await synchronizer.destroy()


# --- ending


async def test_leaving_right_after_a_write(server: ListeningWsServer) -> None:
    """What was written last is at the server."""
    reader = MergeableStore()
    async with synced(reader, url_of(server)):
        for number in range(20):
            store = MergeableStore()
            async with create_ws_synchronizer(store, url_of(server)):
                store.set_value(f"v{number}", number)
            await eventually(lambda: reader.has_value(f"v{number}"))  # noqa: B023


async def test_leaving_at_once(server: ListeningWsServer) -> None:
    """What was in the store before is at the server, though it had to be asked for."""
    reader = MergeableStore()
    async with synced(reader, url_of(server)):
        for number in range(20):
            store = MergeableStore().set_cell("t", f"r{number}", "c", "x" * 10_000).set_value(f"v{number}", number)
            async with create_ws_synchronizer(store, url_of(server)):
                pass
            await eventually(lambda: reader.has_value(f"v{number}") and reader.has_row("t", f"r{number}"))  # noqa: B023


async def test_leaving_with_nobody_who_could_take_it() -> None:
    """Alone on a relay, there is nothing to wait for."""
    async with create_ws_server("localhost", 0, relay=True) as server:
        options: Any = {"request_timeout_seconds": 0.05, "on_ignored_error": lambda _: None}
        async with synced(pet("fido"), url_of(server), **options) as synchronizer:
            sends = synchronizer.get_stats().sends
            await within(synchronizer.destroy())
            assert synchronizer.get_stats().sends == sends


async def test_leaving_a_server_that_does_not_answer_any_more() -> None:
    """It is not waited for longer than a request time-out."""

    class Silent(Hashes):
        asked = 0

        async def answer(self, connection: ServerConnection, frame: str) -> None:
            self.asked += '",1,"' in frame
            if self.asked < 2:
                await super().answer(connection, frame)

    silent = Silent()
    async with fake_server(silent) as url, synced(pet("fido"), url, request_timeout_seconds=0.1):
        pass
    assert silent.asked == 2


async def test_leaving_a_server_that_never_takes_it() -> None:
    """It is asked a few times, and then left."""

    class Stubborn(Hashes):
        asked = 0

        async def answer(self, connection: ServerConnection, frame: str) -> None:
            self.asked += '",1,"' in frame
            await super().answer(connection, frame)

    stubborn = Stubborn()
    async with fake_server(stubborn) as url, synced(pet("fido"), url, request_timeout_seconds=0.2):
        pass
    assert stubborn.asked > 2


async def test_destroying_twice_and_at_once(server: ListeningWsServer) -> None:
    """Each caller waits for the same end; the store is free afterwards."""
    store = MergeableStore()
    synchronizer = await create_ws_synchronizer(store, url_of(server))
    await synchronizer.start_sync()
    await asyncio.gather(synchronizer.destroy(), synchronizer.destroy())
    await synchronizer.destroy()
    await eventually(lambda: server.get_stats().connections == 0)
    receives = server.get_stats().receives
    store.set_value("v", 1)
    with pytest.raises(ConnectionLostError, match="destroyed"):
        await synchronizer.start_sync()
    assert server.get_stats().receives == receives
    async with synced(store, url_of(server)):
        pass


async def test_destroying_while_somebody_waits() -> None:
    """`start_sync` that waits for a connection fails when there will be none."""
    options: Any = {"wait": False, "on_ignored_error": lambda _: None}
    synchronizer = await create_ws_synchronizer(MergeableStore(), f"ws://127.0.0.1:{unused_port()}/p", **options)
    starting = asyncio.create_task(synchronizer.start_sync())
    await asyncio.sleep(0.02)
    assert not starting.done()
    await synchronizer.destroy()
    with pytest.raises(ConnectionLostError, match="destroyed"):
        await starting


async def test_stopping_and_starting(server: ListeningWsServer) -> None:
    """Stopped, nothing goes either way; started again, both sides catch up."""
    one, two = MergeableStore(), MergeableStore()
    async with synced(one, url_of(server)) as synchronizer, synced(two, url_of(server)):
        assert synchronizer.stop_sync() is synchronizer
        assert synchronizer.status == "connected"
        one.set_value("one", 1)
        two.set_value("two", 2)
        await eventually(lambda: server.get_stats().receives >= 3)
        await asyncio.sleep(0.05)
        assert not one.has_value("two")
        assert not two.has_value("one")
        await synchronizer.start_sync()
        await eventually(lambda: same_content(one, two) and one.get_values() == {"one": 1, "two": 2})


async def test_stopping_while_somebody_waits() -> None:
    """`start_sync` then returns."""
    options: Any = {"wait": False, "on_ignored_error": lambda _: None}
    async with synced(MergeableStore(), f"ws://127.0.0.1:{unused_port()}/p", **options) as synchronizer:
        starting = asyncio.create_task(synchronizer.start_sync())
        await asyncio.sleep(0)
        synchronizer.stop_sync()
        assert await within(starting) is synchronizer


class _Interrupted:
    """Awaits something, and is cancelled when that waits for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, None], turn: int) -> None:
        self._work = work.__await__()
        self._turn = turn

    def __await__(self) -> Generator[Any, Any, None]:
        turn = 0
        say: Callable[[], Any] = lambda: next(self._work)  # noqa: E731
        while True:
            try:
                awaited = say()
            except StopIteration:
                return
            task = asyncio.current_task()
            if turn == self._turn and task is not None:
                task.cancel()
            turn += 1
            try:
                yield awaited
                say = lambda: next(self._work)  # noqa: E731
            except BaseException as error:
                say = functools.partial(self._work.throw, error)


async def test_cancelled_at_any_point(server: ListeningWsServer) -> None:
    """Creating, entering, syncing and leaving can be cancelled wherever they wait, and nothing is left."""
    left = Leftovers()
    store = MergeableStore()
    other = MergeableStore()

    async def live() -> None:
        async with create_ws_synchronizer(store, url_of(server)):
            store.set_value("v", 1)
            await asyncio.sleep(0)
        async with await create_ws_synchronizer(other, url_of(server)) as synchronizer:
            await synchronizer.start_sync()

    async def interrupted(turn: int) -> bool:
        try:
            await _Interrupted(live(), turn)
        except asyncio.CancelledError:
            return True
        return False

    for turn in itertools.count():
        was_interrupted = await within(asyncio.create_task(interrupted(turn)))
        await eventually(lambda: server.get_stats().connections == 0 and not left.tasks())
        await left.none()
        if not was_interrupted:
            break
    assert turn >= 6
    for turns_of_the_loop in range(30):  # the socket's own task is then anywhere in connecting
        task = asyncio.create_task(live())
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: server.get_stats().connections == 0 and not left.tasks())
    await left.none()


async def test_cancelled_while_connecting() -> None:
    """A server that accepts and says nothing does not hold up the end."""
    async with Proxy(unused_port) as proxy:
        proxy.stalled = True
        creating = asyncio.ensure_future(create_ws_synchronizer(MergeableStore(), proxy.url)._create())
        await eventually(lambda: proxy.accepted)
        creating.cancel()
        await asyncio.wait([creating])
        assert creating.cancelled()


async def test_handshake_time_out() -> None:
    """A server that accepts and says nothing is given up after `open_timeout`."""
    async with Proxy(unused_port) as proxy:
        proxy.stalled = True
        options: Any = {"connect_options": {"open_timeout": 0.1}}
        with pytest.raises(ConnectionLostError, match="timed out"):
            await within(create_ws_synchronizer(MergeableStore(), proxy.url, **options)._create())


# --- callbacks


async def test_on_send_and_on_receive(server: ListeningWsServer) -> None:
    """They hear each message with its address or sender; stats count them."""
    sent: list[Any] = []
    received: list[Any] = []
    options: Any = {"on_send": lambda *said: sent.append(said), "on_receive": lambda *said: received.append(said)}
    options["connect_options"] = {"subprotocols": None}
    store = MergeableStore()
    async with synced(store, url_of(server), **options) as synchronizer:
        store.set_value("v", 1)
        assert [kind for _, _, kind, _ in sent] == [1, 2, 3]
        (sender, request_id, kind, body), *_ = received
        assert (sender, request_id, kind, body) == ("S", sent[0][1], 0, [0, 0])
        stats = synchronizer.get_stats()
        assert (stats.sends, stats.receives) == (len(sent), len(received))
        store.set_value("w", 1)
        assert synchronizer.get_stats().sends == stats.sends + 1


async def test_callbacks_that_raise(server: ListeningWsServer) -> None:
    """They are reported, and stop nothing; what the reporting itself raises is logged."""
    reported: Errors = []

    def fail(*_: object) -> None:
        raise KeyError("callback")

    def report(error: Exception) -> None:
        reported.append(error)
        raise ValueError("reporting")

    one, two = pet("fido"), pet("felix")
    options: Any = {"on_send": fail, "on_receive": fail, "on_ignored_error": report}
    async with synced(one, url_of(server), **options), synced(two, url_of(server)):
        one.set_value("v", 1)
        await eventually(lambda: same_content(one, two))
    assert reported
    assert all(isinstance(error, KeyError) for error in reported)


async def test_store_listener_that_raises(server: ListeningWsServer, errors: Errors) -> None:
    """An application's listener that fails on what comes in is reported, and syncing goes on."""

    def fail(*_: object) -> None:
        raise KeyError("listener")

    one, two = MergeableStore(), MergeableStore()
    one.add_values_listener(fail)
    async with synced(one, url_of(server), on_ignored_error=errors.append), synced(two, url_of(server)):
        two.set_value("v", 1)
        await eventually(lambda: one.get_value("v") == 1)
        two.set_value("v", 2)
        await eventually(lambda: one.get_value("v") == 2)
        await eventually(lambda: same_content(one, two))
    assert len(errors) == 2


async def test_errors_go_to_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    """Without a callback they are logged, never silent."""
    options: Any = {"wait": False}
    async with synced(MergeableStore(), f"ws://127.0.0.1:{unused_port()}/p", **options):
        await eventually(lambda: "ConnectionLostError: cannot connect" in caplog.text)


# --- channels


async def test_several_stores_on_one_socket(server: ListeningWsServer) -> None:
    """Each on its path, beside plain clients; one can come and go while the others stay."""
    client = WsClient(url_of(server, "shop"), multiplexed=True)
    assert (client.url, client.multiplexed, client.connected) == (url_of(server, "shop"), True, False)
    pets, staff, plain = pet("fido"), MergeableStore(), pet("felix")
    async with synced(pets, client, "pets") as on_pets, synced(plain, url_of(server, "shop/pets")):
        assert on_pets.channel_id == "pets"
        await eventually(lambda: same_content(pets, plain))
        for _ in range(3):
            async with synced(staff, client, "staff/all"):
                staff.set_value("v", 1)
                assert sorted(server.get_path_ids()) == ["shop/pets", "shop/staff/all"]
            await eventually(lambda: server.get_path_ids() == ["shop/pets"])
        assert client.connections == 1
        assert server.get_stats().connections == 2
        with pytest.raises(ValueError, match="in use"):
            await create_ws_synchronizer(staff, client, "pets")
        with pytest.raises(ValueError, match="needs a channel id"):
            await create_ws_synchronizer(staff, client)
        plain.set_value("v", 1)
        await eventually(lambda: same_content(pets, plain))
    assert not client.connected


async def test_a_plain_client_has_one_store(server: ListeningWsServer) -> None:
    """A second one is refused; after the first has left, another can have the socket."""
    client = WsClient(url_of(server))
    for _ in range(3):
        async with synced(MergeableStore(), client):
            with pytest.raises(ValueError, match="in use"):
                await create_ws_synchronizer(MergeableStore(), client)
            with pytest.raises(ValueError, match="plain one has none"):
                await create_ws_synchronizer(MergeableStore(), client, "c")
    assert client.connections == 3


async def test_too_many_channels(server: ListeningWsServer) -> None:
    """The peer's bound is kept at the call, connected or not, and the store is free afterwards."""
    client = WsClient(url_of(server, ""), multiplexed=True)
    made = [await create_ws_synchronizer(MergeableStore(), client, f"c{number}") for number in range(MAX_CHANNELS)]
    await eventually(lambda: server.get_stats().paths == MAX_CHANNELS)
    with pytest.raises(LimitExceededError, match="channels"):
        await create_ws_synchronizer(MergeableStore(), client, "one more")
    for synchronizer in made:
        await synchronizer.destroy()
    await eventually(lambda: server.get_stats().connections == 0)


async def test_destroying_one_while_another_is_made(server: ListeningWsServer) -> None:
    """The socket of the one that goes is closed before the one that comes connects; neither disturbs the other."""
    client = WsClient(url_of(server))
    first = await create_ws_synchronizer(MergeableStore(), client)
    store = MergeableStore()
    for _ in range(5):
        destroying = asyncio.create_task(first.destroy())
        while True:
            try:
                first = await within(create_ws_synchronizer(store, client)._create())
                break
            except ValueError:  # still in use
                await asyncio.sleep(0)
        await within(first.start_sync())
        await within(destroying)
        assert first.status == "live"
    await first.destroy()


async def test_server_that_does_not_accept_channels(errors: Errors) -> None:
    """It is reported, and tried again for ever."""

    async def talk(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with fake_server(talk, subprotocols=["tinybase"]) as url:
        client = WsClient(url, multiplexed=True, timeout_seconds=0.05, on_ignored_error=errors.append)
        async with synced(MergeableStore(), client, "c", wait=False):
            await eventually(lambda: client.connections >= 3)
    assert [type(error) for error in errors[:2]] == [RequestTimeoutError] * 2
    assert "hello" in str(errors[0])


async def test_one_channel_waits_and_another_does_not(errors: Errors) -> None:
    """A channel that cannot wait for a connection fails alone; the socket goes on for the other."""
    port = unused_port()
    client = WsClient(f"ws://127.0.0.1:{port}", multiplexed=True, on_ignored_error=errors.append)
    target: Any = client
    one, two = pet("fido"), MergeableStore()
    async with synced(one, target, "c", wait=False) as first:
        with pytest.raises(ConnectionLostError, match="cannot connect"):
            await create_ws_synchronizer(two, client, "d")
        async with create_ws_server("127.0.0.1", port) as server:
            await eventually(lambda: first.status == "live")
            async with synced(two, target, "d"):
                assert sorted(server.get_path_ids()) == ["c", "d"]
            await first.destroy()


async def test_errors_of_channels_go_to_the_client(server: ListeningWsServer, errors: Errors) -> None:
    """Unless a synchronizer has a callback of its own."""

    def fail(*_: object) -> None:
        raise KeyError("callback")

    client = WsClient(url_of(server), multiplexed=True, on_ignored_error=errors.append)
    own: Errors = []
    options: Any = {"on_send": fail}
    async with (
        synced(one := MergeableStore(), client, "a", **options),
        synced(two := MergeableStore(), client, "b", on_ignored_error=own.append, **options),
    ):
        one.set_value("v", 1)
        two.set_value("v", 1)
    assert errors
    assert own


# --- bad servers


@pytest.mark.parametrize(
    ("frame", "code", "reason"),
    [
        ("no newline", 1007, "tinybase:14"),
        ('S\n["r",9,""]', 1007, "tinybase:14"),
        ("S\n" + "x" * MAX_FRAME_BYTES, 1013, "tinybase:15:socket"),
    ],
)
async def test_bad_frames(frame: str, code: int, reason: str, errors: Errors) -> None:
    """A bad frame makes the client close with the peer's code, report once, and connect anew."""
    closed: list[Any] = []
    bad = [frame]

    async def talk(connection: ServerConnection) -> None:
        if bad:
            await connection.send(bad.pop())
        await Hashes()(connection)
        closed.append((connection.close_code, connection.close_reason))

    store = MergeableStore()
    async with fake_server(talk) as url:
        options: Any = {"on_ignored_error": errors.append, "request_timeout_seconds": 60.0}
        async with synced(store, url, **options) as synchronizer:
            await eventually(lambda: synchronizer.client.connections == 2 and synchronizer.status == "live")
            assert closed == [(code, reason)]
    (error,) = errors
    assert isinstance(error, RemoteProtocolError if code == 1007 else LimitExceededError)


async def test_bad_server_is_offline_at_once() -> None:
    """From the moment we find fault, the status says so, though the other side does not close."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send("bad")
        connection.transport.pause_reading()
        await asyncio.sleep(0.3)
        connection.transport.abort()

    statuses: list[str] = []
    async with fake_server(talk) as url:
        options: Any = {"wait": False, "on_ignored_error": lambda _: None, "connect_options": {"close_timeout": 0.2}}
        async with synced(MergeableStore(), url, **options) as synchronizer:
            synchronizer.add_status_listener(lambda _, status: statuses.append(str(status)))
            await eventually(lambda: "offline" in statuses)
            assert not synchronizer.client.connected


async def test_more_than_the_server_reads(errors: Errors) -> None:
    """Above 16 MiB that wait to be read we close our own socket with 1013, as the peer; then it is tried again."""
    closed: list[Any] = []

    async def talk(connection: ServerConnection) -> None:
        await Hashes()(connection)
        closed.append((connection.close_code, connection.close_reason))

    store = MergeableStore()
    async with fake_server(talk) as url:
        # The server has 16 MiB to read before it comes to the close frame.
        patience = {"close_timeout": 60}
        options: Any = {"on_ignored_error": errors.append, "request_timeout_seconds": 0.2, "connect_options": patience}
        async with synced(store, url, **options) as synchronizer:
            store.set_value("v", "x" * (MAX_FRAME_BYTES - 10_000))
            store.set_value("w", "x" * (MAX_FRAME_BYTES // 2))
            await eventually(lambda: synchronizer.client.connections >= 2 and closed)
    assert closed[0] == (1013, "tinybase:15:socket")
    assert isinstance(errors[0], LimitExceededError)


async def test_unexpected_errors_do_not_stop_the_client(
    server: ListeningWsServer, errors: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in acting on a frame is reported, and the client connects anew."""
    store = MergeableStore()
    async with synced(store, url_of(server), on_ignored_error=errors.append) as synchronizer:

        def fail_once(*_: object) -> None:
            monkeypatch.undo()
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(synchronizer._session._core, "receive", fail_once)
        async with synced(pet("fido"), url_of(server)):
            await eventually(lambda: errors and synchronizer.status == "live" and store.has_row("pets", "fido"))
        assert [type(error) for error in errors] == [ZeroDivisionError]
        assert synchronizer.client.connections >= 2


async def test_question_of_the_server_while_stopped(server: ListeningWsServer) -> None:
    """Questions are answered, syncing or not, as by the peer."""
    asked = asyncio.Event()
    answers: list[Any] = []

    async def talk(connection: ServerConnection) -> None:
        await asked.wait()
        await connection.send('S\n["q",7,{}]')
        answers.append(json.loads(str(await connection.recv()).partition("\n")[2]))
        await connection.send("S" + diff_frame())
        await connection.wait_closed()

    store = MergeableStore().set_value("v", 1)
    async with fake_server(talk) as url:
        synchronizer = await create_ws_synchronizer(store, url)
        asked.set()
        await eventually(lambda: answers)
        assert answers[0][:2] == ["q", 0]
        assert answers[0][2][0]["v"][0] == 1
        await synchronizer.destroy()


async def test_fragments(server: ListeningWsServer) -> None:
    """Long messages can be sent in pieces, either way."""
    backend = Backend()
    async with create_ws_server("localhost", 0, backend, fragment_size=1000) as pieces:
        one, two = MergeableStore().set_value("v", "ü" * 10_000), MergeableStore().set_value("w", "€" * 10_000)
        async with synced(one, url_of(pieces), fragment_size=500), synced(two, url_of(pieces)):
            await eventually(lambda: same_content(one, two))
            one.set_value("x", "y" * 20_000)
            await eventually(lambda: two.has_value("x"))
        assert pieces.get_stats().receives > 40
