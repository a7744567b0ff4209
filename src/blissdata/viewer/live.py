"""What happens on the server, once for all who look: scans as they come, states, lengths.

    Hub        the list of scans, newest last; who watches which scan
     └ Watched a scan that somebody looks at (watched.py)

Everything that changes gets the next version. Who looks keeps the version that it has seen, and asks for
what changed since: a slow one misses what is outdated anyway, and costs nobody anything.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from blissdata.exceptions import (
    BlissdataError,
    ScanLoadError,
    ScanNotFoundError,
    StoreConnectionError,
)
from blissdata.redis_engine.scan import ScanState
from blissdata.viewer.pictures import Picture, pictured, step_for
from blissdata.viewer.points import Parts
from blissdata.viewer.watched import Block, Watched, read_points

if TYPE_CHECKING:
    from blissdata.redis_engine.scan import Scan
    from blissdata.redis_engine.store import DataStore

__all__ = ["Changes", "Hub"]

_logger = logging.getLogger(__name__)

STATES_PERIOD_S = 0.25
"""How often the states of open scans are looked at [s]: the server can wake us for new scans, or for one
scan's steps, not for those of many."""

BREATH_S = 0.1
"""After news the list is looked at again after this [s]; nobody is told more often."""

RETRY_S = 0.5
"""How long a server that is away is left alone [s]."""

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
        new = [one.key for one in announced]
        while announced and len(new) < REMEMBERED:
            timetag, announced = self._store.catalog.announced(timetag, wait=0)
            new += [one.key for one in announced]
        self._timetag = timetag
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
            self._stop.wait(BREATH_S)  # scans that come one after the other are looked at together

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
        image: Any = np.asarray(block.points[0] if len(block.points) == 1 else None)
        if image.ndim != 2 or image.dtype.kind not in "biufc":
            raise ValueError(f"{stream} {index} is no image of two dimensions, of numbers")
        step = 1 if room is None else step_for((image.shape[0], image.shape[1]), room)

        def make() -> tuple[Picture, int]:
            found = pictured(image, step)
            return found, found.pixels.nbytes

        name = ("picture", self.scan(key).streams[stream].key, block.start, step)
        return block, self._parts.get(name, make)

    def fetch(self, key: str, streams: Collection[str]) -> None:
        """Brings what is new of these streams into memory, if somebody watches the scan: `points` of each
        then finds it there."""
        watched = self.watched(key)
        if watched is not None:
            watched.fetch(streams)

    def first(self, key: str, stream: str) -> int:
        """Index of the first point of a stream that the server still has. One round trip."""
        stream_key = self.scan(key).streams[stream].key
        found = self._store.event_log.bounds([stream_key])[stream_key]
        return 0 if isinstance(found, Exception) else found.start
