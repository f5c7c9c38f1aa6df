"""`mergesync serve` as a process: what it says, how it ends, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sqlite3
import ssl
import time
from pathlib import Path

import pytest
import websockets

from mergesync import ConnectionLostError, MergeableStore, RefusedConnectionError, create_ws_synchronizer
from mergesync.version import VERSION
from tests.served import Served, mergesync
from tests.support import eventually

TLS = Path(__file__).parent / "tls"
LOG_LINE = re.compile(
    r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|error) [a-z.-]+( \w+=([^\s"]+|"([^"\\]|\\.)*"))*'
)


async def _write(url: str, path: str = "petShop") -> None:
    store = MergeableStore()
    async with create_ws_synchronizer(store, f"{url}/{path}"):
        store.set_cell("pets", "fido", "species", "dog")


async def _read(url: str, path: str = "petShop") -> object:
    store = MergeableStore()
    async with create_ws_synchronizer(store, f"{url}/{path}"):
        return store.get_tables()


# --- what it says


def test_opening_lines_say_how_to_connect(tmp_path: Path) -> None:
    """They come once it accepts connections: address, where the data is, Python, JavaScript."""
    with Served(tmp_path) as served:
        socket.create_connection(("127.0.0.1", served.port)).close()
        said = "\n".join(served.lines)
        assert said.startswith(f"mergesync {VERSION} serves ws://127.0.0.1:{served.port}/")
        assert str(tmp_path / "mergesync.db") in said
        assert f'create_ws_synchronizer(MergeableStore(), "{served.url}/petShop")' in said
        assert f'new WebSocket("{served.url}/petShop")' in said


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    """In SQLite by default."""
    with Served(tmp_path) as served:
        await _write(served.url)
        assert served.stop() == 0
    with Served(tmp_path) as served:
        assert await _read(served.url) == {"pets": {"fido": {"species": "dog"}}}
        assert served.stop(signal.SIGINT) == 0


async def test_json_folder(tmp_path: Path) -> None:
    """One file for each path."""
    with Served(tmp_path, "--persist", "json:data") as served:
        assert f"{tmp_path / 'data'}" in served.lines[1]
        await _write(served.url, "team/a")
        assert served.stop() == 0
    content = json.loads((tmp_path / "data" / "team%2Fa.json").read_text())
    assert content[0][0]["pets"][0]["fido"][0]["species"][0] == "dog"


def test_no_storage(tmp_path: Path) -> None:
    """Nothing is left behind."""
    with Served(tmp_path, "--persist", "none") as served:
        assert "in memory only" in served.lines[1]
        asyncio.run(_write(served.url))
        assert served.stop() == 0
    assert list(tmp_path.iterdir()) == []


async def test_relay(tmp_path: Path) -> None:
    """A switchboard keeps nothing of its own."""
    with Served(tmp_path, "--persist", "none", "--relay") as served:
        one, other = MergeableStore(), MergeableStore()
        first = await create_ws_synchronizer(one, f"{served.url}/petShop", request_timeout_seconds=0.2)
        async with first, create_ws_synchronizer(other, f"{served.url}/petShop", request_timeout_seconds=0.2):
            await first.start_sync()
            one.set_value("open", True)
            await eventually(lambda: other.get_values() == {"open": True})


async def test_origins(tmp_path: Path) -> None:
    """Pages of other origins are refused and logged, but for those that are allowed."""
    arguments = ["--allow-origin", "https://one.example", "--allow-origin", "https://two.example"]
    with Served(tmp_path, "--persist", "none", *arguments) as served:
        for origin in ("https://one.example", "https://two.example"):
            async with websockets.connect(f"{served.url}/p", additional_headers={"Origin": origin}):
                pass
        with pytest.raises(websockets.InvalidStatus, match="403"):
            async with websockets.connect(f"{served.url}/p", additional_headers={"Origin": "https://three.example"}):
                pass
        await eventually(lambda: any("code=refused-connection" in line for line in served.log))
    refused = mergesync("serve", "--allow-origin", "three.example")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "not an origin" in refused.stderr


async def test_gateways(tmp_path: Path) -> None:
    """Clients of other protocols, on the same paths; what is none, or cannot be, is refused in one line."""
    arguments = ["--gateway", "wsss:/old/wsss", "--gateway", "message_broker:/broker"]
    with Served(tmp_path, "--persist", "none", *arguments) as served:
        store = MergeableStore().set_value("state", [1])
        async with (
            create_ws_synchronizer(store, f"{served.url}/r"),
            websockets.connect(f"{served.url}/old/wsss") as document,
            websockets.connect(f"{served.url}/broker") as broker,
        ):
            await broker.send('{"action":"register","id":"ann"}')
            assert await broker.recv() == '{"action":"registered","id":"ann"}'
            await document.send('{"id":"a","roomName":"r"}')
            await eventually(lambda: store.get_value("state") == [1])
            assert '"name":"r"' in str(await document.recv())
    for wrong, why in (
        (["--gateway", "wsss"], "a prefix"),
        (["--gateway", "ftp:/x"], "not one of message_broker"),
        (["--gateway", "wsss:/x", "--relay"], "--relay"),
    ):
        refused = mergesync("serve", "--persist", "none", *wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert why in refused.stderr


HOOKS = """
from beside import FORBIDDEN
from mergesync import Identity, RefusedError, allow_write_value


def authorize(info):
    if not info.token:
        raise RefusedError("tell your name")
    return Identity(info.token)


def on_changes(path, client, changes):
    if FORBIDDEN in changes.values.values():
        raise RefusedError("mind your language")


rules = [allow_write_value()]


async def setup(server):
    if not await server.remove_path("game"):
        await server.create_path("game")

    @server.action("greet")
    def greet(path, client, data):
        return f"hello {client.identity.name}"
"""


async def test_hooks(tmp_path: Path) -> None:
    """Hooks, rules, actions and paths come from a file; what that makes and removes survives a restart."""
    (tmp_path / "room.py").write_text(HOOKS)
    (tmp_path / "beside.py").write_text("FORBIDDEN = 'damn'")
    arguments = ["--hooks", "room.py", "--create", "server", "--presence", "--idle-grace", "60"]
    with Served(tmp_path, *arguments) as served:
        store, who = MergeableStore(), MergeableStore()
        with pytest.raises(RefusedConnectionError) as refused:
            await create_ws_synchronizer(MergeableStore(), f"{served.url}/game")
        assert refused.value.status == 401
        with pytest.raises(ConnectionLostError, match="404"):
            await create_ws_synchronizer(MergeableStore(), f"{served.url}/other", token="ann")
        async with (
            create_ws_synchronizer(store, f"{served.url}/game", token="ann") as ann,
            create_ws_synchronizer(who, f"{served.url}/game/~clients", token="bob"),
        ):
            assert await ann.act("greet") == "hello ann"
            await eventually(lambda: [row["identity"] for row in who.get_table("clients").values()] == ["ann"])
            store.set_value("said", "damn").set_value("kept", 1)
            await eventually(lambda: store.get_values() == {"kept": 1})
        assert served.stop() == 0
    with Served(tmp_path, *arguments) as served, pytest.raises(ConnectionLostError, match="410"):
        await create_ws_synchronizer(MergeableStore(), f"{served.url}/game", token="ann")


def test_what_are_no_hooks(tmp_path: Path) -> None:
    """It is said in one line."""
    (tmp_path / "nothing.py").write_text("x = 1")
    (tmp_path / "wrong.py").write_text("import nothing_of_this_name")
    (tmp_path / "room.py").write_text(HOOKS.replace("from beside import FORBIDDEN", "FORBIDDEN = ''"))
    for arguments, why in (
        (["--hooks", str(tmp_path / "nothing.py")], "has none of"),
        (["--hooks", str(tmp_path / "wrong.py")], "ModuleNotFoundError"),
        (["--hooks", str(tmp_path / "none.py")], "FileNotFoundError"),
        (["--hooks", str(tmp_path / "none.txt")], "no Python file"),
        (["--hooks", str(tmp_path / "room.py"), "--relay"], "relay"),
        (["--create", "server"], "--hooks"),
        (["--idle-grace", "-1"], "not a time"),
    ):
        refused = mergesync("serve", "--persist", "none", *arguments)
        assert (refused.returncode in (1, 2), refused.stderr.count("\n")) == (True, 1), refused.stderr
        assert why in refused.stderr


async def test_limits(tmp_path: Path) -> None:
    """They are given by name; who comes when it is full is refused and logged."""
    arguments = ["--limit", "connections=1", "--limit", "paths=none", "--limit", "burst_seconds=0.5"]
    with Served(tmp_path, "--persist", "none", *arguments) as served:
        async with websockets.connect(f"{served.url}/p"):
            with pytest.raises(websockets.InvalidStatus, match="429"):
                async with websockets.connect(f"{served.url}/p"):
                    pass
        await eventually(lambda: any("code=refused-connection" in line for line in served.log))


@pytest.mark.parametrize(
    "limit", ["connections", "connections=", "connections=0", "connections=x", "nothing=1", "=1", "outbox_bytes=none"]
)
def test_what_is_no_limit(limit: str) -> None:
    """It is said in one line."""
    refused = mergesync("serve", "--limit", limit)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "is not" in refused.stderr


async def test_tls(tmp_path: Path) -> None:
    """Clients connect with wss."""
    arguments = ["--tls-cert", str(TLS / "cert.pem"), "--tls-key", str(TLS / "key.pem")]
    with Served(tmp_path, "--persist", "none", *arguments) as served:
        assert served.url.startswith("wss://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=TLS / "cert.pem")
        store = MergeableStore()
        async with create_ws_synchronizer(store, f"{served.url}/petShop", connect_options={"ssl": trusting}) as client:
            assert client.status == "live"


def test_tls_certificate_on_hangup(tmp_path: Path) -> None:
    """SIGHUP has it read again; one that cannot be used is said in the log, and the server goes on."""
    certificate = tmp_path / "cert.pem"
    certificate.write_text((TLS / "cert.pem").read_text())
    arguments = ["--tls-cert", str(certificate), "--tls-key", str(TLS / "key.pem")]
    with Served(tmp_path, "--persist", "none", *arguments) as served:

        def hang_up(count: int) -> str:
            served.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 20
            while len(said := [line for line in served.log if "server.certificate" in line]) < count:
                assert time.monotonic() < deadline, served.log
                time.sleep(0.01)
            return said[-1]

        assert "error" not in hang_up(1)
        certificate.write_text("nonsense")
        assert "error" in hang_up(2)


async def test_everywhere_and_ipv6_addresses_can_be_connected_to(tmp_path: Path) -> None:
    """What is printed is an address of this machine, in the form of a URL."""
    for host, shown in (("0.0.0.0", "localhost"), ("::1", "[::1]"), ("localhost", "localhost")):
        with Served(tmp_path, "--persist", "none", "--host", host) as served:
            assert served.url == f"ws://{shown}:{served.port}"
            await _write(served.url)


# --- the log


async def test_log_is_one_line_for_each_event(tmp_path: Path) -> None:
    """Each with time, level, event and pairs; an id cannot forge a line; cells are not in it."""
    with Served(tmp_path) as served:
        store = MergeableStore()
        async with create_ws_synchronizer(store, f"{served.url}/shop", "evil\x1b[2J\u2028 info forged key=1"):
            store.set_cell("pets", "fido", "species", "dog")
        async with websockets.connect(
            f"{served.url}/evil", subprotocols=[websockets.Subprotocol("tinybase")]
        ) as client:
            await client.send('not a message "dog"\nerror forged')
            await client.wait_closed()
        with socket.create_connection(("127.0.0.1", served.port)) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\x00\r\n\r\n")
            garbage.recv(1000)
        assert served.stop() == 0
        log = served.log
    assert [line for line in log if not LOG_LINE.fullmatch(line)] == []
    assert not any("dog" in line for line in log)
    events = [line.split()[2] for line in log]
    assert "forged" not in events
    expected = ["server.listening", "client.connected", "path.opened", "client.joined", "client.left", "path.left"]
    assert [event for event in events if event in expected][:6] == expected
    assert "problem" in events
    assert events[-2:] == ["server.stopping", "server.stopped"]
    assert any(" problem code=remote-protocol path=evil client=" in line for line in log)


# --- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_closes_clients_with_1012(tmp_path: Path, number: signal.Signals) -> None:
    """So that they know to come back."""
    with Served(tmp_path) as served:
        async with websockets.connect(f"{served.url}/petShop") as client:
            served.process.send_signal(number)
            await client.wait_closed()
            assert client.close_code == 1012
        assert served.wait() == 0


async def test_signal_flushes(tmp_path: Path) -> None:
    """What was written the moment before is stored."""
    with Served(tmp_path) as served:
        store = MergeableStore()
        async with create_ws_synchronizer(store, f"{served.url}/petShop", on_ignored_error=lambda _: None) as client:
            for number in range(100):
                store.set_cell("numbers", str(number), "n", number)
            client.stop_sync()
            await client.start_sync()
            assert await asyncio.to_thread(served.stop) == 0
    assert (
        len(
            json.loads(mergesync("dump", "sqlite:mergesync.db", "petShop", "--plain", folder=tmp_path).stdout)[0][
                "numbers"
            ]
        )
        == 100
    )


async def test_second_signal_forces(tmp_path: Path) -> None:
    """A client that does not answer the closing handshake cannot keep the server alive."""
    with Served(tmp_path) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(
            b"GET /petShop HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: any("server.stopping" in line for line in served.log))
        served.process.send_signal(signal.SIGTERM)  # to the process group and passed on by make: still the first
        await asyncio.sleep(0.7)
        assert served.stop() == 1
        assert any("server.killed" in line for line in served.log)
        writer.close()


def test_data_that_cannot_be_stored_is_not_passed_over(tmp_path: Path) -> None:
    """The exit code says so."""
    with Served(tmp_path) as served:
        blocker = sqlite3.connect(tmp_path / "mergesync.db", isolation_level=None)
        blocker.execute("CREATE TRIGGER full BEFORE INSERT ON mergesync_cells BEGIN SELECT RAISE(ABORT, 'full'); END")
        blocker.close()
        done = mergesync("set", f"{served.url}/petShop", "pets", "fido", "species", '"dog"')
        assert done.returncode == 0
        assert served.stop() == 1
        assert any(" problem code=save path=petShop " in line for line in served.log)
        assert "everything_stored=False" in served.log[-1]


# --- what it refuses


def _refusal(folder: Path, *arguments: str) -> tuple[int, str]:
    done = mergesync("serve", *arguments, folder=folder)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--persist", "mysql:x"], 2, "'mysql:x' is not sqlite:FILE, json:DIR or none"),
        (["--persist", "sqlite:"], 2, "is not sqlite:FILE"),
        (["--port", "http"], 2, "'http' is not a port"),
        (["--port", "65536"], 2, "is not a port"),
        (["--relay", "x"], 2, "unrecognized arguments"),
        (["--trust-proxy", "10.0.0.1/8"], 2, "10.0.0.1/8 has host bits set"),
        (["--tls-key", "key.pem"], 2, "--tls-key needs --tls-cert"),
        (["--tls-cert", "missing.pem"], 1, "cannot use the TLS certificate missing.pem"),
        (["--tls-cert", "/dev/null"], 1, "cannot use the TLS certificate /dev/null"),
        (["--tls-cert", f"{TLS}/cert.pem", "--tls-key", f"{TLS}/locked-key.pem"], 1, "cannot use the TLS certificate"),
        (["--persist", "sqlite:missing/folder/x.db"], 1, "cannot open the storage"),
        (["--persist", "json:/dev/null"], 1, "cannot open the storage"),
        (["--persist", "none", "--host", "nowhere.invalid"], 1, "cannot listen on nowhere.invalid"),
        (["--persist", "none", "--host", "evil\n"], 1, "cannot listen on evil\\u000a"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """With a code for mistakes of the caller and one for those of the world, and no traceback."""
    found_code, line = _refusal(tmp_path, *arguments)
    assert found_code == code
    assert line.startswith("mergesync serve: " if message != "unrecognized arguments" else "mergesync: ")
    assert message in line


def test_port_in_use(tmp_path: Path) -> None:
    """Named, with the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, line = _refusal(tmp_path, "--port", port)
    assert (code, line) == (1, f"mergesync serve: cannot listen on 127.0.0.1 port {port}: Address already in use")


@pytest.mark.parametrize("persist", ["sqlite:mergesync.db", "json:data"])
def test_storage_of_another_server(tmp_path: Path, persist: str) -> None:
    """It is refused, and named."""
    with Served(tmp_path, "--persist", persist) as served:
        code, line = _refusal(tmp_path, "--port", "0", "--persist", persist)
        assert code == 1
        assert f"is in use by another server (process {served.process.pid})" in line
        assert served.stop() == 0


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be taken for the header of one" * 20)
    before = (tmp_path / "notes.txt").read_bytes()
    code, line = _refusal(tmp_path, "--port", "0", "--persist", "sqlite:notes.txt")
    assert code == 1
    assert "cannot open the storage" in line
    assert (tmp_path / "notes.txt").read_bytes() == before
