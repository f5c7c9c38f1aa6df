"""The laws of the hybrid logical clock (protocol section 3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS
from mergesync.store.hlc import (
    ALPHABET,
    HybridLogicalClock,
    client_part,
    decode_hlc,
    encode_hlc,
    is_hlc,
    latest_allowed,
    successor,
)

from .strategies import T0, ids, text

times = st.integers(0, 2**42 - 1)
counters = st.integers(0, 2**24 - 1)
clients = st.text(alphabet=ALPHABET, min_size=5, max_size=5)
nows = st.integers(0, 5) | st.integers(T0 - 2, T0 + 2) | st.integers(0, 2**41)


@given(times, counters, clients)
def test_encoding_and_decoding(time: int, counter: int, client: str) -> None:
    """Decoding gives back what was encoded; what was encoded is a stamp of 16 characters."""
    hlc = encode_hlc(time, counter, client)
    assert decode_hlc(hlc) == (time, counter, client)
    assert is_hlc(hlc)
    assert len(hlc) == 16


@given(times, counters, clients, times, counters, clients)
def test_stamps_compare_as_what_they_say(t1: int, c1: int, p1: str, t2: int, c2: int, p2: str) -> None:
    """As text, stamps compare by time, then counter, then client."""
    assert (encode_hlc(t1, c1, p1) < encode_hlc(t2, c2, p2)) == ((t1, c1, p1) < (t2, c2, p2))


@given(st.lists(st.tuples(nows, st.none() | st.tuples(nows, counters | st.just(2**24 - 1), clients)), max_size=30))
def test_ticks_only_grow(steps: list[tuple[int, tuple[int, int, str] | None]]) -> None:
    """Each tick is greater than all before it and than all that was seen and allowed, whatever the wall clock does."""
    now = 0
    clock = HybridLogicalClock(client_part("one"), lambda: now)
    greatest = ""
    for now, seen in steps:
        if seen is None:
            made = clock.tick()
            assert made > greatest
            assert decode_hlc(made)[0] >= now
            greatest = made
        else:
            hlc = encode_hlc(*seen)
            state = (clock.time, clock.counter)
            clock.observe(hlc)
            if seen[0] > now + MAX_CLOCK_OFFSET_MILLISECONDS:
                assert (clock.time, clock.counter) == state
            elif hlc[:11] > greatest[:11]:
                greatest = hlc[:11] + "-----"
            assert (clock.time, clock.counter) >= state or clock.time > state[0]


@given(times, counters, clients, clients)
def test_the_successor_is_the_least_greater_one(time: int, counter: int, client: str, mine: str) -> None:
    """The successor beats the stamp, and nothing of that client is in between in time and counter."""
    hlc = encode_hlc(time, counter, client)
    after = successor(hlc, mine)
    if after is None:
        assert (time, counter) == (2**42 - 1, 2**24 - 1)
    else:
        assert after > hlc
        t, c, _ = decode_hlc(after)
        assert t * 2**24 + c == time * 2**24 + counter + 1


@given(times)
def test_the_latest_allowed(now: int) -> None:
    """A stamp exactly at the limit is allowed, one a millisecond later is not."""
    limit = now + MAX_CLOCK_OFFSET_MILLISECONDS
    if limit < 2**42 - 1:
        assert encode_hlc(limit, 2**24 - 1, "zzzzz") <= latest_allowed(now) < encode_hlc(limit + 1, 0, "-----")


@given(text(20) | st.text(alphabet=ALPHABET, max_size=17))
def test_what_is_a_stamp(said: str) -> None:
    """Empty, or exactly 16 characters of the alphabet."""
    assert is_hlc(said) == (said == "" or (len(said) == 16 and all(character in ALPHABET for character in said)))
    time, counter, _ = decode_hlc(said)
    assert 0 <= time < 2**42
    assert 0 <= counter < 2**24


@given(ids())
def test_client_parts(unique_id: str) -> None:
    """Any text gives five characters of the alphabet, always the same."""
    part = client_part(unique_id)
    assert len(part) == 5
    assert set(part) <= set(ALPHABET)
    assert part == client_part(unique_id)
