"""Frames: the sans-I/O cores send, forward, refuse and close exactly as the peer was recorded doing."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError, RequestTimeoutError
from mergesync.store import jsjson
from mergesync.sync.payloads import fragments_of
from tests.network import Close, Network, Peer, Socket

from .vectors import load_vectors

CLIENT_IDS: dict[str, str] = load_vectors()["frames"]["clientIds"]

# What the peer's code numbers are in our exceptions.
ERROR_OF_CODE = {
    "tinybase:3": RequestTimeoutError,
    "tinybase:14": RemoteProtocolError,
    "tinybase:15": LimitExceededError,
}

# What is not said again: of a socket that the client closes, what was waiting on it.
UNSAID_WHEN_CLOSED = {"tinybase:3", "tinybase:5"}


def frame_text(sent: Any) -> str:
    """A recorded frame, some of which are written in short."""
    if isinstance(sent, str):
        return sent
    if "binary" in sent:  # decoded by the shell around the core, see test_channel
        return str(sent["binary"])
    before, unit, times, after = sent["repeat"]
    return f"{before}{unit * int(times)}{after}"


def send_by_hand(network: Network, socket: Socket, sends: list[Any]) -> None:
    """Send recorded frames one by one."""
    for sent in sends:
        if isinstance(sent, dict) and "pause" in sent:
            network.pass_time(sent["pause"] / 1000)
        else:
            socket.send(frame_text(sent))
            network.settle()


def server_close(socket: Socket) -> dict[str, Any] | None:
    """How the server closed a socket, as the vectors say it."""
    if socket.closed_by_server is None:
        return None
    code, reason = socket.closed_by_server
    return {"code": code, "reason": reason}


@pytest.mark.parametrize("vector", load_vectors()["fragments"], ids=lambda v: v["about"])
def test_fragments(vector: dict[str, Any]) -> None:
    """A message is cut where the peer cuts it."""
    remainders = fragments_of(vector["remainder"], vector.get("fragmentSize"), lambda length: vector["messageId"])
    assert [f"\n{remainder}" for remainder in remainders] == vector["frames"]


@pytest.mark.parametrize("vector", load_vectors()["frames"]["legacy"], ids=lambda v: v["about"])
def test_frames_of_a_plain_socket(vector: dict[str, Any]) -> None:
    """What the others get, what comes back, and who is closed how."""
    network = Network(relay=True, request_timeout_seconds=vector.get("serverTimeoutSeconds", 1))
    path = vector.get("path", "p")
    listener = network.connect(target=f"/{path}", client_id=CLIENT_IDS["L"])
    sender = network.connect(target=f"/{path}", client_id=CLIENT_IDS["R"])
    send_by_hand(network, sender, vector["sends"])
    assert listener.received == vector["listenerGot"]
    assert sender.received == vector["senderGot"]
    assert server_close(sender) == vector["close"]
    assert server_close(listener) == vector.get("listenerClose")


@pytest.mark.parametrize("vector", load_vectors()["frames"]["multiplexed"], ids=lambda v: v["about"])
def test_frames_of_a_socket_with_channels(vector: dict[str, Any]) -> None:
    """The same for channels, with a plain listener on the path of one of them."""
    network = Network(relay=True)
    offered = vector.get("protocol", "tinybase")
    listener = network.connect(target=f"/{vector.get('listenPath', 'base/c1')}", client_id=CLIENT_IDS["L"])
    sender = network.connect(
        target=f"/{vector.get('path', 'base')}",
        client_id=CLIENT_IDS["R"],
        subprotocols=[offered] if isinstance(offered, str) else offered,
    )
    send_by_hand(network, sender, vector["sends"])
    assert listener.received == vector["listenerGot"]
    assert sender.received == vector["senderGot"]
    assert server_close(sender) == vector["close"]
    assert server_close(listener) is None


class ScriptedServer:
    """A real client whose server is this test."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.network = Network(relay=True)
        self.peer = self.network.peer("c", timeout_seconds=0.3)
        channel: str | None = vector.get("channel")
        peers: Peer | dict[str, Peer] = self.peer if channel is None else {channel: self.peer}
        self.socket = self.network.connect(peers, timeout_seconds=0.3)
        self.socket.up.deliver = self._take
        self.sent: list[str] = []
        self.peer.start_sync()
        self.network.settle()

    def _take(self, frame: str | Close) -> None:
        """Note what the client sent; echo what subscribes it, as the recorded server did."""
        if isinstance(frame, str):
            self.sent.append(frame)
            if frame.startswith("S\n") and ",-1," in frame and not frame.startswith("S\n[null"):
                self.say(frame)

    def say(self, frame: str) -> None:
        """A frame of the server."""
        self.socket.down.deliver(frame)


def comparable(frame: str) -> str:
    """A frame with the random ids of our own making blanked."""
    *head, remainder = frame.split("\n")
    message = jsjson.loads(remainder)
    if message[0] is not None and message[0] not in ("r", "nosuch"):
        message[0] = len(message[0])
    return "\n".join([*head, jsjson.dumps(message)])


@pytest.mark.parametrize("vector", load_vectors()["frames"]["client"], ids=lambda v: v["about"])
def test_what_a_client_does(vector: dict[str, Any]) -> None:
    """A client answers, ignores or closes as the peer's does, with the same errors and the same store in the end.

    Two departures. A stamp too far in the future is reported (the peer says nothing, surprise 3). A close that the
    client itself begins is reported once, with its cause, not again for each thing that waited (`tinybase:5`, a
    repeated `tinybase:14`).
    """
    server = ScriptedServer(vector)
    server.network.pass_time(0.1)
    server.say(frame_text(vector["send"]))
    server.network.pass_time(0.5)
    socket, peer = server.socket, server.peer
    if vector["close"] is None:
        assert socket.closed_by_client is None
        if "channel" in vector:
            socket.client.unsubscribe(vector["channel"])  # the recorded client was destroyed in the end
            server.network.settle()
    else:
        assert socket.closed_by_client == (vector["close"]["code"], vector["close"]["reason"])
    assert [comparable(frame) for frame in server.sent] == [comparable(frame) for frame in vector["clientSent"]]
    assert peer.store.get_mergeable_content() == vector["mergeable"]
    errors = [*([] if socket.client_error is None else [socket.client_error]), *peer.errors]
    unsaid = set() if vector["close"] is None else UNSAID_WHEN_CLOSED
    for code in {":".join(code.split(":")[:2]) for code in vector["clientErrors"]} - unsaid:
        assert any(isinstance(error, ERROR_OF_CODE[code]) for error in errors), (code, errors)
