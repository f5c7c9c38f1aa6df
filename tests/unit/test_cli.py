"""What the commands share: arguments, safe text, the loop, and the log's form."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from typing import Any

import pytest

from mergesync import MISSING, LoadError, RemoteProtocolError
from mergesync.cli import main
from mergesync.cli.common import CliError, printable, run, shown_cell, shown_id
from mergesync.cli.logs import LineFormatter, log, log_error
from mergesync.cli.storage import Storage
from mergesync.version import VERSION
from tests.served import mergesync


def _main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    code: int | str | None
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# --- arguments


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Name and number."""
    assert _main(capsys, "--version") == (0, f"mergesync {VERSION}\n", "")


def test_module_is_the_command() -> None:
    """`python -m mergesync`."""
    assert mergesync("--version").stdout == f"mergesync {VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "mergesync: the following arguments are required: COMMAND (try --help)"),
        (["verify"], "mergesync verify: the following arguments are required: sqlite:FILE|json:DIR (try --help)"),
        (["verify", "none"], "mergesync verify: argument sqlite:FILE|json:DIR: nothing is stored in none"),
        (
            ["dump", "x.db"],
            "mergesync dump: argument sqlite:FILE|json:DIR: 'x.db' is not sqlite:FILE, json:DIR or none",
        ),
        (["watch", "localhost:8047"], "mergesync watch: argument URL: 'localhost:8047' is not a URL such as ws://"),
        (["watch", "ws://"], "mergesync watch: argument URL: 'ws://' is not a URL such as ws://"),
        (["get", "ws://h/p", "--timeout", "soon"], "mergesync get: argument --timeout: "),
        (["get", "ws://h/p", "--timeout", "-1"], "mergesync get: argument --timeout: '-1' is not a time"),
        (["get", "ws://h/p", "--timeout", "inf"], "mergesync get: argument --timeout: 'inf' is not a time"),
        (["set", "ws://h/p", "t", "r", "c"], "mergesync set: give TABLE ROW CELL JSON, or --value ID JSON"),
        (["set", "ws://h/p", "t", "--value", "v", "1"], "mergesync set: give TABLE ROW CELL JSON, or --value ID JSON"),
        (["set", "ws://h/p"], "mergesync set: give TABLE ROW CELL JSON, or --value ID JSON"),
        (["set", "ws://h/p", "t", "r", "c", "dog"], "mergesync set: dog is not JSON; a string needs its quotes: "),
        (["set", "ws://h/p", "--value", "v", "NaN"], "mergesync set: NaN is not JSON"),
        (["delete", "ws://h/p"], "mergesync delete: give TABLE [ROW [CELL]], or --value ID"),
        (["delete", "ws://h/p", "t", "--value", "v"], "mergesync delete: give TABLE [ROW [CELL]], or --value ID"),
        (["serve", "--per", "none"], "mergesync: unrecognized arguments: --per none (try --help)"),
        (["b\nad"], "mergesync: argument COMMAND: invalid choice: 'b\\nad'"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """With exit code 2, and nothing on stdout."""
    code, out, err = _main(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_interruption_ends_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With 130, but for `watch`, which is meant to be interrupted."""

    def interrupted(work: Any) -> int:
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr("mergesync.cli.run", interrupted)
    assert _main(capsys, "verify", "json:x")[0] == 130
    assert _main(capsys, "watch", "ws://h/p")[0] == 0


# --- the loop


def test_commands_run_on_uvloop_where_it_is_installed() -> None:
    """And on asyncio's own loop elsewhere."""

    async def loop_module() -> int:
        return len(type(asyncio.get_running_loop()).__module__)

    try:
        importlib.import_module("uvloop")
    except ImportError:
        pytest.skip("uvloop is not installed")
    assert run(loop_module()) == len("uvloop")


def test_commands_run_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional."""

    async def seven() -> int:
        return 7

    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(seven()) == 7


# --- safe text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fido", "fido"),
        ("Bücher 犬", "Bücher 犬"),
        ("a\nb", "a\\u000ab"),
        ("\x1b[2J", "\\u001b[2J"),
        ("\x9b", "\\u009b"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\udb40\\udc01"),
    ],
)
def test_text_cannot_steer_a_terminal(text: str, shown: str) -> None:
    """Whatever is not printable is escaped."""
    assert printable(text) == shown


def test_ids_and_cells_as_shown() -> None:
    """Plain ids as they are, others as JSON; absence is unlike any string."""
    assert shown_id("petShop-1.a") == "petShop-1.a"
    assert shown_id("") == '""'
    assert shown_id("a b") == '"a b"'
    assert shown_id('a"\n') == '"a\\"\\n"'
    assert shown_cell(MISSING) == "(none)"
    assert shown_cell("(none)") == '"(none)"'
    assert shown_cell({"a": [1, None, 1e21]}) == '{"a":[1,null,1e+21]}'


# --- storage


def test_storage_says_where_it_is() -> None:
    """As an absolute path, so that it can be found."""
    assert str(Storage.parse("sqlite:x.db")) == f"{os.path.abspath('x.db')} (SQLite)"
    assert str(Storage.parse("json:a:b")).startswith(os.path.abspath("a:b"))
    assert Storage.parse("none").persisters() is None
    for text in ("none:", "json", "json:", "SQLITE:x", ""):
        with pytest.raises(ValueError, match="is not sqlite:FILE, json:DIR or none"):
            Storage.parse(text)


def test_storage_that_is_not_there_is_not_made(tmp_path: Any) -> None:
    """Not by reading it."""
    for text in (f"sqlite:{tmp_path}/x.db", f"json:{tmp_path}/x"):
        with pytest.raises(CliError, match="there is no"):
            Storage.parse(text).check_exists()
    assert list(tmp_path.iterdir()) == []


# --- the log


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Any:
    """What was logged, as it would be written."""
    caplog.set_level(logging.INFO)
    caplog.handler.setFormatter(LineFormatter())
    return lambda: [line.partition(" ")[2] for line in caplog.text.splitlines()]


def test_values_are_words_or_json(log_lines: Any) -> None:
    """In ASCII; what is None is left out; what is long is cut."""
    log("client.joined", path="a b\nc\u2028", client="x/1", address=None, number=3)
    log("client.joined", path="p" * 1000)
    assert log_lines() == [
        'info client.joined path="a b\\nc\\u2028" client=x/1 number=3',
        f"info client.joined path={'p' * 500}...",
    ]


def test_errors_are_logged_with_what_they_carry(log_lines: Any) -> None:
    """Code, path, client and message."""
    log_error(RemoteProtocolError("not a message", excerpt="secret", path_id="petShop", client_id="c"))
    log_error(LoadError("cannot read"))
    log_error(OSError(28, "No space left on device"))
    assert log_lines() == [
        'warning problem code=remote-protocol path=petShop client=c message="not a message"',
        'warning problem code=load message="cannot read"',
        'warning problem code=OSError message="[Errno 28] No space left on device"',
    ]


def test_of_other_errors_only_type_and_place_are_logged(log_lines: Any) -> None:
    """Their message may hold what is in cells."""
    try:
        raise KeyError("secret")
    except KeyError as error:
        log_error(error)
        logging.getLogger("library").exception("failed: %s", "x\ny")
    log_error(RuntimeError("secret"))
    first, second, third = log_lines()
    assert first.startswith("error internal-error error=KeyError at=")
    assert f"{os.path.basename(__file__)}:" in first
    assert second.startswith('error log logger=library message="failed: x\\ny" error=KeyError at=')
    assert third == "error internal-error error=RuntimeError"
    assert "secret" not in first + second
