"""One socket of a client, sans-I/O: plain, or with channels (protocol sections 10 and 13).

A plain socket has one port, under the channel id None. With channels, the socket says hello, then subscribes each
channel; a port is open from the server's echo on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mergesync.deadlines import earliest
from mergesync.exceptions import LimitExceededError, RemoteProtocolError, RequestTimeoutError
from mergesync.limits import FRAGMENT_TIMEOUT_SECONDS, MAX_CHANNEL_ID_BYTES, MAX_CHANNELS, MAX_PENDING_CONTROLS
from mergesync.store.bulk import collector_paused_for
from mergesync.store.jsjson import utf8
from mergesync.sync.messages import Message
from mergesync.sync.operations import OPERATIONS, REFUSED, Operation, decode_operation, operation_remainder
from mergesync.sync.payloads import (
    HELLO,
    SERVER,
    SUBSCRIBE,
    UNSUBSCRIBE,
    FragmentCollector,
    channel_frame,
    check_frame_size,
    control_frame,
    decode_control,
    is_channel_id,
    split_channel_frame,
    split_frame,
)
from mergesync.types import NewId

__all__ = ["ClientConnection", "Ports", "check_channel_id"]

_CONTROL_ID_LENGTH = 16
_VERSION = 1


def check_channel_id(channel_id: str) -> str:
    """A channel id as it is, if it is one.

    Raises:
        ValueError: it is not.
    """
    if not is_channel_id(channel_id) or len(utf8(channel_id)) > MAX_CHANNEL_ID_BYTES:
        raise ValueError(f"not a channel id: {channel_id!r:.80}")
    return channel_id


class Ports(Protocol):
    """What a connection needs of the client around it."""

    def send(self, frame: str) -> None:
        """Send a frame to the socket."""

    def opened(self, channel_id: str | None) -> None:
        """A port can be used from now on."""

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        """A message for a port."""

    def operate(self, channel_id: str | None, operation: Operation) -> None:
        """The server itself says something to a port."""


class ClientConnection:
    """One socket to a server.

    Args:
        channel_ids: the channels to subscribe; None for a plain socket.
        ports: the client around it.
        timeout_seconds: how long the server may take to echo a control.
        new_id: makes random ids.
        extended: whether operations were agreed on.
    """

    def __init__(
        self,
        channel_ids: Iterable[str] | None,
        ports: Ports,
        *,
        timeout_seconds: float,
        new_id: NewId,
        extended: bool = False,
    ) -> None:
        self.extended: bool = extended
        self.multiplexed: bool = channel_ids is not None
        self._wanted = dict.fromkeys(channel_ids or ())
        self._ports = ports
        self._timeout_seconds = timeout_seconds
        self._new_id = new_id
        self._fragments = FragmentCollector(FRAGMENT_TIMEOUT_SECONDS)
        self._greeted = False
        self._subscribed: set[str] = set()
        self._left: set[str] = set()  # channels given up; what is still under way for them is ignored
        self._pending: dict[str, tuple[str | None, float]] = {}  # controls by id: channel (None: hello), deadline

    # --- channels

    def open(self, now: float) -> None:
        """The socket is open."""
        if self.multiplexed:
            self._send_control(None, [HELLO, _VERSION], now)
        else:
            self._ports.opened(None)

    def subscribe(self, channel_id: str, now: float) -> None:
        """Want a channel; it is subscribed as soon as the server has echoed the hello.

        Raises:
            ValueError: the channel is there already.
            LimitExceededError: there are too many, or too many wait for the server's echo.
        """
        if channel_id in self._wanted:
            raise ValueError(f"channel {channel_id!r} is in use on this socket already")
        if len(self._wanted) >= MAX_CHANNELS:
            raise LimitExceededError(f"more than {MAX_CHANNELS} channels on a socket", limit="channels")
        if self._greeted:
            self._send_control(channel_id, [SUBSCRIBE, channel_id], now)
        self._wanted[channel_id] = None
        self._left.discard(channel_id)

    def subscribe_again(self, channel_id: str, now: float) -> None:
        """Ask again for a channel that the server has refused; of one that is open, or was asked for, nothing happens.

        Raises:
            LimitExceededError: too many wait for the server's echo.
        """
        asked = any(pending == channel_id for pending, _ in self._pending.values())
        if self._greeted and channel_id in self._wanted and not asked and not self.is_open(channel_id):
            self._send_control(channel_id, [SUBSCRIBE, channel_id], now)

    def unsubscribe(self, channel_id: str) -> None:
        """Want a channel no more."""
        if channel_id in self._wanted:
            del self._wanted[channel_id]
            self._fragments.forget_channel(channel_id)
            if self._greeted:
                self._ports.send(control_frame(None, [UNSUBSCRIBE, channel_id]))
            self._subscribed.discard(channel_id)
            self._left.add(channel_id)

    def _send_control(self, channel_id: str | None, body: list[object], now: float) -> None:
        if len(self._pending) >= MAX_PENDING_CONTROLS:
            raise LimitExceededError(f"more than {MAX_PENDING_CONTROLS} controls wait", limit="controls")
        request_id = self._new_id(_CONTROL_ID_LENGTH)
        self._pending[request_id] = (channel_id, now + self._timeout_seconds)
        self._ports.send(control_frame(request_id, body))

    def is_open(self, channel_id: str | None) -> bool:
        """Whether messages can be sent on a channel, or on a plain socket if it is None."""
        return not self.multiplexed if channel_id is None else channel_id in self._subscribed

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `wake` is due, in seconds, or None."""
        return earliest(*[deadline for _, deadline in self._pending.values()])

    def wake(self, now: float) -> None:
        """Give up on a server that does not echo.

        Raises:
            RequestTimeoutError: it had its time; the socket is of no use.
        """
        for channel_id, deadline in self._pending.values():
            if deadline <= now:
                what = "hello" if channel_id is None else f"the subscription of {channel_id!r}"
                raise RequestTimeoutError(f"the server did not echo {what} in {self._timeout_seconds} s")

    # --- frames

    def outgoing(self, channel_id: str | None, address: str, remainder: str) -> str:
        """A message or fragment as it travels on this socket."""
        frame = f"{address}\n{remainder}"
        return frame if channel_id is None else channel_frame(channel_id, frame)

    def outgoing_operation(self, channel_id: str | None, operation: Operation) -> str:
        """An operation as it travels on this socket."""
        return self.outgoing(channel_id, OPERATIONS, operation_remainder(operation))

    def receive(self, frame: str, now: float) -> None:
        """Act on a frame of the server.

        Raises:
            RemoteProtocolError: it is invalid.
            LimitExceededError: it passes a bound.
        """
        check_frame_size(frame)
        with collector_paused_for(frame):
            self._act(frame, now)

    def _act(self, frame: str, now: float) -> None:
        if not self.multiplexed:
            self._receive_inner(None, frame, now)
        elif frame.startswith("M\n"):
            channel_id, inner = split_channel_frame(frame)
            if channel_id in self._subscribed or (self.extended and channel_id in self._wanted):
                self._receive_inner(channel_id, inner, now)
            elif channel_id not in self._left:
                raise RemoteProtocolError("a channel that is not subscribed", excerpt=frame)
        else:
            self._receive_control(frame, now)

    def _receive_inner(self, channel_id: str | None, frame: str, now: float) -> None:
        sender, remainder = split_frame(frame)
        if self.extended and sender == OPERATIONS:
            operation = decode_operation(remainder)
            if operation.name == REFUSED and channel_id is not None:
                self._close_channel(channel_id)
            self._ports.operate(channel_id, operation)
            return
        if channel_id is not None and channel_id not in self._subscribed:
            raise RemoteProtocolError("a channel that is not subscribed", excerpt=remainder)
        payload = self._fragments.receive(channel_id or "", sender, remainder, now)
        if payload is not None:
            self._ports.receive(channel_id, sender, payload.message)

    def _close_channel(self, channel_id: str) -> None:
        """The server does not let us onto the path; `subscribe_again` asks again, as does the next connection."""
        self._fragments.forget_channel(channel_id)
        self._subscribed.discard(channel_id)
        self._pending = {
            request_id: pending for request_id, pending in self._pending.items() if pending[0] != channel_id
        }

    def _receive_control(self, frame: str, now: float) -> None:
        address, remainder = split_frame(frame)
        if address != SERVER:
            raise RemoteProtocolError("a plain frame on a socket with channels", excerpt=frame)
        control = decode_control(remainder)
        pending = self._pending.pop(control.request_id or "", None)
        if pending is None:
            return
        channel_id, _ = pending
        if channel_id is None:
            self._greeted = True
            for wanted in self._wanted:
                self._send_control(wanted, [SUBSCRIBE, wanted], now)
        elif channel_id in self._wanted:
            self._subscribed.add(channel_id)
            self._ports.opened(channel_id)
