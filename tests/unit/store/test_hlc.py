"""The clock: stamps that grow, whatever the wall clock and the peers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.exceptions import ClockError
from mergesync.limits import MAX_LEAPS
from mergesync.store.hlc import (
    HybridLogicalClock,
    client_part,
    decode_hlc,
    encode_hlc,
    is_hlc,
    latest_allowed,
    successor,
)

from .kit import T0, Clock, hlc

MAX_TIME = 2**42 - 1
MAX_COUNTER = 2**24 - 1


def test_encode_and_decode() -> None:
    """A stamp gives back what it was made of, modulo its bits."""
    assert decode_hlc(encode_hlc(MAX_TIME, MAX_COUNTER, "zzzzz")) == (MAX_TIME, MAX_COUNTER, "zzzzz")
    assert encode_hlc(MAX_TIME, MAX_COUNTER, "zzzzz") == "z" * 16
    assert encode_hlc(MAX_TIME + 2, MAX_COUNTER + 3, "-----") == encode_hlc(1, 2, "-----")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, "")),
        ("0", (2**36, 0, "")),
        ("é------", (0, 0, "")),
        ("🦉----0", (1, 0, "")),
        ("-------0---AB", (0, 2**18, "AB")),
    ],
)
def test_decode_of_anything(text: str, expected: tuple[int, int, str]) -> None:
    """Unknown and missing characters count as 0; characters are counted as JavaScript counts them."""
    assert decode_hlc(text) == expected


@pytest.mark.parametrize(
    "thing", [None, 0, b"Nn1JUF----07JQY8", "Nn1JUF----07JQY", "Nn1JUF----07JQY88", "Nn1JUF----07JQY!", "é" * 16, []]
)
def test_what_is_no_stamp(thing: object) -> None:
    """Only the empty text and sixteen digits are stamps."""
    assert not is_hlc(thing)


def test_latest_allowed() -> None:
    """Five minutes ahead are allowed, at any client and counter; the last stamp of all bounds it."""
    latest = latest_allowed(T0)
    assert encode_hlc(T0 + 300_000, MAX_COUNTER, "zzzzz") == latest
    assert encode_hlc(T0 + 300_001, 0, "-----") > latest
    assert latest_allowed(MAX_TIME) == "z" * 16


def test_successor() -> None:
    """The successor has the next counter, or the next time, and is None at the end of time."""
    assert successor(hlc(1), "7JQY8") == hlc(2, client="7JQY8")
    assert successor(hlc(MAX_COUNTER), "7JQY8") == hlc(0, T0 + 1, "7JQY8")
    assert successor(encode_hlc(MAX_TIME, MAX_COUNTER, "zzzzz"), "7JQY8") is None


def test_client_part() -> None:
    """Every id has five characters of the alphabet, also an empty one and a lone surrogate."""
    for unique_id in ("", "s1", "🦉", "\ud800"):
        assert is_hlc("-" * 11 + client_part(unique_id))


def test_ticks_follow_the_wall_clock() -> None:
    """The counter grows while the wall clock stands or goes back, and begins anew when it moves."""
    clock = Clock()
    hybrid = HybridLogicalClock("AAAAA", clock)
    ticks = [hybrid.tick(), hybrid.tick()]
    clock.now -= 1000
    ticks.append(hybrid.tick())
    clock.now = T0 + 1
    ticks.append(hybrid.tick())
    assert ticks == [hlc(0), hlc(1), hlc(2), hlc(0, T0 + 1)]


def test_ticks_of_one_moment() -> None:
    """A tick again has the time of the last one, or that of what was seen since; the counter may overflow."""
    clock = Clock()
    hybrid = HybridLogicalClock("AAAAA", clock)
    assert hybrid.tick_again() == hlc(0)  # there was none before
    clock.now += 1
    assert [hybrid.tick_again(), hybrid.tick(), hybrid.tick_again()] == [hlc(1), hlc(0, T0 + 1), hlc(1, T0 + 1)]
    hybrid.observe(hlc(8, T0 + 2))
    assert [hybrid.tick_again(), hybrid.tick_again()] == [hlc(9, T0 + 2), hlc(10, T0 + 2)]
    hybrid.observe(hlc(MAX_COUNTER, T0 + 2))
    assert hybrid.tick_again() == hlc(0, T0 + 3)


def test_a_clock_at_zero() -> None:
    """A wall clock that returns 0 from the start begins at counter 1, as the peer's."""
    hybrid = HybridLogicalClock("AAAAA", lambda: 0)
    assert [hybrid.tick(), hybrid.tick()] == [encode_hlc(0, 1, "AAAAA"), encode_hlc(0, 2, "AAAAA")]


def test_a_counter_that_overflows() -> None:
    """After the last counter comes the next time."""
    hybrid = HybridLogicalClock("AAAAA", Clock())
    hybrid.observe(hlc(MAX_COUNTER))
    assert hybrid.tick() == hlc(0, T0 + 1)


def test_the_end_of_time() -> None:
    """A time of more than 42 bits raises ClockError, each time."""
    clock = Clock(MAX_TIME)
    hybrid = HybridLogicalClock("AAAAA", clock)
    assert hybrid.tick() == encode_hlc(MAX_TIME, 0, "AAAAA")
    clock.now += 1
    for _ in range(2):
        with pytest.raises(ClockError, match="does not fit"):
            hybrid.tick()


def test_observe() -> None:
    """What is seen lifts the next tick above it; what is not valid is ignored."""
    clock = Clock()
    hybrid = HybridLogicalClock("AAAAA", clock)
    for nonsense in ("bad", hlc(0, T0 + 300_001)):
        hybrid.observe(nonsense)
        assert (hybrid.time, hybrid.counter) == (0, -1)
    hybrid.observe("")
    assert (hybrid.time, hybrid.counter) == (T0, -1)
    hybrid.observe(hlc(5))
    assert (hybrid.time, hybrid.counter) == (T0, 5)
    hybrid.observe(hlc(3))
    hybrid.observe(hlc(9, T0 - 1))
    assert (hybrid.time, hybrid.counter) == (T0, 5)
    hybrid.observe(hlc(2, T0 + 10))
    assert hybrid.tick() == hlc(3, T0 + 10)
    clock.now = T0 + 20
    hybrid.observe(hlc(7, T0 + 10))
    assert hybrid.tick() == hlc(0, T0 + 20)


def stamps(clock: HybridLogicalClock, wall: Clock, *times: int) -> list[str]:
    """What the clock makes at these times."""
    made = []
    for wall.now in times:
        made.append(clock.tick())
    return made


def test_rewind_to_before_a_leap() -> None:
    """However often it leapt, the clock goes on after the last stamp that it made before."""
    wall = Clock()
    clock = HybridLogicalClock("AAAAA", wall)
    *before, _, _ = stamps(clock, wall, T0, T0, T0 + 10**9, T0 + 10**10)
    wall.now = T0
    clock.rewind(latest_allowed(T0), "")
    assert clock.tick() > max(before)
    assert clock.time == T0


def test_rewind_to_the_beginning() -> None:
    """Whose every stamp was ahead starts anew, but not before what others have made."""
    wall = Clock(T0 + 10**9)
    clock = HybridLogicalClock("AAAAA", wall)
    clock.tick()
    clock.rewind(latest_allowed(T0), "")
    assert (clock.time, clock.counter) == (0, -1)
    clock.tick()
    clock.rewind(latest_allowed(T0), hlc(7))
    assert (clock.time, clock.counter) == (T0, 7)


def test_rewind_a_clock_that_went_beyond_bit_by_bit() -> None:
    """Any stamp up to the latest may have been made, so the next one is just below the bound."""
    wall = Clock()
    clock = HybridLogicalClock("AAAAA", wall)
    made = stamps(clock, wall, *range(T0, T0 + 600_000, 1000))
    latest = latest_allowed(T0)
    clock.rewind(latest, "")
    wall.now = T0
    assert max(each for each in made if each <= latest) < clock.tick() <= latest


def test_rewind_a_clock_that_leapt_by_what_it_saw() -> None:
    """An observation is a leap like any other; more leaps than are remembered, and it starts anew."""
    wall = Clock()
    clock = HybridLogicalClock("AAAAA", wall)
    clock.observe(hlc(3))
    wall.now = T0 + 10**9
    clock.observe("")
    clock.rewind(latest_allowed(T0), "")
    assert (clock.time, clock.counter) == (T0, 3)
    stamps(clock, wall, *(T0 + number * 10**6 for number in range(1, MAX_LEAPS + 3)))
    clock.rewind(latest_allowed(T0), "")
    assert (clock.time, clock.counter) == (0, -1)


@pytest.mark.parametrize("counter", [0, 61, 62, 63, 64, 4094, 4095, 4096, MAX_COUNTER - 1])
def test_successor_is_the_least_that_is_greater(counter: int) -> None:
    """Whichever digits change for that."""
    assert successor(encode_hlc(MAX_TIME, counter, "zzzzz"), "-----") == encode_hlc(MAX_TIME, counter + 1, "-----")


near = st.integers(-2, 2)


@given(st.sampled_from([2, T0, MAX_TIME - 2, MAX_TIME + 2]), near, near, near, st.integers(0, MAX_COUNTER))
def test_a_stamp_is_read_only_where_it_may_move_the_clock(
    base: int, present: int, seen: int, known: int, counter: int
) -> None:
    """What is observed has the effect that it would have if every stamp were read, whatever the clocks show.

    Only the greatest time counts, with the greatest counter that was seen with it.
    """
    now, time, before = base + present, min(base + seen, MAX_TIME), min(base + known, MAX_TIME)
    clock = HybridLogicalClock("AAAAA", lambda: now)
    clock.time, clock.counter = before, 5
    clock.observe(encode_hlc(time, counter, "BBBBB"))
    if encode_hlc(time, counter, "BBBBB") > latest_allowed(now):
        assert (clock.time, clock.counter) == (before, 5)
        return
    latest = max(now, time, before)
    assert clock.time == latest
    counters = [counter] * (latest == time) + [5] * (latest == before) + [-1]
    assert clock.counter == max(counters)
