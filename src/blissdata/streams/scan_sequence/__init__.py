"""The plugin `scan_sequence`: a stream whose points are other scans."""

from __future__ import annotations

from blissdata.streams.scan_sequence.stream import MissingScan, ScanStream, ScanView

__all__ = ["MissingScan", "ScanStream", "ScanView", "stream_cls", "view_cls"]

stream_cls = ScanStream
view_cls = ScanView
