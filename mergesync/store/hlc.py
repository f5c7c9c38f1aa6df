"""The hybrid logical clock: stamps that grow, carry wall time, and compare as strings (protocol section 3)."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Sequence
from itertools import pairwise

from mergesync.exceptions import ClockError
from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS, MAX_LEAPS
from mergesync.store.jsjson import fnv1a
from mergesync.types import GetNow

__all__ = [
    "ALPHABET",
    "CLIENT_PART_LENGTH",
    "TIME_PART_LENGTH",
    "HybridLogicalClock",
    "are_hlcs",
    "client_part",
    "decode_hlc",
    "encode_hlc",
    "is_hlc",
    "latest_allowed",
    "successor",
]

ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
"""The 64 digits in order of value, which is also ASCII order."""

TIME_PART_LENGTH = 7
CLIENT_PART_LENGTH = 5
"""Characters of the client part of a stamp."""

_ALPHABET_BYTES = ALPHABET.encode()
_LENGTHS = {0, 16}

_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# Digits as those of base64, so that many are read at once; any other character counts as 0.
_IN_BASE64 = bytes(ord(_BASE64[max(0, ALPHABET.find(chr(byte)))]) for byte in range(256))
_PAIR = [high + low for high in ALPHABET for low in ALPHABET]  # 12 bits at a time

_FOLLOWING = dict(pairwise(ALPHABET))  # the digit after each but the last

_MAX_TIME = 2**42 - 1
_MAX_COUNTER = 2**24 - 1


def _encode_time(time: int) -> str:
    return f"{ALPHABET[time >> 36 & 63]}{_PAIR[time >> 24 & 4095]}{_PAIR[time >> 12 & 4095]}{_PAIR[time & 4095]}"


def encode_hlc(time: int, counter: int, client: str) -> str:
    """A stamp of 16 characters: 7 of time, 4 of counter, 5 of client.

    Args:
        time: milliseconds since 1970, taken modulo 2**42.
        counter: taken modulo 2**24.
        client: the client part, see `client_part`.

    Example:
        >>> encode_hlc(1704067200000, 1, "7JQY8")
        'Nn1JUF----07JQY8'
    """
    return f"{_encode_time(time)}{_PAIR[counter >> 12 & 4095]}{_PAIR[counter & 4095]}{client}"


def decode_hlc(hlc: str) -> tuple[int, int, str]:
    """The time, counter and client part of a stamp; unknown and missing characters count as 0.

    Example:
        >>> decode_hlc("Nn1JUF----07JQY8")
        (1704067200000, 1, '7JQY8')
    """
    if not hlc.isascii():  # JavaScript counts UTF-16 units
        hlc = "".join(character if character <= "\uffff" else "??" for character in hlc)
    digits = b"-%b" % hlc[:11].ljust(11, "-").encode("ascii", "replace")  # 12, as 4 make 3 bytes
    value = int.from_bytes(a2b_base64(digits.translate(_IN_BASE64)))
    return value >> 24, value & _MAX_COUNTER, hlc[11:]


def client_part(unique_id: str) -> str:
    """The five characters by which a store with this id signs its stamps: the low 30 bits of a hash of it.

    Example:
        >>> client_part("s1")
        '7JQY8'
    """
    bits = fnv1a(unique_id) & 0x3FFFFFFF
    return ALPHABET[bits >> 24] + _PAIR[bits >> 12 & 4095] + _PAIR[bits & 4095]


def is_hlc(hlc: object) -> bool:
    """Whether this has the form of a stamp, or is the empty one; its time may be any.

    Example:
        >>> is_hlc("Nn1JUF----07JQY8"), is_hlc(""), is_hlc("bad")
        (True, True, False)
    """
    # strip() leaves nothing exactly when every character is of the alphabet.
    return isinstance(hlc, str) and (not hlc or (len(hlc) == 16 and not hlc.strip(ALPHABET)))


def are_hlcs(hlcs: Sequence[str]) -> bool:
    """Whether all of these have the form of a stamp or are empty; for many, much faster than one by one.

    Example:
        >>> are_hlcs(["Nn1JUF----07JQY8", ""]), are_hlcs(["Nn1JUF----07JQY8", "bad"])
        (True, False)
    """
    together = ",".join(hlcs)
    if not together.isascii():
        return False
    strange, commas = together.encode().translate(None, delete=_ALPHABET_BYTES), len(hlcs) - 1
    if len(together) == 17 * commas + 16 and together[16::17] == "," * commas and len(strange) == commas:
        return True  # the common case: none is empty
    return strange.count(b",") == len(strange) == max(commas, 0) and _LENGTHS.issuperset(map(len, hlcs))


def latest_allowed(now: int) -> str:
    """The largest stamp that is not too far in the future.

    Example:
        >>> latest_allowed(1704067200000)
        'Nn1KcUVzzzzzzzzz'
    """
    return _encode_time(min(now + MAX_CLOCK_OFFSET_MILLISECONDS, _MAX_TIME)) + "z" * 9


def successor(hlc: str, client: str) -> str | None:
    """The least stamp of a client that is greater in time or counter, or None if there is none.

    Used to answer a refused stamp: whoever wrote it takes what carries its successor.

    Example:
        >>> successor("Nn1KcUW---AAAAAA", "7JQY8")
        'Nn1KcUW---B7JQY8'
    """
    following = _FOLLOWING.get(hlc[10:11])
    if following is not None:  # the common case: only the last digit of the counter becomes another
        return f"{hlc[:10]}{following}{client}"
    time, counter, _ = decode_hlc(hlc)
    time, counter = (time, counter + 1) if counter < _MAX_COUNTER else (time + 1, 0)
    return encode_hlc(time, counter, client) if time <= _MAX_TIME else None


class HybridLogicalClock:
    """The clock of one store: it never goes back, whatever the wall clock does.

    Args:
        client: the client part of the stamps it makes.
        get_now: the wall clock, in milliseconds since 1970.

    Attributes:
        offset: what is added to the wall clock, in milliseconds.
        time: the greatest time made or seen, in milliseconds since 1970.
        counter: how often that time was used, -1 before the first.

    Example:
        >>> clock = HybridLogicalClock(client_part("s1"), lambda: 1704067200000)
        >>> clock.tick(), clock.tick()
        ('Nn1JUF-----7JQY8', 'Nn1JUF----07JQY8')
    """

    def __init__(self, client: str, get_now: GetNow) -> None:
        self.client = client
        self._get_wall_clock = get_now
        self.offset: int = 0
        self.time: int = 0
        self.counter: int = -1
        self._leaps: list[tuple[int, int, int]] = []  # time and counter before, time after
        self._prefix_time = -1
        self._prefix = ""
        self._known_now = -1  # of which moment the next two are
        self._present = ""
        self._latest = ""

    def now(self) -> int:
        """The present, in milliseconds since 1970."""
        return int(self._get_wall_clock()) + self.offset

    def latest_allowed(self) -> str:
        """The largest stamp that is not too far in the future."""
        self._know(self.now())
        return self._latest

    def _know(self, now: int) -> None:
        """What is asked for several times in a millisecond: the present as stamps begin, and the latest that may be."""
        if now != self._known_now:
            self._known_now, self._latest = now, latest_allowed(now)
            self._present = _encode_time(max(0, min(now, _MAX_TIME)))

    def tick(self) -> str:
        """Make the next stamp, greater than all that were made or seen.

        Raises:
            ClockError: the 42 bits of time are exhausted.
        """
        now = int(self._get_wall_clock()) + self.offset
        if now > self.time:
            if now - self.time > MAX_CLOCK_OFFSET_MILLISECONDS:
                self._note_leap(now)
            self.time = now
            self.counter = 0
        elif self.counter < _MAX_COUNTER:
            # A clock that returns 0 from the start begins at counter 1, as the peer's does.
            self.counter += 1 if self.time else 1 + (self.counter < 0)
        else:
            self.time += 1
            self.counter = 0
        if self.time != self._prefix_time:
            if self.time > _MAX_TIME:
                raise ClockError(f"time {self.time} ms does not fit into a stamp")
            self._prefix_time = self.time
            self._prefix = _encode_time(self.time)
        counter = self.counter
        return f"{self._prefix}{_PAIR[counter >> 12]}{_PAIR[counter & 4095]}{self.client}"

    def tick_again(self) -> str:
        """Make the next stamp without a look at the wall clock: for what belongs to the same moment as the last one.

        Raises:
            ClockError: the 42 bits of time are exhausted.
        """
        if self.time != self._prefix_time or self.counter >= _MAX_COUNTER:
            return self.tick()
        self.counter = counter = self.counter + 1
        return f"{self._prefix}{_PAIR[counter >> 12]}{_PAIR[counter & 4095]}{self.client}"

    def _note_leap(self, time: int) -> None:
        self._leaps.append((self.time, self.counter, time))
        del self._leaps[:-MAX_LEAPS]

    def rewind(self, latest: str, newest: str) -> None:
        """Go back to before the clock went beyond a stamp, so that no stamp up to that one is ever made again.

        Args:
            latest: the greatest that may have been used; all greater ones must be gone everywhere.
            newest: the greatest that is known to be used, below the other.
        """
        latest_time = decode_hlc(latest)[0]
        while self.time > latest_time:
            self.time, self.counter, after = self._leaps.pop() if self._leaps else (0, -1, self.time)
            if after <= latest_time:  # from there it went beyond bit by bit
                self.time, self.counter = latest_time, _MAX_COUNTER // 2
        if newest:
            self.time, self.counter = max((self.time, self.counter), decode_hlc(newest)[:2])

    def observe(self, hlc: str) -> None:
        """Take note of another's stamp, so that the next one made here is greater; what is not valid is ignored.

        Args:
            hlc: a stamp, or the empty one, which only moves the clock to the present.
        """
        now = self.now()
        self._know(now)
        if not is_hlc(hlc) or hlc > self._latest:
            return
        # What is older than the present moves no clock, and the empty one is.
        seen_time, seen_counter, _ = (0, 0, "") if hlc < self._present else decode_hlc(hlc)
        time = max(self.time, seen_time, now)
        if time - self.time > MAX_CLOCK_OFFSET_MILLISECONDS:
            self._note_leap(time)
        if time == self.time:
            if time == seen_time:
                self.counter = max(self.counter, seen_counter)
        else:
            self.counter = seen_counter if time == seen_time else -1
        self.time = time
