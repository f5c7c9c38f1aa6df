"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import json
from types import ModuleType

import pytest

import mergesync

from .generate import modules

_GLOBALS = {"MISSING": mergesync.MISSING, "MergeableStore": mergesync.MergeableStore, "json": json}
_MODULES = modules(mergesync)


def test_there_are_examples() -> None:
    """Otherwise the search for them is broken."""
    finder = doctest.DocTestFinder()
    assert sum(len(found.examples) for module in _MODULES for found in finder.find(module)) > 20


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_examples_are_true(module: ModuleType) -> None:
    """Each prints what it says."""
    result = doctest.testmod(module, extraglobs=_GLOBALS, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
