"""Every bound in one place, with its reason.

Where the peer has the same bound, its value is TinyBase's (protocol section 15): a smaller one would cut off
well-behaved clients, a larger one would let us send what they refuse.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

__all__ = [
    "ASK_GRACE_SECONDS",
    "CATCH_UP_POLL_SECONDS",
    "CLOSE_TIMEOUT_SECONDS",
    "DEFAULT_ACTION_TIMEOUT_SECONDS",
    "DEFAULT_REQUEST_TIMEOUT_SECONDS",
    "DESTROY_TIMEOUT_SECONDS",
    "FILE_POLL_SECONDS",
    "FLUSH_TIMEOUTS",
    "FRAGMENT_TIMEOUT_SECONDS",
    "HASHED_AT_ONCE",
    "HELD_TIMEOUTS",
    "HELLO_TIMEOUT_SECONDS",
    "HOOK_TIMEOUT_SECONDS",
    "KEPT_ANSWER_SECONDS",
    "LAGGARDS_LOOKED_AT",
    "LOOKS_AT_ALL_LAGGARDS",
    "MAX_ANSWER_BYTES",
    "MAX_ASK_SECONDS",
    "MAX_BANS",
    "MAX_CHANGES_OUTBOX_BYTES",
    "MAX_CHANNELS",
    "MAX_CHANNEL_ID_BYTES",
    "MAX_CLOCK_OFFSET_MILLISECONDS",
    "MAX_COMPARED_RANGES",
    "MAX_DEPARTED_CLIENTS",
    "MAX_FRAGMENTS",
    "MAX_FRAMES_READ_AHEAD",
    "MAX_FRAME_BYTES",
    "MAX_FRUITLESS_REMINDERS",
    "MAX_HELD_BYTES",
    "MAX_HELD_MESSAGES",
    "MAX_INCOMPLETE_MESSAGES",
    "MAX_INTEGER",
    "MAX_JOINED_BYTES",
    "MAX_LEAPS",
    "MAX_LEAVES_AHEAD",
    "MAX_LEAVES_REJECTED",
    "MAX_LISTED_ROWS",
    "MAX_MERGE_TRIES",
    "MAX_MESSAGES_BEING_ANSWERED",
    "MAX_MESSAGE_BYTES",
    "MAX_NAME_BYTES",
    "MAX_OUTBOX_BYTES",
    "MAX_PAGE_BYTES",
    "MAX_PENDING_CONTROLS",
    "MAX_PENDING_REQUESTS",
    "MAX_PRESENCE_BYTES",
    "MAX_PRESENCE_CELLS",
    "MAX_READ_BYTES",
    "MAX_REMEMBERED_BYTES",
    "MAX_REMEMBERED_CHANGES",
    "MAX_REMEMBERED_REMOVALS",
    "MAX_REMEMBERED_RESULTS",
    "MAX_REMINDERS",
    "MAX_REMINDER_PAUSE_SECONDS",
    "MAX_REQUEST_TIMEOUT_SECONDS",
    "MAX_RETRY_AFTER_SECONDS",
    "MAX_ROUND_SECONDS",
    "MAX_STAMPS_AHEAD",
    "MAX_TIMER_SECONDS",
    "MAX_TOTAL_CHANGES_OUTBOX_BYTES",
    "MAX_UNACCEPTED_CONNECTIONS",
    "MAX_UNANSWERED_BYTES",
    "MAX_UNANSWERED_OPERATIONS",
    "MAX_UNREADABLE_COPIES",
    "MAX_WAITING_CONVERSATIONS",
    "MIN_ANSWER_BYTES",
    "MIN_JOINED_FRAMES",
    "PROMPT_ANSWER_SECONDS",
    "PULLED_ROWS",
    "PUT_OUT_RETRY_SECONDS",
    "QUOTA_RETRY_SECONDS",
    "RECONNECT_CAP_SECONDS",
    "RECONNECT_FIRST_SECONDS",
    "RECONNECT_STABLE_SECONDS",
    "REFUSALS_REPORTED",
    "REFUSALS_SECONDS",
    "REMINDER_PAUSE_SECONDS",
    "REMOVALS_AT_ONCE",
    "REMOVAL_REMEMBERED_SECONDS",
    "REMOVAL_RETRY_SECONDS",
    "RETRY_LOAD_CAP_SECONDS",
    "RETRY_LOAD_FIRST_SECONDS",
    "SAVE_ATTEMPTS_ON_CLOSE",
    "SAVE_DEBOUNCE_CAP_SECONDS",
    "SAVE_DEBOUNCE_MAX_SECONDS",
    "SAVE_DEBOUNCE_SECONDS",
    "SAVE_RETRY_CAP_SECONDS",
    "SAVE_RETRY_FIRST_SECONDS",
    "SERVER_CHECKS",
    "SERVER_CHECK_FIRST_SECONDS",
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "SQLITE_COMMIT_INTERVAL_SECONDS",
    "SQLITE_PAGE_BYTES",
    "SQLITE_POLL_SECONDS",
    "SQLITE_READERS",
    "SQLITE_WAL_BYTES",
    "TRANSACTION_POLL_SECONDS",
    "VERIFY_GRACE_SECONDS",
    "Limits",
]

# --- data -------------------------------------------------------------------------------------------------

MAX_INTEGER: Final = 2**53
"""The largest integer that both languages hold exactly; beyond it JavaScript would round silently."""

MAX_CLOCK_OFFSET_MILLISECONDS: Final = 300_000
"""A stamp further ahead of our clock than this is refused, as the peer does (protocol section 3)."""

MAX_LEAPS: Final = 100
"""Leaps of a clock by more than that which a store remembers, so that it can go back to before them."""

# --- frames -----------------------------------------------------------------------------------------------

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""UTF-8 bytes of a frame in either direction (the peer closes with 1013 beyond it)."""

MAX_MESSAGE_BYTES: Final = MAX_FRAME_BYTES - 2048
"""UTF-8 bytes of a message that we send: with any address and channel id before it, it fits a frame."""

MAX_READ_BYTES: Final = MAX_FRAME_BYTES + 1024 * 1024
"""What the WebSocket layer reads at most, so that a frame somewhat too large still gets the peer's own 1013.

Beyond it the library closes with 1009 without reading on. TinyBase reads up to 100 MiB; that much memory per stranger
is not worth the nicer code."""

MAX_FRAMES_READ_AHEAD: Final = 2
"""Frames of a client that are read before the server has acted on those before; the others stay in the memory of who
sends them. With the library's 16 a single client with frames of 16 MiB made the server 530 MB larger, now 300 MB."""

MAX_FRAGMENTS: Final = 1000
"""Pieces of one message (the peer's bound)."""

FRAGMENT_TIMEOUT_SECONDS: Final = 60.0
"""A message of which no further piece comes for so long is dropped. Longer than a dead connection lives: the peer drops
it after its request time-out, counted from the first piece, and so loses what comes over a slow link."""

MAX_INCOMPLETE_MESSAGES: Final = 100
"""Messages of a connection of which pieces are missing (the peer's bound)."""

MAX_OUTBOX_BYTES: Final = MAX_FRAME_BYTES
"""What may wait for a slow reader before it is closed with 1013 (the peer's bound)."""

MAX_CHANGES_OUTBOX_BYTES: Final = 256 * 1024
"""What may wait for a slow reader before no more changes are queued for it: it compares hashes when it reads again.
Only answers to its own questions can make more wait."""

MAX_TOTAL_CHANGES_OUTBOX_BYTES: Final = 64 * 1024 * 1024
"""What may wait for all slow readers together before no more changes are queued for those for whom most waits. A
thousand that do not read at all then get 64 KiB each, where each by itself could have four times as much."""

MAX_JOINED_BYTES: Final = 64 * 1024
"""Characters of changes of a path that wait for the end of a turn of the event loop, to be written at once: hundreds of
small ones, and little beside an outbox."""

MIN_JOINED_FRAMES: Final = 16
"""Changes of a turn are written as soon as there are so many, and as many as readers, though more may come: few readers
can have them while the server acts on the next. That adds one write for each change, at most."""

MAX_ROUND_SECONDS: Final = 0.005
"""For how long a round of the event loop acts on frames that have come, before timers, other sockets and what follows
from those frames have their turn: what else a server does is late by some milliseconds at most."""

CATCH_UP_POLL_SECONDS: Final = 0.05
"""How often is looked whether slow readers read again; that costs a microsecond for each of them."""

LAGGARDS_LOOKED_AT: Final = 100
"""At so many of them at once, so that others do not wait for that;"""

LOOKS_AT_ALL_LAGGARDS: Final = 20
"""or at more, where all would not be looked at within so many times, which is a second."""

# --- large stores -----------------------------------------------------------------------------------------

MAX_ANSWER_BYTES: Final = MAX_FRAME_BYTES // 2
"""About how much an answer to a peer holds: half of what fits, as sizes are reckoned before there is a text."""

KEPT_ANSWER_SECONDS: Final = 10.0
"""How long the server keeps the text of the answer that gives a newcomer all tables, unless they change: of a thousand
who come one after the other, one has it made. It is a fifth of what the tables take, and some 8 MiB at most."""

MIN_ANSWER_BYTES: Final = 128 * 1024
"""Answers to a peer that gets none of them are made smaller, down to this: in a second one comes over a Mbit/s."""

MAX_PAGE_BYTES: Final = 1024 * 1024
"""What one end of mergesync gives the other at once: little enough that the first rows are there soon and a lost link
costs little, and enough that round trips do not count."""

MAX_COMPARED_RANGES: Final = 1000
"""Ranges of rows that are compared for a single request: some milliseconds."""

HASHED_AT_ONCE: Final = 2000
"""Rows of a large store that are hashed before others have their turn: some milliseconds. All of them take seconds."""

MAX_REMEMBERED_CHANGES: Final = 10_000
"""Cells and values of a path of which a server of ours remembers that they changed last, and messages with which it
told of them, so that clients that come back are told no more than that. Who was away for longer compares ranges of
rows. They take 5 MB of a path on which so many change, and two microseconds of each change."""

MAX_LISTED_ROWS: Final = 400_000
"""Rows of a table of which a TinyBase client is asked to list all that it has; each takes some 24 bytes, and it closes
its own socket when a message has more than 16 MiB. A larger table it is given as a whole."""

PULLED_ROWS: Final = 1000
"""Rows for which a peer that has listed its rows is asked at once, at first; then as many as fill a quarter of an
answer."""

REMINDER_PAUSE_SECONDS: Final = 0.1
"""A peer that has not been answered everything is told so when it has asked nothing for so long, or for twice as long
as it took between two of its questions."""

MAX_REMINDER_PAUSE_SECONDS: Final = 10.0
"""The longest such pause: merging an answer of 8 MiB takes TinyBase some seconds."""

MAX_FRUITLESS_REMINDERS: Final = 5
"""How often in a row a peer is told without getting anything: it may refuse all, as one does whose clock is slow."""

MAX_REMINDERS: Final = 10_000
"""How often it is told altogether: with answers of 8 MiB more than fits a memory."""

# --- channels ---------------------------------------------------------------------------------------------

MAX_CHANNELS: Final = 100
"""Channels of one socket (the peer's bound)."""

MAX_CHANNEL_ID_BYTES: Final = 1024
"""UTF-8 bytes of a channel id (the peer's bound)."""

MAX_NAME_BYTES: Final = MAX_CHANNEL_ID_BYTES
"""UTF-8 bytes of what a client is called on a path."""

MAX_PRESENCE_CELLS: Final = 64
"""Cells of the row of a client in the presence of a path, those that it has deleted included."""

MAX_PRESENCE_BYTES: Final = 8 * 1024
"""Characters of such a row: a name, a cursor, a selection; a thousand clients on a path see 8 MB at most."""

MAX_DEPARTED_CLIENTS: Final = 1000
"""Rows of clients that are gone are forgotten, with the stamps that a deletion leaves, after so many of them."""

MAX_PENDING_CONTROLS: Final = 100
"""Controls of one socket that wait for an answer (the peer's bound)."""

# --- waiting ----------------------------------------------------------------------------------------------

DEFAULT_REQUEST_TIMEOUT_SECONDS: Final = 1.0
"""How long a request waits for its answer (the peer's default)."""

DEFAULT_ACTION_TIMEOUT_SECONDS: Final = 30.0
"""How long the server, and whoever is asked through it, may take for what applications define."""

ASK_GRACE_SECONDS: Final = 5.0
"""How much longer than a question's own time its asker waits for the server to say that there was no answer."""

MAX_PENDING_REQUESTS: Final = 100
"""Requests of one synchronizer that wait for an answer (the peer's bound)."""

MAX_UNANSWERED_OPERATIONS: Final = 2 * MAX_CHANNELS
"""Operations of one socket that the server has not answered: a client asks twice per channel, once in a hurry."""

MAX_UNANSWERED_BYTES: Final = MAX_CHANNELS * MAX_PAGE_BYTES + MAX_FRAME_BYTES
"""Characters of these: who comes back gives a page per channel while the paths load, or asks for something large."""

MAX_ASK_SECONDS: Final = 3600.0
"""How long a question between clients may stay open (wsmsgbroker keeps all for an hour); it counts as an unanswered
operation of its asker, so that their number is bounded, too."""

MAX_MESSAGES_BEING_ANSWERED: Final = 1000
"""Messages of others that the listeners of one client are at work on; more are answered as by one without listeners."""

MAX_REMEMBERED_RESULTS: Final = 10_000
"""Results of actions with a key that a server remembers, so that who asks again does not have it done again: a client
does so within seconds."""

MAX_REMEMBERED_BYTES: Final = MAX_FRAME_BYTES
"""Characters of these results."""

PROMPT_ANSWER_SECONDS: Final = 0.1
"""A client that has not answered the server for so long does not keep others waiting: a thousand that never answer
would hold up everybody for ten request time-outs."""

MAX_REQUEST_TIMEOUT_SECONDS: Final = 30.0
"""Time-outs grow with the round trips that are measured, and from one attempt to the next, up to this."""

MAX_WAITING_CONVERSATIONS: Final = 10_000
"""Exchanges that wait until fewer than `MAX_PENDING_REQUESTS` requests are under way; one client needs one of them."""

TRANSACTION_POLL_SECONDS: Final = 0.01
"""How often messages that came in the middle of an application's transaction look whether it is over."""

MAX_LEAVES_AHEAD: Final = 10_000
"""Cells and values of one client whose stamps are too far in the future and that are kept equal nevertheless."""

MAX_LEAVES_REJECTED: Final = 10_000
"""Refused cells and values that one client keeps, and of which is remembered that they were reported: it offers them
again whenever it compares."""

MAX_HELD_MESSAGES: Final = 1000
"""Messages held while a path loads (the peer's bound)."""

MAX_HELD_BYTES: Final = MAX_FRAME_BYTES
"""Bytes held while a path loads (the peer's bound)."""

HELD_TIMEOUTS: Final = 10
"""Held messages wait at most this many request time-outs, then their senders are closed with 1013 (as in the peer)."""

SERVER_CHECK_FIRST_SECONDS: Final = 2.0
"""When a client first looks whether a TinyBase server has got what it announced: the server gives up after a second."""

SERVER_CHECKS: Final = 6
"""How often it looks, each time after twice as long, the last time after two minutes: two stores may never agree
(surprise 1), so it ends some day."""

MAX_MERGE_TRIES: Final = 100
"""How often a gateway tries to change something inside of a value that others change meanwhile; each time somebody else
was quicker, so that where all try, as many get through."""

HELLO_TIMEOUT_SECONDS: Final = 5.0
"""How long a gateway waits for a client to say what it wants; as websocket-room-server."""

HOOK_TIMEOUT_SECONDS: Final = 10.0
"""How long a hook of the application may take before what it was asked is refused: longer than a database is slow, and
no longer than a client waits for its socket."""

MAX_TIMER_SECONDS: Final = 86_400.0
"""The longest that is waited at once for the expiry of an identity: the wall clock may be set meanwhile."""

FLUSH_TIMEOUTS: Final = 10
"""A synchronizer that is destroyed waits at most this many request time-outs while its peer still fetches changes."""

MAX_UNACCEPTED_CONNECTIONS: Final = 4096
"""Connections that the system completes while a server has not taken them. For who finds no place it looks as if
nobody were there: it tries again after a second, then after two, and so on. asyncio's hundred are too few for all who
come back when a server starts."""

CLOSE_TIMEOUT_SECONDS: Final = 5.0
"""A peer that does not close its side of a socket by then is cut off; half of what `websockets` grants."""

DESTROY_TIMEOUT_SECONDS: Final = 30.0
"""A server that is destroyed gives up on storage that hangs after this, and says what may not be stored."""

RECONNECT_FIRST_SECONDS: Final = 0.1
"""Full jitter below this before the first attempt to reconnect: most drops are short."""

RECONNECT_CAP_SECONDS: Final = 30.0
"""The jitter grows to this and stays: a client never gives up, and a server that returns is not stormed."""

RECONNECT_STABLE_SECONDS: Final = 30.0
"""A connection that lasted this long was good, however it ended: the next attempt comes soon again."""

PUT_OUT_RETRY_SECONDS: Final = 5.0
"""A client that was put out of a path does not come back before that: whoever did it meant it."""

REFUSALS_REPORTED: Final = 20
"""Refused connections of one status that are reported one by one, before they are only counted for a while."""

REFUSALS_SECONDS: Final = 10.0
"""How long refused connections are counted before it is said how many more there were; with the bound above, a flood
of any size makes two lines a second in a log."""

MAX_BANS: Final = 10_000
"""Bans that a server remembers; then the oldest is forgotten."""

REMOVAL_REMEMBERED_SECONDS: Final = 7 * 86_400.0
"""How long a server remembers that a path was removed: who was away for longer may bring its old content back."""

MAX_REMEMBERED_REMOVALS: Final = 10_000
"""How many removed paths it remembers; then the one that was removed first is forgotten."""

MAX_STAMPS_AHEAD: Final = 1000
"""How many stamps of the future of a removed path are remembered one by one, as clients with fast clocks make few; if
there are more, whatever is older than the newest of them is too old to come back."""

REMOVALS_AT_ONCE: Final = 100
"""When all paths are removed, so many of them at a time: enough to share commits, and little to hold."""

REMOVAL_RETRY_SECONDS: Final = 30.0
"""What could not be removed from storage is tried again after this."""

QUOTA_RETRY_SECONDS: Final = 10.0
"""When who is refused for a quota may come again: places become free as others go, which is not to be known."""

MAX_RETRY_AFTER_SECONDS: Final = 300.0
"""The longest wait that a server can ask for; a longer one is taken for a mistake."""

# --- persistence ------------------------------------------------------------------------------------------

SAVE_DEBOUNCE_SECONDS: Final = 0.05
"""A JSON file is written this long after a change, so that a burst is one write."""

SAVE_DEBOUNCE_MAX_SECONDS: Final = 1.0
"""However long a burst lasts, a JSON file is at most this far behind, or as far as its last save took longer."""

SAVE_DEBOUNCE_CAP_SECONDS: Final = 10.0
"""However long a save takes, the next one need not wait longer than this."""

SAVE_RETRY_FIRST_SECONDS: Final = 0.2
"""A save that failed is tried again after this, then after twice as long, and so on."""

SAVE_RETRY_CAP_SECONDS: Final = 5.0
"""The longest wait between two attempts to save: a disk that has room again is noticed within this."""

SAVE_ATTEMPTS_ON_CLOSE: Final = 3
"""A persister that is closed while saving fails tries this often, then reports what is not stored."""

MAX_UNREADABLE_COPIES: Final = 10
"""Copies kept of different unreadable states of one file; it is never overwritten, so they are only a convenience."""

SQLITE_COMMIT_INTERVAL_SECONDS: Final = 0.005
"""Changes of all paths that come within this time share one commit, and so one fsync; within less on a disk whose
commits take less."""

SQLITE_BUSY_TIMEOUT_SECONDS: Final = 5.0
"""How long SQLite waits for another process that has the database locked."""

FILE_POLL_SECONDS: Final = 0.1
"""How often auto-load looks at a file (TinyBase: 0.05)."""

SQLITE_PAGE_BYTES: Final = 1024
"""A change of one cell writes whole pages, to the log and later to the database: 2 kB in all, 8 kB with SQLite's pages
of 4 KiB."""

SQLITE_READERS: Final = 8
"""Connections, and so threads, that read paths at once; more of them would only wait for one another."""

SQLITE_WAL_BYTES: Final = 4 * 2**20
"""So large the log grows before it goes into the database, where several changes of a page are one then. Much larger,
and the commit that has to do it takes long."""

SQLITE_POLL_SECONDS: Final = 0.5
"""How often auto-load asks SQLite whether another process has committed (TinyBase: 1)."""

VERIFY_GRACE_SECONDS: Final = 3.0
"""What a server gives must be stored by then, and the other way round; thrice what a JSON file may be behind."""

RETRY_LOAD_FIRST_SECONDS: Final = 0.5
"""A path whose load failed tries again after this, then after twice as long, and so on."""

RETRY_LOAD_CAP_SECONDS: Final = 30.0
"""The longest wait between two attempts to load."""

# --- what a server lets its clients use ---------------------------------------------------------------------


_NEEDED_LIMITS: Final = ("outbox_bytes", "total_outbox_bytes", "burst_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server lets its clients use; None for no limit, but not of outboxes and `burst_seconds`.

    Attributes:
        connections: sockets at once. More are answered with 429. Each costs some 15 kB, and a file descriptor.
        connections_per_address: those of one address, or of one IPv6 network of 64 bits. Addresses that are not global
            are not counted: a proxy or a test is behind them.
        paths: paths at once, each of them a store in memory. Who comes onto another one is closed with 4429.
        outbox_bytes: what may wait for a client that does not read, before it misses changes, and has to compare hashes
            when it reads again.
        total_outbox_bytes: what may wait for all of them together. None may have more than what is left of it, so the
            more of it is taken, the less it takes for a client to miss changes.
        messages_per_second: frames of one socket. Who sends more is read more slowly, and not closed.
        bytes_per_second: of its frames, likewise.
        burst_seconds: for how long a client that was quiet may be faster.
        heartbeat_seconds: how often clients are pinged; who does not answer for as long again is cut off. Only on a
            port of its own; ASGI servers have settings of theirs.
        handshake_seconds: how long a client may take to ask for a socket; likewise.
        idle_seconds: how long a client that is there may say nothing; then it is closed with 4408. Pings do not count.
    """

    connections: int | None = 10_000
    connections_per_address: int | None = 200
    paths: int | None = 10_000
    outbox_bytes: int = MAX_CHANGES_OUTBOX_BYTES
    total_outbox_bytes: int = MAX_TOTAL_CHANGES_OUTBOX_BYTES
    messages_per_second: float | None = 2_000.0
    bytes_per_second: float | None = 4.0 * 1024 * 1024
    burst_seconds: float = 5.0
    heartbeat_seconds: float | None = 15.0
    handshake_seconds: float | None = 5.0
    idle_seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in _NEEDED_LIMITS:
                raise ValueError(f"the limit {field.name} cannot be None")
            if value is not None and not value > 0:
                raise ValueError(f"the limit {field.name} must be above 0, not {value!r}")
