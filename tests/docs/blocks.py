"""The code blocks of the documentation, and running them.

A Python block runs by itself, in an empty folder that the blocks of a page share. One that begins with `# server.py` is
started, and serves until the next such block or the end of the page; one that begins with `# fragment` does not run.
Lines `# -> ...` (in JavaScript `// -> ...`) say what is printed. The port 8047 is another one while testing.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "ROOT",
    "Block",
    "as_printed",
    "blocks_of",
    "check_output",
    "free_port",
    "is_accepting",
    "run_program",
    "serving",
    "with_port",
]

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OUTPUT = re.compile(r"(?:#|//) -> (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file, from the root.
        line: where it begins.
        language: what the fence says.
        code: what is in it.
    """

    page: str
    line: int
    language: str
    code: str

    @property
    def is_fragment(self) -> bool:
        """Whether it is marked as not to be run."""
        return self.code.startswith("# fragment")

    @property
    def is_server(self) -> bool:
        """Whether it serves until it is stopped."""
        return self.code.startswith("# server.py")


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = (ROOT / page).read_text()
    return [Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in _FENCE.finditer(text)]


def free_port() -> int:
    """A port that nobody listens on, on either loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def with_port(code: str, port: int) -> str:
    """The code with another port."""
    return code.replace("8047", str(port))


def is_accepting(port: int) -> bool:
    """Whether somebody listens."""
    with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        return True
    return False


def environment() -> dict[str, str]:
    """The environment of a program that imports the package from the checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def _heed_interrupts() -> None:
    """As from a terminal; what a shell starts in the background ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serving(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A program that serves on a port while the block runs; it must end by itself on SIGINT."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,
    )
    try:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_accepting(port):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()


_SLOW_CALL = re.compile(r"^Executing <.*> took [\d.]+ seconds$\n?", re.MULTILINE)
"""What asyncio's debug mode says of a machine that is busy with something else."""


def run_program(command: list[str], folder: Path) -> str:
    """Run a program to its end; returns what it printed, and fails on any complaint of it."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    complaints = _SLOW_CALL.sub("", done.stderr)
    assert not complaints, complaints
    return done.stdout


def check_output(code: str, printed: str) -> None:
    """What was printed is what the code says; dicts may be in another order, and spaces elsewhere."""
    said = _OUTPUT.findall(code)
    lines = printed.splitlines()
    if len(said) == len(lines):
        assert [as_printed(line) for line in lines] == [as_printed(line) for line in said]
    else:
        assert _without_spaces(printed) == _without_spaces("".join(said))


def as_printed(line: str) -> object:
    """A line as the thing it shows, if it shows one."""
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError):
        return _without_spaces(line)


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def python(file: Path) -> list[str]:
    """The command that runs a Python file with warnings about what it forgot to close."""
    return [sys.executable, "-X", "dev", str(file)]
