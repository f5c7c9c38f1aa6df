"""What can be asked for on the command line; `docs/command-line.md` is made from it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, NoReturn

from mergesync.cli.common import USAGE, printable
from mergesync.cli.hooks import HOOKS
from mergesync.cli.remote import delete, get, set_, watch
from mergesync.cli.serve import GATEWAYS, serve
from mergesync.cli.storage import Storage
from mergesync.cli.stored import dump, load
from mergesync.cli.verify import verify
from mergesync.limits import Limits
from mergesync.net.gateway import check_prefix
from mergesync.net.origins import check_origins
from mergesync.net.proxies import Proxies
from mergesync.version import VERSION

__all__ = ["make_parser"]

_CONTENT = "TinyBase-readable JSON with stamps"
_EDIT_EPILOG = "It waits until the server has it. Exit code 1 if the server does not take it."


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {printable(message)} (try --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser; what it returns has `command`, a coroutine function of itself, and `name`."""
    parser = _Parser(
        prog="mergesync",
        description="Serve, watch, edit and check tables of data that stay equal everywhere.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mergesync {VERSION}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_watch(commands)
    _add_get(commands)
    _add_set(commands)
    _add_delete(commands)
    _add_dump(commands)
    _add_load(commands)
    _add_verify(commands)
    return parser


_Commands = argparse._SubParsersAction


def _add(commands: _Commands[_Parser], name: str, command: object, summary: str, epilog: str = "") -> _Parser:
    parser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=epilog or None,
        allow_abbrev=False,
    )  # fmt: skip
    parser.set_defaults(command=command)
    return parser


def _add_serve(commands: _Commands[_Parser]) -> None:
    parser = _add(
        commands, "serve", serve, "serve paths to Python and JavaScript clients",
        "It says its address on stdout once it accepts connections, and logs to stderr. SIGTERM and SIGINT store "
        "everything and close the clients with 1012, upon which they reconnect; another one ends it at once. Exit "
        "code 1 if something could not be stored.",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 for everywhere (%(default)s)")
    parser.add_argument("--port", type=_port, default=8047, help="0 for a free one (%(default)s)")
    parser.add_argument(
        "--persist", type=_any_storage, default="sqlite:mergesync.db", metavar="sqlite:FILE|json:DIR|none",
        help="where to keep the data (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--tls-cert", metavar="FILE", help="serve wss:// with this certificate (PEM, with its chain)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key, unless it is in the same file")
    parser.add_argument(
        "--allow-origin", metavar="ORIGIN", action="append", default=[], type=_origin,
        help="let web pages of this origin connect, such as https://example.org, besides those of the server's own "
        "host and port; may be repeated; '*' for all",
    )  # fmt: skip
    parser.add_argument(
        "--trust-proxy", metavar="NETWORK", action="append", default=[], type=_network,
        help="believe what proxies of this address or network say in X-Forwarded-For, such as 10.0.0.0/8; may be "
        "repeated",
    )  # fmt: skip
    parser.add_argument(
        "--limit", metavar="NAME=NUMBER", action="append", default=[], type=_limit,
        help="what clients may use, such as connections=500 or paths=none (docs/limits.md); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--gateway", metavar="NAME:/PREFIX", action="append", default=[], type=_gateway,
        help=f"serve clients of another protocol on the paths, too, at URLs that begin so: {', '.join(GATEWAYS)}; such "
        "as wsss:/wsss (docs/gateways.md); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--hooks", metavar="FILE",
        help=f"ask this Python file about clients: what it has of {', '.join(HOOKS)} (docs/rooms.md); "
        "`setup(server)` is called first, and may make paths and actions",
    )  # fmt: skip
    parser.add_argument("--presence", action="store_true", help="say on PATH/~clients who is on a path (docs/paths.md)")
    parser.add_argument(
        "--create", choices=("any", "server"), default="any",
        help="who makes paths: whoever comes, or the `setup` of --hooks alone (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--idle-grace", metavar="SECONDS", type=_seconds, default=0.0,
        help="how long a path stays loaded after its last client (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--relay",
        action="store_true",
        help="forward between clients, as TinyBase's server, rather than answer for them",
    )


def _add_watch(commands: _Commands[_Parser]) -> None:
    parser = _add(
        commands, "watch", watch, "print the changes of a path live",
        "One line for each change: the ids of a table, row and cell, or of a value, then old -> new as JSON. It "
        "reconnects by itself, and ends with Ctrl-C.",
    )  # fmt: skip
    _add_url(parser)
    parser.add_argument("--all", action="store_true", help="print what is there at first, too")


def _add_get(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "get", get, "print the content of a path, or part of it, as JSON",
                  "The whole content is [tables, values]. Exit code 1 if there is no such part.")  # fmt: skip
    _add_url(parser)
    _add_ids(parser)
    _add_timeout(parser)


def _add_set(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "set", set_, "set a cell or a value of a path", _EDIT_EPILOG)
    parser.usage = "mergesync set [-h] [--timeout SECONDS] URL (TABLE ROW CELL JSON | --value ID JSON)"
    _add_url(parser)
    _add_ids(parser, "ID", "JSON")
    parser.add_argument("json", metavar="JSON", nargs="?", help="what to set; strings need their own quotes: '\"dog\"'")
    _add_timeout(parser)


def _add_delete(commands: _Commands[_Parser]) -> None:
    parser = _add(commands, "delete", delete, "delete a table, a row, a cell or a value of a path", _EDIT_EPILOG)
    parser.usage = "mergesync delete [-h] [--timeout SECONDS] URL (TABLE [ROW [CELL]] | --value ID)"
    _add_url(parser)
    _add_ids(parser)
    _add_timeout(parser)


def _add_dump(commands: _Commands[_Parser]) -> None:
    parser = _add(
        commands, "dump", dump, f"write stored data as {_CONTENT}",
        "The content of one path is what TinyBase's file persister reads. Without PATH: one object with the content of "
        "every path by its id, which load takes, too. A server may be running meanwhile.",
    )  # fmt: skip
    _add_storage(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", help="the path id, such as petShop")
    parser.add_argument("-o", "--output", metavar="FILE", help="write here, whole or not at all, rather than to stdout")
    parser.add_argument("--plain", action="store_true", help="[tables, values] without stamps")


def _add_load(commands: _Commands[_Parser]) -> None:
    parser = _add(
        commands, "load", load, "merge what dump wrote, or a file of TinyBase, into stored data",
        "The newest stamp wins, cell by cell; what has no stamps is written as if now. Nothing is deleted for being "
        "missing. The server must not be running.",
    )  # fmt: skip
    _add_storage(parser)
    parser.add_argument("path", metavar="PATH", nargs="?", help="the path id; not needed if the input is of all paths")
    parser.add_argument("-i", "--input", metavar="FILE", help="read this rather than stdin")


def _add_verify(commands: _Commands[_Parser]) -> None:
    parser = _add(
        commands, "verify", verify, "check every stamp and recompute every hash of stored data; change nothing",
        "Exit code 1 if anything is wrong or cannot be read. A server may be running meanwhile. With --server, what a "
        "client of it gets is checked, too, and must be what is stored; others may go on writing.",
    )  # fmt: skip
    _add_storage(parser)
    parser.add_argument(
        "--server", metavar="URL", dest="url", type=_url, help="a path of the running server that keeps its data there"
    )
    _add_timeout(parser)


# --- arguments of several commands


def _add_url(parser: _Parser) -> None:
    parser.add_argument("url", metavar="URL", type=_url, help="of the path: ws://127.0.0.1:8047/petShop")


def _add_ids(parser: _Parser, *value: str) -> None:
    parser.add_argument("table", metavar="TABLE", nargs="?")
    parser.add_argument("row", metavar="ROW", nargs="?")
    parser.add_argument("cell", metavar="CELL", nargs="?")
    if value:
        parser.add_argument("--value", metavar=value, nargs=len(value), help="set a value, rather than a cell")
    else:
        parser.add_argument("--value", metavar="ID", help="a value, rather than what is in tables")


def _add_timeout(parser: _Parser) -> None:
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=10.0, help="give up after (%(default)s)")


def _add_storage(parser: _Parser) -> None:
    parser.add_argument("storage", metavar="sqlite:FILE|json:DIR", type=_storage)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time")
    return seconds


def _origin(text: str) -> str:
    try:
        check_origins([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _network(text: str) -> str:
    try:
        Proxies([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _gateway(text: str) -> tuple[str, str]:
    name, _, prefix = text.partition(":")
    if name not in GATEWAYS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(GATEWAYS)}")
    try:
        check_prefix(prefix)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return prefix, name


def _limit(text: str) -> tuple[str, float | None]:
    name, _, number = text.partition("=")
    names = [field.name for field in fields(Limits)]
    if name not in names:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(names)}")
    try:
        limit: Any = None if number == "none" else int(number) if number.isdecimal() else float(number)
        Limits(**{name: limit})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{number!r} is not a number above 0, or none") from None
    return name, limit


def _any_storage(text: str) -> Storage:
    try:
        return Storage.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _storage(text: str) -> Storage:
    storage = _any_storage(text)
    if storage.kind == "none":
        raise argparse.ArgumentTypeError("nothing is stored in none; give sqlite:FILE or json:DIR")
    return storage


def _url(text: str) -> str:
    if not text.startswith(("ws://", "wss://")) or not text.partition("://")[2].strip("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as ws://127.0.0.1:8047/petShop")
    return text
