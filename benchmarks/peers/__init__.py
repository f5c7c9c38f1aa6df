"""What is measured, each in a process of its own: stores, servers and clients, ours and those of others."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.figures import OURS
from benchmarks.processes import LOAD_CORE, SERVER_CORE, PeerError, Worker
from tests.conformance.nodepeer import NodeUnavailableError, ensure_node

__all__ = ["CLIENTS", "SERVERS", "STORES", "ServerStart", "Start", "install"]

Start: TypeAlias = Callable[[], Worker]
ServerStart: TypeAlias = Callable[[str, Path], Worker]
"""Starts a server, with a kind of storage (`memory`, `file`, `sqlite`) in a folder; it says its port when ready."""

_FOLDER: Final = Path(__file__).parents[1] / "node"
_INSTALL_SECONDS: Final = 1800


def _node(script: str, *arguments: str, core: int | None = None) -> Worker:
    try:
        node = ensure_node()
    except NodeUnavailableError as error:
        raise PeerError(str(error)) from error
    command = [node, "--expose-gc", "--max-old-space-size=8192", str(_FOLDER / script), *arguments]
    return Worker(command, core=core)


def _python(module: str, *arguments: str, core: int | None = None) -> Worker:
    return Worker.python(f"peers.{module}", *arguments, core=core)


STORES: Final[Mapping[str, Start]] = {
    OURS: partial(_python, "mergesync_store"),
    "tinybase": partial(_node, "tinybase_store.mjs"),
    "yjs": partial(_node, "yjs_store.mjs"),
    "pycrdt": partial(_python, "pycrdt_store"),
    "loro": partial(_python, "loro_store"),
    "automerge": partial(_node, "automerge_store.mjs"),
}
"""Stores: they use all processors, as garbage collectors do."""


def _node_server(script: str, storage: str, folder: Path) -> Worker:
    return _node(script, storage, str(folder), core=SERVER_CORE)


def _python_server(module: str, storage: str, folder: Path) -> Worker:
    return _python(module, storage, str(folder), core=SERVER_CORE)


SERVERS: Final[Mapping[str, ServerStart]] = {
    OURS: partial(_python_server, "mergesync_server"),
    "tinybase": partial(_node_server, "tinybase_server.mjs"),
    "y-websocket": partial(_node_server, "y_websocket_server.mjs"),
    "hocuspocus": partial(_node_server, "hocuspocus_server.mjs"),
    "pycrdt-websocket": partial(_python_server, "pycrdt_server"),
}

CLIENTS: Final[Mapping[str, Start]] = {
    OURS: partial(_python, "mergesync_client", core=LOAD_CORE),
    "tinybase": partial(_node, "tinybase_client.mjs", core=LOAD_CORE),
    "y-websocket": partial(_python, "yjs_client", "y-websocket", core=LOAD_CORE),
    "hocuspocus": partial(_python, "yjs_client", "hocuspocus", core=LOAD_CORE),
    "pycrdt-websocket": partial(_python, "yjs_client", "y-websocket", core=LOAD_CORE),
}
"""Clients of the same make as the server; those of the servers for Yjs are in Python, with pycrdt behind them."""


@cache
def install() -> None:
    """Install the peers on Node, unless they are there; those in Python are a group of dependencies.

    Without some of them the others are measured nevertheless.
    """
    ensure_node()
    wanted = hashlib.sha256((_FOLDER / "package-lock.json").read_bytes()).hexdigest()
    mark = _FOLDER / "node_modules" / ".installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    npm = shutil.which("npm")
    assert npm is not None, "ensure_node has found it"
    command = [npm, "ci", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=_FOLDER, check=True, timeout=_INSTALL_SECONDS)
    mark.write_text(wanted)
