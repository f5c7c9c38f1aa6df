"""TinyBase on Node, as the conformance tests have it."""

from tests.conformance.conftest import node_installed, pytest_collection_modifyitems

__all__ = ["node_installed", "pytest_collection_modifyitems"]
