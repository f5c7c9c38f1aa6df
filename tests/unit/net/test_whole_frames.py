"""Frames that are read or made without the library are those that it would have read or made."""

from __future__ import annotations

from itertools import pairwise, repeat
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from mergesync.net import whole_frames
from mergesync.net.whole_frames import text_frame, whole_texts


def frame_bytes(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame as a client sends it."""
    return Frame(opcode, data, fin=fin).serialize(mask=mask)


sizes = st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536])
frames = st.one_of(
    st.builds(lambda size: [frame_bytes(Opcode.TEXT, b"t" * size)], sizes),
    st.builds(lambda text: [frame_bytes(Opcode.TEXT, text.encode())], st.text(max_size=5)),
    st.just([frame_bytes(Opcode.BINARY, b"b")]),
    st.just([frame_bytes(Opcode.PING, b"p")]),
    st.just([frame_bytes(Opcode.PONG, b"p")]),
    st.just([frame_bytes(Opcode.CLOSE, b"\x03\xe8bye")]),
    st.just([frame_bytes(Opcode.TEXT, b"un", mask=False)]),
    st.just([frame_bytes(Opcode.TEXT, b"1", fin=False), frame_bytes(Opcode.CONT, b"2")]),
    st.just([frame_bytes(Opcode.TEXT, b"1", fin=False), frame_bytes(Opcode.TEXT, b"2")]),
    st.just([b"\xc1\x80\0\0\0\0"]),  # says that it is compressed
    st.just([frame_bytes(Opcode.TEXT, b"1", fin=False), frame_bytes(Opcode.PING, b""), frame_bytes(Opcode.CONT, b"2")]),
)


def seen(events: list[Any]) -> list[tuple[Opcode, bytes, bool]]:
    """What frames say."""
    return [(event.opcode, bytes(event.data), event.fin) for event in events]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 400), max_size=8), st.sampled_from([None, 100, 2**20]))
@example([[frame_bytes(Opcode.TEXT, b"x")]], [1, 2, 3, 4, 5, 6], None)
def test_all_is_read_as_the_library_reads_it(pieces: list[list[bytes]], cuts: list[int], most: int | None) -> None:
    """However the stream is cut, and whatever is wrong with it."""
    data = b"".join(part for piece in pieces for part in piece)
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    theirs, ours = Protocol(Side.SERVER, max_size=most), Protocol(Side.SERVER, max_size=most)
    found: list[Any] = []
    for start, end in pairwise(ends):
        chunk = data[start:end]
        theirs.receive_data(chunk)
        texts, rest = whole_texts(ours, chunk)
        found += [Frame(Opcode.TEXT, text) for text in texts]
        if rest:
            ours.receive_data(rest)
        found += ours.events_received()
    assert seen(found) == seen(theirs.events_received())
    assert ours.data_to_send() == theirs.data_to_send()
    assert (ours.state, ours.close_rcvd, ours.close_sent) == (theirs.state, theirs.close_rcvd, theirs.close_sent)


def test_short_texts_do_not_reach_the_library() -> None:
    """Up to the first frame that is anything else, or not all there."""
    texts = [b"a", b"b" * 200, b"", b"c" * 65_535]
    data = b"".join(frame_bytes(Opcode.TEXT, text) for text in texts)
    for rest in (b"", frame_bytes(Opcode.PING, b""), frame_bytes(Opcode.TEXT, b"d" * 65_536), b"\x81", b"\x81\x85\0\0"):
        assert whole_texts(Protocol(Side.SERVER), data + rest) == (texts, rest)


def test_what_is_half_done_is_the_librarys() -> None:
    """A head without its text, though the library has nothing in its buffer then; and what follows a first fragment."""
    text = frame_bytes(Opcode.TEXT, b"abcdef")
    for began in (text[:1], text[:2], text[:6], text[:9], frame_bytes(Opcode.TEXT, b"1", fin=False)):
        protocol = Protocol(Side.SERVER)
        protocol.receive_data(began)
        assert whole_texts(protocol, text) == ([], text)
    handshake = Protocol(Side.SERVER, state=State.CONNECTING)
    assert whole_texts(handshake, text) == ([], text)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_texts_are_framed_as_the_library_frames_them(size: int) -> None:
    """Whatever their size."""
    assert text_frame(b"t" * size) == frame_bytes(Opcode.TEXT, b"t" * size, mask=False)


def test_a_library_built_otherwise_reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older one, or one to come."""
    text = frame_bytes(Opcode.TEXT, b"a")
    assert whole_texts(Protocol(Side.SERVER), text) == ([b"a"], b"")
    monkeypatch.setattr(whole_frames, "_IS_KNOWN", False)
    assert whole_texts(Protocol(Side.SERVER), text) == ([], text)
    monkeypatch.undo()
    monkeypatch.setattr(Protocol, "parse", lambda _: repeat(None))
    assert whole_texts(Protocol(Side.SERVER), text) == ([], text)
