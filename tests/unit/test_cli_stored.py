"""`mergesync dump`, `load` and `verify` on stored data."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergesync import MergeableStore
from mergesync.cli import main
from mergesync.persist import json_file_persisters, sqlite_persisters
from mergesync.store.jsjson import dumps
from tests.served import ROOT, Served, mergesync

STORAGES = ["sqlite:x.db", "json:x"]
ODD = {"a\nb": "\ufeff", "": [1, {"b": None}], "\ud800": 1e21, "__proto__": True}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int | str | None, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int | str | None, str, str]:
        code: int | str | None
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return call


def _store(name: str) -> MergeableStore:
    store = MergeableStore(name)
    store.set_cell("pets", "fido", "species", "dog").set_cell("pets", "felix", "species", "cat")
    store.del_cell("pets", "felix", "species", True)
    store.set_row("odd", "row\n", ODD).set_value("open", None)
    return store


async def _keep(storage: str, **stores: MergeableStore) -> None:
    """Store stores under their names."""
    kind, _, place = storage.partition(":")
    persisters = sqlite_persisters(place) if kind == "sqlite" else json_file_persisters(place)
    for path_id, store in stores.items():
        persister = persisters(path_id)
        await persister.load()
        persister.store.apply_mergeable_changes([*store.get_mergeable_content(), 1])
        await persister.flush()
        await persister.destroy()


@pytest.fixture(params=STORAGES)
def kept(request: pytest.FixtureRequest) -> tuple[str, MergeableStore]:
    """A storage with the paths `shop` and `other`, and the store of the first."""
    store = _store("s1")
    asyncio.run(_keep(request.param, shop=store, other=MergeableStore("s2").set_value("a", 1)))
    return request.param, store


# --- dump and load


def test_dump_is_what_tinybase_reads(kept: tuple[str, MergeableStore], call: Any) -> None:
    """The content with its stamps and hashes, or without them."""
    storage, store = kept
    code, out, err = call("dump", storage, "shop")
    assert (code, err) == (0, "")
    assert json.loads(out) == store.get_mergeable_content()
    code, out, err = call("dump", storage, "shop", "--plain")
    assert (code, json.loads(out)) == (0, list(store.get_content()))


def test_dump_of_everything_is_an_object_by_path(kept: tuple[str, MergeableStore], call: Any) -> None:
    """What load takes, too."""
    storage, store = kept
    out = json.loads(call("dump", storage)[1])
    assert sorted(out) == ["other", "shop"]
    assert out["shop"] == store.get_mergeable_content()


def test_dump_into_a_file(kept: tuple[str, MergeableStore], call: Any) -> None:
    """Written whole, over what was there."""
    storage, store = kept
    Path("out.json").write_text("before")
    assert call("dump", storage, "shop", "-o", "out.json") == (0, "", "")
    assert json.loads(Path("out.json").read_text(encoding="utf-8")) == store.get_mergeable_content()
    code, out, err = call("dump", storage, "shop", "-o", "missing/out.json")
    assert (code, out, err) == (1, "", "mergesync dump: cannot write missing/out.json: No such file or directory\n")


def test_dump_of_an_unknown_path_says_which_are_known(kept: tuple[str, MergeableStore], call: Any) -> None:
    """So that a slip is seen."""
    code, out, err = call("dump", kept[0], "Shop")
    assert (code, out) == (1, "")
    assert err == "mergesync dump: no path Shop is stored here; stored: other, shop\n"


@pytest.mark.parametrize("target", ["sqlite:y.db", "json:y"])
@pytest.mark.parametrize("path", [["shop"], []], ids=["one path", "all paths"])
def test_load_of_a_dump_gives_the_same(
    kept: tuple[str, MergeableStore], target: str, path: list[str], call: Any
) -> None:
    """Bit for bit, from either storage into either."""
    storage, store = kept
    call("dump", storage, *path, "-o", "out.json")
    code, out, err = call("load", target, *path, "-i", "out.json")
    assert (code, err) == (0, "")
    assert "shop: merged\n" in out
    assert json.loads(call("dump", target, "shop")[1]) == store.get_mergeable_content()
    assert call("verify", target)[0] == 0


def test_load_merges(kept: tuple[str, MergeableStore], call: Any) -> None:
    """The newest stamp wins; nothing is deleted for being missing."""
    storage, store = kept
    newer = MergeableStore("s3").set_cell("pets", "fido", "species", "wolf")
    Path("in.json").write_text(dumps(newer.get_mergeable_content()))
    assert call("load", storage, "shop", "-i", "in.json") == (0, "shop: merged\n", "")
    found = MergeableStore("s4").apply_mergeable_changes([*json.loads(call("dump", storage, "shop")[1]), 1])
    assert found.get_content() == store.merge(newer).get_content()
    assert found.get_cell("pets", "fido", "species") == "wolf"


@pytest.mark.parametrize(
    "text",
    [
        '[{"pets":{"rex":{"species":"dog"}}},{"a":1}]',
        '[[{"pets":[{"rex":[{"species":["dog","Nn1JUF-----7JQY8"]}]}]}],[{"a":[1,"Nn1JUF-----7JQY8"]}],1]',
    ],
    ids=["plain", "changes"],
)
def test_load_takes_other_forms(kept: tuple[str, MergeableStore], text: str, call: Any) -> None:
    """Plain content is written as if now, changes are merged; both leave the rest."""
    storage, _ = kept
    Path("in.json").write_text(text)
    assert call("load", storage, "shop", "-i", "in.json")[0] == 0
    tables, values = json.loads(call("dump", storage, "shop", "--plain")[1])
    assert tables["pets"] == {"fido": {"species": "dog"}, "rex": {"species": "dog"}}
    assert values == {"open": None, "a": 1}


def test_load_reads_stdin() -> None:
    """Without -i."""
    done = mergesync("load", "sqlite:x.db", "shop", text='[{},{"a":1}]', folder=Path.cwd())
    assert (done.returncode, done.stdout, done.stderr) == (0, "shop: merged\n", "")


@pytest.mark.parametrize(
    ("text", "path", "message", "code"),
    [
        ("nonsense", ["shop"], "the input is not JSON", 1),
        ("3", ["shop"], "the input is neither content nor an object", 1),
        ("[]", ["shop"], "neither mergeable content, nor changes, nor [tables, values]", 1),
        ('[{"t":3},{}]', ["shop"], "shop: not content", 1),
        ('[[{"t":3},"",0],[{},"",0]]', ["shop"], "shop: not content", 1),
        ('[[{},"",0],[{"a":[1,"zzzzzzzzzzzzzzzz",0]},"",0]]', ["shop"], "in the future", 1),
        ("[{},{}]", [], "say into which PATH", 2),
        ('{"a": [{},{}]}', ["shop"], "the input has no path shop", 1),
    ],
)
def test_load_of_nonsense_changes_nothing(text: str, path: list[str], message: str, code: int, call: Any) -> None:
    """Not even a storage is made."""
    Path("in.json").write_text(text)
    found_code, out, err = call("load", "sqlite:x.db", *path, "-i", "in.json")
    assert (found_code, out) == (code, "")
    assert err.startswith("mergesync load: ")
    assert message in err
    assert sorted(os.listdir()) == ["in.json"]


def test_load_of_several_is_all_or_nothing(call: Any) -> None:
    """If one is nonsense, none is merged."""
    Path("in.json").write_text('{"a": [{},{"v":1}], "b": [3,4]}')
    assert call("load", "json:x", "-i", "in.json")[0] == 1
    assert sorted(os.listdir()) == ["in.json"]


def test_load_of_a_missing_file(call: Any) -> None:
    """Said in one line."""
    assert call("load", "json:x", "shop", "-i", "in.json") == (
        1,
        "",
        "mergesync load: cannot read in.json: No such file or directory\n",
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_beside_a_server(storage: str, tmp_path: Path) -> None:
    """Dump and verify read what it has stored; load, which would write, is refused."""
    with Served(tmp_path, "--persist", storage) as served:
        mergesync("set", f"{served.url}/shop", "--value", "a", "1")
        assert mergesync("verify", storage, folder=tmp_path).returncode == 0
        done = mergesync("dump", storage, "shop", "--plain", folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, '[{},{"a":1}]\n')
        done = mergesync("load", storage, "shop", text="[{},{}]", folder=tmp_path)
        assert done.returncode == 1
        assert "in use by another server" in done.stderr
        assert served.stop() == 0


# --- verify


def _state() -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def _verify(call: Any, storage: str) -> tuple[int, str]:
    """Verify; nothing may change by that."""
    before = _state()
    code, out, err = call("verify", storage)
    assert err == ""
    assert _state() == before
    return code, out


def test_verify_of_what_is_in_order(kept: tuple[str, MergeableStore], call: Any) -> None:
    """Each path with its stamps and hashes."""
    storage, store = kept
    hashes = " ".join(map(str, store.get_mergeable_content_hashes()))
    code, out = _verify(call, storage)
    assert code == 0
    assert f"ok  shop  7 stamps, hashes {hashes}\n" in out
    assert out.endswith("2 checked, 0 wrong\n")


def _change(content: Any, *path: Any) -> str:
    """The text of content in which the place at the path is another value."""
    *where, last, value = path
    at = content
    for step in where:
        at = at[step]
    at[last] = value
    return dumps(content)


_CELL = (0, 0, "pets", 0, "fido", 0, "species")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ((*_CELL, 0, "wolf"), "tables pets fido species has the hash"),
        ((*_CELL, 2, 1), "tables pets fido species has the hash 1, which should be "),
        ((*_CELL, 1, "zzzzzzzzzzzzzzzz"), "tables pets fido species has a time stamp in the future: zzzz"),
        ((*_CELL, 1, "nonsense"), "tables pets fido species has a malformed time stamp"),
        ((*_CELL, 0, "\ufffdnonsense"), "tables pets fido species is no cell: "),
        ((*_CELL, 0, "\ufffd1"), "tables pets fido species is no cell: neither an object nor an array"),
        ((*_CELL, ["dog"]), "tables pets fido species is not a stamp"),
        ((0, 0, "pets", 0, "fido", 2, 5), "tables pets fido has the hash 5, which should be "),
        ((0, 0, "pets", 2, True), "tables pets has the hash True, which should be "),
        ((0, 2, 7), "tables has the hash 7, which should be "),
        ((1, 2, 7), "values has the hash 7, which should be "),
        ((0, 0, "pets", 0, 3), "tables pets is not an object"),
        ((0, 0, 3), "tables is not an object"),
        ((1, 3), "values is not a stamp"),
        ((1, 0, "open", 3), "values open is not a stamp"),
        ((0, 0, "\x1b[2J", ["x"]), 'tables "\\u001b[2J" is not a stamp'),
    ],
)
def test_verify_finds_what_is_wrong_in_a_file(change: tuple[Any, ...], problem: str, call: Any) -> None:
    """With its place; the other paths are checked all the same."""
    os.mkdir("x")
    Path("x/good.json").write_text(dumps(_store("s1").get_mergeable_content()), errors="surrogatepass")
    content = MergeableStore("s1").set_cell("pets", "fido", "species", "dog").set_value("open", True)
    Path("x/bad.json").write_text(_change(content.get_mergeable_content(), *change))
    code, out = _verify(call, "json:x")
    assert code == 1
    assert "WRONG  bad" in out
    assert f"    {problem}" in out
    assert "ok  good  7 stamps" in out
    assert out.endswith("2 checked, 1 wrong\n")


@pytest.mark.parametrize("text", ["", "nonsense", "null", "{}", "[1,2]", '[{"t":3},{}]', '[{},{"a":1e400}]'])
def test_verify_finds_files_that_are_not_content(text: str, call: Any) -> None:
    """They are wrong, and stay as they are."""
    os.mkdir("x")
    Path("x/bad.json").write_text(text)
    code, out = _verify(call, "json:x")
    assert code == 1
    assert "WRONG  bad" in out


def test_verify_knows_other_forms(call: Any) -> None:
    """Plain content and changes are in order, and noted."""
    os.mkdir("x")
    Path("x/plain.json").write_text('[{"pets":{"fido":{"species":"dog"}}},{"a":1}]')
    Path("x/changes.json").write_text('[[{}],[{"a":[1,"Nn1JUF-----7JQY8"],"b":[2]}],1]')
    code, out = _verify(call, "json:x")
    assert code == 0
    assert "ok  plain  2 stamps" in out
    assert "note: content without stamps" in out
    assert "ok  changes  2 stamps" in out
    assert "note: changes, rather than content" in out


def test_verify_tells_of_side_files(call: Any) -> None:
    """What waits in them is checked, too."""
    os.mkdir("x")
    Path("x/a.json").write_text('[[{},"",0],[{},"",0]]')
    Path("x/a.json.unsaved").write_text("torn")
    Path("x/a.json.unreadable-0123456789ab").write_text("torn")
    code, out = _verify(call, "json:x")
    assert code == 1
    assert "note: there is a.json.unreadable-0123456789ab" in out
    assert "WRONG  a (unsaved)\n    cannot be read: " in out


def test_verify_lists_at_most_twenty(call: Any) -> None:
    """And says how many more."""
    os.mkdir("x")
    Path("x/a.json").write_text(dumps([[{}, "", 0], [{str(n): [n, "bad", 0] for n in range(30)}, "", 0]]))
    code, out = _verify(call, "json:x")
    assert code == 1
    assert "    and 10 more\n" in out
    assert out.count("malformed time stamp") == 20


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE mergesync_cells SET type = 'nonsense', changed = 99", "cannot be read: "),
        ("UPDATE mergesync_cells SET hlc = 'nonsense', changed = 99 WHERE cell_id = 'species'", "malformed time stamp"),
        (
            "UPDATE mergesync_values SET hlc = 'zzzzzzzzzzzzzzzz', changed = 99",
            "values open has a time stamp in the future",
        ),
        (
            "UPDATE mergesync_cells SET type = 'object', value = '{', changed = 99 WHERE cell_id = 'species'",
            "is no cell",
        ),
        ("UPDATE mergesync_meta SET value = 99 WHERE key = 'format'", "has the format 99"),
        ("DELETE FROM mergesync_meta", "has the format None"),
        ("DROP TABLE mergesync_meta", "is not a database of mergesync"),
    ],
)
def test_verify_finds_what_is_wrong_in_a_database(sql: str, problem: str, call: Any) -> None:
    """With its place."""
    asyncio.run(_keep("sqlite:x.db", shop=_store("s1")))
    _execute(sql)
    code, out = _verify(call, "sqlite:x.db")
    assert code == 1
    assert "WRONG" in out
    assert problem in out


def _execute(sql: str) -> None:
    database = sqlite3.connect("x.db", isolation_level=None)
    database.execute(sql)
    database.close()


def test_verify_notes_edits_with_sql(call: Any) -> None:
    """They are in order."""
    asyncio.run(_keep("sqlite:x.db", shop=_store("s1")))
    _execute("UPDATE mergesync_cells SET value = 'wolf' WHERE row_id = 'fido'")
    code, out = _verify(call, "sqlite:x.db")
    assert code == 0
    assert "note: 1 leaves were edited with SQL" in out


def test_verify_finds_a_damaged_database(call: Any) -> None:
    """By SQLite's own check, or because it cannot be read."""
    asyncio.run(_keep("sqlite:x.db", shop=_store("s1")))
    data = bytearray(Path("x.db").read_bytes())
    data[4096 * 2 : 4096 * 3] = os.urandom(4096)
    Path("x.db").write_bytes(data)
    code, out = _verify(call, "sqlite:x.db")
    assert code == 1
    assert out.startswith("WRONG  (database)")


# --- verify --server


@pytest.mark.parametrize("storage", STORAGES)
def test_verify_of_what_is_served(storage: str, tmp_path: Path, call: Any) -> None:
    """What a client gets is what is stored, while another one goes on writing, too."""
    asyncio.run(_keep(storage, shop=_store("s1")))
    with Served(tmp_path, "--persist", storage) as served:
        code, out, err = call("verify", storage, "--server", f"{served.url}/shop?x")
        assert (code, err) == (0, "")
        assert "ok  shop (served)  7 stamps, hashes " in out
        assert "2 checked, 0 wrong\n" in out
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, f"{served.url}/shop"], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        for _ in range(3):
            assert call("verify", storage, "--server", f"{served.url}/shop")[0] == 0
        writer.kill()
        writer.communicate()
        assert served.stop() == 0


WRITER = """
import asyncio, sys
from mergesync import MergeableStore, create_ws_synchronizer

async def main():
    store = MergeableStore()
    async with create_ws_synchronizer(store, sys.argv[1]):
        print("writing", flush=True)
        for number in range(100_000):
            store.set_cell("t", str(number % 50), "c", number)
            await asyncio.sleep(0.01)

asyncio.run(main())
"""


def test_verify_finds_what_is_not_stored(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its place, on whichever side it is missing or other."""
    monkeypatch.setattr("mergesync.cli.agreement.VERIFY_GRACE_SECONDS", 0.3)
    one, two = (MergeableStore(name, get_now=lambda: 1704067200000) for name in ("one", "two"))
    one.set_cell("pets", "fido", "species", "dog").set_value("open", True).set_value("both", 1)
    content = one.get_mergeable_content()
    two.set_mergeable_content(content).set_cell("pets", "felix", "species", "cat").set_value("open", False)
    asyncio.run(_keep("json:served", shop=one))
    asyncio.run(_keep("json:x", shop=two))
    file = Path("x/shop.json")
    file.write_text(file.read_text().replace('"both":[1,', '"both":[2,'))
    with Served(tmp_path, "--persist", "json:served") as served:
        code, out, err = call("verify", "json:x", "--server", f"{served.url}/shop")
    assert (code, err) == (1, "")
    assert "    tables pets felix species is stored and not served\n" in out
    assert "    values open is stored and not served\n" in out
    assert "    values both is stored and served with different values under one stamp\n" in out
    assert "fido" not in out


def test_verify_of_a_server_that_stores_nothing(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it serves is not where it should be."""
    monkeypatch.setattr("mergesync.cli.agreement.VERIFY_GRACE_SECONDS", 0.3)
    asyncio.run(_keep("sqlite:x.db", other=_store("s1")))
    with Served(tmp_path, "--persist", "json:elsewhere") as served:
        call("set", f"{served.url}/shop", "--value", "v", "1")
        code, out, err = call("verify", "sqlite:x.db", "--server", f"{served.url}/shop")
    assert (code, err) == (1, "")
    assert "WRONG  shop (served)  1 stamps" in out
    assert "    values v is served and not stored\n" in out


def test_verify_of_a_file_that_cannot_be_read(tmp_path: Path, call: Any) -> None:
    """That is wrong as well, whatever the server gives."""
    asyncio.run(_keep("json:x", shop=_store("s1")))
    Path("x/shop.json").write_text("[")
    with Served(tmp_path, "--persist", "none") as served:
        code, out, _ = call("verify", "json:x", "--server", f"{served.url}/shop")
    assert code == 1
    assert "WRONG  shop (served)\n    cannot be read: " in out


def test_verify_of_no_server(call: Any) -> None:
    """Said in one line."""
    asyncio.run(_keep("json:x", shop=_store("s1")))
    code, _, err = call("verify", "json:x", "--server", "ws://127.0.0.1:9/shop")
    assert code == 1
    assert err.startswith("mergesync verify: cannot connect")
    assert err.count("\n") == 1
