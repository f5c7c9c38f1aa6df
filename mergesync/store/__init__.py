"""The replicated data: pure, synchronous, and of one thread."""

from mergesync.store.hlc import HybridLogicalClock
from mergesync.store.mergeable import MergeableStore

__all__ = ["HybridLogicalClock", "MergeableStore"]
