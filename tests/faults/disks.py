"""Disks that are small or read-only, and processes that are killed, for the tests of what they do to stored data."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mergesync.store import MergeableStore

ROOT = Path(__file__).parents[2]


def small_store() -> MergeableStore:
    """A store with a little of each kind in it."""
    store = MergeableStore("small", get_now=lambda: 1704067200000)
    store.set_tables({"pets": {"fido": {"species": "dog", "age": 3}, "felix": {"species": "cat", "tags": ["é"]}}})
    return store.set_values({"open": True, "name": "shop", "none": None}).del_value("open")


class SmallDisk:
    """A real file system of 300 kB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")

    def fill(self) -> None:
        """Leave no room."""
        with open(self.folder / "filling", "wb", buffering=0) as file:
            for size in (4096, 512, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass

    def free(self) -> None:
        """Make room again."""
        (self.folder / "filling").unlink()

    def make_read_only(self, read_only: bool) -> None:
        """Let nothing be written, or let it again."""
        mode = "ro" if read_only else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


WRITER = """
import asyncio, sys
from mergesync.persist import json_file_persisters, sqlite_persisters

async def main():
    kind, folder = sys.argv[1:]
    make = json_file_persisters(folder) if kind == "json" else sqlite_persisters(folder + "/p.db")
    persister = make("p")
    await persister.start_auto_persisting()
    number = persister.store.get_value("number") if persister.store.has_value("number") else 0
    while True:
        number += 1
        persister.store.set_value("number", number)
        persister.store.set_cell("t", str(number % 100), "c", "x" * 500)
        await persister.flush()
        print(number, flush=True)

asyncio.run(main())
"""


def killed_child(kind: str, folder: Path, seed: int, check: Callable[[Path, int], None]) -> None:
    """Kill a process that writes and flushes, three times at a random moment; check what it acknowledged."""
    source = random.Random(seed)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, kind, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(source.random() * 0.05)
        os.kill(child.pid, 9)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        check(folder, max(int(line) for line in lines if line.endswith("\n")))
