"""server-state-sync: objects that the server makes, of which clients change single properties."""

from __future__ import annotations

from typing import Any

from mergesync import (
    MISSING,
    ContentError,
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
from mergesync.limits import MAX_MERGE_TRIES

__all__ = ["state_sync"]

_CONNECT, _UPDATE, _CONNECTED, _NOT_CONNECTED, _NOT_UPDATED, _UNKNOWN = 2, 3, 7, 8, 9, 10
_CLOSE_POLICY = 1008


def state_sync() -> Gateway:
    """A gateway for clients of server-state-sync: a state is a path that the server has made, and its values.

    Example:
        server = await create_ws_server(create="server", gateways={"/states": state_sync()})
        await server.create_path("chat", content=({}, {"topic": "all and sundry"}))
    """

    async def gateway(socket: GatewaySocket) -> None:
        if not socket.info.query.get("identifier"):
            socket.close(_CLOSE_POLICY, "no identifier")
        client = _StateClient(socket)
        async for frame in socket:
            try:
                await client.receive(frame)
            except RemoteProtocolError as error:  # the protocol has no answer to that
                socket.report(error)

    return gateway


class _StateClient:
    """One client."""

    def __init__(self, socket: GatewaySocket) -> None:
        self._socket = socket
        self._member: Member | None = None
        self._told: set[str] = set()  # the properties it was told of since it began to update

    def _send(self, type_: int, **data: Any) -> None:
        self._socket.send(encode({"type": type_, "data": data}))

    async def receive(self, frame: str) -> None:
        """Act on a frame.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        match decode(frame):
            case {"type": 2, "data": dict(data)}:
                await self._connect(data.get("stateIdentifier"))
            case {"type": 3, "data": dict(data)}:
                await self._update(data.get("updates"), data.get("path", []))
            case {"type": 2 | 3}:
                raise RemoteProtocolError("no data", excerpt=frame)
            case {"type": type_}:
                self._send(_UNKNOWN, message=f"Message type {type_} is not supported")
            case _:
                raise RemoteProtocolError("no type", excerpt=frame)

    async def _connect(self, state_id: Any) -> None:
        """Connect to a state, leaving the former also if that is not possible."""
        if self._member is not None:
            self._socket.leave(self._member.client.path_id)
            self._member = None
        if not is_name(state_id):
            return self._send(_NOT_CONNECTED, message="Could not connect to state, no stateIdentifier was supplied")
        path_id = path_id_of(state_id)
        if not self._socket.exists(path_id):
            return self._send(_NOT_CONNECTED, message=f"State with identifier {state_id} does not exist")
        try:
            member = self._member = await self._socket.join(path_id)
        except RefusedError:
            return self._send(_NOT_CONNECTED, message="Not allowed to connect to this state")
        member.on_transaction = self._changed
        return self._send(_CONNECTED, state=member.store.get_values())

    async def _update(self, updates: Any, path: Any) -> None:
        """Update properties; or, which is not of the original, what is at a path in one."""
        if self._member is None or not isinstance(updates, dict) or not _are_keys(path):
            return self._send(_NOT_UPDATED, message="Could not update state")
        self._told = set()
        try:
            if path:
                updates = await _merge_in(self._member, path, updates)
            else:
                await self._member.change(({}, updates))
        except (RefusedError, RequestFailedError, InvalidCellError, ContentError) as error:
            return self._send(_NOT_UPDATED, message=str(error.args[0]))
        store = self._member.store
        same = {id_: value for id_, value in updates.items() if id_ not in self._told and store.get_value(id_) == value}
        if same:  # who waits for its own update to come back waits for that of what it was already, too
            self._send(_UPDATE, updates=same)
        return None

    def _changed(self, _: bool) -> None:
        assert self._member is not None
        _, values, _ = self._member.store.get_transaction_changes()
        if values:
            self._told |= values.keys()
            # There is no word for a property that is gone.
            self._send(_UPDATE, updates={id_: None if new is MISSING else new for id_, new in values.items()})


def _are_keys(path: Any) -> bool:
    return isinstance(path, list) and all(isinstance(key, str) for key in path)


async def _merge_in(member: Member, path: list[str], updates: dict[str, Any]) -> dict[str, Any]:
    """Merge updates into the object at a path, whatever others change beside it; returns the property they are in.

    Raises:
        RequestFailedError: they are refused, or others were quicker each time.
    """
    property_id, *keys = path
    for _ in range(MAX_MERGE_TRIES):
        version, value = member.version(value_id=property_id), member.store.get_value(property_id)
        whole = node = value if isinstance(value, dict) else {}
        for key in keys:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node.update(updates)
        try:
            await member.compare_and_set(version, ({}, {property_id: whole}))
        except StaleVersionError:
            continue
        return {property_id: whole}
    raise RequestFailedError("others were quicker each time", "stale")
