"""Recorded exchanges with the four original servers (seeds/rooms.md), replayed against the gateways.

A line of a transcript is one event, in the order in which it was seen: `send` and `send_raw` come from that client,
`recv` must come to it, `close` is the client closing, and `closed` is `[code, reason]` with which it must be closed.
Where the original is not sound the line says what is right, and `repaired` why; `recorded` is then what the original
did (`recv` or `closed`, null for nothing). What servers choose anew each time (versions, ids) is matched by its form,
and must be used consistently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support import within
from tests.unit.net.kit import closed_with

TRANSCRIPTS = Path(__file__).parent / "transcripts"
_CHOSEN = re.compile(r"[0-9a-f]{32}|connection:\d+|ACK\d+")

Split = Callable[[Any], Iterator[Any]]


def whole(frame: Any) -> Iterator[Any]:
    """A frame comes as it was recorded."""
    yield frame


class Replay:
    """One transcript against one server.

    Args:
        url: where clients connect, by their names.
        split: in which frames a recorded one comes.
        on_server: what the server does where the transcript says `server`.
        literal: of which events the frames are exactly as recorded.
    """

    def __init__(
        self,
        url: Callable[[str], str],
        split: Split = whole,
        on_server: Callable[[str], Awaitable[None]] | None = None,
        literal: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self._url = url
        self._on_server = on_server
        self._literal = literal
        self._split = split
        self._stack = AsyncExitStack()
        self._clients: dict[str, ClientConnection] = {}
        self._chosen: dict[tuple[str, str], str] = {}
        self._who = ""  # whose turn it is

    async def run(self, name: str) -> None:
        """Replay a transcript to its end; nothing else than what it says may have come to anybody."""
        async with self._stack:
            for number, line in enumerate((TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines(), 1):
                try:
                    await self._step(json.loads(line))
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"{name} line {number}: {line}\n{error}") from error
            for who, client in self._clients.items():
                await within(await client.ping())  # what was sent to it has come before the answer
                with suppress(TimeoutError):
                    raise AssertionError(f"{name}: {who} was sent {await within(client.recv(), 0.01)}")

    async def _client(self, name: str) -> ClientConnection:
        if name not in self._clients:
            self._clients[name] = await self._stack.enter_async_context(
                connect(self._url(name), compression=None, max_size=None)
            )
        return self._clients[name]

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
            case {"welcomed": True}:
                assert json.loads(await within(client.recv()))["type"] == 1
            case {"close": [code, reason]}:
                await client.close(code, reason)
                del self._clients[event["who"]]
            case {"closed": [code, reason]}:
                came_code, came_reason = await closed_with(client)
                assert (came_code, came_reason) == (code, reason)
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
