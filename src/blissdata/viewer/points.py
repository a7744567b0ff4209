"""Points that came, kept for whoever asks next: pure rules, no server.

Tail     the newest points of one stream, as long as they take no more than so much memory
Parts    answers that were given, the last used ones: a point never changes
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Parts", "Tail", "chosen_range", "for_plots"]

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

FIRST_POINTS = 1024
"""How many points a tail has room for at first, if its limit allows."""


class Tail:
    """The newest points of a stream, of shape `(points, …)`."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...], limit: int) -> None:
        """`limit` is how much is kept [bytes]; one point at least."""
        self._row = max(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 1)
        self.most = max(limit // self._row, 1)
        """How many points are kept at most."""
        self._points: Array = np.empty((min(FIRST_POINTS, self.most), *shape), dtype)
        self.start = 0
        """Index of the first point that is kept."""
        self.stop = 0
        """Index behind the last one."""

    def add(self, index: int, points: Array) -> None:
        """Adds points, of which the first has that index. What does not join on replaces everything."""
        skipped = max(len(points) - self.most, 0)
        points = points[skipped:]
        if skipped or index != self.stop:
            self.start = self.stop = index + skipped
        self._make_room(len(points))
        at = self.stop - self.start
        self._points[at : at + len(points)] = points
        self.stop += len(points)

    def _make_room(self, count: int) -> None:
        held = self.stop - self.start
        if held + count <= len(self._points):
            return
        keep = held
        if held + count > self.most:  # half of it goes, so that this does not happen each time
            keep = min(held, self.most // 2, self.most - count)
        kept = self._points[held - keep : held]
        room = min(max(2 * (len(kept) + count), FIRST_POINTS), self.most)
        self._points = np.empty((max(room, len(kept) + count), *kept.shape[1:]), kept.dtype)
        self._points[: len(kept)] = kept
        self.start = self.stop - len(kept)

    def get(self, start: int, stop: int) -> Array | None:
        """The points from `start` to `stop` (exclusive), a copy; None if they are not all kept."""
        if start < self.start or stop > self.stop:
            return None
        return self._points[start - self.start : stop - self.start].copy()

    def last(self) -> Any:
        """The newest point."""
        return self._points[self.stop - self.start - 1]


class Parts:
    """Answers that were given, up to so many bytes. Who asks for one that is being made waits for it:
    the server is asked once, however many ask."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, threading.Event] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """The answer under a key; `make` gives it and its size [bytes] if it is not there. Raises what
        `make` raises, to everybody who waits for it."""
        while True:
            with self._lock:
                found = self._kept.get(key)
                if found is not None:
                    self._kept.move_to_end(key)
                    return found[0]
                made = self._making.get(key)
                if made is None:
                    self._making[key] = threading.Event()
                    break
            made.wait()
        try:
            answer, size = make()
            with self._lock:
                self._keep(key, answer, size)
            return answer
        finally:
            self._making.pop(key).set()

    def clear(self) -> None:
        """Forgets them: the server came back with others."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _keep(self, key: Hashable, answer: Any, size: int) -> None:
        if size > self._limit // 2:
            return
        self._kept[key] = answer, size
        self._size += size
        while self._size > self._limit:
            self._size -= self._kept.popitem(last=False)[1][1]


def chosen_range(selection: str | None, length: int) -> range:
    """The indices that `a:b`, `a:`, `:b` or `a` names in a stream of that length, by the rules of Python;
    what is beyond its end is left out. Raises `ValueError` for anything else."""
    text = (selection or ":").strip()
    first, colon, last = text.partition(":")
    try:
        bounds = [int(part) if part.strip() else None for part in (first, last)]
    except ValueError:
        raise ValueError(
            f"selection={text[:40]!r}: expected a:b, a:, :b or a, with whole numbers"
        ) from None
    if not colon:
        if bounds[0] is None:
            raise ValueError(f"{selection!r} names no points")
        index = bounds[0] + length if bounds[0] < 0 else bounds[0]
        if not 0 <= index < length:
            raise ValueError(f"{selection!r}: there are {length} points")
        return range(index, index + 1)
    return range(*slice(*bounds).indices(length))


def for_plots(points: Array) -> Array:
    """Numbers as a plot takes them, float64 in JavaScript's byte order; of complex ones the magnitude."""
    if points.dtype.kind == "c":
        points = np.abs(points)
    return points.astype("<f8", copy=False)
