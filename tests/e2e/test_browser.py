"""A page with stock TinyBase in a real browser, `mergesync serve` with SQLite, and a Python client."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergesync import MergeableStore, StaleVersionError, create_ws_synchronizer
from tests.conformance.nodepeer import NODE_FOLDER
from tests.docs.blocks import ROOT, blocks_of, free_port, python, serving, with_port
from tests.served import Served, mergesync
from tests.support import TIMEOUT_SECONDS, eventually

from .browser import Page, chromium, opened_page, serving_folder

pytestmark = [pytest.mark.browser, pytest.mark.node]


@pytest.fixture
def executable() -> str:
    """Chromium; skips without (but fails where CI is set)."""
    found = chromium()
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is missing: apt-get install chromium")
    return found


@pytest.fixture
def ws_port() -> int:
    """Where the server is, before and after its restart."""
    return free_port()


@pytest.fixture
def site(node_installed: str, ws_port: int, tmp_path: Path) -> Iterator[str]:
    """The page of docs/browser.md, beside `node_modules`; its URL."""
    folder = tmp_path / "site"
    folder.mkdir()
    (html,) = (block.code for block in blocks_of("docs/browser.md") if block.language == "html")
    (folder / "index.html").write_text(with_port(html, ws_port))
    (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    with serving_folder(folder) as url:
        yield url


async def _same(page: Page, store: MergeableStore) -> None:
    """Page and Python hold the same content, and the same hashes over all stamps."""
    theirs = "JSON.stringify([store.getContent(), store.getMergeableContent().map(([, , hash]) => hash)])"
    found, deadline = None, asyncio.get_running_loop().time() + TIMEOUT_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        found = json.loads(await page.evaluate(theirs))
        if found == [list(store.get_content()), store.get_mergeable_content_hashes()]:
            return
        await asyncio.sleep(0.05)
    assert found == [list(store.get_content()), store.get_mergeable_content_hashes()]


async def test_page_and_python_keep_one_store_through_a_restart(
    executable: str, site: str, ws_port: int, tmp_path: Path
) -> None:
    """Live both ways, offline edits on both sides, a restart of the server, and a client that comes later."""
    path = f"ws://localhost:{ws_port}/petShop"
    store = MergeableStore()
    arguments = ("--port", str(ws_port), "--allow-origin", site)
    with Served(tmp_path, *arguments) as served:
        async with opened_page(executable, tmp_path / "profile", f"{site}/index.html") as page:
            await page.wait_for("window.store")
            async with create_ws_synchronizer(store, path, on_ignored_error=lambda _: None) as synchronizer:
                await page.evaluate("store.setCell('pets', 'felix', 'species', 'cat').setValue('open', null) && 1")
                await eventually(lambda: store.get_cell("pets", "felix", "species") == "cat")
                store.set_row("pets", "fido", {"species": "dog", "tags": ["good", {"n": 1.5}], "名": "犬 🐕"})
                await page.wait_for("store.getCell('pets', 'fido', 'tags')?.[1].n == 1.5")
                assert await page.evaluate("store.getCell('pets', 'fido', '名')") == "犬 🐕"
                assert "犬 🐕" in await page.evaluate("document.getElementById('content').textContent")
                await _same(page, store)

                assert await asyncio.to_thread(served.stop) == 0
                await eventually(lambda: synchronizer.status != "live")
                await page.evaluate("store.setCell('pets', 'rex', 'species', 'dog').delRow('pets', 'felix') && 1")
                store.set_cell("pets", "fido", "species", "wolf").del_value("open")

                with Served(tmp_path, *arguments) as again:
                    await eventually(lambda: store.has_row("pets", "rex"))
                    await page.wait_for("store.getCell('pets', 'fido', 'species') == 'wolf'")
                    await _same(page, store)
                    await page.evaluate("store.setValue('live', true) && 1")
                    await eventually(lambda: store.get_value("live") is True)
                    assert await asyncio.to_thread(again.stop) == 0

    assert store.get_table_ids() == ["pets"]
    assert store.get_row_ids("pets") == ["fido", "rex"]
    assert mergesync("verify", "sqlite:mergesync.db", folder=tmp_path).returncode == 0
    with Served(tmp_path) as third:
        late = MergeableStore()
        async with create_ws_synchronizer(late, f"{third.url}/petShop"):
            assert late.get_mergeable_content_hashes() == store.get_mergeable_content_hashes()
            assert late.get_content() == store.get_content()


async def test_a_room_in_a_page(executable: str, node_installed: str, tmp_path: Path) -> None:
    """The example: stock TinyBase from npm, who is there, and a message that is not its author's to change."""
    port = free_port()
    folder = tmp_path / "room_page"
    shutil.copytree(ROOT / "examples" / "room_page", folder)
    (folder / "room_page.py").write_text(with_port((folder / "room_page.py").read_text(), port))
    (folder / "node_modules").symlink_to(NODE_FOLDER / "node_modules")
    store = MergeableStore()
    with serving(python(folder / "room_page.py"), folder, port):
        url = f"http://localhost:{port}/?name=ann"
        async with (
            opened_page(executable, tmp_path / "profile", url) as page,
            create_ws_synchronizer(store, f"ws://localhost:{port}/sync/room", token="bob"),
        ):
            await page.wait_for("document.getElementById('clients')?.textContent == 'ann, bob'")
            await page.evaluate(
                "document.getElementById('text').value = 'hello', document.getElementById('form').requestSubmit() ?? 1"
            )
            await eventually(lambda: [row["text"] for row in store.get_table("messages").values()] == ["hello"])
            store.add_row("messages", {"author": "bob", "text": "good day", "at": 0})
            await page.wait_for("document.getElementById('messages').textContent == 'bob: good dayann: hello'")
            await page.evaluate(
                "room.forEachRow('messages', (id) => room.setCell('messages', id, 'text', 'ANN')), true"
            )
            await page.wait_for("document.getElementById('messages').textContent == 'bob: good dayann: ANN'")
            texts = {"ANN", "good day"}
            await eventually(lambda: {row["text"] for row in store.get_table("messages").values()} == texts)


async def test_a_page_without_an_installation(executable: str, tmp_path: Path) -> None:
    """The example: a module that the server hands out itself, and a page that loses no note, nor a program's."""
    port = free_port()
    folder = tmp_path / "document_page"
    shutil.copytree(ROOT / "examples" / "document_page", folder)
    program = folder / "document_page.py"
    program.write_text(with_port(program.read_text(), port))
    store, texts = MergeableStore(), {"one", "two", *(f"n{number}" for number in range(20))}
    with serving(python(program), folder, port):
        async with (
            opened_page(executable, tmp_path / "profile", f"http://localhost:{port}/") as page,
            create_ws_synchronizer(store, f"ws://localhost:{port}/notes") as synchronizer,
        ):
            await page.wait_for("window.change")
            await page.evaluate(
                "document.getElementById('text').value = 'one', document.getElementById('form').requestSubmit() ?? 1"
            )
            await eventually(lambda: store.get_value("state") == ["one"])
            await page.evaluate("[...Array(20).keys()].forEach((n) => change((notes) => [...notes, `n${n}`]))")
            while True:  # others write at the same time
                notes, version = store.get_value("state"), synchronizer.version(value_id="state")
                assert isinstance(notes, list)
                try:
                    await synchronizer.compare_and_set(version, ({}, {"state": [*notes, "two"]}))
                except StaleVersionError:
                    continue
                break
            shown = "[...document.querySelectorAll('li')].map((note) => note.textContent)"
            await page.wait_for(f"{shown}.length == {len(texts)}")
            assert set(await page.evaluate(shown)) == texts
            kept = store.get_value("state")
            assert isinstance(kept, list)
            assert set(kept) == texts
