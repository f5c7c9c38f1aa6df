"""Processes that take part in a measurement: asked over pipes, held on a processor, and watched from outside."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.worker import LINE_LIMIT

__all__ = ["LOAD_CORE", "ROOT", "SERVER_CORE", "PeerError", "Worker"]

ROOT: Final = Path(__file__).parents[1]
_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
LOAD_CORE: Final = _CORES[-1]
_END_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 600.0
"""More than any task takes, so that a run ends."""


class PeerError(Exception):
    """A process could not do what it was asked, or is gone."""


class Worker:
    """A process that says a line of JSON when it is ready, and answers one line of JSON with one.

    Args:
        command: what to run.
        core: the processor it may use; None for all.

    Attributes:
        ready: what it said first: versions, and the port if it is a server.
    """

    def __init__(self, command: Sequence[str], *, core: int | None = None) -> None:
        cores = set(_CORES) if core is None else {core}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self._name = " ".join(Path(part).name for part in command[1:4])
        try:
            self.ready: dict[str, Any] = self._read()
        except BaseException:
            self.close()
            raise

    @classmethod
    def python(cls, module: str, *arguments: str, core: int | None = None) -> Worker:
        """A module of this package."""
        return cls([sys.executable, "-m", f"benchmarks.{module}", *arguments], core=core)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _ANSWER_SECONDS)[0]:
            self._process.kill()
            raise PeerError(f"{self._name} has not answered for {_ANSWER_SECONDS:.0f} s")
        line = self._process.stdout.readline(LINE_LIMIT)
        if not line:
            raise PeerError(f"{self._name} has ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(f"{self._name}: {answer['error']}")
        return answer

    def ask(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something.

        Raises:
            PeerError: it could not.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"task": task, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def cpu_seconds(self) -> float:
        """For how long it has had a processor, all threads together."""
        return time.clock_gettime((~self.pid << 3) | 2)  # the clock of a process; see clock_getcpuclockid(3)

    def memory_bytes(self) -> int:
        """What it holds of memory, once it has collected its garbage."""
        self._process.send_signal(signal.SIGUSR2)
        time.sleep(0.3)
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def written_bytes(self) -> int:
        """What it has written, to files and not to sockets."""
        fields = dict(line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
        return int(fields["write_bytes"])

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
