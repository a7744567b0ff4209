"""A sequence of scans, as a stream of their keys: readers get the scans themselves.

    parent    stream of {"key": …}    [0]      [1]      [2]  …
                                       │        │        │
    children  scans of their own      scan     deleted  scan      info: group, index_in_sequence

A child that was deleted keeps its place in the sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NoReturn

import numpy as np

from blissdata.exceptions import (
    PayloadError,
    ScanError,
    ScanKeyError,
    ScanLoadError,
    ScanNotFoundError,
)
from blissdata.streams.availability import (
    END,
    NOTHING,
    Availability,
    EventBounds,
    Holding,
    Place,
    Ranges,
)
from blissdata.streams.base import BaseStream, StreamDefinition
from blissdata.streams.default import Stream, View
from blissdata.streams.event_stream import EventStream
from blissdata.streams.scan_sequence.progress import (
    CLOSED,
    Child,
    SequenceProgress,
    child_of,
    places,
    progress_of,
    scan_count_of,
)
from blissdata.streams.views import BaseView, EventRange

__all__ = ["MissingScan", "ScanStream", "ScanView", "parent_of"]

PLUGIN = "scan_sequence"


class MissingScan:
    """In the place of a child that cannot be loaded, in lists of scans: it has its `key` (None if
    even that is damaged) and `error`; whatever else is asked of it raises that error."""

    def __init__(self, key: str | None, error: Exception) -> None:
        self.key = key
        self.error = error

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copy, pickle and others ask whether there is one
            raise AttributeError(name)
        raise self.error

    def __repr__(self) -> str:
        return f"<MissingScan {self.key}: {self.error}>"


class _Loader:
    """Makes scans of points, many in one round trip."""

    def __init__(self, stream: ScanStream) -> None:
        self._store = stream.event_stream.data_store
        self._what = stream.event_stream.what

    def load(self, indices: Iterable[int], points: Sequence[Any]) -> list[Any]:
        """A scan for each point; a `MissingScan` where there is none."""
        keys = [_key_in(point) for point in points]
        loaded = self._loaded(list(dict.fromkeys(key for key in keys if key is not None)))
        found: list[Any] = []
        for index, key, point in zip(indices, keys, points, strict=False):
            if key is None:
                damage = f"found {str(point)[:100]}, expected an object with a 'key'"
                error = PayloadError(f"{self._what}, index {index}: {damage}")
                found.append(MissingScan(None, error))
                continue
            scan = loaded[key]
            if isinstance(scan, Exception):
                scan = MissingScan(key, self._explained(index, key, scan))
            found.append(scan)
        return found

    def _loaded(self, keys: Sequence[str]) -> dict[str, Any]:
        """Scans by key. One round trip, unless one of the keys cannot be a scan's."""
        try:
            return self._store.load_scans(keys)
        except ScanKeyError as error:
            if len(keys) == 1:
                return {keys[0]: error}
            return {key: scan for one in keys for key, scan in self._loaded([one]).items()}

    def states(self, keys: Sequence[str]) -> dict[str, int | None]:
        """The state of each scan, None for those that are not there. One round trip."""
        return self._store.scan_states(keys) if keys else {}

    def _explained(self, index: int, key: str, error: Exception) -> Exception:
        kind = type(error) if isinstance(error, ScanError) else ScanLoadError
        reason = (
            "it was deleted or has expired" if isinstance(error, ScanNotFoundError) else str(error)
        )
        return kind(f"{self._what}, index {index}: scan {key} cannot be loaded: {reason}")


class ScanView(BaseView):
    """Scans that a cursor has passed."""

    def __init__(self, loader: _Loader, events: EventRange) -> None:
        self._loader = loader
        self._events = View(events)

    @property
    def index(self) -> int:
        return self._events.index

    def __len__(self) -> int:
        return len(self._events)

    def get_data(self, start: int | None = None, stop: int | None = None) -> list[Any]:
        """A list of read-only `Scan`s, as they are now; a `MissingScan` in the place of one that was
        deleted. One round trip. Raises `IndexNoMoreThereError`."""
        first = slice(start, stop).indices(len(self))[0]
        points = self._events.get_data(start, stop)
        return self._loader.load(count(self.index + first), points)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get_data())


class ScanStream(BaseStream):
    """A stream whose points are scans. Publishers send `{"key": scan.key}`."""

    def __init__(self, event_stream: EventStream) -> None:
        super().__init__(event_stream)
        self._known_keys: dict[int, str | None] = {}
        self._over: dict[int, Child] = {}

    @staticmethod
    def make_definition(name: str, info: Mapping[str, Any] | None = None) -> StreamDefinition:
        """What to give `scan.create_stream`. `info` is copied."""
        described = {**(info or {}), "format": "subscan", "plugin": PLUGIN}
        return Stream.make_definition(name, "json", info=described)

    @property
    def kind(self) -> str:
        """`scan`."""
        return "scan"

    @property
    def plugin(self) -> str:
        return PLUGIN

    @property
    def dtype(self) -> np.dtype[Any]:
        """`object`: the points are scans."""
        return np.dtype(object)

    @property
    def shape(self) -> tuple[int, ...]:
        """`()`."""
        return ()

    def __len__(self) -> int:
        """How many scans the sequence has so far, deleted ones included. One round trip."""
        return len(self.event_stream)

    def send(self, data: Any) -> None:
        """Adds one scan, `{"key": scan.key}`; further fields are kept. Raises `ValueError` for
        anything without a key, and as `EventStream.send` does."""
        if _key_in(data) is None:
            hint = "; give {'key': scan.key}" if hasattr(data, "key") else ""
            raise (TypeError if hint else ValueError)(
                f"A point of the sequence '{self.name}' is an object with the 'key' of a scan, "
                f"not {str(data)[:100]}{hint}"
            )
        super().send(data)

    def child_info(self, *, retry_nb: int | None = None) -> dict[str, Any]:
        """What ties the next child to this sequence, for its info: `group`, the key of the parent scan,
        and `index_in_sequence`. Waits until the server has the scans sent before; three round trips.

            with store.create_scan(identity, {**info, **sequence.child_info()}) as child:
                sequence.send({"key": child.key})

        `retry_nb` is for a scan that is the same one tried again: it keeps the place of the one sent
        last. Raises `ValueError` where there is none, `NoWritePermission` on a read-only stream."""
        self.join()
        before = list(places(self._children()[0]).values())
        tie: dict[str, Any] = {"group": self.event_stream.scan_key}
        if retry_nb is None:
            return {**tie, "index_in_sequence": before[-1] + 1 if before else 0}
        if not before:
            raise ValueError(
                f"The sequence '{self.name}' has no scan yet that could be tried again"
            )
        return {**tie, "index_in_sequence": before[-1], "retry_nb": retry_nb}

    def progress(self) -> SequenceProgress:
        """How far the sequence is: how many of its scans are done, failed, running, deleted, and how many
        there will be (`sequence_info["scan_count"]` of the parent). A scan that was tried again counts
        once. Three round trips; children that are over are not asked again. Never waits.

        Raises `ScanNotFoundError` if the parent was deleted."""
        key = self.event_stream.scan_key
        store = self.event_stream.data_store
        count = None if key is None else scan_count_of(store.load_scan(key).info)
        return progress_of(*self._children(), count)

    def _children(self) -> tuple[dict[int, Child], int]:
        """What is known of the children, by index, and how many there were. Two round trips; those that
        are over are not asked again."""
        wanted, runs = self.event_stream.select(slice(None))
        points = {i: point for start, run in runs for i, point in enumerate(run, start)}
        unknown = [i for i in points if i not in self._over]
        loaded = _Loader(self).load(unknown, [points[i] for i in unknown])
        found = dict(self._over)
        for index, scan in zip(unknown, loaded, strict=True):
            found[index] = _as_child(scan)
            if found[index].state == CLOSED:
                self._over[index] = found[index]
        return found, len(wanted)

    def __getitem__(self, key: int | slice) -> Any:
        """The scan at that index, read-only and as it is now; or a list of them, with a `MissingScan`
        in the place of one that was deleted. Two round trips.

        Raises as a plain stream does, and `ScanNotFoundError` for the index of a deleted scan."""
        found = self.event_stream[key]
        loader = _Loader(self)
        if isinstance(key, slice):
            return loader.load(self._indices(key), found)
        (scan,) = loader.load([key], [found])
        if isinstance(scan, MissingScan):
            raise scan.error
        return scan

    def _indices(self, selection: slice) -> Iterable[int]:
        """The indices that a slice selects; of one that goes forward, from its start without end."""
        bounds = (selection.start or 0, selection.stop or 0, selection.step or 1)
        if min(bounds) >= 0:
            return count(bounds[0], bounds[2])
        return range(*selection.indices(len(self.event_stream)))

    def _availability(self, events: EventBounds) -> Availability:
        """A scan can be had if the server has both its key and the scan. A round trip for keys that are
        new, and one for the states of all children."""
        known = self._known_keys
        for start, stop in events.there - Ranges.of((i, i + 1) for i in known):
            for index, points in self.event_stream.select(slice(start, stop))[1]:
                known.update(enumerate(map(_key_in, points), index))
        keys = {key for index, key in known.items() if index in events.there and key is not None}
        states = _Loader(self).states(sorted(keys))
        alive = {key for key, state in states.items() if state is not None}
        there = Ranges.of((i, i + 1) for i, key in known.items() if key in alive) & events.there
        to_come = NOTHING if events.sealed else Ranges.between(events.length, END)
        why = "the scans were deleted, or their keys left the server's memory"
        holdings = (Holding(Place.MEMORY, there, to_come, why=why),)
        return Availability(self.name, self.key, events.length, events.sealed, holdings)

    def _need_last_only(self, last_only: bool) -> bool:
        return last_only

    def _build_view_from_events(self, index: int, events: EventRange, last_only: bool) -> ScanView:
        return ScanView(_Loader(self), events)


def parent_of(scan: Any) -> Any:
    """The scan that `scan` is a part of, read-only; None if it is part of none. One round trip. Raises
    `ScanNotFoundError` if the parent was deleted, `ScanLoadError` for what is no key of a scan."""
    key = scan.info.get("group")
    if key is None:
        return None
    try:
        return scan.data_store.load_scan(key)
    except ScanKeyError as error:
        raise ScanLoadError(f"Scan {scan.key} says that it is part of {key!r}: {error}") from error


def _as_child(scan: Any) -> Child:
    return Child() if isinstance(scan, MissingScan) else child_of(scan.info, scan.state)


def _key_in(point: Any) -> str | None:
    """The key in a point, None if there is none."""
    key = point.get("key") if isinstance(point, Mapping) else None
    return key if isinstance(key, str) and key else None
