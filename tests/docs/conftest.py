"""What tests of the documentation need."""

from __future__ import annotations

from tests.conformance.conftest import idle_processes, node_installed, node_version

__all__ = ["idle_processes", "node_installed", "node_version"]
