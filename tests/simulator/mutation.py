"""Planting a bug: one function of mergesync, compiled anew with one piece of its source replaced, in memory only."""

from __future__ import annotations
import __future__

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from .running import run_schedule
from .schedule import Outcome

__all__ = ["Mutant", "find", "planted"]


@dataclass(frozen=True)
class Mutant:
    """A bug.

    Attributes:
        name: what goes wrong.
        where: `module:function` or `module:Class.method`, the module without `mergesync.`.
        old: a piece of its source; it must be there exactly once.
        new: what stands there instead.
    """

    name: str
    where: str
    old: str
    new: str


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Mergesync with a bug."""
    module_name, _, path = mutant.where.partition(":")
    module = importlib.import_module(f"mergesync.{module_name}")
    *owners, name = path.split(".")
    owner: Any = module
    for part in owners:
        owner = getattr(owner, part)
    original = inspect.getattr_static(owner, name)
    changed = _compiled(mutant, original, name, module)
    holders = [owner] if owners else [other for other in _modules() if vars(other).get(name) is original]
    with ExitStack() as patches:
        for holder in holders:
            patches.enter_context(mock.patch.object(holder, name, changed))
        yield


def _modules() -> list[Any]:
    return [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "mergesync"]


def _compiled(mutant: Mutant, original: Any, name: str, module: Any) -> Any:
    source = textwrap.dedent(inspect.getsource(original))
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} is {source.count(mutant.old)} times in {mutant.where}")
    flags = __future__.annotations.compiler_flag
    code = compile(source.replace(mutant.old, mutant.new), f"<{mutant.name}>", "exec", flags, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, vars(module), made)
    return made[name]


def find(mutant: Mutant, seeds: Iterable[int]) -> Outcome | None:
    """The first schedule that finds a mutant, or None."""
    with planted(mutant):
        for seed in seeds:
            outcome = run_schedule(seed)
            if outcome.failures:
                return outcome
    return None
