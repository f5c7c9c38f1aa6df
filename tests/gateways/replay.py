"""Recorded exchanges with the four original servers (seeds/rooms.md), replayed against the gateways.

A line of a transcript is one event, in the order in which it was seen: `send` and `send_raw` come from that client,
`recv` must come to it, `close` is the client closing, and `closed` is `[code, reason]` with which it must be closed.
Where the original is not sound the line says what is right, and `repaired` why; `recorded` is then what the original
did (`recv` or `closed`, null for nothing). What servers choose anew each time (versions, ids) is matched by its form,
and must be used consistently.

`ping_after_ms` is the next ping that comes to the client; it, and what has `after_ms`, may come later than that, but
not sooner: the server's times are a share of the original's. In such a transcript all are connected from the
beginning, and who is called `never pongs` does not answer pings.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode

from tests.support import within
from tests.unit.net.kit import closed_with

TRANSCRIPTS = Path(__file__).parent / "transcripts"
_CHOSEN = re.compile(r"[0-9a-f]{32}|connection:\d+|ACK\d+")

Split = Callable[[Any], Iterator[Any]]


def whole(frame: Any) -> Iterator[Any]:
    """A frame comes as it was recorded."""
    yield frame


class _Client(ClientConnection):
    """A client that knows when it was pinged."""

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self.pinged: asyncio.Queue[None] = asyncio.Queue()

    def process_event(self, event: Any) -> None:
        """Act on a frame, or on the answer to the handshake."""
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pinged.put_nowait(None)
        super().process_event(event)


class _SilentClient(_Client):
    """One that does not answer pings."""

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        send_frame = protocol.send_frame
        protocol.send_frame = lambda frame: None if frame.opcode is Opcode.PONG else send_frame(frame)  # type: ignore[method-assign]


class Replay:
    """One transcript against one server.

    Args:
        url: where clients connect, by their names.
        split: in which frames a recorded one comes.
        on_server: what the server does where the transcript says `server`.
        literal: of which events the frames are exactly as recorded.
        pace: how many seconds here one second of the recording is.
    """

    def __init__(
        self,
        url: Callable[[str], str],
        split: Split = whole,
        on_server: Callable[[str], Awaitable[None]] | None = None,
        literal: Callable[[Any], bool] = lambda _: False,
        pace: float = 1.0,
    ) -> None:
        self._url = url
        self._on_server = on_server
        self._literal = literal
        self._split = split
        self._pace = pace
        self._began = 0.0
        self._stack = AsyncExitStack()
        self._clients: dict[str, _Client] = {}
        self._chosen: dict[tuple[str, str], str] = {}
        self._who = ""  # whose turn it is

    async def run(self, name: str) -> None:
        """Replay a transcript to its end; nothing else than what it says may have come to anybody."""
        lines = (TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines()
        async with self._stack:
            if any("after_ms" in json.loads(line) for line in lines):
                for line in lines:
                    await self._client(json.loads(line)["who"])
            for number, line in enumerate(lines, 1):
                try:
                    await self._step(json.loads(line))
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"{name} line {number}: {line}\n{error}") from error
            for who, client in self._clients.items():
                await within(await client.ping())  # what was sent to it has come before the answer
                with suppress(TimeoutError):
                    raise AssertionError(f"{name}: {who} was sent {await within(client.recv(), 0.01)}")

    async def _client(self, name: str) -> _Client:
        if name not in self._clients:
            kind = _SilentClient if name == "never pongs" else _Client
            self._began = time.monotonic()
            connection = connect(
                self._url(name), compression=None, max_size=None, ping_interval=None, create_connection=kind
            )
            client = await self._stack.enter_async_context(connection)
            assert isinstance(client, _Client)
            self._clients[name] = client
        return self._clients[name]

    def _mind_time(self, milliseconds: float) -> None:
        """Something has not come sooner than it may; a fifth is forgiven, as the originals' clocks ticked for all."""
        assert time.monotonic() - self._began >= 0.8 * self._pace * milliseconds / 1000

    async def _step(self, event: dict[str, Any]) -> None:
        if "server" in event:
            assert self._on_server is not None
            await self._on_server(event["server"])
            return
        self._who = event["who"]
        client = await self._client(self._who)
        match event:
            case {"send": message}:
                await client.send(json.dumps(message if self._literal(event) else self._translated(message)))
            case {"send_raw": text}:
                await client.send(text)
            case {"recv": None}:
                pass  # repaired: the original sent something
            case {"recv": expected}:
                for frame in self._split(expected):
                    came = json.loads(await within(client.recv()))
                    assert frame == came if self._literal(event) else self._same(frame, came), f"came: {came}"
            case {"ping_after_ms": milliseconds}:
                await within(client.pinged.get())
                self._mind_time(milliseconds)
            case {"welcomed": True}:
                assert json.loads(await within(client.recv()))["type"] == 1
            case {"close": [code, reason]}:
                await client.close(code, reason)
                del self._clients[event["who"]]
            case {"closed": [code, reason]}:
                came_code, came_reason = await closed_with(client)
                assert (came_code, came_reason) == (code, reason)
                self._mind_time(event.get("after_ms", 0.0))
                del self._clients[event["who"]]
            case _:
                raise AssertionError("no event")

    def _key(self, token: str) -> tuple[str, str]:
        """What is chosen for one client alone, and what for all."""
        return (self._who, token) if token.startswith("ACK") else ("", token)

    def _translated(self, value: Any) -> Any:
        """What the recorder sent, with what this server has chosen."""
        if isinstance(value, dict):
            return {key: self._translated(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._translated(item) for item in value]
        if isinstance(value, str):
            return _CHOSEN.sub(lambda found: self._chosen.get(self._key(found[0]), found[0]), value)
        return value

    def _same(self, recorded: Any, came: Any) -> bool:
        if isinstance(recorded, dict):
            if not isinstance(came, dict) or len(recorded) != len(came):
                return False
            for key in sorted(recorded, key=lambda key: isinstance(recorded[key], dict)):  # ids before what they name
                their_key = self._chosen.get(self._key(key), key)
                if their_key not in came or not self._same(recorded[key], came[their_key]):
                    return False
            return True
        if isinstance(recorded, list):
            return (
                isinstance(came, list)
                and len(recorded) == len(came)
                and all(self._same(one, other) for one, other in zip(recorded, came, strict=True))
            )
        if isinstance(recorded, str) and isinstance(came, str) and _CHOSEN.fullmatch(recorded):
            if not re.fullmatch(r"[0-9a-f]{20,32}|connection:\d+|ACK\d+", came):
                return False
            return self._chosen.setdefault(self._key(recorded), came) == came
        return type(recorded) is type(came) and bool(recorded == came)
