"""A client that lies in valid form: wrong hashes, answers to questions not asked, stamps of the future, nonsense."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from random import Random
from typing import Any

from websockets.exceptions import InvalidStatus

from mergesync.exceptions import RefusedChangesError, RemoteProtocolError
from mergesync.net.channel import ChannelClosed
from mergesync.store.hlc import encode_hlc
from mergesync.sync.admission import Leaf, body_of

from .clock import TAME_MILLISECONDS, Clock
from .network import SimulatedChannel
from .world import World

__all__ = ["Hostile"]

_FUTURE_MILLISECONDS = 3_600_000


class Hostile:
    """One that lies.

    Args:
        world: where.
        path_id: on which path.
        random: draws the lies.
    """

    def __init__(self, world: World, path_id: str, random: Random) -> None:
        self.name = f"h{world.new_id(5)}"
        self._world = world
        self._path_id = path_id
        self._random = random
        self._channel: SimulatedChannel | None = None
        self._stamps = 0
        self._application = world.application

    async def say_something(self) -> None:
        """Connect if need be, and tell one lie."""
        if self._channel is None or not self._channel.is_open:
            headers = (
                {} if self._application is None else {"authorization": f"Bearer {self._application.guest_token()}"}
            )
            with suppress(OSError, InvalidStatus):
                self._channel = await self._world.network.connect(self.name, f"/{self._path_id}", None, headers)
                self._world.spawn(self._answer(self._channel))
            return
        lie = self._random.choice((self._announce, self._write, self._write_in_future, self._ask, self._babble))
        await lie()

    def _send(self, request_id: str | None, kind: int, body: Any, address: str = "S") -> None:
        if self._channel is not None:
            self._channel.post(f"{address}\n{json.dumps([request_id, kind, body])}")

    async def _answer(self, channel: SimulatedChannel) -> None:
        """Answer each question wrongly, late, or not at all."""
        with suppress(ChannelClosed):
            while True:
                _, _, text = (await channel.receive()).partition("\n")
                try:
                    request_id, kind, _ = json.loads(text)
                except ValueError:  # a fragment
                    continue
                if kind not in (0, 2, 3) and self._random.random() < 0.8:
                    self._send(request_id, 0, self._random.choice((self._hashes, self._tables, self._diff))())

    # --- lies

    async def _announce(self) -> None:
        self._send(self._world.new_id(11), 2, self._hashes(), self._random.choice(("", "S")))

    def leave(self) -> None:
        """Cut the link."""
        for link in self._world.network.links:
            if link.client_name == self.name:
                link.cut()

    async def _write(self) -> None:
        self._send(None, 3, self._changes(self._stamp()), self._random.choice(("", "S", "nobody")))

    async def _write_in_future(self) -> None:
        """The server must say that it refuses this."""
        channel, hub = self._channel, self._world.replica(self._path_id)
        seen = len(self._world.errors)
        was_ready = hub is not None and hub.state.value == "ready"
        self._send(None, 3, self._changes(self._stamp(_FUTURE_MILLISECONDS), true=False))
        await asyncio.sleep(0.3)
        is_same = self._channel is channel and self._world.replica(self._path_id) is hub
        if channel is None or not (was_ready and is_same and channel.is_open):
            return
        if self._application is not None and self._application.is_slow:  # no more is read while it thinks
            return
        refusals = (RefusedChangesError, RemoteProtocolError)
        if not channel.is_delayed and not any(isinstance(error, refusals) for error in self._world.errors[seen:]):
            self._world.fail("errors", "a stamp of the future was refused, and nobody was told")

    async def _ask(self) -> None:
        kind, body = self._random.choice(((1, ""), (4, {"t": 1}), (5, {"t": {"1": 5}}), (6, {"s": {"1": {}}}), (7, {})))
        self._send("q.1", kind, body)

    async def _babble(self) -> None:
        text = self._random.choice(("S\n[1,2]", "", "S\nnull", 'S\n["x",0,[5,6]]', 'S\n["x",3,[[{}],[{}]]]'))
        if self._channel is not None:
            self._channel.post(text)

    # --- what they are made of

    def _stamp(self, ahead_milliseconds: int = 0) -> str:
        self._stamps += 1
        now = Clock().read(self._world.loop.time()) + ahead_milliseconds
        return encode_hlc(now - self._random.randrange(TAME_MILLISECONDS), self._stamps, self.name[1:])

    def _hashes(self) -> list[int]:
        return [self._random.randrange(2**32), self._random.randrange(2**32)]

    def _changes(self, hlc: str, true: bool = True) -> Any:
        leaf: Leaf = ("t", self._random.choice("123"), self._random.choice("abc"))
        lie = "lie" if self._application is None else self._application.lie(self._path_id, self._random)
        if true:
            self._world.written.setdefault(self._path_id, {}).setdefault(leaf, {})[hlc] = lie
        return body_of({leaf: [lie, hlc]})

    def _tables(self) -> Any:
        return self._changes(self._stamp())[0]

    def _diff(self) -> Any:
        return [self._tables(), self._random.choice(({}, {"t": 7}, {"t": {"1": 7}}))]
