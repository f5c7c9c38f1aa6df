"""How soon changes come to live readers, alone and beside readers that have stopped reading.

python -m tests.load.stalled_latency --stalled 1000 --live 100

Rounds on a path without stalled readers and on one with them take turns, on one server that has a processor of its own.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.figures import OURS
from benchmarks.load_generator import Load, open_socket, updates
from benchmarks.peers import SERVERS

__all__ = ["Latencies", "measure"]

_RECEIVE_BUFFER_BYTES: Final = 4096
_IN_FLIGHT: Final = 64


@dataclass(frozen=True, slots=True)
class Latencies:
    """After how many milliseconds 99 of 100 deliveries were made, in each round.

    Attributes:
        alone: without stalled readers.
        beside: with them.
    """

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        ratio = median(self.beside) / median(self.alone)
        return f"p99 alone {_shown(self.alone)}, beside stalled readers {_shown(self.beside)}: {ratio:.2f}x"


def _shown(milliseconds: list[float]) -> str:
    return f"{median(milliseconds):.2f} ms ({min(milliseconds):.2f}-{max(milliseconds):.2f})"


def measure(
    stalled: int, live: int, *, rounds: int, round_seconds: float, fill_seconds: float, deliveries_per_second: float
) -> Latencies:
    """Measure in turns.

    Args:
        stalled: readers that do not read.
        live: readers that do, on each of the two paths.
        rounds: on each path.
        round_seconds: how long each takes.
        fill_seconds: for how long changes are made before, as fast as they come, so that no stalled reader takes more.
        deliveries_per_second: changes times live readers.
    """
    taken = Latencies()
    with ExitStack() as stack:
        server = stack.enter_context(SERVERS[OURS]("memory", Path(stack.enter_context(TemporaryDirectory()))))
        port = server.ready["port"]
        alone = stack.enter_context(closing(Load(port, "alone", live, updates())))
        beside = stack.enter_context(closing(Load(port, "beside", live, updates())))
        for _ in range(stalled):
            silent, _ = open_socket(port, "beside", receive_buffer_bytes=_RECEIVE_BUFFER_BYTES)
            stack.enter_context(closing(silent))
        for load in (alone, beside):
            load.saturated(fill_seconds, _IN_FLIGHT)
        for _ in range(rounds):
            for load, sample in ((alone, taken.alone), (beside, taken.beside)):
                latencies = load.paced(round_seconds, deliveries_per_second)
                sample.append(latencies[len(latencies) * 99 // 100] * 1e3)
    return taken


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--live", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--round-seconds", type=float, default=2.0)
    parser.add_argument("--fill-seconds", type=float, default=10.0)
    parser.add_argument("--deliveries-per-second", type=float, default=20_000.0)
    print(measure(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
