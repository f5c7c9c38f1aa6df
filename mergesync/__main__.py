"""`python -m mergesync` is the command `mergesync`."""

from __future__ import annotations

import sys

from mergesync.cli import main

if __name__ == "__main__":
    sys.exit(main())
