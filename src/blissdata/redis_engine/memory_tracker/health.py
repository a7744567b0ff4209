"""How a server is kept: what its memory tracker says, who pins what, which publishers are dead.

`look` asks the server, in a handful of round trips however many scans there are; everything else is pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blissdata.exceptions import ScanLoadError
from blissdata.redis_engine.backends.abstract import PinState, Record
from blissdata.redis_engine.documents import StreamDocument
from blissdata.redis_engine.memory_tracker.report import FOREIGN_S, Report
from blissdata.redis_engine.memory_tracker.sizes import human_size
from blissdata.redis_engine.scan import ScanState
from blissdata.redis_engine.store import DataStore
from blissdata.streams.event_log import Bounds

__all__ = ["Frame", "Health", "PinBehind", "Setup", "look", "warnings"]

NEARLY_FULL = 0.95
"""From this part of its limit on, a server is said to be nearly full."""

FRAMES = 20
"""A point that takes more than one part in so many of the memory that may be used is too large."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a server is set up, as far as that decides what may be lost."""

    used_memory: int
    """[bytes]"""
    max_memory: int
    """[bytes]; 0: no limit."""
    policy: str | None
    """What it does at the limit; None: not told."""
    append_only: bool | None
    """Whether it writes what it gets into a file; None: not told."""
    starting: bool = False
    """True while its own memory tracker may be on its way up still."""


@dataclass(frozen=True, slots=True)
class PinBehind:
    """A pin, and how far its consumer is behind."""

    pin: PinState

    points: int | None
    """How many points of all its streams wait for it; None if its scan cannot be read."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        pin = self.pin
        return {
            "name": pin.name,
            "scan": pin.scan_key,
            "holder": pin.holder,
            "lasting": pin.lasting,
            "silence_s": round(pin.silence, 1),
            "lapsed": pin.lapsed,
            "points_behind": self.points,
            "lost": {key: [list(r) for r in ranges] for key, ranges in pin.lost.items()},
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """The largest point of an open scan."""

    scan_key: str
    stream: str
    nbytes: int
    """[bytes]"""


@dataclass(frozen=True, slots=True)
class Health:
    """How a server is kept."""

    now: float
    """The server's clock, Unix time [s]."""
    kind: str
    """`plain` or `stack`: only the latter can be shared with blissdata 2.x."""
    report: Report | None = None
    """What the memory tracker that works says; None if there is none, or one of blissdata 2.x."""
    recorded: float | None = None
    """When somebody last wrote into the tracker's journal, Unix time [s]."""
    oldest: float | None = None
    """Since when all points are there, Unix time [s]; None if nobody knows."""
    pins: tuple[PinBehind, ...] = ()
    dead: Mapping[str, float] = field(default_factory=dict)
    """For open scans whose publisher is silent, for how long [s]."""
    largest: Frame | None = None

    @property
    def pins_can_be_kept(self) -> bool:
        """False where a tracker of blissdata 2.x is at work, which knows nothing of pins."""
        if self.report is not None:
            seen = self.report.foreign
        else:
            seen = self.recorded if self.kind == "stack" else None
        return seen is None or self.now - seen > FOREIGN_S

    def as_json(self) -> dict[str, Any]:
        """For `--json`; times are Unix times [s]."""
        report = self.report
        coming = report.next if report else None
        return {
            "now": self.now,
            "tracker": report
            and {
                "who": report.who,
                "time": report.time,
                "scans": report.scans,
                "cleaning_threshold": report.options.cleaning_threshold,
                "protected_history": report.options.protected_history,
                "pin_limit": str(report.options.pin_limit),
                "alarms": [{"time": alarm.time, "text": alarm.text} for alarm in report.alarms],
            },
            "complete_since": self.oldest,
            "next": coming
            and {
                "before": coming.until,
                "streams": coming.streams,
                "scans": list(coming.scans),
                "more_scans": coming.more,
            },
            "pins_can_be_kept": self.pins_can_be_kept,
            "pins": [pin.as_json() for pin in self.pins],
            "dead_publishers": [
                {"scan": key, "silence_s": round(silence, 1)} for key, silence in self.dead.items()
            ],
        }


def warnings(setup: Setup, health: Health | None) -> list[str]:
    """What an operator should do something about, each with what to do."""
    found = list(_of_setup(setup))
    if health is not None:
        found += _of_keeping(setup, health)
    return found


def _of_setup(setup: Setup) -> Iterable[str]:
    if not setup.max_memory:
        yield (
            "the server has no memory limit: it grows until the system kills it, and no memory tracker "
            "can work. CONFIG SET maxmemory 4gb"
        )
    elif setup.used_memory >= NEARLY_FULL * setup.max_memory:
        yield "memory is nearly full: publishers wait, then fail"
    if setup.policy not in (None, "noeviction"):
        yield (
            f"at its memory limit the server throws keys away by itself ({setup.policy}): points and "
            "scans vanish without a word. CONFIG SET maxmemory-policy noeviction"
        )
    if setup.append_only is False:
        yield (
            "the server has no append-only file: when it stops, points are lost. CONFIG SET appendonly yes"
        )


def _of_keeping(setup: Setup, health: Health) -> Iterable[str]:
    yield from _of_tracker(setup, health)
    for behind in health.pins:
        pin = behind.pin
        what = f"pin {pin.name!r} of scan {pin.scan_key}"
        lost = sum(stop - start for ranges in pin.lost.values() for start, stop in ranges)
        if lost:
            yield f"{what} is broken: {lost} points were forgotten before {pin.holder} had them"
        if pin.silent and not pin.lapsed:
            yield (
                f"{what} outlived its program: nothing was heard of {pin.holder} for {pin.silence:.0f} s. "
                f"Start that program again, or `{shlex.join(['blissdata', 'pins', '--remove', pin.scan_key, pin.name])}`"
            )
    for key, silence in health.dead.items():
        yield f"the publisher of scan {key} gives no sign of life any more, for {silence:.0f} s"
    frame = health.largest
    if frame and setup.max_memory and frame.nbytes * FRAMES > setup.max_memory:
        yield (
            f"one point of stream {frame.stream!r} of scan {frame.scan_key} takes "
            f"{human_size(frame.nbytes)}, and the whole server may use {human_size(setup.max_memory)}: "
            "raise its memory limit"
        )


def _of_tracker(setup: Setup, health: Health) -> Iterable[str]:
    report = health.report
    if not health.pins_can_be_kept:
        yield (
            "a memory tracker of blissdata 2.x is at work: it knows nothing of pins, so that they cannot "
            "be kept. Run `blissdata track` in its place"
        )
    elif report is None and setup.max_memory and not setup.starting:
        yield (
            "no memory tracker is at work: once memory is full, publishers wait, then fail. "
            "`blissdata track --url URL`"
        )
    if report is not None:
        for alarm in report.alarms:
            yield f"{health.now - alarm.time:.0f} s ago the memory tracker said: {alarm.text}"


# ---------------------------------------------------------------------------------- the server


def look(store: DataStore, dead: Mapping[str, float]) -> Health:
    """Asks the server; `dead` are the open scans whose publisher is lost, and for how long it has been
    silent [s]. A handful of round trips."""
    backend = store.backend
    info = backend.info()
    report = Report.from_texts(backend.pins.told())
    first = backend.upkeep.records(count=1)
    newest = backend.upkeep.newest_record()
    running = _running(store)
    pins = backend.pins.all()
    documents = _documents(store, {*running, *(pin.scan_key for pin in pins)})
    bounds = store.event_log.bounds(
        sorted({s.key() for pin in pins for s in documents.get(pin.scan_key, {}).values()})
    )
    oldest = first[0].time if first else None
    return Health(
        now=info.time,
        kind=info.kind,
        report=report,
        recorded=Record(newest, {}).time if newest else None,
        oldest=report.oldest if report else oldest,
        pins=tuple(PinBehind(p, _behind(p, documents.get(p.scan_key), bounds)) for p in pins),
        dead=dict(dead),
        largest=_largest({key: documents[key] for key in running if key in documents}),
    )


def _running(store: DataStore) -> list[str]:
    """The scans that are not closed."""
    try:
        states = store.scan_states(store.search_existing_scans()[1])
    except ScanLoadError:  # one is damaged, it does not say which
        return []
    return [key for key, n in states.items() if n is not None and n < ScanState.CLOSED]


def _documents(store: DataStore, keys: Iterable[str]) -> dict[str, dict[str, StreamDocument]]:
    """The streams of each scan that can be loaded."""
    mine = [key for key in keys if store.catalog.is_scan_key(key)]
    return {
        key: loaded.document.streams
        for key, loaded in store.catalog.load_many(mine).items()
        if not isinstance(loaded, ScanLoadError)
    }


def _behind(
    pin: PinState,
    streams: Mapping[str, StreamDocument] | None,
    bounds: Mapping[str, Bounds | Exception],
) -> int | None:
    if streams is None:
        return None
    points = 0
    for stream in streams.values():
        at, found = pin.position(stream.key()), bounds.get(stream.key())
        if at is not None and isinstance(found, Bounds):
            points += max(0, found.tail.length - at)
    return points


def _largest(scans: Mapping[str, Mapping[str, StreamDocument]]) -> Frame | None:
    frames = [
        Frame(key, name, _point_nbytes(stream))
        for key, streams in scans.items()
        for name, stream in streams.items()
    ]
    return max(frames, key=lambda frame: frame.nbytes, default=None)


def _point_nbytes(stream: StreamDocument) -> int:
    """Size of one point [bytes]; 0 where that cannot be known."""
    encoding = stream.encoding or {}
    try:
        size = np.dtype(encoding["dtype_str"]).itemsize
        for n in encoding["shape"]:
            size *= max(1, int(n))
    except (KeyError, TypeError, ValueError):
        return 0
    return int(size)
