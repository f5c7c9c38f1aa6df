"""The wheel builds from what is in the repository, installs bare, and works."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from mergesync.version import VERSION

from .blocks import ROOT

pytestmark = pytest.mark.slow
_TIMEOUT_SECONDS = 110


def _run(*command: str | Path, folder: Path) -> str:
    """Run a program that does not see the checkout."""
    hidden = {"PYTHONPATH", "PYTHONDEVMODE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    return folder


def test_wheel_has_the_package_and_nothing_else(dist: Path) -> None:
    """With its marker of types, and without tests."""
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mergesync/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"mergesync", f"mergesync-{VERSION}.dist-info"}


def test_source_archive_has_what_the_documentation_links_to(dist: Path) -> None:
    """README, docs, examples, tests."""
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "docs/command-line.md", "examples/two_clients.py"} <= names
    assert not any("node_modules/" in name for name in names)


def test_wheel_installs_bare_and_works(dist: Path, tmp_path: Path) -> None:
    """In a new environment, from anywhere."""
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    _run(scripts / "python", "-m", "pip", "install", "--quiet", wheel, folder=tmp_path)
    assert _run(scripts / "mergesync", "--version", folder=tmp_path) == f"mergesync {VERSION}"
    assert _run(scripts / "python", "-m", "mergesync", "--version", folder=tmp_path) == f"mergesync {VERSION}"
    program = "import mergesync; print(mergesync.MergeableStore().set_value('a', 1).get_json())"
    assert _run(scripts / "python", "-W", "error", "-c", program, folder=tmp_path) == '[{},{"a":1}]'
