"""A scan that somebody looks at: how far its streams are, and the points that were asked for.

The server is asked how far the streams are, once for all who look; no point is transferred for that. Points are
read when somebody asks for them, by one cursor group, and kept for the next who asks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from blissdata.exceptions import (
    BlissdataError,
    EndOfStream,
    IndexNoMoreThereError,
    PayloadError,
    ScanNotFoundError,
    StoreConnectionError,
    StreamRewoundError,
    StreamVanishedError,
)
from blissdata.redis_engine.scan import ScanState
from blissdata.streams import CursorGroup
from blissdata.streams.default import BrokenStream, Stream
from blissdata.viewer.points import Parts, Tail, chosen_range

if TYPE_CHECKING:
    from blissdata.redis_engine.scan import Scan
    from blissdata.redis_engine.store import DataStore
    from blissdata.streams import BaseStream, BaseView

__all__ = ["Block", "Length", "Watched", "read_points"]

_logger = logging.getLogger(__name__)

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

WAIT_S = 0.25
"""For so long the server is asked to wait for news [s]; then the scan's state is looked at."""

SETTLE_S = 0.005
"""Between the first news after a pause and the look at all streams [s]: a step of a scan brings a point of
each."""

BREATH_S = 0.05
"""A scan that brings news all the time is looked at again after this [s]. Half as long as browsers are told
at most: who sends ten times a second is then waited for at each step, and told of at once."""

LARGE_NBYTES = 2**16
"""Points of this size are not awaited, which transfers one, but counted again and again [bytes]."""

RETRY_S = 0.5
"""How long a server that is away is left alone [s]."""

TAIL_NBYTES = 2**25
"""How much of one stream is kept for those who ask [bytes]."""

TAILS_NBYTES = 2**28
"""What the streams that are kept share, about [bytes]."""


@dataclass(frozen=True, slots=True)
class Length:
    """How far a stream is."""

    length: int
    sealed: bool
    version: int


@dataclass(frozen=True, slots=True)
class Block:
    """Points of a stream."""

    start: int
    """Index of the first one."""

    points: Any
    """An array whose first axis counts points; a list for what are no numbers, or of varying shape."""

    length: int
    """How many points the stream has."""


class Audience(Protocol):
    """Who is told what changed; `blissdata.viewer.live.Hub` is one."""

    @property
    def store(self) -> DataStore:
        """The store that is looked at."""
        ...

    def next_version(self) -> int:
        """The version of a change that is made now."""
        ...

    def tell(self) -> None:
        """Tells everybody that something changed."""
        ...


@dataclass
class Watched:
    """A scan that somebody looks at."""

    hub: Audience
    scan: Scan
    parts: Parts
    watchers: int = 0
    """How many look at it; the hub counts."""

    problem: str | None = None
    """What went wrong with it last."""

    _streams: dict[str, BaseStream] = field(default_factory=dict)
    _lengths: dict[str, Length] = field(default_factory=dict)
    _tails: dict[str, Tail] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    _fetching: threading.Lock = field(default_factory=threading.Lock)
    """Held by who reads points; guards the group."""

    _group: CursorGroup | None = None
    _grouped: frozenset[str] = frozenset()
    _last: tuple[int, dict[str, Any]] = (-1, {})

    _stop: threading.Event = field(default_factory=threading.Event)
    _look: threading.Event = field(default_factory=threading.Event)
    _counted: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def key(self) -> str:
        """Its key."""
        return self.scan.key

    def lengths(self, since: int = 0) -> dict[str, Length]:
        """The lengths that changed since that version. No round trip."""
        with self._lock:
            return {name: one for name, one in self._lengths.items() if one.version > since}

    def wait_counted(self, timeout: float) -> bool:
        """Waits until the server has said for the first time how far the streams are, or that went wrong,
        `timeout` [s] at most. False if the time was up."""
        return self._counted.wait(timeout)

    # ------------------------------------------------------------------------------ points

    def last(self) -> dict[str, Any]:
        """The newest point of each stream of single numbers. One round trip, unless it is known that there
        is nothing new."""
        with self._lock:
            version = max((one.version for one in self._lengths.values()), default=0)
            known, found = self._last
            names = [
                name
                for name, one in self._lengths.items()
                if one.length and _is_scalars(self._streams[name])
            ]
            streams = {name: self._streams[name].event_stream for name in names}
        if version != known:
            newest = self.hub.store.event_log.newest([stream.key for stream in streams.values()])
            found = {}
            for name, stream in streams.items():
                try:
                    _, points = stream.decode_newest(newest[stream.key])
                except PayloadError:
                    continue
                if len(points):
                    found[name] = points[-1]
            self._last = version, found
        return found

    def points(self, stream: str, selection: str | None, most: int) -> Block | None:
        """As `Hub.points`; None for a stream that it does not know (yet)."""
        self.fetch([stream])
        with self._lock:
            known, tail = self._lengths.get(stream), self._tails.get(stream)
            if known is None:
                return None
            length = known.length if tail is None else max(known.length, tail.stop)
            if tail is not None:
                wanted = chosen_range(selection, length)
                found = tail.get(wanted.start, wanted.stop)
                if found is not None and found.nbytes <= most:
                    return Block(wanted.start, found, length)
        return read_points(self._streams[stream], selection, most, self.parts, length)

    def fetch(self, names: Collection[str]) -> None:
        """Reads what is not kept yet of these streams' newest points, for all of them at once. Who asks
        meanwhile waits, and finds it done."""
        with self._fetching:
            lacking = self._lacking(names)
            if not lacking:
                return
            try:
                if self._group is None or not lacking <= self._grouped:
                    self._join(lacking)
                self._read_to_the_end(lacking)
            except (StoreConnectionError, StreamVanishedError):
                self._leave()
                raise
            except BlissdataError as error:
                # One stream's trouble; whoever asks for that one reads it alone, and is told.
                _logger.info("Reading points of scan %s: %s", self.key, error)
                self._leave()

    def _lacking(self, names: Collection[str]) -> frozenset[str]:
        with self._lock:
            return frozenset(
                name
                for name in names
                if name in self._lengths
                and _is_kept(self._streams[name])
                and self._lengths[name].length
                > (self._tails[name].stop if name in self._tails else 0)
            )

    def _join(self, names: Collection[str]) -> None:
        """Makes the group that reads these streams, and those that it read already."""
        self._grouped |= frozenset(names)
        begin: dict[str, int] = {}
        for name in self._grouped:
            stream = self._streams[name]
            with self._lock:
                tail = self._tails.get(name)
                if tail is None:
                    limit = min(TAIL_NBYTES, TAILS_NBYTES // (len(self._tails) + 1))
                    tail = self._tails[name] = Tail(stream.dtype, stream.shape, limit)
                begin[stream.key] = max(tail.stop, self._lengths[name].length - tail.most)
        self._group = CursorGroup(
            [self._streams[name] for name in self._grouped],
            begin_at={key: index for key, index in begin.items() if index > 0},
        )

    def _leave(self) -> None:
        self._group, self._grouped = None, frozenset()

    def _read_to_the_end(self, lacking: Collection[str]) -> None:
        while self._group is not None and self._lacking(lacking):
            try:
                views = self._group.read(block=False)
            except EndOfStream:
                return
            if not views:
                return
            for stream, view in views.items():
                points = _points_of(view)
                with self._lock:
                    tail = self._tails.get(stream.name)
                    if tail is not None:
                        tail.add(view.index + len(view) - len(points), points)

    # ------------------------------------------------------------------------------ its thread

    def begin(self) -> None:
        """Begins to count."""
        name = f"viewer-{self.key[-30:]}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends it; does not wait for that."""
        self._stop.set()
        self._look.set()

    def join(self) -> None:
        """Waits for the end."""
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """The scan's state has changed."""
        self._look.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (ScanNotFoundError, StreamVanishedError):
                return  # the hub tells that it is gone; what is in memory stays
            except StreamRewoundError as error:
                self.problem = str(error)
                self._forget()
            except StoreConnectionError:
                self._stop.wait(RETRY_S)
            except BlissdataError as error:
                self.problem = str(error)
                self._stop.wait(RETRY_S)
            except Exception as error:
                _logger.exception("The viewer cannot follow scan %s", self.key)
                self.problem = f"{type(error).__name__}: {error}"
                self._stop.wait(RETRY_S)
            else:
                return
            finally:
                self._counted.set()  # as far as that is possible

    def _forget(self) -> None:
        """The server came back with fewer points than there were."""
        self.parts.clear()
        version = self.hub.next_version()
        with self._fetching:
            self._leave()
            with self._lock:
                self._tails.clear()
                self._lengths = {name: Length(0, False, version) for name in self._lengths}
        self.hub.tell()

    def _follow(self) -> None:
        """Counts what comes until the scan has ended, or somebody says so."""
        scan = self.hub.store.load_scan(self.key)
        others: CursorGroup | None = None
        while not self._stop.is_set():
            came = self._take_new(scan)
            if not all(_counts_events(stream) for stream in came):
                every = [s for s in self._streams.values() if not _counts_events(s)]
                others = CursorGroup(every)
            closed = scan.state >= ScanState.CLOSED
            if others is not None and self._count_others(others):
                others = None  # they have ended
            grew = self._count()
            if closed:
                self._seal()
            self._counted.set()
            if closed:
                return
            self._wait(others is not None, grew)
            if self._look.is_set():
                self._look.clear()
                scan.update(block=False)
                self.scan = scan

    def _take_new(self, scan: Scan) -> list[BaseStream]:
        """The streams that were not known before."""
        came = [stream for name, stream in scan.streams.items() if name not in self._streams]
        if came:
            version = self.hub.next_version()
            with self._lock:
                for stream in came:
                    self._streams[stream.name] = stream
                    self._lengths.setdefault(stream.name, Length(0, False, version))
            self.hub.tell()
        return came

    def _wait(self, polling: bool, grew: bool) -> None:
        """Waits until there may be news, or the scan's state has changed."""
        growing = [
            stream
            for name, stream in self._streams.items()
            if _counts_events(stream) and not self._lengths[name].sealed
        ]
        if grew or polling or any(_row_nbytes(stream) > LARGE_NBYTES for stream in growing):
            self._look.wait(BREATH_S)
        elif not growing:
            self._look.wait(WAIT_S)
        else:
            ends = {stream.key: self._lengths[stream.name].length for stream in growing}
            log = self.hub.store.event_log
            while not self._look.is_set():
                if log.read(ends, wait=WAIT_S, max_entries=1):
                    self._stop.wait(SETTLE_S)
                    return

    def _count(self) -> bool:
        """Asks how far the streams are. True if it makes sense to ask again soon. One round trip."""
        asked = {
            name: stream.key
            for name, stream in self._streams.items()
            if _counts_events(stream) and not self._lengths[name].sealed
        }
        if not asked:
            return False
        found = self.hub.store.event_log.bounds(list(asked.values()))
        ends: dict[str, tuple[int, bool]] = {}
        troubled = False
        for name, key in asked.items():
            one = found[key]
            if isinstance(one, Exception):
                self.problem = f"{name}: {one}"
                troubled = True  # waiting for news would give this again, at once
                continue
            known = self._lengths[name]
            if one.tail.length < known.length:
                self._shrunk(name, one.tail.length, known.length)
            if (one.tail.length, one.tail.sealed) != (known.length, known.sealed):
                ends[name] = one.tail.length, one.tail.sealed
        self._note(ends)
        return troubled or bool(ends)

    def _shrunk(self, name: str, length: int, known: int) -> None:
        """Raises what that means: the scan is gone, or the server came back from an older state."""
        if self.hub.store.scan_states([self.key])[self.key] is None:
            raise ScanNotFoundError(f"Scan {self.key} was deleted")
        raise StreamRewoundError(
            f"Stream {name!r} had {known} points, and now the server has only {length}: it was restarted "
            "from an older state"
        )

    def _count_others(self, group: CursorGroup) -> bool:
        """Reads the streams whose points only their plugins can count. True if there will be no more."""
        while not self._stop.is_set():
            try:
                views = group.read(block=False)
            except EndOfStream:
                return True
            except (StoreConnectionError, StreamVanishedError, StreamRewoundError):
                raise
            except Exception as error:  # noqa: BLE001 — a plugin may fail in any way
                self.problem = f"{type(error).__name__}: {error}"
                return True  # the others go on
            if not views:
                return False
            self._note({s.name: (view.index + len(view), False) for s, view in views.items()})
        return True

    def _note(self, ends: Mapping[str, tuple[int, bool]]) -> None:
        """Takes note of lengths, and tells of them."""
        if ends:
            version = self.hub.next_version()
            with self._lock:
                for name, (length, sealed) in ends.items():
                    self._lengths[name] = Length(length, sealed, version)
            self.hub.tell()

    def _seal(self) -> None:
        """Every length is final."""
        self._note({name: (one.length, True) for name, one in self._lengths.items()})


def read_points(
    stream: BaseStream, selection: str | None, most: int, parts: Parts, length: int | None = None
) -> Block:
    """Points of a stream; what was read lately is given again."""
    known = len(stream) if length is None else length
    wanted = chosen_range(selection, known)
    if not wanted:
        return Block(wanted.start, stream[0:0], known)
    row = _row_nbytes(stream)
    if len(wanted) * row > most:
        raise OverflowError(
            f"{stream.name}: {len(wanted) * row} bytes are asked for at once, and {most} are the most"
        )

    def make() -> tuple[Any, int]:
        found = stream[wanted.start : wanted.stop]
        if len(found) < len(wanted):
            raise IndexNoMoreThereError(
                f"Stream {stream.name!r}: of the points {wanted.start} to {wanted.stop - 1} only "
                f"{len(found)} are still there"
            )
        return found, getattr(found, "nbytes", len(found) * row)

    return Block(wanted.start, parts.get((stream.key, wanted.start, wanted.stop), make), known)


def _row_nbytes(stream: BaseStream) -> int:
    """How large a point is, about [bytes]."""
    try:
        size = stream.dtype.itemsize
        for n in stream.shape:
            size *= max(n, 1)
    except Exception:  # noqa: BLE001 — a plugin may be missing, or fail in any way
        return 1
    return max(size, 1)


def _points_of(view: BaseView) -> Array:
    """The points of a view of numbers; none if some have left the server already."""
    try:
        return np.asarray(view.get_data())
    except IndexNoMoreThereError:
        return np.asarray(view.get_data(len(view)))


def _counts_events(stream: BaseStream) -> bool:
    """True if each event of the stream is a point. Of one without its plugin, events are all that is
    known."""
    return isinstance(stream, Stream | BrokenStream)


def _is_kept(stream: BaseStream) -> bool:
    """True for streams of numbers that are small, and of one shape."""
    return (
        isinstance(stream, Stream)
        and stream.dtype.kind in "biufc"
        and all(n >= 0 for n in stream.shape)
        and _row_nbytes(stream) <= LARGE_NBYTES
    )


def _is_scalars(stream: BaseStream) -> bool:
    return isinstance(stream, Stream) and stream.dtype.kind in "biufc" and stream.shape == ()
