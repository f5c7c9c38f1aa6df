"""The tests that `docs/reliability.md` and `docs/seeds.md` name are there, and the latter has every line."""

from __future__ import annotations

import re

import pytest

from .blocks import ROOT

_NAMED = re.compile(r"`(tests/[\w/]+(?:\.py)?)(?:::(\w+))?`")
_PAGES = [ROOT / "docs" / name for name in ("reliability.md", "seeds.md")]
NAMED = sorted({named for page in _PAGES for named in _NAMED.findall(page.read_text())})
LINES = {"W": 12, "R": 23, "S": 25, "T": 16, "B": 9}


@pytest.mark.parametrize(("file", "test"), NAMED, ids=["::".join(each) for each in NAMED])
def test_named_tests_are_there(file: str, test: str) -> None:
    """Files, folders, and functions in them."""
    assert (ROOT / file).exists()
    assert not test or f"def {test}(" in (ROOT / file).read_text()


def test_no_line_of_the_seeds_is_missing() -> None:
    """Each is there once, with what it is tested by."""
    rows = re.findall(r"^\| ([A-Z]\d.*?) \|.*\|(.*)\|$", (ROOT / "docs" / "seeds.md").read_text(), re.MULTILINE)
    lines = [line for ids, _ in rows for line in ids.split(", ")]
    assert sorted(lines) == sorted(
        f"{letter}{number}" for letter, last in LINES.items() for number in range(1, last + 1)
    )
    assert all(_NAMED.search(tests) for _, tests in rows)
