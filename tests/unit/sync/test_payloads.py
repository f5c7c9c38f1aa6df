"""The text of frames: addresses, fragments and channels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mergesync.exceptions import LimitExceededError, RemoteProtocolError
from mergesync.limits import MAX_CHANNEL_ID_BYTES, MAX_FRAGMENTS, MAX_FRAME_BYTES, MAX_INCOMPLETE_MESSAGES
from mergesync.sync.messages import MessageType
from mergesync.sync.payloads import (
    HELLO,
    SUBSCRIBE,
    UNSUBSCRIBE,
    FragmentCollector,
    Payload,
    channel_frame,
    check_frame_size,
    control_frame,
    decode_control,
    fits_frame,
    fragments_of,
    is_channel_id,
    split_channel_frame,
    split_frame,
)

ID = "0123456789abcdef"
TEXT = '["r",1,""]'
TIMEOUT = 60.0


def message_id(number: int) -> str:
    """A message id of 16 characters."""
    return f"{number:016}"


def new_id(length: int) -> str:
    """Always the same id."""
    return ID[:length]


def collector() -> FragmentCollector:
    """One that has nothing yet."""
    return FragmentCollector(TIMEOUT)


def fragment(index: int, total: int, piece: str, number: int = 0) -> str:
    """The text of a fragment."""
    return f"{message_id(number)}\n{index}\n{total}\n{piece}"


# --- frames


def test_a_frame_of_16_mib_fits_and_one_byte_more_does_not() -> None:
    """The bound of a frame counts UTF-8 bytes and is itself allowed."""
    assert fits_frame("short")
    assert fits_frame("a" * MAX_FRAME_BYTES)
    assert not fits_frame("a" * (MAX_FRAME_BYTES + 1))
    assert fits_frame("é" * (MAX_FRAME_BYTES // 2))
    assert not fits_frame("é" * (MAX_FRAME_BYTES // 2) + "a")


@pytest.mark.parametrize(("head", "limit"), [("S\n", "socket"), (f"S\n{ID}\n0\n2\n", "fragments")])
def test_a_frame_that_is_too_large_is_refused(head: str, limit: str) -> None:
    """It is the socket's limit, or that of fragments where the frame looks like one."""
    frame = head + "a" * (MAX_FRAME_BYTES - len(head))
    check_frame_size(frame)
    with pytest.raises(LimitExceededError) as raised:
        check_frame_size(frame + "a")
    assert raised.value.limit == limit


def test_a_frame_is_split_at_its_first_newline() -> None:
    """What follows the first newline is the remainder, further newlines included."""
    assert split_frame("S\na\nb") == ("S", "a\nb")
    assert split_frame("\n") == ("", "")


def test_a_frame_without_newline_is_refused() -> None:
    """There is no address then."""
    with pytest.raises(RemoteProtocolError, match="without an address") as raised:
        split_frame("no newline")
    assert raised.value.excerpt == "no newline"


def test_the_size_of_a_payload_counts_utf8() -> None:
    """All texts count, in bytes."""
    payload = collector().receive("", "S", '["é",1,""]', 0)
    assert payload is not None
    assert payload.size_bytes == 11
    assert Payload(payload.message, ("é", "ab")).size_bytes == 4


# --- fragments


@pytest.mark.parametrize("size", [None, 0, -1, 0.5, float("nan"), 10, float("inf"), 10**9])
def test_a_message_that_needs_no_fragments_is_sent_whole(size: float | None) -> None:
    """It is sent as it is where fragments are off, or the size is no size, or the message is short."""
    assert fragments_of(TEXT, size, new_id) == [TEXT]


def test_fragments_share_an_id_and_are_cut_at_the_limit() -> None:
    """Each says its index and their number."""
    assert fragments_of("abcdefghij", 4, new_id) == [f"{ID}\n0\n3\nabcd", f"{ID}\n1\n3\nefgh", f"{ID}\n2\n3\nij"]


def test_a_character_is_never_cut() -> None:
    """A cut within a character moves to where it begins."""
    texts = [piece.split("\n", 3)[3] for piece in fragments_of("a" + "😀" * 3, 4, new_id)]
    assert texts == ["a", "😀", "😀", "😀"]


@pytest.mark.parametrize("text", ["a" * 5000, "😀" * 5000, "aé" * 7001])
def test_a_message_never_has_more_than_a_thousand_fragments(text: str) -> None:
    """The size of fragments is raised where there would be more, even where characters are long."""
    pieces = fragments_of(text, 1, new_id)
    assert 1 < len(pieces) <= MAX_FRAGMENTS
    assert "".join(piece.split("\n", 3)[3] for piece in pieces) == text


def test_what_is_no_fragment_is_a_message() -> None:
    """It is returned at once with its text."""
    payload = collector().receive("", "S", TEXT, 0)
    assert payload is not None
    assert (payload.message.type, payload.remainders) == (MessageType.GET_CONTENT_HASHES, (TEXT,))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_fragments_are_joined_in_any_order(order: tuple[int, ...]) -> None:
    """The message comes with the last of them, its fragments in order."""
    fragments = fragments_of(TEXT, 4, new_id)
    joining = collector()
    first, second, last = (joining.receive("", "S", fragments[index], 0) for index in order)
    assert first is second is None
    assert last is not None
    assert (last.message.request_id, last.remainders) == ("r", tuple(fragments))


def test_leading_zeros_count_as_in_the_peer() -> None:
    """The number is what counts, not its digits."""
    payload = collector().receive("", "S", f"{ID}\n000000\n000001\n{TEXT}", 0)
    assert payload is not None


def test_channels_and_addresses_are_not_mixed_up() -> None:
    """The same id on another channel or from another sender is another message."""
    joining = collector()
    one, other = fragments_of(TEXT, 5, new_id)
    assert joining.receive("a", "S", one, 0) is None
    assert joining.receive("b", "S", other, 0) is None
    assert joining.receive("a", "T", other, 0) is None
    assert joining.receive("a", "S", other, 0) is not None


@pytest.mark.parametrize(("index", "total"), [("0", "0"), ("1", "1"), ("1000", "1000"), ("9" * 5000, "1000")])
def test_an_index_must_be_below_the_number(index: str, total: str) -> None:
    """A fragment beyond the last is a mistake of the peer."""
    with pytest.raises(RemoteProtocolError, match="index"):
        collector().receive("", "S", f"{ID}\n{index}\n{total}\n", 0)


def test_a_thousand_fragments_are_taken() -> None:
    """The bound itself is allowed."""
    text = json.dumps([None, 2, [0, 0]]) + " " * MAX_FRAGMENTS
    joining = collector()
    payload = None
    for index in range(MAX_FRAGMENTS):
        assert payload is None
        piece = text[index] if index < MAX_FRAGMENTS - 1 else text[index:]
        payload = joining.receive("", "S", fragment(index, MAX_FRAGMENTS, piece), 0)
    assert payload is not None
    assert len(payload.remainders) == MAX_FRAGMENTS


@pytest.mark.parametrize("total", [str(MAX_FRAGMENTS + 1), "9" * 5000])
def test_more_than_a_thousand_fragments_are_refused(total: str) -> None:
    """However large the number is."""
    with pytest.raises(LimitExceededError) as raised:
        collector().receive("", "S", f"{ID}\n0\n{total}\na", 0)
    assert raised.value.limit == "fragments"


@pytest.mark.parametrize("second", [fragment(0, 2, "again"), fragment(1, 3, "another number")])
def test_fragments_must_fit_together(second: str) -> None:
    """Neither the same piece twice, nor another number of pieces."""
    joining = collector()
    joining.receive("", "S", fragment(0, 2, "a"), 0)
    with pytest.raises(RemoteProtocolError, match="fit together"):
        joining.receive("", "S", second, 0)


def test_joined_fragments_must_be_a_message() -> None:
    """What they say together is checked."""
    joining = collector()
    joining.receive("", "S", fragment(0, 2, "no"), 0)
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        joining.receive("", "S", fragment(1, 2, "pe"), 0)


def test_at_most_a_hundred_messages_are_incomplete() -> None:
    """One more is refused, but not further pieces of those, nor a message of one piece."""
    joining = collector()
    for number in range(MAX_INCOMPLETE_MESSAGES):
        assert joining.receive("", "S", fragment(0, 2, TEXT[:5], number), 0) is None
    assert joining.receive("", "S", fragment(0, 1, TEXT, 1000), 0) is not None
    with pytest.raises(LimitExceededError) as raised:
        joining.receive("", "S", fragment(0, 2, TEXT[:5], 1001), 0)
    assert raised.value.limit == "fragments"
    assert joining.receive("", "S", fragment(1, 2, TEXT[5:], 7), 0) is not None
    assert joining.receive("", "S", fragment(0, 2, TEXT[:5], 1001), 0) is None


def test_fragments_hold_at_most_16_mib_together() -> None:
    """All messages count together; one byte more than the bound is refused."""
    joining = collector()
    half = "a" * (MAX_FRAME_BYTES // 2)
    assert joining.receive("", "S", fragment(0, 2, half, 1), 0) is None
    assert joining.receive("", "S", fragment(0, 2, half, 2), 0) is None
    with pytest.raises(LimitExceededError) as raised:
        joining.receive("", "S", fragment(0, 2, "a", 3), 0)
    assert raised.value.limit == "fragments"


def test_what_is_complete_or_dropped_is_held_no_longer() -> None:
    """Its bytes do not count any more."""
    joining = collector()
    padding = " " * (MAX_FRAME_BYTES - len(TEXT))
    for number in range(2):
        assert joining.receive("", "S", fragment(0, 2, padding, number), 0) is None
        assert joining.receive("", "S", fragment(1, 2, TEXT, number), 0) is not None
    assert joining.receive("a", "S", fragment(0, 2, padding), 0) is None
    joining.forget_channel("b")
    joining.forget_channel("a")
    assert joining.receive("", "S", fragment(0, 2, padding), 0) is None


def test_a_message_is_dropped_when_no_piece_has_come_for_long() -> None:
    """The time counts from its latest piece."""
    joining = collector()
    joining.receive("", "S", fragment(0, 3, TEXT[:3]), 0)
    joining.receive("", "S", fragment(1, 3, TEXT[3:6]), TIMEOUT - 1)
    joining.expire(2 * TIMEOUT - 1.5)
    assert joining.receive("", "S", fragment(2, 3, TEXT[6:]), 2 * TIMEOUT - 1.5) is not None
    joining.receive("", "S", fragment(0, 2, TEXT[:3]), 1000)
    assert joining.receive("", "S", fragment(1, 2, TEXT[3:]), 1000 + TIMEOUT) is None


def test_a_channel_that_ends_takes_its_fragments_along() -> None:
    """Those of other channels stay."""
    joining = collector()
    for channel in ("a", "b"):
        joining.receive(channel, "S", fragment(0, 2, TEXT[:3]), 0)
    joining.forget_channel("a")
    assert joining.receive("a", "S", fragment(1, 2, TEXT[3:]), 0) is None
    assert joining.receive("b", "S", fragment(1, 2, TEXT[3:]), 0) is not None


# --- channels


@pytest.mark.parametrize("channel_id", ["a", "a/b", "...", ".a", "ä ö", "a&b=c", "a%2F"])
def test_channel_ids(channel_id: str) -> None:
    """Paths without odd parts."""
    assert is_channel_id(channel_id)


@pytest.mark.parametrize("channel_id", ["", "/a", "a/", "a//b", ".", "a/..", "a\nb", "a\rb", "a?b", "a#b", 1, None, []])
def test_no_channel_ids(channel_id: object) -> None:
    """No empty part, no dots, nothing that would end a path or a line, nothing but a string."""
    assert not is_channel_id(channel_id)


def test_a_channel_frame_is_split_as_it_was_joined() -> None:
    """The inner frame comes out untouched."""
    frame = channel_frame("a/b", "S\n[1]")
    assert frame == "M\na/b\nS\n[1]"
    assert split_channel_frame(frame) == ("a/b", "S\n[1]")


def test_a_channel_frame_needs_a_channel() -> None:
    """Without a second newline there is none."""
    with pytest.raises(RemoteProtocolError, match="without a channel"):
        split_channel_frame("M\nabc")


@pytest.mark.parametrize(
    ("request_id", "body", "kind", "channel"),
    [
        ("r", [0, 1], HELLO, ""),
        ("r", [False, True], HELLO, ""),
        ("r", ["", "1"], HELLO, ""),
        ("r", ["0", 1.0], HELLO, ""),
        ("r", [1, "a"], SUBSCRIBE, "a"),
        ("", [True, "a/b"], SUBSCRIBE, "a/b"),
        (None, [2, "a"], UNSUBSCRIBE, "a"),
        (None, [" 2 ", "a"], UNSUBSCRIBE, "a"),
    ],
)
def test_controls(request_id: str | None, body: list[Any], kind: int, channel: str) -> None:
    """Numbers are compared as JavaScript's == compares them; the body is kept for the echo."""
    address, remainder = split_frame(control_frame(request_id, body))
    control = decode_control(remainder)
    assert address == "S"
    assert (control.request_id, control.kind, control.channel_id, control.body) == (request_id, kind, channel, body)


def test_the_type_of_a_control_may_be_a_string() -> None:
    """As in the peer."""
    assert decode_control('["r","-1",[0,1]]').kind == HELLO


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nope", "not JSON"),
        ("{}", "not a control"),
        ('["r",-1]', "not a control"),
        ('["r",1,[0,1]]', "not a control"),
        ('["r",null,[0,1]]', "not a control"),
        ('["r",[-1],[0,1]]', "not a control"),
        ('["r","x",[0,1]]', "not a control"),
        ('["r",-1,{}]', "not a control"),
        ('["r",-1,[0]]', "not a control"),
        ('["r",-1,[3,"a"]]', "not a control"),
        ('["r",-1,["x","a"]]', "not a control"),
        ('["r",-1,[0,2]]', "not a control"),
        ('["r",-1,[2,"a"]]', "not a control"),
        ('[null,-1,[1,"a"]]', "not a control"),
        ("[null,-1,[0,1]]", "not a control"),
        ('["\ufffc",-1,[1,"a"]]', "not a control"),
        ('["r",-1,[1,"../a"]]', "not a channel id"),
        ('["r",-1,[1,7]]', "not a channel id"),
    ],
)
def test_no_controls(text: str, match: str) -> None:
    """Anything else is a mistake of the peer."""
    with pytest.raises(RemoteProtocolError, match=match) as raised:
        decode_control(text)
    assert raised.value.excerpt == text


@pytest.mark.parametrize("character", ["a", "é"])
def test_a_channel_id_has_at_most_1024_bytes(character: str) -> None:
    """They count in UTF-8; the bound itself is allowed."""
    longest = character * (MAX_CHANNEL_ID_BYTES // len(character.encode()))
    assert decode_control(json.dumps(["r", -1, [1, longest]])).channel_id == longest
    with pytest.raises(LimitExceededError) as raised:
        decode_control(json.dumps(["r", -1, [1, longest + "a"]]))
    assert raised.value.limit == "channels"
