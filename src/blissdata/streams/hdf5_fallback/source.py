"""The points of one stream in its file: the right ones, or an error that says why not.

A file is somebody else's work in progress. It may be locked, not there yet, shorter than the stream,
cut off, replaced, or hold something else. What may pass is waited for; nothing is guessed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blissdata.checked_hdf5 import CheckedDataset, CheckedFile, stamp_of
from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    DataFileBusyError,
    DataFileContentError,
    DataFileError,
    DataFileIncompleteError,
    DataFileMissingError,
    DataFileRefusedError,
    PointsNotInFileError,
)
from blissdata.hdf5_handles import borrowed_file
from blissdata.streams.availability import END, NOTHING, EventBounds, Holding, Place, Ranges
from blissdata.streams.deadline import Deadline

__all__ = ["FileSource"]

POLL_S = 0.1
"""A file on a network disk wakes nobody: how often it is looked at while it is waited for [s]."""

PATIENCE = 5.0
"""A look at a file that takes long, because it has many chunks, is good for so many times as long."""

LOOKS = 5
"""How often a file that changes while it is read is read again, until two looks agree."""

WITNESS_NBYTES = 1 << 16
"""How much of what was read first is kept, to recognise the file by when it has changed [bytes]."""

_MAY_PASS = (DataFileMissingError, DataFileBusyError, DataFileIncompleteError)

ALL = Ranges.between(0, END)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at the file found."""

    at: float
    """When it begins to grow old, on the monotonic clock [s]."""

    there: Ranges = NOTHING
    """The points that are in it."""

    being_written: bool = False
    """Whether somebody may be writing it."""

    lost: Ranges = NOTHING
    """Points that cannot come: the file can never be this stream's, or is not to be opened, or a file
    that it leads to."""

    why: str | None = None
    """Why not all is there."""

    stamp: tuple[int, ...] = ()
    """The file's state, if that tells of any change."""

    missing: Ranges = ALL
    """All points that are not in it, however many there will be."""

    hidden: Ranges = NOTHING
    """Those that may be in a file that must not be opened: this one, or one that it leads to."""


class FileSource:
    """The dataset at `data_path` in the file at `file_path`, whose first axis counts points."""

    def __init__(
        self,
        what: str,
        file_path: str,
        data_path: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        roots: Callable[[], DataRoots],
        waits: str = "stream.file_timeout",
    ) -> None:
        """`what` names the stream; `dtype` and `shape` (-1: any) are those of its points; `roots`
        says where files may be, at the time of reading; `waits` is what somebody may set who would rather
        wait (empty: nothing)."""
        self._what = what
        self._file_path = file_path
        self._data_path = data_path
        self._dtype = dtype
        self._shape = shape
        self._roots = roots
        self._waits = waits
        self._witness: tuple[int, Array] | None = None
        self._known: tuple[int, ...] = ()
        self._seen: _Seen | None = None

    @property
    def where(self) -> str:
        """File and dataset, as h5py's users write them."""
        return f"{self._file_path}::{self._data_path}"

    def read(self, start: int, stop: int, timeout: float | None) -> Array:
        """Points `start` to `stop` (exclusive), in an array of the stream's dtype.

        Waits for what may still come, `timeout` [s] at most (None: for ever). Raises
        `PointsNotInFileError`, with the reason."""
        deadline = Deadline(timeout)
        while True:
            try:
                return self._read(start, stop)
            except DataFileError as error:
                if not isinstance(error, _MAY_PASS):
                    raise self._failed(start, stop, error) from error
                if deadline.passed:
                    may_wait = self._waits and not timeout
                    hint = f". Setting {self._waits} [s] waits for it" if may_wait else ""
                    raise self._failed(start, stop, error, hint) from error
            time.sleep(deadline.remaining(POLL_S))

    def _failed(
        self, start: int, stop: int, error: DataFileError, hint: str = ""
    ) -> PointsNotInFileError:
        points = f"index {start}" if stop == start + 1 else f"points {start} to {stop - 1}"
        return PointsNotInFileError(
            f"{self._what}: {points} left the server's memory, and cannot be read from "
            f"{self.where}: {error}{hint}"
        )

    def holding(self, events: EventBounds) -> Holding:
        """Which points are in the file, as the last look says; looks again where `events.looks` allows
        it. What is not there may come as long as the stream goes on, or somebody writes the file."""
        now = time.monotonic()
        seen = self._seen
        if seen is None or (
            events.looks.may_look(now - seen.at) and not self._is_as_it_was(seen, events)
        ):
            seen = self._look(now)
            took = time.monotonic() - now
            events.looks.took(took)
            self._seen = seen = replace(seen, at=now + PATIENCE * took)
        missing = seen.missing & Ranges.between(0, events.length) if events.sealed else seen.missing
        coming = missing - seen.lost if seen.being_written or not events.sealed else NOTHING
        return Holding(
            Place.FILE,
            seen.there,
            coming,
            self._file_path,
            self._data_path,
            seen.why if missing and missing.spans[0][0] < events.length else None,
            looked_at=True,
            hidden=seen.hidden,
            may_pass=not seen.lost,
        )

    def _is_as_it_was(self, seen: _Seen, events: EventBounds) -> bool:
        """True if the file was settled, and nobody has touched it since."""
        if not seen.stamp or seen.being_written:
            return False
        path = self._file_path
        return events.looks.once(("stamp", path), lambda: _stamp_of(path)) == seen.stamp

    def _look(self, now: float) -> _Seen:
        try:
            with borrowed_file(self._file_path, self._roots()) as file:
                dataset = file.dataset(self._data_path)
                self._check(file, dataset)
                extent = dataset.extent()
                there = Ranges(tuple(extent.spans))
                why = extent.why or f"it has {_counted(there)}"
                writing = file.anything_being_written()
                stamp = file.stamp if dataset.is_within(file) else ()
                lost, missing = Ranges(tuple(extent.lost)), ALL - there
                hidden = Ranges(tuple(extent.hidden))
                return _Seen(now, there, writing, lost, why, stamp, missing, hidden)
        except _MAY_PASS as error:
            return _Seen(now, being_written=isinstance(error, DataFileBusyError), why=str(error))
        except DataFileRefusedError as error:
            return _Seen(now, lost=ALL, hidden=ALL, why=str(error))
        except DataFileError as error:
            return _Seen(now, lost=ALL, why=str(error))

    def _read(self, start: int, stop: int) -> Array:
        before: Array | None = None
        for _ in range(LOOKS):
            with borrowed_file(self._file_path, self._roots()) as file:
                dataset = file.dataset(self._data_path)
                self._check(file, dataset)
                rows = dataset.rows(start, stop, written_only=True)
                agreed = before is not None and _same(before, rows)
                if agreed or file.is_current():
                    return self._taken(start, file, rows)
            before = rows
        raise DataFileBusyError(
            f"{self._file_path} was rewritten each time that it was read, {LOOKS} times"
        )

    def _taken(self, start: int, file: CheckedFile, rows: Array) -> Array:
        self._known = file.stamp
        if self._witness is None and len(rows):
            enough = max(1, WITNESS_NBYTES // max(1, rows[:1].nbytes))
            self._witness = (start, rows[:enough].copy())
        return rows.astype(self._dtype, copy=False)

    def _check(self, file: CheckedFile, dataset: CheckedDataset) -> None:
        """Raises unless that can be this stream's data, and is the file that it was before."""
        found = dataset.dtype
        if found.newbyteorder("=") != self._dtype.newbyteorder("="):
            raise DataFileContentError(
                f"it holds {found}, but the points of the stream are {self._dtype}"
            )
        shape = dataset.shape
        fits = len(shape) == len(self._shape) + 1 and all(
            expected in (-1, n) for expected, n in zip(self._shape, shape[1:], strict=True)
        )
        if not fits:
            raise DataFileContentError(
                f"it has the shape {shape}, expected (points, *{self._shape}): it is not what this "
                "stream was saved to"
            )
        if self._witness is not None and self._known != file.stamp:
            start, rows = self._witness
            again = dataset.rows(start, start + len(rows))
            if not _same(again, rows):
                raise DataFileContentError(
                    f"points {start} to {start + len(rows) - 1} are not what they were when they "
                    "were read first: the file was replaced or written anew. Load the scan again to "
                    "read what is there now"
                )


def _stamp_of(path: str) -> tuple[int, ...]:
    """The file's state; empty if there is none."""
    try:
        return stamp_of(path)
    except (OSError, ValueError):
        return ()


def _counted(there: Ranges) -> str:
    if not there:
        return "no point of it (yet)"
    return f"only {'points' if there.count > 1 else 'point'} {there}"


def _same(a: Array, b: Array) -> bool:
    """Bit for bit, so that nan is nan; of texts, which are objects, their values."""
    if not a.dtype.hasobject:
        return a.tobytes() == b.tobytes()
    return [_comparable(one) for one in a] == [_comparable(one) for one in b]


def _comparable(found: Any) -> Any:
    """A row with lists of any length in it, or a text."""
    if isinstance(found, np.ndarray):
        return found.shape, found.tobytes()
    if isinstance(found, np.void):
        return [_comparable(part) for part in found.item()]
    return found


def default_timeout() -> float:
    """What `$BLISSDATA_FILE_TIMEOUT` says [s]; 0 without it. Raises `ValueError`."""
    given = os.environ.get("BLISSDATA_FILE_TIMEOUT", "")
    try:
        seconds = float(given or 0)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ValueError(
            f"$BLISSDATA_FILE_TIMEOUT is {given!r}; expected a number of seconds, 0 or more"
        )
    return seconds
