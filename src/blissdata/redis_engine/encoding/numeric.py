"""An old path: the names are in `blissdata.streams.encoding.numeric`."""

from __future__ import annotations

from blissdata.old_paths import moved
from blissdata.streams.encoding.numeric import NumericStreamEncoder

__all__ = ["NumericStreamEncoder"]

moved(__name__, "blissdata.streams.encoding.numeric")
