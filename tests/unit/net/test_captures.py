"""What a client may not read is in no byte that it is sent: all bytes of a socket are kept, and searched."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mergesync import (
    Access,
    Changes,
    Client,
    ClientInfo,
    GatewaySocket,
    Identity,
    MergeableStore,
    MergesyncError,
    RefusedError,
    ServerPath,
    WsClient,
    create_ws_server,
)
from mergesync.gateways import message_broker, room_server, state_sync, wsss
from mergesync.net.listening import ListeningWsServer
from mergesync.store.jsjson import dumps
from mergesync.sync.payloads import fragments_of
from mergesync.sync.subprotocols import EXTENDED, EXTENDED_CHANNELS
from mergesync.system import new_id
from tests.support import eventually, within

from .kit import Proxy, raw, synced

VAULT: Final = "vault"
MARK: Final = "every mark"

WORDS: Final = (
    *("table word", "row word", "cell word", "text word", "value id word", "value word"),  # what was there before
    *("frame word", "channel word", "pull word", "gateway word", "action word", "server word"),  # written meanwhile
    *("refused word", "identity word", "name word", "presence word", "message word", "question word", "answer word"),
    *("result word", "room word", "state word", "client state word", "document word", "broker word"),
)
"""Whatever is said and done on the path, with a word of its own in it."""

SPIES: Final = ("blind", "stranger")
"""Who may write and not read, and who is not let in."""

DOORS: Final = (
    *("frame", "fragments", "channel", "operations", "operations of a channel", "synchronizer", "its channel"),
    *("companion", "channel of the companion", "gateway", "wsss", "room_server", "state_sync", "message_broker"),
)


# --- the server


def authorize(info: ClientInfo) -> Identity:
    """Everybody is who they say; the name of an insider is a secret."""
    return Identity("identity word" if info.token == "insider" else str(info.token))


def admit(path_id: str, client: Client) -> Access:
    """Insiders may do everything; of the spies one may write, and the other may not even come."""
    assert client.identity is not None
    if path_id != VAULT or client.identity.name == "identity word":
        return Access()
    if client.identity.name == "stranger":
        raise RefusedError("not you")
    return Access(read=False, presence=False, actions=False)


def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
    """One word is not wanted; of what spies write something is kept, and something is not."""
    if "refused word" in changes.values.values():
        raise RefusedError("not this word")
    if "spy" in str([changes.tables, changes.values]):
        changes.tables.clear()
        changes.values.clear()
        changes.values["caught"] = True


async def relay_all(socket: GatewaySocket) -> None:
    """A gateway that sends all that there is, and whatever changes."""
    member = await socket.join(socket.path_id)
    member.on_transaction = lambda _: socket.send(dumps(member.store.get_content()))
    member.on_message = lambda *message: socket.send(dumps(message[:2]))
    socket.send(dumps([member.store.get_content(), member.store.get_mergeable_content()]))
    async for frame in socket:
        try:
            await member.change(json.loads(frame))
        except MergesyncError as error:
            socket.send(f"refused: {error}")


GATEWAYS: Final = {
    "/gateway": relay_all, "/wsss": wsss(), "/room_server": room_server(), "/state_sync": state_sync(),
    "/message_broker": message_broker(),
}  # fmt: skip


@asynccontextmanager
async def vault() -> AsyncIterator[ListeningWsServer]:
    """A server whose vault has much in it."""
    options: Any = {"authorize": authorize, "admit": admit, "on_changes": on_changes, "gateways": GATEWAYS}
    async with create_ws_server(
        "127.0.0.1", 0, presence=True, fragment_size=100, on_ignored_error=lambda _: None, **options
    ) as server:

        @server.action("tell")
        def tell(path: ServerPath, client: Client, data: Any) -> Any:
            path.store.set_value("told", data)
            return "result word"

        async with server.open_path(VAULT) as path:
            path.store.set_cell("table word", "row word", "cell word", "text word").set_value(
                "value id word", "value word"
            )
            yield server


def numbers_of(store: MergeableStore) -> Iterator[str]:
    """The hashes and stamps of what is in a store, as they would stand in a message."""
    said = dumps([store.get_mergeable_content_hashes(), store.get_mergeable_content()])
    yield from re.findall(r"\b[0-9]{6,10}\b", said)
    yield from re.findall(r'"([-0-9A-Z_a-z]{16})"', said)


# --- what is done in the vault


async def live(server: ListeningWsServer, proxy: Proxy) -> None:
    """Insiders say each word, through one door or another; returns when all have heard all."""
    url = f"ws://127.0.0.1:{proxy.port}"
    path = server.path(VAULT)
    assert path is not None
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        store, rows, channel = MergeableStore(), MergeableStore(), MergeableStore()
        one = await enter(synced(store, f"{url}/{VAULT}", token="insider", name="name word"))
        link = WsClient(f"{url}/", multiplexed=True, token="insider")
        two = await enter(synced(channel, link, VAULT, name="another"))
        await enter(synced(rows, link, f"{VAULT}/~clients"))
        two.add_message_listener(lambda sender, message: "answer word" if message == "question word" else None)
        await eventually(lambda: one.name and two.name)
        store.set_value("frame", "frame word")
        channel.set_value("channel", "channel word")
        path.store.set_value("server", "server word")
        await enter(synced(MergeableStore().set_value("pull", "pull word"), f"{url}/{VAULT}", token="insider"))
        store.set_value("refused", "refused word")
        await within(one.set_presence({"mood": "presence word"}))
        assert (await within(one.send("another", "message word"))).delivered
        assert (await within(one.ask("another", "question word")))[1] == "answer word"
        assert await within(one.act("tell", "action word")) == "result word"
        for door, frames in FOREIGN.items():
            foreign = await enter(raw(f"{url}/{door}/{VAULT}?token=insider&identifier=i&client=c"))
            for frame in frames:
                await foreign.send(frame)
            if door == "wsss":
                version = json.loads(await within(foreign.recv()))["version"]
                update = {"id": "i", "roomName": VAULT, "version": version, "update": {"said": "document word"}}
                await foreign.send(json.dumps(update))
        for word in ("room word", "state word", "gateway word", "document word"):
            await eventually(lambda word=word: word in dumps(store.get_values()))  # type: ignore[misc]
        await eventually(lambda: "client state word" in dumps(rows.get_tables()))
        await eventually(lambda: not store.has_value("refused") and channel.get_content() == store.get_content())


FOREIGN: Final = {
    "gateway": ['[{},{"gateway":"gateway word"}]'],
    "room_server": [
        '{"protocol":"websocket-room-server:1","roomProtocol":"x","roomId":"vault",'
        '"clientState":{"a":"client state word"}}',
        '{"type":2,"roomChanges":[{"key":"room","value":"room word"}]}',
    ],
    "state_sync": [
        '{"type":2,"data":{"stateIdentifier":"vault"}}',
        '{"type":3,"data":{"updates":{"sync":"state word"}}}',
    ],
    "wsss": ['{"id":"i","roomName":"vault"}'],
    "message_broker": [
        '{"action":"register","id":"broker"}',
        '{"action":"send","dest":["name word","another"],"message":"broker word"}',
    ],
}
"""What clients of gateways say in the vault."""


# --- what spies do


def questions(server: ListeningWsServer) -> list[str]:
    """All that the protocol allows to be asked or said, about what is there and about what is not."""
    path = server.path(VAULT)
    assert path is not None
    stamp = path.store.get_mergeable_content()[1][0]["value id word"][1]
    later = MergeableStore().set_value("v", "a spy was here").get_mergeable_content()[1][0]["v"][1]
    asked: list[Any] = [
        *(["q", 1, ""], ["q", 2, [1, 2]], ["q", 4, {}], ["q", 5, {"table word": {}}]),
        *(["q", 6, {"table word": {"row word": {}}}], ["q", 7, {}]),
        ["t", 3, [[{}], [{"value id word": ["spy", stamp]}], 1]],
        ["t", 3, [[{}], [{"value id word": ["spy", later]}], 1]],
        [
            None,
            3,
            [[{"table word": [{"row word": [{"cell word": ["spy", later]}]}]}], [{"v": ["x", "zzzzzzzzzzzzzzzz"]}], 1],
        ],
    ]
    return [json.dumps(each) for each in asked]


OPERATIONS: Final = [
    *(["1", "hello", None], ["2", "stored", True], ["3", "compare", [None, None, {"table word": [None, None, None]}]]),
    *(["4", "compare", [[], None, {}]], ["5", "cas", ['[[],"0,0"]', [{}, {"value id word": "spy"}]]]),
    *(["6", "cas", ['[["value id word"],""]', [{}, {"v": "spy"}]]], ["7", "act", ["tell", "spy", None, 5]]),
    *(["8", "name", ["name word", ""]], ["9", "name", ["spy", ""]], ["10", "send", [None, "spy"]]),
    *(["11", "ask", [None, "spy", 5]], ["12", "presence", {"mood": "spy"}], ["13", "token", "spy"]),
]
"""What else a client of mergesync may ask."""


async def until_marked(connection: ClientConnection, address: str) -> None:
    """Return when the server has acted on all that was sent before, or has closed the socket."""
    try:
        await connection.send(f'{address}["{MARK}",1,""]')
        while MARK not in str(await within(connection.recv())):
            pass
    except ConnectionClosed:
        pass


async def spy(stack: AsyncExitStack, server: ListeningWsServer, door: str, url: str, who: str) -> Any:
    """Come in by a door; returns what asks everything there is, and returns when that is answered."""
    enter = stack.enter_async_context
    query = f"?token={who}&identifier=i&client=c"
    if door in ("synchronizer", "its channel"):
        client = WsClient(
            f"{url}/" if "channel" in door else f"{url}/{VAULT}",
            multiplexed="channel" in door,
            token=who,
            on_ignored_error=lambda _: None,
        )
        options: Any = {"wait": False, "name": "name word", "on_ignored_error": lambda _: None}
        store = MergeableStore()
        synchronizer = await enter(synced(store, client, *([VAULT] if "channel" in door else []), **options))

        async def play() -> None:
            store.set_value("v", "spy")
            for asking in (
                synchronizer.act("tell", "spy", timeout_seconds=0.5),
                synchronizer.set_presence({"mood": "spy"}, timeout_seconds=0.5),
                synchronizer.compare_and_set(synchronizer.version(), ({}, {"v": "spy"}), timeout_seconds=0.5),
            ):
                with pytest.raises(MergesyncError):
                    await asking

        return play
    place = f"{VAULT}/~clients" if "companion" in door else VAULT
    address = f"M\n{place}\n" if "channel" in door else ""
    subprotocols: Any = None
    if "operations" in door:
        subprotocols = ["tinybase", EXTENDED_CHANNELS] if address else ["plain", EXTENDED]
    elif address:
        subprotocols = ["tinybase"]
    prefix = f"{door}/" if door in FOREIGN else ""
    target = f"{url}/{query}" if address else f"{url}/{prefix}{place}{query}"
    connection = await enter(raw(target, subprotocols=subprotocols))
    if address:
        await connection.send('S\n["hello",-1,[0,1]]')
        await connection.send("S\n" + json.dumps(["sub", -1, [1, place]]))

    async def ask() -> None:
        if door in FOREIGN:
            for frame in FOREIGN[door]:
                await send(connection, frame.replace("word", "spy"))
            return
        for question in questions(server):
            for remainder in fragments_of(question, 20 if door == "fragments" else None, new_id):
                await send(connection, f"{address}S\n{remainder}")
                await send(connection, f"{address}\n{remainder}")
        for operation in OPERATIONS if "operations" in door else ():
            await send(connection, f"{address}X\n{json.dumps(operation)}")
        if who == "blind" and "companion" not in door:
            await until_marked(connection, f"{address}S\n")

    return ask


async def send(connection: ClientConnection, frame: str) -> None:
    """Send a frame, if the socket is still open."""
    with suppress(ConnectionClosed):
        await connection.send(frame)


# --- what was captured


def frames_in(heard: bytearray) -> Iterator[str]:
    """The WebSocket frames that a server sent on a connection, after its answer to the request."""
    _, _, rest = bytes(heard).partition(b"\r\n\r\n")
    while len(rest) >= 2:
        size, begins = rest[1], 2
        if size >= 126:
            begins = 4 if size == 126 else 10
            size = int.from_bytes(rest[2:begins], "big")
        yield rest[begins : begins + size].decode("utf-8", "replace")
        rest = rest[begins + size :]


def everything_in(heard: bytearray) -> str:
    """What came on a connection: all bytes as they are, and the pieces of messages joined."""
    joined: dict[str, list[str]] = {}
    for frame in frames_in(heard):
        piece = re.search(r"(?:^|\n)([-0-9A-Z_a-z]{16})\n[0-9]+\n[0-9]+\n(.*)", frame, re.DOTALL)
        if piece is not None:
            joined.setdefault(piece[1], []).append(piece[2])
    return "\n".join([heard.decode("utf-8", "replace"), *map("".join, joined.values())])


async def captured(who: str, door: str) -> tuple[str, str, set[str]]:
    """What a spy was sent, and what insiders were, with all hashes and stamps that there ever were."""
    secret: set[str] = set()
    async with vault() as server, server.open_path(f"{VAULT}/~clients") as rows:
        path = server.path(VAULT)
        assert path is not None
        for store in (path.store, rows.store):
            secret.update(numbers_of(store))
            store.add_did_finish_transaction_listener(lambda store: secret.update(numbers_of(store)))
        async with (
            Proxy(lambda: server.port) as theirs,
            Proxy(lambda: server.port) as ours,
            AsyncExitStack() as stack,
        ):
            ask = None
            try:
                ask = await spy(stack, server, door, f"ws://127.0.0.1:{theirs.port}", who)
                await ask()
            except InvalidStatus as refusal:
                assert who == "stranger" or door == "companion"
                assert refusal.response.status_code == 403  # noqa: PT017
            await live(server, ours)
            if ask is not None:
                await ask()
            await server.destroy()
        texts = ["\n".join(map(everything_in, proxy.heard)) for proxy in (theirs, ours)]
        return texts[0], texts[1], secret


@pytest.mark.parametrize("who", SPIES)
@pytest.mark.parametrize("door", DOORS)
async def test_no_byte_of_it(door: str, who: str) -> None:
    """Whatever a spy asks, and whatever happens meanwhile: no word, no id, no stamp and no hash comes to it."""
    spied, ours, secret = await captured(who, door)
    assert len(spied) > 100
    assert [word for word in WORDS if word not in ours] == ["refused word"], "the search finds what is there"
    assert len({number for number in secret if number in ours}) > 20
    assert [spied[max(0, at - 200) : at + 50] for word in WORDS for at in [spied.find(word)] if at >= 0] == []
    assert {number for number in secret if number in spied} == set()
