"""An old path: the names are in `blissdata.streams.event_stream`."""

from __future__ import annotations

from blissdata.old_paths import moved
from blissdata.streams.event_stream import EventStream

__all__ = ["EventStream"]

moved(__name__, "blissdata.streams.event_stream")
