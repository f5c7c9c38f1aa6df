"""A page that shares a JSON document with others, and needs nothing but a browser: no npm, no CDN, no build step.

Open http://localhost:8047/ in two windows. `document.js` may be taken as it is into a page of your own.
"""

import asyncio
from http import HTTPStatus
from pathlib import Path

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from mergesync import create_ws_server
from mergesync.gateways import wsss

FOLDER = Path(__file__).parent
FILES = {"/": ("index.html", "text/html"), "/document.js": ("document.js", "text/javascript")}


def serve_file(connection: ServerConnection, request: Request) -> Response | None:
    if request.path not in FILES or "Upgrade" in request.headers:
        return None
    name, kind = FILES[request.path]
    response = connection.respond(HTTPStatus.OK, (FOLDER / name).read_text())
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = f"{kind}; charset=utf-8"
    return response


async def main() -> None:
    options = {"process_request": serve_file}
    async with create_ws_server("localhost", 8047, gateways={"/wsss": wsss()}, serve_options=options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
