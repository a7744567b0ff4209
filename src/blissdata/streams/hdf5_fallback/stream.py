"""A stream that is also in a file: points in memory come from the server, older ones from the file.

index      0   1   2   3   4   5   6   7
file       ■   ■   ■   ■   ■   ■             written behind the acquisition
server                 ■   ■   ■   ■   ■     trimmed from the left
reader     └── file ──┘└──── server ─────┘   one array
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import DTypeLike

from blissdata.data_roots import DataRoots
from blissdata.exceptions import IndexNoMoreThereError
from blissdata.streams.availability import NOTHING, Availability, EventBounds, Holding, Place
from blissdata.streams.base import StreamDefinition
from blissdata.streams.copies import read_both
from blissdata.streams.default import Stream, View
from blissdata.streams.event_stream import EventStream
from blissdata.streams.hdf5_fallback.source import FileSource, default_timeout
from blissdata.streams.views import EventRange

__all__ = ["Hdf5BackedStream", "Hdf5BackedView"]

PLUGIN = "hdf5_fallback"


class Hdf5BackedView(View):
    """Points of a file-backed stream; those that had left the server are read from the file when
    they are asked for."""

    def __init__(self, events: EventRange, read_file: Callable[[int, int], Any]) -> None:
        """`read_file(start, stop)` gives points by their index in the stream; it raises
        `PointsNotInFileError` (an `IndexNoMoreThereError`) for those that are not in the file either."""
        super().__init__(events, read_file)


class Hdf5BackedStream(Stream):
    """Numbers that are also saved to an HDF5 file. Reading is that of a plain stream; points that
    have left the server come from the file.

    `file_path` is where the file is, if not where the stream's info says. Files are opened only
    below `roots` (default: `$BLISSDATA_DATA_ROOTS`, else the directory of the scan's own file; see
    `blissdata.data_roots`); links inside them as well.
    """

    def __init__(
        self,
        event_stream: EventStream,
        file_path: str | os.PathLike[str] | None = None,
        *,
        roots: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(event_stream)
        info = event_stream.info
        path = file_path or info.get("file_path") or event_stream.scan_path
        data_path = info.get("data_path")
        self._roots = None if roots is None else DataRoots.choose(roots)
        self._source: FileSource | None = None
        if isinstance(path, str | os.PathLike) and isinstance(data_path, str):
            self._source = FileSource(
                event_stream.what,
                os.fspath(path),
                data_path,
                event_stream.dtype,
                event_stream.shape,
                self._allowed,
            )
        self.file_timeout: float | None = default_timeout()
        """How long a read waits for points that are not in the file yet [s]; 0 does not wait, None
        waits for ever. Set from `$BLISSDATA_FILE_TIMEOUT`, else 0."""

    @staticmethod
    def make_definition(  # type: ignore[override] # another kind of stream, other arguments
        name: str,
        file_path: str | os.PathLike[str],
        data_path: str,
        dtype: DTypeLike,
        shape: Sequence[int] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> StreamDefinition:
        """What to give `scan.create_stream`: point *i* of the stream is, or will be, `[i]` of the
        dataset `data_path` in the file `file_path`. `dtype` and `shape` are those of one point.

        Raises `ValueError` for a dtype that a file-backed stream cannot have."""
        if isinstance(dtype, str) and dtype == "json":
            raise ValueError(f"Stream '{name}': JSON points cannot be read back from an HDF5 file")
        where = {"file_path": os.fspath(file_path), "data_path": data_path}
        described = {**(info or {}), **where, "save": True, "plugin": PLUGIN}
        return Stream.make_definition(name, dtype, shape, described)

    @property
    def plugin(self) -> str:
        return PLUGIN

    def _allowed(self) -> DataRoots:
        return self._roots or DataRoots.choose(None, self.event_stream.scan_path)

    def _read_file(self, start: int, stop: int) -> Any:
        if self._source is None:
            raise IndexNoMoreThereError(
                f"{self.event_stream.what}: points {start} to {stop - 1} left the server's memory, and "
                "its info names no file and dataset to read them from (file_path, data_path)"
            )
        return self._source.read(start, stop, self.file_timeout)

    def _availability(self, events: EventBounds) -> Availability:
        """In memory, in the file, or both."""
        if self._source is None:
            in_file = Holding(Place.FILE, NOTHING, why="the stream's info names none")
        else:
            in_file = self._source.holding(events)
        places = (events.in_memory(), in_file)
        return Availability(self.name, self.key, events.length, events.sealed, places)

    def __getitem__(self, key: int | slice) -> Any:
        """A point, or the points of a slice in an array whose first axis counts them. Waits for the
        file only, as long as `file_timeout` says.

        Raises as a plain stream does; `PointsNotInFileError` (an `IndexNoMoreThereError`) if a
        point is neither on the server nor in the file."""
        return read_both(self.event_stream, key, self._read_file)

    def _build_view_from_events(
        self, index: int, events: EventRange, last_only: bool
    ) -> Hdf5BackedView:
        return Hdf5BackedView(events, self._read_file)
