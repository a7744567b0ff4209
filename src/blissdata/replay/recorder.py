"""Writes what a server holds of a scan into a recording: while it runs, or afterwards.

    wait for PREPARED → what is there already (times estimated) → what comes (times seen) → CLOSED

What is there already gets its times spread evenly over the time that it came in, which the ids of
the scan's state events tell. `docs/reference/recording.md` says what that means.
"""

from __future__ import annotations

import datetime
import heapq
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from blissdata.exceptions import PayloadError, ScanNotFoundError
from blissdata.redis_engine.backends.abstract import Step
from blissdata.redis_engine.scan import Scan, ScanState
from blissdata.replay.recording import (
    EntryEvent,
    Event,
    GapEvent,
    Header,
    RecordingWriter,
    SealEvent,
    StateEvent,
    StreamHeader,
    StreamsEvent,
    Summary,
    write_atomically,
)
from blissdata.streams.base import BaseStream
from blissdata.streams.entries import LARGE_ENTRY, Entry, Tail, entries_per_read
from blissdata.streams.event_log import Arrivals, SpanRequest

__all__ = ["record"]

LOOK_S = 0.5
"""How long a read waits before the scan's state is looked at again [s]: a step that comes while no
points do is seen so late, but its time is the server's."""

ENDING = ("end_time", "end_reason")
"""What publishers add to the info at the end: not part of the info while the scan ran."""

Progress = Callable[[Summary], None]
"""Called now and then with what was recorded so far."""


def record(
    scan: Scan,
    file: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Writes what the server holds of the scan into a file, and what comes until it is CLOSED;
    compressed if the name ends in `.gz`. Gives what is in the file. Waits for the scan's end.

    Entries are kept as they are on the server, undecoded: streams of plugins that are not installed
    are recorded as well. Points that have left the server are noted as gaps.

    The file gets its name when it is whole. If the scan is deleted meanwhile, the connection lost,
    or Ctrl-C pressed, what was recorded so far is kept, as a recording that says that it is not
    complete, and the exception is raised. Raises `RecordingError` if there is a file of that name,
    `OSError` if it cannot be written."""
    path = Path(file)
    with _ending_between_events() as whole, write_atomically(path, overwrite=overwrite) as sink:
        recorder = _Recorder(scan, progress, whole)
        recorder.begin(lambda header: RecordingWriter(sink, header))
        trouble: BaseException | None = None
        try:
            recorder.run()
        except OSError as error:
            if not isinstance(error, ConnectionError | TimeoutError):
                raise  # the file cannot be written: there is nothing to keep
            trouble = error
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 — raised below
            trouble = error
        recorder.end(trouble)
    if trouble is not None:
        raise trouble
    return recorder.summary


class _Whole:
    """Ctrl-C, or another signal that ends the program, waits while an event is written: half a line would
    spoil the recording."""

    def __init__(self) -> None:
        self._writing = False
        self._came: int | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], object]] = {}

    def take_over(self, number: int) -> None:
        """From now on that signal waits. What is done about it is what was done about it before."""
        before = signal.getsignal(number)
        if callable(before):
            self._handlers[number] = before
            signal.signal(number, self._take)

    def give_back(self) -> None:
        """From now on it does not."""
        for number, before in self._handlers.items():
            signal.signal(number, before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._writing:
            self._came = number
        else:
            self._handlers[number](number, frame)

    def write(self, write: Callable[[Event], None], event: Event) -> None:
        """Writes the event, all of it."""
        self._writing = True
        try:
            write(event)
        finally:
            self._writing = False
            came, self._came = self._came, None
        if came is not None:
            self._handlers[came](came, None)


@contextmanager
def _ending_between_events() -> Iterator[_Whole]:
    whole = _Whole()
    if threading.current_thread() is not threading.main_thread():  # signals come to that one alone
        yield whole
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            whole.take_over(number)
        yield whole
    finally:
        whole.give_back()


@dataclass(frozen=True, slots=True)
class _Window:
    """The time in which points came that were there before the recorder."""

    start: float
    stop: float

    def at(self, part: float) -> float:
        return self.start + (self.stop - self.start) * part


class _Recorder:
    """One recording in the making."""

    def __init__(self, scan: Scan, progress: Progress | None, whole: _Whole) -> None:
        self._scan = scan
        self._whole = whole
        self._store = scan.data_store
        self._log = scan.data_store.event_log
        self._progress = progress
        self._streams: dict[str, BaseStream] = {}  # by key
        self._positions: dict[str, int] = {}  # by key; those whose seal was not seen
        self._held: list[Step] = []  # STOPPED waits for points that other processes still send
        self._steps_seen = 0
        self._state = ScanState.CREATED
        self._state_id = "0-0"

    @property
    def summary(self) -> Summary:
        """What was recorded so far."""
        return self._writer.summary

    # ------------------------------------------------------------------------------ begin, end

    def begin(self, open_writer: Callable[[Header], RecordingWriter]) -> None:
        """Waits until the streams are known, and writes the header."""
        self._scan.wait_state(ScanState.PREPARED)
        self._synchronise()
        closed = self._scan.state == ScanState.CLOSED
        info = dict(self._scan.info)
        if closed:
            for name in ENDING:
                info.pop(name, None)
        self._info = info
        for stream in self._scan.streams.values():
            self._take(stream)
        streams = {stream.name: _stream_header(stream) for stream in self._streams.values()}
        recorded = datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds")
        self._writer = open_writer(
            Header(self._scan.identity, info, streams, self._scan.key, recorded)
        )

    def end(self, trouble: BaseException | None) -> None:
        """The last line."""
        reason = None
        if trouble is not None:
            reason = str(trouble) or type(trouble).__name__
        self._writer.end(complete=trouble is None, reason=reason)

    def run(self) -> None:
        """Everything between: returns when the scan is CLOSED and all is read."""
        steps = self._new_steps()
        running = [step for step in steps if step.state < ScanState.STOPPED]
        over = [step for step in steps if step.state >= ScanState.STOPPED]
        self._write_steps(running)
        start = running[-1].time if running else self._created
        self._write_new_streams(start)  # came between the header and now
        self._write_backlog(_Window(start, over[0].time if over else self._now()))
        self._write_steps(over)
        while self._state < ScanState.CLOSED:
            self._follow()

    # ------------------------------------------------------------------------------ time

    def _synchronise(self) -> None:
        """Notes the server's clock beside ours: from then on ours counts."""
        self._server_time = self._store.backend.info().time
        self._monotonic = time.monotonic()
        self._created = self._store.catalog.steps(self._scan.key)[0].time

    def _now(self) -> float:
        """Unix time on the server's clock [s]."""
        return self._server_time + time.monotonic() - self._monotonic

    def _at(self, when: float) -> float:
        return max(0.0, when - self._created)

    # ------------------------------------------------------------------------------ steps

    def _new_steps(self) -> list[Step]:
        """The steps since the last time, CREATED left out; streams and info that came with them are
        taken over."""
        steps = self._store.catalog.steps(self._scan.key)
        new = steps[max(self._steps_seen, 1) :]
        self._steps_seen = len(steps)
        self._state, self._state_id = ScanState(steps[-1].state), steps[-1].state_id
        if new:
            self._scan.update(block=False)
        return new

    def _write_steps(self, steps: list[Step]) -> None:
        """STOPPED is held back while a stream is not sealed and the scan not CLOSED."""
        self._held += steps
        while self._held:
            step = self._held[0]
            closed = any(later.state == ScanState.CLOSED for later in self._held)
            if step.state == ScanState.STOPPED and self._positions and not closed:
                return
            self._held.pop(0)
            self._write_step(step)

    def _write_new_streams(self, when: float) -> None:
        """Those that readers learn of with the next step; their points may be there already."""
        streams: dict[str, StreamHeader] = {}
        for name, stream in self._scan.streams.items():
            if stream.key not in self._streams:
                self._take(stream)
                streams[name] = _stream_header(stream)
        if streams:
            self._put(StreamsEvent(self._at(when), False, 0, streams))

    def _write_step(self, step: Step) -> None:
        info = None
        if step.state == ScanState.CLOSED and self._scan.info != self._info:
            info = dict(self._scan.info)
        state = ScanState(step.state).name
        self._put(StateEvent(self._at(step.time), False, 0, state, info))

    def _take(self, stream: BaseStream) -> None:
        self._streams[stream.key] = stream
        self._positions[stream.key] = 0

    # ------------------------------------------------------------------------------ what is there

    def _write_backlog(self, window: _Window) -> None:
        """What was there before us, the streams side by side as they must have grown."""
        keys = list(self._positions)
        if not keys:
            return
        spans = self._log.span([SpanRequest(key, only_tail=True) for key in keys])
        parts = []
        for order, (key, span) in enumerate(zip(keys, spans, strict=True)):
            if isinstance(span, PayloadError):
                raise self._damaged(key, span)
            parts.append(self._backlog_of(order, key, span[0], window))
        for _, _, event in heapq.merge(*parts, key=lambda found: found[:2]):
            self._write(event)

    def _backlog_of(
        self, order: int, key: str, tail: Tail, window: _Window
    ) -> Iterator[tuple[float, int, Event]]:
        """The events of one stream up to its end at the time, with the part of the window at which
        they came."""
        count = self._entries_per_read()
        length = tail.length
        while key in self._positions and (self._positions[key] < length or tail.sealed):
            arrivals = self._read({key: self._positions[key]}, 0.0, count[key]).get(key)
            if arrivals is None:
                return
            for event, end in self._events(key, arrivals, 0.0, estimated=True):
                part = min(1.0, end / length) if length else 1.0
                yield part, order, _at(event, self._at(window.at(part)))

    # ------------------------------------------------------------------------------ what comes

    def _follow(self) -> None:
        """One round: what came, and the steps of the scan since the last one."""
        if self._positions:
            news = self._read(self._positions, LOOK_S, self._entries_per_read())
        else:
            self._store.catalog.wait_state(self._scan.key, self._state_id, LOOK_S)
            news = {}
        arrived = self._now()
        state = self._store.scan_states([self._scan.key])[self._scan.key]
        if state is None:
            raise ScanNotFoundError(
                f"Scan {self._scan.key} was deleted from the server while it was recorded"
            )
        steps = self._new_steps() if state != self._state else []
        if steps:
            self._write_new_streams(steps[0].time)
        before = [step for step in steps if step.state < ScanState.STOPPED]
        after = [step for step in steps if step.state >= ScanState.STOPPED]
        self._write_steps(before)
        self._write_news(news, arrived)
        if after:
            self._drain()
        self._write_steps(after)

    def _drain(self) -> None:
        """All that is there now: the scan's own streams were sealed before it stopped."""
        while self._positions:
            news = self._read(self._positions, 0.0, self._entries_per_read())
            if not news:
                return
            self._write_news(news, self._now())

    def _write_news(self, news: Mapping[str, Arrivals], arrived: float) -> None:
        for key in [key for key in self._streams if key in news]:
            for event, _ in self._events(key, news[key], self._at(arrived), estimated=False):
                self._write(event)

    # ------------------------------------------------------------------------------ events

    def _read(
        self, positions: Mapping[str, int], wait: float, count: int | Mapping[str, int]
    ) -> dict[str, Arrivals]:
        found: dict[str, Arrivals] = {}
        for key, arrivals in self._log.read(positions, wait=wait, max_entries=count).items():
            if isinstance(arrivals, PayloadError):
                raise self._damaged(key, arrivals)
            found[key] = arrivals
        return found

    def _damaged(self, key: str, error: PayloadError) -> PayloadError:
        what = self._streams[key].event_stream.what
        damaged = PayloadError(f"{what} is damaged on the server: {error}")
        damaged.__cause__ = error
        return damaged

    def _entries_per_read(self) -> dict[str, int]:
        many = len(self._positions)
        count: dict[str, int] = {}
        for key in self._positions:
            point = self._streams[key].event_stream.encoder.point_nbytes or 0
            count[key] = entries_per_read(point if point > LARGE_ENTRY else None, many)
        return count

    def _events(
        self, key: str, arrivals: Arrivals, at: float, *, estimated: bool
    ) -> Iterator[tuple[Event, int]]:
        """What a read found in a stream, gaps made explicit, with the index at which each ends."""
        name = self._streams[key].name
        position = self._positions[key]
        for entry in arrivals.entries:
            self._check_order(key, position, entry)
            if entry.index > position:
                gap = entry.index - position
                yield GapEvent(at, estimated, 0, name, position, gap), entry.index
            position = self._positions[key] = entry.end
            yield EntryEvent(at, estimated, 0, name, entry.index, entry.batch), entry.end
        if arrivals.seal is not None:
            if arrivals.seal > position:
                gap = arrivals.seal - position
                yield GapEvent(at, estimated, 0, name, position, gap), arrivals.seal
            del self._positions[key]
            yield SealEvent(at, estimated, 0, name, arrivals.seal), arrivals.seal

    def _check_order(self, key: str, position: int, entry: Entry) -> None:
        if entry.index < position:
            what = self._streams[key].event_stream.what
            raise PayloadError(
                f"{what}: the entry at index {entry.index} begins before the one in front of it "
                f"ends (index {position})"
            )

    def _put(self, event: Event) -> None:
        self._whole.write(self._writer.write, event)

    def _write(self, event: Event) -> None:
        self._put(event)
        if self._progress is not None:
            self._progress(self._writer.summary)


def _stream_header(stream: BaseStream) -> StreamHeader:
    events = stream.event_stream
    return StreamHeader(events.encoding, events.info)


def _at(event: Event, at: float) -> Event:
    return replace(event, at=at)
