"""The command `mergesync`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mergesync.cli.common import FAILED, OK, CliError, run
from mergesync.cli.parser import make_parser

__all__ = ["main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those after the program's name; None for the ones it was called with.

    Returns:
        The exit code: 0, 1 for a failure, 2 for what cannot be asked for.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = make_parser().parse_args(arguments)
    try:
        code = run(options.command(options))
        sys.stdout.flush()
    except CliError as error:
        print(f"mergesync {options.name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        return FAILED
    except KeyboardInterrupt:
        return OK if options.name == "watch" else _INTERRUPTED
    return code
