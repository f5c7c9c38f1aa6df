"""The collector pauses, and goes on only if it was on."""

from __future__ import annotations

import gc

import pytest

from mergesync.store.bulk import collector_paused

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
