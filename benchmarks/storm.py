"""Many stock clients join a path at once, or come back to it: how long until all have it, in how many frames.

    python -m benchmarks.storm --clients 1000 --rows 200

Clients say what TinyBase's synchronizer says when it starts, in raw sockets, and do not parse what they get but for the
hashes. It prints JSON, with the longest time for which the event loop of the server let a timer wait: `blocked` by the
clock, and `busy` of the processor, which does not count what other processes had of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Final

from benchmarks.load_generator import begin_to_open, frame_of, handshake
from mergesync import Limits, MergeableStore, create_ws_server
from tests.served import busy_seconds

_CELLS_IN_ROW: Final = 5
_PATIENCE_SECONDS: Final = 120.0
_TICK_SECONDS: Final = 0.001


def fill(store: MergeableStore, rows: int) -> None:
    """So many rows of five cells with strings of 12 characters."""
    with store.transaction():
        for row in range(rows):
            for cell in range(_CELLS_IN_ROW):
                store.set_cell("t", f"row{row}", f"cell{cell}", f"value{row * _CELLS_IN_ROW + cell:07d}")


async def _serve(rows: int) -> None:
    """Serve a path; on SIGUSR1, say how late the event loop was at most, and for how long it worked meanwhile."""
    limits = Limits(connections=None, connections_per_address=None, heartbeat_seconds=None)
    async with create_ws_server("127.0.0.1", 0, limits=limits) as server, server.open_path("storm") as path:
        fill(path.store, rows)
        path.store.get_mergeable_content_hashes()
        loop = asyncio.get_running_loop()
        longest = busiest = 0.0

        def tell() -> None:
            print(json.dumps({"loop_blocked_ms": longest * 1e3, "loop_busy_ms": busiest * 1e3}), flush=True)

        loop.add_signal_handler(signal.SIGUSR1, tell)
        print(server.port, flush=True)
        while True:
            due, busy = loop.time() + _TICK_SECONDS, time.process_time()
            await asyncio.sleep(_TICK_SECONDS)
            longest, busiest = max(longest, loop.time() - due), max(busiest, time.process_time() - busy)


class _Joiner:
    """A client, from its handshake until it has everything.

    Args:
        port: of the server.
        number: which of them it is.
        knows: whether it has all content already, as one that comes back has.
    """

    def __init__(self, port: int, number: int, *, knows: bool) -> None:
        self.socket = begin_to_open(port)
        self.number = number
        self.frames = 0
        self.bytes = 0
        self.done = False
        self._knows = knows
        self._port = port
        self._buffer = bytearray()
        self._asked = ""

    def opened(self) -> None:
        """The connection stands."""
        self.socket.send(handshake(self._port, "storm"))

    def take(self, data: bytes) -> None:
        """Something came."""
        self.bytes += len(data)
        self._buffer += data
        if not self._asked:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert b" 101 " in self._buffer[:20], bytes(self._buffer[:200])
            del self._buffer[: end + 4]
            self._ask("", 1, "")
        while (frame := self._next_frame()) is not None:
            self.frames += 1
            if not self.done:
                self._hear(frame)

    def _next_frame(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, head = buffer[1] & 127, 2
        if size == 126:
            size, head = int.from_bytes(buffer[2:4]), 4
        elif size == 127:
            size, head = int.from_bytes(buffer[2:10]), 10
        if len(buffer) < head + size:
            return None
        frame = bytes(buffer[head : head + size])
        del buffer[: head + size]
        return frame

    def _ask(self, address: str, kind: int, body: Any) -> None:
        self._asked = f"{self.number:08d}-{kind}"
        self._say(address, self._asked, kind, body)

    def _say(self, address: str, request_id: str, kind: int, body: Any) -> None:
        self.socket.send(frame_of(f"{address}\n{json.dumps([request_id, kind, body], separators=(',', ':'))}"))

    def _hear(self, frame: bytes) -> None:
        answer = frame.partition(b"\n")[2]
        assert answer.startswith(f'["{self._asked}",0,'.encode()), frame[:200]
        if self._asked.endswith("-1"):
            self._hashes = json.loads(answer)[2]
            if not self._knows:
                self._ask("S", 4, {})
                return
        self.done = True
        self._say("", f"{self.number:08d}-2", 2, self._hashes)


def storm(port: int, clients: int, *, knows: bool) -> dict[str, Any]:
    """Let all of them join."""
    epoll = select.epoll()
    began = time.perf_counter()
    joiners = {}
    for number in range(clients):
        joiner = _Joiner(port, number, knows=knows)
        joiners[joiner.socket.fileno()] = joiner
        epoll.register(joiner.socket, select.EPOLLOUT)
    waiting = clients
    while waiting:
        for fileno, event in epoll.poll(_PATIENCE_SECONDS):
            joiner = joiners[fileno]
            if event & select.EPOLLOUT:
                joiner.opened()
                epoll.modify(fileno, select.EPOLLIN)
                continue
            was_done = joiner.done
            data = joiner.socket.recv(1024 * 1024)
            if not data:
                raise ConnectionError("the server has closed a client")
            joiner.take(data)
            waiting -= joiner.done and not was_done
        if time.perf_counter() - began > _PATIENCE_SECONDS:
            raise TimeoutError(f"{waiting} clients did not get everything")
    elapsed = time.perf_counter() - began
    quiet_at = time.perf_counter() + 1.0
    while time.perf_counter() < quiet_at:  # what else may come
        for fileno, _ in epoll.poll(0.1):
            joiners[fileno].take(joiners[fileno].socket.recv(1024 * 1024))
    for joiner in joiners.values():
        joiner.socket.close()
    return {
        "clients": clients,
        "seconds": round(elapsed, 3),
        "frames_to_a_client": max(joiner.frames for joiner in joiners.values()),
        "bytes_to_all": sum(joiner.bytes for joiner in joiners.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=200, help="of five cells each")
    parser.add_argument("--knows", action="store_true", help="they have the content already")
    parser.add_argument("--uvloop", action="store_true", help="the server has that event loop, as `mergesync serve`")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        factory = __import__("uvloop").new_event_loop if options.uvloop else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_serve(options.rows))
        return
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    command = [sys.executable, "-m", "benchmarks.storm", "--serve", f"--rows={options.rows}"]
    with subprocess.Popen(
        [*command, *(["--uvloop"] if options.uvloop else [])], stdout=subprocess.PIPE, text=True
    ) as server:
        os.sched_setaffinity(server.pid, {0})
        assert server.stdout is not None
        port = int(server.stdout.readline())
        busy = busy_seconds(server.pid)
        found = storm(port, options.clients, knows=options.knows)
        found["server_cpu_seconds"] = round(busy_seconds(server.pid) - busy, 2)
        server.send_signal(signal.SIGUSR1)
        found |= {name: round(value, 1) for name, value in json.loads(server.stdout.readline()).items()}
        server.terminate()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
