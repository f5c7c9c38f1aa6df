"""Who may write what, through which door: the rules of a shop, told a second time as a table, and compared."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection

from mergesync import (
    Access,
    Changes,
    Client,
    ClientInfo,
    GatewaySocket,
    Identity,
    MergeableStore,
    RefusedError,
    RequestFailedError,
    ServerPath,
    WsServer,
    allow_write,
    allow_write_value,
    create_ws_server,
)
from mergesync.net.client import WsClient
from mergesync.net.listening import ListeningWsServer
from mergesync.sync.payloads import fragments_of
from mergesync.system import get_now, new_id
from tests.support import eventually, same_content, within
from tests.unit.net.kit import mux, raw, subscribed, synced, url_of

NAMES: Final = ("ann", "bob", "eve", "guest")
PATHS: Final = {"shop": ("ann", "bob", "guest"), "archive": ("ann",), "shop/sub": NAMES}
"""Who may write at all."""

TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "pets/fido/price": ("ann", "bob"),
    "pets/fido/name": NAMES,
    "pets/felix/price": ("ann", "bob"),
    "pets/felix/name": (),
    "messages/of ann/text": ("ann",),
    "messages/of bob/text": ("bob",),
    "messages/new/own": NAMES,
    "messages/new/as another": (),
    "admin/settings/color": ("ann",),
    "title": ("ann",),
    "other": (),
}
"""Who may write it, where it may write at all."""

RULES: Final = [
    allow_write("pets", cell_id="price", to=["ann", "bob"]),
    allow_write("pets", "fido", "name"),
    allow_write("messages", owner="author"),
    allow_write("admin", to=lambda client: client.identity is not None and client.identity.data == "admin"),
    allow_write_value("title", to={"ann"}),
]

DOORS: Final = ("frame", "fragments", "channel", "pull", "channel pull", "gateway", "gateway on a condition")
REVIEWED_DOORS: Final = [
    *((door, "rules") for door in DOORS),
    *itertools.product(("frame", "channel pull", "gateway"), ("plain hook", "async hook")),
]


def authorize(info: ClientInfo) -> Identity:
    """Everybody is who they say."""
    return Identity(info.token or "guest", data="admin" if info.token == "ann" else "user")


def admit(path_id: str, client: Client) -> Access:
    """Who may write at all."""
    assert client.identity is not None
    return Access(write=client.identity.name in PATHS[path_id])


def by_hand(path: ServerPath, client: Client, changes: Changes) -> None:
    """The rules once more, as a hook."""
    assert client.identity is not None
    name = client.identity.name
    for table_id, table in changes.tables.items():
        for row_id, row in table.items():
            for cell_id in row:
                if table_id == "messages":
                    author = path.store.get_cell(table_id, row_id, "author") or row.get("author")
                    allowed = author == name
                elif table_id == "pets":
                    allowed = (cell_id == "price" and name in ("ann", "bob")) or (row_id, cell_id) == ("fido", "name")
                else:
                    allowed = table_id == "admin" and name == "ann"
                if not allowed:
                    raise RefusedError(f"{name} may not write {table_id}")
    if any(value_id != "title" or name != "ann" for value_id in changes.values):
        raise RefusedError("not this value")


async def by_hand_later(path: ServerPath, client: Client, changes: Changes) -> None:
    """The same, async."""
    await asyncio.sleep(0)
    by_hand(path, client, changes)


def leaves_for(target: str, name: str, row_id: str, word: str) -> list[tuple[str | None, str, str, Any]]:
    """What is written in a case: `(table, row, cell, value)`."""
    if "/" not in target:
        return [(None, "", target, word)]
    table_id, row, cell_id = target.split("/")
    if row == "new":
        author = name if cell_id == "own" else "somebody"
        return [(table_id, row_id, "author", author), (table_id, row_id, "text", word)]
    return [(table_id, row, cell_id, word)]


async def gateway(socket: GatewaySocket) -> None:
    """Frames are `[tables, values, whether on a condition]`, answered by whether they were let through."""
    member = await socket.join(socket.path_id)
    async for frame in socket:
        tables, values, on_condition = json.loads(frame)
        try:
            if on_condition:
                await member.compare_and_set(member.version(), (tables, values))
            else:
                await member.change((tables, values))
        except (RefusedError, RequestFailedError):
            socket.send("refused")
        else:
            socket.send("done")


class Listener:
    """Somebody on a path who keeps every byte."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.heard: list[str] = []
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for frame in self._connection:
            self.heard.append(str(frame))

    @property
    def text(self) -> str:
        """What it has heard, the fragments of messages joined."""
        return "".join(frame.rpartition("\n")[2] for frame in self.heard)

    async def caught_up(self) -> None:
        """Everything that was sent to it before is here."""
        mark = new_id(8)
        await self._connection.send(f'S\n["{mark}",1,""]')
        await eventually(lambda: mark in self.heard[-1])

    async def stop(self) -> None:
        """Listen no more."""
        self._task.cancel()
        await asyncio.wait([self._task])


@asynccontextmanager
async def shop(review: str) -> AsyncIterator[ListeningWsServer]:
    """A server with rules of one kind, and messages of two people."""
    kinds: dict[str, dict[str, Any]] = {
        "rules": {"rules": RULES},
        "plain hook": {"on_changes": by_hand},
        "async hook": {"on_changes": by_hand_later},
    }
    hooks = kinds[review]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            create_ws_server(
                "127.0.0.1",
                0,
                authorize=authorize,
                admit=admit,
                gateways={"/gateway": gateway},
                on_ignored_error=lambda _: None,
                **hooks,
            )
        )
        for path_id in PATHS:
            path = await stack.enter_async_context(server.open_path(path_id))
            for name in ("ann", "bob"):
                path.store.set_row("messages", f"of {name}", {"author": name, "text": "before"})
        yield server


async def write(
    server: ListeningWsServer, door: str, path_id: str, name: str, leaves: list[tuple[str | None, str, str, Any]]
) -> MergeableStore | None:
    """Write through a door; returns when the server has decided, with the writer's store if it has one."""
    store = MergeableStore()
    for table_id, row_id, leaf_id, value in leaves:
        if table_id is None:
            store.set_value(leaf_id, value)
        else:
            store.set_cell(table_id, row_id, leaf_id, value)
    base, _, channel = path_id.rpartition("/")
    if door == "pull":
        async with synced(store, url_of(server, path_id), token=name) as synchronizer:
            return await settled(server, path_id, store, synchronizer)
    if door == "channel pull":
        client = WsClient(url_of(server, base), multiplexed=True, token=name)
        async with synced(store, client, channel) as synchronizer:
            return await settled(server, path_id, store, synchronizer)
    if door.startswith("gateway"):
        async with raw(f"{url_of(server, f'gateway/{path_id}')}?token={name}") as connection:
            await connection.send(json.dumps([*store.get_content(), door != "gateway"]))
            assert await within(connection.recv()) in ("done", "refused")
        return None
    tables, values = store.get_mergeable_content()
    text = json.dumps(["t", 3, [_bare(tables, 3), _bare(values, 1), 1]])
    remainders = fragments_of(text, 20, new_id) if door == "fragments" else [text]
    if door == "channel":
        async with mux(f"{url_of(server, base)}?token={name}") as connection:
            await subscribed(connection, channel)
            await connection.send(f"M\n{channel}\n\n{text}")
            await barrier(connection, f"M\n{channel}\nS\n")
    else:
        async with raw(f"{url_of(server, path_id)}?token={name}") as connection:
            for remainder in remainders:
                await connection.send(f"\n{remainder}")
            await barrier(connection, "S\n")
    return None


def _bare(stamp: list[Any], depth: int) -> list[Any]:
    """A stamp as it travels: leaves have their HLCs, nothing has a hash."""
    if depth == 0:
        return stamp[:2]
    return [{id_: _bare(child, depth - 1) for id_, child in stamp[0].items()}]


async def barrier(connection: ClientConnection, address: str) -> None:
    """Return when the server has acted on all that was sent before."""
    await connection.send(f'{address}["mark",1,""]')
    while '"mark"' not in str(await within(connection.recv())):
        pass


async def settled(server: WsServer, path_id: str, store: MergeableStore, synchronizer: Any) -> MergeableStore:
    """The writer ends equal to the server, whatever was decided."""
    path = server.path(path_id)
    assert path is not None
    await eventually(lambda: synchronizer.status == "live" and same_content(store, path.store))
    return store


CASES: Final = list(itertools.product(NAMES, TARGETS))


def test_there_are_enough_cases() -> None:
    """Each identity, target and path with each door."""
    assert len(CASES) * len(PATHS) * len(DOORS) >= 600


@pytest.mark.parametrize(("door", "review"), REVIEWED_DOORS)
async def test_who_may_write_what(door: str, review: str) -> None:
    """What is allowed everybody gets; of what is refused nobody gets a byte, and the server has nothing."""
    async with shop(review) as server, AsyncExitStack() as stack:
        for path_id, writers in PATHS.items():
            connection = await stack.enter_async_context(raw(f"{url_of(server, path_id)}?token=guest"))
            listener = Listener(connection)
            path = server.path(path_id)
            assert path is not None
            for number, (name, target) in enumerate(CASES):
                word = f"<{path_id} {number}>"
                leaves = leaves_for(target, name, f"new {number}", word)
                await write(server, door, path_id, name, leaves)
                allowed = name in writers and name in TARGETS[target]
                table_id, row_id, leaf_id, _ = leaves[-1]
                store = path.store
                now = store.get_value(leaf_id) if table_id is None else store.get_cell(table_id, row_id, leaf_id)
                assert (now == word) is allowed, (door, path_id, name, target)
                await listener.caught_up()
                assert (word in listener.text) is allowed, (door, path_id, name, target)
            path.store._check()
            await listener.stop()


async def test_a_secret_path_does_not_leak_through_any_door() -> None:
    """Who may not read gets no byte of it, whatever it asks and writes; nor does who is not let in."""
    secret = "secret"

    def admit_few(path_id: str, client: Client) -> Access:
        assert client.identity is not None
        if client.identity.name == "eve":
            raise RefusedError("not you")
        return Access(read=client.identity.name == "ann", write=client.identity.name != "guest")

    heard: list[str] = []
    server = await create_ws_server(
        "127.0.0.1", 0, authorize=authorize, admit=admit_few, on_ignored_error=lambda _: None
    )
    async with server, server.open_path("p") as path:
        path.store.set_cell(secret, secret, secret, secret).set_value(secret, secret)
        stamp = path.store.get_mergeable_content()[1][0][secret][1]
        questions = [
            *(["q", 1, ""], ["q", 2, [1, 2]], ["t", 3, [[{}], [{secret: ["mine", stamp]}], 1]]),
            *(["q", 4, {}], ["q", 5, {secret: {}}], ["q", 6, {secret: {secret: {}}}], ["q", 7, {}]),
        ]
        for name in ("bob", "guest"):
            async with (
                raw(f"{url_of(server)}?token={name}") as connection,
                mux(f"{url_of(server, '')}?token={name}") as m,
            ):
                await subscribed(m, "p")
                for question in questions:
                    text = json.dumps(question)
                    await connection.send(f"S\n{text}")
                    await m.send(f"M\np\nS\n{text}")
                path.store.set_value(secret, f"another {secret} at {get_now()}")
                for each, address in ((connection, "S\n"), (m, "M\np\nS\n")):
                    await each.send(f'{address}["mark",1,""]')
                    while '"mark"' not in (heard and heard[-1]):
                        heard.append(str(await within(each.recv())))
                    heard.append("")
        assert len(heard) > 20
        assert not [frame for frame in heard if secret in frame]
