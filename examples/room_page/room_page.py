"""A room in a web page: who is there, and messages that only their authors may change. No build step, no CDN.

Needs `pip install starlette uvicorn`, and `npm install` in this folder; then open http://localhost:8047/?name=ann.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mergesync import Client, ClientInfo, Identity, RefusedError, ServerPath, WsServer, allow_write

FOLDER = Path(__file__).parent


def authorize(info: ClientInfo) -> Identity:
    if not info.token:  # here a name that anybody may say; elsewhere something that proves it
        raise RefusedError("tell your name")
    return Identity(info.token)


def on_presence(path: ServerPath, client: Client, state: dict[str, object]) -> None:
    state["mood"] = str(state.get("mood", ""))[:20]


ws_server = WsServer(
    authorize=authorize, rules=[allow_write("messages", owner="author")], on_presence=on_presence, presence=True
)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with ws_server:
        yield


app = Starlette(
    routes=[
        Route("/", lambda _: FileResponse(FOLDER / "index.html")),
        Mount("/tinybase", StaticFiles(directory=FOLDER / "node_modules" / "tinybase")),
        Mount("/sync", ws_server.asgi),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, host="localhost", port=8047)
