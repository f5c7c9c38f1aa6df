"""Stores of one process, kept equal without a socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mergesync.exceptions import SyncError
from mergesync.limits import DEFAULT_REQUEST_TIMEOUT_SECONDS
from mergesync.net.alarm import Alarm
from mergesync.store import MergeableStore
from mergesync.sync.admission import is_empty
from mergesync.sync.messages import Message, decode_message, encode_message
from mergesync.sync.synchronizer import EVERYONE, Origin, Synchronizer, SynchronizerStats, SyncState
from mergesync.system import new_id
from mergesync.types import Content, MergeableChanges

__all__ = ["LocalNetwork", "LocalSynchronizer", "create_local_synchronizer"]

_logger = logging.getLogger("mergesync")


class LocalNetwork:
    """Synchronizers of one process that hear one another."""

    def __init__(self) -> None:
        self.synchronizers: dict[str, LocalSynchronizer] = {}


_default_network = LocalNetwork()


class LocalSynchronizer:
    """Keeps a store equal to the others of its network; made by `create_local_synchronizer`."""

    def __init__(
        self,
        store: MergeableStore,
        network: LocalNetwork,
        request_timeout_seconds: float,
        on_ignored_error: Callable[[Exception], object] | None,
    ) -> None:
        self.store = store
        self._network = network
        self._on_ignored_error = on_ignored_error
        self._address = new_id(16)
        self._core = Synchronizer(store, self, request_timeout_seconds=request_timeout_seconds, new_id=new_id)
        self._alarm = Alarm(lambda: self._core.deadline, self._core.wake)
        self._went_live = asyncio.Event()
        network.synchronizers[self._address] = self

    async def start_sync(self, initial_content: Content | None = None) -> LocalSynchronizer:
        """Exchange what each side lacks, and from then on every change; returns when the first exchange is over."""
        self._core.start_sync(asyncio.get_running_loop().time(), initial_content)
        self._alarm.set()
        await self._went_live.wait()
        return self

    def stop_sync(self) -> LocalSynchronizer:
        """Neither send nor take changes any more."""
        self._core.stop_sync()
        self._went_live.clear()
        return self

    def get_stats(self) -> SynchronizerStats:
        """How many messages were sent and received."""
        return self._core.stats

    def destroy(self) -> None:
        """Let go of the store."""
        self._network.synchronizers.pop(self._address, None)
        self._core.destroy()
        self._alarm.cancel()

    def _deliver(self, sender: str, text: str) -> None:
        if self._address in self._network.synchronizers:
            self._core.receive(sender, decode_message(text), asyncio.get_running_loop().time())
            self._alarm.set()

    # --- what the core says (Outlet)

    def send(self, address: str, message: Message) -> None:
        """A message for peers; it is delivered in a later turn of the loop, as text, so that nothing is shared."""
        text = encode_message(message)
        loop = asyncio.get_running_loop()
        for peer in list(self._network.synchronizers.values()):
            if peer is not self and address in (EVERYONE, peer._address):
                loop.call_soon(peer._deliver, self._address, text)

    def report(self, error: Exception) -> None:
        """An error that nobody called for."""
        if self._on_ignored_error is not None:
            self._on_ignored_error(error)
        else:
            _logger.warning(
                "%s: %s", type(error).__name__, error, exc_info=None if isinstance(error, SyncError) else error
            )

    def pulled(self) -> None:
        """An exchange is over."""
        if self._core.state is SyncState.LIVE:
            self._went_live.set()

    def refused(self, sender: str, changes: MergeableChanges) -> None:
        """What was not taken was reported already."""

    def changed(self, changes: MergeableChanges, origin: Origin | None, beyond: MergeableChanges) -> None:
        """The store changed: send what was written here."""
        if self._core.state is SyncState.LIVE and not is_empty(beyond):
            self._core.send_changes(beyond)


def create_local_synchronizer(
    store: MergeableStore,
    network: LocalNetwork | None = None,
    *,
    request_timeout_seconds: float = DEFAULT_REQUEST_TIMEOUT_SECONDS,
    on_ignored_error: Callable[[Exception], object] | None = None,
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
