"""Stores of one process, kept equal without a socket."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import TracebackType
from typing import Self

from mergesync.exceptions import ConnectionLostError
from mergesync.limits import DEFAULT_REQUEST_TIMEOUT_SECONDS
from mergesync.net.alarm import Alarm
from mergesync.net.reporting import OnIgnoredError, Reporter
from mergesync.store import MergeableStore
from mergesync.sync.admission import is_empty
from mergesync.sync.messages import Message, decode_message, encode_message
from mergesync.sync.synchronizer import EVERYONE, Origin, Synchronizer, SynchronizerStats, SyncState
from mergesync.system import new_id
from mergesync.types import Content, MergeableChanges
from mergesync.waiting import settle

__all__ = ["LocalNetwork", "LocalSynchronizer", "create_local_synchronizer"]

_ADDRESS_LENGTH = 16


class LocalNetwork:
    """Synchronizers of one process and event loop that hear one another."""

    def __init__(self) -> None:
        self._synchronizers: dict[str, LocalSynchronizer] = {}


_default_network = LocalNetwork()


class LocalSynchronizer:
    """Keeps a store equal to the others of its network; made by `create_local_synchronizer`.

    Entering it starts to sync, leaving destroys it.

    Attributes:
        store: the store.
    """

    def __init__(
        self,
        store: MergeableStore,
        network: LocalNetwork,
        request_timeout_seconds: float,
        on_ignored_error: OnIgnoredError | None,
    ) -> None:
        self.store = store
        self._network = network
        self._report = Reporter(on_ignored_error)
        self._address = new_id(_ADDRESS_LENGTH)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._core = Synchronizer(
            store,
            _LocalOutlet(self),
            request_timeout_seconds=request_timeout_seconds,
            new_id=new_id,
            bounded=False,  # there are no frames
        )
        self._alarm = Alarm(lambda: self._core.deadline, self._core.wake)
        network._synchronizers[self._address] = self

    async def start_sync(self, initial_content: Content | None = None) -> Self:
        """Exchange what each side lacks, and from then on every change.

        Args:
            initial_content: `(tables, values)` to fill a store to which nobody gave anything; it never beats a write.

        Returns:
            When the first exchange is over; also if `stop_sync` is called meanwhile.

        Raises:
            ConnectionLostError: the synchronizer is destroyed, or is meanwhile.
        """
        self._check_not_destroyed()
        self._loop = asyncio.get_running_loop()
        self._core.start_sync(self._loop.time(), initial_content)
        self._alarm.set()
        if self._core.state is not SyncState.LIVE:
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self

    def stop_sync(self) -> Self:
        """Neither send nor take changes any more."""
        self._core.stop_sync()
        settle(self._waiters)
        return self

    def get_stats(self) -> SynchronizerStats:
        """How many messages were sent and received so far."""
        return replace(self._core.stats)

    async def destroy(self) -> None:
        """Let go of the store. Calling it again changes nothing."""
        self._network._synchronizers.pop(self._address, None)
        self._core.destroy()
        self._alarm.cancel()
        settle(self._waiters, ConnectionLostError("the synchronizer was destroyed"))

    async def __aenter__(self) -> Self:
        return await self.start_sync()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy()

    def _check_not_destroyed(self) -> None:
        if self._address not in self._network._synchronizers:
            raise ConnectionLostError("the synchronizer is destroyed")

    def _send(self, address: str, message: Message) -> None:
        """Deliver in a later turn of the loop, as text, so that nothing is shared."""
        peers = [peer for peer in self._network._synchronizers.values() if peer is not self]
        if address != EVERYONE:
            peers = [peer for peer in peers if peer._address == address]
        if peers:
            loop = self._loop or asyncio.get_running_loop()
            text = encode_message(message)
            for peer in peers:
                loop.call_soon(peer._deliver, self._address, text)

    def _deliver(self, sender: str, text: str) -> None:
        if self._address in self._network._synchronizers:
            self._core.receive(sender, decode_message(text), asyncio.get_running_loop().time())
            self._alarm.set()


class _LocalOutlet:
    """Where the core of a local synchronizer sends."""

    def __init__(self, synchronizer: LocalSynchronizer) -> None:
        self._synchronizer = synchronizer

    def send(self, address: str, message: Message) -> None:
        """A message for peers."""
        self._synchronizer._send(address, message)

    def report(self, error: Exception) -> None:
        """An error that nobody called for."""
        self._synchronizer._report(error)

    def pulled(self) -> None:
        """An exchange is over."""
        if self._synchronizer._core.state is SyncState.LIVE:
            settle(self._synchronizer._waiters)

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """What was not taken was reported already."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The store changed: send what was written here."""
        core = self._synchronizer._core
        if core.state is SyncState.LIVE and not is_empty(beyond):
            core.send_changes(beyond)


def create_local_synchronizer(
    store: MergeableStore,
    network: LocalNetwork | None = None,
    *,
    request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
    on_ignored_error: OnIgnoredError | None = None,
) -> LocalSynchronizer:
    """Keep a store equal to others in the same process and event loop.

    Args:
        store: the store.
        network: who hears whom; None for one that all share.
        request_timeout_seconds: how long a request waits for its answer. The first store of a network waits as long for
            somebody to answer.
        on_ignored_error: called with every error that nobody called for. None: they go to the logger `mergesync`.

    Example:
        one = create_local_synchronizer(store_1)
        other = create_local_synchronizer(store_2)
        await asyncio.gather(one.start_sync(), other.start_sync())
    """
    return LocalSynchronizer(store, network or _default_network, request_timeout_seconds, on_ignored_error)
