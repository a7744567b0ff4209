"""The memory tracker: forgets the oldest points when a server fills up, and ends dead scans.

Runs as the script `memory_tracker`, as `blissdata track`, and beside the local server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blissdata.redis_engine.memory_tracker.program import main
    from blissdata.redis_engine.memory_tracker.tracker import MemoryTracker, NoFreeableMemoryError

__all__ = ["MemoryTracker", "NoFreeableMemoryError", "main"]

_HOMES = {"MemoryTracker": "tracker", "NoFreeableMemoryError": "tracker", "main": "program"}


def __getattr__(name: str) -> Any:
    """Loaded when it is used: the command line asks for the options alone."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
