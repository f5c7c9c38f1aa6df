"""Each example runs by itself and prints what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conformance.nodepeer import NODE_FOLDER

from .blocks import ROOT, check_output, free_port, python, run_program, with_port

EXAMPLES = ROOT / "examples"
_ON_NODE = EXAMPLES / "tinybase_on_node"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda example: example.stem)
def test_example_prints_what_it_says(example: Path, tmp_path: Path) -> None:
    """With another port, in an empty folder."""
    code = example.read_text()
    copy = tmp_path / example.name
    copy.write_text(with_port(code, free_port()))
    check_output(code, run_program(python(copy), tmp_path))


@pytest.mark.node
def test_tinybase_on_node_prints_what_it_says(node_installed: str, tmp_path: Path) -> None:
    """With the packages of the conformance tests."""
    port = free_port()
    for name in ("main.py", "client.mjs"):
        (tmp_path / name).write_text(with_port((_ON_NODE / name).read_text(), port))
    shutil.copy(_ON_NODE / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    check_output((_ON_NODE / "main.py").read_text(), run_program(python(tmp_path / "main.py"), tmp_path))


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*/package.json")), ids=lambda example: example.parent.name)
def test_packages_are_those_that_are_tested(example: Path) -> None:
    """It pins what the conformance tests pin."""
    tested = json.loads((NODE_FOLDER / "package.json").read_text())["dependencies"]
    for name, version in json.loads(example.read_text())["dependencies"].items():
        assert tested[name] == version
