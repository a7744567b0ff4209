"""Publish acquisition data once; follow it live or read it again, from anywhere, at any speed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blissdata.redis_engine.scan import Scan, ScanState
    from blissdata.redis_engine.store import DataStore

__all__ = ["DataStore", "Scan", "ScanState", "__version__"]

__version__ = "2.4.100"

_HOMES = {
    "DataStore": "blissdata.redis_engine.store",
    "Scan": "blissdata.redis_engine.scan",
    "ScanState": "blissdata.redis_engine.scan",
}


def __getattr__(name: str) -> Any:
    """Loads the public names on first use, so that `blissdata.exceptions` alone stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
