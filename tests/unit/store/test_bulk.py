"""The collector pauses, and goes on only if it was on."""

from __future__ import annotations

import gc
import sys

import pytest

from mergesync.store.bulk import collector_paused, collector_paused_for

from .kit import ThrownError


def test_the_collector_pauses() -> None:
    """Also where one pause is inside another, and where an exception ends it."""
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ThrownError), collector_paused():
        raise ThrownError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    """An application may have its reasons."""
    gc.disable()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_pause_for_a_text() -> None:
    """A short one is not worth it; after a long one the collector goes on."""
    with collector_paused_for("x" * 100):
        assert gc.isenabled()
    with collector_paused_for("x" * 10_000):
        assert not gc.isenabled()
    assert gc.isenabled()


def test_no_collection_before_the_pause() -> None:
    """A pause begins without an object that the collector counts, or it would scan what the pause is for."""
    many: list[list[int]] = []
    tracing = sys.gettrace()
    sys.settrace(None)  # a tracer's frames are such objects
    gc.disable()
    try:
        many += ([] for _ in range(10 * gc.get_threshold()[0]))  # enough for the next object to start it
        before = gc.get_stats()[0]["collections"]
        gc.enable()
        with collector_paused():
            after = gc.get_stats()[0]["collections"]
    finally:
        gc.enable()
        sys.settrace(tracing)
    assert after == before
