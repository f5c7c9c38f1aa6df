"""Links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .blocks import ROOT

_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
_PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files that are linked to are there, with the headings that are named."""
    targets = [target for target in _LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not _is_there(page, *target.split("#"))] == []


def _is_there(page: Path, file: str, anchor: str | None = None) -> bool:
    found = page.parent / file if file else page
    return found.exists() and (anchor is None or anchor in _anchors(found))


def _anchors(page: Path) -> set[str]:
    """What a page can be linked to at: its headings, as they stand in addresses."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
