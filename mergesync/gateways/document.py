"""wsss: one JSON document a room, replaced as a whole by who has seen its present version."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Any

from mergesync import (
    Gateway,
    GatewaySocket,
    InvalidCellError,
    Member,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    StaleVersionError,
)
from mergesync.gateways.frames import decode, encode, is_name, path_id_of

__all__ = ["wsss"]

_KEY_BYTES = 16
_VERSION_BYTES = 16


def wsss(*, value_id: str = "state") -> Gateway:
    """A gateway for clients of wsss: a room is a path, and its document one value there.

    Args:
        value_id: which value.

    Example:
        server = await create_ws_server(gateways={"/wsss": wsss()})
    """
    key = secrets.token_bytes(_KEY_BYTES)  # so that versions cannot be guessed from the stamps they are made of

    async def gateway(socket: GatewaySocket) -> None:
        rooms: dict[str, _Room] = {}
        async for frame in socket:
            await _receive(socket, rooms, frame, value_id, key)

    return gateway


async def _receive(socket: GatewaySocket, rooms: dict[str, _Room], frame: str, value_id: str, key: bytes) -> None:
    try:
        message = decode(frame)
    except RemoteProtocolError:
        return socket.send(encode({"error": "bad json"}))
    if not isinstance(message, dict) or not message.get("id"):
        return socket.send(encode({"error": "no id"}))
    name = _room_name(message.get("roomName"))
    if name is None:
        return socket.send(encode({"error": "no room name"}))
    path_id = path_id_of(name)
    is_new = False
    if path_id not in rooms:
        try:
            member = await socket.join(path_id, message)
        except RefusedError as error:
            return socket.send(encode({"error": error.message}))
        room = rooms[path_id] = _Room(socket, member, message["roomName"], value_id, key)
        is_new = room.is_new
    room = rooms[path_id]
    if "update" in message:
        await room.replace(message["update"], room.version if is_new else message.get("version"))
    else:
        room.tell()
    return None


def _room_name(name: Any) -> str | None:
    """A room's name, which may be a number; None if it is none."""
    if isinstance(name, int | float) and not isinstance(name, bool):
        name = f"{name:.15g}"
    return name if is_name(name) else None


class _Room:
    """A room as one client has it.

    Args:
        socket: the client.
        member: itself on the path.
        name: of the room, as the client spells it.
        value_id: where the document is.
        key: for versions.
    """

    def __init__(self, socket: GatewaySocket, member: Member, name: Any, value_id: str, key: bytes) -> None:
        self._socket = socket
        self._member = member
        self._name = name
        self._value_id = value_id
        self._key = key
        self._told = self.version
        member.on_transaction = self._changed

    @property
    def is_new(self) -> bool:
        """Whether nobody has been here before."""
        return not self._member.store.has_value(self._value_id) and len(self._member.path.clients) == 1

    @property
    def version(self) -> str:
        """The present version of the document."""
        version = f"{self._member.client.path_id}\n{self._member.version(value_id=self._value_id)}"
        return blake2b(version.encode("utf-8", "replace"), key=self._key, digest_size=_VERSION_BYTES).hexdigest()

    def _document(self) -> dict[str, Any]:
        state = self._member.store.get_value(self._value_id, None)
        return {"name": self._name, "state": state, "version": self.version}

    def tell(self) -> None:
        """Send the present document: under `data` as the code of wsss does, and beside it as its readme says."""
        document = self._document()
        self._told = document["version"]
        is_there = self._member.store.has_value(self._value_id)
        self._socket.send(encode({"data": document, **document, "state": document["state"] if is_there else {}}))

    def _changed(self, own: bool) -> None:
        if self.version != self._told:
            self.tell()

    def _fail(self, error: str) -> None:
        self._socket.send(encode({"error": error, "data": self._document()}))

    async def replace(self, state: Any, version: Any) -> None:
        """Replace the document, if its version is still this."""
        if version != self.version:
            return self._fail("wrong version")
        present = self._member.version(value_id=self._value_id)
        try:
            await self._member.compare_and_set(present, ({}, {self._value_id: state}))
        except StaleVersionError:
            return self._fail("wrong version")
        except (RequestFailedError, InvalidCellError) as error:
            return self._fail(str(error.args[0]))
        return self.tell()
