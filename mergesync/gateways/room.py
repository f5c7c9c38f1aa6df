"""websocket-room-server: rooms with a store of texts, clients with states, and actions."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from mergesync import (
    MISSING,
    Client,
    Gateway,
    GatewaySocket,
    InvalidCellError,
    Member,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
)
from mergesync.gateways.frames import as_text, decode, encode, is_name, path_id_of
from mergesync.limits import HELLO_TIMEOUT_SECONDS, MAX_MESSAGES_BEING_ANSWERED

__all__ = ["OnClientState", "room_server"]

PROTOCOL = "websocket-room-server:1"

_WELCOME, _CHANGE, _NEWS, _ACTION, _RESULT = 1, 2, 3, 4, 5
_CLOSE_PROTOCOL_ERROR = 1002

OnClientState: TypeAlias = Callable[[Client, dict[str, str]], Any]
"""`(client, state) -> state`, or an awaitable of one."""


def room_server(*, on_client_state: OnClientState | None = None) -> Gateway:
    """A gateway for clients of websocket-room-server: a room is a path, and its state the values there, as texts.

    Args:
        on_client_state: called with what a client says of itself, when it comes and when it changes that; what it
            returns is shown to the others. Raising `RefusedError` says no.

    Example:
        server = await create_ws_server(gateways={"/wss": room_server()})
    """
    numbers = itertools.count(1)
    rooms: dict[str, _Room] = {}

    async def gateway(socket: GatewaySocket) -> None:
        client = _RoomClient(socket, on_client_state)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                frame = await anext(socket, None)
        except TimeoutError:
            return client.end("no hello received in time")
        try:
            if frame is not None:
                await client.hello(frame, rooms, numbers)
            async for frame in socket:
                await client.receive(frame)
        except RemoteProtocolError as error:
            socket.report(error)
            client.end(f"error: {error.message}")
        except (RefusedError, InvalidCellError) as error:
            client.end(f"error: {error.args[0]}")
        return None

    return gateway


class _Room:
    """Those in a room who are shown to others, and those who see them."""

    def __init__(self) -> None:
        self.clients: dict[str, _RoomClient] = {}

    def shown(self) -> dict[str, Any]:
        """Everybody who is shown, as a newcomer hears of them."""
        return {client_id: client.shown() for client_id, client in self.clients.items() if client.is_shown}

    def tell(self, skip: _RoomClient | None, **news: Any) -> None:
        """Tell all but one."""
        for client in self.clients.values():
            if client is not skip and client.sees_others:
                client.send(_NEWS, **news)


class _RoomClient:
    """One client.

    Args:
        socket: its socket.
        on_client_state: see `room_server`.
    """

    def __init__(self, socket: GatewaySocket, on_client_state: OnClientState | None) -> None:
        self._socket = socket
        self._on_client_state = on_client_state
        self._id = ""
        self._member: Member
        self._room: _Room
        self._about: dict[str, str] = {}  # its type and name
        self._state: dict[str, str] = {}
        self._readonly = False
        self._asking: dict[str, Any] = {}  # what it wants changed at this moment
        self._echo = False
        self._told: set[str] = set()  # what of that it was told of
        self._asked: dict[str, Callable[[Any], None]] = {}  # questions it may answer
        self._questions = itertools.count(1)

    def send(self, type_: int, **keys: Any) -> None:
        """Send a frame."""
        self._socket.send(encode({"type": type_, **keys}))

    def end(self, reason: str) -> None:
        """Close, as this protocol does for every error."""
        self._socket.close(_CLOSE_PROTOCOL_ERROR, reason)

    # --- hello

    async def hello(self, frame: str, rooms: dict[str, _Room], numbers: Iterator[int]) -> None:
        """Come into a room.

        Raises:
            RemoteProtocolError: the frame is no hello.
            RefusedError: it is not let in.
        """
        hello = _checked_hello(frame)
        if hello["protocol"] != PROTOCOL:
            return self.end(f"wrong protocol ({hello['protocol']} vs {PROTOCOL}")
        path_id = path_id_of(hello["roomId"])
        self._member = member = await self._socket.join(path_id, hello)
        await self._take_name(numbers)
        self._about = {key: hello[key] for key in ("clientType", "clientName") if key in hello}
        self._readonly = hello.get("readonly", False) or not member.client.access.write
        self._state = await self._approved(hello["clientState"])
        await self._announce()
        self._come(rooms, path_id)
        return self.send(
            _WELCOME,
            protocol=PROTOCOL,
            roomProtocol=hello["roomProtocol"],
            clientId=self._id,
            clients=self._room.shown() if self.sees_others else {},
            roomState={key: as_text(value) for key, value in member.store.get_values().items()},
            readonly=self._readonly,
        )

    async def _take_name(self, numbers: Iterator[int]) -> None:
        """Be called by its id on the path, so that the server and others can send it messages."""
        while True:
            self._id = f"connection:{next(numbers)}"
            try:
                if self._member.client.access.actions:
                    await self._member.take_name(self._id)
            except RequestFailedError as error:
                if error.reason != "name-taken":
                    raise RefusedError(error.message) from None
            else:
                return

    async def _approved(self, state: dict[str, str]) -> dict[str, str]:
        if self._on_client_state is not None:
            approved = self._on_client_state(self._member.client, dict(state))
            return dict(await approved if inspect.isawaitable(approved) else approved)
        return dict(state)

    async def _announce(self) -> None:
        """Let also others than clients of this gateway see what it says of itself, if they see who is there."""
        if self.is_shown:
            try:
                await self._member.announce(self.shown())
            except RequestFailedError as error:
                if error.reason != "unknown":
                    raise RefusedError(error.message) from None

    def _come(self, rooms: dict[str, _Room], path_id: str) -> None:
        room = self._room = rooms.setdefault(path_id, _Room())
        room.clients[self._id] = self
        self._member.on_transaction = self._changed
        self._member.on_message = self._message

        def leave() -> None:
            del room.clients[self._id]
            if self.is_shown:
                room.tell(self, removeClients=[self._id])
            if not room.clients and rooms.get(path_id) is room:
                del rooms[path_id]

        self._member.on_left = leave
        if self.is_shown:
            room.tell(self, addClients={self._id: self.shown()})

    @property
    def is_shown(self) -> bool:
        """Whether others see it."""
        return not self._readonly and self._member.client.access.presence

    @property
    def sees_others(self) -> bool:
        """Whether it sees others."""
        return self._member.client.access.presence

    def shown(self) -> dict[str, Any]:
        """What others see of it."""
        return {**self._about, "clientState": self._state}

    # --- what it says

    async def receive(self, frame: str) -> None:
        """Act on a frame.

        Raises:
            RemoteProtocolError: it is malformed, or asks for an action that does not exist.
            RefusedError: it asks for what it may not.
        """
        message = decode(frame)
        type_ = message.get("type") if isinstance(message, dict) else None
        if not isinstance(type_, int | float) or isinstance(type_, bool):
            kind = _js_type(message.get("type", MISSING)) if isinstance(message, dict) else "undefined"
            raise RemoteProtocolError(f"message without numerical type ({kind}", excerpt=frame)
        if type_ == _CHANGE:
            await self._change(message)
        elif type_ == _ACTION:
            await self._act(message)
        elif type_ == _RESULT:
            self._answer(message)
        else:
            raise RemoteProtocolError(f"Unhandled message type {type_:g}", excerpt=frame)

    async def _change(self, message: dict[str, Any]) -> None:
        room_changes = _checked_changes(message.get("roomChanges", []))
        client_changes = _checked_changes(message.get("clientChanges", []))
        echo = message.get("echo", False) is True
        if room_changes:
            await self._change_room(room_changes, echo)
        if client_changes:
            await self._change_state(client_changes, echo)

    async def _change_room(self, changes: dict[str, Any], echo: bool) -> None:
        if self._readonly:
            raise RefusedError("readonly client cannot change room state")
        self._asking, self._echo, self._told = changes, echo, set()
        try:
            await self._member.change(({}, changes))
        finally:
            self._asking = {}
        store = self._member.store
        present = {key: store.get_value(key) for key in changes.keys() - self._told}
        self._tell_of({key: value for key, value in present.items() if value != changes[key]})

    def _changed(self, own: bool) -> None:
        _, values, _ = self._member.store.get_transaction_changes()
        if own:
            if not self._echo:  # what it wants it knows, but not what became of that
                values = {
                    key: new for key, new in values.items() if key not in self._asking or self._asking[key] != new
                }
            self._told |= values.keys()
        self._tell_of(values)

    def _tell_of(self, values: dict[str, Any]) -> None:
        if values:
            self.send(_NEWS, roomChanges=_entries(values))

    async def _change_state(self, changes: dict[str, Any], echo: bool) -> None:
        wanted = {key: value for key, value in {**self._state, **changes}.items() if value is not MISSING}
        before, self._state = self._state, await self._approved(wanted)
        await self._announce()
        keys = before.keys() | self._state.keys()
        news = {key: self._state.get(key, MISSING) for key in keys if self._state.get(key) != before.get(key)}
        if news and self.is_shown:
            self._room.tell(None if echo else self, updateClients={self._id: _entries(news)})

    async def _act(self, message: dict[str, Any]) -> None:
        match message:
            case {"action": str(action)} if isinstance(message.get("data", ""), str):
                pass
            case _:
                raise RemoteProtocolError("Invalid ActionReq", excerpt=encode(message))
        result: dict[str, Any] = {"id": message["id"]} if "id" in message else {}
        try:
            data = await self._member.act(action, message.get("data"))
        except RequestFailedError as error:
            if error.reason == "unknown":
                raise RemoteProtocolError("unknown action", excerpt=action) from None
            self.send(_RESULT, **result, success=False, msg=error.message)
        else:
            self.send(_RESULT, **result, success=True, **({} if data is None else {"data": as_text(data)}))

    # --- what is said to it

    def _message(self, sender: str | None, message: Any, answer: Callable[[Any], None] | None) -> None:
        """A message: one of the server that is a frame goes out as it is, any other as an action `message`."""
        if sender is None and isinstance(message, dict) and message.get("type") in (_ACTION, _RESULT):
            frame = dict(message)
        else:
            frame = {"type": _ACTION, "action": "message", "data": encode({"from": sender, "message": message})}
        if answer is not None:
            frame["id"] = f"question:{next(self._questions)}"
            self._asked[frame["id"]] = answer
            if len(self._asked) > MAX_MESSAGES_BEING_ANSWERED:
                del self._asked[next(iter(self._asked))]
        self._socket.send(encode(frame))

    def _answer(self, message: dict[str, Any]) -> None:
        """An answer; what is late, or was not asked, is no fault."""
        answer = self._asked.pop(str(message.get("id")), None)
        if answer is not None:
            answer({key: message[key] for key in ("success", "data", "msg") if key in message})


def _entries(values: dict[str, Any]) -> list[dict[str, str]]:
    """Changes as they stand in a frame."""
    return [
        {"key": key} if value is MISSING else {"key": key, "value": as_text(value)} for key, value in values.items()
    ]


def _js_type(value: Any) -> str:
    """What JavaScript's `typeof` says."""
    if value is MISSING:
        return "undefined"
    return "string" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "object"


def _checked_hello(frame: str) -> dict[str, Any]:
    hello: dict[str, Any] = decode(frame)
    match hello:
        case {"protocol": str(), "roomProtocol": str(), "roomId": str(room_id)} if is_name(room_id):
            optional = ("roomCredential", "clientCredential", "clientType", "clientName")
            if all(isinstance(hello.get(key, ""), str) for key in optional) and isinstance(
                hello.get("readonly", False), bool
            ):
                state = hello.get("clientState")
                if not isinstance(state, dict):
                    raise RemoteProtocolError("Invalid KVStore (type)", excerpt=frame)
                if not all(isinstance(value, str) for value in state.values()):
                    raise RemoteProtocolError("Invalid KVStore (value)", excerpt=frame)
                return hello
    raise RemoteProtocolError("Invalid HelloReq", excerpt=frame)


def _checked_changes(entries: Any) -> dict[str, Any]:
    """Changes by key, with `MISSING` for what is to go."""
    if not isinstance(entries, list):
        raise RemoteProtocolError("Invalid KVSets (object)", excerpt=encode(entries))
    changes: dict[str, Any] = {}
    for entry in entries:
        match entry:
            case {"key": str(key), "value": str(value)}:
                changes[key] = value
            case {"key": str(key), **rest} if "value" not in rest:
                changes[key] = MISSING
            case _:
                raise RemoteProtocolError("Invalid KVSets (entry)", excerpt=encode(entry))
    return changes
