"""What is behind a dataset of a live file: a value, a stream, raw files, or parts of other datasets.

    read(index, patience)   what h5py would give for that index, once the points that it takes are there
    follow(patience)        the points one by one, as they come

Only the points that an index takes are read. Which index waits for what is `selection.Index.needed`:
`d[a:b]` for these points or the end, `d[-1]` and `d[a:]` for the end, `d[()]` for nothing.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from blissdata.exceptions import (
    DataTimeoutError,
    EndOfStream,
    IndexNoMoreThereError,
    IndexNotYetThereError,
    IndexWontBeThereError,
    PayloadError,
    PointsNotInFileError,
    StreamAbandonedError,
    StreamVanishedError,
)
from blissdata.h5api.selection import Index, Selection, parse
from blissdata.streams.deadline import Deadline
from blissdata.streams.default import Stream
from blissdata.streams.entries import MAX_INDEX, no_more_there
from blissdata.streams.event_log import SpanRequest
from blissdata.streams.event_stream import WAIT_SLICE_S, AbandonWatch

if TYPE_CHECKING:
    from blissdata.streams import BaseStream, BaseView

__all__ = [
    "FixedArray",
    "LeftServer",
    "LiveArray",
    "Patience",
    "RowsArray",
    "StreamArray",
    "Written",
    "gathered",
    "lengths",
    "text_of_point",
]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

CHUNK_NBYTES = 2**20
"""What programs that read in chunks (dask) are told to read at once [bytes]."""

GAP_NBYTES = 2**16
"""Points in between of this size are read along rather than asked for around [bytes]."""

FOLLOWED_NBYTES = 2**24
"""How much of a dataset of known length is read at once while its points are given one by one
[bytes]."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a reader is ready to wait."""

    wait: bool = True
    """False: not at all; what is there is the answer."""

    timeout: float | None = None
    """For so long at a time [s]; None: for ever."""

    def deadline(self) -> Deadline:
        """When a wait that begins now must end."""
        return Deadline(self.timeout if self.wait else 0)


class LiveArray(ABC):
    """An array whose first axis may still grow."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """dtype of its elements; text is of dtype object, as in h5py."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Its shape now. One round trip for one that grows."""

    @property
    def ndim(self) -> int:
        """How many axes it has. No round trip."""
        return len(self.shape)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """How long each axis may become. No round trip."""
        return self.shape

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """What is best read at once; None: all of it. No round trip."""
        return None

    @property
    def compression(self) -> tuple[str | None, Any]:
        """The filter that compresses it, and what that was told."""
        return None, None

    @property
    def is_null(self) -> bool:
        """True if it has a type and no value, and so no shape either."""
        return False

    @property
    def is_virtual(self) -> bool:
        """True if it is composed of parts of other datasets."""
        return False

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        """Where the bytes are, if they are in raw files: `(file, offset, size)` [bytes]."""
        return None

    def stored(self, what: str) -> Any:
        """What HDF5 knows of a dataset that is in a file: h5py's `fillvalue`, `shuffle`, …"""
        raise AttributeError(f"{what}: it is in no HDF5 file")

    @abstractmethod
    def read(self, index: Any, patience: Patience) -> Any:
        """What the index selects, once that is there."""

    @abstractmethod
    def follow(self, patience: Patience, start: int = 0) -> Iterator[Any]:
        """The points from `start` on, one by one, as they come, until the end or until the time is
        up."""


class LeftServer(Exception):  # noqa: N818 — no error, unless there is no file either
    """The scan of a stream has left the server: what there is to say of the stream, its file says.
    `__cause__` is the error without such a file, if there is one."""


class Written(Protocol):
    """Where a stream is written to, for when it has left the server."""

    def points(self, start: int, stop: int) -> Any:
        """Points `start` to `stop` (exclusive) from the file: an array, or a list of arrays where
        their shapes vary. Never waits. Raises `PointsNotInFileError`."""
        ...

    def scan_left(self) -> bool:
        """True if the scan is not on the server any more. One round trip."""
        ...


class FixedArray(LiveArray):
    """A value that the layout itself holds."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    def read(self, index: Any, patience: Patience) -> Any:
        selected = parse(index, self._array.ndim, self.dtype).resolve(self.shape)
        block = self._array[_numpy_points(selected.points)] if self._array.ndim else self._array
        return selected.apply(block.copy())

    def follow(self, patience: Patience, start: int = 0) -> Iterator[Any]:
        return iter(self._array[start:].copy())


class RowsArray(LiveArray):
    """An array of known shape that something else gives row by row: files, or other datasets.

    `rows(start, stop, patience)` gives rows along the first axis, `stop` exclusive."""

    def __init__(
        self,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        rows: Callable[[int, int, Patience], Array],
    ) -> None:
        self._dtype = dtype
        self._shape = shape
        self._rows = rows

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return _chunks(self._shape[1:], self._dtype) if self._shape else None

    def read(self, index: Any, patience: Patience) -> Any:
        selected = parse(index, len(self._shape), self._dtype).resolve(self._shape)
        if not self._shape:
            return selected.apply(self._rows(0, 1, patience).reshape(()))
        row = prod(self._shape[1:]) * self._dtype.itemsize
        empty = np.empty((0, *self._shape[1:]), self._dtype)
        return selected.apply(
            gathered(selected, lambda a, b: self._rows(a, b, patience), row, empty)
        )

    def follow(self, patience: Patience, start: int = 0) -> Iterator[Any]:
        row = max(prod(self._shape[1:]) * self._dtype.itemsize, 1)
        step = max(FOLLOWED_NBYTES // row, 1)
        for first in range(start, self._shape[0], step):
            yield from self._rows(first, min(first + step, self._shape[0]), patience)


class StreamArray(LiveArray):
    """The points of a stream. `length` freezes it: points behind are as if they were not there.

    Points that have left the server come from the file that is `written`. Once the scan itself has
    left, what needs its length raises `LeftServer`."""

    def __init__(
        self,
        stream: BaseStream,
        what: str,
        length: int | None = None,
        written: Written | None = None,
    ) -> None:
        # What has left the server is read from the live file's own one, below its roots.
        plain = type(stream) is Stream
        self._stream = Stream(stream.event_stream, copies=False) if plain else stream
        self._what = what
        self._frozen = length
        self._written = written
        self._extent = _Extent(self._stream, written)
        self._is_text = stream.dtype == object
        self._dtype = _text_dtype() if self._is_text else stream.dtype
        self._point = () if self._is_text else tuple(stream.shape)
        self._varies = any(n < 0 for n in self._point)
        self._simple = not (self._is_text or self._varies)
        self._most = MAX_INDEX if length is None else length

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._length(), *self._point)

    @property
    def ndim(self) -> int:
        return 1 + len(self._point)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        return (self._frozen, *(None if n < 0 else n for n in self._point))

    @property
    def chunks(self) -> tuple[int, ...] | None:
        return None if self._varies else _chunks(self._point, self._dtype)

    def read(self, index: Any, patience: Patience) -> Any:
        if self._simple:
            at_once = self._read_at_once(index)
            if at_once is not None:
                return at_once
        parsed = parse(index, self.ndim, self._dtype)
        length = self._wait_for(parsed, patience)
        return self._read_varying(parsed, length) if self._varies else self._read(parsed, length)

    def _read_at_once(self, index: Any) -> Any:
        """What the stream itself gives for a plain index: one round trip, if all of it is there.
        None if it is not, or for another index."""
        try:
            if isinstance(index, int | np.integer):
                simple = 0 <= index < self._most and not isinstance(index, bool)
                return self._stream[int(index)] if simple else None
            if index is Ellipsis or (isinstance(index, tuple) and not index):
                found = self._stream[: self._frozen]
                return found if len(found) else None
            if isinstance(index, slice):
                start, stop = index.start or 0, index.stop
                if not (isinstance(start, int) and isinstance(stop, int) and index.step is None):
                    return None
                if not 0 <= start < stop <= self._most:
                    return None
                found = self._stream[start:stop]
                return found if len(found) == stop - start else None
        except IndexError:
            pass
        return None

    def _read(self, parsed: Index, length: int) -> Any:
        selected = self._resolved(parsed, (length, *self._point))
        row = prod(self._point) * self._dtype.itemsize
        empty = np.empty((0, *self._point), self._dtype)
        return selected.apply(gathered(selected, self._points, row, empty))

    def _read_varying(self, parsed: Index, length: int) -> Any:
        """Points whose shapes differ come as a list of arrays; those that agree as one array."""
        if parsed.mask is not None:
            raise TypeError(f"{self._what}: points of varying shape take no mask of the whole")
        inner = parsed.axes[1:]
        first = Index(parsed.axes[:1], parsed.first_is_named)
        wanted = self._resolved(first, (length,))
        found = [point for run in wanted.runs() for point in self._points(run.start, run.stop)]
        if len({point.shape for point in found}) == 1:
            block = np.stack(found)
            whole = Index((slice(None), *inner)).resolve(block.shape).apply(block)
            return whole[0] if isinstance(parsed.axes[0], int) else whole
        if any(axis != slice(None) for axis in inner):
            raise IndexError(
                f"{self._what}: these points have different shapes; take them one by one to select "
                "inside them"
            )
        return found

    def _resolved(self, parsed: Index, shape: tuple[int, ...]) -> Selection:
        """The selection; what is beyond the end is told as streams tell it."""
        try:
            return parsed.resolve(shape, growing=True)
        except IndexError as error:
            if parsed.needed is None or parsed.needed <= shape[0]:
                raise IndexError(f"{self._what}: {error}") from error
            if self._frozen is None and not self._extent.ended:
                raise IndexNotYetThereError(f"{self._what}: {error}; more may come") from error
            raise IndexWontBeThereError(f"{self._what}: {error}; no more will come") from error

    def _wait_for(self, parsed: Index, patience: Patience) -> int:
        """Waits until the index has its answer; the length then."""
        needed = parsed.needed
        if self._frozen is not None:
            return self._frozen
        if needed is not None and 0 < needed <= self._extent.known:
            return self._extent.known
        if needed == 0 or not patience.wait:
            return self._extent.look()
        deadline = patience.deadline()
        if self._extent.wait(needed, deadline):
            return self._extent.known
        self._extent.look()
        until = "its end" if needed is None else f"point {needed - 1}"
        raise DataTimeoutError(
            f"{self._what} has {self._extent.known} points and was not sealed: {until} did not come "
            f"within {patience.timeout} s. The scan goes on; d[()] gives what is there"
        )

    def _length(self) -> int:
        return self._extent.look() if self._frozen is None else self._frozen

    def without_file(self) -> None:
        """There is no file that could be asked: the server's answers are all there is."""
        self._written = None
        self._extent = _Extent(self._stream, None, self._extent.known)

    def _points(self, start: int, stop: int) -> Any:
        """An array, or a list of arrays where shapes vary."""
        try:
            points = self._as_points(self._stream[start:stop])
            if len(points) < stop - start:
                raise no_more_there(self._what, start + len(points), stop)
        except (IndexNoMoreThereError, StreamVanishedError) as gone:
            if self._written is None:
                raise
            try:
                return self._points_of_both(self._written, start, stop)
            except PointsNotInFileError as error:
                if not self._tells(gone):
                    raise
                raise PointsNotInFileError(
                    f"{gone}. They are not in the file of the scan either: {error}"
                ) from error
        return points

    def _tells(self, gone: Exception) -> bool:
        """True for what a plugin says of points that are gone: it knows of other places than the scan's
        file."""
        return not isinstance(self._stream, Stream) and isinstance(gone, IndexNoMoreThereError)

    def _points_of_both(self, written: Written, start: int, stop: int) -> Any:
        """Points of which some have left the server."""
        there: list[tuple[int, Any]] = []
        if isinstance(self._stream, Stream):
            there = self._stream.event_stream.select(slice(start, stop))[1]
        parts, position = [], start
        for index, points in there:
            if index > position:
                parts.append(written.points(position, index))
            parts.append(self._as_points(points))
            position = index + len(points)
        if position < stop:
            parts.append(written.points(position, stop))
        if self._varies:
            return [point for part in parts for point in part]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, dtype=self._dtype)

    def _as_points(self, points: Any) -> Any:
        return list(points) if self._varies else self._as_array(points)

    def _as_array(self, points: Any) -> Array:
        if not self._is_text:
            return np.asarray(points)
        found = np.empty(len(points), self._dtype)
        found[:] = [text_of_point(point) for point in points]
        return found

    def follow(self, patience: Patience, start: int = 0) -> Iterator[Any]:
        if self._frozen is not None:
            yield from self._follow_frozen(self._frozen, start)
            return
        cursor = self._stream.cursor()
        block = patience.wait and patience.timeout != 0
        while True:
            try:
                view = cursor.read(block=block, timeout=patience.timeout or 0)
            except EndOfStream:  # sealed, or closed without a seal: what was read is all there is
                return
            except StreamVanishedError as error:
                if self._written is None or not self._written.scan_left():
                    raise
                raise LeftServer from error
            if view is None:
                return
            skipped = max(start - view.index, 0)
            points = self._points_of_view(view)
            yield from points[skipped:]

    def _points_of_view(self, view: BaseView) -> Any:
        try:
            points = view.get_data()
        except (IndexNoMoreThereError, StreamVanishedError):
            if self._written is None:
                raise
            return self._points(view.index, view.index + len(view))
        return self._as_points(points)

    def _follow_frozen(self, length: int, first: int) -> Iterator[Any]:
        row = max(prod(max(n, 1) for n in self._point) * self._dtype.itemsize, 1)
        step = max(FOLLOWED_NBYTES // row, 1)
        for start in range(first, length, step):
            stop = min(start + step, length)
            yield from self._points(start, stop)


class _Extent:
    """How long a stream is, and the wait for it to be longer."""

    def __init__(self, stream: BaseStream, written: Written | None, known: int = 0) -> None:
        self._stream = stream
        self._written = written
        self.known = known
        """How many points there are at least."""
        self.ended = False
        """True if there will be no more."""

    def look(self) -> int:
        """How many points there are. One round trip, none once it has ended. Raises `LeftServer`."""
        if not self.ended:
            found = len(self._stream)
            if not found and self._written is not None and self._written.scan_left():
                raise LeftServer
            self.known = found or self.known
        return self.known

    def wait(self, needed: int | None, deadline: Deadline) -> bool:
        """Waits until there are that many points (None: until the end) or the stream has ended;
        False when the time is up. The server wakes us."""
        try:
            return self._wait_end(deadline) if needed is None else self._wait(needed, deadline)
        except StreamVanishedError as error:
            if self._written is None or not self._written.scan_left():
                raise
            raise LeftServer from error

    def _wait(self, needed: int, deadline: Deadline) -> bool:
        waiting: _NextPoints | None = None
        while self.look() < needed and not self._has_ended():
            if deadline.passed:
                return False
            if waiting is None:
                waiting = _NextPoints(self._stream)
            try:
                waiting.wait(self.known, deadline)
            except EndOfStream:
                self._end()
        return True

    def _wait_end(self, deadline: Deadline) -> bool:
        while not self._has_ended():
            if deadline.passed:
                return False
            with suppress(StreamAbandonedError):
                self._stream.wait_seal(max(deadline.remaining(10 * WAIT_SLICE_S), 0.001))
                continue
            self._end()
        return True

    def _has_ended(self) -> bool:
        if not self.ended and self._stream.is_sealed():
            self._end()
        return self.ended

    def _end(self) -> None:
        self.look()
        self.ended = True


class _NextPoints:
    """The wait for more points than there are."""

    def __init__(self, stream: BaseStream) -> None:
        self._stream = stream
        self._watch = AbandonWatch(stream.event_stream.data_store)
        # Points of a plain stream are its events, and one event is asked for to be woken by the next.
        # What a plugin makes of its events only a cursor knows.
        self._cursor = None if isinstance(stream, Stream) else stream.cursor()

    def wait(self, length: int, deadline: Deadline) -> None:
        """Waits until there are more than `length` points, for a few seconds at most. Raises
        `EndOfStream` if there will be none."""
        seconds = deadline.remaining(WAIT_SLICE_S)
        if self._cursor is not None:
            self._cursor.read(timeout=max(seconds, 0.001), last_only=True)
            return
        events = self._stream.event_stream
        if events.event_log.read({events.key: length}, wait=seconds, max_entries=1):
            self._watch.restart()
        elif self._watch.due and self._watch.abandoned([events]):
            raise StreamAbandonedError(f"{events.what}: the scan is closed, but nobody sealed it")


# ---------------------------------------------------------------------------------- small rules


def lengths(streams: Iterable[BaseStream]) -> dict[str, int]:
    """How many points each stream has now, by name, at one instant for plain ones; 0 for a stream
    that cannot tell. One round trip for all plain ones."""
    every = list(streams)
    plain = [stream for stream in every if isinstance(stream, Stream)]
    found: dict[str, int] = {}
    if plain:
        events = plain[0].event_stream
        requests = [SpanRequest(stream.key, only_tail=True) for stream in plain]
        for one, span in zip(plain, events.event_log.span(requests), strict=True):
            found[one.name] = 0 if isinstance(span, PayloadError) else span[0].length
    for stream in every:
        if stream.name not in found:
            try:
                found[stream.name] = len(stream)
            except Exception:  # noqa: BLE001 — a plugin may be missing, or fail in any way
                found[stream.name] = 0
    return found


def gathered(
    selected: Selection, rows: Callable[[int, int], Array], row_nbytes: int, empty: Array
) -> Array:
    """The points of a selection, in as few reads as the gaps between them allow."""
    runs = selected.runs(max_gap=GAP_NBYTES // max(row_nbytes, 1))
    blocks = [rows(run.start, run.stop) for run in runs]
    if not blocks:
        return empty
    whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if len(whole) == len(selected.points):
        return whole
    points = selected.points
    if len(runs) == 1 and isinstance(points, range):
        return whole[:: points.step]
    there = np.concatenate([np.arange(run.start, run.stop) for run in runs])
    return whole[np.searchsorted(there, np.asarray(points))]


def _numpy_points(points: Any) -> Any:
    return slice(points.start, points.stop, points.step) if isinstance(points, range) else points


def _chunks(point: Sequence[int], dtype: np.dtype[Any]) -> tuple[int, ...]:
    size = max(prod(point) * dtype.itemsize, 1)
    return (max(CHUNK_NBYTES // size, 1), *(max(n, 1) for n in point))


def _text_dtype() -> np.dtype[Any]:
    from blissdata.h5map.data_items import TEXT

    return TEXT


def text_of_point(point: Any) -> bytes:
    """A point that is no number: a scan is its key, other values are their JSON."""
    text = point.key if hasattr(point, "key") else json.dumps(point)
    return str(text).encode()
