"""What end-to-end tests need."""

from __future__ import annotations

from tests.conformance.conftest import node_installed

__all__ = ["node_installed"]
