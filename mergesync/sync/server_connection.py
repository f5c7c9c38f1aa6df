"""One socket at the server, sans-I/O: frames in, and clients on paths (protocol sections 12 and 13).

A plain socket is one client on the path of its URL. A multiplexed one carries channels, each of them the same client on
a path of its own. Anything invalid raises; the socket is then closed with the code of the error
and nothing more of it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_CHANNELS
from mergesync.store.bulk import collector_paused_for
from mergesync.sync.operations import OPERATIONS, Operation, decode_operation
from mergesync.sync.payloads import (
    HELLO,
    SERVER,
    SUBSCRIBE,
    Control,
    FragmentCollector,
    Payload,
    channel_frame,
    check_frame_size,
    control_frame,
    decode_control,
    split_channel_frame,
    split_frame,
)
from mergesync.sync.subprotocols import Dialect

__all__ = ["ServerConnection", "Switchboard", "path_of"]


class Switchboard(Protocol):
    """What a connection needs of the server around it."""

    def admit(self, path_id: str, connection: ServerConnection, decided: Callable[[bool], None]) -> None:
        """Ask whether the client may come onto a path; `decided` is called now or later."""

    def join(self, path_id: str, connection: ServerConnection, channel_id: str | None) -> None:
        """The client comes onto a path."""

    def leave(self, path_id: str, connection: ServerConnection) -> None:
        """The client leaves a path."""

    def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
        """The client says something on a path."""

    def operate(self, path_id: str, connection: ServerConnection, operation: Operation, size: int) -> None:
        """The client asks the server itself for something, in so many characters."""

    def send_to(self, connection: ServerConnection, frame: str) -> None:
        """Send a frame to the socket."""


def path_of(target: str) -> str:
    """The path id of a request target: what follows its first slash, up to `?`, not decoded.

    Example:
        >>> path_of("/a%20b/c?x"), path_of("/")
        ('a%20b/c', '')
    """
    return target.removeprefix("/").partition("?")[0]


class ServerConnection:
    """One socket of a client.

    Args:
        client_id: what the client is called on its paths.
        base_path_id: the path of its URL.
        dialect: what was agreed on.
        switchboard: the server around it.
        timeout_seconds: a message of which no further fragment comes for so long is dropped.
    """

    __slots__ = (
        "_base_path_id",
        "_channels",
        "_deaf",
        "_fragments",
        "_greeted",
        "_open",
        "_switchboard",
        "client_id",
        "extended",
        "multiplexed",
    )

    def __init__(
        self, client_id: str, base_path_id: str, *, dialect: Dialect, switchboard: Switchboard, timeout_seconds: float
    ) -> None:
        self.client_id: str = client_id
        self.multiplexed: bool = dialect.multiplexed
        self.extended: bool = dialect.extended
        self._base_path_id = base_path_id
        self._switchboard = switchboard
        self._fragments = FragmentCollector(timeout_seconds)
        self._greeted = False
        self._channels: dict[str, str] = {}  # path ids by channel id
        self._deaf: set[str] = set()  # channels that are not, or no longer, let onto their paths
        self._open = False

    def open(self) -> None:
        """The socket is open: a plain one is on its path from now on."""
        self._open = True
        if not self.multiplexed:
            self._switchboard.join(self._base_path_id, self, None)

    def close(self) -> None:
        """The socket is closed: leave all paths. May be called more than once."""
        if not self._open:
            return
        self._open = False
        joined = [path_id for channel_id, path_id in self._channels.items() if channel_id not in self._deaf]
        path_ids = joined if self.multiplexed else [self._base_path_id]
        self._channels.clear()
        self._deaf.clear()
        for path_id in path_ids:
            self._switchboard.leave(path_id, self)

    def prefix(self, path_id: str) -> str | None:
        """What precedes the frames of a path on this socket, or None if the client is no longer there."""
        if not self.multiplexed:
            return ""
        channel_id = self._channel_of(path_id)
        return None if channel_id not in self._channels else channel_frame(channel_id, "")

    def _path_of(self, channel_id: str) -> str:
        return f"{self._base_path_id}/{channel_id}" if self._base_path_id else channel_id

    def _channel_of(self, path_id: str) -> str:
        return path_id[len(self._base_path_id) + 1 :] if self._base_path_id else path_id

    def receive(self, frame: str, now: float) -> None:
        """Act on a frame.

        Raises:
            RemoteProtocolError: it is invalid.
            LimitExceededError: it passes a bound.
        """
        check_frame_size(frame)
        with collector_paused_for(frame):
            self._act(frame, now)

    def _act(self, frame: str, now: float) -> None:
        if not self.multiplexed:
            self._receive_inner("", self._base_path_id, frame, now)
        elif frame.startswith("M\n"):
            channel_id, inner = split_channel_frame(frame)
            path_id = self._channels.get(channel_id)
            if path_id is None:
                raise RemoteProtocolError("a channel that is not subscribed", excerpt=frame)
            if channel_id not in self._deaf:
                self._receive_inner(channel_id, path_id, inner, now)
        else:
            address, remainder = split_frame(frame)
            if address != SERVER:
                raise RemoteProtocolError("a plain frame on a socket with channels", excerpt=frame)
            self._receive_control(decode_control(remainder))

    def _receive_inner(self, channel_id: str, path_id: str, frame: str, now: float) -> None:
        address, remainder = split_frame(frame)
        if self.extended and address == OPERATIONS:
            self._switchboard.operate(path_id, self, decode_operation(remainder), len(remainder))
            return
        payload = self._fragments.receive(channel_id, address, remainder, now)
        if payload is not None:
            self._switchboard.receive(path_id, self, address, payload)

    def _receive_control(self, control: Control) -> None:
        if control.kind == HELLO:
            self._greeted = True
        elif not self._greeted:
            return  # before hello the others are ignored, as in the peer
        elif control.kind == SUBSCRIBE:
            self._subscribe(control)
            return
        else:
            self._unsubscribe(control.channel_id)
            return
        self._echo(control)

    def _echo(self, control: Control) -> None:
        self._switchboard.send_to(self, control_frame(control.request_id, control.body))

    def _subscribe(self, control: Control) -> None:
        """Bring the client onto the path of a channel; a subscription that is refused gets no echo."""
        channel_id = control.channel_id
        if channel_id in self._channels and channel_id not in self._deaf:
            self._echo(control)
            return
        if channel_id not in self._channels and len(self._channels) >= MAX_CHANNELS:
            raise LimitExceededError(f"more than {MAX_CHANNELS} channels on a socket", limit="channels")
        path_id = self._channels[channel_id] = self._path_of(channel_id)
        self._deaf.add(channel_id)

        def decided(admitted: bool) -> None:
            if admitted and channel_id in self._deaf:  # neither closed nor given up meanwhile
                self._deaf.discard(channel_id)
                self._switchboard.join(path_id, self, channel_id)
                self._echo(control)

        self._switchboard.admit(path_id, self, decided)

    def silence(self, path_id: str) -> None:
        """The client has been removed from the path of a channel: ignore what it says there."""
        channel_id = self._channel_of(path_id)
        if channel_id in self._channels:
            self._fragments.forget_channel(channel_id)
            self._deaf.add(channel_id)

    def _unsubscribe(self, channel_id: str) -> None:
        path_id = self._channels.pop(channel_id, None)
        if path_id is not None:
            self._fragments.forget_channel(channel_id)
            if channel_id in self._deaf:
                self._deaf.discard(channel_id)
            else:
                self._switchboard.leave(path_id, self)
