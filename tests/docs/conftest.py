"""What tests of the documentation need."""

from __future__ import annotations

from tests.conformance.conftest import node_installed, node_version

__all__ = ["node_installed", "node_version"]
