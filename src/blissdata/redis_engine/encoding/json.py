"""An old path: the names are in `blissdata.streams.encoding.json`."""

from __future__ import annotations

from blissdata.old_paths import moved
from blissdata.streams.encoding.json import JsonStreamEncoder

__all__ = ["JsonStreamEncoder"]

moved(__name__, "blissdata.streams.encoding.json")
