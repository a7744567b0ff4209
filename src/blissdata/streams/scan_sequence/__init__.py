"""The plugin `scan_sequence`: a stream whose points are other scans."""

from __future__ import annotations

from blissdata.streams.scan_sequence.progress import SequenceProgress
from blissdata.streams.scan_sequence.stream import MissingScan, ScanStream, ScanView, parent_of

__all__ = [
    "MissingScan",
    "ScanStream",
    "ScanView",
    "SequenceProgress",
    "parent_of",
    "stream_cls",
    "view_cls",
]

stream_cls = ScanStream
view_cls = ScanView
