"""websocket-room-server: rooms with a store of texts, clients with states, and actions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mergesync import (
    MISSING,
    Gateway,
    GatewaySocket,
    InvalidCellError,
    Member,
    MergeableStore,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
)
from mergesync.gateways.frames import as_text, decode, encode, is_name, path_id_of
from mergesync.limits import HELLO_TIMEOUT_SECONDS, MAX_MESSAGES_BEING_ANSWERED

__all__ = ["room_server"]

PROTOCOL = "websocket-room-server:1"

_WELCOME, _CHANGE, _NEWS, _ACTION, _RESULT = 1, 2, 3, 4, 5
_CLOSE_PROTOCOL_ERROR = 1002

_CLIENTS = "clients"
_STATE, _TYPE, _NAME = "clientState", "clientType", "clientName"
_VOUCHED = ("name", "identity", "since", "write")


def room_server(*, hello_timeout_seconds: float = HELLO_TIMEOUT_SECONDS, echo: bool = False) -> Gateway:
    """A gateway for clients of websocket-room-server: a room is a path, and its state the values there, as texts.

    Args:
        hello_timeout_seconds: how long who has opened a socket may take to say which room it wants.
        echo: whether who asks for changes without saying so is told of them like all others.

    Example:
        server = await create_ws_server(gateways={"/wss": room_server()})
    """
    numbers = itertools.count(1)
    everybody: dict[str, _RoomClient] = {}
    rooms: dict[str, _Room] = {}

    async def gateway(socket: GatewaySocket) -> None:
        client = everybody[socket.info.client_id] = _RoomClient(socket, echo=echo)
        try:
            await _converse(client, socket)
        finally:
            del everybody[socket.info.client_id]

    async def _converse(client: _RoomClient, socket: GatewaySocket) -> None:
        try:
            async with asyncio.timeout(hello_timeout_seconds):
                frame = await anext(socket, None)
        except TimeoutError:
            return client.end("no hello received in time")
        try:
            if frame is not None:
                await client.hello(frame, lambda member: _room_of(member, rooms, everybody), numbers)
            async for frame in socket:
                await client.receive(frame)
        except RemoteProtocolError as error:
            socket.report(error)
            client.end(f"error: {error.message}")
        except (RefusedError, InvalidCellError) as error:
            client.end(f"error: {error.args[0]}")
        return None

    return gateway


def _room_of(member: Member, rooms: dict[str, _Room], everybody: dict[str, _RoomClient]) -> _Room:
    """The room that a client comes into."""
    path_id = member.client.path_id
    if path_id not in rooms:
        rooms[path_id] = _Room(member.clients_store, everybody, lambda: rooms.pop(path_id, None))
    return rooms[path_id]


@dataclass(frozen=True, slots=True)
class _Shown:
    """What others see of a client: what it is called, and what it is."""

    id: str
    client: dict[str, Any]


class _Room:
    """Who is on a path, as clients of this protocol see it: all that may write, whatever they speak.

    Args:
        store: a row for each client.
        everybody: the clients of this gateway, by the ids of their rows.
        is_empty: called when the last client of this gateway has left.
    """

    def __init__(
        self, store: MergeableStore, everybody: dict[str, _RoomClient], is_empty: Callable[[], object]
    ) -> None:
        self._store = store
        self._everybody = everybody
        self._is_empty = is_empty
        self._here: dict[str, _RoomClient] = {}
        self._shown: dict[str, _Shown] = {}
        self._listener_id = store.add_did_finish_transaction_listener(lambda _: self._changed())
        self._look_at(store.get_row_ids(_CLIENTS))

    @property
    def shown(self) -> dict[str, Any]:
        """Everybody who is shown, as a newcomer hears of them."""
        return {shown.id: shown.client for shown in self._shown.values()}

    def enter(self, row_id: str, client: _RoomClient) -> None:
        """A client is there, and hears of others from now on."""
        self._here[row_id] = client

    def leave(self, row_id: str) -> None:
        """It hears of them no more."""
        del self._here[row_id]
        if not self._here:
            self._store.del_listener(self._listener_id)
            self._is_empty()

    def _changed(self) -> None:
        tables, _, _ = self._store.get_transaction_changes()
        rows = tables.get(_CLIENTS, {})
        self._look_at(list(self._shown) if rows is MISSING else rows)

    def _look_at(self, row_ids: Iterable[str]) -> None:
        for row_id in row_ids:
            before, now = self._shown.pop(row_id, None), self._look(row_id)
            if now is not None:
                self._shown[row_id] = now
            if before is not None and now is not None and _is_same(before, now):
                self._tell_of_state(row_id, now, before.client[_STATE])
                continue
            if before is not None:
                self._tell(row_id, removeClients=[before.id])
            if now is not None:
                self._tell(row_id, addClients={now.id: now.client})

    def _look(self, row_id: str) -> _Shown | None:
        """What others see of a client; None if they do not."""
        row = self._store.get_row(_CLIENTS, row_id)
        own = self._everybody.get(row_id)
        if not row.get("write") or (own is not None and _STATE not in row):  # its hello is under way, or it is readonly
            return None
        said = row.get(_STATE)
        if not isinstance(said, dict):
            said = {cell_id: cell for cell_id, cell in row.items() if cell_id not in (*_VOUCHED, _TYPE, _NAME)}
        client: dict[str, Any] = {key: as_text(row[key]) for key in (_TYPE, _NAME) if key in row}
        if own is None and _NAME not in row and "identity" in row:
            client[_NAME] = as_text(row["identity"])
        client[_STATE] = {key: as_text(value) for key, value in said.items()}
        name = own.id if own is not None else str(row.get("name", row_id))
        is_taken = any(shown.id == name for shown in self._shown.values())
        return _Shown(row_id if is_taken else name, client)

    def _tell(self, row_id: str, **news: Any) -> None:
        for other_id, client in self._here.items():
            if other_id != row_id:
                client.send(_NEWS, **news)

    def _tell_of_state(self, row_id: str, shown: _Shown, before: dict[str, str]) -> None:
        state = shown.client[_STATE]
        news = {key: state.get(key, MISSING) for key in {**before, **state} if state.get(key) != before.get(key)}
        if news:
            self._tell(row_id, updateClients={shown.id: _entries(news)})


def _is_same(one: _Shown, other: _Shown) -> bool:
    """Whether only the state can be another."""
    return (one.id, {**one.client, _STATE: {}}) == (other.id, {**other.client, _STATE: {}})


class _RoomClient:
    """One client.

    Args:
        socket: its socket.
        echo: whether it is told of its own changes where it does not say.

    Attributes:
        id: what it is called.
    """

    def __init__(self, socket: GatewaySocket, *, echo: bool) -> None:
        self.id = ""
        self._socket = socket
        self._member: Member
        self._about: dict[str, str] = {}  # its type and name
        self._state: dict[str, str] = {}
        self._readonly = False
        self._asking: dict[str, Any] = {}  # what it wants changed at this moment
        self._echoes = echo
        self._echo = False  # whether the changes that it asks for at this moment come back to it
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

    async def hello(self, frame: str, room_of: Callable[[Member], _Room], numbers: Iterator[int]) -> None:
        """Come into a room.

        Raises:
            RemoteProtocolError: the frame is no hello.
            RefusedError: it is not let in.
        """
        hello = _checked_hello(frame)
        if hello["protocol"] != PROTOCOL:
            return self.end(f"wrong protocol ({hello['protocol']} vs {PROTOCOL}")
        self._member = member = await self._socket.join(path_id_of(hello["roomId"]), hello)
        await self._take_name(numbers)
        self._about = {key: hello[key] for key in (_TYPE, _NAME) if key in hello}
        self._readonly = hello.get("readonly", False) or not member.client.access.write
        await self._say(hello[_STATE])
        member.on_transaction = self._changed
        member.on_message = self._message
        clients: dict[str, Any] = {}
        if member.client.access.presence:
            room = room_of(member)
            room.enter(member.client.id, self)
            member.on_left = lambda: room.leave(member.client.id)
            clients = room.shown
        return self.send(
            _WELCOME,
            protocol=PROTOCOL,
            roomProtocol=hello["roomProtocol"],
            clientId=self.id,
            clients=clients,
            roomState={key: as_text(value) for key, value in member.store.get_values().items()},
            readonly=self._readonly,
        )

    async def _take_name(self, numbers: Iterator[int]) -> None:
        """Be called by its id on the path, so that the server and others can send it messages."""
        while True:
            self.id = f"connection:{next(numbers)}"
            try:
                if self._member.client.access.actions:
                    await self._member.take_name(self.id)
            except RequestFailedError as error:
                if error.reason != "name-taken":
                    raise RefusedError(error.message) from None
            else:
                return

    @property
    def _is_shown(self) -> bool:
        return not self._readonly and self._member.client.access.presence

    async def _say(self, state: dict[str, str]) -> None:
        """Let others see its state, after the application; that of who is not shown is nobody's business."""
        self._state = state
        if self._is_shown:
            try:
                await self._member.announce({**self._about, _STATE: state})
            except RequestFailedError as error:
                raise RefusedError(error.message) from None
            said = self._member.clients_store.get_cell(_CLIENTS, self._member.client.id, _STATE)
            self._state = {key: as_text(value) for key, value in said.items()} if isinstance(said, dict) else {}

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
        echo = message.get("echo", self._echoes) is True
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
        before = self._state
        await self._say(wanted)
        known = before if echo else wanted  # without echo it hears only of what became other than it asked
        news = {key: self._state.get(key, MISSING) for key in {**known, **self._state}}
        news = {key: value for key, value in news.items() if value != known.get(key, MISSING)}
        if news and self._is_shown:
            self.send(_NEWS, updateClients={self.id: _entries(news)})

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
