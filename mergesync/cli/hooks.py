"""`mergesync serve --hooks FILE`: what an application decides about clients, from a Python file."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from mergesync.cli.common import CliError, printable
from mergesync.net.server import WsServer

__all__ = ["HOOKS", "HooksFile"]

HOOKS: Final = (
    "authorize", "admit", "rules", "on_changes", "on_presence", "on_join", "on_leave", "self_destruct",
)  # fmt: skip
"""Arguments of `create_ws_server` that a file may give, by these names."""

_SETUP: Final = "setup"


class HooksFile:
    """A file with hooks, run.

    Args:
        file: Python; it may import what is beside it.

    Attributes:
        hooks: what it gives `create_ws_server`, by name.

    Raises:
        CliError: it cannot be run, or gives nothing.
    """

    def __init__(self, file: str) -> None:
        module = _run(file)
        self.hooks: dict[str, Any] = {name: getattr(module, name) for name in HOOKS if hasattr(module, name)}
        self._setup = getattr(module, _SETUP, None)
        if not self.hooks and self._setup is None:
            raise CliError(f"{printable(file)} has none of {', '.join(HOOKS)}, {_SETUP}")

    async def set_up(self, server: WsServer) -> None:
        """Let it make paths and actions, before anybody comes."""
        if self._setup is not None:
            result = self._setup(server)
            if inspect.isawaitable(result):
                await result


def _run(file: str) -> ModuleType:
    path = Path(file).resolve()
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise CliError(f"{printable(file)} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.parent))
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise CliError(f"cannot run {printable(file)}: {printable(f'{type(error).__name__}: {error}')}") from error
    return module
