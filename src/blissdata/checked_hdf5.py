"""HDF5 files that show nothing from outside the data roots: every link and storage is followed here.

HDF5 itself would open whatever file a file names. So it is only ever asked for what is inside one
file, and the rest is done by hand, each file checked by `DataRoots` first:

    path in the file ──► soft links, external links          walked part by part
    dataset          ──► external raw storage                read as bytes
                     └─► virtual sources                     read piece by piece, and put together

What is not there is an error here. HDF5 would give fill values for a source file that is missing,
or bytes beyond the end of a raw file, and they would look like data.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from math import prod
from types import EllipsisType, TracebackType
from typing import Any

import h5py
import numpy as np

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileError,
    DataFileIncompleteError,
    DataFileRefusedError,
)

__all__ = ["COMMITTED_MARK", "CheckedDataset", "CheckedFile", "Extent", "stamp_of"]

MAX_LINKS = 64
"""Links followed on one path; more are a circle."""

MAX_DEPTH = 16
"""Files that lead to one another, and virtual datasets made of virtual ones; more are a circle."""

OPEN_SOURCES = 8
"""How many files that a file points at are kept open with it."""

SETTLE_S = 10.0
"""A file that changed so recently may be open for writing, with a part of it still in the writer's
memory [s]."""

LOOK_AHEAD = 1 << 20
"""How much is read at once to see whether anything was written behind some rows [bytes]."""

FEW_BANDS = 16
"""So many chunks are asked for one by one; for more, all of them are gone through."""

MOST_LOOKS = 16
"""After so many such pieces of fill values alone, nobody looks further."""

Spans = list[tuple[int, int]]
"""Rows from … to (exclusive)."""

_FOR_EVER = (DataFileRefusedError, DataFileContentError)
"""What is wrong with a file that waiting does not mend."""

_SWMR_MARK = 0x04
_WRITE_MARKS = 0x01 | _SWMR_MARK

COMMITTED_MARK = "blissdata_writer"
"""Attribute of the root of files that `blissdata.writer` writes."""

_RAW_PREFIX = "HDF5_EXTFILE_PREFIX"
_UNLIMITED = (h5py.h5s.UNLIMITED, 2**64 - 1)

Selection = int | slice | EllipsisType | Sequence[int] | np.ndarray[Any, Any]


class CheckedFile:
    """An HDF5 file for reading, bound by the data roots, with whatever it points at.

    It is neither locked nor kept from anybody else, in this process or another: a reader must never
    stop a writer. So it is seen as far as its writer has flushed it. A file that is being written in
    SWMR mode is read in SWMR mode. A context manager.

    Raises `DataFileRefusedError`, `DataFileMissingError`, `DataFileBusyError` (a writer is at work, and
    HDF5 cannot make sense of it at this moment), `DataFileIncompleteError` (a writer has begun it),
    `DataFileContentError` (no HDF5 file).
    """

    def __init__(self, path: str | os.PathLike[str], roots: DataRoots, *, depth: int = 0) -> None:
        self.path = os.fspath(path)
        """As it was asked for."""
        self.roots = roots
        self.real_path = roots.real_path(path)
        """What was opened."""
        self._depth = depth
        self._sources: OrderedDict[str, CheckedFile] = OrderedDict()
        self._is_committed: bool | None = None
        _require_depth(depth, self.path)
        self._bytes = roots.open(path)
        try:
            found = os.fstat(self._bytes.fileno())
            self._stamp = _stamp(found)
            self._file = _open(self.path, self.real_path, self._bytes, found)
        except BaseException:
            self._bytes.close()
            raise
        _opened.add(self)

    @property
    def stamp(self) -> tuple[int, ...]:
        """The file's state before it was opened; another `stamp_of` means that it has changed."""
        return self._stamp

    def is_current(self) -> bool:
        """Whether the file on disk, and those that it led to, are still those that were opened, and as
        they were; one that is appended to in SWMR mode may have grown. A look at the disk for each."""
        try:
            now = stamp_of(self.real_path)
        except OSError:
            return False
        then = self.stamp
        same = now[:2] == then[:2] and now[2] >= then[2] if self.swmr else now == then
        return same and all(source.is_current() for source in self._sources.values())

    def being_written(self) -> bool:
        """True if somebody may have it open for writing: it is marked so, it is locked by somebody on
        this machine, or it changed in the last `SETTLE_S`. A look at the disk."""
        try:
            found = os.stat(self.real_path)
        except OSError:  # gone or replaced at this moment
            return True
        return bool(_marks(self._bytes) & _WRITE_MARKS) or _in_the_making(found)

    def anything_being_written(self) -> bool:
        """As `being_written`, of this file or of those that it led to."""
        return self.being_written() or any(
            source.anything_being_written() for source in self._sources.values()
        )

    def may_be_ahead(self) -> bool:
        """True if datasets may be longer than what has reached the file: while somebody is writing it,
        unless that is our own writer, which makes points visible once they are there."""
        if self._is_committed is None:
            self._is_committed = bool(self._guard("/", lambda: COMMITTED_MARK in self._file.attrs))
        return not self._is_committed and self.being_written()

    @property
    def swmr(self) -> bool:
        """True if a writer appends to it in SWMR mode, and this handle sees that."""
        return bool(self._file.swmr_mode)

    def close(self) -> None:
        """Closes it, and those that it points at. Repeatable."""
        while self._sources:
            self._sources.popitem()[1].close()
        with contextlib.suppress(OSError, RuntimeError):  # nothing is written: nothing can be lost
            self._file.close()
        self._bytes.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    def __enter__(self) -> CheckedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<CheckedFile {self.path}>"

    # ------------------------------------------------------------------------------ what is in it

    def dataset(self, path: str) -> CheckedDataset:
        """The dataset at that path, links followed.

        Raises `DataFileIncompleteError` if there is nothing (yet), `DataFileContentError` if it is
        no dataset, and what opening a linked file raises."""
        return self._dataset(path, self._depth)

    def _dataset(self, path: str, depth: int) -> CheckedDataset:
        _require_depth(depth, f"{self.path}::{path}")
        file, item = self._walk(path)
        if not isinstance(item, h5py.Dataset):
            raise DataFileContentError(f"{self.path}::{path} is a group, not a dataset")
        return CheckedDataset(file, item, f"{self.path}::{path}", depth)

    def names(self, path: str = "/") -> list[str]:
        """The names in the group at that path; raises as `dataset` does."""
        _, item = self._walk(path)
        if not isinstance(item, h5py.Group):
            raise DataFileContentError(f"{self.path}::{path} is a dataset, not a group")
        return list(self._guard(path, lambda: list(item.keys())))

    def links(self, path: str = "/") -> dict[str, Any]:
        """How the names in the group at that path are linked: `h5py.HardLink`, `h5py.SoftLink` or
        `h5py.ExternalLink` by name, none of them followed; links of other classes are left out.
        Raises as `dataset` does."""
        _, item = self._walk(path)
        if not isinstance(item, h5py.Group):
            raise DataFileContentError(f"{self.path}::{path} is a dataset, not a group")
        return dict(self._guard(path, lambda: _links(item)))

    def is_group(self, path: str) -> bool:
        """Whether there is a group at that path; False for a dataset; raises as `dataset` does."""
        return isinstance(self._walk(path)[1], h5py.Group)

    def identity(self, path: str) -> tuple[Any, ...]:
        """What is the same for all hard links to the group or dataset at that path; raises as
        `dataset` does."""
        file, item = self._walk(path)
        found = self._guard(path, lambda: h5py.h5o.get_info(item.id))
        return file.real_path, found.fileno, found.addr

    def attributes(self, path: str = "/") -> Mapping[str, Any]:
        """The attributes of the group or dataset at that path; raises as `dataset` does."""
        _, item = self._walk(path)
        return dict(self._guard(path, lambda: dict(item.attrs.items())))

    def attribute_names(self, path: str = "/") -> list[str]:
        """The names of these attributes; raises as `dataset` does."""
        _, item = self._walk(path)
        return list(self._guard(path, lambda: list(item.attrs)))

    def attribute(self, path: str, name: str) -> Any:
        """One attribute of the group or dataset at that path; raises as `dataset` does."""
        _, item = self._walk(path)
        what = f"{path}, attribute {name!r},"
        try:
            return self._guard(what, lambda: item.attrs[name])
        except TypeError as error:  # numpy has nothing like it
            raise DataFileContentError(f"{self.path}: {what} cannot be read: {error}") from error

    def _walk(self, path: str) -> tuple[CheckedFile, h5py.Group | h5py.Dataset]:
        """Follows the path part by part: HDF5 is never given a link to another file to follow."""
        file, place = self, "/"
        parts = _parts(path)
        links = 0
        while parts:
            part = parts.pop(0)
            link = file._link(place, part, f"{self.path}::{path}")
            here = f"{place.rstrip('/')}/{part}"
            if isinstance(link, h5py.HardLink):
                place = here
                continue
            links += 1
            if links > MAX_LINKS:
                raise DataFileContentError(f"{self.path}::{path}: its links lead round in a circle")
            if isinstance(link, h5py.SoftLink):
                parts = _parts(link.path) + parts
                place = "/" if link.path.startswith("/") else place
            else:
                file = file._source(link.filename)
                parts = _parts(link.path) + parts
                place = "/"
        item = file._guard(path, lambda: file._file[place])  # noqa: SLF001 — one of ours
        if not isinstance(item, h5py.Group | h5py.Dataset):
            raise DataFileContentError(f"{self.path}::{path} is neither a group nor a dataset")
        return file, item

    def _link(self, place: str, part: str, what: str) -> Any:
        """The link `part` in the group at `place`, of which the whole path is made of hard links."""
        group = self._guard(what, lambda: self._file[place])
        if not isinstance(group, h5py.Group):
            raise DataFileContentError(f"{what}: {place} is not a group")
        try:
            link = self._guard(what, lambda: group.get(part, getlink=True))
        except TypeError:
            link = None  # a link of a class that a plugin defines
            raise DataFileRefusedError(f"{what}: {part!r} is a link of an unknown class") from None
        if link is None:
            raise DataFileIncompleteError(f"{what}: there is no {part!r} in {place} (yet)")
        if not isinstance(link, h5py.HardLink | h5py.SoftLink | h5py.ExternalLink):
            raise DataFileRefusedError(f"{what}: {part!r} is a link of an unknown class")
        return link

    def _source(self, name: str) -> CheckedFile:
        """A file that this one points at; relative names are relative to this one's directory."""
        if name == ".":
            return self
        path = os.path.join(os.path.dirname(self.real_path), name)
        known = self._sources.pop(path, None)
        if known is not None:
            if known.is_current():
                self._sources[path] = known
                return known
            known.close()
        try:
            source = CheckedFile(path, self.roots, depth=self._depth + 1)
        except DataFileError as error:
            raise type(error)(f"{self.path} points at another file: {error}") from error
        self._sources[path] = source
        if len(self._sources) > OPEN_SOURCES:
            self._sources.popitem(last=False)[1].close()
        return source

    def _guard(self, what: str, work: Callable[[], Any]) -> Any:
        """Calls HDF5. What it raises becomes an error with the file's name."""
        try:
            return work()
        except DataFileError:
            raise
        except KeyError as error:
            raise DataFileIncompleteError(f"{self.path}: there is no {what} (yet)") from error
        except (OSError, RuntimeError, ValueError) as error:
            if self.being_written():
                raise DataFileBusyError(
                    f"{self.path}: {what} cannot be read while somebody is writing the file: {error}"
                ) from error
            raise DataFileContentError(
                f"{self.path}: {what} cannot be read, the file may be damaged: {error}"
            ) from error


_opened: weakref.WeakSet[CheckedFile] = weakref.WeakSet()


def _close_all() -> None:
    """At the end of the program: HDF5 would read through Python's files when these are gone already."""
    for file in list(_opened):
        file.close()


atexit.register(_close_all)


@dataclass(frozen=True, slots=True)
class Extent:
    """Which rows of a dataset there are."""

    spans: Spans
    """Ascending, not touching."""

    why: str | None = None
    """Why some are not there."""

    lost: Spans = field(default_factory=list)
    """Rows that cannot come: what holds them is refused, or is something else."""

    hidden: Spans = field(default_factory=list)
    """Those of the lost ones that may well be there: what holds them is refused."""


class CheckedDataset:
    """A dataset whose data all lie below the data roots; `CheckedFile.dataset` gives one.

    It works as long as its file is open. `dtype`, `shape`, `ndim`, `len` and indexing by integers,
    slices, lists and `...` are those of h5py.
    """

    def __init__(self, file: CheckedFile, dataset: h5py.Dataset, what: str, depth: int = 0) -> None:
        self._file = file
        self._dataset = dataset
        self._what = what
        self._depth = depth

    @property
    def what(self) -> str:
        """Where it is, for messages."""
        return self._what

    @property
    def dtype(self) -> np.dtype[Any]:
        """dtype of an element."""
        dtype: np.dtype[Any] = self._guard(lambda: self._dataset.dtype)
        return dtype

    @property
    def is_null(self) -> bool:
        """True if it has a type and no value, and so no shape either."""
        return self._guard(lambda: self._dataset.shape) is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape now (a SWMR writer may have lengthened it since the last look)."""
        if self._file.swmr:
            self._guard(self._dataset.id.refresh)
        if self.is_null:
            raise DataFileContentError(f"{self._what} is an empty dataset: it has no shape")
        return tuple(int(n) for n in self._guard(lambda: self._dataset.id.shape))  # never cached

    @property
    def ndim(self) -> int:
        """How many dimensions."""
        return len(self.shape)

    @property
    def maxshape(self) -> tuple[int | None, ...]:
        """How long each axis may become; None: any length."""
        found: tuple[int | None, ...] = self._guard(lambda: self._dataset.maxshape)
        return found

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of a chunk; None if it is not stored in chunks."""
        found: tuple[int, ...] | None = self._guard(lambda: self._dataset.chunks)
        return found

    @property
    def compression(self) -> tuple[str | None, Any]:
        """The filter that compresses it, in h5py's words, and what that was told; None without."""
        return self._guard(lambda: self._dataset.compression), self._guard(
            lambda: self._dataset.compression_opts
        )

    @property
    def is_virtual(self) -> bool:
        """True if it is composed of parts of other datasets."""
        return bool(self._guard(lambda: self._dataset.is_virtual))

    @property
    def external(self) -> list[tuple[str, int, int | None]] | None:
        """Where its bytes are, if they are in raw files: `(file, offset, size)` [bytes]."""
        found: list[tuple[str, int, int | None]] | None = self._guard(
            lambda: self._dataset.external
        )
        return found

    def stored(self, what: str) -> Any:
        """What h5py says of it: its `fillvalue`, `shuffle`, `fletcher32`, `scaleoffset`, or what
        `virtual_sources` gives."""
        found = self._guard(lambda: getattr(self._dataset, what))
        return self._guard(found) if callable(found) else found

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes."""
        return dict(self._guard(lambda: dict(self._dataset.attrs.items())))

    def is_within(self, file: CheckedFile) -> bool:
        """True if all its data are in that very file: nothing else can change what is read."""
        return self._file is file and not self._is_elsewhere()

    def __len__(self) -> int:
        shape = self.shape
        if not shape:
            raise TypeError(f"{self._what} is a scalar: it has no length")
        return shape[0]

    def rows(self, start: int, stop: int, *, written_only: bool = False) -> np.ndarray[Any, Any]:
        """Elements `start` to `stop` (exclusive, both ≥ 0) along the first axis, in an array.

        Raises `DataFileIncompleteError` if they are not all there, also where a source file lacks
        them. `written_only` refuses rows in the same way that nobody has written, as far as that
        can be told: of which a chunk has no place in the file, or which no virtual source covers;
        and, while somebody may be writing the file, the last rows if they hold nothing
        but fill values: a writer's file may be longer than what has reached it."""
        shape = self.shape
        if not shape:
            raise DataFileContentError(f"{self._what} is a scalar: it has no rows")
        if stop > shape[0]:
            raise DataFileIncompleteError(
                f"{self._what} has {shape[0]} points, not {max(start, 0)} to {stop - 1} (yet)"
            )
        if self._guard(lambda: self._dataset.is_virtual):
            return self._virtual_rows(start, stop, shape, written_only)
        external = self._guard(lambda: self._dataset.external)
        if external:
            return self._external_rows(start, stop, shape, external)
        if written_only and stop > start:
            self._require_placed(start, stop, shape)
        rows: np.ndarray[Any, Any] = self._guard(lambda: self._dataset[start:stop])
        if written_only and stop > start and self._file.may_be_ahead():
            self._require_filled(rows, start, shape)
        return rows

    def extent(self) -> Extent:
        """The rows that `rows(…, written_only=True)` gives, without reading them all. Raises as `rows` does for a dataset that can have none."""
        shape = self.shape
        if not shape:
            raise DataFileContentError(f"{self._what} is a scalar: it has no rows")
        if self._guard(lambda: self._dataset.is_virtual):
            return self._virtual_extent(shape)
        external = self._guard(lambda: self._dataset.external)
        if external:
            return self._external_extent(shape, external)
        spans = self._placed(shape)
        if spans and self._file.may_be_ahead():
            spans[-1] = (spans[-1][0], self._last_filled(*spans[-1]))
        return Extent([span for span in spans if span[0] < span[1]])

    def __getitem__(self, selection: Selection | tuple[Selection, ...]) -> Any:
        """What h5py gives for the same index."""
        shape = self.shape
        if not self._is_elsewhere():
            return self._guard_index(lambda: self._dataset[selection])
        picked = selection if isinstance(selection, tuple) else (selection,)
        if not shape:
            data = self._elsewhere_scalar()
            return data[picked]
        first = picked[0] if picked else slice(None)
        if not picked or first is Ellipsis:
            return self.rows(0, shape[0])[picked]
        if isinstance(first, slice):
            wanted = range(*first.indices(shape[0]))
            if wanted.step < 1:
                raise ValueError(f"{self._what}: a step is at least 1, as in h5py")
            low, high = (wanted[0], wanted[-1] + 1) if wanted else (0, 0)
            return self.rows(low, high)[(slice(None, None, wanted.step), *picked[1:])]
        if hasattr(first, "__index__") and not isinstance(first, bool | np.bool_ | np.ndarray):
            index = int(first.__index__())
            index += shape[0] if index < 0 else 0
            if not 0 <= index < shape[0]:
                raise IndexError(f"{self._what}: index {first} is out of range, it has {shape[0]}")
            return self.rows(index, index + 1)[(0, *picked[1:])]
        indices = np.asarray(first)
        if indices.dtype == bool:
            indices = np.flatnonzero(indices)
        if not len(indices):
            return self.rows(0, 0)[(slice(None), *picked[1:])]
        low, high = int(indices.min()), int(indices.max()) + 1
        if low < 0 or high > shape[0]:
            raise IndexError(f"{self._what}: the list reaches beyond its {shape[0]} rows")
        return self.rows(low, high)[(indices - low, *picked[1:])]

    def _is_elsewhere(self) -> bool:
        return bool(self._guard(lambda: self._dataset.is_virtual or self._dataset.external))

    def _elsewhere_scalar(self) -> np.ndarray[Any, Any]:
        if self._guard(lambda: self._dataset.is_virtual):
            raise DataFileContentError(f"{self._what}: a virtual scalar cannot be read")
        external = self._guard(lambda: self._dataset.external)
        return self._external_bytes(0, self.dtype.itemsize, external).view(self.dtype).reshape(())

    def _guard(self, work: Callable[[], Any]) -> Any:
        return self._file._guard(self._what, work)  # noqa: SLF001 — one of ours

    def _guard_index(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (IndexError, TypeError, ValueError):  # a bad index, as h5py says it
            raise
        except (OSError, RuntimeError) as error:
            trouble = error
        return self._guard(lambda: _throw(trouble))

    # ------------------------------------------------------------------------------ written?

    def _require_placed(self, start: int, stop: int, shape: tuple[int, ...]) -> None:
        """Raises unless every chunk of these rows has a place in the file."""
        chunks = self._guard(lambda: self._dataset.chunks)
        if chunks is None:
            if not self._placed(shape):
                raise self._unwritten(start, stop)
            return
        if self._is_allocated():
            return
        first, last = start // chunks[0], (stop - 1) // chunks[0]
        if last - first < FEW_BANDS:
            placed = [self._band_is_placed(band, shape, chunks) for band in range(first, last + 1)]
        else:
            placed = list(self._placed_bands(shape, chunks)[first : last + 1])
        if not all(placed):
            row = (first + placed.index(False)) * chunks[0]
            raise self._unwritten(max(start, row), min(stop, row + chunks[0]))

    def _is_allocated(self) -> bool:
        """True if the whole dataset has a place in the file."""
        space = self._guard(self._dataset.id.get_space_status)
        return bool(space == h5py.h5d.SPACE_STATUS_ALLOCATED)

    def _require_filled(
        self, rows: np.ndarray[Any, Any], start: int, shape: tuple[int, ...]
    ) -> None:
        """Raises if some of the rows, and all behind them, are fill values alone. A chunk reaches the
        file as a whole, and those of a writer that appends in their order, so that whatever stands
        before a value was written."""
        fill = self._guard(lambda: self._dataset.fillvalue)
        if fill is None or rows.dtype.kind not in "biufc":
            return
        filled = np.flatnonzero(_filled(rows, fill))
        first = int(filled[-1]) + 1 if len(filled) else 0
        stop = start + len(rows)
        if first == len(rows) or self._anything_behind(stop, shape, rows[:1].nbytes, fill):
            return
        raise self._unwritten(start + first, stop)

    def _anything_behind(
        self, start: int, shape: tuple[int, ...], row_nbytes: int, fill: Any
    ) -> bool:
        step = max(1, LOOK_AHEAD // max(1, row_nbytes))
        stop = min(shape[0], start + MOST_LOOKS * step)
        pieces = (slice(at, min(at + step, stop)) for at in range(start, stop, step))
        return any(
            _filled(self._guard(partial(self._dataset.__getitem__, piece)), fill).any()
            for piece in pieces
        )

    def _last_filled(self, start: int, stop: int) -> int:
        """The index behind the last of these rows that holds more than fill values, as far as looks
        back reach."""
        fill = self._guard(lambda: self._dataset.fillvalue)
        dtype = self.dtype
        if fill is None or dtype.kind not in "biufc":
            return stop
        row_nbytes = prod(self.shape[1:]) * dtype.itemsize
        step: int = max(1, LOOK_AHEAD // max(1, row_nbytes))
        for _ in range(MOST_LOOKS):
            low = max(start, stop - step)
            rows = self._guard(partial(self._dataset.__getitem__, slice(low, stop)))
            filled = np.flatnonzero(_filled(rows, fill))
            if len(filled):
                return low + int(filled[-1]) + 1
            stop = low
            if stop == start:
                break
        return stop

    def _placed(self, shape: tuple[int, ...]) -> Spans:
        """The rows all of whose chunks have a place in the file."""
        dataset = self._dataset
        chunks = self._guard(lambda: dataset.chunks)
        if not shape[0]:
            return []
        if chunks is None:
            space = self._guard(dataset.id.get_space_status)
            layout = self._guard(lambda: dataset.id.get_create_plist().get_layout())
            empty = layout == h5py.h5d.CONTIGUOUS and space == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED
            return [] if empty else [(0, shape[0])]
        if self._is_allocated():
            return [(0, shape[0])]
        bands = _spans(self._placed_bands(shape, chunks))
        return [(start * chunks[0], min(stop * chunks[0], shape[0])) for start, stop in bands]

    def _placed_bands(
        self, shape: tuple[int, ...], chunks: tuple[int, ...]
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each band of rows, as high as a chunk, whether all its chunks have a place in the file."""
        bands = -(-shape[0] // chunks[0])
        found = self._guard(lambda: _first_rows(self._dataset.id))
        if found is None:
            each = (self._band_is_placed(band, shape, chunks) for band in range(bands))
            return np.fromiter(each, bool, bands)
        counts = np.bincount(np.asarray(found, np.int64) // chunks[0], minlength=bands)[:bands]
        return np.asarray(counts == prod(map(len, _across(shape, chunks))))

    def _band_is_placed(self, band: int, shape: tuple[int, ...], chunks: tuple[int, ...]) -> bool:
        """The same for one band. HDF5 takes the longer for it the more chunks there are."""
        across = _across(shape, chunks)
        return all(
            self._guard(
                partial(
                    self._dataset.id.get_chunk_info_by_coord,
                    (
                        band * chunks[0],
                        *(axis[i] for axis, i in zip(across, corner, strict=True)),
                    ),
                )
            ).byte_offset
            is not None
            for corner in np.ndindex(*(len(axis) for axis in across))
        )

    def _unwritten(self, start: int, stop: int) -> DataFileIncompleteError:
        return DataFileIncompleteError(
            f"{self._what}: points {start} to {stop - 1} have a place there, but nobody has written "
            "them (yet)"
        )

    # ------------------------------------------------------------------------------ external raw storage

    def _external_rows(
        self, start: int, stop: int, shape: tuple[int, ...], files: Sequence[tuple[str, int, int]]
    ) -> np.ndarray[Any, Any]:
        dtype = self.dtype
        size = prod(shape[1:]) * dtype.itemsize
        data = self._external_bytes(start * size, stop * size, files)
        return data.view(dtype).reshape(stop - start, *shape[1:])

    def _external_bytes(
        self, start: int, stop: int, files: Sequence[tuple[str, int, int]]
    ) -> np.ndarray[Any, Any]:
        """Bytes `start` to `stop` of the files' joined segments."""
        dtype = self.dtype
        if dtype.hasobject or self._guard(lambda: self._dataset.id.get_type().get_size()) != (
            dtype.itemsize
        ):
            raise DataFileContentError(
                f"{self._what}: raw files with elements of type {dtype} cannot be read"
            )
        data = np.empty(stop - start, np.uint8)
        into = memoryview(data.data)
        at = 0
        for name, offset, size in files:
            end = stop if size in _UNLIMITED else at + size
            low, high = max(start, at), min(stop, end)
            if low < high:
                self._read_raw(name, offset + low - at, into[low - start : high - start])
            at = end
            if at >= stop:
                return data
        if stop > start and at < stop:
            raise DataFileIncompleteError(
                f"{self._what}: its raw files hold {at} bytes, fewer than the dataset"
            )
        return data

    def _external_extent(
        self, shape: tuple[int, ...], files: Sequence[tuple[str, int, int]]
    ) -> Extent:
        there, why, lost, hidden = 0, None, False, False
        for name, offset, size in files:
            path = self._raw_path(name)
            try:
                found = max(0, os.stat(self._file.roots.real_path(path)).st_size - offset)
            except DataFileError as error:
                why = f"{self._what} has its data in another file: {error}"
                lost = isinstance(error, _FOR_EVER)
                hidden = isinstance(error, DataFileRefusedError)
                break
            except OSError as error:
                why = f"{self._what}: its raw file {path} has just gone: {error.strerror}"
                break
            there += found if size in _UNLIMITED else min(found, size)
            if size not in _UNLIMITED and found < size:
                break
        stop = min(shape[0], there // max(1, prod(shape[1:]) * self.dtype.itemsize))
        rest = [(stop, shape[0])] if lost and stop < shape[0] else []
        return Extent([(0, stop)] if stop else [], why, rest, rest if hidden else [])

    def _read_raw(self, name: str, offset: int, into: memoryview) -> None:
        path = self._raw_path(name)
        try:
            with self._file.roots.open(path) as raw:
                raw.seek(offset)
                found = 0
                while found < len(into) and (n := raw.readinto(into[found:])):
                    found += n
        except DataFileError as error:
            raise type(error)(f"{self._what} has its data in another file: {error}") from error
        if found < len(into):
            raise DataFileIncompleteError(
                f"{self._what}: its raw file {path} ends at byte {offset + found}, before byte "
                f"{offset + len(into)} (yet)"
            )

    def _raw_path(self, name: str) -> str:
        """As HDF5 finds raw files, but for names that are relative without a prefix: these are
        sought beside the file, not in whatever directory this process happens to be."""
        directory = os.path.dirname(self._file.real_path)
        prefix = os.environ.get(_RAW_PREFIX) or directory
        prefix = prefix.replace("${ORIGIN}", directory)
        return os.path.join(prefix if os.path.isabs(prefix) else directory, name)

    # ------------------------------------------------------------------------------ virtual sources

    def _virtual_rows(
        self, start: int, stop: int, shape: tuple[int, ...], written_only: bool
    ) -> np.ndarray[Any, Any]:
        fill = self._guard(lambda: self._dataset.fillvalue)
        rows = np.empty((stop - start, *shape[1:]), self.dtype)
        rows[...] = b"" if fill is None and rows.dtype.hasobject else fill
        covered = np.zeros(stop - start, bool)
        for source in self._guard(self._dataset.virtual_sources):
            target = _grid(source.vspace, shape, self._what)
            inside = [i for i, n in enumerate(target.axes[0]) if start <= n < stop]
            if inside:
                piece = self._piece(source, target, inside[0], inside[-1] + 1, written_only)
                part = _Grid((target.axes[0][inside[0] : inside[-1] + 1], *target.axes[1:]))
                rows[part.index(start)] = piece
                covered[[n - start for n in part.axes[0]]] = True
        if written_only and not covered.all():
            first = start + int(np.argmin(covered))
            raise self._unwritten(first, first + 1)
        return rows

    def _virtual_extent(self, shape: tuple[int, ...]) -> Extent:
        covered, lacking, lost, hidden = (np.zeros(shape[0], bool) for _ in range(4))
        why = None
        for source in self._guard(self._dataset.virtual_sources):
            target = _grid(source.vspace, shape, self._what)
            rows = np.asarray(target.axes[0], dtype=np.int64)
            covered[rows] = True
            try:
                lacking[rows[~self._rows_of_source(source, target)]] = True
            except DataFileError as error:
                lacking[rows] = True
                lost[rows] |= isinstance(error, _FOR_EVER)
                hidden[rows] |= isinstance(error, DataFileRefusedError)
                why = why or f"{self._what}: virtual source: {error}"
        return Extent(_spans(covered & ~lacking), why, _spans(lost), _spans(hidden))

    def _rows_of_source(self, source: Any, target: _Grid) -> np.ndarray[Any, Any]:
        """For each row of the target's grid, whether the source has what belongs there."""
        file = self._file._source(source.file_name)  # noqa: SLF001 — one of ours
        data = file._dataset(source.dset_name, self._depth + 1)  # noqa: SLF001 — one of ours
        grid = _grid(source.src_space, data.shape, data.what)
        if not grid.size:
            return np.zeros(len(target.axes[0]), bool)
        written = np.zeros(max(data.shape[0] if data.shape else 1, grid.axes[0][-1] + 1), bool)
        for start, stop in data.extent().spans if data.shape else [(0, 1)]:
            written[start:stop] = True
        there = written[np.asarray(grid.axes[0], dtype=np.int64)]
        if grid.row == target.row and grid.size == target.size:
            return there
        return np.full(len(target.axes[0]), bool(there.all()) and grid.size == target.size)

    def _piece(
        self, source: Any, target: _Grid, first: int, last: int, written_only: bool
    ) -> np.ndarray[Any, Any]:
        """What the source has for rows `first` to `last` (exclusive) of the target's grid. Both
        grids have the same number of elements, which correspond in C order."""
        file = self._file._source(source.file_name)  # noqa: SLF001 — one of ours
        try:
            data = file._dataset(source.dset_name, self._depth + 1)  # noqa: SLF001 — one of ours
            grid = _grid(source.src_space, data.shape, data.what)
            if grid.size != target.size:
                wrong = DataFileIncompleteError if grid.size < target.size else DataFileContentError
                raise wrong(
                    f"{grid.size} elements are taken of it, for a place of {target.size} elements"
                )
            low, high = first * target.row, last * target.row
            row_low, row_high = low // grid.row, -(-high // grid.row)
            wanted = _Grid((grid.axes[0][row_low:row_high], *grid.axes[1:]))
            if len(grid.axes) != data.ndim and (data.ndim or len(grid.axes) != 1):
                raise DataFileContentError(f"it has {data.ndim} dimensions, not {len(grid.axes)}")
            for n, axis in zip(data.shape[1:], wanted.axes[1:], strict=True):
                if axis and max(axis) >= n:
                    raise DataFileIncompleteError("it is smaller than what is taken of it")
            at, end = wanted.axes[0][0], wanted.axes[0][-1] + 1
            taken = data.rows(at, end, written_only=written_only)[wanted.index(at)]
        except DataFileError as error:
            raise type(error)(f"{self._what}: virtual source {file.path}: {error}") from error
        flat = taken.reshape(-1)[low - row_low * grid.row : high - row_low * grid.row]
        piece: np.ndarray[Any, Any] = flat.reshape(
            last - first, *(len(axis) for axis in target.axes[1:])
        )
        return piece


@dataclass(frozen=True, slots=True)
class _Grid:
    """The elements at every combination of some indices of each axis: a regular hyperslab."""

    axes: tuple[Sequence[int], ...]
    """For each axis the indices, ascending."""

    @property
    def row(self) -> int:
        """How many elements one index of the first axis has."""
        return prod(len(axis) for axis in self.axes[1:])

    @property
    def size(self) -> int:
        """How many elements in all."""
        return len(self.axes[0]) * self.row

    def index(self, start: int) -> Any:
        """As an index into an array that begins at `start` along the first axis."""
        axes = [
            range(self.axes[0].start - start, self.axes[0].stop - start, self.axes[0].step)
            if isinstance(self.axes[0], range)
            else [n - start for n in self.axes[0]],
            *self.axes[1:],
        ]
        if all(isinstance(axis, range) for axis in axes):
            return tuple(slice(a.start, a.stop, a.step) for a in axes if isinstance(a, range))
        return np.ix_(*axes)


def _grid(space: Any, shape: tuple[int, ...], what: str) -> _Grid:
    """The selection in a dataspace of that shape."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return _Grid(tuple(range(n) for n in shape) or (range(1),))
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        raise DataFileContentError(
            f"{what}: a virtual dataset made of irregular selections cannot be read"
        )
    axes: list[Sequence[int]] = []
    for start, stride, count, block in zip(*space.get_regular_hyperslab(), strict=True):
        if count in _UNLIMITED or block in _UNLIMITED:
            raise DataFileContentError(
                f"{what}: a virtual dataset made of selections without end cannot be read"
            )
        if block == 1 or count == 1:
            step = stride if block == 1 else 1
            axes.append(range(start, start + step * (count * block - 1) + 1, step))
        elif stride == block:
            axes.append(range(start, start + count * block))
        else:
            axes.append([start + i * stride + j for i in range(count) for j in range(block)])
    return _Grid(tuple(axes))


def stamp_of(path: str) -> tuple[int, ...]:
    """A file's state, which changes whenever the file is replaced or written. Raises `OSError`."""
    return _stamp(os.stat(path))


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _is_locked(found: os.stat_result) -> bool:
    """Whether somebody on this machine holds an exclusive lock on the file, as HDF5's writers do.
    Looks at the kernel's list: trying to lock it could make such a writer fail."""
    try:
        with open("/proc/locks") as lines:
            inode = f":{found.st_ino}"
            return any("WRITE" in line and f"{inode} " in line for line in lines)
    except OSError:  # no such list here
        return False


def _first_rows(dataset: h5py.h5d.DatasetID) -> list[int] | None:
    """The first row of each chunk that has a place in the file; None if this HDF5 cannot go through
    all of them."""
    if not hasattr(dataset, "chunk_iter"):
        return None
    found: list[int] = []
    dataset.chunk_iter(lambda chunk: found.append(chunk.chunk_offset[0]))
    return found


def _across(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[range]:
    """Where chunks begin along every axis but the first."""
    return [range(0, n, step) for n, step in zip(shape[1:], chunks[1:], strict=True)]


def _spans(there: np.ndarray[Any, Any]) -> Spans:
    """Where it is True."""
    padded = np.concatenate(([False], there, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _filled(rows: np.ndarray[Any, Any], fill: Any) -> np.ndarray[Any, Any]:
    """For each row, whether it holds anything else than the fill value."""
    other = ~np.isnan(rows) if np.isnan(fill) else rows != fill
    found: np.ndarray[Any, Any] = other.reshape(len(rows), -1).any(axis=1)
    return found


def _open(path: str, real_path: str, checked: FileIO, found: os.stat_result) -> h5py.File:
    """Through the file that was checked and is open: HDF5 then knows it as none that it has open
    already, nor locks it. Raises a `DataFileError` that says why not."""
    if not found.st_size:
        raise DataFileIncompleteError(f"{path} is empty (yet)")
    try:
        if _marks(checked) & _SWMR_MARK:
            return _open_appended(real_path, found)
        return h5py.File(checked, "r")
    except OSError as error:
        text = str(error)
        if "truncated" in text:
            raise DataFileIncompleteError(
                f"{path} ends before its end: it was cut off, or is being written: {text}"
            ) from error
        if _in_the_making(found):
            raise DataFileBusyError(
                f"{path} cannot be opened while somebody is writing it: {text}"
            ) from error
        raise DataFileContentError(f"{path} cannot be opened as an HDF5 file: {text}") from error


def _marks(file: FileIO) -> int:
    """What a writer has marked the file with (HDF5 File Format Specification, III.A: superblock
    version 3, file consistency flags); 0 for older files, which have no marks."""
    file.seek(0)
    head = file.read(12)
    return head[11] if head[:9] == b"\x89HDF\r\n\x1a\n\x03" and len(head) == 12 else 0


def _in_the_making(found: os.stat_result) -> bool:
    """Whether somebody may have that file open for writing, as far as the disk tells."""
    return abs(time.time() - found.st_mtime) < SETTLE_S or _is_locked(found)


def _open_appended(real_path: str, checked: os.stat_result) -> h5py.File:
    """In SWMR mode, which only HDF5's own way to open a file knows. Raises `OSError`."""
    open_ = partial(h5py.File, real_path, "r", swmr=True, libver="latest")
    try:
        file = open_(locking=False)
    except OSError as error:
        if "flag values don't match" not in str(error):
            raise
        file = open_()  # this process is the writer, and locks as it does by default
    opened = os.fstat(file.id.get_vfd_handle())
    if (opened.st_dev, opened.st_ino) != (checked.st_dev, checked.st_ino):
        file.close()
        raise OSError("another file is there now")
    return file


def _require_depth(depth: int, what: str) -> None:
    if depth > MAX_DEPTH:
        raise DataFileContentError(f"{what}: files or datasets lead to one another in a circle")


def _parts(path: str) -> list[str]:
    """The names on a path inside a file; `.` stays where it is."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _links(group: h5py.Group) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in group:
        with contextlib.suppress(TypeError):  # a link of a class that a plugin defines
            found[name] = group.get(name, getlink=True)
    return found


def _throw(error: Exception) -> Any:
    raise error
