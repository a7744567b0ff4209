"""The plugin `lima`: frames of a Lima detector, whose events only tell how many there are."""

from __future__ import annotations

from blissdata.streams.lima.stream import LimaStream, LimaView

__all__ = ["LimaStream", "LimaView", "stream_cls", "view_cls"]

stream_cls = LimaStream
view_cls = LimaView
