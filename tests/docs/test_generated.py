"""The pages that are made from the code are up to date."""

from __future__ import annotations

import sys

import pytest

from .generate import PAGES, ROOT


@pytest.mark.parametrize("name", PAGES)
def test_page_is_up_to_date(name: str) -> None:
    """`make docs` would change nothing."""
    if name.endswith("command-line.md") and sys.version_info >= (3, 13):
        pytest.skip("argparse words its help otherwise from Python 3.13 on")
    assert (ROOT / name).read_text() == PAGES[name](), "run: make docs"
