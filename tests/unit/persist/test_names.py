"""File names for path ids: readable, injective, inside the folder."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergesync.persist.names import file_name, is_cut, path_id_of

any_text = st.text(st.characters(categories=None), max_size=40) | st.text("aA.%/\\~-\0 é\ud800", max_size=12)


@pytest.mark.parametrize(
    ("path_id", "name"),
    [
        ("petShop", "petShop.json"),
        ("team-a", "team-a.json"),
        ("team/a", "team%2Fa.json"),
        ("team%2Fa", "team%252Fa.json"),
        ("a b", "a%20b.json"),
        ("v1.2", "v1.2.json"),
        ("a.json", "a.json.json"),
        ("café", "caf%C3%A9.json"),
        ("", "%.json"),
        ("%", "%25.json"),
        (".", "%2E.json"),
        ("..", "%2E..json"),
        (".hidden", "%2Ehidden.json"),
        ("../up", "%2E.%2Fup.json"),
        ("\\", "%5C.json"),
        ("\0", "%00.json"),
        ("con", "%63on.json"),
        ("NUL", "%4EUL.json"),
        ("com1.txt", "%63om1.txt.json"),
        ("console", "console.json"),
        ("\ud800", "%ED%A0%80.json"),
    ],
)
def test_names(path_id: str, name: str) -> None:
    """Ordinary ids are readable, odd ones are harmless."""
    assert file_name(path_id) == name
    assert path_id_of(name) == path_id


def test_capitals() -> None:
    """Where the folder takes capitals for small letters, they are escaped."""
    assert file_name("petShop", fold_case=True) == "pet%53hop.json"
    assert path_id_of("pet%53hop.json", fold_case=True) == "petShop"
    assert path_id_of("pet%53hop.json") is None


def test_long_ids() -> None:
    """A long id is cut, and ids that differ only after the cut have different names."""
    names = {file_name("é" * 500 + str(number)) for number in range(100)}
    assert len(names) == 100
    assert all(is_cut(name) and len(name) < 200 for name in names)
    assert not is_cut(file_name("a" * 180))
    assert is_cut(file_name("a" * 181))


@pytest.mark.parametrize(
    "name",
    ["a", "notes.txt", "a b.json", "%zz.json", "%2f.json", "%41.json", ".json", "con.json", "☃.json", "%FF.json"],
)
def test_foreign_names(name: str) -> None:
    """What this module would not write is not taken for a path."""
    assert path_id_of(name) is None


@given(any_text, st.booleans())
def test_names_come_back(path_id: str, fold_case: bool) -> None:
    """A name says its id, and is a plain name of ASCII characters."""
    name = file_name(path_id, fold_case=fold_case)
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>|\0 ')
    assert name[0] != "."
    assert Path(name).name == name
    assert is_cut(name) or path_id_of(name, fold_case=fold_case) == path_id


def test_no_collisions() -> None:
    """Thousands of random ids have as many names, also where capitals are folded."""
    source = random.Random(1)
    alphabet = "aAbB.%/~é\ud800\udc00\0- "
    path_ids = {"".join(source.choices(alphabet, k=source.choice([1, 3, 6, 12, 300]))) for _ in range(8_000)}
    assert len({file_name(path_id) for path_id in path_ids}) == len(path_ids)
    assert len({file_name(path_id, fold_case=True).casefold() for path_id in path_ids}) == len(path_ids)
