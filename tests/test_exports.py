"""What is public: sorted, there, documented, and the whole of it."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import mergesync
import mergesync.gateways
import mergesync.persist
import mergesync.store
from tests.docs.generate import modules

_MODULES = modules(mergesync)
_PACKAGES = [mergesync, mergesync.gateways, mergesync.persist]


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_all_is_sorted_and_true(module: ModuleType) -> None:
    """Each name of `__all__` is there, once."""
    names = getattr(module, "__all__", [])
    assert names == sorted(names, key=_sort_key)
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_all_is_the_whole(module: ModuleType) -> None:
    """A class or function that a module defines under a public name is in its `__all__`."""
    defined = {
        name
        for name, thing in vars(module).items()
        if (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert defined - set(getattr(module, "__all__", [])) == set()


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_everything_public_is_documented(module: ModuleType) -> None:
    """Modules, classes, functions and methods."""
    assert inspect.getdoc(module) or module.__name__ == "mergesync.__main__"
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__name__ == name:
            assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and thing.__module__.startswith("mergesync"):
            methods = [method for key, method in vars(thing).items() if not key.startswith("_")]
            assert [m for m in methods if inspect.isfunction(m) and not inspect.getdoc(m)] == []


def test_every_error_can_be_imported_from_the_top() -> None:
    """Nobody should have to look for what to catch."""
    errors = set(mergesync.exceptions.__all__)
    assert errors <= set(mergesync.__all__)


@pytest.mark.parametrize("package", _PACKAGES, ids=lambda package: package.__name__)
def test_what_public_packages_offer_is_not_private(package: ModuleType) -> None:
    """Names of packages come from modules that name them in their own `__all__`."""
    for name in package.__all__:
        thing = getattr(package, name)
        home = inspect.getmodule(thing) if inspect.isclass(thing) or inspect.isfunction(thing) else None
        if home is not None and home.__name__.startswith("mergesync"):
            assert name in home.__all__, name
