"""wsmsgbroker: messages between clients that have names, and questions of which the first answer counts."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any

from mergesync import (
    ConnectionLostError,
    Gateway,
    GatewaySocket,
    LimitExceededError,
    Member,
    PathClosedError,
    RemoteProtocolError,
    RequestFailedError,
)
from mergesync.gateways.frames import decode, encode, is_name
from mergesync.limits import MAX_MESSAGES_BEING_ANSWERED, MAX_UNANSWERED_OPERATIONS

__all__ = ["message_broker"]

_SECRET_BYTES = 16
_ACK_BYTES = 10
_CLOSE_POLICY = 1008


def message_broker() -> Gateway:
    """A gateway for clients of wsmsgbroker: what follows the prefix in the URL is the path on which they meet.

    Example:
        server = await create_ws_server(gateways={"/broker": message_broker()})
    """
    secret = secrets.token_hex(_SECRET_BYTES)

    async def gateway(socket: GatewaySocket) -> None:
        # A client that comes again gets its name back; another identity does not get it.
        identity = "" if socket.identity is None else socket.identity.name
        client = _BrokerClient(socket, await socket.join(socket.path_id), f"{secret}{identity}")
        try:
            async for frame in socket:
                try:
                    await client.receive(frame)
                except (RemoteProtocolError, RequestFailedError) as error:  # the protocol has no answer to that
                    socket.report(error)
        finally:
            await client.close()

    return gateway


class _BrokerClient:
    """One client.

    Args:
        socket: its socket.
        member: itself on the path.
        secret: by which it gets its name back.
    """

    def __init__(self, socket: GatewaySocket, member: Member, secret: str) -> None:
        self._socket = socket
        self._member = member
        self._secret = secret
        self._name: str | None = None
        self._asked: dict[str, Callable[[Any], None]] = {}  # what it may answer, by what it was given as `ack`
        self._asking: set[asyncio.Task[None]] = set()
        member.on_message = self._message
        member.on_name_lost = self._name_lost

    def _send(self, action: str, **keys: Any) -> None:
        self._socket.send(encode({"action": action, **keys}))

    async def close(self) -> None:
        """Ask nothing any more."""
        for task in self._asking:
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking)

    async def receive(self, frame: str) -> None:
        """Act on a frame.

        Raises:
            RemoteProtocolError: it is malformed.
            RequestFailedError: it cannot be done.
            LimitExceededError: too much that it has asked is not answered yet.
        """
        match decode(frame):
            case {"action": "register", "id": str(id_)} if is_name(id_):
                await self._register(id_)
            case {"action": "unregister"}:
                await self._unregister()
            case {"action": "send", "dest": dest, "message": message, **rest}:
                names = [dest] if isinstance(dest, str) else dest
                ack = rest.get("ack")
                if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                    raise RemoteProtocolError("dest must be an id, or several", excerpt=frame)
                if ack is None:
                    await self._pass_on(names, message)
                else:
                    await self._ask(names, message, ack)
            case {"action": "answer", "ack": str(ack), **rest}:
                answer = self._asked.pop(ack, None)
                if answer is not None:
                    answer(rest.get("message"))
            case _:
                raise RemoteProtocolError("no frame of wsmsgbroker", excerpt=frame)

    # --- its name

    async def _register(self, name: str) -> None:
        try:
            await self._member.take_name(name, self._secret)
        except RequestFailedError as error:
            self._socket.close(_CLOSE_POLICY, str(error.args[0]))
            raise
        self._name = name
        self._send("registered", id=name)

    async def _unregister(self) -> None:
        if self._name is not None:
            await self._member.give_up_name()
            self._name_lost()

    def _name_lost(self) -> None:
        name, self._name = self._name, None
        self._send("unregistered", id=name)

    # --- what it sends

    async def _pass_on(self, names: list[str], message: Any) -> None:
        for name in names:
            if name == self._name:
                self._message(name, message, None)
            else:
                await self._member.send(name, message)

    async def _ask(self, names: list[str], message: Any, ack: Any) -> None:
        """Ask, and go on reading; this client may be asked itself."""
        if len(self._asking) >= MAX_UNANSWERED_OPERATIONS:
            raise LimitExceededError(f"more than {MAX_UNANSWERED_OPERATIONS} unanswered", limit="requests")
        if self._name is None:
            raise RequestFailedError("who has no name cannot send messages", "no-name")
        others = [name for name in names if name != self._name]
        answered = False

        def answer(name: str | None, result: Any) -> None:
            nonlocal answered
            if not answered:
                answered = True
                self._send("answer", ack=ack, **{"from": name}, message=result)

        async def ask() -> None:
            # If there will be no answer, the protocol has no word for that.
            with contextlib.suppress(RequestFailedError, ConnectionLostError, PathClosedError):
                answer(*await self._member.ask(others, message))

        if len(others) < len(names):
            own_name = self._name
            self._message(own_name, message, lambda result: answer(own_name, result))
        if others:
            task = asyncio.create_task(ask())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            await asyncio.sleep(0)  # it has asked, before anything else is sent

    # --- what comes to it

    def _message(self, sender: str | None, message: Any, answer: Callable[[Any], None] | None) -> None:
        keys: dict[str, Any] = {"message": message}
        if answer is not None:
            keys["ack"] = secrets.token_hex(_ACK_BYTES)
            self._asked[keys["ack"]] = answer
            if len(self._asked) > MAX_MESSAGES_BEING_ANSWERED:
                del self._asked[next(iter(self._asked))]
        if sender is not None:
            keys["from"] = sender
        self._send("message", **keys)
