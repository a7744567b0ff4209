"""Copies of plain streams in files: points that have left the server are read from there.

A plain stream knows the server alone, and whoever writes files stands above it. So nothing is imported here:
an entry point of the group `blissdata.copies` names a function that finds the copy of a stream, if there is
one. It is asked only once points have left the server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np

from blissdata.exceptions import IndexNoMoreThereError
from blissdata.streams.availability import EventBounds, Holding
from blissdata.streams.entries import Tail, check_index
from blissdata.streams.event_stream import EventStream

__all__ = ["Copy", "copy_of", "joined", "read_both", "read_missing"]

_logger = logging.getLogger(__name__)

GROUP = "blissdata.copies"


class Copy(Protocol):
    """The points of one stream in a file."""

    def holding(self, events: EventBounds) -> Holding | None:
        """What the file has of the stream; None if nothing says that it should have any. A look at the
        file, as `events.looks` allows."""
        ...

    def read(self, start: int, stop: int) -> Any:
        """Points `start` to `stop` (exclusive), as the stream gives them. Never waits. Raises
        `PointsNotInFileError`, with the reason."""
        ...


Finder: TypeAlias = Callable[[EventStream], Copy | None]


def copy_of(events: EventStream) -> Copy | None:
    """The copy that somebody has made of the stream, in a file that its scan names; None if nobody knows of
    one. One round trip per scan and second; none if the scan names no file."""
    if not (events.scan_path and events.scan_key):
        return None
    for name, find in _finders().items():
        try:
            found = find(events)
        except Exception as error:  # noqa: BLE001 — whoever looks for copies fails alone
            _logger.warning("%s: its copy cannot be looked for (%s): %r", events.what, name, error)
            continue
        if found is not None:
            return found
    return None


@cache
def _finders() -> dict[str, Finder]:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    found: dict[str, Finder] = {}
    for entry in entry_points(group=GROUP):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # noqa: BLE001 — it fails alone
            _logger.warning("the copies of '%s' are not found: %r", entry.name, error)
    return found


def read_both(events: EventStream, key: int | slice, read_copy: Callable[[int, int], Any]) -> Any:
    """What `events[key]` gives, with points that have left the server from `read_copy(start, stop)`. One
    round trip, two for a slice that counts from the end. Raises as both do."""
    if not isinstance(key, slice):
        with suppress(IndexNoMoreThereError):
            return events[key]
    return read_missing(events, key, read_copy)


def read_missing(
    events: EventStream, key: int | slice, read_copy: Callable[[int, int], Any]
) -> Any:
    """The same, once `events[key]` has raised that some of it is gone: no round trip for an index."""
    if isinstance(key, slice):
        return _slice(events, key, read_copy)
    index = key.__index__()
    if index < 0:  # it is sealed, or there would have been another error
        index = check_index(index, Tail(len(events), True), events.what)
    return read_copy(index, index + 1)[0]


def _slice(events: EventStream, selection: slice, read_copy: Callable[[int, int], Any]) -> Any:
    wanted, there = events.select(selection)
    if not wanted:
        return events[0:0]
    low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
    parts, position = [], low
    for index, points in there:
        if index > position:
            parts.append(read_copy(position, index))
        parts.append(points)
        position = index + len(points)
    if position < high:
        parts.append(read_copy(position, high))
    points = joined(parts)
    if wanted.step > 0:
        return points if wanted.step == 1 else points[:: wanted.step]
    return points[::-1][:: -wanted.step]


def joined(parts: Sequence[Any]) -> Any:
    """All points: in one array, or in a list where their shapes differ or they are no numbers."""
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and all(a.shape[1:] == arrays[0].shape[1:] for a in arrays):
        return np.concatenate(arrays, dtype=arrays[0].dtype)
    return [point for part in parts for point in part]
