"""`mergesync serve` as a process of its own, for tests of the command line and end to end."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

__all__ = ["ROOT", "Served", "busy_seconds", "mergesync"]

ROOT: Final = Path(__file__).parents[1]
_SECONDS: Final = 30.0


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that imports the package from the checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def mergesync(*arguments: str, folder: Path | None = None, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "mergesync", *arguments],
        cwd=folder,
        env=environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def busy_seconds(pid: int) -> float:
    """For how long a process has had a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Served:
    """A server that runs while the block does.

    Args:
        folder: where it runs.
        arguments: after `serve`; the port is a free one unless they say another.
        development: whether Python warns of what it usually passes over, and is slower. If not, it keeps bytecode in
            the folder, as an installed package has it, whatever the environment says.

    Attributes:
        lines: what it said on stdout once it accepted connections.
        url: its address, without a path.
    """

    def __init__(self, folder: Path, *arguments: str, development: bool = True) -> None:
        port = [] if "--port" in arguments else ["--port", "0"]
        python = (
            {"PYTHONDEVMODE": "1"}
            if development
            else {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mergesync", "serve", *port, *arguments],
            cwd=folder,
            env=environment(**python),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._log: list[str] = []
        self._said: queue.Queue[str | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._said.put), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self._note), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.lines = self._opening_lines()
        except BaseException:
            self.kill()
            raise
        found = re.search(r"wss?://\S+:\d+", self.lines[0])
        assert found is not None, self.lines
        self.url = found[0]

    @staticmethod
    def _read(stream: IO[str], take: object) -> None:
        for line in stream:
            take(line.rstrip("\n"))  # type: ignore[operator]
        take(None)  # type: ignore[operator]

    def _note(self, line: str | None) -> None:
        if line is not None:
            self._log.append(line)

    def _opening_lines(self) -> list[str]:
        lines: list[str] = []
        while not (lines and lines[-1].startswith("stop:")):
            line = self._said.get(timeout=_SECONDS)
            assert line is not None, "\n".join(["it ended:", *lines, *self._log])
            lines.append(line)
        return lines

    @property
    def port(self) -> int:
        """The port."""
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> list[str]:
        """The lines of its log so far."""
        return list(self._log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self.process.wait(_SECONDS)
        self._close()
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(_SECONDS)
        self._close()

    def _close(self) -> None:
        for thread in self._threads:
            thread.join(_SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
