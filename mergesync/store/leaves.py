"""What is done for every single leaf: checking, packing, comparing and hashing it.

The loops over the leaves of one row, on builtin types alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from fnv_hash_fast import fnv1a_32

from mergesync.limits import MAX_INTEGER
from mergesync.store.cells import TOMBSTONE
from mergesync.store.jsjson import quoted, utf8
from mergesync.store.stamps import COLON, NO_HLC, PLAIN, Stamp, is_live, stamp_hash, wire_text

__all__ = [
    "are_plain",
    "child_hash",
    "hash_change",
    "hash_share",
    "leaf_hash",
    "news_in",
    "pack",
    "replace_shown",
    "take",
]


def are_plain(leaves: Mapping[Any, Any], size: int, hlcs: list[str]) -> bool:
    """Whether all leaves of a row are in the common form: stamps of a scalar and an HLC, of so many elements.

    Args:
        leaves: whatever a peer said; the ids and stamps may be anything.
        size: 2, or 3 for leaves that have their hash.
        hlcs: their HLCs are added to it, unchecked; some of them, too, if the answer is no.
    """
    for leaf_id, stamp in leaves.items():
        if stamp.__class__ is not list or len(stamp) != size or leaf_id.__class__ is not str:
            return False
        wire, hlc = stamp[0], stamp[1]
        kind = wire.__class__
        if hlc.__class__ is not str or (size == 3 and stamp[2].__class__ is not int):
            return False
        if kind is not str and not (
            wire is None
            or kind is bool
            or (kind is int and -MAX_INTEGER <= wire <= MAX_INTEGER)
            or (kind is float and isfinite(wire))
        ):
            return False
        hlcs.append(hlc)
    return True


def pack(wire: Any, hlc: str) -> Stamp:
    """A stamp of a checked wire form.

    Example:
        >>> pack("dog", "Nn1JUF-----7JQY8"), pack(TOMBSTONE, "Nn1JUF-----7JQY8"), pack(None, "")
        (b'"dog":Nn1JUF-----7JQY8', b':Nn1JUF-----7JQY8', b'null:')
    """
    kind = wire.__class__
    try:
        if kind is str and wire < TOMBSTONE:
            return f"{quoted(wire)}:{hlc}".encode()
        if kind is int and -MAX_INTEGER <= wire <= MAX_INTEGER:
            return f"{wire}:{hlc}".encode()
    except UnicodeEncodeError:  # a lone surrogate
        pass
    return NO_HLC.join((wire_text(wire), hlc.encode()))


def take(
    said: Mapping[str, Any], stamps: dict[str, Stamp], counts: dict[str, int], begun: list[str], newest: str
) -> tuple[int, str]:
    """Pack all leaves of a checked row that is new.

    Args:
        said: the leaves.
        stamps: where their stamps go.
        counts: by leaf id, in how many rows one shows; kept up to date.
        begun: the ids that no other row shows are added to it.
        newest: the greatest HLC so far.

    Returns:
        How many of the leaves show, and the greatest HLC.
    """
    live = 0
    for leaf_id, leaf in said.items():
        wire = leaf[0]
        hlc = (leaf[1] or "") if len(leaf) > 1 else ""
        if hlc > newest:
            newest = hlc
        stamp = stamps[leaf_id] = pack(wire, hlc)
        # The common cases, plain strings and numbers, are told to show without a look at the stamp.
        kind = wire.__class__
        if kind is int or (kind is str and wire < TOMBSTONE) or is_live(stamp):
            live += 1
            count = counts.get(leaf_id)
            if count:
                counts[leaf_id] = count + 1
            else:
                counts[leaf_id] = 1
                begun.append(leaf_id)
    return live, newest


def news_in(said: Mapping[str, Any], stamps: Mapping[str, Stamp], newest: str) -> tuple[dict[str, Stamp], str]:
    """What of a checked row wins against the stamps that are there, leaf by leaf: the greater HLC (protocol section 7).

    Args:
        said: the leaves.
        stamps: those that are there.
        newest: the greatest HLC so far.

    Returns:
        The stamps of the leaves that win, and the greatest HLC.
    """
    news: dict[str, Stamp] = {}
    for leaf_id, leaf in said.items():
        old = stamps.get(leaf_id, _NO_STAMP)
        hlc = (leaf[1] or "") if len(leaf) > 1 else ""
        if old[-1] != COLON and hlc.encode() <= old[-16:]:
            continue
        stamp = pack(leaf[0], hlc)
        if stamp == old:
            continue
        news[leaf_id] = stamp
        if hlc > newest:
            newest = hlc
    return news, newest


_NO_STAMP: Final = b"?:"  # it has no HLC either, and is no stamp


def replace_shown(stamps: dict[str, Stamp], news: Mapping[str, Stamp], before: dict[str, Stamp | None]) -> bool:
    """Replace stamps that show by others that do, so that nothing is to be counted or ordered anew.

    Args:
        stamps: those of a row.
        news: the new ones.
        before: takes those that were there at first.

    Returns:
        Whether all of them are of that kind; else nothing was done.
    """
    for leaf_id, stamp in news.items():
        old = stamps.get(leaf_id)
        if old is None or not (old < PLAIN or is_live(old)) or not (stamp < PLAIN or is_live(stamp)):
            return False
    for leaf_id in news:
        if leaf_id not in before:
            before[leaf_id] = stamps[leaf_id]
    stamps.update(news)
    return True


def leaf_hash(leaf: tuple[Any, str]) -> int:
    """The hash of a cell or value given as wire form and HLC.

    Example:
        >>> leaf_hash(("dog", "Nn1JUF-----7JQY8"))
        1730177833
    """
    return stamp_hash(pack(*leaf))


class _Prefixes(dict[str, tuple[bytes, int]]):
    """By leaf id: what precedes the hash of a leaf where it is hashed for its parent, and what a hash of 0 adds there.

    Most rows have leaves of the same few ids; the latest ones are kept at hand.
    """

    def __missing__(self, leaf_id: str) -> tuple[bytes, int]:
        if len(self) >= _MOST_AT_HAND:
            self.clear()
        prefix = utf8(leaf_id) + b":"
        self[leaf_id] = prefix, fnv1a_32(prefix + b"0")
        return self[leaf_id]


_MOST_AT_HAND: Final = 4096
_prefixes: Final = _Prefixes()


def hash_share(stamps: Mapping[str, Stamp]) -> int:
    """What leaves with these stamps add to the hash of their row (protocol section 4)."""
    share = 0
    for leaf_id, stamp in stamps.items():
        hash_ = fnv1a_32(stamp) if stamp[0] != COLON else stamp_hash(stamp)
        prefix, zero_share = _prefixes[leaf_id]
        share ^= fnv1a_32(prefix + b"%d" % hash_) ^ zero_share
    return share


def hash_change(before: Mapping[str, Stamp | None], stamps: Mapping[str, Stamp]) -> int:
    """How the hash of a row changes with some of its stamps.

    Args:
        before: what they were; None for none.
        stamps: all that the row has now.
    """
    change = 0
    for leaf_id, old in before.items():
        prefix, zero_share = _prefixes[leaf_id]
        for stamp in (old, stamps.get(leaf_id)):
            if stamp is None:
                change ^= zero_share
            else:
                hash_ = fnv1a_32(stamp) if stamp[0] != COLON else stamp_hash(stamp)
                change ^= fnv1a_32(prefix + b"%d" % hash_)
    return change


def child_hash(child_id: str, hash_: int) -> int:
    """What a child adds to its parent: F(id + ":" + hash) (protocol section 4, C)."""
    try:
        return fnv1a_32(f"{child_id}:{hash_}".encode())
    except UnicodeEncodeError:
        return fnv1a_32(b"%b:%d" % (utf8(child_id), hash_))
