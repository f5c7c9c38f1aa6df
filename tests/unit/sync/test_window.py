"""What is remembered of a path's last changes."""

from __future__ import annotations

import pytest

from mergesync.limits import MAX_REMEMBERED_CHANGES
from mergesync.sync.window import Window

from .kit import cell_changes, hlc, value_changes


def test_what_has_changed() -> None:
    """Each cell and value once, the last first, whatever changed between."""
    window = Window("e")
    begin = window.cursor
    window.note(cell_changes("t", "r", a=[1, hlc(1)], b=[1, hlc(1)]))
    then = window.cursor
    window.note(value_changes(v=[1, hlc(2)]))
    window.note(cell_changes("t", "r", a=[2, hlc(3)]))
    assert window.since(begin, None) == [("t", "r", "a"), (None, "", "v"), ("t", "r", "b")]
    assert window.since(then, None) == [("t", "r", "a"), (None, "", "v")]
    assert window.since(window.cursor, None) == []


def test_who_got_messages_since() -> None:
    """The last one counts, if it is known; what it was told before counts where that is more."""
    window = Window("e")
    begin = window.cursor
    window.note(value_changes(v=[1, hlc(1)]))
    window.sent("m1")
    window.sent(None)
    window.note(value_changes(w=[1, hlc(2)]))
    assert window.since(begin, "m1") == [(None, "", "w")]
    assert window.since(window.cursor, "m1") == []
    assert window.since(begin, "unheard of") is None


@pytest.mark.parametrize("cursor", ["", "e", "e.", "e.x", "e.-1", "e.3", "f.1", "e." + "1" * 16, "e.٣", "e.1.1"])
def test_cursors_that_mean_nothing(cursor: str) -> None:
    """Those of other servers, of the future, and nonsense."""
    window = Window("e")
    window.note(value_changes(v=[1, hlc(1)]))
    window.note(value_changes(v=[2, hlc(2)]))
    assert window.since(cursor, None) is None


def test_it_is_bounded() -> None:
    """Who was away for too long is told so; a change that is too large leaves nothing before it."""
    window = Window("e")
    begin = window.cursor
    window.note(value_changes(first=[1, hlc(1)]))
    window.sent("first")
    then = window.cursor
    window.note(value_changes(**{f"v{number}": [1, hlc(1)] for number in range(MAX_REMEMBERED_CHANGES - 1)}))
    assert len(window.since(begin, None) or []) == MAX_REMEMBERED_CHANGES
    window.note(value_changes(last=[1, hlc(1)]))
    assert window.since(begin, None) is None
    assert len(window.since(then, None) or []) == MAX_REMEMBERED_CHANGES
    later = window.cursor
    for number in range(MAX_REMEMBERED_CHANGES):
        window.sent(f"m{number}")
    assert window.since(then, "first") is None
    assert window.since(then, "m0") == []
    window.note(value_changes(**{f"v{number}": [1, hlc(1)] for number in range(MAX_REMEMBERED_CHANGES + 1)}))
    assert window.since(later, None) is None
    assert window.since(window.cursor, None) == []
