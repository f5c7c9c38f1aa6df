"""The tests that `docs/reliability.md` names are there."""

from __future__ import annotations

import re

import pytest

from .blocks import ROOT

_NAMED = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`")
NAMED = _NAMED.findall((ROOT / "docs" / "reliability.md").read_text())


@pytest.mark.parametrize(("file", "test"), NAMED, ids=["::".join(each) for each in NAMED])
def test_named_tests_are_there(file: str, test: str) -> None:
    """Files, folders, and functions in them."""
    assert (ROOT / file).exists()
    assert not test or f"def {test}(" in (ROOT / file).read_text()
