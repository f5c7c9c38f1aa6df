"""`mergesync watch`, `get`, `set` and `delete` with a server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mergesync import MergeableStore, create_ws_server, create_ws_synchronizer
from mergesync.cli import main
from tests.served import Served, environment, mergesync
from tests.support import eventually


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without storage."""
    with Served(tmp_path_factory.mktemp("served"), "--persist", "sqlite:x.db") as served:
        yield served.url


Call = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int | str | None, str, str]:
        code = main(arguments)
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return call


def _call(*arguments: str) -> tuple[int, str, str]:
    """Run a command in a process of its own: exit code, stdout, stderr."""
    done = mergesync(*arguments)
    return done.returncode, done.stdout, done.stderr


# --- get, set, delete


def test_cells_and_values_are_set_got_and_deleted(url: str, call: Call) -> None:
    """Each by a client of its own, so the server has them in between."""
    path = f"{url}/shop"
    assert call("set", path, "pets", "fido", "species", '"dog"') == (0, "", "")
    assert call("set", path, "pets", "fido", "tags", '{"good": [true, null, 1.50]}') == (0, "", "")
    assert call("set", path, "--value", "open", "true") == (0, "", "")
    assert call("get", path, "pets", "fido", "species") == (0, '"dog"\n', "")
    assert json.loads(call("get", path, "pets", "fido")[1]) == {"species": "dog", "tags": {"good": [True, None, 1.5]}}
    assert json.loads(call("get", path, "pets")[1])["fido"]["species"] == "dog"
    assert json.loads(call("get", path)[1])[1] == {"open": True}
    assert call("get", path, "--value", "open") == (0, "true\n", "")
    assert call("delete", path, "pets", "fido", "tags") == (0, "", "")
    assert json.loads(call("get", path)[1]) == [{"pets": {"fido": {"species": "dog"}}}, {"open": True}]
    assert call("delete", path, "pets", "fido") == (0, "", "")
    assert call("delete", path, "--value", "open") == (0, "", "")
    assert json.loads(call("get", path)[1]) == [{}, {}]


def test_a_table_is_deleted(url: str, call: Call) -> None:
    """With all its rows."""
    path = f"{url}/tables"
    for row in ("1", "2"):
        assert call("set", path, "pets", row, "n", row)[0] == 0
    assert call("delete", path, "pets") == (0, "", "")
    assert json.loads(call("get", path)[1]) == [{}, {}]


@pytest.mark.parametrize("ids", [["pets"], ["pets", "fido"], ["pets", "fido", "species"], ["--value", "open"]])
def test_what_is_not_there_is_said(url: str, ids: list[str], call: Call) -> None:
    """With 1 and nothing on stdout."""
    for command in ("get", "delete"):
        assert call(command, f"{url}/empty", *ids) == (
            1,
            "",
            f"mergesync {command}: there is no such thing on this path\n",
        )


def test_what_cannot_be_a_cell_is_said(url: str, call: Call) -> None:
    """By the store's own words."""
    code, out, err = call("set", f"{url}/shop", "t", "r", "c", '"\\ufffc"')
    assert (code, out) == (2, "")
    assert "reserved by the wire format" in err


def test_what_is_got_cannot_steer_a_terminal(url: str, call: Call) -> None:
    """It is escaped, and still the same JSON."""
    assert call("set", f"{url}/esc", "--value", "v", '"\\u009b2J\\u202e"')[0] == 0
    code, out, _ = call("get", f"{url}/esc", "--value", "v")
    assert (code, out) == (0, '"\\u009b2J\\u202e"\n')


def test_no_server_is_said(call: Call) -> None:
    """At once, in one line."""
    code, out, err = call("get", "ws://127.0.0.1:9/shop")
    assert (code, out) == (1, "")
    assert err.startswith("mergesync get: cannot connect to ws://127.0.0.1:9/shop: ")
    assert err.count("\n") == 1


async def test_a_server_that_does_not_answer_is_said() -> None:
    """After the given time, with the last trouble."""

    def broken(path_id: str) -> object:
        raise OSError("no disk")

    async with create_ws_server("127.0.0.1", 0, broken, on_ignored_error=lambda _: None) as server:
        url = f"ws://127.0.0.1:{server.port}/shop"
        code, out, err = await asyncio.to_thread(_call, "get", url, "--timeout", "0.7")
    assert (code, out) == (1, "")
    assert err.startswith(f"mergesync get: no answer from {url} within 0.7 s; ")
    assert err.count("\n") == 1


# --- watch


class _Watch:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RESTORED_SIGINT, "watch", *arguments],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out = self.process.stdout
        self.err = self.process.stderr

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.out.close()
        self.err.close()
        return code


_RESTORED_SIGINT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
from mergesync.cli import main
sys.exit(main())
"""


async def _lines(watch: _Watch, count: int) -> list[str]:
    return [(await asyncio.to_thread(watch.out.readline)).rstrip("\n") for _ in range(count)]


async def test_watch_prints_changes_through_a_restart(tmp_path: Path) -> None:
    """One line each, also for what changed while the server was away, and ends with Ctrl-C."""
    with Served(tmp_path) as served:
        store = MergeableStore()
        path = f"{served.url}/shop"
        async with create_ws_synchronizer(store, path, on_ignored_error=lambda _: None) as writer:
            store.set_cell("pets", "fido", "species", "dog")
            writer.stop_sync()
            await writer.start_sync()
            watch = _Watch(path)
            assert (await asyncio.to_thread(watch.err.readline)) == f"mergesync watch: live on {path}\n"
            await asyncio.sleep(0.2)
            store.set_cell("pets", "fido", "species", "cat")
            store.set_cell("pets", "a b", "tags", ["\x1b"])
            store.del_row("pets", "fido")
            store.set_value("open", None)
            assert await _lines(watch, 4) == [
                'pets fido species: "dog" -> "cat"',
                'pets "a b" tags: (none) -> ["\\u001b"]',
                'pets fido species: "cat" -> (none)',
                "open: (none) -> null",
            ]
            assert await asyncio.to_thread(served.stop) == 0
            store.set_value("open", True)
            with Served(tmp_path, "--port", str(served.port)) as again:
                assert await _lines(watch, 1) == ["open: null -> true"]
                store.set_value("open", False)
                assert await _lines(watch, 1) == ["open: true -> false"]
                assert await asyncio.to_thread(watch.stop) == 0
                await eventually(lambda: any("client.left" in line for line in again.log))


async def test_watch_prints_what_is_there_if_asked(url: str) -> None:
    """As changes from nothing."""
    await asyncio.to_thread(_call, "set", f"{url}/all", "pets", "fido", "species", '"dog"')
    await asyncio.to_thread(_call, "set", f"{url}/all", "--value", "open", "true")
    watch = _Watch("--all", f"{url}/all")
    assert await _lines(watch, 2) == ['pets fido species: (none) -> "dog"', "open: (none) -> true"]
    assert await asyncio.to_thread(watch.stop) == 0


async def test_watch_says_once_that_there_is_no_server() -> None:
    """However often it tries."""
    watch = _Watch("ws://127.0.0.1:9/shop")
    assert "trying again" in await asyncio.to_thread(watch.err.readline)
    await asyncio.sleep(1)
    watch.process.send_signal(signal.SIGINT)
    rest = await asyncio.to_thread(watch.err.read)
    assert (rest, await asyncio.to_thread(watch.stop)) == ("", 0)


async def test_watch_ends_when_nobody_reads(url: str) -> None:
    """As in `mergesync watch ... | head -1`."""
    watch = _Watch("--all", f"{url}/head")
    await asyncio.to_thread(watch.err.readline)
    watch.out.close()
    await asyncio.to_thread(_call, "set", f"{url}/head", "--value", "a", "1")
    assert await asyncio.to_thread(watch.process.wait, 20) == 0
    watch.err.close()
