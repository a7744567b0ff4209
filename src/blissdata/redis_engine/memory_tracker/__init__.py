"""The memory tracker: forgets the oldest points when a server fills up, and ends dead scans.

Runs as the script `memory_tracker`, as `blissdata track`, and beside the local server.
"""

from __future__ import annotations

from blissdata.redis_engine.memory_tracker.program import main
from blissdata.redis_engine.memory_tracker.tracker import MemoryTracker, NoFreeableMemoryError

__all__ = ["MemoryTracker", "NoFreeableMemoryError", "main"]
