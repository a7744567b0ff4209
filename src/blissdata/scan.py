"""An old path: the names are in `blissdata`."""

from __future__ import annotations

from blissdata.old_paths import moved
from blissdata.redis_engine.scan import Scan

__all__ = ["Scan"]

moved(__name__, "blissdata")
