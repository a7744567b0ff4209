"""The copy of a plain stream in the file that a writer made of its scan: where it is, and its points.

The scan's layout says at which path of which file they are. The file says whether they are this scan's: a
mark of this writer's on the entry, or else the layout is a promise of whoever publishes (`save` is true).
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from blissdata.data_roots import DataRoots
from blissdata.exceptions import (
    BlissdataError,
    DataFileRefusedError,
    PointsNotInFileError,
    StoreError,
)
from blissdata.h5map.data_items import TEXT
from blissdata.hdf5_handles import borrowed_file
from blissdata.redis_engine.scan import Scan, ScanState
from blissdata.streams.availability import END, NOTHING, EventBounds, Holding, Place, Ranges
from blissdata.streams.hdf5_fallback.source import FileSource
from blissdata.writer.follower import files_of
from blissdata.writer.nexus import MISSING_MARK, SCAN_MARK, stored_as
from blissdata.writer.plan import Points, plan_of

if TYPE_CHECKING:
    from blissdata.streams.event_stream import EventStream

__all__ = ["SavedCopy", "find_copy"]

FRESH_S = 1.0
"""So long is known where the streams of a scan are that is not closed [s]."""

MOST_SCANS = 16
"""Of so many scans of a store it is remembered."""


def find_copy(events: EventStream) -> SavedCopy | None:
    """Where a writer puts, or has put, the points of that stream; None if its scan is not to be saved. One
    round trip, if its scan was not asked for a second ago. Raises `StoreError`."""
    scan = events.scan_key or ""
    with _lock:
        scans = _known.setdefault(events.data_store, OrderedDict())
        places = scans.get(scan)
    if places is None or not places.is_fresh():
        places = _Places.of(events, scan, places)
    with _lock:
        scans[scan] = places
        scans.move_to_end(scan)
        while len(scans) > MOST_SCANS:
            scans.popitem(last=False)
    return places.copy(events)


_lock = threading.Lock()
_known: WeakKeyDictionary[Any, OrderedDict[str, _Places]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Where:
    """A dataset that the points of a stream make."""

    file: str
    entry: str
    path: str

    promised: bool
    """True if whoever publishes says that they are there."""


class _Places:
    """Where the streams of one scan are."""

    def __init__(
        self, where: Mapping[str, _Where], *, closed: bool, copies: Mapping[str, SavedCopy]
    ) -> None:
        self._where = where
        self._closed = closed
        self._copies = dict(copies)
        self._at = time.monotonic()

    @classmethod
    def of(cls, events: EventStream, key: str, before: _Places | None) -> _Places:
        """As the server has the scan of that key now."""
        copies = {} if before is None else before._copies  # noqa: SLF001 — one of ours
        try:
            scan: Scan = events.data_store.load_scan(key)
        except StoreError:
            raise
        except BlissdataError:  # it was deleted, or cannot be read
            return cls({}, closed=False, copies=copies)
        return cls(_places(scan), closed=scan.state >= ScanState.CLOSED, copies=copies)

    def is_fresh(self) -> bool:
        """Whether nothing else is to be expected."""
        return self._closed or time.monotonic() - self._at < FRESH_S

    def copy(self, events: EventStream) -> SavedCopy | None:
        """That of a stream."""
        where = self._where.get(events.name)
        if where is None:
            return None
        known = self._copies.get(events.name)
        if known is None or known.place != where:
            known = self._copies[events.name] = SavedCopy(events, where)
        return known


def _places(scan: Scan) -> dict[str, _Where]:
    """Where a writer puts the points of each stream, as the scan's layout says."""
    if scan.info.get("save") is False:
        return {}
    explained = bool(scan.info.get("h5maps") or scan.info.get("mapping"))
    promised = scan.info.get("save") is True and explained
    found: dict[str, _Where] = {}
    for file, layouts in files_of(scan).items():
        for entry, layout in layouts.items():
            plan = plan_of(entry, layout, set(scan.stream_names))
            for name, paths in plan.streams.items():
                found.setdefault(name, _Where(file, entry, paths[0], promised))
    return found


class SavedCopy:
    """The points of one stream in a file. Files are opened below `$BLISSDATA_DATA_ROOTS`, else below the
    directory of the scan's own file."""

    def __init__(self, events: EventStream, place: _Where) -> None:
        self.place = place
        """Where it is."""
        self._what = events.what
        self._scan = events.scan_key
        self._scan_path = events.scan_path
        self._saves = events.scan_saves
        self._points = (
            Points(TEXT) if events.dtype == object else Points(events.dtype, tuple(events.shape))
        )
        dtype, shape = stored_as(self._points)
        self._source = FileSource(
            self._what, place.file, place.path, dtype, shape, self._roots, waits=""
        )

    def _roots(self) -> DataRoots:
        return DataRoots.choose(None, self._scan_path)

    def holding(self, events: EventBounds) -> Holding | None:
        """What the file has of the stream. Nothing is promised: what a writer has not had yet, its pin
        keeps in memory. None if nothing says that it should have any."""
        place = self.place
        try:
            marks = events.looks.once(("marks", place.file, place.entry), self._marks)
            missing = self._missing(marks)
            found = self._source.holding(events)
        except BlissdataError as error:
            refused = isinstance(error, DataFileRefusedError)
            if not (self._saves or refused):
                return None
            hidden = Ranges.between(0, END) if refused else NOTHING
            return Holding(
                Place.FILE, NOTHING, NOTHING, place.file, place.path, str(error), hidden=hidden
            )
        why = f"points {missing} were gone before they could be written" if missing else found.why
        there = found.there - missing
        return replace(found, there=there, coming=NOTHING, may_pass=False, why=why)

    def read(self, start: int, stop: int) -> Any:
        """Points `start` to `stop` (exclusive), as the stream gives them: an array, or a list for JSON and
        points that vary in shape. Never waits. Raises `PointsNotInFileError`."""
        try:
            missing = self._missing(self._marks()) & Ranges.between(start, stop)
        except BlissdataError as error:
            raise self._failed(start, stop, str(error)) from error
        if missing:
            raise self._failed(
                start, stop, f"{missing} were gone before they could be written: they are lost"
            )
        return self._decoded(self._source.read(start, stop, timeout=0))

    def _failed(self, start: int, stop: int, why: str) -> PointsNotInFileError:
        points = f"index {start}" if stop == start + 1 else f"points {start} to {stop - 1}"
        return PointsNotInFileError(
            f"{self._what}: {points} left the server's memory, and cannot be read from "
            f"{self._source.where}: {why}"
        )

    def _marks(self) -> Mapping[str, Any]:
        """Attributes of the entry. Raises a `DataFileError`."""
        with borrowed_file(self.place.file, self._roots()) as file:
            return file.attributes(f"/{self.place.entry}")

    def _missing(self, marks: Mapping[str, Any]) -> Ranges:
        """The points for which fill values stand. Raises a `BlissdataError` if the entry is not known to be
        this scan's."""
        place = self.place
        owner = marks.get(SCAN_MARK)
        if owner is None and not place.promised:
            raise PointsNotInFileError(
                f"nothing in {place.file}::/{place.entry} says that it is of this scan; "
                "`blissdata web`, `silx view` and h5py show the file all the same"
            )
        if owner not in (None, self._scan):
            raise PointsNotInFileError(f"{place.file}::/{place.entry} is of scan {owner}")
        return _ranges(marks.get(MISSING_MARK), place.path)

    def _decoded(self, rows: np.ndarray[Any, Any]) -> Any:
        if self._points.dtype.kind == "O":
            return [json.loads(text) for text in rows]
        if not self._points.varies:
            return rows
        if rows.dtype.names:
            return [row["data"].reshape(row["shape"]) for row in rows]
        return [np.asarray(row) for row in rows]


def _ranges(mark: Any, path: str) -> Ranges:
    """What the mark says of the dataset at that path. Nothing is trusted: all is missing if it is none of
    ours."""
    if mark is None:
        return NOTHING
    try:
        spans = json.loads(mark).get(path, [])
        return Ranges.of((int(start), int(stop)) for start, stop in spans)
    except (ValueError, TypeError, AttributeError):
        return Ranges.between(0, 2**63 - 1)
