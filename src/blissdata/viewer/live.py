"""What happens on the server, once for all who look: scans as they come, states, lengths, new points.

    Hub        the list of scans, newest last; who watches which scan
     └ Watched a scan that somebody looks at: one cursor group for all of them

Everything that changes gets the next version. Who looks keeps the version that it has seen, and asks for
what changed since: a slow one misses what is outdated anyway, and costs nobody anything.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from blissdata.exceptions import (
    BlissdataError,
    EndOfStream,
    IndexNoMoreThereError,
    PayloadError,
    ScanLoadError,
    ScanNotFoundError,
    StoreConnectionError,
    StreamRewoundError,
    StreamVanishedError,
)
from blissdata.redis_engine.scan import ScanState
from blissdata.streams import CursorGroup
from blissdata.streams.default import Stream
from blissdata.viewer.pictures import Picture, pictured, step_for
from blissdata.viewer.points import Parts, Tail, chosen_range

if TYPE_CHECKING:
    from blissdata.redis_engine.scan import Scan
    from blissdata.redis_engine.store import DataStore
    from blissdata.streams import BaseStream, BaseView

__all__ = ["Block", "Changes", "Hub", "Length", "Watched"]

_logger = logging.getLogger(__name__)

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

STATES_PERIOD_S = 0.25
"""How often the states of open scans are looked at [s]: the server can wake us for new scans, or for one
scan's steps, not for those of many."""

BREATH_S = 0.02
"""A scan that brings news all the time is read again after this [s]: points are joined meanwhile."""

LARGE_NBYTES = 2**16
"""A point of this size is not read before somebody asks for it [bytes]."""

LENGTHS_PERIOD_S = 0.1
"""How often streams of such points are asked for their length [s]."""

RETRY_S = 0.5
"""How long a server that is away is left alone [s]."""

TAIL_NBYTES = 2**25
"""How much of one stream is kept for those who ask [bytes]."""

PARTS_NBYTES = 2**28
"""How much of what was asked for is kept [bytes]."""

OPEN_SCANS = 2000
"""The states of so many open scans are followed, the newest."""

REMEMBERED = 20_000
"""So many scans' changes are remembered; who has seen none of them for longer begins anew."""

LOADED = 2000
"""How many scans' documents are kept."""

GONE = -1
"""The state of a scan that is not on the server any more."""


@dataclass(frozen=True, slots=True)
class Length:
    """How far a stream is."""

    length: int
    sealed: bool
    version: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a version."""

    version: int
    """The version now."""

    states: Mapping[str, int]
    """The states of scans, by key, that changed; `GONE` for those that are gone."""

    new: Sequence[str]
    """The keys of scans that came, oldest first."""

    problem: str | None
    """Why the server cannot be asked at present."""

    everything: bool = False
    """True if more changed than is remembered: look at everything anew."""


@dataclass(frozen=True, slots=True)
class Block:
    """Points of a stream."""

    start: int
    """Index of the first one."""

    points: Any
    """An array whose first axis counts points; a list for what are no numbers, or of varying shape."""

    length: int
    """How many points the stream has."""


class Hub:
    """Everything that is looked at in one store."""

    def __init__(self, store: DataStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._version = 1
        self._callbacks: list[Callable[[], None]] = []
        self._keys: list[str] = []
        self._open: OrderedDict[str, int] = OrderedDict()
        self._changed: OrderedDict[str, tuple[int, int, bool]] = OrderedDict()
        self._forgotten = 0
        self._scans: OrderedDict[str, Scan] = OrderedDict()
        self._watched: dict[str, Watched] = {}
        self._settled: dict[str, int | None] = {}
        """The states of scans that are watched and closed: they may still be deleted."""
        self._problem: str | None = None
        self._parts = Parts(PARTS_NBYTES)
        self._timetag: str | None = None
        self._thread = threading.Thread(target=self._follow, name="viewer-scans", daemon=True)

    def start(self) -> None:
        """Begins to follow the server; raises what keeps it from that now. One round trip."""
        self._look_at_all()
        self._thread.start()

    def close(self) -> None:
        """Ends it, and waits for that. Repeatable."""
        self._stop.set()
        with self._lock:
            watched = list(self._watched.values())
            self._watched.clear()
        for one in watched:
            one.end()
        for one in watched:
            one.join()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def store(self) -> DataStore:
        """The store that is looked at."""
        return self._store

    # ------------------------------------------------------------------------------ who is told

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls that, in some thread, whenever something changed; gives what ends this."""
        with self._lock:
            self._callbacks.append(callback)

        def end() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return end

    def next_version(self) -> int:
        """The version of a change that is made now."""
        with self._lock:
            self._version += 1
            return self._version

    def tell(self) -> None:
        """Tells everybody that something changed."""
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    @property
    def version(self) -> int:
        """The version now."""
        return self._version

    # ------------------------------------------------------------------------------ the list of scans

    def keys(self) -> list[str]:
        """The keys of all scans, oldest first, as far as is known now. No round trip."""
        with self._lock:
            return list(self._keys)

    def find(self, fields: Mapping[str, Any]) -> list[str]:
        """The keys of the scans whose identity has these fields, oldest first. One round trip. Raises
        `ValueError` for a field that there is not, or a `*` inside a text."""
        return self._store.catalog.find(fields)[1]

    def changes(self, since: int) -> Changes:
        """What changed in the list of scans since that version. No round trip."""
        with self._lock:
            states: dict[str, int] = {}
            new: list[str] = []
            for key, (version, state, is_new) in reversed(self._changed.items()):
                if version <= since:
                    break
                states[key] = state
                if is_new:
                    new.append(key)
            everything = 0 < since < self._forgotten
            return Changes(self._version, states, new[::-1], self._problem, everything)

    def scans(self, keys: Sequence[str]) -> dict[str, Scan | ScanLoadError]:
        """These scans, as they are now or were a quarter of a second ago. One round trip for all that
        are not known yet."""
        with self._lock:
            found: dict[str, Scan | ScanLoadError] = {
                key: self._scans[key] for key in keys if key in self._scans
            }
            for key in found:
                self._scans.move_to_end(key)
        missing = [key for key in keys if key not in found]
        if missing:
            loaded = self._store.load_scans(missing)
            found.update(loaded)
            self._keep(loaded)
        return {key: found[key] for key in keys}

    def scan(self, key: str) -> Scan:
        """One of them. Raises a `ScanLoadError`, `RuntimeError` for what is no key of a scan."""
        found = self.scans([key])[key]
        if isinstance(found, ScanLoadError):
            raise found
        return found

    def _keep(self, loaded: Mapping[str, Any]) -> None:
        with self._lock:
            for key, scan in loaded.items():
                if isinstance(scan, ScanLoadError):
                    continue
                self._scans[key] = scan
                if scan.state < ScanState.CLOSED:
                    self._open.setdefault(key, int(scan.state))
            while len(self._scans) > LOADED:
                self._scans.popitem(last=False)
            while len(self._open) > OPEN_SCANS:
                self._open.popitem(last=False)

    # ------------------------------------------------------------------------------ its thread

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                if self._timetag is None:
                    self._look_at_all()
                self._look()
            except StoreConnectionError as error:
                self._trouble(f"The server does not answer: {error}")
                self._timetag = None  # it may come back with other scans
            except BlissdataError as error:
                self._trouble(str(error))
            except Exception as error:
                _logger.exception("The viewer cannot follow the server")
                self._trouble(f"{type(error).__name__}: {error}")

    def _trouble(self, text: str) -> None:
        changed = text != self._problem
        self._problem = text
        if changed:
            self.next_version()
            self.tell()
        self._stop.wait(RETRY_S)

    def _look_at_all(self) -> None:
        timetag, keys = self._store.catalog.find({})
        with self._lock:
            again = bool(self._keys) or self._problem is not None
            self._keys = keys
            self._timetag = timetag
            self._problem = None
            self._version += 1
            if again:
                self._forgotten = self._version
                self._scans.clear()
        if again:
            self.tell()

    def _look(self) -> None:
        timetag, announced = self._store.catalog.announced(
            self._timetag or "0-0", wait=STATES_PERIOD_S
        )
        self._timetag = timetag
        new = [one.key for one in announced]
        states: dict[str, int | None] = dict.fromkeys(new, 0)
        with self._lock:
            known: dict[str, int | None] = {**self._settled, **self._open}
        asked = [*dict.fromkeys([*known, *new])]
        if asked:
            states = self._store.scan_states(asked)
        unknown = object()
        moved = {key: state for key, state in states.items() if state != known.get(key, unknown)}
        if moved:
            self._take(moved, set(new))
            self.tell()

    def _take(self, moved: Mapping[str, int | None], new: set[str]) -> None:
        """Takes note of states that are other ones than were known."""
        with self._lock:
            self._version += 1
            for key, state in moved.items():
                self._changed[key] = (self._version, GONE if state is None else state, key in new)
                self._changed.move_to_end(key)
                self._scans.pop(key, None)
                if state is None or state >= ScanState.CLOSED:
                    self._open.pop(key, None)
                    if key in self._watched:
                        self._settled[key] = state
                else:
                    self._open[key] = state
            self._keys += [key for key in moved if key in new]
            gone = {key for key, state in moved.items() if state is None}
            if gone:
                self._keys = [key for key in self._keys if key not in gone]
            while len(self._changed) > REMEMBERED:
                self._forgotten = self._changed.popitem(last=False)[1][0]
            watched = [self._watched[key] for key in moved if key in self._watched]
        for one in watched:
            one.look()

    # ------------------------------------------------------------------------------ one scan

    def watch(self, key: str) -> Watched:
        """A scan that is looked at from now on, until as many `unwatch`. Raises as `scan` does."""
        scan = self.scan(key)
        with self._lock:
            found = self._watched.get(key)
            if found is None:
                if self._stop.is_set():
                    raise ScanNotFoundError("The viewer is ending")
                # An object of its own: the list's is replaced when its state changes.
                found = self._watched[key] = Watched(self, scan, self._parts)
                found.begin()
            found.watchers += 1
            if scan.state < ScanState.CLOSED:
                self._open.setdefault(key, int(scan.state))
            else:
                self._settled.setdefault(key, int(scan.state))
        return found

    def unwatch(self, watched: Watched) -> None:
        """Somebody has looked away."""
        with self._lock:
            watched.watchers -= 1
            if watched.watchers > 0 or self._watched.get(watched.key) is not watched:
                return
            del self._watched[watched.key]
            self._settled.pop(watched.key, None)
        watched.end()

    def watched(self, key: str) -> Watched | None:
        """The scan, if somebody looks at it."""
        with self._lock:
            return self._watched.get(key)

    def points(self, key: str, stream: str, selection: str | None, most: int) -> Block:
        """Points of a stream, by `a:b`; at most `most` [bytes]. From memory, if somebody watches the
        scan and they came lately, else from wherever they are: then one look at the server.

        Raises `KeyError` for an unknown stream, `ValueError` for a selection that is none,
        `OverflowError` for one that is too large, `IndexNoMoreThereError`, and what the stream's
        plugin raises."""
        watched = self.watched(key)
        if watched is not None:
            found = watched.points(stream, selection, most)
            if found is not None:
                return found
        scan = self.scan(key)
        if stream not in scan.streams and scan.state < ScanState.CLOSED:
            scan.update(block=False)
        if stream not in scan.streams:
            raise KeyError(stream)
        return read_points(scan.streams[stream], selection, most, self._parts)

    def picture(
        self, key: str, stream: str, index: str, room: tuple[int, int] | None, most: int
    ) -> tuple[Block, Picture]:
        """One image of a stream, no larger than `room` `(rows, columns)`; None: as it is. It is made once
        for all who ask. Raises as `points` does, `ValueError` also for what is no image."""
        block = self.points(key, stream, index, most)
        image: Array = np.asarray(block.points[0] if len(block.points) == 1 else None)
        if image.ndim != 2 or image.dtype.kind not in "biufc":
            raise ValueError(f"{stream} {index} is no image of two dimensions, of numbers")
        step = 1 if room is None else step_for((image.shape[0], image.shape[1]), room)

        def make() -> tuple[Picture, int]:
            found = pictured(image, step)
            return found, found.pixels.nbytes

        name = ("picture", self.scan(key).streams[stream].key, block.start, step)
        return block, self._parts.get(name, make)

    def first(self, key: str, stream: str) -> int:
        """Index of the first point of a stream that the server still has. One round trip."""
        stream_key = self.scan(key).streams[stream].key
        found = self._store.event_log.bounds([stream_key])[stream_key]
        return 0 if isinstance(found, Exception) else found.start


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


@dataclass
class Watched:
    """A scan that somebody looks at."""

    hub: Hub
    scan: Scan
    parts: Parts
    watchers: int = 0
    """How many look at it; the hub counts."""

    problem: str | None = None
    """What went wrong with it last."""

    _lengths: dict[str, Length] = field(default_factory=dict)
    _tails: dict[str, Tail] = field(default_factory=dict)
    _streams: dict[str, BaseStream] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _look: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def key(self) -> str:
        """Its key."""
        return self.scan.key

    def lengths(self, since: int = 0) -> dict[str, Length]:
        """The lengths that changed since that version. No round trip."""
        with self._lock:
            return {name: one for name, one in self._lengths.items() if one.version > since}

    def last(self) -> dict[str, Any]:
        """The newest point of each stream of single numbers, as far as it is in memory. No round trip."""
        with self._lock:
            return {name: tail.last() for name, tail in self._tails.items() if tail.is_of_scalars}

    def points(self, stream: str, selection: str | None, most: int) -> Block | None:
        """As `Hub.points`; None for a stream that it does not know (yet)."""
        with self._lock:
            known, tail = self._lengths.get(stream), self._tails.get(stream)
            if known is None:
                return None
            if tail is not None and tail.stop == known.length:
                wanted = chosen_range(selection, known.length)
                found = tail.get(wanted.start, wanted.stop)
                if found is not None and found.nbytes <= most:
                    return Block(wanted.start, found, known.length)
        return read_points(self._streams[stream], selection, most, self.parts, known.length)

    # ------------------------------------------------------------------------------ its thread

    def begin(self) -> None:
        """Begins to read."""
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
            except (PayloadError, BlissdataError) as error:
                self.problem = str(error)
                self._stop.wait(RETRY_S)
            except Exception as error:
                _logger.exception("The viewer cannot follow scan %s", self.key)
                self.problem = f"{type(error).__name__}: {error}"
                self._stop.wait(RETRY_S)
            else:
                return

    def _forget(self) -> None:
        """The server came back with fewer points than there were."""
        self.parts.clear()
        version = self.hub.next_version()
        with self._lock:
            self._tails.clear()
            self._lengths = {name: Length(0, False, version) for name in self._lengths}

    def _follow(self) -> None:
        """Reads what comes until the scan has ended, or somebody says so."""
        scan = self.hub.store.load_scan(self.key)
        small: dict[str, BaseStream] = {}
        large: dict[str, BaseStream] = {}
        group: CursorGroup | None = None
        while not self._stop.is_set():
            if len(small) + len(large) < len(scan.stream_names):
                self._sort(scan, small, large)
                group = CursorGroup(small, begin_at=self._begins(small)) if small else None
            closed = scan.state >= ScanState.CLOSED
            if large:
                self._ask_lengths(large)
            ended = self._read(group, bool(large)) if group is not None else True
            if ended:
                group = None
                if closed:
                    self._seal()
                    return
                self._look.wait(LENGTHS_PERIOD_S if large else STATES_PERIOD_S)
            elif self._stop.wait(BREATH_S):
                return
            if self._look.is_set() or ended:
                self._look.clear()
                if not closed:
                    scan.update(block=False)
                    self.scan = scan

    def _sort(self, scan: Scan, small: dict[str, BaseStream], large: dict[str, BaseStream]) -> None:
        """Which streams are read, and of which only the length is asked."""
        version = self.hub.next_version()
        for name, stream in scan.streams.items():
            if name in small or name in large:
                continue
            is_large = isinstance(stream, Stream) and _row_nbytes(stream) > LARGE_NBYTES
            (large if is_large else small)[name] = stream
            with self._lock:
                self._streams[name] = stream
                self._lengths.setdefault(name, Length(0, False, version))
                if isinstance(stream, Stream) and not is_large and _is_numbers(stream):
                    self._tails.setdefault(name, Tail(stream.dtype, stream.shape, TAIL_NBYTES))
        self.hub.tell()

    def _begins(self, small: Mapping[str, BaseStream]) -> dict[str, int]:
        """Where reading begins: at the points that fit into memory."""
        found: dict[str, int] = {}
        log = self.hub.store.event_log
        bounds = log.bounds([stream.key for stream in small.values()])
        for name, stream in small.items():
            one = bounds.get(stream.key)
            if isinstance(one, Exception) or one is None or not isinstance(stream, Stream):
                continue
            tail = self._tails.get(name)
            begin = one.tail.length - TAIL_NBYTES // _row_nbytes(stream)
            if tail is not None:
                begin = max(begin, tail.stop)
            if begin > 0:
                found[stream.key] = min(begin, one.tail.length)
                with self._lock:
                    self._lengths[name] = Length(found[stream.key], False, self.hub.next_version())
        return found

    def _read(self, group: CursorGroup, has_large: bool) -> bool:
        """Takes what came; waits for it a little. True if there will be no more."""
        wait = LENGTHS_PERIOD_S if has_large else STATES_PERIOD_S
        try:
            views = group.read(timeout=wait)
        except EndOfStream:
            return True
        if not views:
            return False
        version = self.hub.next_version()
        for stream, view in views.items():
            name, end = stream.name, view.index + len(view)
            with self._lock:
                tail = self._tails.get(name)
            if tail is not None:
                points = _points_of(view)
                with self._lock:
                    tail.add(end - len(points), points)
            with self._lock:
                self._lengths[name] = Length(end, False, version)
        self.hub.tell()
        return False

    def _ask_lengths(self, large: Mapping[str, BaseStream]) -> None:
        found = self.hub.store.event_log.bounds([stream.key for stream in large.values()])
        version, told = 0, False
        for name, stream in large.items():
            one = found[stream.key]
            if isinstance(one, Exception):
                continue
            known = self._lengths.get(name)
            if known is None or (known.length, known.sealed) != (one.tail.length, one.tail.sealed):
                version = version or self.hub.next_version()
                with self._lock:
                    self._lengths[name] = Length(one.tail.length, one.tail.sealed, version)
                told = True
        if told:
            self.hub.tell()

    def _seal(self) -> None:
        """Every length is final."""
        version = self.hub.next_version()
        with self._lock:
            self._lengths = {
                name: Length(one.length, True, version) for name, one in self._lengths.items()
            }
        self.hub.tell()


def _points_of(view: BaseView) -> Array:
    """The points of a view of numbers; none if some have left the server already."""
    try:
        return np.asarray(view.get_data())
    except IndexNoMoreThereError:
        return np.asarray(view.get_data(len(view)))


def _is_numbers(stream: BaseStream) -> bool:
    return stream.dtype.kind in "biufc" and all(n >= 0 for n in stream.shape)
