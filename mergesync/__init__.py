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
    NameTakenError,
    NotDurableError,
    NotSupportedError,
    PathClosedError,
    PathExistsError,
    PersisterError,
    QuotaExceededError,
    RedirectError,
    RefusedChangesError,
    RefusedConnectionError,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    RequestTimeoutError,
    SaveError,
    SchemaError,
    StaleVersionError,
    SyncError,
    TransactionError,
)
from mergesync.limits import Limits
from mergesync.net.client import SyncStatus, WsClient, WsSynchronizer, create_ws_synchronizer
from mergesync.net.gateway import Gateway, GatewaySocket
from mergesync.net.listening import create_ws_server
from mergesync.net.local import LocalNetwork, LocalSynchronizer, create_local_synchronizer
from mergesync.net.member import Member
from mergesync.net.server import WsServer
from mergesync.net.server_path import ServerPath
from mergesync.rooms.access import Access, Client, ClientInfo, Identity
from mergesync.rooms.changes import Changes
from mergesync.rooms.rules import Rule, allow_write, allow_write_value
from mergesync.store import HybridLogicalClock, MergeableStore
from mergesync.sync.talk import SendResult
from mergesync.types import MISSING, Cell, Content

__all__ = [
    "MISSING",
    "Access",
    "Cell",
    "Changes",
    "Client",
    "ClientInfo",
    "ClockDriftError",
    "ClockError",
    "ConnectionLostError",
    "Content",
    "ContentError",
    "Gateway",
    "GatewaySocket",
    "HybridLogicalClock",
    "Identity",
    "InvalidCellError",
    "InvalidIdError",
    "LimitExceededError",
    "Limits",
    "LoadError",
    "LocalNetwork",
    "LocalSynchronizer",
    "Member",
    "MergeableStore",
    "MergesyncError",
    "NameTakenError",
    "NotDurableError",
    "NotSupportedError",
    "PathClosedError",
    "PathExistsError",
    "PersisterError",
    "QuotaExceededError",
    "RedirectError",
    "RefusedChangesError",
    "RefusedConnectionError",
    "RefusedError",
    "RemoteProtocolError",
    "RequestFailedError",
    "RequestTimeoutError",
    "Rule",
    "SaveError",
    "SchemaError",
    "SendResult",
    "ServerPath",
    "StaleVersionError",
    "SyncError",
    "SyncStatus",
    "TransactionError",
    "WsClient",
    "WsServer",
    "WsSynchronizer",
    "allow_write",
    "allow_write_value",
    "create_local_synchronizer",
    "create_ws_server",
    "create_ws_synchronizer",
]
