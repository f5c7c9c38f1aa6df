"""Makes the pages of `docs/` that say what the code says: `python -m tests.docs.generate` (`make docs`) writes them.

`test_generated.py` fails when one of them is out of date.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import mergesync
import mergesync.gateways
import mergesync.persist
from mergesync import exceptions
from mergesync.cli.parser import make_parser

__all__ = ["PAGES", "ROOT", "main"]

ROOT = Path(__file__).parents[2]
_WIDTH = "100"
_MARK = "## Modules\n"


# --- docs/command-line.md


def command_line() -> str:
    """Every command's help."""
    parser = make_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    with mock.patch.dict(os.environ, {"COLUMNS": _WIDTH}):
        helps = [("mergesync", parser.format_help())]
        helps += [(f"mergesync {name}", command.format_help()) for name, command in commands.choices.items()]
    head = (
        "# The command line\n\n"
        "`python -m mergesync` is the same as `mergesync`. Exit codes: 0; 1 for a failure; 2 for what cannot be asked\n"
        "for. This page is made from `--help` (`make docs`).\n"
    )
    return head + "".join(f"\n## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in helps)


# --- docs/errors.md


def errors() -> str:
    """Every exception."""
    lines = [
        "# Errors",
        "",
        "All are a `MergesyncError`. Local misuse raises at the call. A peer's mistake never raises into the",
        "application: it reaches `on_ignored_error`, as does what fails while nobody waits for it; without one, the",
        "logger `mergesync`. This page is made from `mergesync.exceptions` (`make docs`).",
        "",
        "| error, code, base | cause | remedy | in TinyBase |",
        "|---|---|---|---|",
    ]
    for name in _by_tree(exceptions.MergesyncError):
        error = getattr(exceptions, name)
        bases = ", ".join(base.__name__ for base in error.__bases__)
        cause, numbers = _cause(error)
        lines.append(f"| `{name}`<br>`{error.code}`<br>{bases} | {cause} | {error.remedy} | {numbers} |")
    return "\n".join(lines) + "\n"


def _by_tree(error: type[Exception]) -> Iterator[str]:
    yield error.__name__
    children = [child for child in error.__subclasses__() if child.__module__ == exceptions.__name__]
    for child in children:
        yield from _by_tree(child)


def _cause(error: type[Exception]) -> tuple[str, str]:
    """The first paragraph of the docstring, and TinyBase's number, which stands there in parentheses."""
    paragraph = (inspect.getdoc(error) or "").partition("\n\n")[0].replace("\n", " ")
    number = re.search(r" \((?:TinyBase: )?(tinybase:[^)]*)\)", paragraph)
    if number is None:
        return _cell(paragraph), ""
    return _cell(paragraph.replace(number[0], "")), f"`{number[1]}`"


# --- docs/reference.md


def reference() -> str:
    """Every public name."""
    lines = [
        "# Reference",
        "",
        "Every public name, from the docstrings, which say more: `help(mergesync.MergeableStore)`. The methods of",
        "stores are TinyBase's in snake_case, with arguments in the same order. This page is made from the code",
        "(`make docs`).",
    ]
    for package in (mergesync, mergesync.persist, mergesync.gateways):
        lines += ["", f"## `{package.__name__}`", "", "| name | |", "|---|---|"]
        classes = []
        for name in package.__all__:
            thing = getattr(package, name)
            lines.append(f"| `{name}` | {_cell(_summary(package, name, thing))} |")
            if inspect.isclass(thing) and not issubclass(thing, Exception):
                classes.append(thing)
        for class_ in classes:
            lines += _methods_section(class_, [base for base in classes if base in class_.__mro__[1:]])
    return "\n".join(lines) + "\n"


def _methods_section(class_: type, shown_bases: list[type]) -> list[str]:
    """The methods of a class, but for those that stand under a base of it already."""
    methods = [
        f"| `{signature}` | {_cell(summary)} |"
        for name, signature, summary in _methods(class_)
        if not any(hasattr(base, name) for base in shown_bases)
    ]
    words = f" (also those of {', '.join(f'`{base.__name__}`' for base in shown_bases)})" if shown_bases else ""
    return ["", f"### `{class_.__name__}`{words}", "", "| | |", "|---|---|", *methods] if methods else []


def _methods(class_: type) -> Iterator[tuple[str, str, str]]:
    for name in dir(class_):
        member = inspect.getattr_static(class_, name)
        doc = (inspect.getdoc(member) or "").partition("\n")[0]
        if name.startswith("_") or getattr(object, name, None) is member or not _is_ours(class_, name):
            continue
        if isinstance(member, property):
            yield name, name, doc
        elif inspect.isfunction(member):
            yield name, f"{name}({_parameters(member)})", doc


def _is_ours(class_: type, name: str) -> bool:
    return any(name in vars(base) and base.__module__.startswith("mergesync") for base in class_.__mro__)


def _parameters(function: Callable[..., Any]) -> str:
    shown: list[str] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        if parameter.kind is parameter.KEYWORD_ONLY and not any(each.startswith("*") for each in shown):
            shown.append("*")
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        shown.append(f"{stars}{parameter.name}{default}")
    return ", ".join(shown)


def _summary(package: ModuleType, name: str, thing: Any) -> str:
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return (inspect.getdoc(thing) or "").partition("\n")[0]
    return _documented_assignments(package).get(name, "")


def _documented_assignments(package: ModuleType) -> dict[str, str]:
    """The strings below assignments, from the modules of a package."""
    found: dict[str, str] = {}
    for module in modules(package):
        body = ast.parse(inspect.getsource(module)).body
        for statement, after in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if is_doc:
                    found.setdefault(statement.target.id, str(after.value.value).partition("\n")[0])  # type: ignore[attr-defined]
    return found


# --- docs/architecture.md


def architecture() -> str:
    """The page as written by hand, and what each module says of itself."""
    by_hand = (ROOT / "docs" / "architecture.md").read_text().partition(_MARK)[0]
    lines = [f"{by_hand}{_MARK}", "Each module's first words (`make docs`).", "", "| module | |", "|---|---|"]
    for module in modules(mergesync):
        lines += [f"| `{module.__name__}` | {_cell((inspect.getdoc(module) or '').partition(chr(10))[0])} |"]
    return "\n".join(lines) + "\n"


def modules(package: ModuleType) -> list[ModuleType]:
    """A package and all that is in it, but not what runs when it is imported."""
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [package, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {
    "docs/architecture.md": architecture,
    "docs/command-line.md": command_line,
    "docs/errors.md": errors,
    "docs/reference.md": reference,
}
"""What makes which page."""


def main() -> None:
    """Write all pages."""
    for name, make in PAGES.items():
        (ROOT / name).write_text(make())


if __name__ == "__main__":
    main()
