"""Files are replaced whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest

from mergesync.limits import MAX_UNREADABLE_COPIES
from mergesync.persist.files import (
    FILES,
    FileChangedError,
    FileSystem,
    keep_aside,
    make_folders,
    remove_stale_temporaries,
    replace_file,
)


def replace(path: Path, data: bytes) -> None:
    """Replace a file whatever its state."""
    replace_file(FILES, str(path), data, FILES.signature(str(path)))


class TestReplacing:
    def test_a_new_file(self, tmp_path: Path) -> None:
        """It is there, with the usual permissions, and nothing beside it."""
        replace(tmp_path / "a", b"one")
        assert (tmp_path / "a").read_bytes() == b"one"
        umask = os.umask(0)
        os.umask(umask)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
        assert os.listdir(tmp_path) == ["a"]

    def test_permissions_are_kept(self, tmp_path: Path) -> None:
        """A private file stays private."""
        (tmp_path / "a").touch()
        (tmp_path / "a").chmod(0o640)
        replace(tmp_path / "a", b"one")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640

    def test_symbolic_links_are_followed(self, tmp_path: Path) -> None:
        """The file that a link names is replaced, the link stays; also one that names nothing yet."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
        for data in (b"one", b"two"):
            replace(tmp_path / "link", data)
            assert (tmp_path / "link").is_symlink()
            assert (tmp_path / "real" / "a").read_bytes() == data
        assert os.listdir(tmp_path / "real") == ["a"]

    def test_the_state_returned_is_the_new_one(self, tmp_path: Path) -> None:
        """So that a persister knows its own writes."""
        path = str(tmp_path / "a")
        assert replace_file(FILES, path, b"one", None) == FILES.signature(path)

    def test_a_changed_file_is_left(self, tmp_path: Path) -> None:
        """A file in another state than expected is not replaced."""
        path = str(tmp_path / "a")
        known = replace_file(FILES, path, b"one", None)
        (tmp_path / "a").write_bytes(b"theirs")
        for expected in (known, None):
            with pytest.raises(FileChangedError):
                replace_file(FILES, path, b"two", expected)
        assert (tmp_path / "a").read_bytes() == b"theirs"
        assert os.listdir(tmp_path) == ["a"]

    def test_short_writes(self, tmp_path: Path) -> None:
        """The system may write less than it was given."""

        class Short(FileSystem):
            def write(self, descriptor: int, data: memoryview) -> int:
                return super().write(descriptor, data[:7])

        replace_file(Short(), str(tmp_path / "a"), bytes(range(100)), None)
        assert (tmp_path / "a").read_bytes() == bytes(range(100))


class TestKeepingAside:
    def test_once_for_each_state(self, tmp_path: Path) -> None:
        """The same bytes are not copied again, other bytes are; the file stays."""
        path = tmp_path / "a.json"
        for text in ("x", "x", "y"):
            path.write_text(text)
            keep_aside(FILES, str(path))
        copies = sorted(tmp_path.glob("a.json.unreadable-*"))
        assert sorted(copy.read_text() for copy in copies) == ["x", "y"]
        assert path.read_text() == "y"

    def test_not_for_ever(self, tmp_path: Path) -> None:
        """The disk is not filled with copies."""
        path = tmp_path / "a.json"
        for number in range(MAX_UNREADABLE_COPIES + 5):
            path.write_text(str(number))
            keep_aside(FILES, str(path))
        assert len(os.listdir(tmp_path)) == MAX_UNREADABLE_COPIES + 1

    def test_a_file_that_is_gone(self, tmp_path: Path) -> None:
        """There is nothing to copy, which is told."""
        with pytest.raises(FileNotFoundError):
            keep_aside(FILES, str(tmp_path / "a.json"))


def test_making_folders(tmp_path: Path) -> None:
    """Each folder made is made durable; those that are there are left alone."""

    class Watched(FileSystem):
        synced: ClassVar[list[str]] = []

        def sync_folder(self, folder: str) -> None:
            self.synced.append(folder)
            super().sync_folder(folder)

    for _ in range(2):
        make_folders(Watched(), str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").is_dir()
    assert Watched.synced == [str(tmp_path), str(tmp_path / "a")]


def test_stale_temporaries(tmp_path: Path) -> None:
    """Only what a crash of ours left of this file is removed; with no file given, of any."""
    stale = ["a.json.0123456789abcdef.mergesync-tmp", "a.json.unsaved.0123456789abcdef.mergesync-tmp"]
    others = ["b.json.0123456789abcdef.mergesync-tmp", "a.json.b.json.0123456789abcdef.mergesync-tmp"]
    kept = ["a.json", "a.json.0123456789abcdef.tmp", "a.json.x.mergesync-tmp"]
    for name in stale + others + kept:
        (tmp_path / name).touch()
    remove_stale_temporaries(FILES, str(tmp_path), "a.json")
    assert sorted(os.listdir(tmp_path)) == sorted(others + kept)
    remove_stale_temporaries(FILES, str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
