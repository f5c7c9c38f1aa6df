"""Every Python block of README and docs runs and prints what it says; so do the JavaScript blocks, on Node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.nodepeer import NODE_FOLDER

from .blocks import ROOT, Block, blocks_of, check_output, free_port, python, run_program, serving, with_port

PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
MAX_FRAGMENTS = 1


def test_pages_are_found() -> None:
    """The README, and the pages of docs."""
    assert len(PAGES) > 5


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "python" for b in blocks_of(page))])
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    """Each runs in the order of the page."""
    with ExitStack() as servers:
        for block in blocks_of(page):
            if block.language == "python" and not block.is_fragment:
                _run(block, tmp_path, servers)


def _run(block: Block, folder: Path, servers: ExitStack) -> None:
    if block.is_server:
        servers.close()
        port = free_port()
        (folder / "port").write_text(str(port))
        file = folder / "server.py"
        file.write_text(with_port(block.code, port))
        servers.enter_context(serving(python(file), folder, port))
    else:
        if "create_ws_server(" in block.code:  # it serves by itself, on that port
            servers.close()
        file = folder / "program.py"
        file.write_text(with_port(block.code, _port(folder)))
        check_output(block.code, run_program(python(file), folder))


def _port(folder: Path) -> int:
    file = folder / "port"
    return int(file.read_text()) if file.exists() else free_port()


@pytest.fixture
def readme_server(tmp_path: Path) -> Iterator[int]:
    """The server of the README; its port."""
    port = free_port()
    (server,) = (block for block in blocks_of("README.md") if block.is_server)
    (tmp_path / "server.py").write_text(with_port(server.code, port))
    with serving(python(tmp_path / "server.py"), tmp_path, port):
        yield port


@pytest.mark.node
def test_javascript_of_the_readme_runs(node_installed: str, readme_server: int, tmp_path: Path) -> None:
    """On Node, with stock TinyBase, after the Python client and against its server."""
    (client,) = (block for block in blocks_of("README.md") if block.code.startswith("# client.py"))
    (tmp_path / "client.py").write_text(with_port(client.code, readme_server))
    run_program(python(tmp_path / "client.py"), tmp_path)
    (block,) = (block for block in blocks_of("README.md") if block.language == "js")
    (tmp_path / "client.mjs").write_text(with_port(block.code, readme_server))
    (tmp_path / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    check_output(block.code, run_program([node_installed, "client.mjs"], tmp_path))


def test_few_blocks_are_fragments() -> None:
    """A fragment may lie, so they are counted."""
    fragments = [block for page in PAGES for block in blocks_of(page) if block.is_fragment]
    assert len(fragments) <= MAX_FRAGMENTS


def test_languages_are_known() -> None:
    """A misspelt language would not be run."""
    languages = {block.language for page in PAGES for block in blocks_of(page)}
    assert languages <= {"python", "js", "html", "text", "json", "sql", "sh"}


def test_readme_shows_code_early() -> None:
    """In its first thirty lines."""
    first = blocks_of("README.md")[0]
    assert first.language == "python"
    assert first.line <= 30


def test_readme_programs_are_short() -> None:
    """Server and client, without blank lines, in about fifteen."""
    for block in blocks_of("README.md"):
        assert len([line for line in block.code.splitlines() if line.strip()]) <= 15, block


def test_the_commands_of_the_readme_can_be_made() -> None:
    """They are targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == ["serve", "test"]
    assert all(f"\n{command}:" in makefile for command in commands)
