"""A server and its clients in memory and in virtual time: nothing moves, and no time passes, unless it is told to.

The cores are the real ones (`ServerConnection`, `Hub`, `ClientConnection`, `Synchronizer`); only what `mergesync.net`
does around them is played here, in the plainest way. Frames on one link keep their order; which link moves next is up
to the test.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mergesync.exceptions import LimitExceededError, RemoteProtocolError, RequestTimeoutError, SyncError
from mergesync.limits import FRAGMENT_TIMEOUT_SECONDS
from mergesync.store import MergeableStore
from mergesync.store.hlc import ALPHABET
from mergesync.sync.admission import is_empty
from mergesync.sync.client_connection import ClientConnection
from mergesync.sync.hub import Hub
from mergesync.sync.messages import Message
from mergesync.sync.operations import Operation
from mergesync.sync.payloads import Payload, fits_frame, remainders_of
from mergesync.sync.review import Reviewer
from mergesync.sync.server_connection import ServerConnection, path_of
from mergesync.sync.subprotocols import CHANNELS, dialect_of
from mergesync.sync.synchronizer import Origin, Synchronizer, SyncState
from mergesync.types import MergeableChanges

T0 = 1704067200000
CLOSE_WITHOUT_CODE = (1005, "")
MAX_STEPS = 20_000  # more frames than this without rest is a loop


class Clock:
    """A wall clock that stands where it is put."""

    def __init__(self, now: int = T0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Ids:
    """Ids that are all different and always the same."""

    def __init__(self) -> None:
        self._next = itertools.count()

    def __call__(self, length: int) -> str:
        number = next(self._next)
        return "".join(ALPHABET[number >> 6 * (length - 1 - at) & 63] for at in range(length))


@dataclass(frozen=True)
class Close:
    """The last thing on a link."""

    code: int
    reason: str


@dataclass(frozen=True)
class Logged:
    """A frame that was sent: by a client (`c2s`) or to it (`s2c`)."""

    client_id: str
    direction: str
    frame: str


class Link:
    """One direction of a socket: what is under way on it, in order."""

    def __init__(self, name: str, deliver: Callable[[str | Close], None]) -> None:
        self.name = name
        self.deliver = deliver
        self.frames: deque[str | Close] = deque()
        self.moved_at = 0.0  # when something was last delivered, or put on the empty link


class Peer:
    """A store and its synchronizer, which outlive their sockets; plays `WsSynchronizer`."""

    def __init__(
        self,
        network: Network,
        store: MergeableStore,
        *,
        timeout_seconds: float = 1.0,
        fragment_size: float | None = None,
    ) -> None:
        self.store = store
        self.errors: list[Exception] = []
        self.fragment_size = fragment_size
        self.socket: Socket | None = None
        self.channel_id: str | None = None
        self.wants_sync = False
        self.initial_content: Any = None
        self.went_live = 0
        self._network = network
        self.core = Synchronizer(store, self, request_timeout_seconds=timeout_seconds, new_id=network.new_id)

    def start_sync(self, initial_content: Any = None) -> None:
        """Begin to sync, now and whenever there is a new socket."""
        self.wants_sync, self.initial_content = True, initial_content
        if self.socket is not None and self.socket.client.is_open(self.channel_id):
            self.core.start_sync(self._network.now, initial_content)

    def stop_sync(self) -> None:
        """Stop syncing."""
        self.wants_sync = False
        self.core.stop_sync()

    def opened(self) -> None:
        """The socket or channel can be used."""
        if self.wants_sync:
            self.core.start_sync(self._network.now, self.initial_content)

    def send(self, address: str, message: Message) -> None:
        """A message of the core."""
        if self.socket is not None:
            for remainder in remainders_of(message, self.fragment_size, self._network.new_id):
                self.socket.send(self.socket.client.outgoing(self.channel_id, address, remainder))

    def report(self, error: Exception) -> None:
        """An error of the core."""
        self.errors.append(error)

    def pulled(self) -> None:
        """The core has ended an exchange."""
        if self.core.state is SyncState.LIVE:
            self.went_live += 1

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """Reported already."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The store changed."""
        if self.core.state is SyncState.LIVE and not is_empty(beyond):
            self.core.send_changes(beyond)


class Socket:
    """A socket with both its ends; plays `WsClient` and the socket of the server's switchboard."""

    def __init__(
        self,
        network: Network,
        client_id: str,
        target: str,
        peers: dict[str | None, Peer],
        subprotocols: Iterable[str],
        timeout_seconds: float,
    ) -> None:
        self.network = network
        self.client_id = client_id
        self.peers = peers
        self.received: list[str] = []
        self.ports: list[str | None] = []  # those opened, in order
        self.client_error: SyncError | None = None
        self.closed_by_client: tuple[int, str] | None = None
        self.closed_by_server: tuple[int, str] | None = None
        subprotocol = next(iter(subprotocols), None)
        channel_ids = [channel_id for channel_id in peers if channel_id is not None]
        dialect = dialect_of(subprotocol)
        self.multiplexed = dialect.multiplexed
        self.server = ServerConnection(
            client_id,
            path_of(target),
            dialect=dialect,
            switchboard=network,
            timeout_seconds=network.request_timeout_seconds if network.relay else FRAGMENT_TIMEOUT_SECONDS,
        )
        self.client = ClientConnection(
            channel_ids if self.multiplexed else None, self, timeout_seconds=timeout_seconds, new_id=network.new_id
        )
        self.up = Link(f"{client_id} up", self._reach_server)
        self.down = Link(f"{client_id} down", self._reach_client)

    # --- the client's end (Ports)

    def send(self, frame: str) -> None:
        """A frame of the client."""
        if self.closed_by_client is None:
            self.network.log.append(Logged(self.client_id, "c2s", frame))
            self.network.put(self.up, frame)

    def opened(self, channel_id: str | None) -> None:
        """A port can be used."""
        self.ports.append(channel_id)
        if channel_id in self.peers:
            self.peers[channel_id].opened()

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        """A message for a port."""
        if channel_id in self.peers:
            self.peers[channel_id].core.receive(sender, message, self.network.now)

    def operate(self, channel_id: str | None, operation: Operation) -> None:
        """The server itself says something; only `mergesync.net` does that."""
        raise AssertionError(f"an operation: {operation}")

    def _reach_client(self, frame: str | Close) -> None:
        if isinstance(frame, Close):
            self._lose_client(frame)
        elif self.closed_by_client is None:
            self.received.append(frame)
            try:
                self.client.receive(frame, self.network.now)
            except SyncError as error:
                self.give_up(error)

    def give_up(self, error: SyncError) -> None:
        """The client rejects what the server does."""
        self.client_error = error
        assert isinstance(error, RemoteProtocolError | LimitExceededError), error
        self.close(error.close_code, error.close_reason)

    def close(self, code: int = 1005, reason: str = "") -> None:
        """The client closes; what it sent before still arrives."""
        if self.closed_by_client is None:
            self.closed_by_client = (code, reason)
            self.network.put(self.up, Close(code, reason))
            self._disconnect_peers()

    def cut(self, *, server_notices: bool = True) -> None:
        """The connection breaks, and all that is under way is lost; the server may not notice for a while."""
        self.up.frames.clear()
        self.down.frames.clear()
        if self.closed_by_client is None:
            self.closed_by_client = (1006, "")
            self._disconnect_peers()
        if server_notices:
            self.leave_server(Close(1006, ""))

    def _lose_client(self, close: Close) -> None:
        if self.closed_by_client is None:
            self.closed_by_client = (close.code, close.reason)
            self._disconnect_peers()

    def _disconnect_peers(self) -> None:
        for peer in self.peers.values():
            if peer.socket is self:
                peer.socket = None
                peer.core.disconnect()

    # --- the server's end

    def _reach_server(self, frame: str | Close) -> None:
        if isinstance(frame, Close):
            self.leave_server(frame)
        elif self.closed_by_server is None:
            try:
                self.server.receive(frame, self.network.now)
            except SyncError as error:
                self.network.blame(self, error)

    def leave_server(self, close: Close) -> None:
        """The server lets go of the client."""
        if self.closed_by_server is None:
            self.closed_by_server = (close.code, close.reason)
            self.server.close()

    def close_from_server(self, code: int, reason: str) -> None:
        """The server closes; what it sent before still arrives."""
        if self.closed_by_server is None:
            self.leave_server(Close(code, reason))
            self.network.put(self.down, Close(code, reason))

    def push(self, frame: str) -> None:
        """A frame of the server."""
        if not fits_frame(frame):
            self.network.blame(self, LimitExceededError("too large", limit="socket"))
        elif self.closed_by_server is None:
            self.network.log.append(Logged(self.client_id, "s2c", frame))
            self.network.put(self.down, frame)


class _PathExit:
    """The `Exit` of a hub."""

    def __init__(self, network: Network, path_id: str) -> None:
        self._network = network
        self._path_id = path_id

    def send(self, client_ids: Iterable[str], frame: str) -> None:
        clients = self._network.on_path.get(self._path_id, {})
        for client_id in client_ids:
            socket = clients.get(client_id)
            prefix = None if socket is None else socket.server.prefix(self._path_id)
            if socket is not None and prefix is not None:
                socket.push(prefix + frame)

    def send_changes(self, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        client_ids = [reader for reader in readers if reader != author]
        for frame in frames:
            self.send(client_ids, frame)

    def close(self, client_id: str, error: SyncError) -> None:
        socket = self._network.on_path.get(self._path_id, {}).get(client_id)
        if socket is not None:
            self._network.blame(socket, error)

    def report(self, error: Exception) -> None:
        self._network.errors.append(error)


class Network:
    """The server, its paths, its sockets and the time; plays the switchboard and the paths of `WsServer`.

    Args:
        relay: as for `Hub`.
        store_for_path: makes the replica of a path; may return None in a relay.
        request_timeout_seconds: of the server.
        fragment_size: of the server.
        ready: whether a path is ready at once; otherwise the test calls `hub.ready` itself.
        delay_seconds: how long each frame travels.

    Attributes:
        reviewer: decides what of clients' changes is merged on paths that begin from now on.
    """

    def __init__(
        self,
        *,
        relay: bool = False,
        store_for_path: Callable[[str], MergeableStore | None] | None = None,
        request_timeout_seconds: float = 1.0,
        fragment_size: float | None = None,
        ready: bool = True,
        delay_seconds: float = 0.0,
    ) -> None:
        self.relay = relay
        self.request_timeout_seconds = request_timeout_seconds
        self.fragment_size = fragment_size
        self.delay_seconds = delay_seconds
        self.reviewer: Reviewer | None = None
        self.now = 0.0
        self.clock = Clock()
        self.new_id = Ids()
        self.log: list[Logged] = []
        self.errors: list[Exception] = []
        self.events: list[tuple[str, str | None, int]] = []  # (path, client, change); None for the path itself
        self.on_path: dict[str, dict[str, Socket]] = {}
        self.hubs: dict[str, Hub] = {}
        self.sockets: list[Socket] = []
        self._ready = ready
        self._store_for_path = store_for_path or self._server_store
        self._under_way: deque[tuple[float, Link]] = deque()
        self._sockets_by_connection: dict[ServerConnection, Socket] = {}
        self._client_numbers = itertools.count(1)

    def _server_store(self, path_id: str) -> MergeableStore | None:
        return None if self.relay else MergeableStore(f"server:{path_id}", get_now=self.clock)

    # --- making things

    def new_store(self, unique_id: str | None = None) -> MergeableStore:
        """A store with the network's wall clock."""
        return MergeableStore(unique_id, get_now=self.clock)

    def attach(self, peer: Peer, socket: Socket, channel_id: str | None = None) -> None:
        """Let a peer talk over a socket that is open; the first channel says hello."""
        peer.socket, peer.channel_id = socket, channel_id
        first = not socket.peers
        socket.peers[channel_id] = peer
        if channel_id is not None:
            socket.client.subscribe(channel_id, self.now)
            if first:
                socket.client.open(self.now)

    def connect(
        self,
        peer: Peer | dict[str, Peer] | None = None,
        target: str = "/p",
        *,
        client_id: str | None = None,
        subprotocols: Iterable[str] | None = None,
        timeout_seconds: float = 1.0,
    ) -> Socket:
        """Open a socket for a peer, for peers by channel, or for nobody (frames are then sent by hand)."""
        peers: dict[str | None, Peer] = {}
        if isinstance(peer, dict):
            peers.update(peer)
        elif peer is not None:
            peers[None] = peer
        if subprotocols is None:
            subprotocols = [CHANNELS] if isinstance(peer, dict) else []
        client_id = client_id or f"client-{next(self._client_numbers):02}"
        socket = Socket(self, client_id, target, peers, subprotocols, timeout_seconds)
        self.sockets.append(socket)
        self._sockets_by_connection[socket.server] = socket
        socket.server.open()
        for channel_id, each in peers.items():
            each.socket, each.channel_id = socket, channel_id
        if peers or not socket.multiplexed:
            socket.client.open(self.now)
        return socket

    def peer(
        self, unique_id: str | None = None, *, timeout_seconds: float = 1.0, fragment_size: float | None = None
    ) -> Peer:
        """A store with a synchronizer."""
        return Peer(self, self.new_store(unique_id), timeout_seconds=timeout_seconds, fragment_size=fragment_size)

    def joined(self, unique_id: str | None = None, target: str = "/p") -> Peer:
        """A peer on a path, syncing and settled."""
        peer = self.peer(unique_id)
        self.connect(peer, target)
        peer.start_sync()
        self.settle()
        return peer

    # --- moving frames, and time

    def put(self, link: Link, frame: str | Close) -> None:
        """Something is under way."""
        if not link.frames:
            link.moved_at = self.now
        link.frames.append(frame)
        self._under_way.append((self.now + self.delay_seconds, link))

    def links(self) -> list[Link]:
        """The links on which something is under way."""
        return [link for socket in self.sockets for link in (socket.up, socket.down) if link.frames]

    def move(self, link: Link) -> None:
        """Deliver the next of a link."""
        link.moved_at = self.now
        link.deliver(link.frames.popleft())

    def settle(self) -> None:
        """Deliver everything that arrives by now, in the order in which it was sent."""
        for _ in range(MAX_STEPS):
            if not self._under_way or self._under_way[0][0] > self.now:
                return
            _, link = self._under_way.popleft()
            if link.frames:  # not lost with its connection
                self.move(link)
        raise AssertionError("the network does not come to rest")

    def deadline(self) -> float | None:
        """When something happens by itself."""
        due = [hub.deadline for hub in self.hubs.values()]
        for socket in self.sockets:
            if socket.closed_by_client is None:
                due += [socket.client.deadline, *(peer.core.deadline for peer in socket.peers.values())]
        if self._under_way:
            due.append(self._under_way[0][0])
        return min((at for at in due if at is not None), default=None)

    def wake(self) -> None:
        """Let everything that is due at this time happen."""
        for hub in list(self.hubs.values()):
            if hub.deadline is not None and hub.deadline <= self.now:
                hub.wake(self.now)
        for socket in list(self.sockets):
            due = socket.client.deadline
            if due is not None and due <= self.now and socket.closed_by_client is None:
                try:
                    socket.client.wake(self.now)
                except RequestTimeoutError:
                    socket.close(1000)
            for peer in list(socket.peers.values()):
                due = peer.core.deadline
                if peer.socket is socket and due is not None and due <= self.now:
                    peer.core.wake(self.now)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with everything that happens in it."""
        end = self.now + seconds
        self.settle()
        for _ in range(MAX_STEPS):
            due = self.deadline()
            if due is None or due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self.wake()
            self.settle()
        raise AssertionError("the network does not come to rest")

    # --- the server (Switchboard)

    def admit(self, path_id: str, connection: ServerConnection, decided: Callable[[bool], None]) -> None:
        """Everybody may come onto every path."""
        decided(True)

    def join(self, path_id: str, connection: ServerConnection, channel_id: str | None) -> None:
        """A client comes onto a path."""
        if path_id not in self.on_path:
            self.on_path[path_id] = {}
            self.events.append((path_id, None, 1))
        self.on_path[path_id][connection.client_id] = self._sockets_by_connection[connection]
        self.events.append((path_id, connection.client_id, 1))
        hub = self.hubs.get(path_id)
        if hub is None:
            hub = self.hubs[path_id] = Hub(
                path_id,
                _PathExit(self, path_id),
                relay=self.relay,
                request_timeout_seconds=self.request_timeout_seconds,
                fragment_size=self.fragment_size,
                new_id=self.new_id,
                reviewer=self.reviewer,
            )
            hub.join(connection.client_id)
            if self._ready:
                hub.ready(self._store_for_path(path_id), self.now)
        else:
            hub.join(connection.client_id)

    def leave(self, path_id: str, connection: ServerConnection) -> None:
        """A client leaves a path; after the last one the path is gone."""
        del self.on_path[path_id][connection.client_id]
        self.events.append((path_id, connection.client_id, -1))
        self.hubs[path_id].leave(connection.client_id)
        if not self.on_path[path_id]:
            del self.on_path[path_id]
            self.events.append((path_id, None, -1))
            self.hubs.pop(path_id).destroy()

    def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
        """A client says something."""
        self.hubs[path_id].receive(connection.client_id, address, payload, self.now)

    def operate(self, path_id: str, connection: ServerConnection, operation: Operation, size: int) -> None:
        """A client asks the server itself; only `mergesync.net` answers that."""
        raise AssertionError(f"an operation: {operation}")

    def send_to(self, connection: ServerConnection, frame: str) -> None:
        """A control for a socket."""
        self._sockets_by_connection[connection].push(frame)

    def blame(self, socket: Socket, error: SyncError) -> None:
        """A client is at fault."""
        if socket.closed_by_server is None:
            error.client_id = error.client_id or socket.client_id
            self.errors.append(error)
            assert isinstance(error, RemoteProtocolError | LimitExceededError), error
            socket.close_from_server(error.close_code, error.close_reason)
