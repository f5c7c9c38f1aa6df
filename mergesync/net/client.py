"""`WsSynchronizer`: keeps a store equal to those of others over a WebSocket that reconnects by itself.

A `WsClient` is a socket to a server; a `WsSynchronizer` keeps one store on it. With one store per socket, as usual,
`create_ws_synchronizer(store, url)` makes both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from mergesync.exceptions import RemoteProtocolError
from mergesync.limits import ASK_GRACE_SECONDS, DEFAULT_ACTION_TIMEOUT_SECONDS, DEFAULT_REQUEST_TIMEOUT_SECONDS
from mergesync.net.durability import PendingLeaf
from mergesync.net.link import Link, LinkState, Token
from mergesync.net.mailbox import MessageListener
from mergesync.net.reporting import OnIgnoredError, Reporter, plain_callback
from mergesync.net.requests import send_result
from mergesync.net.session import OnMessage, Session, SessionOptions, SyncStatus
from mergesync.store import MergeableStore
from mergesync.sync.client_connection import check_channel_id
from mergesync.sync.operations import ACT, ASK, COMPARE_AND_SET, PRESENCE, SEND
from mergesync.sync.synchronizer import SynchronizerStats
from mergesync.sync.talk import SendResult, addressed
from mergesync.sync.versions import Edits, encode_edits, version_of
from mergesync.types import Content

__all__ = [
    "MessageListener", "OnMessage", "SendResult", "StatusListener", "SyncStatus", "Token", "WsClient", "WsSynchronizer",
    "create_ws_synchronizer",
]  # fmt: skip

StatusListener: TypeAlias = Callable[["WsSynchronizer", SyncStatus], object]
"""`(synchronizer, status)`."""


class WsClient:
    """A socket to a server that reconnects for ever, for one plain synchronizer or several channels.

    It is open while synchronizers use it. Only needed where several share a socket.

    Args:
        url: `ws://host/path` or `wss://...`. With channels, a channel `c` is the path `path/c`.
        multiplexed: whether to use channels.
        connect_options: passed to `websockets.connect`, such as `ssl` or `additional_headers`.
        token: sent as `Authorization: Bearer ...` with each new connection: a text, or a function that returns one,
            which may be async.
        timeout_seconds: how long the server may take to accept channels, and a message may lack fragments.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.

    Raises:
        ValueError: the URL is not one of a WebSocket.

    Example:
        client = WsClient("ws://localhost:8047/shop", multiplexed=True)
        async with create_ws_synchronizer(pets, client, "pets"), create_ws_synchronizer(staff, client, "staff"):
            ...
    """

    def __init__(
        self,
        url: str,
        *,
        multiplexed: bool = False,
        connect_options: dict[str, Any] | None = None,
        token: Token = None,
        timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
        on_ignored_error: OnIgnoredError | None = None,
    ) -> None:
        try:
            parse_uri(url)
        except InvalidURI as error:
            raise ValueError(str(error)) from error
        self._link = Link(
            url,
            multiplexed=multiplexed,
            connect_options=connect_options or {},
            token=token,
            timeout_seconds=timeout_seconds,
            report=Reporter(on_ignored_error),
        )

    @property
    def url(self) -> str:
        """Where it connects to."""
        return self._link.url

    @property
    def multiplexed(self) -> bool:
        """Whether it has channels."""
        return self._link.multiplexed

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._link.state is LinkState.CONNECTED

    @property
    def connections(self) -> int:
        """How many connections have been made so far; more than one if it had to reconnect."""
        return self._link.connections

    async def refresh_token(self, token: str) -> None:
        """Give the server another token before the present one expires, without a new connection.

        Channels that it has refused are asked for again; if it has refused all of them, on a new connection.

        It takes the place of the text given as `token`, also for new connections; a function goes on being asked.

        Raises:
            RefusedConnectionError: the server does not take it; it closes the connection when the old one expires.
            NotSupportedError: the server is not mergesync.
            ConnectionLostError: the connection was lost before the answer came.

        Example:
            await synchronizer.client.refresh_token(new_token)
        """
        await self._link.refresh_token(token)


class WsSynchronizer:
    """Keeps one store equal to those of others; made by `create_ws_synchronizer`.

    Attributes:
        store: the store.
        client: the socket it uses.
        channel_id: its channel; None on a plain socket.
    """

    def __init__(
        self, store: MergeableStore, client: WsClient, channel_id: str | None, options: SessionOptions
    ) -> None:
        self.store = store
        self.client = client
        self.channel_id = channel_id
        self._status_listeners: dict[str, StatusListener] = {}
        self._next_listener_id = 0
        self._destruction: asyncio.Task[None] | None = None
        self._session = Session(store, client._link, channel_id, options, self._tell_status)

    @property
    def status(self) -> SyncStatus:
        """What it is doing. A connection that died silently is noticed when the server misses a ping."""
        return self._session.status

    @property
    def error(self) -> Exception | None:
        """Why it is not connected, or not on its path; None while it is, or as long as it was not tried.

        After a RefusedConnectionError with the status 410 it is not tried again: the path was removed.
        """
        return self._session.error

    @property
    def pending(self) -> list[PendingLeaf]:
        """The cells and values written here that the server has not confirmed to have stored.

        Cells are `(table_id, row_id, cell_id)`, values `(value_id,)`. What somebody has overwritten since is not among
        them. Before the first confirmation that is all that the store holds, as nobody knows what the server has. A
        path without storage confirms that it has received. A TinyBase server confirms nothing; there, what was sent is
        not pending.

        Example:
            if not synchronizer.pending:
                print("all changes are saved")
        """
        return self._session.durability.pending

    async def durable(self) -> None:
        """Return when all that was written to the store before is on the server's disk, and would survive power loss.

        While there is no connection, that waits for one; use `asyncio.timeout` to wait no longer.

        Raises:
            NotDurableError: the path has no storage, or it could not be stored.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.
            ConnectionLostError: the synchronizer is destroyed, or is meanwhile.
            RefusedConnectionError: the path was removed (its `status` is 410).

        Example:
            store.set_cell("orders", "1", "paid", True)
            await synchronizer.durable()
        """
        await self._session.durable()

    @property
    def server_id(self) -> str | None:
        """Which server it is connected to, or was last; another one after each start. None if that is not known."""
        return self._session.greeting.server_id

    def version(
        self,
        table_id: str | None = None,
        row_id: str | None = None,
        cell_id: str | None = None,
        *,
        value_id: str | None = None,
    ) -> str:
        """The version of everything in the store, of a table, a row, a cell or a value, for `compare_and_set`.

        It is a text without a meaning, another one after each change, and the same on all replicas that are equal.
        """
        return version_of(self.store, table_id, row_id, cell_id, value_id=value_id)

    async def compare_and_set(
        self, version: str, edits: Edits, *, timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS
    ) -> str:
        """Let the server make changes if something still has this version there: of all who try, one wins.

        Where the path has storage it returns when they are on disk.

        Args:
            version: of what the changes depend on: from `version`, or from the error or the result of another try.
            edits: `(tables, values)`: the cells and values to set, with `MISSING` for what is to go. They come into the
                store as all changes of others do.
            timeout_seconds: how long to wait, also for a connection.

        Returns:
            The version after it.

        Raises:
            StaleVersionError: it has another version by now; it says which, and what is there.
            RequestFailedError: the server has no store (`reason` is "no-store"), or does not let it; or it has done it,
                and cannot store it ("save").
            RequestTimeoutError: there is no answer in time; it may have been done nevertheless.
            ConnectionLostError: the connection was lost before the answer came, likewise.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.
            ContentError: the changes are malformed.

        Example:
            version = synchronizer.version("seats", "12A")
            if not store.has_row("seats", "12A"):
                await synchronizer.compare_and_set(version, ({"seats": {"12A": {"by": "ann"}}}, {}))
        """
        body = [version, encode_edits(edits)]
        return str(await self._session.requests.ask(COMPARE_AND_SET, body, timeout_seconds))

    @property
    def client_id(self) -> str | None:
        """What the server calls this client, or called it last: its row in the presence of its paths.

        None if that is not known.
        """
        return self._session.greeting.client_id

    async def set_presence(
        self, cells: Mapping[str, Any], *, timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS
    ) -> None:
        """Say something of this client to all who see who is on the path, in place of what it has said before.

        It is said again on each new connection. Others find it in the row of this client in the table `clients` of the
        path `<path>/~clients`.

        Args:
            cells: JSON by cell id; not `name`, `identity`, `since` or `write`, which the server says.
            timeout_seconds: how long to wait, also for a connection.

        Raises:
            RequestFailedError: the server says nothing of its clients (`reason` is "unknown"), or does not take it.
            RequestTimeoutError: there is no answer in time.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.

        Example:
            await synchronizer.set_presence({"typing": True, "cursor": [3, 14]})
        """
        said = dict(cells)
        await self._session.requests.ask(PRESENCE, said, timeout_seconds, repeated=True)
        self._session.announcing.cells = said

    @property
    def name(self) -> str | None:
        """What it is called on the path: the name it was made with, while the server lets it have it."""
        return self._session.naming.name

    async def act(
        self,
        name: str,
        data: Any = None,
        *,
        timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS,
        key: str | None = None,
    ) -> Any:
        """Let the server do something that its application has defined (`server.action`), and return the result.

        Args:
            name: which action.
            data: JSON for it.
            timeout_seconds: how long to wait, also for a connection.
            key: a text that no other request has, for an action that must not be done twice: when the connection is
                lost it is asked for again on the next, and the server gives the result of the first time.

        Raises:
            RequestFailedError: the application says no, or there is no such action (`reason` is "unknown").
            RequestTimeoutError: there is no answer in time; it may have been done nevertheless.
            ConnectionLostError: the connection was lost before the answer came, likewise; with a key, only as the
                synchronizer is destroyed.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.

        Example:
            seat = await synchronizer.act("book", {"show": 7}, key=secrets.token_hex())
        """
        body = [name, data, key, timeout_seconds]
        return await self._session.requests.ask(ACT, body, timeout_seconds, repeated=key is not None)

    async def send(
        self,
        to: str | Iterable[str] | None,
        message: Any,
        *,
        timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS,
    ) -> SendResult:
        """Send a message to others on the path, once; who is not there does not get it.

        Args:
            to: a name, or several, or None for everybody else who has one.
            message: JSON.
            timeout_seconds: how long to wait until the server has passed it on.

        Returns:
            Which names it was delivered to, which nobody has, and whose holders do not read.

        Raises:
            RequestFailedError: it has no name (`reason` is "no-name"), or may not.
            RequestTimeoutError: the server does not answer in time.
            ConnectionLostError: the connection was lost before the answer came.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.
        """
        return send_result(await self._session.requests.ask(SEND, [addressed(to), message], timeout_seconds))

    async def ask(
        self,
        to: str | Iterable[str] | None,
        message: Any,
        *,
        timeout_seconds: float = DEFAULT_ACTION_TIMEOUT_SECONDS,
    ) -> tuple[str | None, Any]:
        """Send a message to others on the path, and return the first answer of one of them.

        Args:
            to: a name, or several, or None for everybody else who has one.
            message: JSON.
            timeout_seconds: how long to wait for an answer.

        Returns:
            The name of who answered, and the answer.

        Raises:
            RequestFailedError: `reason` is "no-receiver" if nobody of these is there, or all have left; "no-answer" if
                none of them has one; "timeout"; or "no-name" if it has none itself.
            RequestTimeoutError: the server does not answer in time.
            ConnectionLostError: the connection was lost before the answer came.
            NotSupportedError: the server does not speak `mergesync.v1`, as TinyBase's.

        Example:
            name, answer = await synchronizer.ask(["printer1", "printer2"], {"print": "hello"})
        """
        body = [addressed(to), message, timeout_seconds]
        # The server says when the time is over, and why there is no answer, so it is waited for a little longer.
        answer = await self._session.requests.ask(ASK, body, timeout_seconds + ASK_GRACE_SECONDS)
        match answer:
            case [str() | None as name, result]:
                return name, result
            case _:
                raise RemoteProtocolError("not an answer to a question", excerpt=repr(answer))

    def add_message_listener(self, listener: MessageListener) -> str:
        """Listen to messages of others: `listener(sender, message)`; returns an id for `del_listener`.

        The sender is a name, or None for the server. What the listener returns, or its coroutine, is the answer if one
        is wanted; None means that it has none.
        """
        return self._session.mailbox.add(listener)

    def add_status_listener(self, listener: StatusListener) -> str:
        """Listen to the status: `listener(synchronizer, status)`; returns an id for `del_listener`."""
        listener_id = str(self._next_listener_id)
        self._next_listener_id += 1
        self._status_listeners[listener_id] = plain_callback(listener, "a status listener")
        return listener_id

    def del_listener(self, listener_id: str) -> Self:
        """Remove a listener; an unknown id does nothing."""
        self._status_listeners.pop(listener_id, None)
        self._session.mailbox.remove(listener_id)
        return self

    def _tell_status(self, status: SyncStatus) -> None:
        for listener in list(self._status_listeners.values()):
            self._session.guard(listener, self, status)

    def get_stats(self) -> SynchronizerStats:
        """How many messages were sent and received so far."""
        return self._session.stats

    async def start_sync(self, initial_content: Content | None = None) -> Self:
        """Exchange what each side lacks, and from then on every change; again after each reconnect.

        Args:
            initial_content: `(tables, values)` to fill a store to which nobody gave anything; it never beats a write.

        Returns:
            When the first exchange is over; while there is no connection, that waits for one. Also if `stop_sync` is
            called meanwhile.

        Raises:
            ConnectionLostError: the synchronizer is destroyed, or is meanwhile.
        """
        self._session.start(initial_content)
        await self._session.wait_live()
        return self

    def stop_sync(self) -> Self:
        """Neither send nor take changes any more; the connection stays."""
        self._session.stop()
        return self

    async def destroy(self) -> None:
        """Send what is still to be sent, and let go of the store; the last one on a socket closes it.

        Waits until the server has fetched what it lacks, as long as it does so. Calling it again changes nothing. It is
        not interrupted if who called it is cancelled.
        """
        if self._destruction is None:
            self._destruction = asyncio.create_task(self._session.destroy())
        await asyncio.shield(self._destruction)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy()


class create_ws_synchronizer:  # noqa: N801 - spelled in lower case because it is called like a function
    """Keep a store equal to those of others on a path: await it, or enter it.

    Awaiting connects; `await synchronizer.start_sync()` then begins to sync. Entering does both, and leaving sends what
    is still to be sent and closes.

    Args:
        store: the store.
        url_or_client: `ws://host/path`, or a `WsClient` that several synchronizers share.
        channel_id: a channel of the socket, for the path `path/channel_id`; None for a plain socket.
        initial_content: when entered: passed to `start_sync`.
        wait: whether to wait for the first connection, and to fail with ConnectionLostError if it cannot be made.
            RefusedConnectionError if it is refused. False: start offline, and connect as soon as possible.
        request_timeout_seconds: how long a request waits for its answer.
        fragment_size: bytes of message text per fragment sent; None for no fragments.
        name: what to be called on the path, so that others can send messages; None for nothing.
        on_send: called with each message sent: `(address, request_id, type, body)`.
        on_receive: called with each message received: `(sender, request_id, type, body)`.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.
        connect_options: passed to `websockets.connect`, such as `ssl`, `additional_headers` or `ping_interval`.
        token: sent as `Authorization: Bearer ...` with each new connection: a text, or a function that returns one,
            which may be async.

    Raises:
        ValueError: the URL or the channel id is not one, or the channel is in use.

    Example:
        store = MergeableStore()
        async with create_ws_synchronizer(store, "ws://localhost:8047/petShop"):
            store.set_cell("pets", "fido", "species", "dog")
    """

    def __init__(
        self,
        store: MergeableStore,
        url_or_client: str | WsClient,
        channel_id: str | None = None,
        *,
        initial_content: Content | None = None,
        wait: bool = True,
        request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
        fragment_size: float | None = None,
        name: str | None = None,
        on_send: OnMessage | None = None,
        on_receive: OnMessage | None = None,
        on_ignored_error: OnIgnoredError | None = None,
        connect_options: dict[str, Any] | None = None,
        token: Token = None,
    ) -> None:
        if channel_id is not None:
            check_channel_id(channel_id)
        if isinstance(url_or_client, str):
            url_or_client = WsClient(
                url_or_client,
                multiplexed=channel_id is not None,
                connect_options=connect_options,
                token=token,
                timeout_seconds=request_timeout_seconds,
                on_ignored_error=on_ignored_error,
            )
        elif connect_options is not None or token is not None:
            raise ValueError("connect_options and token belong to the WsClient")
        self._store = store
        self._client = url_or_client
        self._channel_id = channel_id
        self._initial_content = initial_content
        self._wait = wait
        self._options = SessionOptions(
            request_timeout_seconds, fragment_size, on_send, on_receive, on_ignored_error, name
        )
        self._synchronizer: WsSynchronizer | None = None

    def __await__(self) -> Generator[Any, None, WsSynchronizer]:
        return self._create().__await__()

    async def _create(self) -> WsSynchronizer:
        synchronizer = WsSynchronizer(self._store, self._client, self._channel_id, self._options)
        try:
            await self._client._link.connect(wait=self._wait)
        except BaseException:
            await synchronizer.destroy()
            raise
        return synchronizer

    async def __aenter__(self) -> WsSynchronizer:
        synchronizer = await self._create()
        try:
            synchronizer._session.start(self._initial_content)
            if self._wait:
                await synchronizer._session.wait_live()
        except BaseException:
            await synchronizer.destroy()
            raise
        self._synchronizer = synchronizer
        return synchronizer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._synchronizer is not None:
            await self._synchronizer.destroy()
