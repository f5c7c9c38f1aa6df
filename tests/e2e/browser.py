"""Headless Chromium, driven over its own debugging protocol, and a folder served to it."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from tests.support import eventually

__all__ = ["Page", "chromium", "opened_page", "serving_folder"]

_FLAGS: Final = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
]
_SECONDS: Final = 30.0


def chromium() -> str | None:
    """The executable, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving_folder(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; gives its URL."""
    handler = partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Page:
    """A page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last_id = 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the debugging protocol."""
        self._last_id += 1
        await self._connection.send(json.dumps({"id": self._last_id, "method": method, "params": parameters}))
        async with asyncio.timeout(_SECONDS):
            while True:
                message = json.loads(await self._connection.recv())
                if message.get("id") == self._last_id:
                    assert "error" not in message, message
                    return message["result"]

    async def evaluate(self, expression: str) -> Any:
        """What an expression gives, awaited and as JSON; an exception in the page is one here."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(_SECONDS):
            while not await self.evaluate(f"!!({expression})"):  # noqa: ASYNC110 - a page sets no event of ours
                await asyncio.sleep(0.05)


@asynccontextmanager
async def opened_page(executable: str, profile: Path, url: str) -> AsyncIterator[Page]:
    """A page in a browser of its own."""
    with (profile.parent / "chromium.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            executable, *_FLAGS, f"--user-data-dir={profile}", "about:blank", stdout=log, stderr=log
        )
    try:
        port_file = profile / "DevToolsActivePort"
        await eventually(lambda: len(port_file.read_text().split()) == 2, _SECONDS)
        targets = f"http://127.0.0.1:{port_file.read_text().split()[0]}/json"
        await eventually(lambda: _first_page(targets), _SECONDS)
        async with connect(_first_page(targets), max_size=None) as connection:
            page = Page(connection)
            await page.call("Page.enable")
            await page.call("Page.navigate", url=url)
            yield page
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _first_page(targets: str) -> str:
    with urllib.request.urlopen(targets, timeout=_SECONDS) as answer:
        found = json.load(answer)
    return next(str(target["webSocketDebuggerUrl"]) for target in found if target["type"] == "page")
