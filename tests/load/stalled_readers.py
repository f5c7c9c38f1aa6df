"""Readers that stop reading, beside others that go on: `python -m tests.load.stalled_readers`.

The server is a process of its own, so that its memory can be told from that of the clients. Every stalled reader then
reads again, and must be told the hashes that everybody has by then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from websockets.asyncio.client import ClientConnection, connect

from mergesync import Limits, MergeableStore, create_ws_server, create_ws_synchronizer
from tests.served import busy_seconds
from tests.support import eventually, within

_PATIENCE_SECONDS: Final = 300.0
_RECEIVE_BUFFER_BYTES: Final = 4096
_ROWS: Final = 1000
_CONTENT_HASHES: Final = 2


async def _serve(outbox_bytes: int) -> None:
    """Heartbeats are off, as they would cut who does not read."""
    limits = Limits(outbox_bytes=outbox_bytes, heartbeat_seconds=None)
    async with create_ws_server("127.0.0.1", 0, limits=limits) as server:
        print(server.port, flush=True)
        await server.serve_forever()


def _equal(stores: list[MergeableStore]) -> bool:
    return all(store.get_mergeable_content_hashes() == stores[0].get_mergeable_content_hashes() for store in stores)


def _memory_bytes(pid: int, what: str = "VmRSS") -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def _stalled(port: int) -> ClientConnection:
    """A socket that is on the path, and that nobody reads."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
    url = f"ws://127.0.0.1:{port}/p"
    return await connect(url, sock=plain, compression=None, ping_interval=None, max_size=None, max_queue=1)


async def _last_hashes(connection: ClientConnection, expected: list[int]) -> None:
    """Read on until the server says these hashes."""
    while True:
        frame = await connection.recv()
        assert isinstance(frame, str)
        if frame.startswith("S\n[") and json.loads(frame[2:])[1:] == [_CONTENT_HASHES, expected]:
            return


async def _run(stalled: int, live: int, megabytes: int, cell_bytes: int, outbox_bytes: int) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.stalled_readers", "--serve", f"--outbox-bytes={outbox_bytes}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    try:
        async with AsyncExitStack() as stack:
            stores = [MergeableStore() for _ in range(live)]
            for store in stores:
                await stack.enter_async_context(create_ws_synchronizer(store, f"ws://127.0.0.1:{port}/p"))
            for index in range(_ROWS):
                stores[0].set_cell("t", str(index), "c", "")
            await eventually(lambda: _equal(stores), _PATIENCE_SECONDS)
            sockets = [await _stalled(port) for _ in range(stalled)]
            for each in sockets:
                stack.push_async_callback(each.close)
            await asyncio.sleep(0.5)
            before, began, written = _memory_bytes(server.pid), time.perf_counter(), 0
            busy = busy_seconds(server.pid)
            while written < megabytes * 1_000_000:
                writer = stores[written // cell_bytes % live]
                writer.set_cell("t", str(written // cell_bytes % _ROWS), "c", f"{written:_<{cell_bytes}}")
                written += cell_bytes
                if written % (50 * cell_bytes) == 0:
                    await eventually(lambda: _equal(stores[:2]), _PATIENCE_SECONDS)
            await eventually(lambda: _equal(stores), _PATIENCE_SECONDS)
            seconds = time.perf_counter() - began
            grown, peak = _memory_bytes(server.pid) - before, _memory_bytes(server.pid, "VmHWM") - before
            print(
                f"{stalled} stalled and {live} live readers, {written / 1e6:.1f} MB written in {seconds:.1f} s, "
                f"in which the server worked {busy_seconds(server.pid) - busy:.1f} s: "
                f"server +{grown / 1e6:.1f} MB (peak +{peak / 1e6:.1f} MB), {grown / max(stalled, 1) / 1e3:.0f} kB each"
            )
            expected, busy = list(stores[0].get_mergeable_content_hashes()), busy_seconds(server.pid)
            waits = []
            for each in sockets[::2]:
                began = time.perf_counter()
                await within(_last_hashes(each, expected), _PATIENCE_SECONDS)
                waits.append(time.perf_counter() - began)
            began = time.perf_counter()
            await within(asyncio.gather(*(_last_hashes(each, expected) for each in sockets[1::2])), _PATIENCE_SECONDS)
            print(
                f"all {stalled} read again, and none was cut: half of them one by one, and knew the hashes after "
                f"{max(waits, default=0.0):.1f} s at most, {sum(waits) / max(len(waits), 1):.2f} s on average; half of "
                f"them at once, in {time.perf_counter() - began:.1f} s; the server worked "
                f"{busy_seconds(server.pid) - busy:.1f} s"
            )
    finally:
        server.terminate()
        await server.wait()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--live", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--cell-bytes", type=int, default=1000)
    parser.add_argument("--outbox-bytes", type=int, default=Limits().outbox_bytes)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = vars(arguments)
    asyncio.run(_serve(arguments.outbox_bytes) if options.pop("serve") else _run(**options))


if __name__ == "__main__":
    main()
