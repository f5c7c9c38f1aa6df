"""A room with a service behind it: who comes in, who writes what, who is there, and what the server writes itself."""

import asyncio
from collections.abc import Callable

from mergesync import (
    Access,
    Changes,
    Client,
    ClientInfo,
    Identity,
    MergeableStore,
    RefusedChangesError,
    RefusedConnectionError,
    RefusedError,
    ServerPath,
    allow_write,
    create_ws_server,
    create_ws_synchronizer,
)

URL = "ws://localhost:8047/guestbook"


# On the server:
def authorize(info: ClientInfo) -> Identity:
    if not info.token:
        raise RefusedError("tell your name")
    return Identity(info.token)


def admit(path_id: str, client: Client) -> Access:
    return Access(write=client.identity != Identity("visitor"))


def on_changes(path: ServerPath, client: Client, changes: Changes) -> None:
    for entry in changes.tables.get("entries", {}).values():
        if "damn" in str(entry.get("text")):
            raise RefusedError("no swearing")
        if "author" in entry:
            entry["number"] = path.store.get_row_count("entries") + 1


def on_join(path: ServerPath, client: Client) -> None:
    print(f"{client.info.token} comes")


def on_leave(path: ServerPath, client: Client, reason: str) -> None:
    print(f"{client.info.token} has {reason}")


def on_ignored_error(error: Exception) -> None:
    if isinstance(error, RefusedChangesError):
        print("refused:", *error.reasons)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def main() -> None:
    server = await create_ws_server(
        "localhost",
        8047,
        authorize=authorize,
        admit=admit,
        rules=[allow_write("entries", owner="author")],
        on_changes=on_changes,
        on_join=on_join,
        on_leave=on_leave,
        on_ignored_error=on_ignored_error,
    )
    async with server.open_path("guestbook") as path:
        path.store.set_value("title", "Guests")

        # On clients:
        try:
            await create_ws_synchronizer(MergeableStore(), URL)
        except RefusedConnectionError as refusal:
            print(refusal.status)  # -> 401

        ann, visitor = MergeableStore(), MergeableStore()
        async with create_ws_synchronizer(ann, URL, token="ann"):
            # -> ann comes
            print(ann.get_values())  # -> {"title": "Guests"}
            ann.set_row("entries", "1", {"author": "ann", "text": "Lovely."})
            await until(lambda: ann.has_cell("entries", "1", "number"))
            print(ann.get_row("entries", "1"))  # -> {"author": "ann", "text": "Lovely.", "number": 1}

            ann.set_cell("entries", "1", "text", "damn!")
            # -> refused: no swearing
            await until(lambda: ann.get_cell("entries", "1", "text") == "Lovely.")

            async with create_ws_synchronizer(visitor, URL, token="visitor"):
                # -> visitor comes
                visitor.set_cell("entries", "1", "text", "Kilroy was here")
                # -> refused: the client may only read
                await until(lambda: visitor.get_cell("entries", "1", "text") == "Lovely.")
            await until(lambda: len(path.clients) == 1)
            # -> visitor has left
        await until(lambda: not path.clients)
        # -> ann has left
        print(path.store.get_table("entries"))  # -> {"1": {"author": "ann", "text": "Lovely.", "number": 1}}
    await server.destroy()


asyncio.run(main())
