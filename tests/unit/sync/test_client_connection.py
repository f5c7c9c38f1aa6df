"""One socket of a client: plain, or with channels that are greeted, subscribed and given up."""

from __future__ import annotations

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError, RequestTimeoutError
from mergesync.limits import MAX_CHANNEL_ID_BYTES, MAX_CHANNELS, MAX_FRAME_BYTES, MAX_PENDING_CONTROLS
from mergesync.sync.client_connection import ClientConnection, check_channel_id
from mergesync.sync.messages import Message
from mergesync.sync.operations import Operation
from tests.network import Ids

MESSAGE = '["r",1,""]'


class Client:
    """A connection, what it sends, and what comes in on it."""

    def __init__(self, *channel_ids: str, plain: bool = False, extended: bool = False) -> None:
        self.sent: list[str] = []
        self.ports: list[str | None] = []
        self.received: list[tuple[str | None, str, str | None]] = []
        self.operations: list[tuple[str | None, Operation]] = []
        self.connection = ClientConnection(
            None if plain else channel_ids, self, timeout_seconds=1.0, new_id=Ids(), extended=extended
        )

    def send(self, frame: str) -> None:
        """A frame for the socket."""
        self.sent.append(frame)

    def opened(self, channel_id: str | None) -> None:
        """A port can be used."""
        self.ports.append(channel_id)

    def receive(self, channel_id: str | None, sender: str, message: Message) -> None:
        """A message for a port."""
        self.received.append((channel_id, sender, message.request_id))

    def operate(self, channel_id: str | None, operation: Operation) -> None:
        """The server itself says something to a port."""
        self.operations.append((channel_id, operation))

    def echo(self) -> None:
        """The server echoes all controls sent so far."""
        sent, self.sent = self.sent, []
        for frame in sent:
            self.connection.receive(frame, 0.0)

    def subscribed(self) -> Client:
        """Greeted, and all channels subscribed."""
        self.connection.open(0.0)
        self.echo()
        self.echo()
        return self


def test_plain() -> None:
    """A plain socket has one port, open at once, and frames go as they are."""
    client = Client(plain=True)
    client.connection.open(0.0)
    assert (client.ports, client.sent) == ([None], [])
    assert client.connection.is_open(None)
    assert not client.connection.is_open("c")
    assert client.connection.outgoing(None, "S", MESSAGE) == f"S\n{MESSAGE}"
    client.connection.receive(f"S\n{MESSAGE}", 0.0)
    assert client.received == [(None, "S", "r")]
    assert client.connection.deadline is None


def test_channels() -> None:
    """Hello first; after its echo each channel is subscribed; after that echo it can be used."""
    client = Client("a", "b")
    client.connection.open(0.0)
    assert client.sent == ['S\n["----------------",-1,[0,1]]']
    client.echo()
    assert [frame[20:] for frame in client.sent] == ['",-1,[1,"a"]]', '",-1,[1,"b"]]']
    assert client.ports == []
    client.echo()
    assert client.ports == ["a", "b"]
    assert client.connection.is_open("a")
    assert not client.connection.is_open(None)
    assert client.connection.outgoing("a", "S", MESSAGE) == f"M\na\nS\n{MESSAGE}"
    client.connection.receive(f"M\nb\nC\n{MESSAGE}", 0.0)
    assert client.received == [("b", "C", "r")]


def test_a_channel_more() -> None:
    """A channel wanted later is subscribed at once if the server has greeted, else after that."""
    client = Client("a")
    client.connection.subscribe("b", 0.0)
    client.connection.open(0.0)
    client.connection.subscribe("c", 0.0)
    assert len(client.sent) == 1
    client.echo()
    assert len(client.sent) == 3
    client.connection.subscribe("d", 0.0)
    client.echo()
    assert client.ports == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="'d' is in use"):
        client.connection.subscribe("d", 0.0)


def test_a_channel_less() -> None:
    """A channel given up is unsubscribed; what is still under way on it is ignored, until it is wanted again."""
    client = Client("a", "b").subscribed()
    client.connection.receive("M\na\nS\nAAAAAAAAAAAAAAAA\n0\n2\n[", 0.0)
    client.connection.unsubscribe("a")
    client.connection.unsubscribe("unknown")
    assert client.sent == ['S\n[null,-1,[2,"a"]]']
    client.sent.clear()
    assert not client.connection.is_open("a")
    client.connection.receive(f"M\na\nS\n{MESSAGE}", 0.0)
    assert client.received == []
    client.connection.subscribe("a", 0.0)
    with pytest.raises(RemoteProtocolError):
        client.connection.receive(f"M\na\nS\n{MESSAGE}", 0.0)
    client.echo()
    client.connection.receive(f"M\na\nS\n{MESSAGE}", 0.0)
    assert client.received == [("a", "S", "r")]


def test_given_up_before_the_echo() -> None:
    """A channel given up before it is subscribed is not opened by the late echo; before hello nothing is sent."""
    client = Client("a", "b")
    client.connection.unsubscribe("b")
    client.connection.open(0.0)
    client.echo()
    assert len(client.sent) == 1
    echo = client.sent[0]
    client.connection.unsubscribe("a")
    client.connection.receive(echo, 0.0)
    assert client.ports == []


def test_echoes_nobody_waits_for() -> None:
    """An echo of nothing is ignored, and so is one of another control than was sent under that id."""
    client = Client("a")
    client.connection.receive('S\n["unknown",-1,[0,1]]', 0.0)
    client.connection.receive('S\n[null,-1,[2,"a"]]', 0.0)
    assert client.sent == []


def test_a_server_that_does_not_echo() -> None:
    """Without an echo in time the socket is of no use, and it says which control it was."""
    client = Client("a")
    client.connection.open(5.0)
    assert client.connection.deadline == 6.0
    client.connection.wake(5.9)
    with pytest.raises(RequestTimeoutError, match="hello"):
        client.connection.wake(6.0)
    client.echo()
    with pytest.raises(RequestTimeoutError, match="the subscription of 'a'"):
        client.connection.wake(6.0)


@pytest.mark.parametrize(
    ("plain", "frame"),
    [
        (True, "hello"),
        (True, "S\nhello"),
        (False, "hello"),
        (False, "M\na"),
        (False, f"M\nother\nS\n{MESSAGE}"),
        (False, f"S\n{MESSAGE}"),
        (False, f"C\n{MESSAGE}"),
        (False, "M\na\nhello"),
    ],
)
def test_invalid_frames(plain: bool, frame: str) -> None:
    """What the protocol does not allow raises, to be closed with 1007."""
    client = Client("a", plain=plain).subscribed()
    with pytest.raises(RemoteProtocolError) as caught:
        client.connection.receive(frame, 0.0)
    assert (caught.value.close_code, caught.value.close_reason) == (1007, "tinybase:14")


def test_frames_that_are_too_large() -> None:
    """A frame of more than 16 MiB raises, to be closed with 1013."""
    client = Client(plain=True)
    with pytest.raises(LimitExceededError):
        client.connection.receive(f"S\n{'x' * MAX_FRAME_BYTES}", 0.0)


def test_how_many_channels() -> None:
    """100 channels fit on a socket; one more is refused, and not remembered."""
    client = Client(*map(str, range(MAX_CHANNELS - 1))).subscribed()
    client.connection.subscribe("last", 0.0)
    with pytest.raises(LimitExceededError) as caught:
        client.connection.subscribe("one more", 0.0)
    assert caught.value.limit == "channels"
    client.connection.unsubscribe("last")
    client.connection.subscribe("one more", 0.0)


def test_how_many_controls_wait() -> None:
    """100 controls may wait for their echo; one more is refused, and its channel is not wanted."""
    client = Client("a").subscribed()
    for number in range(MAX_PENDING_CONTROLS):
        client.connection.subscribe(str(number), 0.0)
        if number < MAX_PENDING_CONTROLS - 1:
            client.connection.unsubscribe(str(number))
    client.connection.unsubscribe("a")
    with pytest.raises(LimitExceededError) as caught:
        client.connection.subscribe("one more", 0.0)
    assert caught.value.limit == "controls"
    assert not client.connection.is_open("one more")
    client.sent = [frame for frame in client.sent if "null" not in frame]
    client.echo()
    client.connection.subscribe("one more", 0.0)


def test_channel_ids() -> None:
    """A channel id is checked for its form and its length."""
    assert check_channel_id("é" * (MAX_CHANNEL_ID_BYTES // 2)) == "é" * (MAX_CHANNEL_ID_BYTES // 2)
    for channel_id in ("", "a//b", "é" * (MAX_CHANNEL_ID_BYTES // 2) + "x"):
        with pytest.raises(ValueError, match="not a channel id"):
            check_channel_id(channel_id)


def test_operations() -> None:
    """Operations go to the port of their channel, where they were agreed on; else they are no messages."""
    operation = Operation("r", "ok", {"stored": True})
    client = Client("c", extended=True).subscribed()
    assert client.connection.outgoing_operation("c", operation) == 'M\nc\nX\n["r","ok",{"stored":true}]'
    client.connection.receive(client.connection.outgoing_operation("c", operation), 0.0)
    client = Client(plain=True, extended=True)
    client.connection.receive('X\n["r","ok",{"stored":true}]', 0.0)
    assert client.operations == [(None, operation)]
    with pytest.raises(RemoteProtocolError):
        Client(plain=True).connection.receive('X\n["r","ok",{"stored":true}]', 0.0)


REFUSAL = 'M\nbad\nX\n[null,"refused",["forbidden","why"]]'


def test_a_refused_subscription() -> None:
    """It is not waited for any more, and its port is told; the other channel goes on."""
    client = Client("bad", "good", extended=True)
    client.connection.open(0.0)
    client.echo()
    _, good = client.sent
    client.connection.receive(REFUSAL, 0.0)
    client.connection.receive(good, 0.0)
    assert client.ports == ["good"]
    assert client.operations == [("bad", Operation(None, "refused", ["forbidden", "why"]))]
    assert client.connection.deadline is None
    assert not client.connection.is_open("bad")
    with pytest.raises(RemoteProtocolError, match="not subscribed"):
        client.connection.receive(f"M\nbad\nS\n{MESSAGE}", 0.0)


def test_refused_after_a_while() -> None:
    """The channel is closed from then on; without what mergesync adds, the server cannot say so."""
    client = Client("bad", extended=True).subscribed()
    client.connection.receive(REFUSAL, 0.0)
    assert not client.connection.is_open("bad")
    stock = Client("bad")
    stock.connection.open(0.0)
    with pytest.raises(RemoteProtocolError, match="not subscribed"):
        stock.connection.receive(REFUSAL, 0.0)


def test_asking_again_for_a_channel() -> None:
    """Only where it was refused, is still wanted, and was not asked for since."""
    client = Client("bad", extended=True)
    client.connection.open(0.0)
    client.connection.subscribe_again("bad", 0.0)
    assert len(client.sent) == 1  # the hello
    client.echo()
    client.connection.subscribe_again("bad", 0.0)
    assert len(client.sent) == 1  # it is under way
    client.connection.receive(REFUSAL, 0.0)
    client.connection.subscribe_again("bad", 5.0)
    assert client.connection.deadline == 5.0 + 1.0
    client.echo()
    assert client.connection.is_open("bad")
    client.connection.subscribe_again("bad", 6.0)
    client.connection.subscribe_again("other", 6.0)
    assert client.sent == []


def test_operations_of_a_channel_that_is_not_refused() -> None:
    """They leave it as it is."""
    client = Client("a", extended=True).subscribed()
    client.connection.receive('M\na\nX\n["r","ok",null]', 0.0)
    assert client.connection.is_open("a")
