"""Tables of data that stay equal everywhere: a Python peer and server for TinyBase's sync protocol."""

from mergesync.exceptions import (
    ClockDriftError,
    ClockError,
    ConnectionLostError,
    ContentError,
    InvalidCellError,
    InvalidIdError,
    LimitExceededError,
    LoadError,
    MergesyncError,
    PersisterError,
    RefusedChangesError,
    RemoteProtocolError,
    RequestTimeoutError,
    SaveError,
    SchemaError,
    SyncError,
    TransactionError,
)
from mergesync.net.client import SyncStatus, WsClient, WsSynchronizer, create_ws_synchronizer
from mergesync.net.local import LocalNetwork, LocalSynchronizer, create_local_synchronizer
from mergesync.net.server import ClientInfo, WsServer, create_ws_server
from mergesync.store import HybridLogicalClock, MergeableStore
from mergesync.types import MISSING, Cell, Content

__all__ = [
    "MISSING",
    "Cell",
    "ClientInfo",
    "ClockDriftError",
    "ClockError",
    "ConnectionLostError",
    "Content",
    "ContentError",
    "HybridLogicalClock",
    "InvalidCellError",
    "InvalidIdError",
    "LimitExceededError",
    "LoadError",
    "LocalNetwork",
    "LocalSynchronizer",
    "MergeableStore",
    "MergesyncError",
    "PersisterError",
    "RefusedChangesError",
    "RemoteProtocolError",
    "RequestTimeoutError",
    "SaveError",
    "SchemaError",
    "SyncError",
    "SyncStatus",
    "TransactionError",
    "WsClient",
    "WsServer",
    "WsSynchronizer",
    "create_local_synchronizer",
    "create_ws_server",
    "create_ws_synchronizer",
]
