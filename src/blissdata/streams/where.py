"""Asks where points are, for many streams in one or two round trips; and waits until they are there.

Rules are in `availability`; here they meet the server. It wakes who waits; only files are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol, TypeVar

from blissdata.exceptions import (
    DataTimeoutError,
    PayloadError,
    StreamAbandonedError,
    StreamVanishedError,
)
from blissdata.streams.availability import END, Availability, EventBounds, Looks, Place, Ranges
from blissdata.streams.deadline import Deadline
from blissdata.streams.entries import Tail
from blissdata.streams.event_stream import WAIT_SLICE_S, AbandonWatch, EventStream
from blissdata.streams.heartbeat import CLOSED

__all__ = ["Locatable", "availability_of", "wait_available"]

LOOK_S = 0.1
"""How often a file is looked at for who waits for points in it [s]: a disk wakes nobody."""

MAX_AGE_S = 1.0
"""How old a look at a file may be for who only asks [s]."""

LOOKS_BUDGET_S = 0.01
"""How long looks at files may take in one question, beyond the first one at each [s]."""

BREATH_S = 0.01
"""A stream that brings news faster is not asked again at each of them [s]."""

GRACE_S = 10.0
"""How long points are waited for that nobody seems to write any more [s]: their writer may be late."""


class Locatable(Protocol):
    """What is needed of a stream; `blissdata.streams.BaseStream` is one."""

    _asks_for_newest: ClassVar[bool]

    @property
    def name(self) -> str:
        """The stream's name in its scan."""
        ...

    @property
    def key(self) -> str:
        """The stream's key on the server."""
        ...

    @property
    def event_stream(self) -> EventStream:
        """The events underneath."""
        ...

    def _availability(self, events: EventBounds) -> Availability: ...


S = TypeVar("S", bound=Locatable)


def availability_of(streams: Iterable[S]) -> dict[S, Availability]:
    """Where the points of each stream are now. One round trip for all, one more if there are detectors
    among them, and one more if there are streams without any point; never waits.

    What is said of a file is at most a second old; where there are many streams in files, at most ten:
    looking again takes a hundredth of a second each time. A plain stream that misses points is looked for in the
    file that a writer makes of its scan: one more round trip for each such scan. A stream of which nothing can be said (its plugin is not
    installed, its scan was deleted) has a `problem`. Raises `StoreConnectionError`."""
    return {
        stream: found if isinstance(found, Availability) else _problem(stream, found)
        for stream, found in _answers(list(streams), Looks(MAX_AGE_S, LOOKS_BUDGET_S)).items()
    }


def availability(stream: Locatable) -> Availability:
    """As `availability_of`, for one stream, at which files are looked at now. Raises what is wrong."""
    (found,) = _answers([stream], Looks(-END, END)).values()
    if isinstance(found, Exception):
        raise found
    return found


def _problem(stream: Locatable, error: Exception) -> Availability:
    text = str(error) or type(error).__name__
    return Availability(stream.name, stream.key, 0, False, complete=False, problem=text)


def _answers(streams: Sequence[S], looks: Looks) -> dict[S, Availability | Exception]:
    found: dict[S, Availability | Exception] = {}
    bounds = _bounds(streams, looks)
    for stream in streams:
        one = bounds[stream]
        if isinstance(one, EventBounds):
            try:
                found[stream] = stream._availability(one)  # noqa: SLF001 — the plugin contract's own name
            except Exception as error:  # noqa: BLE001 — a plugin may fail in any way, and fails alone
                found[stream] = error
        else:
            found[stream] = one
    empty = [s for s, one in bounds.items() if _is_empty(one) and s.event_stream.scan_key]
    return found | _told_apart(empty, found) if empty else found


def _bounds(streams: Sequence[S], looks: Looks) -> dict[S, EventBounds | Exception]:
    """What the server says of the events of each stream."""
    found: dict[S, EventBounds | Exception] = {}
    for of_it, ours in _by_store(streams):
        plain = [s for s in ours if not s._asks_for_newest]  # noqa: SLF001 — the plugin contract's own name
        others = [s for s in ours if s._asks_for_newest]  # noqa: SLF001 — the plugin contract's own name
        bounds = of_it.event_log.bounds([s.key for s in plain]) if plain else {}
        for stream in plain:
            one = bounds[stream.key]
            found[stream] = (
                stream.event_stream.damaged(one)
                if isinstance(one, PayloadError)
                else _events(one.start, one.tail, looks)
            )
        newest = of_it.event_log.newest([s.key for s in others]) if others else {}
        for stream in others:
            try:
                tail, point = stream.event_stream.decode_newest(newest[stream.key])
            except PayloadError as error:
                found[stream] = error
                continue
            last = point[-1] if len(point) else None
            found[stream] = _events(tail.length - len(point), tail, looks, last)
    return found


def _by_store(streams: Sequence[S]) -> Iterator[tuple[EventStream, list[S]]]:
    """For each store one of its event streams, and all streams that are in it."""
    found: dict[int, list[S]] = {}
    for stream in streams:
        found.setdefault(id(stream.event_stream.data_store), []).append(stream)
    for ours in found.values():
        yield ours[0].event_stream, ours


def _events(start: int, tail: Tail, looks: Looks, newest: object = None) -> EventBounds:
    return EventBounds(start, tail.length, tail.sealed, newest, looks)


def _is_empty(found: EventBounds | Exception) -> bool:
    return isinstance(found, EventBounds) and not found.length and not found.sealed


def _told_apart(
    streams: Sequence[S], answers: Mapping[S, Availability | Exception]
) -> dict[S, Availability | Exception]:
    """Streams of which the server has nothing: not yet, or because their scans are gone or over."""
    found: dict[S, Availability | Exception] = {}
    for of_it, ours in _by_store(streams):
        keys = {key for stream in ours if (key := stream.event_stream.scan_key)}
        states = of_it.data_store.scan_states(sorted(keys))
        for stream in ours:
            state, what = states[stream.event_stream.scan_key or ""], stream.event_stream.what
            answer = answers[stream]
            if state is None:
                found[stream] = StreamVanishedError(f"{what}: the scan was deleted from the server")
            elif state >= CLOSED and isinstance(answer, Availability):
                trouble = (
                    "the scan is closed, but the server has nothing of this stream, not even its end: "
                    "it expired before its scan did, or nobody ever sealed it"
                )
                found[stream] = replace(answer, problem=answer.problem or trouble)
    return found


# ---------------------------------------------------------------------------------- waiting


def wait_available(
    stream: Locatable,
    wanted: int | range,
    place: Place | str | None = None,
    timeout: float | None = None,
) -> Availability:
    """See `BaseStream.wait_available`."""
    deadline = Deadline(timeout)
    there = None if place is None else Place(place)
    points = _wanted(stream, wanted, deadline)
    return _Wait(stream, points, there, deadline).until_there()


def _wanted(stream: Locatable, wanted: int | range, deadline: Deadline) -> Ranges:
    what = stream.event_stream.what
    if isinstance(wanted, range):
        if wanted and min(wanted[0], wanted[-1]) < 0:
            raise ValueError(f"{what}: a range of indices counts from 0 on, not {wanted}")
        return Ranges.at(wanted)
    if isinstance(wanted, bool) or not hasattr(wanted, "__index__"):
        raise TypeError(f"{what}: waits for an index or a range of them, not {wanted!r}")
    index = wanted.__index__()
    if index < 0:
        raise ValueError(
            f"{what}: index {index} counts from the end; wait_seal() waits until that is known"
        )
    return Ranges.between(index, index + 1)


class _Wait:
    """One wait, from question to answer."""

    def __init__(
        self, stream: Locatable, wanted: Ranges, place: Place | None, deadline: Deadline
    ) -> None:
        self._stream = stream
        self._events = stream.event_stream
        self._wanted = wanted
        self._place = place
        self._deadline = deadline
        self._watch = AbandonWatch(self._events.data_store)
        self._began = self._asked = time.monotonic()
        self._slice = WAIT_SLICE_S
        """How long the next wait is at most [s]."""

    def until_there(self) -> Availability:
        bounds = self._ask()
        while True:
            found = self._stream._availability(bounds)  # noqa: SLF001 — the plugin contract's own name
            if self._place is not None and self._place not in found.places:
                has = ", ".join(found.places) or "none that it tells of"
                raise ValueError(
                    f"{self._events.what} has no place '{self._place}'; its places are: {has}"
                )
            missing = found.missing(self._wanted, self._place)
            if not missing:
                return found
            self._check(found, missing)
            only_looking = not missing - Ranges.between(0, found.length)
            if only_looking and found.looked_for(missing, self._place):
                time.sleep(self._deadline.remaining(LOOK_S))
                if time.monotonic() - self._asked < WAIT_SLICE_S:
                    continue
            elif bounds.sealed:
                time.sleep(self._deadline.remaining(LOOK_S))
            elif self._events.event_log.read(
                {self._stream.key: bounds.length},
                wait=self._deadline.remaining(self._slice),
                max_entries=1,
            ):
                self._watch.restart()
                self._breathe()
                self._slice = (
                    LOOK_S  # a plugin's length may be one that was asked for before the event
                )
            else:
                self._slice = WAIT_SLICE_S
            if self._watch.due and self._watch.abandoned([self._events]):
                raise StreamAbandonedError(
                    f"{self._events.what}: the scan is closed, but nobody sealed it: there are "
                    f"{found.length} points, and {missing} will not come"
                )
            bounds = self._ask()

    def _ask(self) -> EventBounds:
        (found,) = _bounds([self._stream], Looks(LOOK_S / 2, END)).values()
        if isinstance(found, Exception):
            raise found
        if _is_empty(found) and self._events.scan_key:
            key = self._events.scan_key
            if self._events.data_store.scan_states([key])[key] is None:
                raise StreamVanishedError(
                    f"{self._events.what}: the scan was deleted from the server"
                )
        self._asked = time.monotonic()
        return found

    def _breathe(self) -> None:
        since = time.monotonic() - self._asked
        if since < BREATH_S:
            time.sleep(self._deadline.remaining(BREATH_S - since))

    def _check(self, found: Availability, missing: Ranges) -> None:
        """Raises if waiting makes no sense any more, or the time is up."""
        lost = found.lost(missing, self._place)
        never = found.sealed and bool(lost - Ranges.between(0, found.length))
        grace = found.may_pass(self._place) and time.monotonic() - self._began < GRACE_S
        passed = self._deadline.passed
        if lost and (never or passed or not grace):
            raise found.why_lost(lost, self._place, self._events.what)
        if passed:
            where = "" if self._place is None else f" ({self._place})"
            why = [h.why for h in found.files if h.why and self._place in (None, h.place)]
            raise DataTimeoutError(
                f"{self._events.what}: points {missing} are not there{where} in the time allowed; "
                f"{found.length} are published" + (f". {'; '.join(why)}" if why else "")
            )
