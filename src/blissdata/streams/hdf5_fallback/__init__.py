"""The plugin `hdf5_fallback`: numbers that are also saved to an HDF5 file, and read from there once
they have left the server."""

from __future__ import annotations

from blissdata.streams.hdf5_fallback.stream import Hdf5BackedStream, Hdf5BackedView

__all__ = ["Hdf5BackedStream", "Hdf5BackedView", "stream_cls", "view_cls"]

stream_cls = Hdf5BackedStream
view_cls = Hdf5BackedView
