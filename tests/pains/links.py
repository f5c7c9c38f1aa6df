"""A link on which everything takes long, as to a satellite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["slow_link"]


@asynccontextmanager
async def slow_link(port: int, delay_seconds: float) -> AsyncIterator[int]:
    """Pass TCP on to a port, each way so much later; gives the port to connect to."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        for way in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(_pass_on(*way, delay_seconds))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    data = b"..."
    try:
        with suppress(OSError):
            while data:
                data = await reader.read(65536)
                loop.call_later(delay_seconds, _write, writer, data)
    finally:
        loop.call_later(delay_seconds, writer.close)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
