"""One socket at the server: who it is on which paths, and what closes it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_CHANNELS, MAX_FRAME_BYTES
from mergesync.sync.operations import Operation
from mergesync.sync.payloads import Payload
from mergesync.sync.server_connection import ServerConnection, path_of
from mergesync.sync.subprotocols import Dialect

MESSAGE = '["r",1,""]'
HELLO = 'S\n["h",-1,[0,1]]'


class Board:
    """A switchboard that keeps what it is told, and its one connection."""

    def __init__(self, path_id: str = "p", *, multiplexed: bool = False, extended: bool = False) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.sent: list[str] = []
        self.decisions: list[Callable[[bool], None]] | None = None
        dialect = Dialect(multiplexed=multiplexed, extended=extended)
        self.connection = ServerConnection("C", path_id, dialect=dialect, switchboard=self, timeout_seconds=1.0)
        self.connection.open()

    def admit(self, path_id: str, connection: ServerConnection, decided: Callable[[bool], None]) -> None:
        """The client asks to come onto a path; nobody else decides, unless told to."""
        if self.decisions is None:
            decided(True)
        else:
            self.decisions.append(decided)

    def join(self, path_id: str, connection: ServerConnection, channel_id: str | None) -> None:
        """The client comes onto a path."""
        self.told.append(("join", path_id, connection.client_id, str(channel_id)))

    def leave(self, path_id: str, connection: ServerConnection) -> None:
        """The client leaves a path."""
        self.told.append(("leave", path_id, connection.client_id))

    def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
        """The client says something."""
        self.told.append((path_id, connection.client_id, address, *payload.remainders))

    def operate(self, path_id: str, connection: ServerConnection, operation: Operation, size: int) -> None:
        """The client asks the server itself."""
        self.told.append((path_id, connection.client_id, str(operation.request_id), operation.name, operation.body))

    def send_to(self, connection: ServerConnection, frame: str) -> None:
        """A frame for the socket."""
        assert connection is self.connection
        self.sent.append(frame)

    def hear(self, *frames: str) -> list[tuple[Any, ...]]:
        """Frames of the client; returns what came of them."""
        self.told.clear()
        for frame in frames:
            self.connection.receive(frame, 0.0)
        return self.told


@pytest.mark.parametrize(
    ("target", "path_id"),
    [("/", ""), ("/p", "p"), ("p", "p"), ("/a%20b/c?x=1?y", "a%20b/c"), ("/p/", "p/"), ("//p", "/p"), ("/?x", "")],
)
def test_paths(target: str, path_id: str) -> None:
    """The path id is the target after its first slash, up to the query, not decoded."""
    assert path_of(target) == path_id


def test_plain() -> None:
    """A plain socket is on its path from opening to closing, which may be said twice."""
    board = Board()
    assert board.told == [("join", "p", "C", "None")]
    assert board.hear(f"S\n{MESSAGE}") == [("p", "C", "S", MESSAGE)]
    assert board.connection.prefix("p") == ""
    board.told.clear()
    board.connection.close()
    board.connection.close()
    assert board.told == [("leave", "p", "C")]


@pytest.mark.parametrize(("base", "path_id"), [("base", "base/c"), ("", "c"), ("base/", "base//c")])
def test_channels(base: str, path_id: str) -> None:
    """A channel is a path below that of the socket; hello and subscribe are echoed, each time."""
    board = Board(base, multiplexed=True)
    assert board.told == []
    subscribe = 'S\n["s",-1,[1,"c"]]'
    assert board.hear(HELLO, subscribe, subscribe, HELLO) == [("join", path_id, "C", "c")]
    assert board.sent == [HELLO, subscribe, subscribe, HELLO]
    assert board.hear(f"M\nc\nS\n{MESSAGE}") == [(path_id, "C", "S", MESSAGE)]
    assert board.connection.prefix(path_id) == "M\nc\n"
    board.told.clear()
    board.connection.close()
    assert board.told == [("leave", path_id, "C")]
    assert board.connection.prefix(path_id) is None


def test_before_hello() -> None:
    """Before hello, subscribe and unsubscribe are ignored without an answer."""
    board = Board(multiplexed=True)
    assert board.hear('S\n["s",-1,[1,"c"]]', 'S\n[null,-1,[2,"c"]]') == []
    assert board.sent == []


def test_unsubscribe() -> None:
    """Unsubscribe has no answer; what was incomplete on the channel is forgotten, unknown channels are nothing."""
    board = Board(multiplexed=True)
    subscribe, unsubscribe = 'S\n["s",-1,[1,"c"]]', 'S\n[null,-1,[2,"c"]]'
    half = "M\nc\n\nAAAAAAAAAAAAAAAA\n0\n2\n["
    assert board.hear(HELLO, unsubscribe, subscribe, half, unsubscribe)[1:] == [("leave", "p/c", "C")]
    assert len(board.sent) == 2
    assert board.hear(subscribe, half) == [("join", "p/c", "C", "c")]


@pytest.mark.parametrize(
    ("multiplexed", "frame"),
    [
        (False, "hello"),
        (False, "\nhello"),
        (True, f"\n{MESSAGE}"),
        (True, "S\nhello"),
        (True, f"M\nunknown\nS\n{MESSAGE}"),
        (True, "M\nc"),
        (True, "M\nc\nhello"),
    ],
)
def test_invalid_frames(multiplexed: bool, frame: str) -> None:
    """What the protocol does not allow raises, and tells nobody anything."""
    board = Board(multiplexed=multiplexed)
    if multiplexed:
        board.hear(HELLO, 'S\n["s",-1,[1,"c"]]')
    board.told.clear()
    with pytest.raises(RemoteProtocolError):
        board.connection.receive(frame, 0.0)
    assert board.told == []


def test_frames_that_are_too_large() -> None:
    """A frame of more than 16 MiB raises."""
    with pytest.raises(LimitExceededError):
        Board().connection.receive(f"\n{'x' * MAX_FRAME_BYTES}", 0.0)


def test_the_collector_pauses_for_a_long_frame() -> None:
    """Until all that came of it is done."""

    class Watching(Board):
        def receive(self, path_id: str, connection: ServerConnection, address: str, payload: Payload) -> None:
            self.told.append((gc.isenabled(),))

    assert Watching().hear(f"\n{MESSAGE}", f'\n["{"r" * 5000}",1,""]') == [(True,), (False,)]
    assert gc.isenabled()


def test_how_many_channels() -> None:
    """100 channels fit on a socket; one more raises."""
    board = Board(multiplexed=True)
    board.hear(HELLO, *(f'S\n["s",-1,[1,"{number}"]]' for number in range(MAX_CHANNELS)))
    assert len(board.told) == MAX_CHANNELS
    with pytest.raises(LimitExceededError) as caught:
        board.connection.receive('S\n["s",-1,[1,"one more"]]', 0.0)
    assert caught.value.limit == "channels"


@pytest.mark.parametrize("multiplexed", [False, True])
def test_operations(multiplexed: bool) -> None:
    """What was agreed on goes to the server itself, on the path of the socket or channel."""
    board = Board("p", multiplexed=multiplexed, extended=True)
    frame, path_id = 'X\n["r","stored",true]', "p"
    if multiplexed:
        board.hear(HELLO, 'S\n["s",-1,[1,"c"]]')
        frame, path_id = f"M\nc\n{frame}", "p/c"
    assert board.hear(frame) == [(path_id, "C", "r", "stored", True)]


def test_operations_that_were_not_agreed_on() -> None:
    """For TinyBase, `X` is a client like any other, and the rest must be a message."""
    board = Board()
    assert board.hear(f"X\n{MESSAGE}") == [("p", "C", "X", MESSAGE)]
    with pytest.raises(RemoteProtocolError):
        board.hear('X\n["r","stored",true]')


# --- who is let onto paths


def control(kind: int, channel_id: str) -> str:
    """A control of a client."""
    request_id = '"c"' if kind == SUBSCRIBE else "null"
    return f'S\n[{request_id},-1,[{kind},"{channel_id}"]]'


SUBSCRIBE, UNSUBSCRIBE = 1, 2


def asking() -> tuple[Board, list[Callable[[bool], None]]]:
    """A socket that has said hello, and whose subscriptions somebody decides."""
    board = Board("", multiplexed=True)
    board.hear(HELLO)
    board.sent.clear()
    board.decisions = []
    return board, board.decisions


def test_a_subscription_is_echoed_once_it_is_decided() -> None:
    """Only then is the client on the path."""
    board, decisions = asking()
    assert board.hear(control(SUBSCRIBE, "c")) == []
    assert board.sent == []
    decisions[0](True)
    assert board.told == [("join", "c", "C", "c")]
    assert board.sent == [control(SUBSCRIBE, "c")]
    assert board.hear(control(SUBSCRIBE, "c")) == []  # again: it is there already
    assert len(board.sent) == 2


def test_a_refused_subscription_harms_no_other_channel() -> None:
    """There is no echo; what is said on it all the same is ignored; it can be given up, or tried again."""
    board, decisions = asking()
    board.hear(control(SUBSCRIBE, "good"))
    decisions[0](True)
    board.hear(control(SUBSCRIBE, "bad"))
    decisions[1](False)
    assert board.sent == [control(SUBSCRIBE, "good")]
    assert board.hear(f"M\nbad\n\n{MESSAGE}") == []
    assert board.hear(f"M\ngood\n\n{MESSAGE}") == [("good", "C", "", MESSAGE)]
    board.hear(control(SUBSCRIBE, "bad"))
    decisions[2](True)
    assert board.told == [("join", "bad", "C", "bad")]
    board.hear(control(SUBSCRIBE, "worse"))
    decisions[3](False)
    assert board.hear(control(UNSUBSCRIBE, "worse")) == []
    board.connection.close()
    assert board.told == [("leave", "good", "C"), ("leave", "bad", "C")]


def test_a_subscription_that_is_given_up_before_it_is_decided() -> None:
    """The client does not come onto the path, nor if the socket is closed meanwhile."""
    board, decisions = asking()
    board.hear(control(SUBSCRIBE, "one"), control(UNSUBSCRIBE, "one"), control(SUBSCRIBE, "two"))
    board.connection.close()
    for decide in decisions:
        decide(True)
    assert (board.told, board.sent) == ([], [])


def test_removed_from_a_path() -> None:
    """What it says there is ignored, and it does not leave the path another time."""
    board, decisions = asking()
    board.hear(control(SUBSCRIBE, "c"))
    decisions[0](True)
    board.connection.silence("c")
    board.connection.silence("of nobody")
    assert board.hear(f"M\nc\n\n{MESSAGE}") == []
    assert board.connection.prefix("c") == "M\nc\n"
    board.connection.close()
    assert board.told == []
