"""A reader's place in one stream, or in many at once: read at any time, at any speed.

The server wakes a reader that waits. No call blocks on it for longer than a few seconds: then the
scan is looked at, so that a reader of a scan that nobody continues is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

from blissdata.exceptions import (
    EmptyViewException,
    EndOfStream,
    PayloadError,
    StreamAbandonedError,
    StreamDeletedError,
    StreamRewoundError,
)
from blissdata.streams.deadline import Deadline
from blissdata.streams.entries import (
    LARGE_ENTRY,
    Entries,
    Entry,
    Run,
    Tail,
    entries_per_read,
    newest_run,
)
from blissdata.streams.event_log import Arrivals, EventLog, ReadsAhead, Span, SpanRequest
from blissdata.streams.event_stream import WAIT_SLICE_S, AbandonWatch, EventStream
from blissdata.streams.heartbeat import LostPublisher
from blissdata.streams.views import BaseView, EventRange

__all__ = ["Cursor", "CursorGroup"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

Answer: TypeAlias = Callable[[], Mapping[str, Arrivals | PayloadError] | None]
"""What `ReadsAhead.ask` gives."""

_POINT_PER_EVENT = frozenset({None, "hdf5_fallback", "scan_sequence"})
"""The plugins of streams whose points are their events."""


class Followable(Protocol):
    """What a cursor needs of a stream; `blissdata.streams.BaseStream` is one."""

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

    def _need_last_only(self, last_only: bool) -> bool: ...

    def _build_view_from_events(
        self, index: int, events: EventRange, last_only: bool
    ) -> BaseView: ...


class Cursor:
    """A place in a stream; `read` gives what came since, as a view, and moves on.

    Two positions, because a plugin's points may not be its events: `_ll_index` counts events
    (where to read next), `_hl_index` counts points (what `position` says).
    """

    def __init__(
        self, stream: Followable, *, lost_publisher: LostPublisher | str | None = None
    ) -> None:
        """`lost_publisher` says what it means to this reader that the publisher is lost: `"error"` or
        `"end"` (None: as the store has it)."""
        self._stream = stream
        self._hl_index = 0
        self._ll_index = 0
        self.ended = False
        """True once the last point was read."""
        self._deleted: bool | None = None
        self.trouble: Exception | None = None
        """What went wrong in a read that gave other streams' points; raised by the next one."""
        self._events = stream.event_stream
        self._watch = AbandonWatch(self.events.data_store, _choice(lost_publisher))
        self._entry_nbytes = 0

    @property
    def stream(self) -> Followable:
        """The stream that is read."""
        return self._stream

    @property
    def position(self) -> int:
        """Index of the next point to read."""
        return self._hl_index

    def begin_at(self, index: int, entry: int) -> None:
        """Goes on as if the points before `index` had been read; `entry` is where the entry begins
        that holds that point. No round trip."""
        # Where a plugin makes points of its events in its own way, only it knows which event that is.
        if getattr(self._stream, "plugin", None) in _POINT_PER_EVENT:
            self._hl_index = self._ll_index = entry
        else:
            self._hl_index = index

    def read(
        self, block: bool = True, timeout: float = 0, last_only: bool = False
    ) -> BaseView | None:
        """The points that came since the last read, as a view.

        Points that left the server in between belong to the view as well (`len` counts them).
        `last_only` jumps to the newest point. Waits for news, `timeout` [s] at most (0: for ever);
        `block=False` does not wait. None when the time is up. Raises `EndOfStream` after the last
        point, `StreamAbandonedError` (an `EndOfStream`) if the scan is closed but nobody sealed the
        stream, `StreamDeletedError` (an `EndOfStream`) if the scan was deleted, `StreamVanishedError`
        if it was and the stream has no end, `StreamRewoundError` if the server lost points that were
        read before, `PublisherLostError` while the publisher gives no sign of life.
        """
        deadline = Deadline.from_2x(block, timeout)
        if not self.ended:
            views = _read([self], deadline, last_only, self._watch)
            if self in views:
                return views[self]
        if self.ended:
            raise self._end()
        return None

    def _end(self) -> EndOfStream:
        """The error of who has read all. One round trip, the first time."""
        if self._deleted is None:
            self._deleted = bool(deleted_scans([self]))
        text = f"{self.events.what} was read to its end, {self._ll_index} events"
        if self._deleted:
            return StreamDeletedError(f"{text}; but its scan was deleted, and these may not be all")
        return EndOfStream(text)

    def __iter__(self) -> Iterator[BaseView]:
        """Views, as points come, until the stream ends."""
        while True:
            try:
                view = self.read()
            except (StreamAbandonedError, StreamDeletedError):
                raise
            except EndOfStream:
                return
            if view is not None:
                yield view

    def __repr__(self) -> str:
        return f"<Cursor at {self._hl_index} of {self._stream!r}>"

    # ------------------------------------------------------------------------------ for groups too

    @property
    def events(self) -> EventStream:
        """The events underneath the stream."""
        return self._events

    @property
    def event_index(self) -> int:
        """Index of the next event to read."""
        return self._ll_index

    def needs_newest_only(self, last_only: bool) -> bool:
        """True if the newest event is all that the stream needs for the view asked for."""
        return self._stream._need_last_only(last_only)  # noqa: SLF001 — the plugin contract's own name

    def entries_wanted(self, streams: int) -> int:
        """How many entries to ask for in a read of `streams` streams, judged by the newest one that
        was read."""
        point = self.events.encoder.point_nbytes or 0
        size = self._entry_nbytes or (point if point > LARGE_ENTRY else None)
        return entries_per_read(size, streams)

    @property
    def nbytes_wanted(self) -> int:
        """Size of the points that a read of this stream alone asks for [bytes], if they are large."""
        point = self.events.encoder.point_nbytes or 0
        return point * self.entries_wanted(1) if point > LARGE_ENTRY else 0

    def take(self, run: Run | None, last_only: bool) -> BaseView | None:
        """Moves over the run and gives the view of it, if it makes one."""
        if run is None:
            return None
        view = None
        if run.nb_expired or run.count:
            run, data = self.events.decode_run(run)
            events = EventRange(run.index, run.nb_expired, data, run.end_of_stream)
            try:
                view = self._stream._build_view_from_events(self._hl_index, events, last_only)  # noqa: SLF001 — the plugin contract's own name
            except EmptyViewException:
                view = None
        self._ll_index = run.end
        self.ended = run.end_of_stream
        if view is not None:
            self._hl_index = view.index + len(view)
        return view

    def take_arrivals(self, found: Arrivals | PayloadError, last_only: bool) -> BaseView | None:
        """Takes the next consecutive points out of what a read found."""
        if isinstance(found, PayloadError):
            raise self.events.damaged(found) from found
        if found.entries:
            self._entry_nbytes = len(Entries.of(found.entries).batches.payloads[-1])
        elif found.seal is not None:
            self.check_rewound(Tail(found.seal, True))
        return self.take(self.events.next_run(self._ll_index, found.entries, found.seal), last_only)

    def take_newest(
        self, found: tuple[Tail, Entry | None] | PayloadError, last_only: bool
    ) -> BaseView | None:
        """Jumps to the newest event, unless the cursor is past it."""
        if isinstance(found, PayloadError):
            raise self.events.damaged(found) from found
        tail, newest = found
        run = self.events.decoding(tail.length, lambda: newest_run(tail, newest))
        self.check_rewound(tail)
        if tail.length > self._ll_index:
            return self.take(run, last_only)
        self.ended = tail.sealed
        return None

    def is_before_a_gap(self, found: Arrivals | PayloadError) -> bool:
        """True if what a read found begins further on than the cursor stands."""
        if isinstance(found, PayloadError):
            return False
        first = Entries.of(found.entries).starts[0] if found.entries else found.seal
        return first is not None and first > self._ll_index > 0

    def check_gap(self, looked_back: Span | PayloadError) -> None:
        """Raises for a gap that is none: there is an entry in front of it that holds the point at
        the cursor, which was the end of an entry when it was read."""
        if isinstance(looked_back, PayloadError):
            raise self.events.damaged(looked_back) from looked_back
        if any(entry.index < self._ll_index < entry.end for entry in looked_back[1]):
            raise StreamRewoundError(
                f"{self.events.what}: index {self._ll_index} was the end of an entry when it was "
                "read, and now lies inside one: the server lost points and somebody wrote others"
            )

    def check_end(self, found: Span | PayloadError) -> None:
        """Raises `StreamRewoundError` if the stream ends before what was read of it."""
        if isinstance(found, PayloadError):
            raise self.events.damaged(found) from found
        self.check_rewound(found[0])

    def check_rewound(self, tail: Tail) -> None:
        """Raises `StreamRewoundError` if the stream ends before what was read of it."""
        if tail.length < self._ll_index:
            raise StreamRewoundError(
                f"{self.events.what}: {self._ll_index} points were read, and now the server has "
                f"only {tail.length}: it was restarted from an older state. The points read before "
                "are no longer on the server"
            )


class CursorGroup:
    """A place in each of many streams of one store; one `read` waits for all of them at once."""

    def __init__(
        self,
        streams: Iterable[Followable] | Mapping[str, Followable],
        *,
        begin_at: Mapping[str, int] | None = None,
        lost_publisher: LostPublisher | str | None = None,
    ) -> None:
        """`begin_at` says, by key of a stream, from which index on it is read (default: from its
        first point on). Its first view may begin a little earlier, with the entry that holds that
        point. One round trip if there are any, else none. `lost_publisher` as in `BaseStream.cursor`."""
        values = streams.values() if isinstance(streams, Mapping) else streams
        cursors = [Cursor(stream) for stream in values]
        beginning = [c for c in cursors if (begin_at or {}).get(c.stream.key)]
        if begin_at and beginning:
            _begin(beginning, begin_at)
        stores = {id(cursor.events.data_store) for cursor in cursors}
        if len(stores) > 1:
            raise ValueError(
                f"A cursor group reads streams of one store, these are of {len(stores)} stores"
            )
        self._cursors = cursors
        store = cursors[0].events.data_store if cursors else None
        self._watch = None if store is None else AbandonWatch(store, _choice(lost_publisher))
        self._deleted: frozenset[str] | None = None
        self._asked: tuple[dict[str, int], Answer] | None = None
        self._active_cursors = {cursor.stream.key: cursor for cursor in cursors}

    @property
    def position(self) -> dict[Followable, int]:
        """For each stream, finished ones too, the index of the next point to read."""
        active = self._active_cursors  # existing programs take streams out of it
        cursors = (c for c in self._cursors if c.ended or c.stream.key in active)
        return {cursor.stream: cursor.position for cursor in cursors}

    @property
    def ended(self) -> bool:
        """True once every stream was read to its end: a further `read` raises `EndOfStream`. No round
        trip."""
        return all(cursor.ended for cursor in self._active_cursors.values())

    def read(
        self, block: bool = True, timeout: float = 0, last_only: bool = False
    ) -> dict[Followable, BaseView]:
        """What came since the last read, for those streams that have news; see `Cursor.read`.

        Returns as soon as one stream has. Streams that end are dropped; `EndOfStream` once there is
        none left (`StreamDeletedError` if a scan of theirs was deleted). `{}` when the time is up.
        """
        deadline = Deadline.from_2x(block, timeout)
        while True:
            self._drop_ended()
            if self._asked and not last_only:
                answer = self._take_answer()
                if answer:
                    return {cursor.stream: view for cursor, view in answer.items()}
                if answer is not None and deadline.passed and not self._drop_ended():
                    return {}
            cursors = list(self._active_cursors.values())
            if not cursors or self._watch is None:
                raise self._end()
            try:
                views = _read(cursors, deadline, last_only, self._watch)
            except StreamAbandonedError as error:
                _logger.warning("%s", error)
                continue
            if views:
                return {cursor.stream: view for cursor, view in views.items()}
            if deadline.passed and not any(cursor.ended for cursor in cursors):
                return {}

    def _end(self) -> EndOfStream:
        """The error of who has read all. One round trip, the first time."""
        if self._deleted is None:
            self._deleted = deleted_scans(self._cursors)
        text = "All streams have been read until the end"
        if self._deleted:
            scans = ", ".join(sorted(self._deleted))
            return StreamDeletedError(f"{text}; but {scans} was deleted, and these may not be all")
        return EndOfStream(text)

    def _drop_ended(self) -> bool:
        """True if there were any."""
        ended = [key for key, cursor in self._active_cursors.items() if cursor.ended]
        for key in ended:
            del self._active_cursors[key]
        return bool(ended)

    def ask(self, ahead: ReadsAhead) -> None:
        """Lets the server begin with what the next `read` wants. That read may miss what comes in between;
        the one after it does not. Never waits, never raises for a server that is away: the read does.
        Nothing is lost if `ahead` ends before."""
        self._drop_ended()
        cursors = list(self._active_cursors.values())
        if not cursors or self._asked or any(c.needs_newest_only(False) for c in cursors):
            return
        positions, counts, nbytes = _wanted(cursors)
        answer = ahead.ask(positions, max_entries=counts, nbytes=nbytes)
        if answer is not None:
            self._asked = positions, answer

    def _take_answer(self) -> dict[Cursor, BaseView] | None:
        """Views of what was asked for; None if nothing was, or the cursors no longer stand there."""
        asked, self._asked = self._asked, None
        cursors = list(self._active_cursors.values())
        if asked is None or asked[0] != {c.events.key: c.event_index for c in cursors}:
            return None
        _raise_trouble(cursors)
        arrivals = asked[1]()
        if arrivals is None:
            return None
        views = _taken(cursors[0].events.event_log, cursors, arrivals, last_only=False)
        if not views:
            _raise_trouble(cursors)
        return views

    def __iter__(self) -> Iterator[dict[Followable, BaseView]]:
        """What comes, until every stream has ended."""
        while True:
            try:
                views = self.read()
            except StreamDeletedError:
                raise
            except EndOfStream:
                return
            yield views


def deleted_scans(cursors: Sequence[Cursor]) -> frozenset[str]:
    """The scans of these streams that were deleted. One round trip."""
    keys = {key for cursor in cursors if (key := cursor.events.scan_key)}
    if not keys:
        return frozenset()
    states = cursors[0].events.data_store.scan_states(sorted(keys))
    return frozenset(key for key, state in states.items() if state is None)


def _choice(lost_publisher: LostPublisher | str | None) -> LostPublisher | None:
    return None if lost_publisher is None else LostPublisher(lost_publisher)


def _begin(cursors: Sequence[Cursor], begin_at: Mapping[str, int]) -> None:
    """Puts the cursors where they shall begin."""
    indices = [begin_at[cursor.stream.key] for cursor in cursors]
    requests = [
        SpanRequest(cursor.events.key, index, index + 1)
        for cursor, index in zip(cursors, indices, strict=True)
    ]
    found = cursors[0].events.event_log.span(requests)
    for cursor, index, span in zip(cursors, indices, found, strict=True):
        entries = [] if isinstance(span, PayloadError) else span[1]
        cursor.begin_at(index, min([index, *(e.index for e in entries if e.end > index)]))


def _read(
    cursors: Sequence[Cursor], deadline: Deadline, last_only: bool, watch: AbandonWatch
) -> dict[Cursor, BaseView]:
    """Views for the cursors that have news; empty when the time is up or one of them has ended.

    What goes wrong in one stream does not cost the points of the others: it is raised when there
    are none, or by the next read. Raises `StreamAbandonedError` when some of them, which then count
    as ended, will get no more although they have no seal."""
    _raise_trouble(cursors)
    log = cursors[0].events.event_log
    if len(cursors) == 1 and not cursors[0].needs_newest_only(last_only):
        return _read_one(log, cursors[0], deadline, last_only, watch)
    newest_only = _each(cursors, lambda cursor: cursor.needs_newest_only(last_only))
    jumping = [cursor for cursor, newest in newest_only.items() if newest]
    reading = [cursor for cursor, newest in newest_only.items() if not newest]
    while True:
        before = [cursor.event_index for cursor in cursors]
        views = _jump(log, jumping, last_only) if jumping else {}
        if reading:
            # Streams to jump in are asked at once, and so are the others if there is trouble to tell.
            at_once = jumping or len(newest_only) < len(cursors) or watch.due
            wait = 0.0 if at_once else deadline.remaining(WAIT_SLICE_S)
            views |= _collect(log, reading, last_only, wait)
        if before != [cursor.event_index for cursor in cursors]:
            watch.restart()
        if views:
            return views
        _raise_trouble(cursors)
        if any(cursor.ended for cursor in cursors):
            return {}
        if watch.due:
            _check(log, cursors, watch)
        if deadline.passed or any(cursor.ended for cursor in cursors):
            return {}
        if jumping:
            # Which event is newest is asked again above; this only waits for there to be one.
            positions = {cursor.events.key: cursor.event_index for cursor in cursors}
            log.read(positions, wait=deadline.remaining(WAIT_SLICE_S), max_entries=1)


def _read_one(
    log: EventLog, cursor: Cursor, deadline: Deadline, last_only: bool, watch: AbandonWatch
) -> dict[Cursor, BaseView]:
    """`_read` for one cursor that takes what comes, in as few steps as it takes: somebody waits for
    what it gives. Raises what goes wrong."""
    key, nbytes = cursor.events.key, cursor.nbytes_wanted
    while True:
        before = cursor.event_index
        wait = 0.0 if watch.due else deadline.remaining(WAIT_SLICE_S)
        count = cursor.entries_wanted(1)
        found = log.read({key: before}, wait=wait, max_entries=count, nbytes=nbytes).get(key)
        if found is not None:
            if before and cursor.is_before_a_gap(found):
                _look_back(log, [cursor])
                _raise_trouble([cursor])
            view = cursor.take_arrivals(found, last_only)
            if before != cursor.event_index:
                watch.restart()
            if view is not None:
                return {cursor: view}
            if cursor.ended:
                return {}
        if watch.due:
            _check(log, [cursor], watch)
        if deadline.passed or cursor.ended:
            return {}


def _jump(log: EventLog, cursors: Sequence[Cursor], last_only: bool) -> dict[Cursor, BaseView]:
    found = log.newest([cursor.events.key for cursor in cursors])
    views = _each(cursors, lambda c: c.take_newest(found[c.events.key], last_only))
    return _present(views)


def _collect(
    log: EventLog, cursors: Sequence[Cursor], last_only: bool, wait: float
) -> dict[Cursor, BaseView]:
    """Reads what is after each cursor's place."""
    positions, counts, nbytes = _wanted(cursors)
    arrivals = log.read(positions, wait=wait, max_entries=counts, nbytes=nbytes)
    return _taken(log, cursors, arrivals, last_only)


def _wanted(cursors: Sequence[Cursor]) -> tuple[dict[str, int], dict[str, int], int]:
    """What a read of these asks for: positions, numbers of entries, and size of large points [bytes]."""
    positions = {cursor.events.key: cursor.event_index for cursor in cursors}
    counts = {cursor.events.key: cursor.entries_wanted(len(cursors)) for cursor in cursors}
    return positions, counts, cursors[0].nbytes_wanted if len(cursors) == 1 else 0


def _taken(
    log: EventLog,
    cursors: Sequence[Cursor],
    arrivals: Mapping[str, Arrivals | PayloadError],
    last_only: bool,
) -> dict[Cursor, BaseView]:
    """Views of what a read found."""
    arrived = [cursor for cursor in cursors if cursor.events.key in arrivals]
    sound = _look_back(log, [c for c in arrived if c.is_before_a_gap(arrivals[c.events.key])])
    taking = [cursor for cursor in arrived if sound.get(cursor, True)]
    return _present(_each(taking, lambda c: c.take_arrivals(arrivals[c.events.key], last_only)))


def _look_back(log: EventLog, cursors: Sequence[Cursor]) -> dict[Cursor, bool]:
    """Whether the points at these cursors, which begin a gap, are really gone."""
    if not cursors:
        return {}
    requests = [SpanRequest(c.events.key, c.event_index, c.event_index + 1) for c in cursors]
    found = dict(zip(cursors, log.span(requests), strict=True))
    sound = _each(cursors, lambda cursor: cursor.check_gap(found[cursor]))
    return {cursor: cursor in sound for cursor in cursors}


def _each(cursors: Iterable[Cursor], work: Callable[[Cursor], T]) -> dict[Cursor, T]:
    """What the work gives for each cursor. What it raises is kept as that cursor's trouble."""
    done: dict[Cursor, T] = {}
    for cursor in cursors:
        try:
            done[cursor] = work(cursor)
        except Exception as error:  # noqa: BLE001 — a plugin may raise anything; kept and raised
            cursor.trouble = error
    return done


def _present(views: Mapping[Cursor, BaseView | None]) -> dict[Cursor, BaseView]:
    return {cursor: view for cursor, view in views.items() if view is not None}


def _raise_trouble(cursors: Iterable[Cursor]) -> None:
    for cursor in cursors:
        error, cursor.trouble = cursor.trouble, None
        if error is not None:
            raise error


def _check(log: EventLog, cursors: Sequence[Cursor], watch: AbandonWatch) -> None:
    """After seconds without news: did the server lose points, is somebody still writing?"""
    requests = [SpanRequest(cursor.events.key, only_tail=True) for cursor in cursors]
    found = dict(zip(cursors, log.span(requests), strict=True))
    _each(cursors, lambda cursor: cursor.check_end(found[cursor]))
    _raise_trouble(cursors)
    left = watch.abandoned([cursor.events for cursor in cursors])
    for cursor in cursors:
        cursor.ended = cursor.events in left
    if left and not watch.by_choice:
        names = ", ".join(sorted(f"'{stream.name}'" for stream in left))
        raise StreamAbandonedError(
            f"Scan {left[0].scan_key} is closed, but nobody sealed {names}, or it expired before its "
            "scan did: what was read is all there is"
        )
