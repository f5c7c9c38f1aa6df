"""Everything mergesync raises, as one tree.

* `MergesyncError`
    * `InvalidCellError` (also a TypeError)
    * `InvalidIdError` (also a TypeError)
    * `SchemaError` (also a ValueError)
    * `TransactionError` (also a RuntimeError)
    * `ClockError` (also a RuntimeError)
    * `ContentError` (also a ValueError)
        * `ClockDriftError`
    * `SyncError`
        * `RemoteProtocolError`
        * `LimitExceededError`
            * `QuotaExceededError`
        * `RequestTimeoutError` (also a TimeoutError)
        * `ConnectionLostError` (also a ConnectionError)
        * `RefusedChangesError`
        * `RefusedError`
        * `PathClosedError`
        * `PathExistsError`
        * `NotDurableError`
        * `NotSupportedError`
        * `NameTakenError`
        * `RequestFailedError`
        * `StaleVersionError`
        * `RefusedConnectionError`
    * `PersisterError`
        * `LoadError`
        * `SaveError`

Local misuse raises at the call. A peer's mistake never raises into the application: it reaches
`on_ignored_error` as a `SyncError` or `ContentError`. Each class has a `code`, which is stable, and a `remedy`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ClockDriftError",
    "ClockError",
    "ConnectionLostError",
    "ContentError",
    "InvalidCellError",
    "InvalidIdError",
    "LimitExceededError",
    "LoadError",
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
    "SaveError",
    "SchemaError",
    "StaleVersionError",
    "SyncError",
    "TransactionError",
]


class MergesyncError(Exception):
    """Anything that mergesync raises."""

    code = "mergesync"
    remedy = "See the subclass."


class InvalidCellError(MergesyncError, TypeError):
    """A cell or value is not JSON, or is a string reserved by the wire format."""

    code = "invalid-cell"
    remedy = "Pass a string, a finite number (integers within 2**53), a boolean, None, or JSON objects and arrays."


class InvalidIdError(MergesyncError, TypeError):
    """The id of a table, row, cell, value or channel is not usable."""

    code = "invalid-id"
    remedy = "Pass a string."


class SchemaError(MergesyncError, ValueError):
    """A schema does not say what types a table or a value has."""

    code = "schema"
    remedy = "Give each cell or value a 'type' of string, number, boolean, object or array, and a default of that type."


class TransactionError(MergesyncError, RuntimeError):
    """A transaction is misused: finished twice, or a listener that may only look tries to write."""

    code = "transaction"
    remedy = "Add the listener with mutator=True, or write after the transaction."


class ClockError(MergesyncError, RuntimeError):
    """The clock cannot make a stamp above one that is already in the store (TinyBase: tinybase:13)."""

    code = "clock"
    remedy = "Check the get_now function of the store; the 42 bits of time may be exhausted."


class ContentError(MergesyncError, ValueError):
    """Mergeable content or changes are malformed; nothing of them was taken."""

    code = "content"
    remedy = "Pass what get_mergeable_content() or get_transaction_mergeable_changes() returned."


class ClockDriftError(ContentError):
    """A stamp is further in the future than allowed; nothing of the body was taken.

    Attributes:
        hlc: the offending stamp, 16 characters.
        max_offset_milliseconds: how far ahead a stamp may be.
    """

    code = "clock-drift"
    remedy = "Correct the clock of the machine that wrote it, or of this one."

    def __init__(self, hlc: str, max_offset_milliseconds: int) -> None:
        super().__init__(f"stamp {hlc!r} is more than {max_offset_milliseconds} ms in the future")
        self.hlc = hlc
        self.max_offset_milliseconds = max_offset_milliseconds


class SyncError(MergesyncError):
    """Something went wrong between two peers.

    Attributes:
        path_id: the path concerned, if it is known.
        client_id: the client concerned, if it is known.
    """

    code = "sync"
    remedy = "See the subclass."

    def __init__(self, message: str, *, path_id: str | None = None, client_id: str | None = None) -> None:
        super().__init__(message)
        self.path_id = path_id
        self.client_id = client_id

    @property
    def message(self) -> str:
        """What went wrong, without where."""
        return str(self.args[0])

    def __str__(self) -> str:
        where = [f"{name} {value!r}" for name, value in (("path", self.path_id), ("client", self.client_id)) if value]
        return f"{super().__str__()} ({', '.join(where)})" if where else super().__str__()


class RemoteProtocolError(SyncError):
    """The peer sent what the protocol does not allow; its socket is closed with 1007 (tinybase:14).

    Attributes:
        excerpt: the beginning of the offending text, at most 80 characters.
    """

    code = "remote-protocol"
    remedy = "Check the peer; it does not speak TinyBase's protocol as of version 9.4."
    close_code = 1007
    close_reason = "tinybase:14"

    def __init__(
        self, message: str, *, excerpt: str = "", path_id: str | None = None, client_id: str | None = None
    ) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.excerpt: str = excerpt[:80]


class LimitExceededError(SyncError):
    """A bound of `mergesync.limits` was passed; where a socket is at fault it is closed with 1013 (tinybase:15:...).

    Attributes:
        limit: which one, by the peer's word: socket, fragments, channels, server, requests, controls or client.
    """

    code = "limit-exceeded"
    remedy = "Send smaller or fewer messages, or raise the limit on both sides."
    close_code = 1013

    def __init__(self, message: str, *, limit: str, path_id: str | None = None, client_id: str | None = None) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.limit = limit

    @property
    def close_reason(self) -> str:
        """What the socket is closed with, as TinyBase words it."""
        return f"tinybase:15:{self.limit}"


class QuotaExceededError(LimitExceededError):
    """A client wants more of the server than `Limits` allow; its socket is closed with 4429, to come again later.

    Attributes:
        retry_after_seconds: when; the close reason says it to clients.
    """

    code = "quota-exceeded"
    remedy = "Come again later, or raise the limit in `Limits`."
    close_code = 4429

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        retry_after_seconds: float,
        path_id: str | None = None,
        client_id: str | None = None,
    ) -> None:
        super().__init__(message, limit=limit, path_id=path_id, client_id=client_id)
        self.retry_after_seconds = retry_after_seconds

    @property
    def close_reason(self) -> str:
        """What the socket is closed with; a client of mergesync waits for so long."""
        return f"mergesync:{self.limit} retry-after={self.retry_after_seconds:.3f}"


class RequestTimeoutError(SyncError, TimeoutError):
    """A peer did not answer in time (TinyBase: tinybase:3)."""

    code = "request-timeout"
    remedy = "Raise request_timeout_seconds where round trips are long."


class ConnectionLostError(SyncError, ConnectionError):
    """The connection closed while something waited for it (TinyBase: tinybase:5)."""

    code = "connection-lost"
    remedy = "Nothing is lost: what is in the store is exchanged once the connection is back."


class RefusedChangesError(SyncError):
    """Some cells or values that a peer sent were not taken; the others of the same message were.

    Their writer is given the values to keep.

    Attributes:
        count: how many were refused.
        reasons: why, as sentences' ends: "too far in the future", "against the schema", ...
    """

    code = "refused-changes"
    remedy = "Correct the clock of the client that wrote them, or what it writes."

    def __init__(
        self, count: int, reasons: tuple[str, ...], *, path_id: str | None = None, client_id: str | None = None
    ) -> None:
        super().__init__(
            f"{count} cells or values were not taken: {'; '.join(reasons)}", path_id=path_id, client_id=client_id
        )
        self.count = count
        self.reasons = reasons


class RefusedError(SyncError):
    """What a hook of a server raises to say no: to a client, or to what it wants to change.

    Attributes:
        status: what a request for a socket is answered with; None for 401 of `authorize`, 403 of others.
    """

    code = "refused"
    remedy = "Ask whoever runs the server for permission."

    def __init__(
        self,
        message: str = "not allowed",
        *,
        status: int | None = None,
        path_id: str | None = None,
        client_id: str | None = None,
    ) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.status = status


class RedirectError(RefusedError):
    """What `authorize` or `admit` raises to send who asks for a socket elsewhere, with HTTP 307.

    On a channel of an open socket, and in other hooks, it is a refusal like any other.

    Attributes:
        location: where to: a URL, or a path on the same server, percent-encoded.

    Example:
        >>> RedirectError("/archive/2023").location
        '/archive/2023'
    """

    code = "redirect"
    remedy = "Connect to `location`."

    def __init__(self, location: str, *, path_id: str | None = None, client_id: str | None = None) -> None:
        if not (location and location.isascii() and location.isprintable()):
            raise ValueError(f"a percent-encoded URL or path is wanted, not {location!r:.80}")
        super().__init__(f"go to {location}", status=307, path_id=path_id, client_id=client_id)
        self.location = location


class PathClosedError(SyncError):
    """A path that is asked for something is not open any more."""

    code = "path-closed"
    remedy = "Enter `server.open_path(path_id)`, which keeps a path open, and use it only in there."


class PathExistsError(SyncError):
    """A path that is to be made is there already."""

    code = "path-exists"
    remedy = "Let the server choose the id, or use `server.open_path(path_id)` for a path that may be there."


class NotDurableError(SyncError):
    """The server has not stored what was written; it is in the stores, and goes on being synchronized and saved.

    Attributes:
        reason: why: "storage" if the path has none, "save" if saving fails, "incomplete" if the server could not get
            all of it, or another word of the server's.
    """

    code = "not-durable"
    remedy = "See the server's log; give the path a persister, or make room for it."

    def __init__(self, message: str, reason: str, *, path_id: str | None = None, client_id: str | None = None) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.reason = reason


class NotSupportedError(SyncError):
    """The server is not mergesync, or an older one, and cannot do what is asked of it."""

    code = "not-supported"
    remedy = "Connect to a mergesync server of this version, or do without."


class NameTakenError(SyncError):
    """The name that a client wants on a path is another's."""

    code = "name-taken"
    remedy = "Take another name, or let the server replace the older holder (`names='replace'`)."


class RequestFailedError(SyncError):
    """The server, or who was asked through it, says no.

    Attributes:
        reason: a word for programs, such as "unknown" for an action that does not exist, "no-receiver", "no-answer" or
            "timeout" for a question, or the application's own.
        details: JSON, or None.
    """

    code = "request-failed"
    remedy = "See the reason."

    def __init__(
        self,
        message: str,
        reason: str,
        details: Any = None,
        *,
        path_id: str | None = None,
        client_id: str | None = None,
    ) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.reason = reason
        self.details = details


class StaleVersionError(SyncError):
    """What a change depended on has changed; nothing of it was made.

    Attributes:
        version: the present one.
        content: what is there now: `(tables, values)`, a table, a row, a cell or a value; `MISSING` for none.
    """

    code = "stale-version"
    remedy = "Decide again by the present content, and try with the present version."

    def __init__(
        self, message: str, *, version: str, content: Any, path_id: str | None = None, client_id: str | None = None
    ) -> None:
        super().__init__(message, path_id=path_id, client_id=client_id)
        self.version = version
        self.content = content


class RefusedConnectionError(SyncError):
    """A socket was not opened: the page that asked is of another origin, a hook said no, or it would be one too many.

    Attributes:
        status: what the HTTP request was answered with: 401, 403, 429 (too many), or what the hook said.
        retry_after_seconds: when it may be tried again; None if that is of no use.
        location: where to ask instead; None for nowhere.
    """

    code = "refused-connection"
    remedy = (
        "Send a valid token, name the origin in `origins` (`mergesync serve --allow-origin`), or raise the limit in "
        "`Limits`."
    )

    def __init__(
        self,
        message: str,
        *,
        status: int,
        retry_after_seconds: float | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.location = location


class PersisterError(MergesyncError):
    """Stored data could not be read or written. The cause is chained.

    Attributes:
        path_id: the path concerned, if the persister belongs to one.
    """

    code = "persister"
    remedy = "See the cause."

    def __init__(self, message: str, *, path_id: str | None = None) -> None:
        super().__init__(message)
        self.path_id = path_id


class LoadError(PersisterError):
    """Stored data could not be read; it was left as it is and nothing will be saved over it."""

    code = "load"
    remedy = "Repair or move the stored data, or make its place readable again; loading is tried again by itself."


class SaveError(PersisterError):
    """Data could not be written; it is kept in memory and saving is tried again."""

    code = "save"
    remedy = "Make room, or make the place writable; saving is tried again by itself."
