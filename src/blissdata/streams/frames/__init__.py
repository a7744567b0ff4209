"""The plugin `frames`: a detector's frames in shared memory, in files, or through its frame server; its
events tell only how many there are.

A detector's program embeds a `FrameBuffer`; readers know `scan.streams["camera"]`.
"""

from __future__ import annotations

from blissdata.streams.frames.buffer import FrameBuffer, Saving
from blissdata.streams.frames.stream import FramesStream, FramesView

__all__ = ["FrameBuffer", "FramesStream", "FramesView", "Saving", "stream_cls", "view_cls"]

stream_cls = FramesStream
view_cls = FramesView
