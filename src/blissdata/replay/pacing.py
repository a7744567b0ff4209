"""When the points of a replay are due: so many a second, at recorded times, or as fast as they go.

Deadlines count from the start, so a late point does not delay those after it; points that are due
together are sent together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blissdata.exceptions import SourceFileError
from blissdata.replay.measurement import Channel, Measurement

__all__ = ["Clock", "Pace", "recorded_times", "schedule"]

Pace = float | Literal["as-recorded", "fast"]
"""Points per second, or `"as-recorded"`, or `"fast"`."""

LONGEST_SLEEP_S = 1.0
"""Sleeps are cut into such pieces [s]: one that is too long for the system is refused by it."""

_TIMES = {"elapsed_time": 1, "epoch": 2, "time": 3}
"""Names of channels of recorded times, preferred ones first."""

_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
_UNITS |= {"µs": 1e-6, "ns": 1e-9, "min": 60.0, "minutes": 60.0, "h": 3600.0, "hours": 3600.0}


class Clock:
    """Time since the start of a replay."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic, self._sleep = monotonic, sleep
        self._start = monotonic()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._monotonic() - self._start

    def wait_until(self, due: float) -> None:
        """Sleeps until `due` [s] after the start; not at all if that has passed."""
        while (left := due - self.now) > 0:
            self._sleep(min(left, LONGEST_SLEEP_S))


def checked(pace: Pace) -> Pace:
    """The pace. Raises `ValueError` for what is none."""
    if pace in ("as-recorded", "fast") or (
        isinstance(pace, int | float) and 0 < pace < math.inf and not isinstance(pace, bool)
    ):
        return pace
    raise ValueError(
        f"A pace is a number of points per second > 0, 'as-recorded' or 'fast', not {pace!r}"
    )


def schedule(
    npoints: int, at_once: int, pace: Pace, times: NDArray[np.float64] | None, clock: Clock
) -> Iterator[tuple[int, int]]:
    """First and last index (exclusive) of the points to send next, at the moment when they are due;
    `at_once` of them at most. `times` [s], one for each point, where the pace is `"as-recorded"`."""
    sent = 0
    while sent < npoints:
        if pace == "fast":
            due = npoints
        else:
            clock.wait_until(_due_time(sent, pace, times))
            due = max(sent + 1, _count_due(clock.now, pace, times))
        until = min(due, sent + at_once, npoints)
        yield sent, until
        sent = until


def _due_time(index: int, pace: Pace, times: NDArray[np.float64] | None) -> float:
    if times is not None:
        return float(times[min(index, len(times) - 1)])
    return index / float(pace)


def _count_due(now: float, pace: Pace, times: NDArray[np.float64] | None) -> int:
    if times is not None:
        return int(np.searchsorted(times, now, side="right"))
    return int(now * float(pace)) + 1


def recorded_times(measurement: Measurement) -> NDArray[np.float64]:
    """When each point was measured, in seconds since the first, from a channel called
    `elapsed_time`, `epoch` or `time`. Raises `SourceFileError` if there is none, or if its times do
    not grow."""
    channel = _time_channel(measurement)
    if channel is None:
        names = ", ".join(c.name for c in measurement.channels[:12])
        raise SourceFileError(
            f"{measurement.label} has no recorded times: found the channels {names}, expected one of "
            "elapsed_time, epoch, time. Replay it at a pace, or fast"
        )
    times: NDArray[np.float64] = np.asarray(channel.read(0, channel.points), np.float64)
    times = (times - times[0]) * _UNITS[(channel.unit or "").strip()]
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise SourceFileError(
            f"{measurement.label}: the times in {channel.name} do not grow from point to point, "
            "expected seconds that do. Replay it at a pace, or fast"
        )
    return times


def _time_channel(measurement: Measurement) -> Channel | None:
    found = [
        (_TIMES[name], channel)
        for channel in measurement.channels
        if (name := channel.name.rpartition(":")[2].lower()) in _TIMES
        and not channel.shape
        and channel.points > 1
        and channel.dtype is not None
        and channel.dtype.kind in "iuf"
        and (channel.unit or "").strip() in _UNITS
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None
